//! The reference model: what was published, acknowledged, numbered and stored, and the promises over it. Knows
//! nothing of how the code under test works; every check names the promise it stands for (`docs/promises.md`).

use std::collections::{BTreeMap, BTreeSet};

use shared::ids::{BoardId, Class, Seq, Stream, Term};
use shared::ranges::{RangeSet, SeqRange};
use shared::record::{Kind, Reading};
use shared::region::ledger::gap;
use shared::wire::peer::Run;

use crate::board::Life;
use crate::clock::Moment;
use crate::mark::Mark;
use crate::region::Place;
use crate::store::Store;
use crate::tally::Tally;

/// An acknowledgement at the moment at which it leaves a board.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnswerLeft {
    pub(crate) mark: Mark,
    pub(crate) at: Moment,
    /// Boards on whose device the reading is, whole.
    pub(crate) holders: usize,
    /// Boards that live, as the board believes and has visibly said that they are too few; `None` where it promises k.
    pub(crate) degraded: Option<usize>,
}

/// What became of a reading.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    acknowledged: Option<Moment>,
    /// It was acknowledged on fewer than k boards, and the board had said so.
    degraded: bool,
    /// It was on boards alone that are now lost for ever.
    excused: bool,
    sent: u32,
    /// Times it was sent with an answer asked for, and answers that left: a board that has it may be about to answer.
    asked: u32,
    answered: u32,
}

/// The model.
#[derive(Clone, Debug)]
pub struct Model {
    copies: usize,
    fates: BTreeMap<Mark, Fate>,
    /// Which reading has which number, as the origin's runs said on their way.
    numbered: BTreeMap<Stream, BTreeMap<Seq, Mark>>,
    /// Runs seen on their way, by first sequence: how many and which checksum.
    runs: BTreeMap<(Stream, Seq), (u32, u32)>,
    highest_session: BTreeMap<Place, Term>,
    highest_lease: (Term, (BoardId, Life)),
}

impl Model {
    /// A world in which nothing was published yet; records are kept on `copies` boards.
    pub(crate) fn new(copies: usize) -> Self {
        Self {
            copies,
            fates: BTreeMap::new(),
            numbered: BTreeMap::new(),
            runs: BTreeMap::new(),
            highest_session: BTreeMap::new(),
            highest_lease: (Term::ZERO, (BoardId::new(1).expect("there is a board 1"), Life::default())),
        }
    }

    /// A publisher sends a reading, for the first time or again; `asks`: for an answer.
    pub(crate) fn sent(&mut self, mark: Mark, asks: bool) {
        let fate = self.fates.entry(mark).or_default();
        fate.sent += 1;
        fate.asked += u32::from(asks);
    }

    /// Whether a board may be about to answer `mark`, perhaps not for the first time.
    pub(crate) fn is_asked_for(&self, mark: Mark) -> bool {
        self.fates.get(&mark).is_some_and(|fate| fate.asked > fate.answered)
    }

    /// Promise 1: what is acknowledged is durable on k boards, on as many as visibly promised, or in the region.
    pub(crate) fn answer_leaves(&mut self, left: AnswerLeft, is_stored: bool) -> Result<(), String> {
        let AnswerLeft { mark, at, holders, degraded } = left;
        let promised = degraded.unwrap_or(self.copies).min(self.copies);
        let fate = self.fates.entry(mark).or_default();
        if fate.acknowledged.is_none() || (holders >= self.copies || is_stored) {
            fate.degraded = holders < self.copies && !is_stored;
        }
        fate.acknowledged.get_or_insert(at);
        fate.answered += 1;
        if holders >= promised.max(1) || is_stored {
            return Ok(());
        }
        Err(format!("{mark} is acknowledged, is durable on {holders} boards, and {promised} were promised"))
    }

    /// Promise 2: a record never changes once it has its number.
    pub(crate) fn run_travels(&mut self, from: BoardId, run: &Run) -> Result<(), String> {
        let (stream, first) = (run.stream, run.first);
        let shape = (run.count, run.crc);
        match self.runs.insert((stream, first), shape) {
            Some(have) if have == shape => return Ok(()),
            Some(have) => {
                return Err(format!("{from} sends {stream} from {first} as {shape:?}; it was {have:?} before"));
            }
            None => {}
        }
        let readings = Reading::decode_all(&run.bytes, run.count);
        let Ok(readings) = readings else {
            return Err(format!("{from} sends a run of {stream} that does not read"));
        };
        for (seq, reading) in (first..).zip(readings) {
            if reading.kind == Kind::Gap {
                if gap(&reading).is_err() {
                    return Err(format!("{from} sends a gap record that does not read"));
                }
                continue;
            }
            if let Some(mark) = Mark::read(reading.payload) {
                self.number(stream, seq, mark)?;
            }
        }
        Ok(())
    }

