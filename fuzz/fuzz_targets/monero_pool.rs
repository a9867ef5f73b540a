//! See [`fuzz::monero_pool`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::monero_pool(data));
