//! What a backup in a vault holds, as bytes: numbers little-endian, one after the other. Owns the form and its bounds; sealed and
//! opened it is elsewhere.
//!
//! ```text
//!  0  8  "RSBACKUP"          then for each file:
//!  8  2  form: 1               2  length of its name
//! 10  8  taken_ms              n  its name, UTF-8, parts with / between
//! 18  8  layout                8  its bytes
//! 26  8  sites                32  for each of its lists: the list's name
//! 34  8  records
//! 42  4  bytes of a piece     a list is a piece that holds the names of pieces,
//! 46  4  files                as many as fit
//! ```

use std::collections::BTreeSet;

use super::seal::PieceName;

const MAGIC: &[u8; 8] = b"RSBACKUP";
const FORM: u16 = 1;
/// Files in a backup: the store, accounts, 65 of the audit log, a configuration and two files a site.
pub(super) const FILES_MAX: usize = 16 * 1024;
/// Bytes of a file's name.
const NAME_BYTES_MAX: usize = 255;
/// Bytes of the whole: some 60,000 lists, half a billion pieces.
pub(super) const CONTENTS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a piece: a page of the store at least; four are in memory for each thread at most.
pub(super) const PIECE_BYTES_LEAST: u32 = 4096;
pub(super) const PIECE_BYTES_MOST: u32 = 4 * 1024 * 1024;
/// Bytes of a piece's name in a list.
pub(super) const PIECE_NAME_BYTES: usize = 32;

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) taken_ms: u64,
    pub(super) layout: i64,
    pub(super) sites: u64,
    pub(super) records: u64,
    pub(super) piece_bytes: u32,
    pub(super) files: Vec<Kept>,
}

/// A file in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// Its name: relative, nothing above.
    pub(super) name: String,
    pub(super) bytes: u64,
    /// Pieces that hold the names of its pieces.
    pub(super) lists: Vec<PieceName>,
}

/// Why bytes are not what a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadContents {
    #[error("what it says it holds begins otherwise")]
    Magic,
    #[error("it is of form {0}, this build knows {FORM}: use the build that wrote it")]
    Form(u16),
    #[error("what it says it holds is cut short")]
    Short,
    #[error("more stands behind what it says it holds")]
    Long,
    #[error("its pieces have {0} bytes")]
    PieceBytes(u32),
    #[error("it has {0} files")]
    Files(u32),
    #[error("file {0} has no name, or one that leads elsewhere, or another's")]
    Name(usize),
}

impl Contents {
    /// Names in a list.
    pub(super) fn list_names(&self) -> u64 {
        u64::from(self.piece_bytes) / PIECE_NAME_BYTES as u64
    }

