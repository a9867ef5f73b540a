//! Jobs as pools make them, and what a share of them was the hash of. Written without a look at
//! how the miner does it.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A job of a Monero-style pool.
#[derive(Debug, Clone)]
pub struct Monero {
    /// Its name.
    pub id: String,
    /// What is hashed.
    pub blob: Vec<u8>,
    /// How hard it is.
    pub difficulty: u64,
    /// RandomX's seed.
    pub seed: [u8; 32],
}

impl Monero {
    /// Number `number`, of a difficulty.
    pub fn new(number: u64, difficulty: u64) -> Self {
        let mut blob = Sha256::digest(number.to_le_bytes()).repeat(3);
        blob.truncate(76);
        blob[39..43].fill(0);
        Self { id: format!("job-{number}"), blob, difficulty, seed: [7; 32] }
    }

    /// The upper 64 bits of what a hash must be below, as p2pool rounds it: through 32 bits.
    pub fn bound(&self) -> u64 {
        let upper = u64::from(u32::MAX) / self.difficulty;
        u64::MAX / (u64::from(u32::MAX) / upper)
    }

    /// As it is sent.
    pub fn written(&self) -> Value {
        let upper = u32::try_from(u64::from(u32::MAX) / self.difficulty).unwrap();
        json!({
            "blob": hex::encode(&self.blob),
            "job_id": self.id,
            "target": hex::encode(upper.to_le_bytes()),
            "algo": "rx/0",
            "height": 3_000_000,
            "seed_hash": hex::encode(self.seed),
        })
    }

    /// What is hashed with a nonce as it is submitted.
    pub fn with_nonce(&self, nonce: &str) -> Option<Vec<u8>> {
        let nonce = hex::decode(nonce).ok().filter(|nonce| nonce.len() == 4)?;
        let mut blob = self.blob.clone();
        blob.splice(39..43, nonce);
        Some(blob)
    }
}

/// A job of a Bitcoin-style pool.
#[derive(Debug, Clone)]
pub struct Bitcoin {
    /// Its name.
    pub id: String,
    /// The hash of the block before, in the order in which it is hashed.
    pub previous: [u8; 32],
    /// How hard it is.
    pub difficulty: f64,
    /// The pool's part of the extra nonce.
    pub extra_nonce: Vec<u8>,
    /// Whether older jobs are worth nothing from now on.
    pub clean: bool,
    branches: Vec<[u8; 32]>,
}

const COINBASE: (&[u8], &[u8]) = (b"the part before", b"and the part behind");
const TIME: u32 = 0x6b02_7c46;
const BITS: u32 = 0x2000_1fff;
const VERSION: u32 = 0x2000_0000;

impl Bitcoin {
    /// Number `number`, of a difficulty. Its block before has the fastest of the rotations.
    pub fn new(number: u64, difficulty: f64) -> Self {
        let branch =
            |step: u8| Sha256::digest([&number.to_le_bytes()[..], &[step]].concat()).into();
        Self {
            id: format!("job-{number}"),
            previous: previous(number),
            difficulty,
            extra_nonce: vec![0xf0, 0, 0, 0x0f],
            clean: true,
            branches: (0..3).map(branch).collect(),
        }
    }

    /// The parameters of `mining.notify`.
    pub fn written(&self) -> Value {
        let mut previous = self.previous;
        previous.chunks_exact_mut(4).for_each(<[u8]>::reverse);
        json!([
            self.id,
            hex::encode(previous),
            hex::encode(COINBASE.0),
            hex::encode(COINBASE.1),
            self.branches.iter().map(hex::encode).collect::<Vec<_>>(),
            format!("{VERSION:08x}"),
            format!("{BITS:08x}"),
            format!("{TIME:08x}"),
            self.clean,
        ])
    }

    /// Whether a hash is a share: below `0xffff * 2^224 / difficulty`, by its upper 64 bits and, so
    /// that no share is refused that is one, not rounded.
    pub fn is_met_by(&self, hash: &[u8; 32]) -> bool {
        let upper = u64::from_le_bytes(*hash.last_chunk().unwrap());
        (upper as f64) < 65535.0 * 2_f64.powi(32) / self.difficulty
    }

    /// What is hashed with the nonces and the time as they are submitted.
    pub fn with_nonce(&self, second: &str, time: &str, nonce: &str) -> Option<[u8; 80]> {
        if time != format!("{TIME:08x}") || nonce.len() != 8 {
            return None;
        }
        let second = hex::decode(second).ok()?;
        let double = |bytes: &[u8]| Sha256::digest(Sha256::digest(bytes));
        let mut root = double(&[COINBASE.0, &self.extra_nonce, &second, COINBASE.1].concat());
        for branch in &self.branches {
            root = double(&[&root[..], branch].concat());
        }
        let mut header = Vec::new();
        header.extend(VERSION.to_le_bytes());
        header.extend(self.previous);
        header.extend(root);
        header.extend(TIME.to_le_bytes());
        header.extend(BITS.to_le_bytes());
        header.extend(u32::from_str_radix(nonce, 16).ok()?.to_le_bytes());
        header.try_into().ok()
    }
}

/// A hash of a block before whose rotation has the two turtles and `cn/dark-lite`: eight times as
/// fast as the slowest one.
fn previous(number: u64) -> [u8; 32] {
    let mut previous: [u8; 32] = Sha256::digest(number.to_le_bytes()).into();
    // The first nibbles choose: 1 is cn/dark-lite, 4 and 5 are the turtles.
    previous[..2].copy_from_slice(&[0x41, 0x05]);
    previous
}
