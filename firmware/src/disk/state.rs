//! What a board must never forget: how often it started and which election terms it may have used. Kept twice, each
//! copy on its own page, both written and synced at every change, the worse one first: one torn or rotten page costs
//! nothing, and never brings an older promise back.
//!
//! ```text
//!  0        8        16      20       28        36      37       38      72        80        88       104        105     4092    4096
//!  | magic  | change | boot  | nonce  | ceiling | board | length | site  | longest | version | voters | stranger | zeros | crc32c |
//! ```
//!
//! Files of the first form (magic `RSSTATE1`) end with the site: what their board granted was at most `LEASE_MAX` long.

use std::path::{Path, PathBuf};

use shared::action::Memory;
use shared::checksum::crc32c;
use shared::ids::{BoardId, Name, VoterSet, Voters};
use shared::limits::{LEASE_MAX, PAGE_BYTES};

use super::DiskError;
use super::system::{FileSystem, OpenFile, Opening, write_all_at};

const MAGIC: &[u8; 8] = b"RSSTATE2";
const MAGIC_1: &[u8; 8] = b"RSSTATE1";
const CRC_AT: usize = PAGE_BYTES - 4;
const SITE_AT: usize = 38;
const LONGEST_AT: usize = 72;
const VERSION_AT: usize = 80;
const VOTERS_AT: usize = 88;
const STRANGER_AT: usize = 104;

/// The part that changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// Starts of the board so far.
    pub(crate) boot: u32,
    /// Drawn at the last start.
    pub(crate) nonce: u64,
    /// What the voter must not forget.
    pub(crate) memory: Memory,
}

/// One copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Number of the change, rising.
    pub(crate) change: u64,
    /// What it says.
    pub(crate) state: State,
    /// Whose directory it is.
    pub(crate) board: BoardId,
    /// Of which site.
    pub(crate) site: Name,
}

/// The file with both copies.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    file: Box<dyn OpenFile>,
    last: Slot,
    /// The copies in the order in which they are written: one that is damaged or older comes first, so that the only good
    /// one is never the one being written.
    order: [u64; 2],
}

impl StateFile {
    /// Opens the state of `board` of `site`. A directory without state is a new board's, unless `has_segments`.
    pub(super) fn open(
        system: &dyn FileSystem,
        directory: &Path,
        (site, board): (&Name, BoardId),
        has_segments: bool,
    ) -> Result<Self, DiskError> {
        let path = directory.join("state");
        let file = system.open(&path, Opening::Kept).map_err(DiskError::system("open", &path))?;
        let length = file.length().map_err(DiskError::system("look at", &path))?;
        let copies = copies(&*file);
        let changes = copies.each_ref().map(|copy| copy.as_ref().map(|slot| slot.change));
        let order = if changes[0] > changes[1] { [1, 0] } else { [0, 1] };
        let newest = copies.into_iter().flatten().max_by_key(|slot| slot.change);
        let last = match newest {
            Some(last) => last,
            None if has_segments && length == 0 => return Err(DiskError::StateMissing { path }),
            // The first write is cut short only before the first record: nothing was promised yet.
            None if !has_segments && length < 2 * PAGE_BYTES as u64 => {
                Slot { change: 0, state: State::default(), board, site: site.clone() }
            }
            None => return Err(DiskError::StateDamaged { path }),
        };
        if (last.board, &last.site) != (board, site) {
            return Err(DiskError::AnotherBoard { path, board: last.board, site: last.site.to_string() });
        }
        Ok(Self { path, file, last, order })
    }

    pub(super) fn state(&self) -> State {
        self.last.state
    }

    /// Remembers what the voter must not forget; never fewer terms, or older voters, than before.
    pub(super) fn remember(&mut self, memory: Memory) -> Result<(), DiskError> {
        let last = self.last.state.memory;
        let memory = Memory {
            term_ceiling: memory.term_ceiling.max(last.term_ceiling),
            longest_micros: memory.longest_micros,
            voters: memory.voters.max(last.voters),
            joined: memory.joined || last.joined,
        };
        self.write(State { memory, ..self.last.state })
    }

