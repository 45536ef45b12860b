//! Tells a board who does what.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::duty(data));
