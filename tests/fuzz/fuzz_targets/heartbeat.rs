//! Tells a board signs of life.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::heartbeat(data));
