//! Hashes per second of one thread: each CryptoNight by width, on every kernel that the CPU has.

use std::hint::black_box;

use ghostrider::Scratchpad;
use ghostrider::cryptonight::{Kernel, Variant, WIDTHS};
use rustix::time::{ClockId, clock_gettime};

/// The shortest run within so many seconds counts: the others were disturbed.
const SECONDS: f64 = 0.2;

fn main() {
    let mut scratchpad = Scratchpad::new(16 << 20);
    print!("{:14}", "hashes/s");
    for width in WIDTHS {
        print!(" {:>7}", format!("{width}-way"));
    }
    println!();
    for kernel in Kernel::available().filter(|kernel| *kernel != Kernel::PORTABLE) {
        println!("{}", kernel.name());
        for variant in Variant::ALL {
            print!("{:14}", variant.name());
            for width in WIDTHS {
                let inputs: Vec<[u8; 64]> = (0..width).map(|i| [i as u8; 64]).collect();
                let inputs: Vec<&[u8]> = inputs.iter().map(|input| &input[..]).collect();
                let mut outputs = vec![[0; 32]; width];
                let mut run = || {
                    let start = seconds_of_thread();
                    kernel.hash(variant, &inputs, scratchpad.blocks(), black_box(&mut outputs));
                    seconds_of_thread() - start
                };
                let mut times = vec![run()];
                while times.iter().sum::<f64>() < SECONDS {
                    times.push(run());
                }
                let seconds = times.into_iter().fold(f64::INFINITY, f64::min);
                print!(" {:7.0}", width as f64 / seconds);
            }
            println!();
        }
    }
}

/// What the thread has computed for: other load on the machine does not count.
fn seconds_of_thread() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
