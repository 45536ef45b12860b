//! The fuzz targets on stable: over their committed corpora, over mutations of these, and over bytes drawn by seed.

#[allow(unreachable_pub, reason = "it is a crate of its own where the fuzzer builds it")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::path::Path;

use tests::dice::Dice;

/// Mutations tried of each target.
const MUTATIONS: u64 = 3_000;
/// Longest bytes that are drawn.
const BYTES_MAX: u64 = 4_096;

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
