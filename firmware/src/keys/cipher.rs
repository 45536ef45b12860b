//! Seals and opens blocks. A segment has a key of its own, made from the newest generation, the segment's number and the
//! journal's life; the nonce is the block's number in that life. No life is continued and no number of it is given twice, so no
//! nonce ever meets the same key again: not after a crash, a torn write, or a disk set back to an older state, since a
//! life's own nonce is drawn anew at each start.
//!
//! ```text
//! generation's key ──extract──► root ──expand(cipher, segment, boot, nonce)──► segment's key ──(block's number)──► block
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::Prk;
use link::logging::whole_story;
use shared::ids::{Epoch, SegmentId};
use shared::journal::format::{self, Examined, Header, TAG_BYTES, examine};
use shared::limits::PAGE_BYTES;

use super::ring::{Generation, KeyError, KeyRing, Length};

/// Bytes of a segment's key, with either cipher.
const KEY_BYTES: usize = 32;
/// Segments whose keys are kept at hand while they are read.
const AT_HAND_MAX: usize = 8;

/// How blocks are sealed: the lowest bit of the key's number in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cipher {
    Aes = 0,
    ChaCha = 1,
}

impl Cipher {
    /// The faster one on this machine: AES where the processor has instructions for it. All Raspberry Pi before the fifth
    /// have none.
    fn of_this_machine() -> Self {
        #[cfg(target_arch = "aarch64")]
        let has_aes =
            std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
        #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
        let has_aes = std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq");
        #[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64", target_arch = "x86")))]
        let has_aes = false;
        if has_aes { Self::Aes } else { Self::ChaCha }
    }

    const fn of(id: u32) -> Self {
        if id & 1 == 0 { Self::Aes } else { Self::ChaCha }
    }

    const fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Aes => &AES_256_GCM,
            Self::ChaCha => &CHACHA20_POLY1305,
        }
    }
}

/// Whose key: a generation with a cipher, a segment, a life.
type Whose = (u32, SegmentId, Epoch);

/// The keys of one journal, at work.
#[derive(Clone, Debug)]
pub struct Keys {
    path: PathBuf,
    /// What the file looked like when it was read.
    stamp: Option<(u64, i64, i64, u64)>,
    ring: KeyRing,
    roots: BTreeMap<u32, Prk>,
    cipher: Cipher,
    /// Under which key blocks of the segment being written are sealed.
    sealing: Option<(SegmentId, u32)>,
    /// The segment that was read last.
    reading: Option<SegmentId>,
    /// Header checksum of the block that was sealed last in this life.
    previous: u32,
    at_hand: Vec<(Whose, Arc<LessSafeKey>)>,
}

/// What became of sealed blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenedBlocks {
    /// Where blocks stand that are not what was sealed although their checksums hold. What is in their place now is no block.
    pub forged: Vec<u32>,
    /// Keys that are not in the ring, or not any more, by the number that blocks call them. Their blocks stay sealed.
    pub lacking: BTreeSet<u32>,
}

