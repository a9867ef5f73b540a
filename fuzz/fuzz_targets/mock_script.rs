//! See [`fuzz::mock_script`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::mock_script(data));
