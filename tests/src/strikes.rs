//! What each fault does to the world, and how it is mended. The budget: at most k-1 boards are lost for ever, and never
//! a majority of the voters.

use std::collections::BTreeSet;
use std::time::Duration;

use shared::action::{Wish, WishAnswer};
use shared::ids::{BoardId, Seq, Stream};

use crate::dice::Dice;
use crate::disk::Rot;
use crate::faults::{Fault, Mend};
use crate::happening::Happening;
use crate::mark::Mark;
use crate::mutant::Mutant;
use crate::region::{Place, Stores};
use crate::settings::Bursts;
use crate::world::World;

/// A supervisor kills a process that has not stopped so long after it was asked.
const STOPS_WITHIN: Duration = Duration::from_secs(3);
/// An empty disk is in place within; where a directory was only deleted, at once.
const REPLACED_WITHIN: Duration = Duration::from_secs(6);

impl World {
    pub(crate) fn start_faults(&mut self) {
        for (place, occurrence) in self.occurrences.iter().enumerate() {
            let left_out = self
                .settings
                .only
                .as_ref()
                .is_some_and(|only| !only.contains(&occurrence.number));
            if !left_out {
                self.agenda.put(occurrence.at, Happening::Fault { place });
            }
        }
    }

    pub(crate) fn fault_due(&mut self, place: usize) {
        let Some(occurrence) = self.occurrences.get(place).cloned() else { return };
        self.tally.faults += 1;
        self.story
            .tell(self.now, "fault", || format!("{}: {}", occurrence.number, occurrence.fault.words()));
        self.strike(occurrence.fault, occurrence.dice);
    }

    fn strike(&mut self, fault: Fault, mut dice: Dice) {
        let ids: Vec<BoardId> = self.boards.values().filter(|host| !host.lost).map(|host| host.id).collect();
        let Some(board) = dice.pick(&ids) else { return };
        match fault {
            Fault::Crash
            | Fault::CrashMidway
            | Fault::SupervisorCrash
            | Fault::PowerCut
            | Fault::SitePowerCut
            | Fault::Pause
            | Fault::Starve
            | Fault::Stop
            | Fault::DutyDies
            | Fault::Loss => self.strike_process(fault, board, &mut dice),
            Fault::SyncFails => self.fail_next_sync(board),
            Fault::DiskFull => {
                self.fill_disk(board);
                self.put_in(span(&mut dice, 200, 6_000), Happening::Mend(Mend::Room { board }));
            }
            Fault::SlowDisk => self.slow_disk(board, span(&mut dice, 200, 3_000)),
            Fault::Rot => self.rot_if_it_can_be_borne(board, &mut dice),
            Fault::Replaced => self.replace_if_it_can_be_borne(board),
            Fault::OneWayCut
            | Fault::MeshCut
            | Fault::Parting
            | Fault::Flapping
            | Fault::BurstLoss
            | Fault::DelaySpike
            | Fault::LinkReset => self.strike_mesh(fault, board, &ids, &mut dice),
            Fault::UplinkCut | Fault::RegionAway | Fault::UplinkReset => {
                self.strike_uplink(fault, board, &ids, &mut dice);
            }
            Fault::RegionCrash => {
                self.region_crash();
                self.put_in(span(&mut dice, 50, 3_000), Happening::Mend(Mend::RegionBoot { place: Place::Home }));
            }
            Fault::RegionGone => self.lose_region(&mut dice),
            Fault::StoreFails => self.fail_next_transaction(),
            Fault::StaleHello => self.replay_stale_hello(board),
            Fault::PublisherReset => {
                let id = dice.below(u64::from(self.settings.publishers)) as u8;
                let connection = self.publishers[usize::from(id)].connection;
                self.publisher_reset(id, connection);
            }
            Fault::HandOver => self.ask_for_hand_over(dice.coin().then_some(board)),
            Fault::WitnessCrash => {
                self.witness_crash();
                self.put_in(span(&mut dice, 20, 3_000), Happening::Mend(Mend::WitnessBoot));
            }
            Fault::WitnessCut => {
                let whole = dice.coin();
                let back = span(&mut dice, 100, 4_000);
                for board in ids.into_iter().filter(|other| whole || *other == board) {
                    self.cut_witness(board);
                    self.put_in(back, Happening::Mend(Mend::Witness { board }));
                }
            }
        }
    }

