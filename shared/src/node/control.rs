//! The control path: heartbeats → membership → election → duties → who speaks to the region and who keeps copies.
//! Hears of data only as facts (a connection stands, the region covers); never reads a record.

use alloc::vec::Vec;

use crate::action::{Action, Evidence, RegionLink};
use crate::event::Event;
use crate::ids::{BoardId, BoardSet, Stream, Term};
use crate::limits::COVERAGE_STREAMS_MAX;
use crate::membership;
use crate::node::lead::{Cause, GivingUp};
use crate::node::report::Telling;
use crate::node::{Node, Region, origins};
use crate::outbox::Outbox;
use crate::time::Instant;
use crate::uplink::Route;
use crate::wire::control::ControlMessage;
use crate::wire::election::ElectionMessage;
use crate::wire::peer::{Coverage, PeerMessage, Reader, RegionTag};
use crate::wire::uplink::{FromRegion, Reads, Refusal, ToRegion};

impl Node {
    /// The reliable connection to `peer` stands or fell.
    pub fn handle_link(&mut self, peer: BoardId, up: bool, now: Instant, out: &mut Outbox<Action>) {
        if !self.config.peers().contains(peer) {
            return;
        }
        if up {
            self.linked.insert(peer);
            if let Some(term) = self.region.passes_on() {
                out.push(Action::Send { to: peer, message: PeerMessage::UplinkOpen { term } });
                for message in self.own_region().into_iter().chain(self.own_reads()) {
                    out.push(Action::Send { to: peer, message });
                }
            }
            if matches!(self.uplink.route(), Route::Holder(holder, _) if holder == peer) {
                self.open_route(self.uplink.route(), true, now, out);
            }
        } else {
            self.linked.remove(peer);
            self.replication.handle_link_down(peer);
        }
        self.upkeep_link(peer, up, now, out);
        let mut outputs = Outbox::default();
        self.membership.handle_link(peer, up, now, &mut outputs);
        self.handle_membership(&mut outputs, now, out);
        self.replicate_more(now, out);
        self.pump(now, out);
    }

    /// A datagram from `from`, whose certificate proved it.
    pub fn handle_control(&mut self, from: BoardId, message: ControlMessage, now: Instant, out: &mut Outbox<Action>) {
        match &message {
            ControlMessage::Heartbeat(heartbeat) => {
                let mut outputs = Outbox::default();
                self.membership.handle_heartbeat(from, heartbeat, now, &mut outputs);
                self.handle_membership(&mut outputs, now, out);
            }
            ControlMessage::Hearing(hearing) => {
                let mut outputs = Outbox::default();
                self.membership.handle_hearing(from, hearing, now, &mut outputs);
                self.handle_membership(&mut outputs, now, out);
            }
            ControlMessage::Election(message) => {
                if let ElectionMessage::Release { term } | ElectionMessage::HandOver { term } = message {
                    self.explain(*term, Cause::Released);
                }
                let mut outputs = Outbox::default();
                self.election.handle_message(from.into(), message, now, &mut outputs);
                self.handle_election(&mut outputs, now, out);
            }
            ControlMessage::Duty(message) => {
                let mut outputs = Outbox::default();
                self.duties.handle_message(from, message, now, &mut outputs);
                self.handle_duties(&mut outputs, now, out);
            }
        }
        self.look_around(now, out);
    }

