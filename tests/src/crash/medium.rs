//! What one board's disk holds: files page by page and a directory, each as a reader sees it and as the device has it.
//! Owns what a sync, a failed sync, the end of a process and the end of power do to them; knows nothing of journals.
//!
//! Stricter than ext4 where POSIX is: a name is durable only once its directory was synced, names that wait may reach the
//! device in any subset, and so may pages.

use std::collections::BTreeMap;
use std::sync::Arc;

use shared::limits::PAGE_BYTES;

use crate::dice::Dice;

/// Bytes that a device writes as one: within a page a power cut tears between them.
const SECTOR_BYTES: usize = 512;

/// A page. Shared between copies of a medium until one of them writes to it.
type Page = Arc<[u8; PAGE_BYTES]>;

/// A file of a medium, whatever its name.
#[derive(Clone, Debug, Default)]
struct Inode {
    /// Bytes, as a reader sees it.
    length: u64,
    /// Bytes, as the device has it.
    length_held: u64,
    /// Pages as a reader sees them; none past the highest that was written.
    seen: Vec<Page>,
    /// Pages as the device has them.
    held: Vec<Page>,
    /// Pages written since the last sync: every version, oldest first.
    dirty: BTreeMap<usize, Vec<Page>>,
}

/// A change of the directory that waits for its sync.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Put { name: String, inode: u64 },
    Gone { name: String },
}

impl Change {
    fn name(&self) -> &str {
        match self {
            Self::Put { name, .. } | Self::Gone { name } => name,
        }
    }
}

/// Something of which a power cut decides what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    /// A page: as it was, or any of so many versions; none where all of them are as it was.
    Page { inode: u64, page: usize, versions: usize },
    /// A file's length: as it was, or as written.
    Length { inode: u64 },
    /// A change of the directory.
    Names { group: usize },
}

/// A board's disk.
#[derive(Clone, Debug, Default)]
pub struct Medium {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<String, u64>,
    names_held: BTreeMap<String, u64>,
    /// Changes since the directory was synced; those of one call stand in one group.
    changes: Vec<Vec<Change>>,
}

thread_local! {
    static ZEROS: Page = Arc::new([0; PAGE_BYTES]);
}

fn zeros() -> Page {
    ZEROS.with(Arc::clone)
}

fn grown(pages: &mut Vec<Page>, to: usize) {
    while pages.len() < to {
        pages.push(zeros());
    }
}

impl Inode {
    fn write(&mut self, bytes: &[u8], offset: u64) {
        let mut at = usize::try_from(offset).expect("a file fits memory");
        let mut rest = bytes;
        grown(&mut self.seen, (at + bytes.len()).div_ceil(PAGE_BYTES));
        while !rest.is_empty() {
            let (page, within) = (at / PAGE_BYTES, at % PAGE_BYTES);
            let count = rest.len().min(PAGE_BYTES - within);
            let written = &rest[..count];
            if self.seen[page][within..within + count] != *written {
                Arc::make_mut(&mut self.seen[page])[within..within + count].copy_from_slice(written);
            }
            self.dirty.entry(page).or_default().push(Arc::clone(&self.seen[page]));
            at += count;
            rest = &rest[count..];
        }
        self.length = self.length.max(at as u64);
    }

    fn sync(&mut self) {
        for (page, versions) in std::mem::take(&mut self.dirty) {
            if let Some(last) = versions.into_iter().next_back() {
                grown(&mut self.held, page + 1);
                self.held[page] = last;
            }
        }
        self.length_held = self.length;
    }

    /// A sync fails: some pages reach the device, the others never will, and all count as clean.
    fn sync_fails(&mut self, dice: &mut Dice) {
        let dirty = std::mem::take(&mut self.dirty);
        for (page, versions) in dirty {
            if let (true, Some(last)) = (dice.coin(), versions.into_iter().next_back()) {
                grown(&mut self.held, page + 1);
                self.held[page] = last;
            }
        }
        if dice.coin() {
            self.length_held = self.length;
        }
    }