    fn strike_process(&mut self, fault: Fault, board: BoardId, dice: &mut Dice) {
        match fault {
            Fault::Crash => {
                self.crash(board);
                self.boot_later(board);
            }
            Fault::CrashMidway => {
                let after = dice.below(12);
                if let Some(process) = self.process(board) {
                    process.dies_after = Some(after);
                }
            }
            Fault::SupervisorCrash => {
                self.crash_unseen(board);
                self.boot_later(board);
            }
            Fault::PowerCut => {
                self.cut_power(board);
                self.boot_later(board);
            }
            Fault::SitePowerCut => self.cut_site_power(),
            Fault::Starve => {
                let until = self.now + span(dice, 300, 2_500);
                self.starve(board, until);
            }
            Fault::Stop => {
                self.stop(board);
                // One that stands still does not hear it, and is not killed for that later.
                if self.boards[&board].stops() {
                    let life = self.boards[&board].life;
                    self.put_in(STOPS_WITHIN, Happening::Mend(Mend::Stopped { board, life }));
                }
            }
            Fault::DutyDies => self.duty_dies(board, dice),
            Fault::Loss => self.lose_if_it_can_be_borne(board),
            _ => self.freeze(board, span(dice, 20, 3_000)),
        }
    }

    fn strike_mesh(&mut self, fault: Fault, board: BoardId, ids: &[BoardId], dice: &mut Dice) {
        let others: Vec<BoardId> = ids.iter().copied().filter(|other| *other != board).collect();
        let Some(other) = dice.pick(&others) else { return };
        let back = span(dice, 100, 4_000);
        let both = |other: &BoardId| [(board, *other), (*other, board)];
        match fault {
            Fault::LinkReset => self.reset_link(crate::mesh::Pair::new(board, other)),
            Fault::OneWayCut => self.cut_for(back, [(board, other)]),
            Fault::Parting => self.part(ids, back, dice),
            Fault::Flapping => self.flap(others.iter().flat_map(both).collect(), dice),
            Fault::BurstLoss => {
                let bursts = Bursts { good: span(dice, 50, 400), bad: span(dice, 30, 200) };
                let until = self.now + back;
                for (from, to) in others.iter().flat_map(both) {
                    self.mesh.path(from, to).roughen(bursts, until);
                }
            }
            Fault::DelaySpike => {
                let (extra, until) = (span(dice, 5, 400), self.now + back);
                for (from, to) in others.iter().flat_map(both) {
                    self.mesh.path(from, to).slow_down(extra, until);
                }
            }
            _ => self.cut_for(back, others.iter().flat_map(both)),
        }
    }

    fn cut_for(&mut self, back: Duration, ways: impl IntoIterator<Item = (BoardId, BoardId)>) {
        for (from, to) in ways {
            self.cut_way(from, to);
            self.put_in(back, Happening::Mend(Mend::Way { from, to }));
        }
    }

    /// Two parts that do not hear each other: in one case of three one part still hears the other, and in one of
    /// three a board is in both.
    fn part(&mut self, ids: &[BoardId], back: Duration, dice: &mut Dice) {
        let (one_way, bridged) = (dice.below(3) == 0, dice.below(3) == 0);
        let mut parts: [Vec<BoardId>; 2] = [Vec::new(), Vec::new()];
        for (place, board) in ids.iter().enumerate() {
            if bridged && place == ids.len() / 2 {
                continue;
            }
            parts[usize::from(dice.coin())].push(*board);
        }
        let [one, other] = parts;
        let across = one.iter().flat_map(|from| other.iter().map(move |to| (*from, *to)));
        let ways: Vec<(BoardId, BoardId)> = across
            .flat_map(|(from, to)| [Some((from, to)), (!one_way).then_some((to, from))])
            .flatten()
            .collect();
        self.cut_for(back, ways);
    }

