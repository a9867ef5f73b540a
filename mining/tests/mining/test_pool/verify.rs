//! Every hash once more, on a path that the miner does not take.

use ghostrider::cryptonight::Kernel;
use ghostrider::{Hasher, Plan};
use mining::randomx::{Cache, Machine, Mode};

/// What hashes are computed with again. One seed of RandomX at a time.
#[derive(Default)]
pub struct Verifier {
    randomx: Option<([u8; 32], Machine)>,
}

impl Verifier {
    /// RandomX, interpreted and with AES by tables.
    pub fn randomx(&mut self, seed: [u8; 32], input: &[u8]) -> [u8; 32] {
        if self.randomx.as_ref().is_none_or(|(known, _)| *known != seed) {
            // The old one first: either takes 256 MiB.
            self.randomx = None;
            let cache = Cache::new(Mode::portable(), &seed).unwrap();
            self.randomx = Some((seed, Machine::light(&cache).unwrap()));
        }
        self.randomx.as_mut().unwrap().1.hash(input)
    }

    /// GhostRider, one at a time and without AES instructions.
    pub fn ghostrider(header: &[u8; 80]) -> [u8; 32] {
        Hasher::with_plan(Plan::new(Kernel::PORTABLE)).hash(header)
    }
}
