//! Journals under keys: right, wrong, rotated and destroyed ones; and blocks that somebody changed.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use shared::action::{DiskDone, DiskJob};
use shared::checksum::crc32c;
use shared::config::JournalConfig;
use shared::event::Event;
use shared::ids::{BoardId, Class, Epoch, Name, Origin, SegmentId, Stream, Token};
use shared::journal::Journal;
use shared::journal::footer::{self, footer_at};
use shared::journal::format::{Found, HEADER_BYTES, Header, Place, decode, encode};
use shared::limits::{KEY_GENERATIONS_MAX, PAGE_BYTES};
use shared::outbox::Outbox;
use shared::time::Instant;
use shared::wire::peer::Run;

use super::*;
use crate::disk::DiskError;
use crate::disk::system::System;
use crate::disk::volume::{Found as Start, Volume};
use crate::secrets::SecretError;

const SEGMENT_BYTES: u32 = 16 * PAGE_BYTES as u32;

struct Board {
    dir: PathBuf,
    key: PathBuf,
}

impl Board {
    /// A board with an empty directory and a ring of one key.
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let base = std::env::temp_dir().join(format!("roadstead-keys-{}-{number}", std::process::id()));
        let dir = base.join("data");
        fs::create_dir_all(&dir).unwrap();
        let board = Self { dir, key: base.join("journal.key") };
        board.write(&KeyRing::new().unwrap());
        board
    }

    fn ring(&self) -> KeyRing {
        KeyRing::read(&self.key).unwrap()
    }

    fn write(&self, ring: &KeyRing) {
        fs::write(&self.key, ring.to_text()).unwrap();
        fs::set_permissions(&self.key, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn change(&self, with: impl FnOnce(&mut KeyRing)) {
        let mut ring = self.ring();
        with(&mut ring);
        self.write(&ring);
    }

    fn start_with(&self, keys: Option<Keys>, nonce: u64) -> Result<Start, DiskError> {
        let site = Name::try_from("north").unwrap();
        let owner = (&site, BoardId::new(1).unwrap());
        Volume::open_with(Arc::new(System), &self.dir, owner, nonce, keys)
    }

    fn start(&self, nonce: u64) -> Writer {
        let found = self.start_with(Some(Keys::load(&self.key).unwrap()), nonce).unwrap();
        Writer::new(found)
    }

    fn segment(&self, segment: u64) -> PathBuf {
        self.dir.join(format!("{segment:016x}.seg"))
    }

    /// Everything below the data directory.
    fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(&self.dir).unwrap().map(|entry| entry.unwrap().path());
        let mut contents: Vec<_> = entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        contents.sort();
        contents
    }

    /// The headers of all blocks, as they stand on disk.
    fn headers(&self) -> Vec<Header> {
        let mut headers = Vec::new();
        for (path, bytes) in self
            .contents()
            .iter()
            .filter(|(path, _)| path.extension().is_some_and(|e| e == "seg"))
        {
            assert_eq!(bytes.len(), SEGMENT_BYTES as usize, "{}", path.display());
            headers.extend(bytes.chunks(PAGE_BYTES).filter_map(Header::read));
        }
        headers
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.dir.parent().unwrap());
    }
}

struct Writer {
    found: Start,
    segment: u64,
    offset: u32,
    number: u64,
    previous: u32,
}

impl Writer {
    fn new(found: Start) -> Self {
        let last = found.recovered.segments.keys().next_back().map_or(0, |last| last.0);
        let mut writer = Self { found, segment: last, offset: 0, number: 0, previous: 0 };
        writer.next_segment(None);
        writer
    }

    fn next_segment(&mut self, from: Option<u64>) {
        self.segment += 1;
        self.offset = 0;
        let (segment, from) = (SegmentId(self.segment), from.map(SegmentId));
        self.found
            .volume
            .perform(DiskJob::Prepare { segment, from, bytes: SEGMENT_BYTES, written: false })
            .unwrap();
    }

