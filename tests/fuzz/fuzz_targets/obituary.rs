//! Reads obituaries and tells them to a board.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::obituary(data));