    /// Clean pages are read from the device again.
    fn evict(&mut self) {
        for page in 0..self.seen.len() {
            if !self.dirty.contains_key(&page) {
                self.seen[page] = self.held.get(page).map_or_else(zeros, Arc::clone);
            }
        }
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> bool {
        let at = usize::try_from(offset).expect("a file fits memory");
        if (at + bytes.len()) as u64 > self.length {
            return false;
        }
        for (nth, byte) in bytes.chunks_mut(PAGE_BYTES).enumerate() {
            self.read_chunk(byte, at + nth * PAGE_BYTES);
        }
        true
    }

    fn read_chunk(&self, into: &mut [u8], at: usize) {
        let (page, within) = (at / PAGE_BYTES, at % PAGE_BYTES);
        let first = into.len().min(PAGE_BYTES - within);
        let (front, back) = into.split_at_mut(first);
        match self.seen.get(page) {
            Some(held) => front.copy_from_slice(&held[within..within + first]),
            None => front.fill(0),
        }
        if !back.is_empty() {
            self.read_chunk(back, at + first);
        }
    }
}

impl Medium {
    /// The file called `name`.
    pub fn find(&self, name: &str) -> Option<u64> {
        self.names.get(name).copied()
    }

    /// Every name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Makes an empty file called `name`.
    pub fn make(&mut self, name: &str) -> u64 {
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(inode, Inode::default());
        self.change(vec![Change::Put { name: name.to_owned(), inode }]);
        inode
    }

    /// Renames; false where there is no `from`.
    pub fn rename(&mut self, from: &str, to: &str) -> bool {
        let Some(inode) = self.find(from) else { return false };
        let (from, to) = (from.to_owned(), to.to_owned());
        self.change(vec![Change::Gone { name: from }, Change::Put { name: to, inode }]);
        true
    }

    /// Removes; false where there is no such file.
    pub fn remove(&mut self, name: &str) -> bool {
        if self.find(name).is_none() {
            return false;
        }
        self.change(vec![Change::Gone { name: name.to_owned() }]);
        true
    }

    fn change(&mut self, group: Vec<Change>) {
        for change in &group {
            apply(&mut self.names, change);
        }
        self.changes.push(group);
    }

    /// Changes of names that are all `meant` are durable.
    pub fn sync_names(&mut self, meant: impl Fn(&str) -> bool) {
        let changes = std::mem::take(&mut self.changes);
        for group in changes {
            if group.iter().all(|change| meant(change.name())) {
                group.iter().for_each(|change| apply(&mut self.names_held, change));
            } else {
                self.changes.push(group);
            }
        }
    }

    fn inode(&mut self, inode: u64) -> &mut Inode {
        self.inodes.entry(inode).or_default()
    }

    /// Cuts a file to nothing.
    pub fn empty(&mut self, inode: u64) {
        let file = self.inode(inode);
        file.length = 0;
        file.seen.clear();
        file.dirty.clear();
    }

    /// Writes into the page cache.
    pub fn write(&mut self, inode: u64, bytes: &[u8], offset: u64) {
        self.inode(inode).write(bytes, offset);
    }

    /// Sets room aside: the file has so many bytes, and reads as zeros where nothing was written.
    pub fn allocate(&mut self, inode: u64, bytes: u64) {
        let file = self.inode(inode);
        file.length = file.length.max(bytes);
    }

    /// Fills `bytes`; false where the file ends before.
    pub fn read(&self, inode: u64, bytes: &mut [u8], offset: u64) -> bool {
        self.inodes.get(&inode).is_some_and(|file| file.read(bytes, offset))
    }

    /// Bytes of a file.
    pub fn length(&self, inode: u64) -> u64 {
        self.inodes.get(&inode).map_or(0, |file| file.length)
    }