    fn number(&mut self, stream: Stream, seq: Seq, mark: Mark) -> Result<(), String> {
        match self.numbered.entry(stream).or_default().insert(seq, mark) {
            Some(have) if have != mark => Err(format!("sequence {seq} of {stream} was {have} and is {mark}")),
            Some(_) | None => Ok(()),
        }
    }

    /// Promise 2: what is stored is what was numbered, and was published.
    pub(crate) fn record_stored(&mut self, stream: Stream, seq: Seq, mark: Option<Mark>) -> Result<(), String> {
        let Some(mark) = mark else { return Ok(()) };
        if !self.fates.contains_key(&mark) {
            return Err(format!("{mark} is stored and was never published"));
        }
        self.number(stream, seq, mark)
    }

    /// Promise 4: the region at `place` never welcomes a lower term than before. Each region knows its own sessions alone.
    pub(crate) fn session_opened(&mut self, place: Place, board: BoardId, term: Term) -> Result<(), String> {
        let highest = self.highest_session.entry(place).or_default();
        if term < *highest {
            return Err(format!("the region welcomes {board} in term {term}, after term {highest}"));
        }
        *highest = term;
        Ok(())
    }

    /// Promise 4: terms only rise, and none is used by two lives. True where the leadership is new.
    pub(crate) fn leads(&mut self, term: Term, life: (BoardId, Life)) -> Result<bool, String> {
        let (highest, holder) = self.highest_lease;
        if term > highest {
            self.highest_lease = (term, life);
            return Ok(true);
        }
        if (term, life) == (highest, holder) {
            return Ok(false);
        }
        Err(format!("{} leads in term {term}, after {} led in term {highest}", life.0, holder.0))
    }

    /// Whether a board has acknowledged `mark`.
    pub(crate) fn is_acknowledged(&self, mark: Mark) -> bool {
        self.fates.get(&mark).is_some_and(|fate| fate.acknowledged.is_some())
    }

    /// A board was lost for ever. Of what was acknowledged on fewer than k boards, visibly, that is excused of which
    /// no board that is left holds a copy.
    pub(crate) fn board_lost(&mut self, is_left: impl Fn(Mark) -> bool) {
        for (mark, fate) in &mut self.fates {
            fate.excused |= fate.acknowledged.is_some() && fate.degraded && !is_left(*mark);
        }
    }

    /// Everything that was acknowledged.
    pub(crate) fn acknowledged(&self) -> impl Iterator<Item = Mark> {
        self.fates
            .iter()
            .filter(|(_, fate)| fate.acknowledged.is_some())
            .map(|(mark, _)| *mark)
    }

    /// The numbers that the reading was seen under.
    pub(crate) fn addresses(&self, mark: Mark) -> impl Iterator<Item = (Stream, Seq)> {
        let found = move |(stream, marks): (&Stream, &BTreeMap<Seq, Mark>)| {
            let seqs = marks.iter().filter(|(_, found)| **found == mark).map(|(seq, _)| *seq);
            let stream = *stream;
            seqs.map(|seq| (stream, seq)).collect::<Vec<_>>()
        };
        self.numbered.iter().flat_map(found)
    }

    /// Excuses what was acknowledged and `is_lost`; how many that are.
    pub(crate) fn pardon(&mut self, is_lost: impl Fn(Mark) -> bool) -> usize {
        let lost = self
            .fates
            .iter_mut()
            .filter(|(mark, fate)| fate.acknowledged.is_some() && is_lost(**mark));
        lost.map(|(_, fate)| fate.excused = true).count()
    }

    /// Whether losing one holder of `mark` loses what was promised: it was acknowledged on k boards, and `is_left` says
    /// that nobody else has it.
    pub(crate) fn needs(&self, mark: Mark, is_left: impl Fn(Mark) -> bool) -> bool {
        self.fates
            .get(&mark)
            .is_some_and(|fate| fate.acknowledged.is_some() && !fate.degraded && !is_left(mark))
    }

