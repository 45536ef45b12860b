//! A board's disk: journal segments, the state file, and one queue of jobs done one after the other. Owns what
//! a crash and a power cut leave of a job that was under way; decides no time and no order between boards.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use shared::action::{DiskDone, DiskJob, Memory};
use shared::ids::{SegmentId, Stream};
use shared::journal::footer::footer_at;
use shared::journal::format::{Found, decode};
use shared::journal::recover::Recovery;
use shared::limits::PAGE_BYTES;
use shared::ranges::RangeSet;
use shared::record::{Kind, Reading};
use shared::region::ledger::gap;

use crate::dice::Dice;
use crate::file::File;
use crate::mark::Mark;
use crate::mutant::Mutant;

/// How fast a disk is.
#[derive(Clone, Copy, Debug)]
pub struct DiskSpeed {
    /// Shortest write with its sync.
    pub sync_min: Duration,
    /// Longest write with its sync.
    pub sync_max: Duration,
    /// Shortest and longest read.
    pub read_max: Duration,
}

impl Default for DiskSpeed {
    /// A decent eMMC: fdatasync p50 2.5 to 4 ms, p99 8 ms (notes: buffer-sync, §0).
    fn default() -> Self {
        Self {
            sync_min: Duration::from_millis(1),
            sync_max: Duration::from_millis(8),
            read_max: Duration::from_millis(1),
        }
    }
}

/// What happens to blocks that were durable.
#[derive(Clone, Debug)]
pub(crate) enum Rot {
    /// A bit flips in each of these blocks.
    Flipped(SegmentId, Vec<usize>),
    /// These blocks are zeros.
    Zeroed(SegmentId, Vec<usize>),
    /// Two files have each other's bytes.
    Swapped(SegmentId, SegmentId),
}

/// A disk with everything on it.
#[derive(Debug, Default)]
pub struct Disk {
    files: BTreeMap<SegmentId, File>,
    /// Files that hold nothing.
    free: BTreeMap<SegmentId, File>,
    /// The device has no room for another file.
    pub full: bool,
    /// A lie: what stands elsewhere on the disk is not written again, and reported as written.
    forgets_what_is_written_again: bool,
    /// Files deleted while the directory is not synced: a power cut may bring them back.
    ghosts: BTreeMap<SegmentId, File>,
    /// Start counter in the state file.
    pub boot: u32,
    /// The voter's memory in the state file.
    pub memory: Memory,
    queue: VecDeque<DiskJob>,
    running: Option<DiskJob>,
    /// Writes that a crash interrupted: they count as durable only if the next start finds them whole.
    interrupted: Vec<(SegmentId, usize, Bytes)>,
    poisoned: bool,
    /// The next write fails.
    pub fails_next: bool,
    /// Number of the job under way, so that an end that comes after a crash is known for stale.
    pub job: u64,
}

impl Disk {
    /// An empty disk, which tells `mutant` where that is a disk's lie.
    pub fn new(mutant: Option<Mutant>) -> Self {
        Self {
            forgets_what_is_written_again: mutant == Some(Mutant::FreedBeforeDurable),
            ..Self::default()
        }
    }

    /// Queues a job.
    pub fn push(&mut self, job: DiskJob) {
        self.queue.push_back(job);
    }

    /// Starts the next job, if none runs: what it writes is in the page cache from now on. Returns how long it takes.
    ///
    /// # Errors
    /// The job breaks the journal's own rules; in words.
    pub fn begin(&mut self, speed: &DiskSpeed, dice: &mut Dice) -> Result<Option<Duration>, String> {
        if self.running.is_some() || self.poisoned {
            return Ok(None);
        }
        let Some(job) = self.queue.pop_front() else { return Ok(None) };
        let sync = dice.span(speed.sync_min, speed.sync_max);
        let takes = match &job {
            DiskJob::Append { segment, offset, bytes, .. } => {
                if !self.forgets_what_is_written_again || !self.holds_all(bytes) {
                    self.write(*segment, *offset as usize, bytes)?;
                }
                sync + Duration::from_micros(bytes.len() as u64 / 50)
            }
            DiskJob::Prepare { .. } => sync * 2,
            DiskJob::Remember(_) => sync + sync / 2,
            DiskJob::Foot { segment, bytes, synced, .. } => {
                let file = self
                    .files
                    .get_mut(segment)
                    .ok_or(format!("a footer for {segment:?}, which is not there"))?;
                file.write_footer(bytes, *synced);
                Duration::from_micros(100) + if *synced { sync } else { Duration::ZERO }
            }
            DiskJob::Read { length, .. } | DiskJob::Verify { length, .. } => {
                dice.span(Duration::from_micros(50), speed.read_max) + Duration::from_micros(u64::from(*length) / 200)
            }
            DiskJob::Free { .. } => sync / 2,
            DiskJob::Delete { .. } => Duration::from_micros(200),
        };
        self.running = Some(job);
        self.job += 1;
        Ok(Some(takes))
    }