    /// Whether the page at `offset` of a file is on the device already: writing there needs no room.
    pub fn has_room_at(&self, inode: u64, end: u64) -> bool {
        self.inodes
            .get(&inode)
            .is_some_and(|file| end <= file.length_held.max(file.length))
    }

    /// All of a file reaches the device.
    pub fn sync(&mut self, inode: u64) {
        self.inode(inode).sync();
    }

    /// A sync of it fails.
    pub fn sync_fails(&mut self, inode: u64, dice: &mut Dice) {
        self.inode(inode).sync_fails(dice);
    }

    /// Its clean pages leave the page cache.
    pub fn evict(&mut self, inode: u64) {
        self.inode(inode).evict();
    }

    /// What a power cut has to decide.
    fn open(&self) -> Vec<Open> {
        let mut open = Vec::new();
        for (id, file) in &self.inodes {
            for (page, versions) in &file.dirty {
                let held = file.held.get(*page).map_or_else(zeros, Arc::clone);
                let differs = versions.iter().any(|version| **version != *held);
                let versions = if differs { versions.len() } else { 0 };
                open.push(Open::Page { inode: *id, page: *page, versions });
            }
            if file.length != file.length_held {
                open.push(Open::Length { inode: *id });
            }
        }
        open.extend((0..self.changes.len()).map(|group| Open::Names { group }));
        open
    }

    /// Decides one thing: outcome 0 is as it was before.
    fn decide(&mut self, what: Open, outcome: usize) {
        match what {
            Open::Page { inode, page, .. } => {
                let file = self.inode(inode);
                let version = outcome.checked_sub(1).and_then(|nth| file.dirty.get(&page)?.get(nth).cloned());
                if let Some(version) = version {
                    grown(&mut file.held, page + 1);
                    file.held[page] = version;
                }
            }
            Open::Length { inode } => {
                let file = self.inode(inode);
                if outcome > 0 {
                    file.length_held = file.length;
                }
            }
            Open::Names { group } => {
                if outcome > 0 {
                    let group = self.changes[group].clone();
                    for change in &group {
                        apply(&mut self.names_held, change);
                    }
                }
            }
        }
    }

    /// Power is gone: what nobody decided stays as the device had it, and nothing waits any more.
    fn power_off(&mut self) {
        self.changes.clear();
        self.names = self.names_held.clone();
        let used: Vec<u64> = self.names.values().copied().collect();
        self.inodes.retain(|inode, _| used.contains(inode));
        for file in self.inodes.values_mut() {
            file.dirty.clear();
            file.length = file.length_held;
            file.seen = file.held.clone();
            file.seen
                .truncate(usize::try_from(file.length).expect("a file fits memory").div_ceil(PAGE_BYTES));
        }
    }

    /// Overwrites a page on the device and in the cache, whatever stands there: rot.
    pub fn spoil(&mut self, name: &str, page: usize, with: impl FnOnce(&mut [u8; PAGE_BYTES])) -> bool {
        let Some(inode) = self.find(name) else { return false };
        let file = self.inode(inode);
        let pages = usize::try_from(file.length).expect("a file fits memory") / PAGE_BYTES;
        if page >= pages {
            return false;
        }
        grown(&mut file.held, page + 1);
        with(Arc::make_mut(&mut file.held[page]));
        grown(&mut file.seen, page + 1);
        file.seen[page] = Arc::clone(&file.held[page]);
        true
    }

    /// The contents of two files change places: rot of the file system's own.
    pub fn swap(&mut self, one: &str, other: &str) -> bool {
        let (Some(first), Some(second)) = (self.find(one), self.find(other)) else {
            return false;
        };
        for names in [&mut self.names, &mut self.names_held] {
            names.insert(one.to_owned(), second);
            names.insert(other.to_owned(), first);
        }
        true
    }

    /// A file's contents become those that `older` has under the same name.
    pub fn replay(&mut self, name: &str, older: &Self) -> bool {
        let (Some(now), Some(then)) = (self.find(name), older.find(name)) else {
            return false;
        };
        let Some(before) = older.inodes.get(&then) else { return false };
        let file = self.inode(now);
        file.held = before.held.clone();
        file.seen = before.held.clone();
        true
    }

