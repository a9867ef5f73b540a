//! See [`fuzz::jobs`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::jobs(data));
