//! Tells a board what the region says.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::from_region(data));