    /// Bytes of the file called `name`, as the device has them.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let file = self.inodes.get(&self.find(name)?)?;
        let mut bytes = vec![0; usize::try_from(file.length).ok()?];
        file.read(&mut bytes, 0).then_some(bytes)
    }
}

fn apply(names: &mut BTreeMap<String, u64>, change: &Change) {
    match change {
        Change::Put { name, inode } => {
            names.insert(name.clone(), *inode);
        }
        Change::Gone { name } => {
            names.remove(name);
        }
    }
}

/// Every way in which power can go at this moment, over all the boards' disks together.
#[derive(Debug)]
pub struct PowerCut<'a> {
    media: &'a [Medium],
    open: Vec<(usize, Open)>,
}

impl<'a> PowerCut<'a> {
    /// Power goes for all of `media` at once.
    pub fn new(media: &'a [Medium]) -> Self {
        let open = media
            .iter()
            .enumerate()
            .flat_map(|(board, medium)| medium.open().into_iter().map(move |what| (board, what)))
            .collect();
        Self { media, open }
    }

    fn choices(what: Open) -> usize {
        match what {
            Open::Page { versions, .. } => versions + 1,
            Open::Length { .. } | Open::Names { .. } => 2,
        }
    }

    /// In how many ways whole pages, lengths and names can survive; `None` beyond `most`.
    pub fn ways(&self, most: usize) -> Option<usize> {
        self.open.iter().try_fold(1_usize, |ways, (_, what)| {
            let ways = ways.checked_mul(Self::choices(*what))?;
            (ways <= most).then_some(ways)
        })
    }

    /// The disks after way number `way`, below [`PowerCut::ways`].
    pub fn nth(&self, mut way: usize) -> Vec<Medium> {
        self.after(|what| {
            let outcome = way % Self::choices(what);
            way /= Self::choices(what);
            (outcome, None)
        })
    }

    /// The disks after a way drawn with `dice`: nothing kept, all kept, or any subset with pages torn between sectors,
    /// or written over with something that is neither old nor new.
    pub fn drawn(&self, dice: &mut Dice) -> Vec<Medium> {
        let manner = dice.below(6);
        let mut seeds = dice.fork();
        self.after(|what| {
            let choices = Self::choices(what) as u64;
            let outcome = match manner {
                0 => 0,
                1 => choices - 1,
                _ => seeds.below(choices),
            };
            let tears = manner >= 4 && matches!(what, Open::Page { .. }) && seeds.coin();
            (usize::try_from(outcome).unwrap_or(0), tears.then(|| seeds.fork()))
        })
    }

    fn after(&self, mut choose: impl FnMut(Open) -> (usize, Option<Dice>)) -> Vec<Medium> {
        let mut media = self.media.to_vec();
        for (board, what) in &self.open {
            let (outcome, tears) = choose(*what);
            media[*board].decide(*what, outcome);
            if let (Open::Page { inode, page, .. }, Some(dice)) = (*what, tears) {
                media[*board].tear(inode, page, dice);
            }
        }
        for medium in &mut media {
            medium.power_off();
        }
        media
    }
}