    /// Writes and syncs one copy, then the other.
    pub(super) fn write(&mut self, state: State) -> Result<(), DiskError> {
        let next = Slot { change: self.last.change + 1, state, ..self.last.clone() };
        let page = encode(&next);
        for slot in self.order {
            write_all_at(&*self.file, &page, slot * PAGE_BYTES as u64)
                .and_then(|()| self.file.sync_all())
                .map_err(DiskError::system("write", &self.path))?;
        }
        self.last = next;
        Ok(())
    }
}

fn encode(slot: &Slot) -> Vec<u8> {
    let mut page = vec![0; PAGE_BYTES];
    page[..8].copy_from_slice(MAGIC);
    page[8..16].copy_from_slice(&slot.change.to_le_bytes());
    page[16..20].copy_from_slice(&slot.state.boot.to_le_bytes());
    page[20..28].copy_from_slice(&slot.state.nonce.to_le_bytes());
    page[28..36].copy_from_slice(&slot.state.memory.term_ceiling.to_le_bytes());
    let Memory { longest_micros, voters, joined, .. } = slot.state.memory;
    page[LONGEST_AT..VERSION_AT].copy_from_slice(&longest_micros.to_le_bytes());
    page[VERSION_AT..VOTERS_AT].copy_from_slice(&voters.version.to_le_bytes());
    page[VOTERS_AT..STRANGER_AT].copy_from_slice(&voters.set.bits().to_le_bytes());
    page[STRANGER_AT] = u8::from(!joined);
    page[36] = slot.board.get();
    let site = slot.site.as_bytes();
    page[37] = u8::try_from(site.len()).expect("a name is at most 32 bytes");
    page[SITE_AT..SITE_AT + site.len()].copy_from_slice(site);
    let crc = crc32c(&page[..CRC_AT]);
    page[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    page
}

/// Both copies in `file` as they stand; `None` for one that does not hold. Changes nothing.
pub(crate) fn copies(file: &dyn OpenFile) -> [Option<Slot>; 2] {
    [read(file, 0), read(file, 1)]
}

fn read(file: &dyn OpenFile, slot: u64) -> Option<Slot> {
    let mut page = [0; PAGE_BYTES];
    file.read_exact_at(&mut page, slot * PAGE_BYTES as u64).ok()?;
    decode(&page)
}

fn decode(page: &[u8; PAGE_BYTES]) -> Option<Slot> {
    let crc = u32::from_le_bytes(page[CRC_AT..].try_into().ok()?);
    let is_first_form = &page[..8] == MAGIC_1;
    if (&page[..8] != MAGIC && !is_first_form) || crc != crc32c(&page[..CRC_AT]) {
        return None;
    }
    let longest_micros = if is_first_form {
        u64::try_from(LEASE_MAX.as_micros()).unwrap_or(u64::MAX)
    } else {
        u64::from_le_bytes(page[LONGEST_AT..VERSION_AT].try_into().ok()?)
    };
    let memory = Memory {
        term_ceiling: u64::from_le_bytes(page[28..36].try_into().ok()?),
        longest_micros,
        voters: Voters {
            version: u64::from_le_bytes(page[VERSION_AT..VOTERS_AT].try_into().ok()?),
            set: VoterSet::from_bits(u128::from_le_bytes(page[VOTERS_AT..STRANGER_AT].try_into().ok()?))?,
        },
        joined: page[STRANGER_AT] == 0,
    };
    let length = usize::from(page[37]);
    let site = core::str::from_utf8(page.get(SITE_AT..SITE_AT + length)?).ok()?;
    Some(Slot {
        change: u64::from_le_bytes(page[8..16].try_into().ok()?),
        state: State {
            boot: u32::from_le_bytes(page[16..20].try_into().ok()?),
            nonce: u64::from_le_bytes(page[20..28].try_into().ok()?),
            memory,
        },
        board: BoardId::new(page[36])?,
        site: Name::try_from(site).ok()?,
    })
}
