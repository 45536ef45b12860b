//! The witness: a machine that votes for sites and holds no data. Its process crashes and restarts around what it has on
//! disk; boards reach it over ways that lose, delay and are cut. The shell's part only: what becomes of a message is
//! decided by the code under test.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::action::Memory;
use shared::ids::{BoardId, WitnessId};
use shared::outbox::Outbox;
use shared::time::Instant;
use shared::wire::election::ElectionMessage;
use shared::witness::Output;

use crate::board::Life;
use crate::clock::{Moment, SkewedClock};
use crate::dice::Dice;
use crate::happening::{Happening, Input};
use crate::mesh::Path;
use crate::mutant::Mutant;
use crate::settings::Settings;
use crate::world::{World, site, skew};

/// A connection over which nothing comes back falls after so long (the shells' idle timeout).
const IDLE: Duration = Duration::from_secs(4);
/// Between two tries to connect, and two looks at a connection.
const LOOK: (Duration, Duration) = (Duration::from_millis(80), Duration::from_millis(300));
/// A write of the witness's memory.
const WRITE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// A board's connection to the witness.
#[derive(Debug)]
struct Line {
    out: Path,
    back: Path,
    /// In which life the board was told that it stands, and since when nothing comes through, if nothing does.
    told: Option<Life>,
    dead_since: Option<Moment>,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Witness {
    id: WitnessId,
    process: Option<shared::witness::Witness>,
    /// On disk of the one site, if anything is.
    memory: Option<Memory>,
    boot: u32,
    clock: SkewedClock,
    dice: Dice,
    lines: BTreeMap<BoardId, Line>,
}

impl Witness {
    pub(crate) fn new(id: WitnessId, settings: &Settings, boards: &[BoardId], mut dice: Dice) -> Self {
        let clock = SkewedClock { shows: dice.between(1, 1_000_000_000), ppm: skew(settings.drift_ppm, &mut dice) };
        let line = || Line {
            out: Path::new(settings.witness_way),
            back: Path::new(settings.witness_way),
            told: None,
            dead_since: None,
        };
        Self {
            id,
            process: None,
            memory: None,
            boot: 0,
            clock,
            dice,
            lines: boards.iter().map(|board| (*board, line())).collect(),
        }
    }
}

impl World {
    /// Whether the witness has met a leader, as it would know after a crash, too.
    pub(crate) fn witness_has_joined(&self) -> bool {
        let memory = self.witness.as_ref().and_then(|witness| witness.memory);
        memory.is_some_and(|memory| memory.joined)
    }

    pub(crate) fn witness_boot(&mut self) {
        let forgets = self.lies(Mutant::WitnessForgets);
        let Some(witness) = self.witness.as_mut().filter(|witness| witness.process.is_none()) else {
            return;
        };
        witness.boot += 1;
        witness.clock.shows = witness.clock.shows.wrapping_add(witness.dice.below(1_000_000));
        if forgets {
            witness.memory = Some(Memory { joined: true, ..Memory::default() });
        }
        witness.process = Some(shared::witness::Witness::new(
            witness.memory.map(|memory| (site(), memory)),
            witness.dice.word(),
            witness.clock.local(self.now),
        ));
        self.story.tell(self.now, "witness", || "boots");
    }

    pub(crate) fn witness_crash(&mut self) {
        let Some(witness) = self.witness.as_mut() else { return };
        if witness.process.take().is_some() {
            witness.boot += 1;
            self.tally.witness_crashes += 1;
            self.story.tell(self.now, "witness", || "process dies");
        }
    }

    fn drive_witness(&mut self, handle: impl FnOnce(&mut shared::witness::Witness, Instant, &mut Outbox<Output>)) {
        let now = self.now;
        let Some(witness) = self.witness.as_mut() else { return };
        let local = witness.clock.local(now);
        let Some(process) = witness.process.as_mut() else { return };
        let mut out = Outbox::default();
        handle(process, local, &mut out);
        while let Some(output) = out.pop() {
            match output {
                Output::Tell { to, message, .. } => self.witness_tells(to, message),
                Output::Remember { memory, .. } => {
                    let Some(witness) = self.witness.as_mut() else { return };
                    let (boot, takes) = (witness.boot, witness.dice.span(WRITE.0, WRITE.1));
                    self.put_in(takes, Happening::WitnessRemembers { boot, memory });
                }
            }
        }
    }

    pub(crate) fn witness_remembers(&mut self, boot: u32, memory: Memory) {
        let Some(witness) = self.witness.as_mut().filter(|witness| witness.boot == boot) else {
            return;
        };
        witness.memory = Some(memory);
        self.drive_witness(|process, now, out| process.handle_remembered(&site(), memory, now, out));
    }

