//! The power of a site, and the file systems of its boards that hang on it: the [`FileSystem`] that the firmware's own
//! code runs on here. Owns the count of what was done to any disk, the tape of what every disk held before each step, and
//! the troubles that strike at a step. Decides nothing of what is written.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use firmware::disk::system::{FileSystem, OpenFile, Opening};
use rustix::io::Errno;
use shared::limits::PAGE_BYTES;

use crate::crash::lie::Lie;
use crate::crash::medium::Medium;
use crate::dice::Dice;

/// What is done to a disk in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A file is made or cut to nothing.
    Make,
    /// Room is set aside for a file.
    Allocate,
    /// Bytes are written.
    Write,
    /// Bytes are read.
    Read,
    /// A file is synced.
    Sync,
    /// A file is renamed.
    Rename,
    /// A file is removed.
    Remove,
    /// The directory is synced.
    SyncNames,
}

/// What goes wrong at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// The device fails: EIO. A sync that fails leaves some pages written, and the others clean all the same.
    Io,
    /// No room, from this step on for so many more: ENOSPC for whatever needs some.
    Full {
        /// Steps.
        lasting: u64,
    },
    /// A write ends half-way without an error.
    Short,
}

impl Trouble {
    /// Its name in the summary.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Io => "EIO",
            Self::Full { .. } => "ENOSPC",
            Self::Short => "short write",
        }
    }
}

/// All disks just before a step.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The step's number.
    pub number: u64,
    /// Whose disk.
    pub board: usize,
    /// What was about to be done, in words.
    pub what: String,
    /// Every board's disk.
    pub media: Vec<Medium>,
}

/// The disks of a site's boards.
#[derive(Debug)]
pub struct Mains {
    media: Vec<Medium>,
    steps: u64,
    tape: Option<Vec<Frame>>,
    troubles: Vec<(u64, Trouble)>,
    /// Troubles that struck.
    pub struck: Vec<Trouble>,
    full_until: u64,
    lie: Option<Lie>,
    dice: Dice,
}

/// [`Mains`] as boards share them.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Mutex<Mains>>);

impl Shared {
    /// Power for boards with these disks.
    pub fn new(media: Vec<Medium>, lie: Option<Lie>, dice: Dice) -> Self {
        Self(Arc::new(Mutex::new(Mains {
            media,
            steps: 0,
            tape: None,
            troubles: Vec::new(),
            struck: Vec::new(),
            full_until: 0,
            lie,
            dice,
        })))
    }

    /// Has every step recorded from now on.
    pub fn record(&self) {
        self.lock().tape = Some(Vec::new());
    }

    /// The tape so far, and one frame more for what is there now.
    pub fn tape(&self) -> Vec<Frame> {
        let mut mains = self.lock();
        let mut tape = mains.tape.take().unwrap_or_default();
        let (number, media) = (mains.steps, mains.media.clone());
        tape.push(Frame { number, board: 0, what: "nothing more".into(), media });
        tape
    }

    /// Lets `trouble` strike at the first step from number `at` on that it can strike.
    pub fn plan(&self, at: u64, trouble: Trouble) {
        self.lock().troubles.push((at, trouble));
    }

    /// Troubles that struck so far.
    pub fn struck(&self) -> Vec<Trouble> {
        self.lock().struck.clone()
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// The disks as they are.
    pub fn media(&self) -> Vec<Medium> {
        self.lock().media.clone()
    }

    /// Puts other disks in.
    pub fn replace(&self, media: Vec<Medium>) {
        self.lock().media = media;
    }

    /// The file system of the board with this place.
    pub fn board(&self, board: usize) -> Arc<dyn FileSystem> {
        Arc::new(BoardDisk { mains: self.clone(), board })
    }

    fn lock(&self) -> MutexGuard<'_, Mains> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mains {
    /// Counts a step, puts it on the tape, and says what goes wrong with it.
    fn step(&mut self, board: usize, step: Step, what: impl FnOnce() -> String) -> Option<Trouble> {
        let number = self.steps;
        self.steps += 1;
        if step != Step::Read
            && let Some(tape) = &mut self.tape
        {
            let what = what();
            tape.push(Frame { number, board, what, media: self.media.clone() });
        }
        let due = |(at, trouble): &(u64, Trouble)| {
            number >= *at
                && match trouble {
                    Trouble::Io => true,
                    Trouble::Full { .. } => matches!(step, Step::Make | Step::Allocate | Step::Write | Step::Rename),
                    Trouble::Short => step == Step::Write,
                }
        };
        let place = self.troubles.iter().position(due)?;
        let (_, trouble) = self.troubles.remove(place);
        self.struck.push(trouble);
        if let Trouble::Full { lasting } = trouble {
            self.full_until = number + lasting;
            return None;
        }
        Some(trouble)
    }

    fn is_full(&self) -> bool {
        self.steps <= self.full_until
    }
}

/// One board's disk.
#[derive(Clone, Debug)]
struct BoardDisk {
    mains: Shared,
    board: usize,
}

fn name_of(path: &Path) -> io::Result<&str> {
    path.file_name().and_then(|name| name.to_str()).ok_or(Errno::INVAL.into())
}

fn is_of_segment(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|ending| ending == "seg" || ending == "tmp")
}