impl Medium {
    /// The page was being written when power went: each of its sectors is as before, as written, or neither.
    fn tear(&mut self, inode: u64, page: usize, mut dice: Dice) {
        let file = self.inode(inode);
        let Some(new) = file.dirty.get(&page).and_then(|versions| versions.last().cloned()) else {
            return;
        };
        grown(&mut file.held, page + 1);
        let held = Arc::make_mut(&mut file.held[page]);
        for (sector, bytes) in held.chunks_mut(SECTOR_BYTES).enumerate() {
            let from = sector * SECTOR_BYTES;
            match dice.below(8) {
                0..4 => {}
                4..7 => bytes.copy_from_slice(&new[from..from + SECTOR_BYTES]),
                _ => bytes.iter_mut().for_each(|byte| *byte = dice.word().to_le_bytes()[0]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn synced() -> (Medium, u64) {
        let mut medium = Medium::default();
        let inode = medium.make("a");
        medium.write(inode, &[1; 2 * PAGE_BYTES], 0);
        medium.sync(inode);
        medium.sync_names(|_| true);
        (medium, inode)
    }

    fn first(medium: &Medium, name: &str, page: usize) -> Option<u8> {
        medium.bytes(name).map(|bytes| bytes[page * PAGE_BYTES])
    }

    #[test]
    fn every_subset_of_what_waits_is_a_way_and_no_other() {
        let (mut medium, inode) = synced();
        medium.write(inode, &[2; 2 * PAGE_BYTES], 0);
        medium.rename("a", "b");
        let media = [medium];
        let cut = PowerCut::new(&media);
        assert_eq!((cut.ways(8), cut.ways(7)), (Some(8), None));
        let mut seen: Vec<_> = (0..8)
            .map(|way| {
                let after = &cut.nth(way)[0];
                let name = after.names().next().map(str::to_owned).expect("one name is left");
                (name.clone(), first(after, &name, 0), first(after, &name, 1))
            })
            .collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 8, "{seen:?}");
        assert!(
            seen.iter()
                .all(|(_, one, two)| [one, two].iter().all(|byte| matches!(byte, Some(1 | 2))))
        );
    }

    #[test]
    fn what_was_synced_survives_every_way() {
        let (mut medium, inode) = synced();
        medium.write(inode, &[2; PAGE_BYTES], 0);
        medium.sync(inode);
        medium.write(inode, &[3; PAGE_BYTES], PAGE_BYTES as u64);
        let media = [medium];
        for seed in 0..64 {
            let after = PowerCut::new(&media).drawn(&mut Dice::new(seed));
            assert_eq!(first(&after[0], "a", 0), Some(2));
        }
        let torn = (0..64).filter(|seed| {
            let after = PowerCut::new(&media).drawn(&mut Dice::new(*seed));
            let page = &after[0].bytes("a").expect("it is there")[PAGE_BYTES..];
            page.iter().any(|byte| *byte != page[0])
        });
        assert!(torn.count() > 5, "pages are torn between sectors");
    }

    #[test]
    fn a_file_without_a_synced_name_is_gone_and_one_without_a_synced_length_is_short() {
        let mut medium = Medium::default();
        let inode = medium.make("new");
        medium.write(inode, &[1; PAGE_BYTES], 0);
        medium.sync(inode);
        let media = [medium.clone()];
        assert_eq!(PowerCut::new(&media).nth(0)[0].find("new"), None);
        medium.sync_names(|_| true);
        medium.write(inode, &[1; PAGE_BYTES], PAGE_BYTES as u64);
        let media = [medium];
        let lengths: Vec<_> = (0..4)
            .map(|way| PowerCut::new(&media).nth(way)[0].bytes("new").map(|bytes| bytes.len()))
            .collect();
        assert!(lengths.contains(&Some(PAGE_BYTES)) && lengths.contains(&Some(2 * PAGE_BYTES)), "{lengths:?}");
    }

    #[test]
    fn after_a_failed_sync_the_cache_lies_until_it_is_dropped() {
        let mut lied = 0;
        for seed in 0..32 {
            let (mut medium, inode) = synced();
            medium.write(inode, &[7; PAGE_BYTES], 0);
            medium.sync_fails(inode, &mut Dice::new(seed));
            medium.sync(inode);
            let mut byte = [0];
            assert!(medium.read(inode, &mut byte, 0));
            assert_eq!(byte, [7]);
            medium.evict(inode);
            assert!(medium.read(inode, &mut byte, 0));
            lied += usize::from(byte == [1]);
        }
        assert!((4..28).contains(&lied), "{lied}");
    }
}
