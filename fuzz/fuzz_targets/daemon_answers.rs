//! See [`fuzz::daemon_answers`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::daemon_answers(data));
