//! Numbers that nobody can guess, and that no two processes share.

use std::{io, thread};

use crate::identity::provider;

/// 64 bits from the system's entropy.
///
/// # Errors
/// Where the system gives none.
pub fn draw() -> io::Result<u64> {
    let mut bytes = [0; 8];
    let drawn = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    // At most 256 bytes come whole or not at all (getrandom(2)).
    assert_eq!(drawn, bytes.len(), "entropy came short");
    Ok(u64::from_le_bytes(bytes))
}

/// Lets the cryptographic provider seed its generator now, on a thread of its own, instead of at the first signature or
/// handshake: it gathers the jitter of the processor, which takes 30 to 50 ms on a server's core and longer on a small one.
/// Where no thread can be had, the first that needs random numbers waits for the seed, as without this call.
pub fn warm_up() {
    let seed = || {
        // Whoever needs them will say what is wrong.
        let _ = provider().secure_random.fill(&mut [0; 1]);
    };
    let _ = thread::Builder::new().name("entropy".to_owned()).spawn(seed);
}
