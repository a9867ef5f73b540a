//! Finding the best widths by a short measurement: they depend on how fast the memory answers, and no
//! table of CPUs knows that.

use crate::cryptonight::{Block, Kernel, Variant, WIDTHS};
use crate::{MAX_BATCH, Plan};

/// The shortest of so many runs counts: the others were disturbed.
const RUNS: usize = 4;

/// A wider one takes more memory and is longer in the way of a pause, so it has to be faster by
/// more than chance.
const GAIN: f64 = 0.98;

impl Plan {
    /// Measures each width that fits in the scratchpad and keeps the fastest for each CryptoNight:
    /// about a second on a CPU with AES instructions. Run it in all threads at once that will hash
    /// at once, since they share a cache.
    #[must_use]
    pub fn tuned(kernel: Kernel, scratchpad: &mut [Block]) -> Self {
        let mut plan = Self::new(kernel);
        // Nothing is interleaved without the instructions.
        if kernel == Kernel::PORTABLE {
            return plan;
        }
        for variant in Variant::ALL {
            let fits = size_of_val(scratchpad) / variant.scratchpad_bytes();
            let mut seconds = [f64::INFINITY; WIDTHS.len()];
            for _ in 0..RUNS {
                for (seconds, width) in seconds.iter_mut().zip(WIDTHS).filter(|(_, w)| *w <= fits) {
                    *seconds = seconds.min(seconds_per_hash(kernel, variant, width, scratchpad));
                }
            }
            plan = plan.with_width(variant, fastest(seconds));
        }
        plan
    }
}

/// The width that takes the least time for a hash.
fn fastest(seconds: [f64; WIDTHS.len()]) -> usize {
    let mut best = (WIDTHS[0], seconds[0]);
    for (width, seconds) in WIDTHS.into_iter().zip(seconds) {
        if seconds < GAIN * best.1 {
            best = (width, seconds);
        }
    }
    best.0
}

fn seconds_per_hash(
    kernel: Kernel,
    variant: Variant,
    width: usize,
    scratchpad: &mut [Block],
) -> f64 {
    let inputs = [&[0; 64][..]; MAX_BATCH];
    let mut outputs = [[0; 32]; MAX_BATCH];
    let seconds = seconds_of(|| {
        kernel.hash(variant, &inputs[..width], scratchpad, &mut outputs[..width]);
    });
    seconds / width as f64
}

/// The time for which this thread had a CPU: other load on the machine does not count.
#[cfg(target_os = "linux")]
fn seconds_of(run: impl FnOnce()) -> f64 {
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let start = now();
    run();
    now() - start
}

#[cfg(not(target_os = "linux"))]
fn seconds_of(run: impl FnOnce()) -> f64 {
    let start = std::time::Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_width_wins_unless_it_is_chance() {
        assert_eq!(fastest([5.0, 4.0, 3.0, 2.0, 1.99, 3.0]), 4);
        assert_eq!(fastest([5.0, 4.0, 3.0, 2.0, 1.9, 1.5]), 8);
        assert_eq!(fastest([2.0, f64::INFINITY, 3.0, 3.0, 3.0, 3.0]), 1);
    }
}
