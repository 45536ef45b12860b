//! The one task that owns the node: brings it every input, performs what it decides, in order. Every pass handles all
//! that is ready before it judges a deadline, so that a busy or delayed process does not take its own lateness for
//! the silence of others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use link::clock::{self, Sleeper};
use link::stop::Stop;
use shared::action::{Action, DiskDone, DutyReport, Evidence, Health, Offer, RegionLink};
use shared::event::Event;
use shared::ids::{BoardId, DutyId};
use shared::node::Node;
use shared::node::status::Status;
use shared::outbox::Outbox;
use shared::time::Instant;
use shared::uplink::outlook::Outlook;
use shared::wire::control::ControlMessage;
use shared::wire::peer::PeerMessage;
use tokio::sync::{mpsc, watch};

use crate::admin::Asked;
use crate::disk::Disk;
use crate::front_door::DoorAnswers;
use crate::mesh::{Addresses, ControlChange, Link, LinkChange, MeshCounts, MeshInputs, Telling, count, gone};
use crate::notices::Notices;
use crate::uplink::{RegionInput, Session, Uplink};
use crate::witness::{WitnessInput, WitnessLine};
use crate::workloads::Workloads;

/// Between two snapshots for people, where nothing important changed.
const SNAPSHOT_PERIOD: Duration = Duration::from_millis(50);
/// A deadline met so late means that this process stood still (a stopped or starved machine). What came meanwhile is
/// still in the sockets, so the tasks that read them run first.
const LATE: Duration = Duration::from_millis(20);
/// How long they get.
const CATCH_UP: Duration = Duration::from_millis(5);
/// What was accepted is given so long to commit when the process stops.
const STOP_MAX: Duration = Duration::from_secs(5);
/// What was told last is given so long to leave this machine: it takes less than a millisecond where the peers live.
const TOLD_MAX: Duration = Duration::from_millis(50);

/// The node at one instant, for people.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// As the node says it.
    pub(crate) status: Status,
    /// When.
    pub(crate) at: Instant,
    /// How long its backlog still takes to go home, at the pace of the last half minute; `None` where it does not fall.
    pub(crate) backlog_eta: Option<Duration>,
}

/// Why the driver ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was told to stop, and everything accepted was committed and answered.
    Stopped,
    /// It was told to stop, and something accepted could not be committed in time: it was not acknowledged.
    StoppedWaiting,
    /// The journal is poisoned.
    Poisoned,
}

/// Everything that comes in.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// From the boards.
    pub(crate) mesh: MeshInputs,
    /// From the region; `None` where none is configured.
    pub(crate) region: Option<mpsc::Receiver<RegionInput>>,
    /// From the witness; `None` where none is configured.
    pub(crate) witness: Option<mpsc::Receiver<WitnessInput>>,
    /// From publishers.
    pub(crate) offers: mpsc::Receiver<Vec<Offer>>,
    /// From operators.
    pub(crate) wishes: mpsc::Receiver<Asked>,
    /// The other boards, where the list of them was read again.
    pub(crate) boards: mpsc::Receiver<Addresses>,
    /// How the machine is.
    pub(crate) health: mpsc::Receiver<Health>,
}

/// Where actions go.
#[derive(Debug)]
pub(crate) struct Effects {
    pub(crate) disk: Disk,
    pub(crate) uplink: Option<Uplink>,
    pub(crate) answers: DoorAnswers,
    pub(crate) workloads: Workloads,
    pub(crate) notices: Arc<Notices>,
    pub(crate) mesh: Arc<MeshCounts>,
    pub(crate) telling: Telling,
    pub(crate) members: watch::Sender<Addresses>,
    pub(crate) witness: Option<WitnessLine>,
    pub(crate) snapshots: watch::Sender<Option<Arc<Snapshot>>>,
}

/// Owner of the node.
#[derive(Debug)]
pub(crate) struct Driver {
    node: Node,
    out: Outbox<Action>,
    inputs: Inputs,
    effects: Effects,
    links: BTreeMap<BoardId, Link>,
    session: Option<Session>,
    snapshot_at: Instant,
    outlook: Outlook,
    poisoned: bool,
    sleeper: Sleeper,
}

