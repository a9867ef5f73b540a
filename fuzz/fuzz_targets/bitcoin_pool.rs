//! See [`fuzz::bitcoin_pool`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::bitcoin_pool(data));
