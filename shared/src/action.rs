//! What a board's node asks of its shell, and what the shell brings back. The shell performs actions in order and
//! decides nothing: a slow one (disk) comes back as an input that carries the action's token.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::event::Event;
use crate::ids::{BoardId, DutyId, Fencing, SegmentId, Ticket, Token, Voters, WitnessId};
use crate::record::{Record, RecordRefusal};
use crate::time::Instant;
use crate::wire::control::ControlMessage;
use crate::wire::election::ElectionMessage;
use crate::wire::peer::{PeerMessage, RegionTag, Run};
use crate::wire::uplink::{Hello, ToRegion};

/// A publish on its way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Who waits for the answer; `None` for QoS 0, where nobody does.
    pub ticket: Option<Ticket>,
    /// The reading.
    pub record: Record,
}

/// A run of this board's own records, and who waits for it.
#[derive(Debug)]
pub struct OwnRun {
    /// The records.
    pub run: Run,
    /// Publishers that wait for the commit, in order.
    pub tickets: Vec<Ticket>,
}

/// The answer to a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Fsynced on k boards (or on all that live): acknowledge it.
    Committed,
    /// Not a record this site takes; nothing was kept.
    Refused(RecordRefusal),
}

/// What became of the session with the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionLink {
    /// It stands: with the region of this tag, where the site knows several. The hello has been sent.
    Up(Option<RegionTag>),
    /// It fell.
    Down,
}

/// One thing for the shell to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Answer these publishers, in this order.
    Answer(Vec<(Ticket, Answer)>),
    /// Do this on disk; answer with [`DiskDone`]. Jobs run one after the other, in order.
    Disk(DiskJob),
    /// Send on the reliable connection to a board. Where none stands the message is dropped: the node learns of
    /// connections by `handle_link` and sends again what matters.
    Send {
        /// To whom.
        to: BoardId,
        /// What.
        message: PeerMessage,
    },
    /// Send as a datagram; may be lost.
    Tell {
        /// To whom.
        to: BoardId,
        /// What.
        message: ControlMessage,
    },
    /// Send to a witness as a datagram; may be lost.
    TellWitness {
        /// To which.
        to: WitnessId,
        /// What.
        message: ElectionMessage,
    },
    /// See to the process of a user's duty; answer with [`DutyReport`] whenever something about it changes.
    Duty {
        /// Which duty.
        duty: DutyId,
        /// What is to become of it. A new order replaces the one before.
        order: DutyOrder,
    },
    /// Open a session with the region and keep trying until [`Action::HangUp`]; each time one stands, send this
    /// hello and report [`RegionLink::Up`]; when it falls, report [`RegionLink::Down`].
    Dial(Hello),
    /// Close the session with the region and stop trying.
    HangUp,
    /// Send to the region on the open session; where none stands, drop.
    ToRegion {
        /// What.
        message: ToRegion,
        /// Whether all that is said without this goes before it, also what is said later.
        waits: bool,
    },
    /// Something happened that a person may want to know.
    Notice(Event),
}

/// One job on disk. A failed one poisons the journal: the shell does no further job after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskJob {
    /// Make segment `segment` exist, `bytes` long and with room for all of them (recycle `from`'s file by renaming it
    /// where given, else make one), directory synced. Answer `Prepared`, or `NoRoom`. Commits do not wait for it.
    Prepare {
        /// The segment to make.
        segment: SegmentId,
        /// A freed segment whose file becomes this one's.
        from: Option<SegmentId>,
        /// Length of the file.
        bytes: u32,
        /// Whether a new file is written through with zeros; else its room is only set aside, where the file system can.
        written: bool,
    },
    /// Write `bytes` at `offset` of `segment` and fdatasync. Answer `Appended`.
    Append {
        /// Comes back with the answer.
        token: Token,
        /// Where.
        segment: SegmentId,
        /// Where in it; a multiple of the page.
        offset: u32,
        /// A multiple of the page.
        bytes: Bytes,
    },
    /// Write the footer of `segment`, whose blocks are all durable. It seldom has to be synced: a start that does not find it
    /// whole reads the blocks. No answer.
    Foot {
        /// Which.
        segment: SegmentId,
        /// Where in it; a multiple of the page.
        offset: u32,
        /// A multiple of the page.
        bytes: Bytes,
        /// Fdatasync it: the footer that stands there says what does not hold any more.
        synced: bool,
    },
    /// Read `length` bytes at `offset` of `segment`. What the disk cannot read is zeros in the answer: nothing whole is found
    /// there, and a copy stands in. Answer `Read`.
    Read {
        /// Comes back with the answer.
        token: Token,
        /// Where.
        segment: SegmentId,
        /// Where in it.
        offset: u32,
        /// How much; the file is at least so long.
        length: u32,
    },
    /// The same, but what was read or written before may not stand in for the disk: drop it from the page cache first. What
    /// the disk cannot read is zeros in the answer, which is `Read`, too.
    Verify {
        /// Comes back with the answer.
        token: Token,
        /// Where.
        segment: SegmentId,
        /// Where in it; a multiple of the page.
        offset: u32,
        /// How much.
        length: u32,
    },
    /// The segment holds nothing any more: give its file the name of a free one, directory synced, so that no start takes what
    /// stands in it for records. It comes back as `from` of a later `Prepare`. No answer.
    Free {
        /// Which.
        segment: SegmentId,
    },
    /// Delete the segment's file. No answer.
    Delete {
        /// Which.
        segment: SegmentId,
    },
    /// Write what a voter must never forget to the board's state file, both slots in turn, fsynced. Answer
    /// `Remembered`.
    Remember(Memory),
}

