//! See [`fuzz::cryptonight`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::cryptonight(data));
