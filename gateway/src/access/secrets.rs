//! Secrets that are drawn and never chosen: 256 random bits as text, of which only a digest is kept. A digest of so many bits needs
//! no slow hash: there is nothing to guess.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use data_encoding::BASE64URL_NOPAD;

/// Bytes of a secret.
const SECRET_BYTES: usize = 32;

/// The system gives no random bytes. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoEntropy;

/// What is kept of a secret: its SHA-256.
pub(crate) type Fingerprint = [u8; 32];

/// The SHA-256 of `bytes`.
pub(crate) fn fingerprint(bytes: &[u8]) -> Fingerprint {
    let mut print = [0; 32];
    print.copy_from_slice(digest(&SHA256, bytes).as_ref());
    print
}

/// So many random bytes.
pub(crate) fn drawn<const N: usize>() -> Result<[u8; N], NoEntropy> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| NoEntropy)?;
    Ok(bytes)
}

/// A secret as its holder has it: text without a character that a header or a shell minds. Shown once.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// A secret never reaches a log.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// A new one, which begins with `prefix`.
    pub fn draw(prefix: &str) -> Result<Self, NoEntropy> {
        let bytes: [u8; SECRET_BYTES] = drawn()?;
        Ok(Self(format!("{prefix}{}", BASE64URL_NOPAD.encode(&bytes))))
    }

    /// As its holder keeps it.
    pub fn text(&self) -> &str {
        &self.0
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        fingerprint(self.0.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_are_not_shown() {
        let (one, other) = (Secret::draw("rst_").unwrap(), Secret::draw("rst_").unwrap());
        assert_ne!(one, other);
        assert_eq!((one.text().len(), one.text().get(..4)), (4 + 43, Some("rst_")));
        assert_ne!(one.fingerprint(), other.fingerprint());
        assert_eq!(format!("{one:?}"), "Secret");
    }
}
