//! Every hash once more, on a path that the miner does not take.

use ghostrider::cryptonight::Kernel;
use ghostrider::{Rotation, Scratchpad};
use mining::randomx::{Cache, Machine, Mode};

use super::sphlib;

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

    /// GhostRider, put together from the cores in C and the CryptoNights without AES instructions.
    pub fn ghostrider(header: &[u8; 80]) -> [u8; 32] {
        let Rotation { cores, variants } = Rotation::of(header);
        let mut message = header.to_vec();
        let mut output = [0; 32];
        for (cores, variant) in cores.chunks(5).zip(variants) {
            for core in cores {
                message = sphlib::of(*core)(&message).to_vec();
            }
            let mut scratchpad = Scratchpad::new(variant.scratchpad_bytes());
            let (inputs, outputs) = ([&message[..]], std::slice::from_mut(&mut output));
            Kernel::PORTABLE.hash(variant, &inputs, scratchpad.blocks(), outputs);
            // The next five get 64 bytes, too.
            message[..32].copy_from_slice(&output);
            message[32..].fill(0);
        }
        output
    }
}
