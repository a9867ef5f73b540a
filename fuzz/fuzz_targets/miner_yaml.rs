//! See [`fuzz::miner_yaml`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::miner_yaml(data));