/// One thing that came in.
enum Input {
    Stop,
    Control(BoardId, ControlMessage),
    ControlLink(ControlChange),
    Evidence(BoardId, Evidence),
    Obituary(BoardId, u64),
    Disk(DiskDone),
    Link(LinkChange),
    Region(RegionInput),
    Witness(WitnessInput),
    Messages(BoardId, Vec<PeerMessage>),
    Offers(Vec<Offer>),
    Wish(Asked),
    Boards(Addresses),
    Health(Health),
    Duty(DutyId, DutyReport),
    Event(Event),
    Nothing,
}

impl Driver {
    pub(crate) fn new(node: Node, inputs: Inputs, effects: Effects) -> Self {
        Self {
            node,
            out: Outbox::default(),
            inputs,
            effects,
            links: BTreeMap::new(),
            session: None,
            snapshot_at: Instant::ZERO,
            outlook: Outlook::default(),
            poisoned: false,
            sleeper: Sleeper::new(),
        }
    }

    /// Runs the node until it has stopped, or the journal is poisoned. Gives back what must be closed in order.
    pub(crate) async fn run(mut self, mut stop: Stop) -> (Ended, Inputs, Effects) {
        self.node.handle_start(clock::now(), &mut self.out);
        self.perform();
        let mut give_up_at = None;
        let ended = loop {
            let input = self.next(&mut stop, give_up_at.is_none()).await;
            if matches!(input, Input::Stop) {
                give_up_at = Some(clock::now() + STOP_MAX);
            }
            self.handle(input);
            self.handle_ready();
            self.judge_deadline().await;
            self.publish();
            if self.poisoned {
                break Ended::Poisoned;
            }
            if self.node.is_stopped() {
                break Ended::Stopped;
            }
            if give_up_at.is_some_and(|at| clock::now() >= at) {
                break Ended::StoppedWaiting;
            }
        };
        self.snapshot(clock::now());
        // A lease given back is told by datagrams, and whoever closes the connections now must not be faster.
        // A peer that takes nothing waits for the lease's end.
        let _ = tokio::time::timeout(TOLD_MAX, self.effects.telling.told()).await;
        (ended, self.inputs, self.effects)
    }

    /// Waits for the next input, or until the node's deadline.
    async fn next(&mut self, stop: &mut Stop, may_stop: bool) -> Input {
        let nap = clock::nap(self.node.next_deadline(), clock::now());
        let accepts = self.node.accepts();
        let Inputs { mesh, region, witness, offers, wishes, boards, health } = &mut self.inputs;
        tokio::select! {
            biased;
            () = stop.stopped(), if may_stop => Input::Stop,
            Some((from, message)) = mesh.control.recv() => Input::Control(from, message),
            Some(input) = receive(witness) => Input::Witness(input),
            Some(change) = mesh.control_changes.recv() => Input::ControlLink(change),
            Some((board, life)) = mesh.obituaries.recv() => Input::Obituary(board, life),
            Some((peer, evidence)) = mesh.evidence.recv() => Input::Evidence(peer, evidence),
            done = self.effects.disk.done() => Input::Disk(done),
            Some(change) = mesh.changes.recv() => Input::Link(change),
            (duty, report) = self.effects.workloads.report() => Input::Duty(duty, report),
            Some(input) = receive(region) => Input::Region(input),
            Some((from, batch)) = mesh.messages.recv() => Input::Messages(from, batch),
            Some(batch) = offers.recv(), if accepts => Input::Offers(batch),
            Some(event) = mesh.events.recv() => Input::Event(event),
            Some(asked) = wishes.recv() => Input::Wish(asked),
            Some(boards) = boards.recv() => Input::Boards(boards),
            Some(health) = health.recv() => Input::Health(health),
            () = self.sleeper.sleep(nap) => Input::Nothing,
        }
    }

