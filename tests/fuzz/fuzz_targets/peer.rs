//! Tells a board what another one says on their connection.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::peer(data));
