//! Sending before the region has said anew what it has: by what it said before, in this life of the board. The question is on its
//! way meanwhile, and its answer counts. What was sent over the way that fell and was not acknowledged may have arrived, so it waits
//! for the answer.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::ids::Stream;
use crate::limits::RANGES_MAX;
use crate::ranges::RangeSet;

/// What may go up before the region's answer.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    is_on: bool,
    /// Streams of which the region has said what it has, in this life of the board, or that came while every block of them was
    /// acknowledged to all boards.
    known: BTreeSet<Stream>,
    /// Sent over a way that fell, without a word of the region since. Of each stream so many ranges at most; what is beyond them may
    /// go up twice.
    in_doubt: BTreeMap<Stream, RangeSet>,
}

impl Ahead {
    /// The way stands or fell. Where it stands, records go ahead if that is `wanted` and the region has been heard before.
    pub(super) fn begin(&mut self, wanted: bool) {
        self.is_on = wanted && !self.known.is_empty();
    }

    /// From now on nothing goes up before its answer. Returns whether something did.
    pub(super) const fn end(&mut self) -> bool {
        core::mem::replace(&mut self.is_on, false)
    }

    /// Whether records go up although not all is answered.
    pub(super) const fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether records of `stream`, of which the answer is awaited, may go up: the region has spoken of it before, or it is this
    /// board's own, and hardly anybody else has brought it up.
    pub(super) fn may_go(&self, stream: &Stream, is_own: bool) -> bool {
        self.is_on && (is_own || self.known.contains(stream))
    }

    /// What of `stream` waits for the answer.
    pub(super) fn in_doubt(&self, stream: &Stream) -> Option<&RangeSet> {
        self.in_doubt.get(stream)
    }

    /// All was answered, so that what it has of these was heard as it came to have it.
    pub(super) fn handle_known(&mut self, held: &BTreeMap<Stream, RangeSet>) {
        self.known.extend(held.keys());
    }

    /// The way fell while these were on it.
    pub(super) fn doubt(&mut self, sent: BTreeMap<Stream, RangeSet>) {
        for (stream, ranges) in sent.into_iter().filter(|(_, ranges)| !ranges.is_empty()) {
            let in_doubt = self.in_doubt.entry(stream).or_default();
            in_doubt.extend(&ranges);
            in_doubt.truncate(RANGES_MAX);
        }
    }

    /// The region has said all that it has of `stream`. Returns whether something was held back until then.
    pub(super) fn handle_answer(&mut self, stream: Stream, is_own: bool) -> bool {
        let was_held_back = self.is_on && !self.may_go(&stream, is_own);
        self.known.insert(stream);
        self.in_doubt.remove(&stream).is_some() || was_held_back
    }

    /// Forgets streams of which nothing is held.
    pub(super) fn retain(&mut self, held: &BTreeMap<Stream, RangeSet>) {
        self.known.retain(|stream| held.contains_key(stream));
        self.in_doubt.retain(|stream, _| held.contains_key(stream));
    }
}
