//! Everything that can be on the agenda. What names a process carries the number of its life, what names a
//! connection its generation: whatever belongs to an earlier one is void when its time comes.

use bytes::Bytes;
use shared::action::{DiskDone, DutyReport, Evidence, Health, Memory, RegionLink};
use shared::hub::SessionId;
use shared::ids::{BoardId, DutyId, Fencing, WitnessId};
use shared::record::Record;
use shared::region::ledger::{StoreFailed, Stored};
use shared::wire::control::ControlMessage;
use shared::wire::election::ElectionMessage;
use shared::wire::peer::PeerMessage;
use shared::wire::uplink::FromRegion;

use crate::board::Life;
use crate::clock::Moment;
use crate::duty::DutyStep;
use crate::faults::Mend;
use crate::mark::Mark;
use crate::mesh::{Pair, Side};
use crate::region::Place;

/// An input of a board's node, as its shell hands it over.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Link { peer: BoardId, up: bool },
    Message { from: BoardId, message: PeerMessage },
    Control { from: BoardId, message: ControlMessage },
    Witness { from: WitnessId, message: ElectionMessage },
    WitnessLink { witness: WitnessId, up: bool },
    Obituary { board: BoardId, life: u64 },
    Evidence { board: BoardId, evidence: Evidence },
    Duty { duty: DutyId, report: DutyReport },
    Health(Health),
    Disk(DiskDone),
    RegionLink(RegionLink),
    Region(FromRegion),
}

/// What the region's store brings back.
#[derive(Clone, Debug)]
pub(crate) enum StoreDone {
    Stored {
        token: shared::ids::Token,
        result: Result<Vec<Stored>, StoreFailed>,
    },
    Loaded {
        token: shared::ids::Token,
        streams: Vec<shared::ids::Stream>,
    },
}

/// One thing that is going to happen.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    // boards
    Boot {
        board: BoardId,
        after: Life,
    },
    Wake {
        board: BoardId,
        life: Life,
    },
    Serve {
        board: BoardId,
        life: Life,
    },
    DiskEnds {
        board: BoardId,
        job: u64,
    },
    Thaw {
        board: BoardId,
        life: Life,
    },
    // between boards
    Datagram {
        from: BoardId,
        to: BoardId,
        message: Box<ControlMessage>,
    },
    LinkTry {
        pair: Pair,
        generation: u64,
    },
    LinkUp {
        pair: Pair,
        generation: u64,
        side: Side,
    },
    LinkDown {
        pair: Pair,
        generation: u64,
        side: Side,
    },
    LinkFrame {
        pair: Pair,
        generation: u64,
        side: Side,
        message: Box<PeerMessage>,
    },
    LinkSuspect {
        pair: Pair,
        generation: u64,
    },
    // between a board and the region
    UplinkTry {
        board: BoardId,
        attempt: u64,
    },
    UplinkOpened {
        board: BoardId,
        session: SessionId,
    },
    UplinkUp {
        board: BoardId,
        session: SessionId,
    },
    UplinkDown {
        board: BoardId,
        session: SessionId,
        life: Life,
    },
    UplinkGone {
        session: SessionId,
    },
    UplinkSuspect {
        board: BoardId,
        session: SessionId,
    },
    /// Looks whether the better region is there again.
    LookHome {
        board: BoardId,
        session: SessionId,
    },
    ToRegion {
        session: SessionId,
        frame: Bytes,
    },
    FromRegion {
        board: BoardId,
        session: SessionId,
        frame: Bytes,
    },
    StaleHello {
        session: SessionId,
        frame: Bytes,
    },
    // the region
    RegionWake {
        place: Place,
        life: u64,
    },
    RegionBoot,
    StoreEnds {
        place: Place,
        job: u64,
    },
    StoreAnswers {
        place: Place,
        life: u64,
        done: StoreDone,
    },
    // publishers
    Reading {
        publisher: u8,
    },
    PublisherDial {
        publisher: u8,
        connection: u64,
    },
    PublisherUp {
        publisher: u8,
        connection: u64,
        board: BoardId,
        life: Life,
    },
    PublisherReset {
        publisher: u8,
        connection: u64,
    },
    PublisherPatience {
        publisher: u8,
    },
    Offer {
        mark: Mark,
        connection: u64,
        board: BoardId,
        life: Life,
        acknowledged: bool,
        record: Box<Record>,
    },
    Answered {
        mark: Mark,
        connection: u64,
    },
    // beside the node: supervisors, duties, the machine
    Obituary {
        board: BoardId,
        life: u64,
        machine: u64,
        times: u8,
    },
    ObituaryArrives {
        to: BoardId,
        board: BoardId,
        life: u64,
    },
    Evidence {
        to: BoardId,
        board: BoardId,
        evidence: Evidence,
    },
    Duty {
        board: BoardId,
        duty: DutyId,
        step: DutyStep,
    },
    Command {
        duty: DutyId,
        token: Fencing,
    },
    Health {
        board: BoardId,
        life: Life,
    },
    // the witness
    WitnessRemembers {
        boot: u32,
        memory: Memory,
    },
    WitnessLink {
        board: BoardId,
    },
    ToWitness {
        from: BoardId,
        message: ElectionMessage,
    },
    FromWitness {
        to: BoardId,
        message: ElectionMessage,
    },
    WitnessObituary {
        board: BoardId,
        life: u64,
    },
    // faults
    Fault {
        place: usize,
    },
    Mend(Mend),
    /// Runs again after it stood still as a starved process does.
    Starve {
        board: BoardId,
        life: Life,
        until: Moment,
    },
    Heal,
}
