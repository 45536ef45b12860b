//! What a witness must never forget of each site: one small file a site, kept twice, each copy on its own page, both
//! written and synced at every change, so that one torn page never brings an older promise back.
//!
//! ```text
//!  0        8        16        24        32        40       56       57      89         90      4092    4096
//!  | magic  | change | ceiling | longest | version | voters | length | site  | stranger | zeros | crc32c |
//! ```

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;

use shared::action::Memory;
use shared::checksum::crc32c;
use shared::config::text::check_name;
use shared::ids::{Name, VoterSet, Voters};
use shared::limits::{PAGE_BYTES, WITNESS_SITES_MAX};
use tokio::sync::mpsc;

const MAGIC: &[u8; 8] = b"RSVOTES1";
const CRC_AT: usize = PAGE_BYTES - 4;
const SITE_AT: usize = 57;
const STRANGER_AT: usize = 89;
const ENDING: &str = ".votes";
/// For the owner alone, like every file with state.
const FILE_MODE: u32 = 0o600;

/// Why a witness cannot vote (any more).
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The system refused.
    #[error("cannot read or write what this witness must not forget, {path}", path = path.display())]
    System {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Both copies are damaged: what was promised is not known, so nothing may be.
    #[error("{path} is damaged in both copies; delete it only when every board of the site has been off for 10 s", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// The system gives no random number to name this life of the witness by.
    #[error("the system gives no random numbers")]
    Entropy(#[source] io::Error),
    /// More sites than a witness may serve.
    #[error("{path} holds more than {WITNESS_SITES_MAX} sites", path = path.display())]
    TooMany {
        /// The directory.
        path: PathBuf,
    },
}

/// A memory that is on disk, or why it is not.
pub(super) type Written = Result<(Name, Memory), MemoryError>;

/// The directory.
#[derive(Debug)]
pub(super) struct Archive {
    directory: PathBuf,
}

impl Archive {
    /// Reads what is known of every site; makes the directory where there is none.
    pub(super) fn open(directory: &Path) -> Result<(Self, Vec<(Name, Memory)>), MemoryError> {
        let system = |source| MemoryError::System { path: directory.to_owned(), source };
        fs::create_dir_all(directory).map_err(system)?;
        let mut known = Vec::new();
        for entry in fs::read_dir(directory).map_err(system)? {
            let path = entry.map_err(system)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(site) = name.strip_suffix(ENDING).and_then(|site| check_name(site).ok()) else {
                continue;
            };
            if known.len() == WITNESS_SITES_MAX {
                return Err(MemoryError::TooMany { path: directory.to_owned() });
            }
            if let Some((_, memory)) = newest(&path, &site)? {
                known.push((site, memory));
            }
        }
        known.sort();
        Ok((Self { directory: directory.to_owned() }, known))
    }

    /// Starts the thread that writes, one after the other, off the way of the answers. It ends with the queue, or at the
    /// first failure, which it tells.
    pub(super) fn start(self, room: usize) -> (mpsc::Sender<(Name, Memory)>, mpsc::Receiver<Written>) {
        let (jobs, mut waiting) = mpsc::channel::<(Name, Memory)>(room);
        let (done, written) = mpsc::channel(room);
        thread::spawn(move || {
            while let Some((site, memory)) = waiting.blocking_recv() {
                let outcome = self.write(&site, memory).map(|()| (site, memory));
                let failed = outcome.is_err();
                if done.blocking_send(outcome).is_err() || failed {
                    return;
                }
            }
        });
        (jobs, written)
    }

    fn write(&self, site: &Name, memory: Memory) -> Result<(), MemoryError> {
        let path = self.directory.join(format!("{site}{ENDING}"));
        let change = newest(&path, site)?.map_or(0, |(change, _)| change) + 1;
        let page = encode(site, change, memory);
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let file = options.create(true).truncate(false).write(true).mode(FILE_MODE).open(&path)?;
            for slot in [0, 1] {
                file.write_all_at(&page, slot * PAGE_BYTES as u64)?;
                file.sync_all()?;
            }
            if change == 1 {
                File::open(&self.directory)?.sync_all()?;
            }
            Ok(())
        };
        write().map_err(|source| MemoryError::System { path, source })
    }
}