    /// Writes one block; returns it as the node made it.
    fn append(&mut self, first: u64) -> Vec<u8> {
        let epoch = self.found.epoch;
        let segment = SegmentId(self.segment);
        let (offset, number, previous) = (self.offset, self.number, self.previous);
        let (bytes, checksum) =
            encode(&Place { segment, offset, epoch, number, known: number, previous }, &[run(first)]);
        let append = DiskJob::Append { token: Token(1), segment, offset, bytes: Bytes::from(bytes.clone()) };
        assert_eq!(self.found.volume.perform(append).unwrap(), Some(DiskDone::Appended { token: Token(1) }));
        self.offset += u32::try_from(bytes.len()).unwrap();
        self.number += 1;
        self.previous = checksum;
        bytes
    }

    fn read(&mut self, segment: u64, offset: u32, length: u32) -> Vec<u8> {
        let segment = SegmentId(segment);
        let done = self
            .found
            .volume
            .perform(DiskJob::Read { token: Token(2), segment, offset, length });
        let Some(DiskDone::Read { bytes, .. }) = done.unwrap() else {
            panic!("it is read")
        };
        bytes.to_vec()
    }
}

const SECRET: &[u8] = b"plate W-4711 at gantry 9";

fn stream() -> Stream {
    let origin = Origin { board: BoardId::new(1).unwrap(), epoch: Epoch { boot: 1, nonce: 7 } };
    Stream { origin, class: Class::Event }
}

fn run(first: u64) -> Run {
    Run::new(stream(), first, 1, Bytes::from_static(SECRET))
}

fn runs_at(bytes: &[u8], segment: u64, offset: u32) -> Vec<Run> {
    match decode(SegmentId(segment), offset, bytes) {
        Found::Block { runs, .. } => runs,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_on_disk_says_nothing_and_what_is_read_is_what_was_written() {
    let board = Board::new();
    {
        let mut writer = board.start(7);
        writer.append(1);
        writer.append(2);
        let both = writer.read(1, 0, 2 * 4096);
        assert_eq!(runs_at(&both, 1, 0), [run(1)]);
        assert_eq!(runs_at(&both[4096..], 1, 4096), [run(2)]);
        let verify = DiskJob::Verify { token: Token(3), segment: SegmentId(1), offset: 0, length: 4096 };
        let Some(DiskDone::Read { bytes, .. }) = writer.found.volume.perform(verify).unwrap() else {
            panic!("it is read");
        };
        assert_eq!(runs_at(&bytes, 1, 0), [run(1)], "what is verified is opened, too");
        // A read that ends within a block leaves its front as it is.
        assert_eq!(decode(SegmentId(1), 4096, &writer.read(1, 4096, 64)), Found::Nothing);
    }
    for (path, bytes) in board.contents() {
        assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET), "{} says it", path.display());
    }
    let headers = board.headers();
    assert!(headers.iter().all(Header::is_sealed));
    assert_eq!(
        (headers[1].place.previous, headers[1].place.number),
        (headers[0].checksum, 1),
        "the chain is that on disk"
    );
    let writer = board.start(8);
    let recovered = &writer.found.recovered;
    assert_eq!((recovered.events.as_slice(), recovered.sealed.len()), (&[][..], 0));
    assert_eq!(recovered.segments[&SegmentId(1)].streams[&stream()].ranges.last(), Some(2));
    assert_eq!(recovered.segments[&SegmentId(1)].end, 2 * 4096);
}

#[test]
fn a_plain_journal_can_become_encrypted_and_is_read_on() {
    let board = Board::new();
    let mut writer = Writer::new(board.start_with(None, 7).unwrap());
    writer.append(1);
    drop(writer);
    let mut writer = board.start(8);
    assert_eq!(writer.found.recovered.segments[&SegmentId(1)].streams[&stream()].ranges.last(), Some(1));
    writer.append(2);
    assert_eq!(runs_at(&writer.read(1, 0, 4096), 1, 0), [run(1)]);
    assert_eq!(board.headers().iter().filter(|header| header.is_sealed()).count(), 1);
}