    /// A message on the reliable connection from `from`, whose certificate proved it.
    pub fn handle_message(&mut self, from: BoardId, message: PeerMessage, now: Instant, out: &mut Outbox<Action>) {
        match message {
            PeerMessage::Hello(_) => {}
            PeerMessage::Copy { run, committed } => self.handle_copy(from, run, committed, out),
            PeerMessage::Durable(lines) => {
                for (stream, range) in lines {
                    self.replication.handle_durable(from, &stream, range);
                    self.refill.handle_durable(from, &stream, range, now);
                    self.upkeep.census.handle_durable(from, &stream, range);
                }
            }
            PeerMessage::UplinkOpen { term } => self.handle_uplink_open(from, term, now, out),
            PeerMessage::UplinkClosed { term } => {
                if self.uplink.route() == Route::Holder(from, term) {
                    self.open_route(Route::Closed, false, now, out);
                }
            }
            PeerMessage::Ask(streams) => {
                if self.region.passes_on().is_some() && streams.len() <= COVERAGE_STREAMS_MAX {
                    out.push(Action::ToRegion { message: ToRegion::Ask(streams), waits: false });
                }
            }
            PeerMessage::Block(block) => self.handle_block(block, false, out),
            PeerMessage::Backlog(block) => self.handle_block(block, true, out),
            PeerMessage::Coverage(lines) => {
                if matches!(self.uplink.route(), Route::Holder(holder, _) if holder == from) {
                    if let Some(reads) = lines.iter().find_map(|line| line.as_reads(Reader::Holder)) {
                        self.sealer.handle_reads(reads);
                        self.region_reads = Some(reads);
                    }
                    if let Some(region) = lines.iter().find_map(Coverage::as_region) {
                        self.hear_region(region, now, out);
                    }
                    self.handle_coverage(lines, now, out);
                }
            }
            PeerMessage::Report(report) => {
                if report.board == from && self.config.boards.contains(from) {
                    self.reports.insert(from, report);
                }
            }
            PeerMessage::Holds { life, committed, lines, last } => {
                if self.keeper.handle_committed(from, life, committed) {
                    self.journal.note_committed();
                }
                self.handle_holds((from, life), lines, last, now);
            }
            PeerMessage::Fetch { number, wanted } => self.handle_fetch(from, number, &wanted),
            PeerMessage::Repair(run) => self.handle_repair(from, run, out),
            PeerMessage::Fetched(answer) => self.upkeep.repair.handle_fetched(from, &answer),
        }
        self.pump(now, out);
    }

    fn handle_uplink_open(&mut self, from: BoardId, term: Term, now: Instant, out: &mut Outbox<Action>) {
        let newer = match self.uplink.route() {
            Route::Closed => true,
            Route::Region(current) | Route::Holder(_, current) => term >= current,
        };
        if newer && term.board() == Some(from) {
            // What it reads it says behind this, whatever it said before.
            self.sealer.handle_reads(Reads::Lz4);
            self.region_reads = Some(Reads::Lz4);
            self.open_route(Route::Holder(from, term), true, now, out);
        }
    }

    /// The supervisor of `board` has seen that life of it end, and signed that.
    pub fn handle_obituary(&mut self, board: BoardId, life: u64, now: Instant, out: &mut Outbox<Action>) {
        if !self.config.peers().contains(board) {
            return;
        }
        self.note(Event::ObituaryHeard { board }, now, out);
        let known = self.membership.epoch_of(board).is_some_and(|epoch| epoch.nonce == life);
        if known && self.led.0.board() == Some(board) {
            self.explain(self.led.0, Cause::Attested);
        }
        // Membership first: the dead board is no candidate that others would have to let go ahead.
        let mut outputs = Outbox::default();
        self.membership.handle_obituary(board, life, now, &mut outputs);
        self.handle_membership(&mut outputs, now, out);
        let mut outputs = Outbox::default();
        self.election.handle_view(self.view(now), now, &mut outputs);
        self.election.handle_obituary(board, life, now, &mut outputs);
        self.handle_election(&mut outputs, now, out);
        let mut outputs = Outbox::default();
        self.duties.handle_obituary(board, life, now, &mut outputs);
        self.handle_duties(&mut outputs, now, out);
        self.look_around(now, out);
    }

    /// The transport has noticed something about `board`.
    pub fn handle_evidence(&mut self, board: BoardId, evidence: Evidence, now: Instant, out: &mut Outbox<Action>) {
        let mut outputs = Outbox::default();
        self.membership.handle_evidence(board, evidence, now, &mut outputs);
        self.handle_membership(&mut outputs, now, out);
        self.look_around(now, out);
    }

    /// From now on these boards, this one among them, belong to the site. Who votes is not changed by it.
    pub fn handle_boards(&mut self, mut boards: BoardSet, now: Instant, out: &mut Outbox<Action>) {
        boards.insert(self.config.board);
        if boards == self.config.boards {
            return;
        }
        self.config.boards = boards;
        self.linked = self.linked.iter().filter(|board| boards.contains(*board)).collect();
        self.replication.handle_peers(self.config.peers());
        self.upkeep.census.handle_peers(self.config.peers(), now);
        self.uplink.handle_boards(boards.len());
        let mut outputs = Outbox::default();
        self.membership.handle_boards(boards, now, &mut outputs);
        self.handle_membership(&mut outputs, now, out);
        let mut outputs = Outbox::default();
        self.duties.handle_boards(boards, now, &mut outputs);
        self.handle_duties(&mut outputs, now, out);
        self.uplink.refresh(origins(&self.config, &self.membership, &self.journal), now);
        self.replicate_more(now, out);
        self.look_around(now, out);
        self.pump(now, out);
    }