impl FileSystem for BoardDisk {
    fn open(&self, path: &Path, how: Opening) -> io::Result<Box<dyn OpenFile>> {
        let name = name_of(path)?;
        let mut mains = self.mains.lock();
        let found = mains.media[self.board].find(name);
        let inode = match (how, found) {
            (Opening::Existing | Opening::Kept, Some(inode)) => inode,
            (Opening::Existing, None) => return Err(Errno::NOENT.into()),
            (Opening::Kept | Opening::Emptied, found) => {
                if mains.step(self.board, Step::Make, || format!("make {name}")).is_some() {
                    return Err(Errno::IO.into());
                }
                if mains.is_full() {
                    return Err(Errno::NOSPC.into());
                }
                let medium = &mut mains.media[self.board];
                if let Some(inode) = found {
                    medium.empty(inode);
                }
                found.unwrap_or_else(|| medium.make(name))
            }
        };
        Ok(Box::new(Handle { mains: self.mains.clone(), board: self.board, inode, name: name.to_owned() }))
    }

    fn entries(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let mains = self.mains.lock();
        Ok(mains.media[self.board].names().map(|name| directory.join(name)).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (name_of(from)?, name_of(to)?);
        let mut mains = self.mains.lock();
        if mains
            .step(self.board, Step::Rename, || format!("rename {from} to {to}"))
            .is_some()
        {
            return Err(Errno::IO.into());
        }
        if mains.media[self.board].rename(from, to) {
            Ok(())
        } else {
            Err(Errno::NOENT.into())
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let name = name_of(path)?;
        let mut mains = self.mains.lock();
        if mains.step(self.board, Step::Remove, || format!("remove {name}")).is_some() {
            return Err(Errno::IO.into());
        }
        if mains.media[self.board].remove(name) {
            Ok(())
        } else {
            Err(Errno::NOENT.into())
        }
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        let mut mains = self.mains.lock();
        if mains
            .step(self.board, Step::SyncNames, || "sync the directory".into())
            .is_some()
        {
            return Err(Errno::IO.into());
        }
        match mains.lie {
            Some(Lie::NamesNotSynced) => mains.media[self.board].sync_names(|name| !is_of_segment(name)),
            Some(_) | None => mains.media[self.board].sync_names(|_| true),
        }
        Ok(())
    }
}

/// An open file of a board's disk.
#[derive(Debug)]
struct Handle {
    mains: Shared,
    board: usize,
    inode: u64,
    name: String,
}

impl Handle {
    fn sync(&self) -> io::Result<()> {
        let mut mains = self.mains.lock();
        if mains.step(self.board, Step::Sync, || format!("sync {}", self.name)).is_some() {
            let mut dice = mains.dice.fork();
            mains.media[self.board].sync_fails(self.inode, &mut dice);
            return Err(Errno::IO.into());
        }
        if mains.lie != Some(Lie::NotSynced) || !is_of_segment(&self.name) {
            mains.media[self.board].sync(self.inode);
        }
        Ok(())
    }
}

impl OpenFile for Handle {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut mains = self.mains.lock();
        let what = || format!("write {} bytes at {offset} of {}", bytes.len(), self.name);
        let trouble = mains.step(self.board, Step::Write, what);
        let full = mains.is_full();
        let medium = &mut mains.media[self.board];
        if full && !medium.has_room_at(self.inode, offset + bytes.len() as u64) {
            return Err(Errno::NOSPC.into());
        }
        let count = match trouble {
            Some(Trouble::Io) => return Err(Errno::IO.into()),
            Some(Trouble::Short) => (bytes.len() / 2).next_multiple_of(PAGE_BYTES).min(bytes.len()),
            Some(Trouble::Full { .. }) | None => bytes.len(),
        };
        medium.write(self.inode, &bytes[..count], offset);
        Ok(count)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut mains = self.mains.lock();
        let what = || format!("set {bytes} bytes aside for {}", self.name);
        let trouble = mains.step(self.board, Step::Allocate, what);
        let full = mains.is_full();
        let medium = &mut mains.media[self.board];
        if full && !medium.has_room_at(self.inode, bytes) {
            return Err(Errno::NOSPC.into());
        }
        if trouble.is_some() {
            return Err(Errno::IO.into());
        }
        medium.allocate(self.inode, bytes);
        Ok(())
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let mut mains = self.mains.lock();
        if mains.step(self.board, Step::Read, String::new).is_some() {
            return Err(Errno::IO.into());
        }
        if mains.media[self.board].read(self.inode, bytes, offset) {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.mains.lock().media[self.board].length(self.inode))
    }

    fn forget_cached(&self) -> io::Result<()> {
        let mut mains = self.mains.lock();
        if mains.lie != Some(Lie::CacheTrusted) {
            mains.media[self.board].evict(self.inode);
        }
        Ok(())
    }
}