    /// Handles all that is ready now. What comes while this runs is for the next pass, so that this one ends.
    fn handle_ready(&mut self) {
        for _ in 0..self.inputs.mesh.control_changes.len() {
            let Ok(change) = self.inputs.mesh.control_changes.try_recv() else { break };
            self.handle(Input::ControlLink(change));
        }
        for _ in 0..self.inputs.mesh.control.len() {
            let Ok((from, message)) = self.inputs.mesh.control.try_recv() else { break };
            self.handle(Input::Control(from, message));
        }
        while let Some(Ok(input)) = self.inputs.witness.as_mut().map(mpsc::Receiver::try_recv) {
            self.handle(Input::Witness(input));
        }
        while let Ok((board, life)) = self.inputs.mesh.obituaries.try_recv() {
            self.handle(Input::Obituary(board, life));
        }
        for _ in 0..self.inputs.mesh.evidence.len() {
            let Ok((peer, evidence)) = self.inputs.mesh.evidence.try_recv() else { break };
            self.handle(Input::Evidence(peer, evidence));
        }
        while let Some(done) = self.effects.disk.try_done() {
            self.handle(Input::Disk(done));
        }
        for _ in 0..self.inputs.mesh.changes.len() {
            let Ok(change) = self.inputs.mesh.changes.try_recv() else { break };
            self.handle(Input::Link(change));
        }
        for _ in 0..self.inputs.region.as_ref().map_or(0, mpsc::Receiver::len) {
            let Some(Ok(input)) = self.inputs.region.as_mut().map(mpsc::Receiver::try_recv) else {
                break;
            };
            self.handle(Input::Region(input));
        }
        for _ in 0..self.inputs.mesh.messages.len() {
            let Ok((from, batch)) = self.inputs.mesh.messages.try_recv() else { break };
            self.handle(Input::Messages(from, batch));
        }
        for _ in 0..self.inputs.offers.len() {
            if !self.node.accepts() {
                break;
            }
            let Ok(batch) = self.inputs.offers.try_recv() else { break };
            self.handle(Input::Offers(batch));
        }
    }

    fn handle(&mut self, input: Input) {
        let now = clock::now();
        match input {
            Input::Stop => self.node.handle_stop(now, &mut self.out),
            Input::Control(from, message) => self.node.handle_control(from, message, now, &mut self.out),
            Input::ControlLink(change) => return self.effects.telling.change(change),
            Input::Evidence(peer, evidence) => self.node.handle_evidence(peer, evidence, now, &mut self.out),
            Input::Obituary(board, life) => self.node.handle_obituary(board, life, now, &mut self.out),
            Input::Disk(done) => self.node.handle_disk(done, now, &mut self.out),
            Input::Link(LinkChange { peer, link }) => {
                let up = link.is_some();
                match link {
                    Some(link) => self.links.insert(peer, link),
                    None => self.links.remove(&peer),
                };
                self.node.handle_link(peer, up, now, &mut self.out);
            }
            Input::Witness(input) => self.handle_witness(input, now),
            Input::Region(input) => return self.handle_region(input, now),
            Input::Messages(from, batch) => {
                for message in batch {
                    self.node.handle_message(from, message, now, &mut self.out);
                    self.perform();
                }
                return;
            }
            Input::Offers(batch) => self.node.handle_offers(batch, now, &mut self.out),
            Input::Wish((wish, tell)) => {
                let answer = self.node.handle_wish(wish, now, &mut self.out);
                // Whoever asked may have gone.
                let _ = tell.send(answer);
            }
            Input::Boards(addresses) => self.handle_boards(addresses, now),
            Input::Health(health) => self.node.handle_health(health, now, &mut self.out),
            Input::Duty(duty, report) => self.node.handle_duty(duty, report, now, &mut self.out),
            Input::Event(event) => self.effects.notices.note(&event),
            Input::Nothing => {}
        }
        self.perform();
    }

    /// The node first: a link to a board that it does not know would be no news to it.
    fn handle_boards(&mut self, addresses: Addresses, now: Instant) {
        self.node.handle_boards(addresses.keys().copied().collect(), now, &mut self.out);
        for peer in gone(&self.effects.members.borrow(), &addresses) {
            self.effects.telling.part(peer);
        }
        self.effects.members.send_replace(addresses);
    }

