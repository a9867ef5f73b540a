//! See [`fuzz::leased_job`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::leased_job(data));
