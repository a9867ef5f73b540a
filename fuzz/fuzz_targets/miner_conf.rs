//! See [`fuzz::miner_conf`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::miner_conf(data));