    fn holds_all(&self, bytes: &[u8]) -> bool {
        let marks = Mark::find_all(bytes);
        !marks.is_empty() && marks.into_iter().all(|mark| self.holds(mark))
    }

    fn write(&mut self, segment: SegmentId, offset: usize, bytes: &[u8]) -> Result<(), String> {
        let file = self
            .files
            .get_mut(&segment)
            .ok_or(format!("append to {segment:?}, which is not there"))?;
        if !offset.is_multiple_of(PAGE_BYTES) || !bytes.len().is_multiple_of(PAGE_BYTES) || bytes.is_empty() {
            return Err(format!("append of {} bytes at {offset} is not made of pages", bytes.len()));
        }
        if offset + bytes.len() > file.len() {
            return Err(format!("append of {} bytes at {offset} passes the end of {segment:?}", bytes.len()));
        }
        if footer_at(u32::try_from(file.len()).unwrap_or(u32::MAX)).is_none_or(|at| offset + bytes.len() > at as usize)
        {
            return Err(format!("append at {offset} of {segment:?} reaches into its footer"));
        }
        if file.holds_records(offset, bytes.len()) {
            return Err(format!("append at {offset} of {segment:?} rewrites a page with durable records"));
        }
        file.write(offset, bytes);
        Ok(())
    }

    /// Ends the job under way and says what the board is told of it.
    pub fn end(&mut self, dice: &mut Dice, mutant: Option<Mutant>) -> Option<DiskDone> {
        let job = self.running.take()?;
        let spared = matches!(
            job,
            DiskJob::Foot { .. }
                | DiskJob::Read { .. }
                | DiskJob::Verify { .. }
                | DiskJob::Free { .. }
                | DiskJob::Delete { .. }
        );
        if self.fails_next && !spared {
            self.fails_next = false;
            return Some(self.fail(&job, dice));
        }
        match job {
            DiskJob::Prepare { segment, from: None, .. } if self.full => Some(DiskDone::NoRoom { segment }),
            DiskJob::Prepare { segment, from, bytes, .. } => {
                self.prepare(segment, from, bytes as usize, mutant);
                self.ghosts.clear();
                Some(DiskDone::Prepared { segment })
            }
            DiskJob::Append { token, segment, offset, bytes } => {
                let file = self.files.get_mut(&segment)?;
                if mutant != Some(Mutant::AckBeforeSync) {
                    file.sync();
                    file.note_durable(offset as usize, &bytes);
                }
                Some(DiskDone::Appended { token })
            }
            DiskJob::Read { token, segment, offset, length } => {
                let Some(file) = self.files.get(&segment) else {
                    self.poisoned = true;
                    return Some(DiskDone::Failed);
                };
                let bytes = file.read(offset as usize, length as usize).into();
                Some(DiskDone::Read { token, bytes })
            }
            DiskJob::Foot { .. } => None,
            DiskJob::Verify { token, segment, offset, length } => {
                let Some(file) = self.files.get(&segment) else {
                    self.poisoned = true;
                    return Some(DiskDone::Failed);
                };
                let (offset, length) = (offset as usize, length as usize);
                let bytes = match mutant {
                    Some(Mutant::CacheVerified) => file.read_cached(offset, length),
                    _ => file.read(offset, length),
                };
                Some(DiskDone::Read { token, bytes: bytes.into() })
            }
            DiskJob::Free { segment } => {
                self.set_free(segment, mutant);
                self.ghosts.clear();
                None
            }
            DiskJob::Delete { segment } => {
                self.delete(segment, mutant);
                None
            }
            DiskJob::Remember(memory) => {
                if mutant != Some(Mutant::CeilingForgotten) {
                    self.memory = memory;
                }
                Some(DiskDone::Remembered(memory))
            }
        }
    }

    fn fail(&mut self, job: &DiskJob, dice: &mut Dice) -> DiskDone {
        self.poisoned = true;
        self.queue.clear();
        if let DiskJob::Append { segment, offset, bytes, .. } = job
            && let Some(file) = self.files.get_mut(segment)
        {
            file.sync_fails(dice);
            self.interrupted.push((*segment, *offset as usize, bytes.clone()));
        }
        DiskDone::Failed
    }

