//! Reads a whole stopped journal.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::recovery(data));