    /// The session with the region stands (the shell has sent the hello) or fell.
    pub fn handle_region_link(&mut self, link: RegionLink, now: Instant, out: &mut Outbox<Action>) {
        let up = match link {
            RegionLink::Up(of) => {
                self.region_of_session = of;
                true
            }
            RegionLink::Down => false,
        };
        if !up {
            self.handle_region_fell(now, out);
        }
        if up && let Region::Dialling(term) = self.region {
            match self.region_reads {
                // The last word was the same region's.
                Some(reads) if self.uplink.region() == self.region_of_session && !self.has_newer_holder(term) => {
                    self.go_ahead((term, reads), now, out);
                }
                _ => self.ask_early(out),
            }
        }
        self.pump(now, out);
    }

    fn handle_region_fell(&mut self, now: Instant, out: &mut Outbox<Action>) {
        let Some(term) = self.region.passes_on() else { return };
        if self.has_gone_ahead {
            // It may be what went ahead that it did not bear.
            self.has_gone_ahead = false;
            self.region_reads = None;
        }
        self.close_uplink(now, out);
        self.region = Region::Dialling(term);
        self.own.handle_uplink(Some(false), now);
    }

    /// Whether another board holds `uplink` under a later term than `term`: this one has lost it, and is about to hear so.
    fn has_newer_holder(&self, term: Term) -> bool {
        matches!(self.uplink.route(), Route::Holder(_, newer) if newer > term)
    }

    /// What it has is asked right behind the hello, so that the answer comes with the welcome and not a round trip later. It counts
    /// from the welcome on, and all is asked again then: what this names may have changed.
    fn ask_early(&self, out: &mut Outbox<Action>) {
        let first: Vec<Stream> = self.journal.held().keys().copied().take(COVERAGE_STREAMS_MAX).collect();
        if !first.is_empty() {
            out.push(Action::ToRegion { message: ToRegion::Ask(first), waits: false });
        }
    }

    /// Blocks follow the hello, packed for what the region read when it was last heard, and so do the questions. It stores none of
    /// them before the term, and answers what it is asked behind its welcome.
    fn go_ahead(&mut self, (term, reads): (Term, Reads), now: Instant, out: &mut Outbox<Action>) {
        self.region = Region::Ahead(term);
        self.has_gone_ahead = true;
        self.open_uplink((term, reads, true), now, out);
    }

    /// Blocks of this board and of its peers go to the region, packed for what it `reads`.
    fn open_uplink(&mut self, (term, reads, ahead): (Term, Reads, bool), now: Instant, out: &mut Outbox<Action>) {
        self.open_route(Route::Region(term), ahead, now, out);
        self.sealer.handle_reads(reads);
        self.region_reads = Some(reads);
        self.tell_peers(&PeerMessage::UplinkOpen { term }, out);
        for message in self.own_region().into_iter().chain(self.own_reads()) {
            self.tell_peers(&message, out);
        }
    }

    /// A message from the region.
    pub fn handle_region(&mut self, message: FromRegion, now: Instant, out: &mut Outbox<Action>) {
        let is_late = self.region.term().is_some_and(|term| self.has_newer_holder(term));
        match (message, self.region) {
            (FromRegion::Welcome { .. } | FromRegion::Coverage(_), _) if is_late => {}
            (FromRegion::Welcome { .. }, Region::Dialling(term) | Region::Ahead(term)) => {
                let is_ahead = matches!(self.region, Region::Ahead(_));
                self.region = Region::Open(term);
                // What it hears it says behind this.
                self.telling = Telling::default();
                self.own.handle_uplink(Some(true), now);
                out.push(Action::Notice(Event::UplinkOpened { term }));
                if let Some(region) = self.region_of_session {
                    self.hear_region(region, now, out);
                }
                if !is_ahead {
                    self.open_uplink((term, Reads::Lz4, false), now, out);
                }
            }
            (FromRegion::Coverage(lines), Region::Open(term)) => self.handle_region_word((term, lines), now, out),
            (FromRegion::Refused(reason), Region::Dialling(_) | Region::Ahead(_) | Region::Open(_)) => {
                self.handle_refusal(reason, now, out);
            }
            (FromRegion::Welcome { .. }, Region::Open(_) | Region::Idle)
            | (FromRegion::Coverage(_), Region::Dialling(_) | Region::Ahead(_) | Region::Idle)
            | (FromRegion::Refused(_), Region::Idle) => {}
        }
        self.pump(now, out);
    }