    fn prepare(&mut self, segment: SegmentId, from: Option<SegmentId>, bytes: usize, mutant: Option<Mutant>) {
        let recycled = from.and_then(|old| {
            let free = self.free.remove(&old);
            free.or_else(|| self.files.remove(&self.victim(old, mutant)))
        });
        let mut file = recycled.unwrap_or_default();
        file.stretch(bytes);
        file.sync();
        self.files.insert(segment, file);
    }

    fn set_free(&mut self, segment: SegmentId, mutant: Option<Mutant>) {
        let victim = self.victim(segment, mutant);
        if let Some(file) = self.files.remove(&victim) {
            self.free.insert(segment, file);
        }
    }

    fn delete(&mut self, segment: SegmentId, mutant: Option<Mutant>) {
        let victim = self.victim(segment, mutant);
        if let Some(file) = self.files.remove(&victim) {
            self.ghosts.insert(victim, file);
        }
    }

    fn victim(&self, named: SegmentId, mutant: Option<Mutant>) -> SegmentId {
        match mutant {
            Some(Mutant::WrongFileDeleted) => self.files.keys().rev().nth(1).copied().unwrap_or(named),
            _ => named,
        }
    }

    /// The process that wrote is gone. The page cache stays; the job under way may be half done.
    pub fn lose_process(&mut self, dice: &mut Dice) {
        self.queue.clear();
        self.poisoned = false;
        self.fails_next = false;
        self.job += 1;
        match self.running.take() {
            Some(DiskJob::Append { segment, offset, bytes, .. }) => {
                let offset = offset as usize;
                let kept = dice.below((bytes.len() / PAGE_BYTES) as u64 + 1) as usize * PAGE_BYTES;
                if let Some(file) = self.files.get_mut(&segment) {
                    file.cut_short(offset, kept);
                    self.interrupted.push((segment, offset, bytes));
                }
            }
            Some(DiskJob::Prepare { segment, from, bytes, .. }) if dice.coin() => {
                let length = dice.below(u64::from(bytes) + 1) as usize;
                let length = if from.is_some() || dice.coin() { bytes as usize } else { length };
                self.prepare(segment, from, length, None);
            }
            Some(DiskJob::Remember(memory)) if dice.coin() => self.memory = memory,
            Some(DiskJob::Delete { segment }) if dice.coin() => self.delete(segment, None),
            Some(DiskJob::Free { segment }) if dice.coin() => self.set_free(segment, None),
            Some(_) | None => {}
        }
    }

    /// Power goes, after [`Disk::lose_process`]: what was not synced may be lost, what was deleted may be back.
    pub fn lose_power(&mut self, dice: &mut Dice) {
        for file in self.files.values_mut() {
            file.lose_power(dice);
        }
        for (segment, file) in std::mem::take(&mut self.ghosts) {
            if dice.coin() {
                self.files.entry(segment).or_insert(file);
            }
        }
    }

    /// What a start reads, segment by segment: where there is no footer, all is synced, then read from the device, so that
    /// what is read is durable before it is claimed. After a failed sync the page cache shows bytes that the device does
    /// not hold, and a second sync does not bring them there: hence the cache is dropped before it is read.
    pub fn recover(&mut self, mutant: Option<Mutant>, recovery: &mut Recovery) {
        for segment in self.free.keys() {
            recovery.handle_free(*segment);
        }
        for (segment, file) in &mut self.files {
            let length = u32::try_from(file.len()).unwrap_or(u32::MAX);
            if recovery.handle_footer(*segment, length, file.footer()) {
                continue;
            }
            file.sync();
            if mutant != Some(Mutant::CacheTrusted) {
                file.evict();
            }
            let read = |offset: u32, window: &mut [u8]| {
                file.read_into(offset as usize, window);
                Ok::<(), std::convert::Infallible>(())
            };
            let Ok(()) = recovery.handle_segment(*segment, length, read);
        }
        for (segment, offset, bytes) in std::mem::take(&mut self.interrupted) {
            let Some(file) = self.files.get_mut(&segment).filter(|file| file.is_durable(offset, bytes.len())) else {
                continue;
            };
            // Its padding may be torn: what counts is that the block is whole.
            let place = u32::try_from(offset).unwrap_or(u32::MAX);
            if let Found::Block { .. } = decode(segment, place, &file.read(offset, bytes.len())) {
                file.note_durable(offset, &bytes);
            }
        }
    }