    /// The same ways are cut and mended many times.
    fn flap(&mut self, ways: Vec<(BoardId, BoardId)>, dice: &mut Dice) {
        let mut after = Duration::ZERO;
        for _ in 0..dice.between(3, 12) {
            let (cut, whole) = (span(dice, 10, 500), span(dice, 10, 500));
            for (from, to) in &ways {
                self.put_in(after, Happening::Mend(Mend::Cut { from: *from, to: *to }));
                self.put_in(after + cut, Happening::Mend(Mend::Way { from: *from, to: *to }));
            }
            after += cut + whole;
        }
    }

    fn ask_for_hand_over(&mut self, to: Option<BoardId>) {
        if let Some(leader) = self.leader() {
            self.wish(leader, Wish::HandOver { to });
        }
    }

    /// An operator wishes something of `board`: its answer, where its process runs.
    pub fn wish(&mut self, board: BoardId, wish: Wish) -> Option<WishAnswer> {
        if !self.boards[&board].runs() {
            return None;
        }
        self.story.tell(self.now, board, || format!("is asked for {wish:?}"));
        let mut answer = None;
        self.drive(board, |node, now, out| answer = Some(node.handle_wish(wish, now, out)));
        answer
    }

    fn strike_uplink(&mut self, fault: Fault, board: BoardId, ids: &[BoardId], dice: &mut Dice) {
        let back = span(dice, 200, 6_000);
        match fault {
            Fault::UplinkReset => self.reset_uplink(board),
            Fault::UplinkCut => {
                let (out, home) = match dice.below(3) {
                    0 => (true, false),
                    1 => (false, true),
                    _ => (true, true),
                };
                self.cut_uplink(board, out, home);
                self.put_in(back, Happening::Mend(Mend::Uplink { board, out, back: home }));
            }
            _ => {
                for board in ids {
                    self.cut_uplink(*board, true, true);
                    self.put_in(back, Happening::Mend(Mend::Uplink { board: *board, out: true, back: true }));
                }
            }
        }
    }

    /// All boards lose power at once, and get it back together.
    pub fn cut_site_power(&mut self) {
        let ids: Vec<BoardId> = self.boards.keys().copied().collect();
        self.tally.site_power_cuts += 1;
        self.story.tell(self.now, "site", || "loses power");
        for board in ids {
            self.cut_power(board);
            self.boot_later(board);
        }
    }

    /// One of two regions is gone for longer than boards wait for it, mostly the one that they prefer.
    fn lose_region(&mut self, dice: &mut Dice) {
        let place = if dice.below(6) == 0 { Place::Standby } else { Place::Home };
        if self.standby.is_some() {
            self.crash_region(place);
            self.put_in(span(dice, 2_000, 7_000), Happening::Mend(Mend::RegionBoot { place }));
        }
    }

    /// The region's next transaction does not commit.
    pub fn fail_next_transaction(&mut self) {
        self.region.fails_next = true;
    }

    /// The next write or sync on `board` fails.
    pub fn fail_next_sync(&mut self, board: BoardId) {
        if let Some(host) = self.boards.get_mut(&board) {
            host.disk.fails_next = true;
        }
    }

    /// The disk of `board` has no room for another file.
    pub fn fill_disk(&mut self, board: BoardId) {
        if let Some(host) = self.boards.get_mut(&board) {
            host.disk.full = true;
        }
    }

    /// The disk of `board` has room again.
    pub fn empty_disk(&mut self, board: BoardId) {
        if let Some(host) = self.boards.get_mut(&board) {
            host.disk.full = false;
        }
    }

    fn slow_disk(&mut self, board: BoardId, back: Duration) {
        if let Some(host) = self.boards.get_mut(&board) {
            host.speed.sync_max = self.settings.disk.sync_max * 30;
            host.speed.sync_min = self.settings.disk.sync_max;
            self.story.tell(self.now, board, || format!("disk is slow for {back:?}"));
        }
        self.put_in(back, Happening::Mend(Mend::Disk { board }));
    }