    /// What the region reads, hears or covers: the first two are said behind its welcome.
    fn handle_region_word(&mut self, (term, lines): (Term, Vec<Coverage>), now: Instant, out: &mut Outbox<Action>) {
        self.telling.hears |= lines.iter().any(Coverage::hears_duties);
        let had_gone_ahead = core::mem::take(&mut self.has_gone_ahead);
        let said = lines.iter().find_map(|line| line.as_reads(Reader::Region));
        let reads = said.unwrap_or_default();
        if had_gone_ahead && reads != self.sealer.reads() {
            // It reads less than it did, or is one of the first builds, which say nothing: all is packed again.
            self.open_uplink((term, reads, false), now, out);
        }
        if let Some(reads) = said {
            self.sealer.handle_reads(reads);
            self.region_reads = Some(reads);
            if let Some(message) = self.own_reads() {
                self.tell_peers(&message, out);
            }
            return;
        }
        self.tell_peers(&PeerMessage::Coverage(lines.clone()), out);
        self.handle_coverage(lines, now, out);
    }

    /// Fenced by a term that this site has not heard of: the boards forgot it, or another cut-off part leads. Take
    /// note of it, so that the next term here is higher, and give the lease up.
    fn handle_refusal(&mut self, reason: Refusal, now: Instant, out: &mut Outbox<Action>) {
        if let Refusal::Fenced { highest } = reason {
            self.give_up(GivingUp::Fenced(highest), "the region has heard of a higher term", now, out);
            self.look_around(now, out);
        }
        out.push(Action::Notice(Event::UplinkRefused { reason }));
    }

    /// What this board, as the holder, takes of its peers: what the region reads. Nothing is said where that goes without saying.
    fn own_reads(&self) -> Option<PeerMessage> {
        match self.sealer.reads() {
            Reads::Lz4 => None,
            reads => Some(PeerMessage::Coverage(alloc::vec![Coverage::reads(Reader::Holder, reads)])),
        }
    }

    /// Which region this board, as the holder, speaks with. Nothing is said where the site knows one alone.
    fn own_region(&self) -> Option<PeerMessage> {
        let region = self.region_of_session?;
        Some(PeerMessage::Coverage(alloc::vec![Coverage::region(region)]))
    }

    /// What is told of coverage from now on is the word of `region`.
    fn hear_region(&mut self, region: RegionTag, now: Instant, out: &mut Outbox<Action>) {
        if self.uplink.region() != Some(region) {
            // What it reads it says behind this.
            self.region_reads = None;
        }
        if self.uplink.handle_region(region) {
            self.note(Event::RegionChanged, now, out);
        }
    }

    /// The route for blocks stands or fell: whatever was on its way starts over.
    fn open_route(&mut self, route: Route, ahead: bool, now: Instant, out: &mut Outbox<Action>) {
        self.sealer.clear();
        if route != self.uplink.route() {
            self.sealer.handle_reads(Reads::Lz4);
        }
        let asks = self
            .uplink
            .handle_route(route, ahead, origins(&self.config, &self.membership, &self.journal), now);
        self.ask(asks, out);
        self.ask_about_holes(out);
    }

    pub(super) fn ask(&self, asks: Vec<Vec<Stream>>, out: &mut Outbox<Action>) {
        for streams in asks {
            match self.uplink.route() {
                Route::Region(_) => out.push(Action::ToRegion { message: ToRegion::Ask(streams), waits: false }),
                Route::Holder(to, _) => out.push(Action::Send { to, message: PeerMessage::Ask(streams) }),
                Route::Closed => {}
            }
        }
    }

    /// The way to the region, which stands, is no more.
    pub(super) fn close_uplink(&mut self, now: Instant, out: &mut Outbox<Action>) {
        let Some(term) = self.region.passes_on() else { return };
        if let Region::Open(_) = self.region {
            out.push(Action::Notice(Event::UplinkClosed));
        }
        self.tell_peers(&PeerMessage::UplinkClosed { term }, out);
        if self.uplink.route() == Route::Region(term) {
            self.open_route(Route::Closed, false, now, out);
        }
    }