    /// Every reading on the device.
    pub(crate) fn all(&self) -> impl Iterator<Item = Mark> {
        self.files.values().flat_map(File::all)
    }

    /// The rot that flips a bit of the block with `mark`.
    pub(crate) fn flip_of(&self, mark: Mark) -> Option<Rot> {
        self.files.iter().find_map(|(segment, file)| {
            let place = file.blocks().find(|place| file.readings(*place).contains(&mark))?;
            Some(Rot::Flipped(*segment, vec![place]))
        })
    }

    /// Whether the reading is on the device, whole.
    pub fn holds(&self, mark: Mark) -> bool {
        self.files.values().any(|file| file.holds(mark))
    }

    /// What the gap records say that can be read on it.
    pub(crate) fn named(&self) -> BTreeMap<Stream, RangeSet> {
        let mut named: BTreeMap<Stream, RangeSet> = BTreeMap::new();
        for (segment, file) in &self.files {
            let bytes = file.read(0, file.len());
            for place in (0..bytes.len()).step_by(PAGE_BYTES) {
                let offset = u32::try_from(place).unwrap_or(u32::MAX);
                let Found::Block { runs, .. } = decode(*segment, offset, &bytes[place..]) else {
                    continue;
                };
                for run in &runs {
                    let records = Reading::decode_all(&run.bytes, run.count).unwrap_or_default();
                    for gap in records.iter().filter(|record| record.kind == Kind::Gap).flat_map(gap) {
                        named.entry(gap.stream).or_default().insert(gap.range);
                    }
                }
            }
        }
        named
    }

    /// What is to rot: some blocks with readings, drawn by `dice`.
    pub(crate) fn draw_rot(&self, dice: &mut Dice) -> Option<Rot> {
        let full: Vec<SegmentId> = self
            .files
            .iter()
            .filter(|(_, file)| file.blocks().next().is_some())
            .map(|(id, _)| *id)
            .collect();
        let segment = dice.pick(&full)?;
        let places: Vec<usize> = self.files[&segment].blocks().collect();
        Some(match dice.below(8) {
            0 => Rot::Zeroed(segment, places),
            // A file that is being written to would be swapped halfway through.
            1 => {
                let is_still =
                    |id: &SegmentId| !matches!(&self.running, Some(DiskJob::Append { segment, .. }) if segment == id);
                let other = dice.pick(&full).filter(|other| *other != segment && is_still(other));
                Rot::Swapped(segment, other.filter(|_| is_still(&segment))?)
            }
            // An older state of the file, to which the last writes never came.
            2 => Rot::Zeroed(segment, places[dice.below(places.len() as u64) as usize..].to_vec()),
            3 => Rot::Flipped(segment, places.iter().copied().filter(|_| dice.coin()).collect()),
            _ => Rot::Flipped(segment, dice.pick(&places).into_iter().collect()),
        })
    }

    /// Readings that would be lost here.
    pub(crate) fn touched(&self, rot: &Rot) -> Vec<Mark> {
        let all = |segment: &SegmentId| self.files[segment].blocks().collect();
        let (segments, places): (Vec<SegmentId>, Vec<Vec<usize>>) = match rot {
            Rot::Flipped(segment, places) | Rot::Zeroed(segment, places) => (vec![*segment], vec![places.clone()]),
            Rot::Swapped(one, other) => (vec![*one, *other], vec![all(one), all(other)]),
        };
        let files = segments.iter().zip(&places);
        files
            .flat_map(|(segment, places)| places.iter().flat_map(|place| self.files[segment].readings(*place)))
            .copied()
            .collect()
    }

    /// Lets it rot, unnoticed.
    pub(crate) fn rot(&mut self, rot: &Rot, dice: &mut Dice) {
        match rot {
            Rot::Flipped(segment, places) => {
                let Some(file) = self.files.get_mut(segment) else { return };
                places.iter().for_each(|place| file.flip_in(*place, dice));
            }
            Rot::Zeroed(segment, places) => {
                let Some(file) = self.files.get_mut(segment) else { return };
                places.iter().for_each(|place| file.zero(*place));
            }
            Rot::Swapped(one, other) => {
                let (Some(mut file), Some(second)) = (self.files.remove(one), self.files.get_mut(other)) else {
                    return;
                };
                file.swap(second);
                self.files.insert(*one, file);
            }
        }
    }

    /// Files on it.
    pub fn files(&self) -> usize {
        self.files.len()
    }
}
