//! See [`fuzz::input_url`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::input_url(data));
