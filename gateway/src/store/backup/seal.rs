//! Seals what a vault holds, and opens it. Each object has a key of its own, made from its kind and name: one in the place of
//! another opens as little as one that was changed. Nonces are drawn: a piece that is written twice is not sealed twice with one.
//!
//! ```text
//! key ──extract──► root ─┬─expand(kind, name)──► object's key ──(nonce)──► object
//!                        └─expand──► names' key ──HMAC-SHA-256(content)──► name of a piece
//!
//! object   0  1  1: how it is sealed
//!          1 12  nonce
//!         13  n  AES-256-GCM; bound to kind and name
//!             0 1  codec: 0 plain, 1 LZ4
//!             1 4  length of the content, little-endian
//!             5    the content, as the codec has it
//!            16  tag
//! ```

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::Prk;
use aws_lc_rs::{hmac, rand};
use data_encoding::HEXLOWER;

use super::key::{BackupKey, KEY_BYTES, derive};

/// How objects are sealed here.
const VERSION: u8 = 1;
/// Before what is encrypted.
const FRONT: usize = 1 + NONCE_LEN;
/// Before the content, within what is encrypted.
const INSIDE: usize = 5;
/// Bytes that sealing adds to a content that does not compress.
pub(super) const ADDED: usize = FRONT + INSIDE + 16;
/// How a vault's head begins.
const HEAD_MAGIC: &[u8; 8] = b"RSVAULT1";
/// Bytes of a vault's head: magic, the key's mark, the seal of both.
pub(super) const HEAD_BYTES: usize = 8 + 4 + 32;

/// Name of a piece: made of its content and the key, so that it tells nothing of the content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PieceName(pub(super) [u8; 32]);

impl fmt::Display for PieceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for PieceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PieceName({self})")
    }
}

impl PieceName {
    /// The one that is written so.
    pub(super) fn parse(text: &str) -> Option<Self> {
        HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok().map(Self)
    }
}

/// What an object is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A part of a file, or of a list of parts.
    Piece,
    /// What a backup holds.
    Contents,
}

impl Kind {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Piece => b"piece",
            Self::Contents => b"contents",
        }
    }
}

/// Why an object is not what was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsealed {
    #[error("it is sealed in way {0}, this build knows {VERSION}")]
    Version(u8),
    #[error("it is cut short")]
    Short,
    #[error("it was changed, or is not sealed by this key, or stands in another's place")]
    Forged,
    #[error("its inside is not as long as it says")]
    Inside,
    #[error("its content is not what its name says")]
    Misnamed,
}

/// What the head of a vault says to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// It is of this key.
    Right,
    /// It is of the key of that name.
    Other(String),
    /// It is none.
    Damaged,
}

/// A key at work.
pub(super) struct Sealer {
    root: Prk,
    names: hmac::Key,
    heads: hmac::Key,
    mark: [u8; 4],
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl Sealer {
    pub(super) fn new(key: &BackupKey) -> Self {
        let root = key.root();
        let hmac_key = |what: &[u8]| {
            let mut bytes = [0; KEY_BYTES];
            derive(&root, &[what], &mut bytes);
            hmac::Key::new(hmac::HMAC_SHA256, &bytes)
        };
        let (names, heads) = (hmac_key(b"names of pieces"), hmac_key(b"head of a vault"));
        Self { root, names, heads, mark: key.mark() }
    }

    /// The name of the key.
    pub(super) fn name_of_key(&self) -> String {
        HEXLOWER.encode(&self.mark)
    }

    /// The name of a piece with this content.
    pub(super) fn name(&self, content: &[u8]) -> PieceName {
        let mut name = [0; 32];
        name.copy_from_slice(hmac::sign(&self.names, content).as_ref());
        PieceName(name)
    }

    /// The head of a vault of this key.
    pub(super) fn head(&self) -> Vec<u8> {
        let mut head = HEAD_MAGIC.to_vec();
        head.extend(self.mark);
        let seal = hmac::sign(&self.heads, &head);
        head.extend(seal.as_ref());
        head
    }

    /// What a head says.
    pub(super) fn read_head(&self, head: &[u8]) -> Head {
        if head.len() != HEAD_BYTES || !head.starts_with(HEAD_MAGIC) {
            return Head::Damaged;
        }
        let (said, seal) = head.split_at(HEAD_BYTES - 32);
        if hmac::verify(&self.heads, said, seal).is_ok() {
            return Head::Right;
        }
        match &said[HEAD_MAGIC.len()..] {
            mark if mark == self.mark => Head::Damaged,
            mark => Head::Other(HEXLOWER.encode(mark)),
        }
    }

    /// Seals `content` as the object of this kind and name. Fails only where the system gives no random numbers.
    pub(super) fn seal(&self, kind: Kind, name: &[u8], content: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut inside = pack(content);
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| std::io::Error::other("the system gives no random numbers"))?;
        let key = self.key(kind, name);
        let tag = key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound(kind, name)), &mut inside)
            .map_err(|_| std::io::Error::other("an object is too long to be sealed"))?;
        let mut sealed = Vec::with_capacity(FRONT + inside.len() + tag.as_ref().len());
        sealed.push(VERSION);
        sealed.extend(nonce);
        sealed.extend(inside);
        sealed.extend(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what was sealed as the object of this kind and name; a content of more than `bytes_max` is refused before it is
    /// unpacked.
    pub(super) fn open(
        &self,
        kind: Kind,
        name: &[u8],
        mut sealed: Vec<u8>,
        bytes_max: usize,
    ) -> Result<Vec<u8>, Unsealed> {
        match sealed.first() {
            Some(&VERSION) => {}
            Some(&other) => return Err(Unsealed::Version(other)),
            None => return Err(Unsealed::Short),
        }
        let (front, inside) = sealed.split_at_mut_checked(FRONT).ok_or(Unsealed::Short)?;
        let nonce = Nonce::try_assume_unique_for_key(&front[1..]).map_err(|_| Unsealed::Short)?;
        let inside = self
            .key(kind, name)
            .open_in_place(nonce, Aad::from(bound(kind, name)), inside)
            .map_err(|_| Unsealed::Forged)?;
        unpack(inside, bytes_max).ok_or(Unsealed::Inside)
    }

    /// Opens a piece, whose content is what its name says.
    pub(super) fn open_piece(&self, name: PieceName, sealed: Vec<u8>, bytes_max: usize) -> Result<Vec<u8>, Unsealed> {
        let content = self.open(Kind::Piece, &name.0, sealed, bytes_max)?;
        if self.name(&content) == name {
            Ok(content)
        } else {
            Err(Unsealed::Misnamed)
        }
    }

    fn key(&self, kind: Kind, name: &[u8]) -> LessSafeKey {
        let mut bytes = [0; KEY_BYTES];
        derive(&self.root, &[b"key of an object ", kind.label(), b" ", name], &mut bytes);
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).expect("a key of 32 bytes is one for AES-256"))
    }
}

