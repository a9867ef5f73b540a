//! `pow`: one proof-of-work hash, or how many this machine computes in a second. Needs neither
//! coordinator nor pool.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use mining::Algorithm;
use mining::ghostrider::HEADER_BYTES;
use mining::randomx::{Cache, Machine, Mode};

use super::{FAILED, USAGE, answer, complain};

mod bench;
mod sets;

/// The longest seed, in bytes: RandomX ignores what lies beyond.
const LONGEST_KEY: usize = 60;

/// The longest input, in bytes.
const LONGEST_INPUT: usize = 64 << 10;

/// Computes proof-of-work hashes.
#[derive(Debug, Subcommand)]
pub(super) enum Pow {
    /// Print the hash of an input
    Hash(Hash),
    /// Measure the hashrate
    Bench(bench::Bench),
}

/// Prints the hash of an input.
#[derive(Debug, Args)]
pub(super) struct Hash {
    /// The algorithm, as pools call it
    #[arg(long, value_name = "NAME", default_value_t = Algorithm::RandomX)]
    algo: Algorithm,
    /// The seed, in hexadecimal digits; for algorithms that have one
    #[arg(long, value_name = "HEX")]
    key: Option<String>,
    /// What is hashed, in hexadecimal digits; for gr a header of 80 bytes
    #[arg(long, value_name = "HEX")]
    input: String,
}

impl Pow {
    pub(super) fn main(&self) -> ExitCode {
        match self {
            Self::Hash(hash) => hash.main(),
            Self::Bench(bench) => bench.main(),
        }
    }
}

impl Hash {
    fn main(&self) -> ExitCode {
        match self.hash() {
            Ok(Ok(hash)) => answer(&format!("{}\n", hex::encode(hash))),
            Ok(Err(why)) => complain(&why, FAILED),
            Err(why) => complain(&why, USAGE),
        }
    }

    /// The hash, or why it cannot be computed here, or what is wrong with the flags.
    fn hash(&self) -> Result<Result<[u8; 32], String>, String> {
        match (self.algo, &self.key) {
            (Algorithm::RandomX, Some(key)) => {
                let key = digits("--key", key, LONGEST_KEY)?;
                let input = digits("--input", &self.input, LONGEST_INPUT)?;
                let machine =
                    Cache::new(Mode::fastest(), &key).and_then(|cache| Machine::light(&cache));
                Ok(machine.map(|mut machine| machine.hash(&input)).map_err(|e| e.to_string()))
            }
            (Algorithm::RandomX, None) => Err("rx/0 needs --key, the seed".to_owned()),
            (Algorithm::GhostRider, None) => {
                let input = digits("--input", &self.input, HEADER_BYTES)?;
                let header = input.try_into().map_err(|input: Vec<u8>| {
                    format!("--input has {} bytes; a header has {HEADER_BYTES}", input.len())
                })?;
                Ok(Ok(mining::ghostrider::hash(&header)))
            }
            (Algorithm::GhostRider, Some(_)) => Err("gr has no seed: leave --key out".to_owned()),
        }
    }
}

/// The bytes of a flag: at least one, at most `longest`.
fn digits(flag: &str, text: &str, longest: usize) -> Result<Vec<u8>, String> {
    let bytes = hex::decode(text).map_err(|error| format!("{flag}: {error}"))?;
    match bytes.len() {
        0 => Err(format!("{flag} is empty")),
        length if length > longest => Err(format!("{flag} is longer than {longest} bytes")),
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_checked() {
        assert_eq!(digits("--key", "00ff", 60), Ok(vec![0, 255]));
        assert_eq!(digits("--key", "", 60).unwrap_err(), "--key is empty");
        assert_eq!(digits("--key", "0", 60).unwrap_err(), "--key: Odd number of digits");
        let long = "00".repeat(61);
        assert_eq!(digits("--key", &long, 60).unwrap_err(), "--key is longer than 60 bytes");
    }

    #[test]
    fn each_algorithm_wants_its_own() {
        let wrong = |algo, key: Option<&str>, input: &str| {
            let key = key.map(str::to_owned);
            Hash { algo, key, input: input.to_owned() }.hash().unwrap_err()
        };
        assert_eq!(wrong(Algorithm::RandomX, None, "00"), "rx/0 needs --key, the seed");
        let why = wrong(Algorithm::GhostRider, Some("00"), &"00".repeat(80));
        assert_eq!(why, "gr has no seed: leave --key out");
        let why = wrong(Algorithm::GhostRider, None, &"00".repeat(79));
        assert_eq!(why, "--input has 79 bytes; a header has 80");
        let why = wrong(Algorithm::GhostRider, None, &"00".repeat(81));
        assert_eq!(why, "--input is longer than 80 bytes");
    }
}
