//! What a miner would get: whole hashes per second over the 20 sets of CryptoNights, on so many
//! threads, each set weighted by how often blocks ask for it. By the clock, and by the time that the
//! threads had a CPU, which other load disturbs less.
//!
//! `cargo run --release -p ghostrider --example hashrate -- [THREADS [SECONDS_PER_SET [SET]]]`

use std::env;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use ghostrider::cryptonight::Variant;
use ghostrider::{Hasher, Header, MAX_BATCH, VariantSet};
use rustix::time::{ClockId, clock_gettime};

/// Hashes per second by the clock and by the CPU's time.
type Rate = [f64; 2];

fn main() {
    let number = |i: usize, default: f64| {
        env::args().nth(i).map_or(default, |text| text.parse().expect("a number"))
    };
    let threads = number(1, 1.0) as usize;
    let slice = Duration::from_secs_f64(number(2, 1.0));
    let only = env::args().nth(3).map(|text| text.parse::<usize>().expect("a set, 0 to 19"));

    let sets = VariantSet::all().enumerate();
    let sets = sets.filter(|(index, _)| only.is_none_or(|only| only == *index));
    let sets: Vec<(usize, VariantSet)> = sets.collect();
    let barrier = Barrier::new(threads);
    let rates = thread::scope(|scope| {
        let work = || {
            barrier.wait();
            let mut hasher = Hasher::tuned();
            let widths = Variant::ALL.map(|variant| hasher.plan().width(variant));
            println!("# {} widths {widths:?}", hasher.plan().kernel().name());
            let rate = |(_, set): &(usize, VariantSet)| {
                barrier.wait();
                hashes_per_second(&mut hasher, *set, slice)
            };
            sets.iter().map(rate).collect::<Vec<Rate>>()
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let rates = workers.into_iter().map(|worker| worker.join().expect("a worker"));
        rates.reduce(|a, b| a.iter().zip(b).map(|(a, b)| [a[0] + b[0], a[1] + b[1]]).collect())
    });

    let (mut sum, mut weights) = ([0.0; 2], 0.0);
    for ((index, set), rate) in sets.iter().zip(rates.unwrap_or_default()) {
        let names = set.to_string();
        println!(
            "{index:2} {names:27} p {:.3} {:7.1} H/s, of CPU time {:7.1}",
            set.probability(),
            rate[0],
            rate[1]
        );
        for (sum, rate) in sum.iter_mut().zip(rate) {
            *sum += rate * set.probability();
        }
        weights += set.probability();
    }
    let [clock, cpu] = sum.map(|sum| sum / weights);
    println!("weighted {clock:.1} H/s on {threads} threads, of CPU time {cpu:.1}");
}

fn hashes_per_second(hasher: &mut Hasher, set: VariantSet, slice: Duration) -> Rate {
    let mut headers: [Header; MAX_BATCH] = [[0; 80]; MAX_BATCH];
    let mut hashes = [[0; 32]; MAX_BATCH];
    let (mut nonce, mut done) = (0u32, 0);
    let (start, cpu_start) = (Instant::now(), seconds_of_thread());
    while start.elapsed() < slice {
        for header in &mut headers {
            header[4..36].copy_from_slice(&set.example());
            header[76..].copy_from_slice(&nonce.to_le_bytes());
            nonce += 1;
        }
        assert!(hasher.hash_batch(&headers, &mut hashes, || true));
        done += headers.len();
    }
    [start.elapsed().as_secs_f64(), seconds_of_thread() - cpu_start]
        .map(|seconds| done as f64 / seconds)
}

fn seconds_of_thread() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
