//! Holds what boards find after power was cut against the reference: nothing acknowledged is lost, nothing durable is
//! missing without a word, nothing is served that was never written, a cut is not called damage nor damage a cut, and no
//! start fails or panics.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use shared::event::Event;
use shared::ids::Stream;
use shared::ranges::RangeSet;
use shared::record::Reading;

use crate::crash::ledger::{Entry, Ledger, entry};
use crate::crash::lie::Lie;
use crate::crash::mains::{Frame, Shared};
use crate::crash::medium::Medium;
use crate::crash::rot::Rot;
use crate::crash::site::{Pieces, Shape, Site, open, ranges_of, read_back};
use crate::dice::Dice;
use crate::mark::Mark;

/// A site brings up everything within so long of its own time: two patiences of the uplink, an adoption, an election.
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// A moment of a workload to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// The site.
    pub shape: Shape,
    /// What happened.
    pub ledger: &'a Ledger,
    /// Before which step.
    pub number: u64,
    /// The lie that is told.
    pub lie: Option<Lie>,
}

/// What one board found.
#[derive(Debug)]
pub struct Board {
    /// The blocks that it can read.
    pub pieces: Pieces,
    /// Its records, by stream.
    pub has: BTreeMap<Stream, RangeSet>,
    /// Records that were durable here, are gone, and of which rot is the cause.
    pub lost: u64,
    /// Whether its start told of anything, or reading what it claims does.
    pub told: bool,
    /// The start refused the disk.
    pub refused: bool,
    /// Every disk as it was before each step of its start.
    pub tape: Vec<Frame>,
}

/// Starts every board on `media` and holds it to the promises; `rots` have struck them.
///
/// # Errors
/// A promise is broken; in words.
pub fn judge(moment: Moment<'_>, media: &[Medium], rots: &[Rot], dice: &mut Dice) -> Result<Vec<Board>, String> {
    let covered = moment.ledger.covered(moment.number);
    let mut boards = Vec::new();
    for board in 0..media.len() {
        let board = start(moment, media, board, rots, dice).map_err(|what| format!("board {}: {what}", board + 1))?;
        boards.push(board);
    }
    let mut accounted = covered;
    for (stream, range) in boards.iter().flat_map(|board| gaps(&board.pieces)) {
        accounted.entry(stream).or_default().insert(range);
    }
    for (at, board) in boards.iter_mut().enumerate() {
        hold_to_durable(moment, &accounted, (at, board), rots).map_err(|what| format!("board {}: {what}", at + 1))?;
    }
    for promise in moment.ledger.promised(moment.number) {
        let holders = boards
            .iter()
            .filter(|board| holds(&board.has, moment.ledger, promise.mark))
            .count();
        let wanted = promise.copies.saturating_sub(rots.len());
        if holders < wanted && !holds(&accounted, moment.ledger, promise.mark) {
            let mark = promise.mark;
            return Err(format!("{mark} was acknowledged and is on {holders} boards, not on {wanted}"));
        }
    }
    Ok(boards)
}

fn holds(have: &BTreeMap<Stream, RangeSet>, ledger: &Ledger, mark: Mark) -> bool {
    ledger
        .place(mark)
        .is_some_and(|(stream, seq)| have.get(&stream).is_some_and(|ranges| ranges.contains(seq)))
}