    /// A board says something to the witness; dropped where no connection stands.
    pub(crate) fn tell_witness(&mut self, board: BoardId, message: &ElectionMessage) {
        self.tally.datagrams += 1;
        let now = self.now;
        let Some(line) = self.witness.as_mut().and_then(|witness| witness.lines.get_mut(&board)) else {
            return;
        };
        if line.told.is_none() {
            return;
        }
        for delay in line.out.datagram(now, &mut self.net_dice).into_iter().flatten() {
            self.put_in(delay, Happening::ToWitness { from: board, message: message.clone() });
        }
    }

    pub(crate) fn at_witness(&mut self, from: BoardId, message: &ElectionMessage) {
        self.drive_witness(|process, now, out| process.handle_message(&site(), from, message, now, out));
    }

    fn witness_tells(&mut self, to: BoardId, message: ElectionMessage) {
        let now = self.now;
        let Some(line) = self.witness.as_mut().and_then(|witness| witness.lines.get_mut(&to)) else {
            return;
        };
        for delay in line.back.datagram(now, &mut self.net_dice).into_iter().flatten() {
            self.put_in(delay, Happening::FromWitness { to, message: message.clone() });
        }
    }

    pub(crate) fn witness_says(&mut self, to: BoardId, message: ElectionMessage) {
        let Some(from) = self.witness.as_ref().map(|witness| witness.id) else {
            return;
        };
        if self.boards[&to].is_drowned() {
            return;
        }
        self.input(to, Input::Witness { from, message });
    }

    /// The supervisor of `board` tells the witness that its node has ended.
    pub(crate) fn obituary_to_witness(&mut self, board: BoardId, life: u64) {
        let now = self.now;
        let Some(line) = self.witness.as_mut().and_then(|witness| witness.lines.get_mut(&board)) else {
            return;
        };
        for delay in line.out.datagram(now, &mut self.net_dice).into_iter().flatten() {
            self.put_in(delay, Happening::WitnessObituary { board, life });
        }
    }

    pub(crate) fn witness_obituary(&mut self, board: BoardId, life: u64) {
        if let Some(process) = self.witness.as_mut().and_then(|witness| witness.process.as_mut()) {
            process.handle_obituary(&site(), board, life);
        }
    }

    /// A look at the connection of `board` to the witness: it is made where it can be, and falls after long silence.
    pub(crate) fn witness_link(&mut self, board: BoardId) {
        let now = self.now;
        let again = self.net_dice.span(LOOK.0, LOOK.1);
        self.put_in(again, Happening::WitnessLink { board });
        let Some(host) = self.boards.get(&board) else { return };
        let (life, runs, lives) = (host.life, host.runs(), host.process.is_some());
        let Some(witness) = self.witness.as_mut() else { return };
        let answers = witness.process.is_some();
        let witness_id = witness.id;
        let Some(line) = witness.lines.get_mut(&board) else { return };
        if line.told.is_some_and(|told| told != life || !lives) {
            line.told = None;
        }
        let through = runs && answers && line.out.is_open() && line.back.is_open();
        let up = match line.told {
            None if through => {
                line.told = Some(life);
                line.dead_since = None;
                true
            }
            Some(_) if through => {
                line.dead_since = None;
                return;
            }
            Some(_) if now.since(*line.dead_since.get_or_insert(now)) >= IDLE => {
                line.told = None;
                false
            }
            None | Some(_) => return,
        };
        self.story.tell(now, board, || format!("connection to the witness: {up}"));
        self.input(board, Input::WitnessLink { witness: witness_id, up });
    }

    /// The way of `board` to the witness is cut.
    pub fn cut_witness(&mut self, board: BoardId) {
        let Some(line) = self.witness.as_mut().and_then(|witness| witness.lines.get_mut(&board)) else {
            return;
        };
        line.out.cuts += 1;
        line.back.cuts += 1;
        self.story.tell(self.now, board, || "is cut off from the witness");
    }

    /// One cut of the way of `board` to the witness is mended.
    pub fn mend_witness(&mut self, board: BoardId) {
        if let Some(line) = self.witness.as_mut().and_then(|witness| witness.lines.get_mut(&board)) {
            line.out.cuts = line.out.cuts.saturating_sub(1);
            line.back.cuts = line.back.cuts.saturating_sub(1);
        }
    }

    pub(crate) fn heal_witness(&mut self, board: BoardId) {
        if let Some(line) = self.witness.as_mut().and_then(|witness| witness.lines.get_mut(&board)) {
            line.out.cuts = 0;
            line.back.cuts = 0;
        }
    }
}
