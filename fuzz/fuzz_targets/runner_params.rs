//! See [`fuzz::runner_params`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::runner_params(data));
