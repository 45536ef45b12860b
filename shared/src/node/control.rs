//! The control path: heartbeats → membership → election → duties → who speaks to the region and who keeps copies.
//! Hears of data only as facts (a connection stands, the region covers); never reads a record.

use alloc::vec::Vec;

use crate::action::{Action, DiskJob, DutyReport, Evidence, Health, Memory, Wish, WishAnswer};
use crate::duties;
use crate::duties::Duty;
use crate::election;
use crate::election::View;
use crate::event::Event;
use crate::ids::{BoardId, BoardSet, DutyId, Stream, Term, WitnessId};
use crate::limits::COVERAGE_STREAMS_MAX;
use crate::membership;
use crate::node::{Node, Region, origins};
use crate::outbox::Outbox;
use crate::time::Instant;
use crate::uplink::Route;
use crate::wire::control::ControlMessage;
use crate::wire::election::ElectionMessage;
use crate::wire::heartbeat::{Claim, Vitals};
use crate::wire::peer::PeerMessage;
use crate::wire::uplink::{BoardReport, FromRegion, Hello, Refusal, SiteReport, ToRegion};

impl Node {
    /// The reliable connection to `peer` stands or fell.
    pub fn handle_link(&mut self, peer: BoardId, up: bool, now: Instant, out: &mut Outbox<Action>) {
        if !self.config.peers().contains(peer) {
            return;
        }
        if up {
            self.linked.insert(peer);
            if let Region::Open(term) = self.region {
                out.push(Action::Send { to: peer, message: PeerMessage::UplinkOpen { term } });
            }
            if matches!(self.uplink.route(), Route::Holder(holder, _) if holder == peer) {
                self.open_route(self.uplink.route(), now, out);
            }
        } else {
            self.linked.remove(peer);
            self.replication.handle_link_down(peer);
        }
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
            ControlMessage::Election(message) => {
                let mut outputs = Outbox::default();
                self.election.handle_message(from.into(), message, now, &mut outputs);
                self.handle_election(&mut outputs, now, out);
            }
            ControlMessage::Hearing(_) | ControlMessage::Duty(_) => {}
        }
        self.look_around(now, out);
    }

    /// A message on the reliable connection from `from`, whose certificate proved it.
    pub fn handle_message(&mut self, from: BoardId, message: PeerMessage, now: Instant, out: &mut Outbox<Action>) {
        match message {
            PeerMessage::Hello(_) => {}
            PeerMessage::Copy(run) => self.handle_copy(from, run, out),
            PeerMessage::Durable(lines) => {
                for (stream, range) in lines {
                    self.replication.handle_durable(from, &stream, range);
                    self.refill.handle_durable(from, &stream, range, now);
                }
            }
            PeerMessage::UplinkOpen { term } => self.handle_uplink_open(from, term, now, out),
            PeerMessage::UplinkClosed { term } => {
                if self.uplink.route() == Route::Holder(from, term) {
                    self.open_route(Route::Closed, now, out);
                }
            }
            PeerMessage::Ask(streams) => {
                if matches!(self.region, Region::Open(_)) && streams.len() <= COVERAGE_STREAMS_MAX {
                    out.push(Action::ToRegion(ToRegion::Ask(streams)));
                }
            }
            PeerMessage::Block(block) => self.handle_block(block, out),
            PeerMessage::Coverage(lines) => {
                if matches!(self.uplink.route(), Route::Holder(holder, _) if holder == from) {
                    self.handle_coverage(lines, now, out);
                }
            }
            PeerMessage::Report(report) => {
                if report.board == from && self.config.boards.contains(from) {
                    self.reports.insert(from, report);
                }
            }
        }
        self.pump(now, out);
    }

    fn handle_uplink_open(&mut self, from: BoardId, term: Term, now: Instant, out: &mut Outbox<Action>) {
        let newer = match self.uplink.route() {
            Route::Closed => true,
            Route::Region(current) | Route::Holder(_, current) => term >= current,
        };
        if newer && term.board() == Some(from) {
            self.open_route(Route::Holder(from, term), now, out);
        }
    }

    /// A datagram from a witness, whose certificate proved it.
    pub fn handle_witness(
        &mut self,
        _from: WitnessId,
        _message: ElectionMessage,
        _now: Instant,
        _out: &mut Outbox<Action>,
    ) {
    }

    /// The connection to a witness stands or fell.
    pub fn handle_witness_link(&mut self, _witness: WitnessId, _up: bool, _now: Instant, _out: &mut Outbox<Action>) {}

    /// The supervisor of `board` has seen that life of it end, and signed that.
    pub fn handle_obituary(&mut self, _board: BoardId, _life: u64, _now: Instant, _out: &mut Outbox<Action>) {}

    /// The transport has noticed something about `board`.
    pub fn handle_evidence(&mut self, _board: BoardId, _evidence: Evidence, _now: Instant, _out: &mut Outbox<Action>) {}

    /// Something about the process of a user's duty has changed.
    pub fn handle_duty(&mut self, _duty: DutyId, _report: DutyReport, _now: Instant, _out: &mut Outbox<Action>) {}

    /// How the machine is, about once a second.
    pub fn handle_health(&mut self, _health: Health, _now: Instant, _out: &mut Outbox<Action>) {}

    /// An operator wishes something.
    pub fn handle_wish(&mut self, _wish: Wish, _now: Instant, _out: &mut Outbox<Action>) -> WishAnswer {
        WishAnswer::Refused("not built yet")
    }

    /// From now on these boards, this one among them, belong to the site.
    pub fn handle_boards(&mut self, _boards: BoardSet, _now: Instant, _out: &mut Outbox<Action>) {}

    /// The session with the region stands (the shell has sent the hello) or fell.
    pub fn handle_region_link(&mut self, up: bool, now: Instant, out: &mut Outbox<Action>) {
        if !up && let Region::Open(term) = self.region {
            self.region = Region::Dialling(term);
            self.close_uplink(term, now, out);
        }
        self.pump(now, out);
    }

    /// A message from the region.
    pub fn handle_region(&mut self, message: FromRegion, now: Instant, out: &mut Outbox<Action>) {
        match (message, self.region) {
            (FromRegion::Welcome { .. }, Region::Dialling(term)) => {
                self.region = Region::Open(term);
                out.push(Action::Notice(Event::UplinkOpened { term }));
                self.open_route(Route::Region(term), now, out);
                self.tell_peers(&PeerMessage::UplinkOpen { term }, out);
            }
            (FromRegion::Coverage(lines), Region::Open(_)) => {
                self.tell_peers(&PeerMessage::Coverage(lines.clone()), out);
                self.handle_coverage(lines, now, out);
            }
            (FromRegion::Refused(reason), Region::Dialling(_) | Region::Open(_)) => {
                self.handle_refusal(reason, now, out);
            }
            (FromRegion::Welcome { .. }, Region::Open(_) | Region::Idle)
            | (FromRegion::Coverage(_), Region::Dialling(_) | Region::Idle)
            | (FromRegion::Refused(_), Region::Idle) => {}
        }
        self.pump(now, out);
    }

    /// Fenced by a term that this site has not heard of: the boards forgot it, or another cut-off part leads. Take
    /// note of it, so that the next term here is higher, and give the lease up.
    fn handle_refusal(&mut self, reason: Refusal, now: Instant, out: &mut Outbox<Action>) {
        if let Refusal::Fenced { highest } = reason {
            let mut outputs = Outbox::default();
            self.election.handle_fenced(highest, now, &mut outputs);
            self.handle_election(&mut outputs, now, out);
        }
        out.push(Action::Notice(Event::UplinkRefused { reason }));
    }

    /// The route for blocks stands or fell: whatever was on its way starts over.
    fn open_route(&mut self, route: Route, now: Instant, out: &mut Outbox<Action>) {
        self.sealer.clear();
        let asks = self
            .uplink
            .handle_route(route, origins(&self.config, &self.membership, &self.journal), now);
        self.ask(asks, out);
    }

    pub(super) fn ask(&self, asks: Vec<Vec<Stream>>, out: &mut Outbox<Action>) {
        for streams in asks {
            match self.uplink.route() {
                Route::Region(_) => out.push(Action::ToRegion(ToRegion::Ask(streams))),
                Route::Holder(to, _) => out.push(Action::Send { to, message: PeerMessage::Ask(streams) }),
                Route::Closed => {}
            }
        }
    }

    fn close_uplink(&mut self, term: Term, now: Instant, out: &mut Outbox<Action>) {
        out.push(Action::Notice(Event::UplinkClosed));
        self.tell_peers(&PeerMessage::UplinkClosed { term }, out);
        if self.uplink.route() == Route::Region(term) {
            self.open_route(Route::Closed, now, out);
        }
    }

    fn tell_peers(&self, message: &PeerMessage, out: &mut Outbox<Action>) {
        for to in self.linked.iter() {
            out.push(Action::Send { to, message: message.clone() });
        }
    }

    /// Once a second: counters to the holder, or all boards' counters to the region.
    pub(super) fn report(&self, out: &mut Outbox<Action>) {
        let own = self.own_report();
        match self.uplink.route() {
            Route::Closed => {}
            Route::Holder(to, _) => out.push(Action::Send { to, message: PeerMessage::Report(own) }),
            Route::Region(_) => {
                let alive = self.membership.alive();
                let others = self.reports.values().filter(|report| report.board != own.board);
                let judged = others.map(|report| BoardReport { alive: alive.contains(report.board), ..report.clone() });
                let boards = core::iter::once(own.clone()).chain(judged).collect();
                out.push(Action::ToRegion(ToRegion::Report(SiteReport { boards })));
            }
        }
    }

    /// Handles what is due in membership and election, and lets each know what the other found.
    pub(super) fn pump_control(&mut self, now: Instant, out: &mut Outbox<Action>) {
        let leads = self.election.holds(now).map(|term| Claim { term, left_ms: 0 });
        let vitals = Vitals { seen: self.election.seen(), leads, accepts: self.accepts(), ..Vitals::default() };
        let mut outputs = Outbox::default();
        self.membership.handle_deadline(now, vitals, &mut outputs);
        self.handle_membership(&mut outputs, now, out);
        let mut outputs = Outbox::default();
        self.election.handle_deadline(now, &mut outputs);
        self.handle_election(&mut outputs, now, out);
        self.look_around(now, out);
    }

    /// The election looks at what membership sees.
    fn look_around(&mut self, now: Instant, out: &mut Outbox<Action>) {
        let view = View {
            alive: self.membership.alive(),
            leads: self.membership.leads(),
            seen: self.membership.seen(),
            fitness: alloc::collections::BTreeMap::new(),
        };
        let mut outputs = Outbox::default();
        self.election.handle_view(view, now, &mut outputs);
        self.handle_election(&mut outputs, now, out);
    }

    fn handle_membership(&mut self, outputs: &mut Outbox<membership::Output>, now: Instant, out: &mut Outbox<Action>) {
        let mut changed = false;
        while let Some(output) = outputs.pop() {
            match output {
                membership::Output::Tell { to, heartbeat } => {
                    out.push(Action::Tell { to, message: ControlMessage::Heartbeat(heartbeat) });
                }
                membership::Output::Up { board, epoch } | membership::Output::Restarted { board, epoch } => {
                    out.push(Action::Notice(Event::BoardUp { board, epoch }));
                    changed = true;
                }
                membership::Output::Down { board } => {
                    out.push(Action::Notice(Event::BoardDown { board }));
                    changed = true;
                }
            }
        }
        if changed {
            self.uplink.refresh(origins(&self.config, &self.membership, &self.journal), now);
            self.replicate_more(now, out);
            self.pump(now, out);
        }
    }

    pub(super) fn handle_remembered(&mut self, memory: Memory, now: Instant, out: &mut Outbox<Action>) {
        let mut outputs = Outbox::default();
        self.election.handle_remembered(memory, now, &mut outputs);
        self.handle_election(&mut outputs, now, out);
    }

    pub(super) fn give_up_lease(&mut self, now: Instant, out: &mut Outbox<Action>) {
        // Effects end before the lease is handed back.
        self.handle_duties(None, now, out);
        let mut outputs = Outbox::default();
        self.election.handle_stop(now, &mut outputs);
        self.handle_election(&mut outputs, now, out);
    }

    fn handle_election(&mut self, outputs: &mut Outbox<election::Output>, now: Instant, out: &mut Outbox<Action>) {
        while let Some(output) = outputs.pop() {
            match output {
                election::Output::Tell { to, message } => match (to.board(), to.witness()) {
                    (Some(to), _) => out.push(Action::Tell { to, message: ControlMessage::Election(message) }),
                    (None, Some(to)) => out.push(Action::TellWitness { to, message }),
                    (None, None) => {}
                },
                election::Output::Acquired { term } => {
                    out.push(Action::Notice(Event::LeaseAcquired { term }));
                    self.handle_duties(Some(term), now, out);
                }
                election::Output::Lost { term, released } => {
                    out.push(Action::Notice(Event::LeaseLost { term, released }));
                    self.handle_duties(None, now, out);
                }
                election::Output::Remember(memory) => out.push(Action::Disk(DiskJob::Remember(memory))),
                election::Output::Extended { .. } | election::Output::VotersChanged { .. } => {}
                election::Output::LeaderSeen { term } => out.push(Action::Notice(Event::LeaderChanged { term })),
            }
        }
    }

    fn handle_duties(&mut self, lease: Option<Term>, now: Instant, out: &mut Outbox<Action>) {
        let mut outputs = Outbox::default();
        self.duties.handle_lease(lease, &mut outputs);
        while let Some(output) = outputs.pop() {
            match output {
                duties::Output::Started { duty: Duty::Uplink, term } => self.start_uplink(term, out),
                duties::Output::Stopped { duty: Duty::Uplink, term } => self.stop_uplink(term, now, out),
            }
        }
    }

    fn start_uplink(&mut self, term: Term, out: &mut Outbox<Action>) {
        if !self.config.has_region {
            return;
        }
        self.region = Region::Dialling(term);
        out.push(Action::Dial(Hello {
            site: self.config.site.clone(),
            board: self.config.board,
            epoch: self.origin.epoch,
            term,
        }));
    }

    fn stop_uplink(&mut self, term: Term, now: Instant, out: &mut Outbox<Action>) {
        let before = core::mem::replace(&mut self.region, Region::Idle);
        match before {
            Region::Idle => return,
            Region::Dialling(_) => {}
            Region::Open(_) => self.close_uplink(term, now, out),
        }
        out.push(Action::HangUp);
    }

    /// The term under which this board holds a valid lease at `now`.
    pub fn holds(&self, now: Instant) -> Option<Term> {
        self.election.holds(now)
    }

    /// Boards not known to be down, this one included.
    pub fn alive(&self) -> BoardSet {
        self.membership.alive()
    }
}