#[test]
fn a_wrong_or_missing_key_is_said_and_changes_nothing() {
    let board = Board::new();
    let mut writer = board.start(7);
    writer.append(1);
    drop(writer);
    fs::write(board.dir.join("000000000000000f.tmp"), b"half made").unwrap();
    let before = board.contents();
    let refusal = board.start_with(None, 8).unwrap_err();
    assert!(matches!(refusal, DiskError::Encrypted { .. }), "{refusal}");
    let right = board.ring();
    board.write(&KeyRing::new().unwrap());
    let refusal = board.start_with(Some(Keys::load(&board.key).unwrap()), 8).unwrap_err();
    assert!(matches!(refusal, DiskError::WrongKey { .. }), "{refusal}");
    assert!(refusal.to_string().contains(&right.newest().unwrap().name()), "{refusal}");
    assert_eq!(board.contents(), before);
    fs::set_permissions(&board.key, fs::Permissions::from_mode(0o644)).unwrap();
    let refusal = Keys::load(&board.key).unwrap_err();
    assert!(matches!(refusal, KeyError::File(SecretError::Exposed { mode: 0o644, .. })), "{refusal:?}");
    fs::remove_file(&board.key).unwrap();
    assert!(matches!(Keys::load(&board.key), Err(KeyError::File(SecretError::Read { .. }))));
    board.write(&right);
    assert_eq!(
        board.start(8).found.recovered.segments[&SegmentId(1)].streams[&stream()]
            .ranges
            .last(),
        Some(1)
    );
}

#[test]
fn a_new_generation_seals_new_segments_and_the_old_one_is_still_read() {
    let board = Board::new();
    let mut writer = board.start(7);
    writer.append(1);
    board.change(|ring| assert_eq!(ring.rotate().unwrap(), 2));
    writer.append(2);
    writer.next_segment(None);
    writer.append(3);
    let used: Vec<u32> = board
        .headers()
        .iter()
        .map(|header| board.ring().find(header.key).unwrap().number)
        .collect();
    assert_eq!(used, [1, 1, 2], "the segment that was begun goes on with its own");
    assert_eq!(runs_at(&writer.read(1, 4096, 4096), 1, 4096), [run(2)]);
    assert_eq!(runs_at(&writer.read(2, 0, 4096), 2, 0), [run(3)]);
    drop(writer);
    assert_eq!(board.start(8).found.recovered.segments.len(), 2);
}

#[test]
fn what_a_destroyed_generation_sealed_is_gone_and_the_rest_is_there() {
    let board = Board::new();
    let mut writer = board.start(7);
    writer.append(1);
    board.change(|ring| {
        ring.rotate().unwrap();
    });
    writer.next_segment(None);
    writer.append(2);
    drop(writer);
    board.change(|ring| assert!(ring.destroy(1) && !ring.destroy(1) && !ring.destroy(9)));
    let text = fs::read_to_string(&board.key).unwrap();
    assert!(text.contains("\n1 destroyed "), "{text}");
    let writer = board.start(8);
    let recovered = &writer.found.recovered;
    assert!(!recovered.segments[&SegmentId(1)].streams.contains_key(&stream()));
    assert_eq!(recovered.segments[&SegmentId(2)].streams[&stream()].ranges.last(), Some(2));
    assert_eq!(recovered.sealed.len(), 1);
}