impl Keys {
    /// The keys in the file at `path`.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let stamp = stamp(path);
        let mut keys = Self::of_ring(KeyRing::read(path)?, path);
        keys.stamp = stamp;
        Ok(keys)
    }

    fn of_ring(ring: KeyRing, path: &Path) -> Self {
        let mut keys = Self {
            path: path.to_owned(),
            stamp: None,
            ring: KeyRing::default(),
            roots: BTreeMap::new(),
            cipher: Cipher::of_this_machine(),
            sealing: None,
            reading: None,
            previous: 0,
            at_hand: Vec::new(),
        };
        keys.take(ring);
        keys
    }

    fn take(&mut self, ring: KeyRing) {
        let roots = ring
            .generations()
            .iter()
            .filter_map(|generation| Some((generation.id, generation.root()?)));
        self.roots = roots.collect();
        self.ring = ring;
        self.at_hand.clear();
    }

    /// The ring.
    pub const fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether blocks sealed under `id` can be opened.
    pub fn knows(&self, id: u32) -> bool {
        self.roots.contains_key(&(id & !1))
    }

    /// Whether blocks sealed under `id` can never be opened again.
    pub fn has_destroyed(&self, id: u32) -> bool {
        self.ring.find(id).is_some_and(Generation::is_destroyed)
    }

    /// Reads the file again where it has changed. Where it cannot be used the keys stay as they are, and the log says so.
    fn refresh(&mut self) {
        let now = stamp(&self.path);
        if now == self.stamp {
            return;
        }
        self.stamp = now;
        match KeyRing::read(&self.path) {
            Ok(ring) => {
                let newest = ring.newest().map(|newest| newest.number);
                tracing::info!(generation = newest, "the journal's keys were read again");
                self.take(ring);
            }
            Err(error) => {
                tracing::error!(why = whole_story(&error), "the journal's keys stay as they were read before");
            }
        }
    }

    /// Reads the file again, whether it seems to have changed or not.
    pub fn refresh_now(&mut self) {
        self.stamp = None;
        self.refresh();
    }

    /// Seals the block at the front of `block` under the newest generation; a segment that was begun under an older one goes on
    /// with it. False, with nothing of use in `block`, where that cannot be: it must not be written.
    #[must_use]
    pub fn seal(&mut self, block: &mut [u8]) -> bool {
        let Some(header) = Header::read(block) else { return false };
        let segment = header.place.segment;
        let id = match self.sealing {
            Some((of, id)) if of == segment => id,
            _ => {
                self.refresh();
                let Some(newest) = self.ring.newest() else { return false };
                newest.id | self.cipher as u32
            }
        };
        self.sealing = Some((segment, id));
        let Some(key) = self.key((id, segment, header.place.epoch)) else {
            return false;
        };
        let mut sealed = false;
        let checksum = format::seal(block, id, self.previous, |front, payload| {
            let tag = key.seal_in_place_separate_tag(nonce(header.place.number), Aad::from(front), payload);
            let bytes = tag.ok().and_then(|tag| tag.as_ref().try_into().ok());
            sealed = bytes.is_some();
            bytes.unwrap_or([0; TAG_BYTES])
        });
        if let Some(checksum) = checksum {
            self.previous = checksum;
        }
        sealed
    }

    /// Blocks of `segment` are to be opened: where another was before it, the file is read again if it has changed.
    pub fn refresh_for(&mut self, segment: SegmentId) {
        if self.reading.replace(segment) != Some(segment) {
            self.refresh();
        }
    }

    /// Opens all sealed blocks of `segment` that stand whole in `bytes`, which were read at `offset`.
    pub fn open(&mut self, segment: SegmentId, offset: u32, bytes: &mut [u8]) -> OpenedBlocks {
        let mut became = OpenedBlocks::default();
        let mut at = 0;
        while at < bytes.len() {
            let place = offset.saturating_add(u32::try_from(at).unwrap_or(u32::MAX));
            at += match examine(segment, place, &bytes[at..]) {
                Examined::Whole(header) if header.is_sealed() => {
                    self.open_block(&header, &mut bytes[at..], &mut became);
                    header.block_bytes()
                }
                Examined::Whole(header) => header.block_bytes(),
                Examined::Broken(_) | Examined::Nothing => PAGE_BYTES,
            };
        }
        became
    }

    fn open_block(&mut self, header: &Header, block: &mut [u8], became: &mut OpenedBlocks) {
        let Some(key) = self.key((header.key, header.place.segment, header.place.epoch)) else {
            became.lacking.insert(header.key);
            return;
        };
        let is_authentic = format::open(block, |front, payload, tag| {
            let nonce = nonce(header.place.number);
            key.open_in_place_separate_tag(nonce, Aad::from(front), tag, payload).is_ok()
        });
        if !is_authentic {
            // What a failed opening leaves is of no use, and must not be taken for a block whatever its checksum says.
            block[..header.header_bytes].fill(0);
            became.forged.push(header.place.offset);
        }
    }

    fn key(&mut self, whose: Whose) -> Option<Arc<LessSafeKey>> {
        if let Some((_, key)) = self.at_hand.iter().find(|(of, _)| *of == whose) {
            return Some(Arc::clone(key));
        }
        let (id, segment, epoch) = whose;
        let cipher = Cipher::of(id);
        let info = [
            &b"key of a segment"[..],
            &[cipher as u8],
            &segment.0.to_le_bytes(),
            &epoch.boot.to_le_bytes(),
            &epoch.nonce.to_le_bytes(),
        ];
        let mut bytes = [0; KEY_BYTES];
        let root = self.roots.get(&(id & !1))?;
        root.expand(&info, Length(KEY_BYTES))
            .and_then(|okm| okm.fill(&mut bytes))
            .ok()?;
        let key = Arc::new(LessSafeKey::new(UnboundKey::new(cipher.algorithm(), &bytes).ok()?));
        if self.at_hand.len() == AT_HAND_MAX {
            self.at_hand.remove(0);
        }
        self.at_hand.push((whose, Arc::clone(&key)));
        Some(key)
    }
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn stamp(path: &Path) -> Option<(u64, i64, i64, u64)> {
    let about = fs::metadata(path).ok()?;
    Some((about.ino(), about.mtime(), about.mtime_nsec(), about.len()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use shared::ids::{BoardId, Class, Origin, Stream};
    use shared::journal::format::{Found, HEADER_BYTES, Place, decode, encode};
    use shared::wire::peer::Run;

    use super::*;

    /// Whatever this machine prefers: a disk may come from another one.
    #[test]
    fn either_cipher_opens_what_it_sealed_and_not_what_the_other_did() {
        let epoch = Epoch { boot: 1, nonce: 7 };
        let stream = Stream { origin: Origin { board: BoardId::new(1).unwrap(), epoch }, class: Class::Event };
        let run = Run::new(stream, 1, 1, Bytes::from_static(b"a record"));
        let segment = SegmentId(3);
        let place = Place { segment, offset: 4096, epoch, number: 5, known: 5, previous: 9 };
        let mut keys = Keys::of_ring(KeyRing::new().unwrap(), Path::new("none"));
        for cipher in [Cipher::Aes, Cipher::ChaCha] {
            (keys.cipher, keys.sealing) = (cipher, None);
            let (mut block, _) = encode(&place, std::slice::from_ref(&run));
            assert!(keys.seal(&mut block));
            let mut other = block.clone();
            assert_eq!(keys.open(segment, 4096, &mut block), OpenedBlocks::default());
            let Found::Block { runs, .. } = decode(segment, 4096, &block) else {
                panic!("{cipher:?}")
            };
            assert_eq!(runs, std::slice::from_ref(&run));
            // The same bytes under the other cipher's name.
            let front = &mut other[..HEADER_BYTES];
            front[60] ^= 1;
            let checksum = shared::checksum::crc32c(&front[..92]);
            front[92..].copy_from_slice(&checksum.to_le_bytes());
            assert_eq!(keys.open(segment, 4096, &mut other).forged, [4096]);
            assert_eq!(decode(segment, 4096, &other), Found::Nothing);
        }
    }
}