fn bound(kind: Kind, name: &[u8]) -> Vec<u8> {
    [&[VERSION], kind.label(), b" ", name].concat()
}

/// Compressed, where that makes it shorter.
fn pack(content: &[u8]) -> Vec<u8> {
    let mut inside = vec![0; INSIDE + lz4_flex::block::get_maximum_output_size(content.len())];
    let length = u32::try_from(content.len()).expect("contents are a few megabytes at most");
    let packed = lz4_flex::block::compress_into(content, &mut inside[INSIDE..]);
    match packed {
        Ok(bytes) if bytes < content.len() => {
            inside[0] = 1;
            inside.truncate(INSIDE + bytes);
        }
        Ok(_) | Err(_) => {
            inside.truncate(INSIDE);
            inside.extend(content);
        }
    }
    inside[1..INSIDE].copy_from_slice(&length.to_le_bytes());
    inside
}

fn unpack(inside: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let (front, body) = inside.split_at_checked(INSIDE)?;
    let (codec, length) = front.split_first()?;
    let length = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
    if length > bytes_max {
        return None;
    }
    match codec {
        0 => (body.len() == length).then(|| body.to_vec()),
        1 => {
            let mut content = vec![0; length];
            let unpacked = lz4_flex::block::decompress_into(body, &mut content).ok()?;
            (unpacked == length).then_some(content)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = 1 << 20;

    fn sealer() -> Sealer {
        Sealer::new(&BackupKey::new().unwrap())
    }

    #[test]
    fn what_is_sealed_opens_under_its_kind_and_name_alone() {
        let (own, other) = (sealer(), sealer());
        for content in [&b""[..], b"a", &[7; 100_000]] {
            let name = own.name(content);
            let sealed = own.seal(Kind::Piece, &name.0, content).unwrap();
            assert!(sealed.len() <= content.len() + ADDED);
            assert_eq!(own.open_piece(name, sealed.clone(), content.len()).unwrap(), content);
            assert_ne!(own.seal(Kind::Piece, &name.0, content).unwrap(), sealed, "each has a nonce of its own");
            assert_ne!(other.name(content), name);
            let forged = Err(Unsealed::Forged);
            assert_eq!(other.open_piece(name, sealed.clone(), MANY), forged);
            assert_eq!(own.open_piece(own.name(b"another"), sealed.clone(), MANY), forged);
            assert_eq!(own.open(Kind::Contents, &name.0, sealed.clone(), MANY), forged);
            for at in (0..sealed.len()).step_by(7) {
                let mut bad = sealed.clone();
                bad[at] ^= 1;
                assert!(own.open_piece(name, bad, MANY).is_err(), "byte {at}");
                assert!(own.open_piece(name, sealed[..at].to_vec(), MANY).is_err(), "cut at {at}");
            }
        }
        let sealed = own.seal(Kind::Piece, &own.name(b"x").0, b"something else").unwrap();
        assert_eq!(own.open_piece(own.name(b"x"), sealed, MANY), Err(Unsealed::Misnamed));
    }

    #[test]
    fn a_content_is_bounded_before_it_is_unpacked() {
        let own = sealer();
        let sealed = own.seal(Kind::Contents, b"n", &[0; 1001]).unwrap();
        assert_eq!(own.open(Kind::Contents, b"n", sealed.clone(), 1000), Err(Unsealed::Inside));
        assert_eq!(own.open(Kind::Contents, b"n", sealed, 1001).unwrap(), [0; 1001]);
    }

    #[test]
    fn a_head_tells_its_key_another_and_damage_apart() {
        let (own, other) = (sealer(), sealer());
        let head = own.head();
        assert_eq!(head.len(), HEAD_BYTES);
        assert_eq!(own.read_head(&head), Head::Right);
        assert_eq!(other.read_head(&head), Head::Other(own.name_of_key()));
        for at in 0..head.len() {
            let mut bad = head.clone();
            bad[at] ^= 1;
            assert_ne!(own.read_head(&bad), Head::Right, "byte {at}");
            assert_ne!(own.read_head(&head[..at]), Head::Right, "cut at {at}");
        }
    }
}
