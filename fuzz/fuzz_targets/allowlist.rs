//! See [`fuzz::allowlist`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::allowlist(data));
