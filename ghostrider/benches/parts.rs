//! Every part alone, on one thread: each core, and each CryptoNight by kernel and width. A core's
//! cycles are per byte of its message, a CryptoNight's per byte of its scratchpad.
//!
//! `cargo bench -p ghostrider [-- PART]`; PART is part of a name, such as `luffa`, `cn/fast`
//! or `vaes`.

use std::env;
use std::hint::black_box;

use ghostrider::Scratchpad;
use ghostrider::cores::Core;
use ghostrider::cryptonight::{Kernel, Variant, WIDTHS};
use rustix::time::{ClockId, clock_gettime};

/// The shortest run within so many seconds counts: the others were disturbed.
const SECONDS: f64 = 0.2;

/// A core takes less than the clock can tell.
const HASHES_PER_RUN: u32 = 100;

fn main() {
    let wanted = env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let wanted = |name: &str| wanted.as_deref().is_none_or(|wanted| name.contains(wanted));
    let gigahertz = gigahertz();
    println!("about {gigahertz:.2} GHz\n");

    println!("| core, 64 bytes | ns | cycles per byte |\n| --- | --- | --- |");
    for core in Core::ALL.into_iter().filter(|core| wanted(core.name())) {
        let mut message = [0; 64];
        let seconds = shortest(|| {
            for _ in 0..HASHES_PER_RUN {
                message = core.hash(black_box(&message));
            }
        });
        let nanoseconds = 1e9 * seconds / f64::from(HASHES_PER_RUN);
        println!("| {} | {nanoseconds:.0} | {:.1} |", core.name(), nanoseconds * gigahertz / 64.0);
    }

    let mut scratchpad = Scratchpad::new(8 * Variant::Fast.scratchpad_bytes());
    let widths = WIDTHS.map(|width| format!("{width}-way")).join(" | ");
    println!("\n| hashes per second | {widths} | best, ns | cycles per byte |");
    println!("| --- |{}", " --- |".repeat(WIDTHS.len() + 2));
    for kernel in Kernel::available() {
        for variant in Variant::ALL {
            let name = format!("{}, {}", variant.name(), kernel.name());
            if !wanted(&name) {
                continue;
            }
            print!("| {name} |");
            let few = kernel == Kernel::PORTABLE;
            let mut best = f64::INFINITY;
            for width in WIDTHS {
                if few && width > 1 {
                    print!(" |");
                    continue;
                }
                let inputs: Vec<[u8; 64]> = (0..width).map(|i| [i as u8; 64]).collect();
                let inputs: Vec<&[u8]> = inputs.iter().map(|input| &input[..]).collect();
                let mut outputs = vec![[0; 32]; width];
                let seconds = shortest(|| {
                    kernel.hash(variant, &inputs, scratchpad.blocks(), black_box(&mut outputs));
                });
                print!(" {:.0} |", width as f64 / seconds);
                best = best.min(1e9 * seconds / width as f64);
            }
            let per_byte = best * gigahertz / variant.scratchpad_bytes() as f64;
            println!(" {best:.0} | {per_byte:.1} |");
        }
    }
}

fn shortest(mut run: impl FnMut()) -> f64 {
    let begin = seconds_of_thread();
    let mut shortest = f64::INFINITY;
    while seconds_of_thread() - begin < SECONDS {
        let start = seconds_of_thread();
        run();
        shortest = shortest.min(seconds_of_thread() - start);
    }
    shortest
}

/// What the thread has computed for: other load on the machine does not count.
fn seconds_of_thread() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The clock of the core, from a chain of squarings: three cycles for the multiplication and one
/// for the bit, on all recent x86-64 and Arm cores.
fn gigahertz() -> f64 {
    const LINKS: u32 = 100_000;
    let seconds = shortest(|| {
        let mut x = black_box(3u64);
        for _ in 0..LINKS {
            x = x.wrapping_mul(x) | 1;
        }
        black_box(x);
    });
    4.0 * f64::from(LINKS) / seconds / 1e9
}
