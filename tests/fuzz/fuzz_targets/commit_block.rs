//! Reads a commit block of the journal.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::commit_block(data));
