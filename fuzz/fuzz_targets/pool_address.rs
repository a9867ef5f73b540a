//! See [`fuzz::pool_address`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::pool_address(data));