/// What a voter must never forget; each part only ever as the election says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Memory {
    /// Highest term counter that may be used or promised.
    pub term_ceiling: u64,
    /// Longest lease that may have been granted and still run, in microseconds.
    pub longest_micros: u64,
    /// Who votes. Version 0: nothing but the configuration has said so yet.
    pub voters: Voters,
    /// Whether the voter has met a leader of its site since this memory began. One that has not is new, or has forgotten
    /// what it granted on a disk that is gone.
    pub joined: bool,
}

/// What is to become of a user's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DutyOrder {
    /// No process.
    End,
    /// A process that stands ready and does not act, where the duty keeps one warm; none otherwise.
    StandBy,
    /// A process that acts, under this token, until then and no longer. Repeated with a later instant while the lease
    /// is renewed.
    Act {
        /// The fencing token of everything it does.
        token: Fencing,
        /// When its right to act ends; [`Instant::NEVER`] for a duty that needs none.
        until: Instant,
    },
}

/// How a user's process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DutyReport {
    /// There is no process, and nothing of it acts. `failed`: the restart budget is used up, and there will be none.
    Ended {
        /// Whether it cannot be had here for a while.
        failed: bool,
    },
    /// There is a process that has not said yet that it is ready; it does not act.
    Starting,
    /// It stands ready and does not act.
    StandsBy,
    /// It acts under this token, or may.
    Acts {
        /// The token.
        token: Fencing,
    },
}

/// What the transport says of a board that its heartbeats do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Its machine acknowledges packets: its kernel and its QUIC task live.
    Acknowledges,
    /// It does not know the connection any more: it restarted.
    Restarted,
    /// It closed the connection in good order: it is going away.
    Leaves,
}

/// How fit the board's machine is, as the shell measures it about once a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// 0 (barely working) to 3 (well).
    pub level: u8,
    /// How busy it is, in permille of its processors.
    pub load_permille: u16,
    /// How late its own wake-ups were at worst since the last time, in microseconds.
    pub lateness_micros: u32,
}

/// What an operator asks of a running board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Give the leadership to this board, or to the fittest.
    HandOver {
        /// To whom.
        to: Option<BoardId>,
    },
    /// From now on these vote.
    Voters(crate::ids::VoterSet),
    /// This board may vote though its disk remembers no leader: those who could tell it of one are gone for good.
    Vote,
}

/// What becomes of a wish. It is carried on after the answer; the status shows how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WishAnswer {
    /// It is being carried out.
    Begun,
    /// There is nothing to do.
    Already,
    /// This board does not lead: ask that one, where one is known.
    NotLeading(Option<BoardId>),
    /// It cannot be; why is in the words.
    Refused(&'static str),
}

/// A finished disk job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskDone {
    /// The segment is there.
    Prepared {
        /// Which.
        segment: SegmentId,
    },
    /// The device has no room for another file. Nothing is changed and nothing has failed: it may be asked again.
    NoRoom {
        /// The segment that was to be made.
        segment: SegmentId,
    },
    /// The bytes are durable.
    Appended {
        /// Of the job.
        token: Token,
    },
    /// The bytes asked for.
    Read {
        /// Of the job.
        token: Token,
        /// What stood there.
        bytes: Bytes,
    },
    /// It is durable.
    Remembered(Memory),
    /// A job failed. Nothing after it was done. The node acknowledges nothing more; the process must end.
    Failed,
}
