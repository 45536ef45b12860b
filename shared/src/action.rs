//! What a board's node asks of its shell, and what the shell brings back. The shell performs actions in order and
//! decides nothing: a slow one (disk) comes back as an input that carries the action's token.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::event::Event;
use crate::ids::{BoardId, SegmentId, Ticket, Token};
use crate::record::{Record, RecordRefusal};
use crate::wire::control::ControlMessage;
use crate::wire::peer::{PeerMessage, Run};
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
    /// Open a session with the region and keep trying until [`Action::HangUp`]; each time one stands, send this
    /// hello and report `handle_region_link(true)`; when it falls, report `false`.
    Dial(Hello),
    /// Close the session with the region and stop trying.
    HangUp,
    /// Send to the region on the open session; where none stands, drop.
    ToRegion(ToRegion),
    /// Something happened that a person may want to know.
    Notice(Event),
}

/// One job on disk. A failed one poisons the journal: the shell does no further job after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskJob {
    /// Make segment `segment` exist, `bytes` long and written through (recycle `from`'s file by renaming it where
    /// given, else write zeros), directory synced. Answer `Prepared`.
    Prepare {
        /// The segment to make.
        segment: SegmentId,
        /// A freed segment whose file becomes this one's.
        from: Option<SegmentId>,
        /// Length of the file.
        bytes: u32,
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
    /// Read `length` bytes at `offset` of `segment`. Answer `Read`.
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
    /// Delete the segment's file. No answer.
    Delete {
        /// Which.
        segment: SegmentId,
    },
    /// Reserve election terms: write `ceiling` to the board's state file, both slots in turn, fsynced. Answer
    /// `Reserved`.
    Reserve {
        /// Highest term counter that may be used or promised.
        ceiling: u64,
    },
}

/// A finished disk job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskDone {
    /// The segment is there.
    Prepared {
        /// Which.
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
    /// The ceiling is durable.
    Reserved {
        /// Which.
        ceiling: u64,
    },
    /// A job failed. Nothing after it was done. The node acknowledges nothing more; the process must end.
    Failed,
}