    /// Pieces of a file.
    pub(super) fn pieces(&self, file: &Kept) -> u64 {
        file.bytes.div_ceil(u64::from(self.piece_bytes))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(FORM.to_le_bytes());
        bytes.extend(self.taken_ms.to_le_bytes());
        bytes.extend(self.layout.to_le_bytes());
        bytes.extend(self.sites.to_le_bytes());
        bytes.extend(self.records.to_le_bytes());
        bytes.extend(self.piece_bytes.to_le_bytes());
        bytes.extend(u32::try_from(self.files.len()).unwrap_or(u32::MAX).to_le_bytes());
        for file in &self.files {
            bytes.extend(u16::try_from(file.name.len()).unwrap_or(u16::MAX).to_le_bytes());
            bytes.extend(file.name.as_bytes());
            bytes.extend(file.bytes.to_le_bytes());
            for list in &file.lists {
                bytes.extend(list.0);
            }
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadContents> {
        let mut rest = Rest(bytes);
        if rest.take(MAGIC.len())? != MAGIC {
            return Err(BadContents::Magic);
        }
        match u16::from_le_bytes(rest.array()?) {
            FORM => {}
            other => return Err(BadContents::Form(other)),
        }
        let taken_ms = rest.u64()?;
        let layout = rest.u64()?.cast_signed();
        let (sites, records) = (rest.u64()?, rest.u64()?);
        let piece_bytes = rest.u32()?;
        if !(PIECE_BYTES_LEAST..=PIECE_BYTES_MOST).contains(&piece_bytes) || piece_bytes % PIECE_BYTES_LEAST != 0 {
            return Err(BadContents::PieceBytes(piece_bytes));
        }
        let count = rest.u32()?;
        if usize::try_from(count).is_ok_and(|count| count > FILES_MAX) {
            return Err(BadContents::Files(count));
        }
        let mut contents = Self { taken_ms, layout, sites, records, piece_bytes, files: Vec::new() };
        let mut names = BTreeSet::new();
        for number in 0..count as usize {
            let file = contents.decode_file(&mut rest, number)?;
            if !names.insert(file.name.clone()) {
                return Err(BadContents::Name(number));
            }
            contents.files.push(file);
        }
        if rest.0.is_empty() { Ok(contents) } else { Err(BadContents::Long) }
    }

    fn decode_file(&self, rest: &mut Rest<'_>, number: usize) -> Result<Kept, BadContents> {
        let length = usize::from(u16::from_le_bytes(rest.array()?));
        let name = std::str::from_utf8(rest.take(length)?).map_err(|_| BadContents::Name(number))?;
        if !is_name(name) {
            return Err(BadContents::Name(number));
        }
        let mut file = Kept { name: name.to_owned(), bytes: rest.u64()?, lists: Vec::new() };
        let lists = self.pieces(&file).div_ceil(self.list_names());
        // Taken before anything is allocated for it.
        let length = usize::try_from(lists)
            .ok()
            .and_then(|lists| lists.checked_mul(PIECE_NAME_BYTES));
        let names = rest.take(length.ok_or(BadContents::Short)?)?;
        file.lists = names_in(names);
        Ok(file)
    }
}

/// The names of pieces that stand in `bytes`.
pub(super) fn names_in(bytes: &[u8]) -> Vec<PieceName> {
    bytes
        .as_chunks::<PIECE_NAME_BYTES>()
        .0
        .iter()
        .map(|name| PieceName(*name))
        .collect()
}

/// Whether it is a relative path that leads nowhere above, without what a terminal or a shell would stumble over.
pub(super) fn is_name(name: &str) -> bool {
    let is_part =
        |part: &str| !matches!(part, "" | "." | "..") && !part.contains(|c: char| c.is_control() || c == '\\');
    name.len() <= NAME_BYTES_MAX && name.split('/').all(is_part)
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], BadContents> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(BadContents::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadContents> {
        self.take(N)?.try_into().map_err(|_| BadContents::Short)
    }

    fn u32(&mut self) -> Result<u32, BadContents> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, BadContents> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Contents {
        let list = |byte| PieceName([byte; 32]);
        let file = |name: &str, bytes, lists| Kept { name: name.to_owned(), bytes, lists };
        Contents {
            taken_ms: 1_772_352_000_001,
            layout: 1,
            sites: 3,
            records: 1_000_000,
            piece_bytes: 4096,
            files: vec![
                file("region.sqlite", 4096 * 129, vec![list(1), list(2)]),
                file("audit/head", 88, vec![list(3)]),
                file("empty", 0, vec![]),
            ],
        }
    }

    #[test]
    fn what_is_encoded_is_decoded_and_nothing_shorter_or_longer() {
        let bytes = some().encode();
        assert_eq!(Contents::decode(&bytes).unwrap(), some());
        for cut in 0..bytes.len() {
            assert!(Contents::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let long = [&bytes[..], &[0]].concat();
        assert_eq!(Contents::decode(&long), Err(BadContents::Long));
    }

    #[test]
    fn names_lead_nowhere_else() {
        for bad in ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/", ".", "a\nb", "a\\b", &"n".repeat(256)] {
            let mut contents = some();
            contents.files[1].name = bad.to_owned();
            assert_eq!(Contents::decode(&contents.encode()), Err(BadContents::Name(1)), "{bad:?}");
        }
        let mut twice = some();
        twice.files[2].name = "audit/head".to_owned();
        assert_eq!(Contents::decode(&twice.encode()), Err(BadContents::Name(2)));
    }

    /// Whatever stands in it: an error or contents that are within their bounds, and never much memory.
    #[test]
    fn no_bytes_do_harm() {
        let good = some().encode();
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut draw = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut decoded = 0;
        for _ in 0..100_000 {
            let mut bytes = good.clone();
            for _ in 0..1 + draw() % 4 {
                let at = (draw() % bytes.len() as u64) as usize;
                match draw() % 4 {
                    0 => bytes.truncate(at.max(1)),
                    1 => bytes.insert(at, draw() as u8),
                    2 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][(draw() % 5) as usize],
                    _ => bytes[at] ^= 1 << (draw() % 8),
                }
            }
            if let Ok(contents) = Contents::decode(&bytes) {
                assert_eq!(contents.encode(), bytes);
                assert!(contents.files.iter().all(|file| is_name(&file.name)));
                decoded += 1;
            }
        }
        assert!(decoded > 1000, "{decoded}: some changes leave contents");
    }
}
