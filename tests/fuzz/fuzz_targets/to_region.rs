//! Tells the region what a site says.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::to_region(data));