    /// Promise 3: a record is called gone only where nobody has it.
    pub(crate) fn called_gone(
        &self,
        stream: &Stream,
        range: SeqRange,
        is_there: impl Fn(Mark) -> Option<String>,
    ) -> Result<(), String> {
        let numbered = self
            .numbered
            .get(stream)
            .into_iter()
            .flat_map(|marks| marks.range(range.first..=range.last));
        for (seq, mark) in numbered {
            // A reading that was sent again may be there under its other number.
            if self.addresses(*mark).count() > 1 {
                continue;
            }
            if let Some(place) = is_there(*mark) {
                return Err(format!("{seq} of {stream}, {mark}, is called gone and is {place}"));
            }
        }
        Ok(())
    }

    /// Promise 1 at rest: what a board claims to hold it holds.
    pub(crate) fn claims(&self, held: &BTreeMap<Stream, RangeSet>, has: impl Fn(Mark) -> bool) -> Result<(), String> {
        for (stream, ranges) in held {
            let Some(marks) = self.numbered.get(stream) else { continue };
            for range in ranges.ranges() {
                let lacks = marks.range(range.first..=range.last).find(|(_, mark)| !has(**mark));
                if let Some((seq, mark)) = lacks {
                    return Err(format!("{seq} of {stream}, {mark}, which is not readable there"));
                }
            }
        }
        Ok(())
    }

    /// Acknowledged readings that are neither in `store` nor declared shed, less those that were excused.
    pub(crate) fn missing(&self, store: &Store) -> Vec<Mark> {
        let absent: Vec<Mark> = self
            .fates
            .iter()
            .filter(|(_, fate)| fate.acknowledged.is_some() && !fate.excused)
            .filter(|(mark, _)| store.rows_of(**mark) == 0)
            .map(|(mark, _)| *mark)
            .collect();
        if absent.is_empty() {
            return absent;
        }
        let shed = self.shed(store);
        absent.into_iter().filter(|mark| !shed.contains(mark)).collect()
    }

    /// Whether a gap record in `store` stands for the reading.
    pub(crate) fn is_shed(&self, mark: Mark, store: &Store) -> bool {
        self.addresses(mark).any(|(stream, seq)| store.is_shed(&stream, seq))
    }

    /// Readings that a gap record in `store` stands for.
    fn shed(&self, store: &Store) -> BTreeSet<Mark> {
        let numbered = self.numbered.iter().flat_map(|(stream, marks)| {
            let of = move |(seq, mark): (&Seq, &Mark)| store.is_shed(stream, *seq).then_some(*mark);
            marks.iter().filter_map(of)
        });
        numbered.collect()
    }

    /// Promise 3: alarms are never shed, whatever class the records were taken in as.
    pub(crate) fn shed_alarm(&self, store: &Store, is_stored: impl Fn(Mark) -> bool) -> Option<String> {
        let made_room = self.numbered.iter().flat_map(|(stream, marks)| {
            let of = move |(seq, mark): (&Seq, &Mark)| {
                let is_shed = mark.class() == Class::Alarm && store.is_shed(stream, *seq);
                (is_shed && store.made_room(stream, *seq)).then_some(*mark)
            };
            marks.iter().filter_map(of)
        });
        let alarm = made_room.into_iter().find(|mark| !is_stored(*mark))?;
        Some(format!("{alarm}, an alarm, was shed"))
    }

    /// Promise 2 at the end: within a stream a publisher's readings are numbered, for the first time, in the order of
    /// publishing; whether what was numbered first is stored or was shed.
    pub(crate) fn disorder(&self) -> Option<String> {
        for (stream, marks) in &self.numbered {
            let mut last: BTreeMap<u8, Mark> = BTreeMap::new();
            let mut seen = BTreeSet::new();
            for (seq, mark) in marks {
                if !seen.insert(mark) {
                    continue;
                }
                if let Some(before) = last.insert(mark.publisher, *mark).filter(|before| before > mark) {
                    return Some(format!("{mark} at {seq} of {stream} comes after {before}"));
                }
            }
        }
        None
    }

    /// Adds what the model knows to `tally`.
    pub(crate) fn count(&self, store: &Store, tally: &mut Tally) {
        tally.published = self.fates.len() as u64;
        tally.sent_again = self.fates.values().map(|fate| u64::from(fate.sent.saturating_sub(1))).sum();
        tally.acknowledged = self.fates.values().filter(|fate| fate.acknowledged.is_some()).count() as u64;
        tally.degraded = self.fates.values().filter(|fate| fate.degraded).count() as u64;
        tally.rows = store.rows() as u64;
        tally.shed = store.shed_in_all();
        tally.duplicates_met = store.duplicates;
    }
}
