//! Finding the best widths by a short measurement: they depend on how fast the memory answers, and no
//! table of CPUs knows that.

use crate::cryptonight::{Block, Kernel, Variant, WIDTHS};
use crate::{MAX_BATCH, Plan};

/// The shortest of so many runs counts: the others were disturbed.
const RUNS: usize = 4;

/// A wider one takes more memory and is longer in the way of a pause, so it has to be faster by
/// more than chance.
const GAIN: f64 = 0.98;

/// How many runs there are in all.
const STEPS: usize = Variant::ALL.len() * RUNS * WIDTHS.len();

/// The measurement of [`Plan::tuned`], in small steps: whoever measures can be stopped between two.
///
/// ```
/// use ghostrider::cryptonight::Kernel;
/// use ghostrider::{Scratchpad, Tuning};
///
/// let mut scratchpad = Scratchpad::new(1 << 20);
/// let mut tuning = Tuning::new(Kernel::best());
/// while tuning.step(scratchpad.blocks()) {}
/// // What does not fit is not chosen.
/// assert!(tuning.plan().scratchpad_bytes() <= scratchpad.size_bytes());
/// ```
#[derive(Clone, Debug)]
pub struct Tuning {
    plan: Plan,
    seconds: [f64; WIDTHS.len()],
    done: usize,
}

impl Tuning {
    /// Nothing is measured yet.
    #[must_use]
    pub fn new(kernel: Kernel) -> Self {
        // Nothing is interleaved without the instructions.
        let done = if kernel == Kernel::PORTABLE { STEPS } else { 0 };
        Self { plan: Plan::new(kernel), seconds: [f64::INFINITY; WIDTHS.len()], done }
    }

    /// Hashes once, in one width: 30 ms or less on a recent CPU. `false` when all is measured.
    /// Widths that do not fit in the scratchpad are left out.
    pub fn step(&mut self, scratchpad: &mut [Block]) -> bool {
        while self.done < STEPS {
            let (run, width) = (self.done / WIDTHS.len(), self.done % WIDTHS.len());
            let variant = Variant::ALL[run / RUNS];
            let fits = WIDTHS[width] * variant.scratchpad_bytes() <= size_of_val(scratchpad);
            if fits {
                let kernel = self.plan.kernel();
                let seconds = seconds_per_hash(kernel, variant, WIDTHS[width], scratchpad);
                self.seconds[width] = self.seconds[width].min(seconds);
            }
            self.done += 1;
            if self.done.is_multiple_of(RUNS * WIDTHS.len()) {
                self.plan = self.plan.with_width(variant, fastest(self.seconds));
                self.seconds = [f64::INFINITY; WIDTHS.len()];
            }
            if fits {
                break;
            }
        }
        self.done < STEPS
    }

    /// The fastest widths of the CryptoNights that are measured, and [`Plan::new`]'s of the others.
    #[must_use]
    pub fn plan(&self) -> Plan {
        self.plan
    }
}

impl Plan {
    /// Measures each width that fits in the scratchpad and keeps the fastest for each CryptoNight:
    /// about a second on a CPU with AES instructions. Run it in all threads at once that will hash
    /// at once, since they share a cache. [`Tuning`] does the same in steps.
    #[must_use]
    pub fn tuned(kernel: Kernel, scratchpad: &mut [Block]) -> Self {
        let mut tuning = Tuning::new(kernel);
        while tuning.step(scratchpad) {}
        tuning.plan()
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
