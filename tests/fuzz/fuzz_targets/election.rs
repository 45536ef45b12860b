//! Tells a board and a witness votes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::election(data));