/// The newest copy that holds. `None` where nothing was ever finished: the first write was cut short, and nothing promised
/// by it.
fn newest(path: &Path, site: &Name) -> Result<Option<(u64, Memory)>, MemoryError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(MemoryError::System { path: path.to_owned(), source }),
    };
    let newest = bytes
        .chunks(PAGE_BYTES)
        .take(2)
        .filter_map(|page| decode(page, site))
        .max_by_key(|(change, _)| *change);
    if newest.is_none() && bytes.len() >= 2 * PAGE_BYTES {
        return Err(MemoryError::Damaged { path: path.to_owned() });
    }
    Ok(newest)
}

fn encode(site: &Name, change: u64, memory: Memory) -> Vec<u8> {
    let mut page = MAGIC.to_vec();
    page.extend_from_slice(&change.to_le_bytes());
    page.extend_from_slice(&memory.term_ceiling.to_le_bytes());
    page.extend_from_slice(&memory.longest_micros.to_le_bytes());
    page.extend_from_slice(&memory.voters.version.to_le_bytes());
    page.extend_from_slice(&memory.voters.set.bits().to_le_bytes());
    page.push(u8::try_from(site.len()).expect("a name is at most 32 bytes"));
    debug_assert_eq!(page.len(), SITE_AT, "the layout above");
    page.extend_from_slice(site.as_bytes());
    page.resize(CRC_AT, 0);
    page[STRANGER_AT] = u8::from(!memory.joined);
    let crc = crc32c(&page);
    page.extend_from_slice(&crc.to_le_bytes());
    page
}

fn decode(page: &[u8], site: &Name) -> Option<(u64, Memory)> {
    let (body, crc) = page.split_at_checked(CRC_AT)?;
    if crc != crc32c(body).to_le_bytes() || !body.starts_with(MAGIC) {
        return None;
    }
    let number = |at: usize| Some(u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?));
    let length = usize::from(body[SITE_AT - 1]);
    if body.get(SITE_AT..SITE_AT + length)? != site.as_bytes() {
        return None;
    }
    let voters = Voters {
        version: number(32)?,
        set: VoterSet::from_bits(u128::from_le_bytes(body.get(40..56)?.try_into().ok()?))?,
    };
    let joined = body[STRANGER_AT] == 0;
    let memory = Memory { term_ceiling: number(16)?, longest_micros: number(24)?, voters, joined };
    Some((number(8)?, memory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_known_again_and_one_torn_copy_costs_nothing() {
        let directory = std::env::temp_dir().join(format!("roadstead-witness-memory-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        let site = Name::try_from("north").unwrap();
        let (archive, known) = Archive::open(&directory).unwrap();
        assert!(known.is_empty());
        let memory = |term_ceiling| Memory { term_ceiling, longest_micros: 5, ..Memory::default() };
        archive.write(&site, memory(10)).unwrap();
        archive.write(&site, memory(20)).unwrap();
        let joined = Memory { joined: true, ..memory(20) };
        archive.write(&Name::try_from("south").unwrap(), joined).unwrap();
        assert_eq!(
            newest(&directory.join("south.votes"), &Name::try_from("south").unwrap()).unwrap(),
            Some((1, joined))
        );
        fs::remove_file(directory.join("south.votes")).unwrap();
        let known = |directory: &Path| Archive::open(directory).map(|(_, known)| known);
        assert_eq!(known(&directory).unwrap(), [(site.clone(), memory(20))]);
        let path = directory.join("north.votes");
        for slot in [0, PAGE_BYTES] {
            let mut bytes = fs::read(&path).unwrap();
            bytes[slot + 20] ^= 1;
            fs::write(&path, &bytes).unwrap();
            if slot == 0 {
                assert_eq!(known(&directory).unwrap(), [(site.clone(), memory(20))]);
            }
        }
        assert!(matches!(known(&directory), Err(MemoryError::Damaged { .. })));
        fs::remove_dir_all(&directory).unwrap();
    }
}
