//! One file on a simulated disk: what a reader sees (the page cache) and what the device holds, page by page. Owns
//! what a sync, a failed sync and a power cut do to a page; knows nothing of journals.

use std::collections::{BTreeMap, BTreeSet};

use shared::limits::PAGE_BYTES;

use crate::dice::Dice;
use crate::mark::{MARK_BYTES, Mark};

/// Bytes that a device writes as one: a power cut tears a page between them.
const SECTOR_BYTES: usize = 512;
/// Bytes at the front of a journal's block of which none may change.
const HEADER_BYTES: u64 = 60;

/// A file. Bytes past the highest one written are zeros.
#[derive(Clone, Debug, Default)]
pub struct File {
    length: usize,
    cache: Vec<u8>,
    /// Pages written and not synced: what the device still holds of them.
    dirty: BTreeMap<usize, Vec<u8>>,
    /// Pages whose sync failed: the kernel counts them as clean and shows the new bytes; the device holds these.
    lost: BTreeMap<usize, Vec<u8>>,
    /// How many sound blocks hold each reading.
    marks: BTreeMap<Mark, u32>,
    /// Durable writes that hold readings and are sound, by place: how long, and which.
    blocks: BTreeMap<usize, (usize, Vec<Mark>)>,
    /// Sound bytes of blocks that rotted, by place: what a page cache would still show.
    remembered: BTreeMap<usize, Vec<u8>>,
    marked_pages: BTreeSet<usize>,
    /// What stands at the file's very end, apart from the pages: nothing syncs it.
    footer: Vec<u8>,
    footer_is_dirty: bool,
}

impl File {
    /// Makes the file `length` bytes long, all that was in it still there: what recycling does.
    pub fn stretch(&mut self, length: usize) {
        self.length = length;
        self.cache.truncate(length);
        self.marks.clear();
        self.blocks.clear();
        self.remembered.clear();
        self.marked_pages.clear();
    }

    /// Bytes in the file.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether the file has no byte.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether a write of `count` bytes at `offset` would change a page that holds durable records.
    pub fn holds_records(&self, offset: usize, count: usize) -> bool {
        let first = offset / PAGE_BYTES;
        let end = (offset + count).div_ceil(PAGE_BYTES);
        self.marked_pages.range(first..end).next().is_some()
    }