    fn lose_if_it_can_be_borne(&mut self, board: BoardId) {
        let lost = |host: &&crate::board::Board| host.lost;
        let gone = self.boards.values().filter(lost).count();
        let Some(host) = self.boards.get(&board) else { return };
        let held: Vec<Mark> = host.disk.all().collect();
        if gone + 1 < self.settings.copies && self.has_members_beside(board) && self.can_be_borne(board, held) {
            self.destroy(board);
        }
    }

    /// Whether all that was acknowledged of `marks` has a place beside `board`.
    fn can_be_borne(&self, board: BoardId, marks: impl IntoIterator<Item = Mark>) -> bool {
        let (boards, stores) = (&self.boards, Stores::of(&self.region, self.standby.as_ref()));
        let elsewhere = |mark| boards.values().any(|host| host.id != board && host.disk.holds(mark));
        let is_left = |mark| elsewhere(mark) || stores.have(mark);
        marks.into_iter().all(|mark| !self.model.needs(mark, is_left))
    }

    fn rot_if_it_can_be_borne(&mut self, board: BoardId, dice: &mut Dice) {
        let Some(rot) = self.boards.get(&board).and_then(|host| host.disk.draw_rot(dice)) else {
            return;
        };
        let touched = self.boards[&board].disk.touched(&rot);
        // What is about to be acknowledged, for the first time or again, counts on what was just written.
        let is_settled = |mark: &Mark| {
            let is_known = self.model.is_acknowledged(*mark) || self.region.store.rows_of(*mark) > 0;
            is_known && !self.model.is_asked_for(*mark)
        };
        if touched.iter().all(is_settled) && self.can_be_borne(board, touched) {
            self.rot(board, &rot, dice);
        }
    }

    fn rot(&mut self, board: BoardId, rot: &Rot, dice: &mut Dice) {
        let (here, anywhere) = (self.named_alone(Some(board)), self.named_alone(None));
        let Some(host) = self.boards.get_mut(&board) else { return };
        self.rotted.extend(host.disk.touched(rot));
        host.disk.rot(rot, dice);
        // What names them may stand on another board, which may be lost, too.
        let (still_here, still) = (self.named_alone(Some(board)), self.named_alone(None));
        self.rotted.extend(here.difference(&still_here));
        self.nameless.extend(anywhere.difference(&still));
        self.tally.rots += 1;
        self.story.tell(self.now, board, || format!("rots: {rot:?}"));
        // What was acknowledged visibly degraded may have stood nowhere else.
        self.excuse_what_only(None);
    }

    /// Acknowledged readings that are left nowhere, and of which gap records say so on the disk of `board`, or of any, that the
    /// region does not have yet.
    fn named_alone(&self, board: Option<BoardId>) -> BTreeSet<Mark> {
        let hosts = self.boards.values().filter(|host| board.is_none_or(|board| host.id == board));
        let named: Vec<_> = hosts.map(|host| host.disk.named()).collect();
        let says = |(stream, seq): (Stream, Seq)| {
            named
                .iter()
                .any(|named| named.get(&stream).is_some_and(|ranges| ranges.contains(seq)))
        };
        let is_left = |mark: Mark| self.boards.values().any(|host| host.disk.holds(mark));
        let missing = self.model.missing(&self.region.store).into_iter();
        missing
            .filter(|mark| !is_left(*mark) && self.model.addresses(*mark).any(says))
            .collect()
    }

    /// The reading rots on the disk of `board`, unnoticed: a bit of its block flips. False where it is not there.
    pub fn flip_bit(&mut self, board: BoardId, mark: Mark) -> bool {
        let Some(rot) = self.boards.get(&board).and_then(|host| host.disk.flip_of(mark)) else {
            return false;
        };
        self.rot(board, &rot, &mut Dice::new(u64::from(mark.number)));
        true
    }

