//! See [`fuzz::base_url`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::base_url(data));
