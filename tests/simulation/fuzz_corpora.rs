//! The fuzz targets on stable: over their committed corpora, over mutations of these, and over bytes drawn by seed.

#[allow(unreachable_pub, reason = "it is a crate of its own where the fuzzer builds it")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use shared::limits::FRAME_BYTES_MAX;
use shared::wire::peer::PeerMessage;
use tests::dice::Dice;

/// Mutations tried of each target.
const MUTATIONS: u64 = 3_000;
/// Longest bytes that are drawn.
const BYTES_MAX: u64 = 4_096;
/// The longest message is read within so long, on a machine that does other things too: it takes some milliseconds.
const READ_WITHIN: Duration = Duration::from_secs(5);

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).expect("every target has a corpus");
    entries.flatten().filter_map(|entry| fs::read(entry.path()).ok()).collect()
}

fn drawn(dice: &mut Dice) -> Vec<u8> {
    let length = dice.below(BYTES_MAX);
    // Small numbers lead further into a script than large ones.
    let small = dice.coin();
    (0..length)
        .map(|_| if small { dice.below(4) as u8 } else { dice.word() as u8 })
        .collect()
}

fn mutated(corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let one = |dice: &mut Dice| corpus[usize::try_from(dice.below(corpus.len() as u64)).unwrap_or(0)].clone();
    let mut bytes = one(dice);
    for _ in 0..dice.between(1, 6) {
        let at = usize::try_from(dice.below(bytes.len() as u64 + 1)).unwrap_or(0);
        match dice.below(4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, dice.word() as u8),
            2 => bytes.extend(one(dice).iter().skip(at)),
            _ => bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << dice.below(8)),
        }
    }
    bytes
}

fn hold(name: &str, target: fn(&[u8])) {
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "{name} has a corpus");
    corpus.iter().for_each(|bytes| target(bytes));
    let mut dice = Dice::new(1);
    for _ in 0..MUTATIONS {
        target(&mutated(&corpus, &mut dice));
        target(&drawn(&mut dice));
    }
}

#[test]
fn commit_blocks_of_any_bytes() {
    hold("commit_block", targets::commit_block);
}

#[test]
fn segments_of_any_bytes() {
    hold("segment", targets::segment);
}

#[test]
fn journals_of_any_bytes() {
    hold("recovery", targets::recovery);
}

#[test]
fn runs_of_any_bytes() {
    hold("run", targets::run);
}

#[test]
fn sealed_blocks_of_any_bytes() {
    hold("block", targets::block);
}

#[test]
fn messages_between_boards_of_any_content() {
    hold("peer", targets::peer);
}

#[test]
fn datagrams_of_any_bytes() {
    hold("control", targets::control);
}

#[test]
fn signs_of_life_of_any_content() {
    hold("heartbeat", targets::heartbeat);
}

#[test]
fn votes_of_any_content() {
    hold("election", targets::election);
}

#[test]
fn duties_of_any_content() {
    hold("duty", targets::duty);
}

#[test]
fn obituaries_of_any_bytes() {
    hold("obituary", targets::obituary);
}

#[test]
fn messages_to_the_region_of_any_content() {
    hold("to_region", targets::to_region);
}

#[test]
fn messages_from_the_region_of_any_content() {
    hold("from_region", targets::from_region);
}

/// A frame of the longest kind that holds as many ranges as it can, each lower than the one before.
#[test]
fn a_frame_full_of_falling_ranges_is_read_at_once() {
    const RANGES: u64 = 300_000;
    let stream = (1_u8, 1_u32, 1_u64, 1_u8);
    let falling: Vec<(u64, u64)> = (0..RANGES).rev().map(|nth| (1 + 2 * nth, 1 + 2 * nth)).collect();
    // A `PeerMessage::Coverage` with one line, as postcard writes it.
    let body = postcard::to_allocvec(&(7_u8, vec![(stream, falling, true)])).expect("a Vec takes every message");
    assert!(body.len() < FRAME_BYTES_MAX);
    let began = Instant::now();
    let read = postcard::from_bytes(&body).expect("it is a message");
    let PeerMessage::Coverage(lines) = read else {
        panic!("{read:?} is no coverage")
    };
    assert_eq!(lines[0].ranges.count(), RANGES);
    assert!(began.elapsed() < READ_WITHIN, "it took {:?}", began.elapsed());
}