    /// Writes into the page cache. The bytes lie within the file.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        for page in offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES) {
            if !self.dirty.contains_key(&page) {
                let held = self.lost.remove(&page).unwrap_or_else(|| self.page(page));
                self.dirty.insert(page, held);
            }
        }
        if self.cache.len() < end {
            self.cache.resize(end, 0);
        }
        self.cache[offset..end].copy_from_slice(bytes);
    }

    fn page(&self, page: usize) -> Vec<u8> {
        let from = (page * PAGE_BYTES).min(self.cache.len());
        let to = ((page + 1) * PAGE_BYTES).min(self.cache.len());
        self.cache[from..to].to_vec()
    }

    fn show(&mut self, page: usize, held: &[u8]) {
        let from = page * PAGE_BYTES;
        let to = ((page + 1) * PAGE_BYTES).min(self.length);
        if self.cache.len() < to {
            self.cache.resize(to, 0);
        }
        self.cache[from..to].fill(0);
        self.cache[from..from + held.len()].copy_from_slice(held);
    }

    /// What a reader sees; zeros past the highest byte written.
    pub fn read(&self, offset: usize, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.read_into(offset, &mut bytes);
        bytes
    }

    /// Fills `bytes` with what a reader sees from `offset` on.
    pub fn read_into(&self, offset: usize, bytes: &mut [u8]) {
        bytes.fill(0);
        if let Some(written) = self.cache.get(offset..) {
            let there = written.len().min(bytes.len());
            bytes[..there].copy_from_slice(&written[..there]);
        }
    }

    /// Writes the footer.
    pub fn write_footer(&mut self, bytes: &[u8], synced: bool) {
        self.footer = bytes.to_vec();
        self.footer_is_dirty = !synced;
    }

    /// The footer; empty where there is none.
    pub fn footer(&self) -> &[u8] {
        &self.footer
    }

    /// All pages reach the device.
    pub fn sync(&mut self) {
        self.dirty.clear();
    }

    /// A sync fails: some pages reach the device, the others never will, and all count as clean.
    pub fn sync_fails(&mut self, dice: &mut Dice) {
        for (page, held) in std::mem::take(&mut self.dirty) {
            if dice.coin() {
                self.lost.insert(page, held);
            }
        }
    }

    /// The page cache is dropped for clean pages: a reader sees what the device holds.
    pub fn evict(&mut self) {
        for (page, held) in std::mem::take(&mut self.lost) {
            self.show(page, &held);
        }
    }

    /// A writer dies in the middle of a write: of the pages from `offset` on, those after `kept` bytes were not
    /// written.
    pub fn cut_short(&mut self, offset: usize, kept: usize) {
        let first = (offset + kept).div_ceil(PAGE_BYTES);
        for (page, held) in self.dirty.split_off(&first) {
            self.show(page, &held);
        }
    }

    /// Power goes: each page that was not synced is as before, or as written, or torn between sectors.
    pub fn lose_power(&mut self, dice: &mut Dice) {
        self.evict();
        if std::mem::take(&mut self.footer_is_dirty) && dice.coin() {
            let kept = dice.below(self.footer.len() as u64 / SECTOR_BYTES as u64 + 1) as usize * SECTOR_BYTES;
            self.footer[kept..].fill(0);
        }
        for (page, held) in std::mem::take(&mut self.dirty) {
            let mut mixed = self.read(page * PAGE_BYTES, PAGE_BYTES);
            let torn = dice.coin();
            let whole = dice.coin();
            for sector in 0..PAGE_BYTES / SECTOR_BYTES {
                let old = if torn { dice.coin() } else { whole };
                if !old {
                    continue;
                }
                let from = sector * SECTOR_BYTES;
                for (at, byte) in mixed[from..from + SECTOR_BYTES].iter_mut().enumerate() {
                    *byte = held.get(from + at).copied().unwrap_or(0);
                }
            }
            let within = self.length.saturating_sub(page * PAGE_BYTES).min(PAGE_BYTES);
            self.show(page, &mixed[..within]);
        }
    }

    /// Notes that `bytes` at `offset` are on the device whole: their readings count as held here.
    pub fn note_durable(&mut self, offset: usize, bytes: &[u8]) {
        let found = Mark::find_all(bytes);
        if found.is_empty() {
            return;
        }
        for mark in &found {
            *self.marks.entry(*mark).or_default() += 1;
        }
        self.blocks.insert(offset, (bytes.len(), found));
        self.marked_pages
            .extend(offset / PAGE_BYTES..(offset + bytes.len()).div_ceil(PAGE_BYTES));
    }

    /// Whether what a reader sees of these bytes is on the device. Call when no page is dirty.
    pub fn is_durable(&self, offset: usize, count: usize) -> bool {
        let pages = offset / PAGE_BYTES..(offset + count).div_ceil(PAGE_BYTES);
        self.lost.range(pages).next().is_none()
    }

    /// Whether the reading is on the device.
    pub fn holds(&self, mark: Mark) -> bool {
        self.marks.contains_key(&mark)
    }

    /// Every reading in it.
    pub(crate) fn all(&self) -> impl Iterator<Item = Mark> {
        self.marks.keys().copied()
    }

    /// Places of the sound blocks.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = usize> {
        self.blocks.keys().copied()
    }

    /// Readings of the block at `place`.
    pub(crate) fn readings(&self, place: usize) -> &[Mark] {
        self.blocks.get(&place).map_or(&[], |(_, marks)| marks)
    }

    /// The block at `place` is not what was written any more: a bit of its header or of a reading in it has flipped.
    pub(crate) fn flip_in(&mut self, place: usize, dice: &mut Dice) {
        let Some((length, _)) = self.forget(place) else { return };
        let bytes = &self.cache[place..place + length];
        let readings: Vec<usize> = (0..length.saturating_sub(MARK_BYTES))
            .filter(|at| Mark::read(&bytes[*at..]).is_some())
            .collect();
        let at = match dice.pick(&readings) {
            Some(reading) if dice.below(4) > 0 => reading + dice.below(MARK_BYTES as u64) as usize,
            Some(_) | None => dice.below(HEADER_BYTES) as usize,
        };
        self.cache[place + at] ^= 1 << dice.below(8);
    }

    /// The block at `place` is zeros.
    pub(crate) fn zero(&mut self, place: usize) {
        if let Some((length, _)) = self.forget(place) {
            self.cache[place..place + length].fill(0);
        }
    }

    fn forget(&mut self, place: usize) -> Option<(usize, Vec<Mark>)> {
        let block = self.blocks.remove(&place)?;
        self.remembered.insert(place, self.cache[place..place + block.0].to_vec());
        for mark in &block.1 {
            if let Some(count) = self.marks.get_mut(mark) {
                *count -= 1;
                if *count == 0 {
                    self.marks.remove(mark);
                }
            }
        }
        Some(block)
    }

    /// What a page cache would show that was not dropped before the read.
    pub(crate) fn read_cached(&self, offset: usize, count: usize) -> Vec<u8> {
        let mut bytes = self.read(offset, count);
        for (place, sound) in &self.remembered {
            for (at, byte) in (*place..).zip(sound).filter(|(at, _)| (offset..offset + count).contains(at)) {
                bytes[at - offset] = *byte;
            }
        }
        bytes
    }

    /// The bytes of both change places; neither holds a sound block any more.
    pub(crate) fn swap(&mut self, other: &mut Self) {
        for file in [&mut *self, &mut *other] {
            let places: Vec<usize> = file.blocks().collect();
            for place in places {
                file.forget(place);
            }
        }
        std::mem::swap(&mut self.cache, &mut other.cache);
        std::mem::swap(&mut self.footer, &mut other.footer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> File {
        let mut file = File::default();
        file.stretch(4 * PAGE_BYTES);
        file
    }

    #[test]
    fn a_power_cut_spares_what_was_synced_and_may_take_the_rest() {
        let mut taken = 0;
        for seed in 0..64 {
            let (mut file, mut dice) = (file(), Dice::new(seed));
            file.write(0, &[1; PAGE_BYTES]);
            file.sync();
            file.write(PAGE_BYTES, &[2; PAGE_BYTES]);
            file.lose_power(&mut dice);
            assert_eq!(file.read(0, PAGE_BYTES), vec![1; PAGE_BYTES]);
            taken += usize::from(file.read(PAGE_BYTES, PAGE_BYTES) != vec![2; PAGE_BYTES]);
        }
        assert!((20..60).contains(&taken), "{taken} of 64 lost something");
    }

    #[test]
    fn after_a_failed_sync_the_cache_lies_until_it_is_dropped() {
        let mut lied = 0;
        for seed in 0..32 {
            let (mut file, mut dice) = (file(), Dice::new(seed));
            file.write(0, &[7; PAGE_BYTES]);
            file.sync_fails(&mut dice);
            file.sync();
            assert_eq!(file.read(0, 1), [7]);
            file.evict();
            lied += usize::from(file.read(0, 1) == [0]);
        }
        assert!((4..28).contains(&lied), "{lied}");
    }
}
