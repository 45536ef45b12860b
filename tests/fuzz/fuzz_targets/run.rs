//! Reads a run and its records.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::run(data));