fn start(moment: Moment<'_>, media: &[Medium], board: usize, rots: &[Rot], dice: &mut Dice) -> Result<Board, String> {
    let mains = Shared::new(media.to_vec(), moment.lie, dice.fork());
    mains.record();
    let rotten = rots.iter().any(|rot| rot.board == board);
    let mut found = match open(mains.board(board), board, dice.word(), moment.lie) {
        Ok(found) => found,
        Err(error) if !rotten => return Err(format!("does not start: {error}")),
        Err(_) => {
            let (pieces, has, tape) = (Vec::new(), BTreeMap::new(), mains.tape());
            return Ok(Board { pieces, has, lost: 0, told: true, refused: true, tape });
        }
    };
    let tape = mains.tape();
    let pieces = read_back(&mut found)?;
    hold_to_what_was_written(moment.ledger, &pieces)?;
    let has = ranges_of(&pieces);
    let mut claims: BTreeMap<Stream, RangeSet> = BTreeMap::new();
    for (stream, holding) in found.recovered.segments.values().flat_map(|segment| &segment.streams) {
        claims.entry(*stream).or_default().extend(&holding.ranges);
    }
    // What a footer vouches for and rot has taken is told when it is read.
    let told_by_reading = claims != has;
    if told_by_reading && !rotten {
        return Err(format!("claims to hold {claims:?} and can read {has:?}"));
    }
    let damaged = |event: &&Event| matches!(event, Event::JournalDamaged { .. });
    if let Some(event) = found.recovered.events.iter().find(damaged).filter(|_| !rotten) {
        return Err(format!("calls it damage, and power was cut: {event:?}"));
    }
    for rot in rots.iter().filter(|rot| rot.board == board) {
        let Some((segment, blocks)) = rot.must_tell else { continue };
        let tells = |event: &Event| matches!(event, Event::JournalDamaged { segment: said, .. } if *said == segment);
        let here: Pieces = pieces.iter().filter(|piece| piece.segment == segment).cloned().collect();
        // Its own footer says what stood in it; the same records may stand in another segment as well.
        let mut vouched: BTreeMap<Stream, RangeSet> = BTreeMap::new();
        for (stream, holding) in found
            .recovered
            .segments
            .get(&segment)
            .iter()
            .flat_map(|segment| &segment.streams)
        {
            vouched.insert(*stream, holding.ranges.clone());
        }
        if here.len() < blocks && vouched == ranges_of(&here) && !found.recovered.events.iter().any(tells) {
            return Err(format!("{}, and its start says nothing of it: {:?}", rot.what, found.recovered.events));
        }
    }
    let told = told_by_reading || !found.recovered.events.is_empty();
    Ok(Board { pieces, has, lost: 0, told, refused: false, tape })
}

/// What is served is what was written.
fn hold_to_what_was_written(ledger: &Ledger, pieces: &Pieces) -> Result<(), String> {
    for run in pieces.iter().flat_map(|piece| &piece.runs) {
        let readings = Reading::decode_all(&run.bytes, run.count);
        let Ok(readings) = readings else {
            return Err(format!("serves a run of {} that does not read", run.stream));
        };
        for (seq, reading) in (run.first..).zip(&readings) {
            let (said, written) = (entry(reading), ledger.at(run.stream, seq));
            if said.is_none() || said != written {
                return Err(format!("serves {said:?} as {seq} of {}, which is {written:?}", run.stream));
            }
        }
    }
    Ok(())
}

fn gaps(pieces: &Pieces) -> Vec<(Stream, shared::ranges::SeqRange)> {
    let mut gaps = Vec::new();
    for run in pieces.iter().flat_map(|piece| &piece.runs) {
        let readings = Reading::decode_all(&run.bytes, run.count).unwrap_or_default();
        for reading in &readings {
            if let Some(Entry::Gap(stream, range)) = entry(reading) {
                gaps.push((stream, range));
            }
        }
    }
    gaps
}

/// What was durable on a board is there, or is accounted for.
fn hold_to_durable(
    moment: Moment<'_>,
    accounted: &BTreeMap<Stream, RangeSet>,
    (at, board): (usize, &mut Board),
    rots: &[Rot],
) -> Result<(), String> {
    let empty = RangeSet::EMPTY;
    for (stream, durable) in moment.ledger.durable_on(at, moment.number) {
        let lost = durable
            .minus(board.has.get(&stream).unwrap_or(&empty))
            .minus(accounted.get(&stream).unwrap_or(&empty));
        if lost.is_empty() {
            continue;
        }
        board.lost += lost.count();
        if !rots.iter().any(|rot| rot.board == at) {
            return Err(format!("{:?} of {stream} was durable and is gone", lost.ranges()));
        }
    }
    Ok(())
}

/// Starts the site on `media` and lets it bring up what it holds.
///
/// # Errors
/// Something acknowledged does not reach the region, or reaches it twice or changed.
pub fn drain(moment: Moment<'_>, media: &[Medium], dice: &mut Dice) -> Result<(), String> {
    let mains = Shared::new(media.to_vec(), moment.lie, dice.fork());
    let shape = Shape { region: true, ..moment.shape };
    let mut site = Site::new(shape, mains, moment.ledger.as_of(moment.number), moment.lie, dice.fork());
    site.start_all();
    let (filed, missing) = (Cell::new(usize::MAX), Cell::new(true));
    let is_there = |site: &Site| {
        if filed.replace(site.ledger.filed()) != site.ledger.filed() {
            missing.set(!site.ledger.missing().is_empty());
        }
        !missing.get()
    };
    let reached = site.run_until(DRAIN_MAX, is_there);
    if let Some(what) = site.ledger.broken {
        return Err(what);
    }
    if reached {
        return Ok(());
    }
    let missing = site.ledger.missing();
    Err(format!(
        "{} acknowledged readings never reach the region, the first {:?}",
        missing.len(),
        missing.first()
    ))
}