    fn handle_witness(&mut self, input: WitnessInput, now: Instant) {
        let Some(line) = &mut self.effects.witness else { return };
        let id = line.id;
        match input {
            WitnessInput::Up(connection) => {
                line.change(Some(connection));
                self.node.handle_witness_link(id, true, now, &mut self.out);
            }
            WitnessInput::Said(message) => self.node.handle_witness(id, &message, now, &mut self.out),
            WitnessInput::Down => {
                line.change(None);
                self.node.handle_witness_link(id, false, now, &mut self.out);
            }
        }
    }

    fn handle_region(&mut self, input: RegionInput, now: Instant) {
        match input {
            RegionInput::Up(session) => {
                let link = RegionLink::Up(session.region);
                self.session = Some(session);
                self.node.handle_region_link(link, now, &mut self.out);
            }
            RegionInput::Said(messages) => {
                for message in messages {
                    self.node.handle_region(message, now, &mut self.out);
                    self.perform();
                }
            }
            RegionInput::Down => {
                self.session = None;
                self.node.handle_region_link(RegionLink::Down, now, &mut self.out);
            }
        }
        self.perform();
    }

    async fn judge_deadline(&mut self) {
        let deadline = self.node.next_deadline().at;
        let now = clock::now();
        if now < deadline {
            return;
        }
        if now.since(deadline) >= LATE {
            tokio::time::sleep(CATCH_UP).await;
            self.handle_ready();
        }
        self.node.handle_deadline(clock::now(), &mut self.out);
        self.perform();
    }

    /// Performs what the node decided, in order, until nothing is left.
    fn perform(&mut self) {
        while let Some(action) = self.out.pop() {
            match action {
                Action::Answer(answers) => self.effects.answers.deliver(&answers),
                Action::Disk(job) => self.effects.disk.submit(job),
                Action::Send { to, message } => match self.links.get(&to) {
                    Some(link) => link.send(message),
                    None => count(&self.effects.mesh.unsent),
                },
                Action::Tell { to, message } => self.effects.telling.tell(to, &message),
                Action::Duty { duty, order } => self.effects.workloads.order(duty, order),
                Action::TellWitness { to, message } => {
                    if let Some(line) = self.effects.witness.as_mut().filter(|line| line.id == to) {
                        line.tell(message);
                    }
                }
                Action::Dial(hello) => {
                    if let Some(uplink) = &self.effects.uplink {
                        uplink.dial(hello);
                    }
                }
                Action::HangUp => {
                    if let Some(uplink) = &self.effects.uplink {
                        uplink.hang_up();
                    }
                }
                Action::ToRegion { message, waits } => {
                    if let Some(session) = &self.session {
                        session.send(message, waits);
                    }
                }
                Action::Notice(event) => self.notice(&event),
            }
        }
        // What the node told one peer in one go shares a datagram.
        self.effects.telling.flush();
        if let Some(line) = &mut self.effects.witness {
            line.flush();
        }
        self.node.check();
    }

    fn notice(&mut self, event: &Event) {
        self.effects.notices.note(event);
        match event {
            Event::JournalPoisoned => self.poisoned = true,
            Event::LeaderChanged { .. } | Event::LeaseAcquired { .. } | Event::LeaseLost { .. } => {
                // People who watch a takeover see it at once.
                self.snapshot_at = Instant::ZERO;
            }
            _ => {}
        }
    }

    fn publish(&mut self) {
        let now = clock::now();
        if now >= self.snapshot_at {
            self.snapshot(now);
        }
    }

    fn snapshot(&mut self, now: Instant) {
        self.snapshot_at = now + SNAPSHOT_PERIOD;
        let status = self.node.status(now);
        self.outlook.note(status.backlog, now);
        let snapshot = Snapshot { status, at: now, backlog_eta: self.outlook.estimate() };
        self.effects.snapshots.send_replace(Some(Arc::new(snapshot)));
    }
}

/// The next of a queue that may not be there.
async fn receive<T>(queue: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match queue {
        Some(queue) => queue.recv().await,
        None => None,
    }
}