/// A start reads nothing but the footer of a full segment: it must say what the start cannot see.
#[test]
fn a_footer_names_the_key_of_its_blocks() {
    let board = Board::new();
    let config = JournalConfig { segment_bytes: SEGMENT_BYTES, ..JournalConfig::default() };
    let mut found = board.start_with(Some(Keys::load(&board.key).unwrap()), 7).unwrap();
    let mut journal = Journal::new(config, found.epoch, found.recovered);
    let mut out = Outbox::default();
    journal.prepare(Instant::ZERO, &mut out);
    let long = Bytes::from(vec![7; 20_000]);
    for first in 1..=4 {
        while let Some(job) = out.pop() {
            match found.volume.perform(job).unwrap() {
                Some(DiskDone::Prepared { segment }) => journal.handle_prepared(segment, Instant::ZERO, &mut out),
                Some(DiskDone::Appended { token }) => drop(journal.handle_appended(token)),
                _ => {}
            }
        }
        journal.append(&[Run::new(stream(), first, 1, long.clone())], Instant::ZERO, &mut out);
    }
    while let Some(job) = out.pop() {
        found.volume.perform(job).unwrap();
    }
    drop(found.volume);
    let footer_of = |segment: u64| {
        let bytes = fs::read(board.segment(segment)).unwrap();
        let at = footer_at(SEGMENT_BYTES).unwrap() as usize;
        bytes[at..].to_vec()
    };
    let id = board.ring().newest().unwrap().id;
    assert_eq!(footer::key(&footer_of(1)).map(|key| key & !1), Some(id), "the first segment is full");
    // Only footed segments are left, so that no block is read at the start.
    for segment in 2..=4 {
        if board.segment(segment).exists() && footer::key(&footer_of(segment)).is_none() {
            fs::remove_file(board.segment(segment)).unwrap();
        }
    }
    let right = board.ring();
    let recovered = board.start_with(Some(Keys::load(&board.key).unwrap()), 8).unwrap().recovered;
    assert!(recovered.segments[&SegmentId(1)].has_footer);
    let held = recovered.segments[&SegmentId(1)].streams[&stream()].ranges.count();
    assert!(held > 0);
    assert!(matches!(board.start_with(None, 9), Err(DiskError::Encrypted { .. })));
    board.write(&KeyRing::new().unwrap());
    let refusal = board.start_with(Some(Keys::load(&board.key).unwrap()), 9).unwrap_err();
    assert!(matches!(refusal, DiskError::WrongKey { .. }), "{refusal}");
    board.write(&right);
    board.change(|ring| {
        ring.rotate().unwrap();
        ring.destroy(1);
    });
    let recovered = board.start_with(Some(Keys::load(&board.key).unwrap()), 9).unwrap().recovered;
    assert!(recovered.segments[&SegmentId(1)].streams.is_empty(), "what cannot be read is not held");
    assert_eq!(recovered.sealed.len(), 1);
}

#[test]
fn a_block_that_somebody_changed_is_refused_although_its_checksums_hold() {
    let board = Board::new();
    let mut writer = board.start(7);
    let plain = writer.append(1);
    writer.append(2);
    let tamper = |offset: usize, with: &mut dyn FnMut(&mut [u8])| {
        let mut bytes = fs::read(board.segment(1)).unwrap();
        let header = Header::read(&bytes[offset..]).unwrap();
        let block = &mut bytes[offset..offset + HEADER_BYTES + header.payload_bytes];
        with(block);
        let payload = crc32c(&block[HEADER_BYTES..]);
        block[88..92].copy_from_slice(&payload.to_le_bytes());
        let front = crc32c(&block[..92]);
        block[92..96].copy_from_slice(&front.to_le_bytes());
        let file = fs::OpenOptions::new().write(true).open(board.segment(1)).unwrap();
        file.write_all_at(block, offset as u64).unwrap();
    };
    let before = fs::read(board.segment(1)).unwrap();
    // A bit of the payload, of the tag, and of what the header says.
    for at in [HEADER_BYTES + 3, 75, 40] {
        tamper(0, &mut |block| block[at] ^= 1);
        let read = writer.read(1, 0, 2 * 4096);
        assert!(!matches!(decode(SegmentId(1), 0, &read), Found::Block { .. } | Found::Sealed(_)), "byte {at}");
        assert_eq!(runs_at(&read[4096..], 1, 4096), [run(2)], "its neighbour is well");
        fs::write(board.segment(1), &before).unwrap();
    }
    // The last block: no torn end.
    tamper(4096, &mut |block| block[HEADER_BYTES] ^= 1);
    drop(writer);
    let found = board.start_with(Some(Keys::load(&board.key).unwrap()), 8).unwrap();
    assert_eq!(found.recovered.events, [Event::JournalDamaged { segment: SegmentId(1), offset: 4096 }]);
    assert_eq!(found.recovered.segments[&SegmentId(1)].streams[&stream()].ranges.last(), Some(1));
    // What the node handed over is no block of an encrypted journal: whoever puts it there is not believed silently.
    assert!(Header::read(&plain).is_some_and(|header| !header.is_sealed()));
}

