//! See [`fuzz::canonical`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::canonical(data));