    fn tell_peers(&self, message: &PeerMessage, out: &mut Outbox<Action>) {
        for to in self.linked.iter() {
            out.push(Action::Send { to, message: message.clone() });
        }
    }

    /// Handles what is due on the control path, and lets each stage know what the others found.
    pub(super) fn pump_control(&mut self, now: Instant, out: &mut Outbox<Action>) {
        self.own.handle_deadline(now);
        let vitals = self.vitals(now);
        let mut outputs = Outbox::default();
        self.membership.handle_deadline(now, &vitals, &mut outputs);
        self.handle_membership(&mut outputs, now, out);
        let mut outputs = Outbox::default();
        self.election.handle_deadline(now, &mut outputs);
        self.handle_election(&mut outputs, now, out);
        let mut outputs = Outbox::default();
        self.duties.handle_deadline(now, &mut outputs);
        self.handle_duties(&mut outputs, now, out);
        self.look_around(now, out);
    }

    /// Says to a board, and notes that a datagram leaves to it: a heartbeat that is due soon goes along.
    pub(super) fn tell(&mut self, to: BoardId, message: ControlMessage, out: &mut Outbox<Action>) {
        self.told.insert(to);
        out.push(Action::Tell { to, message });
    }

    /// Heartbeats that share datagrams with what was told since the last time.
    pub(super) fn ride_along(&mut self, now: Instant, out: &mut Outbox<Action>) {
        let told = core::mem::take(&mut self.told);
        if told.is_empty() {
            return;
        }
        let vitals = self.vitals(now);
        let mut outputs = Outbox::default();
        for to in told.iter() {
            self.membership.ride_along(to, now, &vitals, &mut outputs);
        }
        self.handle_membership(&mut outputs, now, out);
    }

    /// Something that every board should know has changed: heartbeats leave at once.
    pub(super) fn beat_now(&mut self, now: Instant, out: &mut Outbox<Action>) {
        let vitals = self.vitals(now);
        let mut outputs = Outbox::default();
        self.membership.beat_now(now, &vitals, &mut outputs);
        self.handle_membership(&mut outputs, now, out);
    }

    /// Tells of something, and keeps it for whoever asks why.
    pub(super) fn note(&mut self, event: Event, now: Instant, out: &mut Outbox<Action>) {
        self.chronicle.note(&event, now);
        out.push(Action::Notice(event));
    }

    pub(super) fn handle_membership(
        &mut self,
        outputs: &mut Outbox<membership::Output>,
        now: Instant,
        out: &mut Outbox<Action>,
    ) {
        let mut changed = false;
        while let Some(output) = outputs.pop() {
            match output {
                membership::Output::Tell { to, heartbeat } => {
                    out.push(Action::Tell { to, message: ControlMessage::Heartbeat(heartbeat) });
                }
                membership::Output::TellHearing { to, hearing } => {
                    out.push(Action::Tell { to, message: ControlMessage::Hearing(hearing) });
                }
                membership::Output::Up { board, epoch } | membership::Output::Restarted { board, epoch } => {
                    self.note(Event::BoardUp { board, epoch }, now, out);
                    self.notice_older(board, epoch, out);
                    changed = true;
                }
                membership::Output::Down { board, .. } => {
                    self.note(Event::BoardDown { board }, now, out);
                    changed = true;
                }
                membership::Output::Impaired { board } => self.note(Event::BoardImpaired { board }, now, out),
                membership::Output::Whole { .. } => {}
            }
        }
        if changed {
            self.uplink.refresh(origins(&self.config, &self.membership, &self.journal), now);
            self.replicate_more(now, out);
            self.pump(now, out);
        }
    }

    /// Nothing of the site may act under this board's lease any more; the lease is given back once that is certain.
    pub(super) fn give_up_lease(&mut self, why: &'static str, now: Instant, out: &mut Outbox<Action>) {
        self.own.handle_end();
        let mut outputs = Outbox::default();
        self.duties.handle_stop(now, &mut outputs);
        self.handle_duties(&mut outputs, now, out);
        self.give_up(GivingUp::Stop, why, now, out);
        self.look_around(now, out);
    }

    /// The term in which this board takes another, or itself, for the leader.
    pub fn leader_seen(&self) -> Option<Term> {
        self.leader_term()
    }

    /// Boards not known to be down, this one included.
    pub fn alive(&self) -> BoardSet {
        self.membership.alive()
    }
}
