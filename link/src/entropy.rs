//! Numbers that nobody can guess, and that no two processes share.

use std::io;

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