    fn replace_if_it_can_be_borne(&mut self, board: BoardId) {
        let held: Vec<Mark> = self.boards[&board].disk.all().collect();
        let is_first = self.tally.replaced == 0 || self.lies(Mutant::EmptyDiskTrusted);
        if is_first && self.has_members_beside(board) && self.can_be_borne(board, held) {
            self.replace_disk(board);
            self.boot_later(board);
        }
    }

    /// Whether a majority of voters beside `board` has met a leader: fewer could neither lead, nor vouch for one that forgot.
    fn has_members_beside(&self, board: BoardId) -> bool {
        let voters = self.boards[&board].config.voters;
        let others = self.boards.values().filter(|host| host.id != board && !host.lost);
        let boards = others.filter(|host| voters.set.contains(host.id.into()) && host.disk.memory.joined);
        let witnesses = voters.set.witnesses().filter(|_| self.witness_has_joined());
        !voters.set.contains(board.into()) || boards.count() + witnesses.count() >= voters.quorum()
    }

    /// The board stops, and its disk is replaced by an empty one. It does not start of its own accord.
    pub fn replace_disk(&mut self, board: BoardId) {
        self.crash_unseen(board);
        let is_trusted = self.lies(Mutant::EmptyDiskTrusted);
        let Some(host) = self.boards.get_mut(&board) else { return };
        let within = if is_trusted { Duration::from_millis(50) } else { REPLACED_WITHIN };
        host.not_before = self.now + host.dice.span(Duration::ZERO, within);
        // An acknowledgement on its way counts on what was there.
        host.took_along.push(std::mem::take(&mut host.disk));
        host.disk.memory.joined = is_trusted;
        self.tally.replaced += 1;
        self.story.tell(self.now, board, || "has an empty disk");
        self.excuse_what_only(None);
    }

    pub(crate) fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::Way { from, to } => self.mend_way(from, to),
            Mend::Cut { from, to } => {
                if self.now < self.busy_until {
                    self.cut_way(from, to);
                }
            }
            Mend::Uplink { board, out, back } => self.mend_uplink(board, out, back),
            Mend::Disk { board } => self.quick_disk(board),
            Mend::Room { board } => self.empty_disk(board),
            Mend::Witness { board } => self.mend_witness(board),
            Mend::WitnessBoot => self.witness_boot(),
            Mend::RegionBoot { place } => self.boot_region(place),
            Mend::Stopped { board, life } => {
                if self.boards[&board].life == life && self.boards[&board].process.is_some() {
                    self.crash(board);
                    self.boot_later(board);
                }
            }
        }
    }

    fn quick_disk(&mut self, board: BoardId) {
        let speed = self.settings.disk;
        if let Some(host) = self.boards.get_mut(&board) {
            host.speed = speed;
        }
    }

    /// Nothing goes wrong any more, and what has gone wrong is mended now: what is still on the agenda of faults
    /// finds nothing to do.
    pub(crate) fn heal(&mut self) {
        self.story.tell(self.now, "world", || "no more faults");
        self.mesh.calm();
        for (from, to) in self.mesh.cut_ways() {
            self.mesh.path(from, to).cuts = 1;
            self.mend_way(from, to);
        }
        self.region.fails_next = false;
        self.region_boot();
        if self.standby.is_some() {
            self.boot_region(Place::Standby);
        }
        self.witness_boot();
        let boards: Vec<BoardId> = self.boards.keys().copied().collect();
        for board in boards {
            self.heal_uplink(board);
            self.quick_disk(board);
            self.empty_disk(board);
            self.heal_witness(board);
            let Some(host) = self.boards.get_mut(&board) else { continue };
            host.disk.fails_next = false;
            host.kept_down = false;
            match &mut host.process {
                Some(process) => process.dies_after = None,
                None => self.boot_later(board),
            }
        }
    }
}

/// A time between so many milliseconds and so many.
fn span(dice: &mut Dice, low_ms: u64, high_ms: u64) -> Duration {
    dice.span(Duration::from_millis(low_ms), Duration::from_millis(high_ms))
}
