//! Which records stood where damage is now, as far as what stands around it tells: a stream's sequences run without a
//! hole in its origin's journal, so what is missing between the last before the damage and the first behind it stood there, or
//! was never kept on this board.

use std::collections::BTreeMap;

use shared::ids::{Seq, Stream};
use shared::limits::{INSPECTED_HOLES_MAX, STREAMS_MAX};
use shared::ranges::{RangeSet, SeqRange};

/// What a segment holds, in its order, as far as inference needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    /// These records of this stream.
    Records(Stream, SeqRange),
    /// Damage: the finding's number.
    Hole(usize),
}

/// Adds `range` of `stream` to `spans`, joining it with what went before since the last hole.
pub(super) fn note(spans: &mut Vec<Span>, stream: Stream, range: SeqRange) {
    let since_hole = spans.iter_mut().rev().take_while(|span| matches!(span, Span::Records(..)));
    for span in since_hole {
        if let Span::Records(of, have) = span
            && *of == stream
        {
            if have.last.checked_add(1) == Some(range.first) {
                have.last = range.last;
                return;
            }
            break;
        }
    }
    spans.push(Span::Records(stream, range));
}

/// Damage whose records are looked for.
#[derive(Debug)]
struct Open {
    finding: usize,
    /// The last sequence of each stream before it, of those that were not met behind it yet.
    before: BTreeMap<Stream, Seq>,
    missing: Vec<(Stream, SeqRange)>,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    last: BTreeMap<Stream, Seq>,
    open: Vec<Open>,
}

impl Suspicion {
    pub(super) fn handle(&mut self, span: Span) {
        match span {
            Span::Records(stream, range) => self.records(stream, range),
            Span::Hole(finding) if self.open.len() < INSPECTED_HOLES_MAX => {
                self.open.push(Open { finding, before: self.last.clone(), missing: Vec::new() });
            }
            Span::Hole(_) => {}
        }
    }

    fn records(&mut self, stream: Stream, range: SeqRange) {
        for open in &mut self.open {
            let Some(before) = open.before.get_mut(&stream) else { continue };
            let next = before.saturating_add(1);
            if range.first > next {
                open.missing.push((stream, SeqRange { first: next, last: range.first - 1 }));
            }
            // What comes again from before the damage tells nothing of it.
            if range.last >= next {
                open.before.remove(&stream);
            }
        }
        if self.last.len() < STREAMS_MAX || self.last.contains_key(&stream) {
            let last = self.last.entry(stream).or_default();
            *last = range.last.max(*last);
        }
    }

    /// By finding: what is missing there and is nowhere in `held`.
    pub(super) fn finish(self, held: &BTreeMap<Stream, RangeSet>) -> BTreeMap<usize, Vec<(Stream, SeqRange)>> {
        let nothing = RangeSet::EMPTY;
        let lacking = |(stream, range): &(Stream, SeqRange)| {
            let have = held.get(stream).unwrap_or(&nothing);
            have.missing(*range)
                .into_iter()
                .map(|range| (*stream, range))
                .collect::<Vec<_>>()
        };
        self.open
            .into_iter()
            .map(|open| (open.finding, open.missing.iter().flat_map(lacking).collect()))
            .collect()
    }
}