/// A key of a segment is made from generation, cipher, segment and life; the nonce is the block's number. So no two blocks
/// that were ever written may agree in all of them: not over restarts, recycled files and rotation.
#[test]
fn no_nonce_meets_the_same_key_twice() {
    let board = Board::new();
    let mut seen = BTreeSet::new();
    let mut ciphertexts = BTreeSet::new();
    for nonce in 0..6 {
        let mut writer = board.start(nonce);
        for round in 0..4 {
            for first in 1..=5 {
                // The same records again and again.
                writer.append(first);
            }
            for (path, bytes) in board.contents() {
                if path != board.segment(writer.segment) {
                    continue;
                }
                for page in bytes.chunks(PAGE_BYTES) {
                    let Some(header) = Header::read(page).filter(|header| header.place.segment.0 == writer.segment)
                    else {
                        continue;
                    };
                    let place = header.place;
                    assert!(header.is_sealed());
                    let whose = (header.key, place.segment, place.epoch.boot, place.epoch.nonce, place.number);
                    assert!(seen.insert(whose), "{whose:?} again");
                    assert!(ciphertexts.insert(page[HEADER_BYTES..HEADER_BYTES + header.payload_bytes].to_vec()));
                }
            }
            if round == 1 {
                board.change(|ring| {
                    ring.rotate().unwrap();
                });
            }
            let freed = writer.segment;
            writer.next_segment((round % 2 == 0).then_some(freed));
        }
    }
    assert_eq!(seen.len(), 6 * 4 * 5);
}

#[test]
fn rings_are_read_as_they_are_written_and_bad_ones_refused_with_their_line() {
    let mut ring = KeyRing::new().unwrap();
    ring.rotate().unwrap();
    ring.destroy(1);
    assert_eq!(KeyRing::parse(ring.to_text().as_bytes()), Ok(ring.clone()));
    assert!(!format!("{ring:?}").contains(ring.to_text().lines().last().unwrap().split(' ').nth(1).unwrap()));
    let key = "ab".repeat(32);
    for (text, fault) in [
        (String::new(), KeyFault::Nothing),
        (format!("1 {key}\n2 destroyed 00000001\n"), KeyFault::Nothing),
        (format!("# a\n1 {}\n", &key[1..]), KeyFault::Line(2)),
        (format!("1 {}\n", key.replace("ab", "xy")), KeyFault::Line(1)),
        (format!("0 {key}\n"), KeyFault::Line(1)),
        (format!("1 {key} more\n"), KeyFault::Line(1)),
        (format!("1 destroyed 80000000\n2 {key}"), KeyFault::Line(1)),
        (format!("2 {key}\n1 {key}\n"), KeyFault::Order(2)),
    ] {
        assert_eq!(KeyRing::parse(text.as_bytes()), Err(fault), "{text}");
    }
    assert_eq!(KeyRing::parse(b"1 \xff"), Err(KeyFault::Line(1)));
    let full: String = (1..=KEY_GENERATIONS_MAX).map(|number| format!("{number} {key}\n")).collect();
    let mut ring = KeyRing::parse(full.as_bytes()).unwrap();
    assert!(ring.rotate().is_err());
    assert!(ring.destroy(1));
    assert_eq!(ring.rotate().unwrap(), KEY_GENERATIONS_MAX as u32 + 1);
    let past = full + &format!("{} {key}\n", KEY_GENERATIONS_MAX + 1);
    assert_eq!(KeyRing::parse(past.as_bytes()), Err(KeyFault::TooMany(KEY_GENERATIONS_MAX + 1)));
}
