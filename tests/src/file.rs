//! One file on a simulated disk: what a reader sees (the page cache) and what the device holds, page by page. Owns
//! what a sync, a failed sync and a power cut do to a page; knows nothing of journals.

use std::collections::{BTreeMap, BTreeSet};

use shared::limits::PAGE_BYTES;

use crate::dice::Dice;
use crate::mark::Mark;

/// Bytes that a device writes as one: a power cut tears a page between them.
const SECTOR_BYTES: usize = 512;

/// A file. Bytes past the highest one written are zeros.
#[derive(Clone, Debug, Default)]
pub struct File {
    length: usize,
    cache: Vec<u8>,
    /// Pages written and not synced: what the device still holds of them.
    dirty: BTreeMap<usize, Vec<u8>>,
    /// Pages whose sync failed: the kernel counts them as clean and shows the new bytes; the device holds these.
    lost: BTreeMap<usize, Vec<u8>>,
    marks: BTreeSet<Mark>,
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
    pub fn write_footer(&mut self, bytes: &[u8]) {
        self.footer = bytes.to_vec();
        self.footer_is_dirty = true;
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
        self.marks.extend(found);
        self.marked_pages
            .extend(offset / PAGE_BYTES..(offset + bytes.len()).div_ceil(PAGE_BYTES));
    }

    /// Whether exactly `bytes` are on the device at `offset`. Call when no page is dirty.
    pub fn device_holds(&self, offset: usize, bytes: &[u8]) -> bool {
        let pages = offset / PAGE_BYTES..(offset + bytes.len()).div_ceil(PAGE_BYTES);
        self.lost.range(pages).next().is_none() && self.read(offset, bytes.len()) == bytes
    }

    /// Whether the reading is on the device.
    pub fn holds(&self, mark: Mark) -> bool {
        self.marks.contains(&mark)
    }

    /// Flips a bit in a page that holds durable records. False where there is none.
    pub fn flip(&mut self, dice: &mut Dice) -> bool {
        let pages: Vec<usize> = self.marked_pages.iter().copied().collect();
        let Some(page) = dice.pick(&pages) else { return false };
        let at = page * PAGE_BYTES + dice.below(PAGE_BYTES as u64) as usize;
        match self.cache.get_mut(at) {
            Some(byte) => *byte ^= 1 << dice.below(8),
            None => return false,
        }
        true
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
