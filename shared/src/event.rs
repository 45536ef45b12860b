//! Everything a board or the region can notice. `shared` emits these; a shell turns each into a counter, a log
//! line and an entry of its recent history. Rare by design: nothing here happens once a record.

use core::fmt;

use crate::frame::FrameRefusal;
use crate::ids::{BoardId, Class, Epoch, Fencing, Name, SegmentId, Stream, Term, Voters, WitnessId};
use crate::ranges::SeqRange;
use crate::wire::uplink::Refusal;

/// Something worth telling, in order of the data path and then the control path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Fewer than k boards live: records are committed on those that do. Told at each new low until
    /// [`Event::Restored`].
    Degraded {
        /// Boards that keep each record now.
        copies: usize,
        /// Boards that should.
        wanted: usize,
    },
    /// k boards live again.
    Restored,
    /// Records were shed to make room: the oldest of the lowest class. Each range is declared by a gap record.
    Shed {
        /// Of which class.
        class: Class,
        /// How many.
        records: u64,
        /// Bytes of them.
        bytes: u64,
    },
    /// The device has no room for another segment: what is there is all there is, until it has.
    DeviceFull,
    /// The device has room again.
    DeviceRoom,
    /// The journal is full, with nothing left that may be shed: not even alarms are accepted until the region covers some of
    /// it.
    JournalFull,
    /// The journal has room again.
    JournalRoom,
    /// A write or sync failed. The journal is poisoned: nothing is acknowledged any more, the process must end.
    JournalPoisoned,
    /// Damage before valid blocks at the start, or in durable bytes later: what was there must come from a copy.
    JournalDamaged {
        /// In which segment.
        segment: SegmentId,
        /// At which byte.
        offset: u32,
    },
    /// Records that stood in a damaged segment are held here no more, and asked for.
    RecordsMissing {
        /// The segment.
        segment: SegmentId,
        /// How many the region does not cover.
        records: u64,
    },
    /// What was missing here is held again.
    Repaired {
        /// How many records, since the start.
        records: u64,
    },
    /// No board can read these records any more, and the region does not have them.
    RecordsGone {
        /// Of which stream.
        stream: Stream,
        /// Which.
        range: SeqRange,
    },
    /// Recovery cut a torn tail: it was never acknowledged.
    TornTail {
        /// In which segment.
        segment: SegmentId,
        /// At which byte.
        offset: u32,
    },
    /// A segment's records are all covered by the region; its file is free.
    SegmentFreed {
        /// Which.
        segment: SegmentId,
    },
    /// A copy was not taken: damaged on the way, of a stream beyond the limit, or the queue is full.
    CopyRefused {
        /// From whom.
        from: BoardId,
    },
    /// The uplink is open: the region answered.
    UplinkOpened {
        /// Under which term.
        term: Term,
    },
    /// The uplink is closed.
    UplinkClosed,
    /// The region refused this board's session.
    UplinkRefused {
        /// Why.
        reason: Refusal,
    },
    /// The site speaks with another region than before: what that one lacks of all that is kept here goes up to it.
    RegionChanged,
    /// The region covers less than it did: it was restored from an older state, or it is another region and the configuration does
    /// not say so.
    CoverageWentBack {
        /// Of which stream.
        stream: Stream,
    },
    /// A board is heard (again).
    BoardUp {
        /// Which.
        board: BoardId,
        /// In which life.
        epoch: Epoch,
    },
    /// A board's disk is older than what is held of it: it was restored from a copy, or is a clone of another board's.
    BoardOlder {
        /// Which; this one itself, where its state is older than its journal.
        board: BoardId,
        /// The life that it is in.
        epoch: Epoch,
        /// A life of it with as many starts or more, of which records are held.
        seen: Epoch,
    },
    /// Two machines run as one board: the disk of one is a copy. Neither may be trusted with what the other has promised.
    BoardTwice {
        /// Which.
        board: BoardId,
        /// The life that is believed.
        believed: Epoch,
        /// The one that is refused.
        other: Epoch,
    },
    /// A board is not heard any more, by anybody.
    BoardDown {
        /// Which.
        board: BoardId,
    },
    /// A board is heard by some and not by others: it keeps its place and does not lead.
    BoardImpaired {
        /// Which.
        board: BoardId,
    },
    /// The supervisor of a board has seen its node end, and signed that.
    ObituaryHeard {
        /// Whose.
        board: BoardId,
    },
    /// The witness can be reached (again).
    WitnessReached {
        /// Which.
        witness: WitnessId,
    },
    /// The witness cannot be reached: the next dead board is not covered.
    WitnessLost {
        /// Which.
        witness: WitnessId,
    },
    /// This board leads the site.
    LeaseAcquired {
        /// Under which term.
        term: Term,
    },
    /// This board leads no more.
    LeaseLost {
        /// The term that ended.
        term: Term,
        /// Given up, rather than run out.
        released: bool,
    },
    /// The site's leader, as this board sees it, has changed.
    LeaderChanged {
        /// The new term; its board leads.
        term: Term,
        /// Why the one before leads no more, as far as this board knows.
        why: &'static str,
    },
    /// This board, which leads, gives the leadership to another.
    HandOver {
        /// To whom; `None` where anybody may take it.
        to: Option<BoardId>,
        /// Why.
        why: &'static str,
    },
    /// No board leads, as far as this one sees, for longer than a takeover takes: exclusive duties rest, everything
    /// else goes on.
    Autonomous,
    /// There is a leader again.
    Led,
    /// Others vote from now on.
    VotersChanged {
        /// Who.
        voters: Voters,
    },
    /// A user's duty is given to another board, or to nobody.
    DutyMoved {
        /// Which.
        duty: Name,
        /// To whom.
        to: Option<BoardId>,
        /// Why.
        why: &'static str,
    },
    /// A user's process on this board acts.
    DutyActs {
        /// For which duty.
        duty: Name,
        /// Under which token.
        token: Fencing,
    },
    /// A user's process on this board acts no more.
    DutyRests {
        /// For which duty.
        duty: Name,
    },
    /// A user's process on this board ended too often, and is not started again for a while.
    DutyFailed {
        /// For which duty.
        duty: Name,
    },
    /// A peer sent something that is no message. Its connection is closed.
    BadFrame {
        /// Who.
        from: BoardId,
        /// What was wrong.
        why: FrameRefusal,
    },
    /// Region: a site's session stands.
    SessionOpened {
        /// Which board speaks.
        board: BoardId,
        /// Under which term.
        term: Term,
    },
    /// Region: a session was refused or ended for a cause.
    SessionRefused {
        /// Why.
        reason: Refusal,
    },
    /// Region: a site was sent to another gateway, because this one has more than its share of the sites.
    SiteSentAway {
        /// Sites here, this one included.
        sites: usize,
        /// What each gateway would have if all had as many.
        share: usize,
        /// Whether its session stood, rather than was about to.
        stood: bool,
    },
    /// Region: a site that was sent away has come back, because it has nowhere else to go, and stays.
    SiteKept,
    /// Region: a block, or part of it, was stored before.
    Overlap {
        /// Of which stream.
        stream: Stream,
        /// The part that was stored before.
        range: SeqRange,
    },
}

impl Event {
    /// The event's name in metrics and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Degraded { .. } => "degraded",
            Self::Restored => "restored",
            Self::Shed { .. } => "records_shed",
            Self::DeviceFull => "device_full",
            Self::DeviceRoom => "device_room",
            Self::JournalFull => "journal_full",
            Self::JournalRoom => "journal_room",
            Self::JournalPoisoned => "journal_poisoned",
            Self::JournalDamaged { .. } => "journal_damaged",
            Self::RecordsMissing { .. } => "records_missing",
            Self::Repaired { .. } => "repaired",
            Self::RecordsGone { .. } => "records_gone",
            Self::TornTail { .. } => "torn_tail",
            Self::SegmentFreed { .. } => "segment_freed",
            Self::CopyRefused { .. } => "copy_refused",
            Self::UplinkOpened { .. } => "uplink_opened",
            Self::UplinkClosed => "uplink_closed",
            Self::UplinkRefused { .. } => "uplink_refused",
            Self::RegionChanged => "region_changed",
            Self::CoverageWentBack { .. } => "coverage_went_back",
            Self::BoardUp { .. } => "board_up",
            Self::BoardOlder { .. } => "board_older",
            Self::BoardTwice { .. } => "board_twice",
            Self::BoardDown { .. } => "board_down",
            Self::BoardImpaired { .. } => "board_impaired",
            Self::ObituaryHeard { .. } => "obituary_heard",
            Self::WitnessReached { .. } => "witness_reached",
            Self::WitnessLost { .. } => "witness_lost",
            Self::LeaseAcquired { .. } => "lease_acquired",
            Self::LeaseLost { .. } => "lease_lost",
            Self::LeaderChanged { .. } => "leader_changed",
            Self::HandOver { .. } => "hand_over",
            Self::Autonomous => "autonomous",
            Self::Led => "led",
            Self::VotersChanged { .. } => "voters_changed",
            Self::DutyMoved { .. } => "duty_moved",
            Self::DutyActs { .. } => "duty_acts",
            Self::DutyRests { .. } => "duty_rests",
            Self::DutyFailed { .. } => "duty_failed",
            Self::BadFrame { .. } => "bad_frame",
            Self::SessionOpened { .. } => "session_opened",
            Self::SessionRefused { .. } => "session_refused",
            Self::SiteSentAway { .. } => "site_sent_away",
            Self::SiteKept => "site_kept",
            Self::Overlap { .. } => "overlap",
        }
    }
}

/// The event in words, for logs and stories.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Degraded { copies, wanted } => {
                write!(f, "records are committed on {copies} of {wanted} boards: too few live")
            }
            Self::Restored => f.write_str("records are committed on as many boards as they should be again"),
            Self::Shed { class, records, bytes } => write!(f, "{class:?} shed: {records} records, {bytes} bytes"),
            Self::DeviceFull => f.write_str("the device has no room for another journal segment"),
            Self::DeviceRoom => f.write_str("the device has room for journal segments again"),
            Self::JournalFull => f.write_str("the journal is full: nothing more is accepted until the region has some"),
            Self::JournalRoom => f.write_str("the journal has room again"),
            Self::JournalPoisoned => f.write_str("a write or sync failed: this process acknowledges nothing more"),
            Self::JournalDamaged { segment, offset } => {
                write!(f, "segment {:x} is damaged at byte {offset}: a copy must stand in", segment.0)
            }
            Self::RecordsMissing { segment, records } => {
                write!(f, "{records} records that stood in segment {:x} are asked for on other boards", segment.0)
            }
            Self::Repaired { records } => write!(f, "nothing is missing here any more: {records} records came back"),
            Self::RecordsGone { stream, range } => {
                write!(f, "records {} to {} of {stream} can be read on no board any more", range.first, range.last)
            }
            Self::TornTail { segment, offset } => {
                write!(f, "segment {:x} had a torn tail at byte {offset}: never acknowledged, cut", segment.0)
            }
            Self::SegmentFreed { segment } => write!(f, "segment {:x} is free: the region has all of it", segment.0),
            Self::CopyRefused { from } => write!(f, "a copy from {from} was not taken"),
            Self::UplinkOpened { term } => write!(f, "the uplink is open under term {term}"),
            Self::UplinkClosed => f.write_str("the uplink is closed"),
            Self::UplinkRefused { reason } => write!(f, "the region refused the session: {reason}"),
            Self::RegionChanged => f.write_str("the site speaks with another region: it gets what it lacks"),
            Self::CoverageWentBack { stream } => write!(f, "the region has less of {stream} than it had"),
            Self::BoardOlder { board, seen, .. } => write!(f, "{board} has an older disk than in its life {seen}"),
            Self::BoardTwice { board, other, .. } => write!(f, "two machines run as {board}: {other} is refused"),
            Self::BoardUp { board, epoch } => write!(f, "{board} is up, in its life {epoch}"),
            Self::BoardDown { board } => write!(f, "{board} is down"),
            Self::BoardImpaired { board } => write!(f, "{board} is heard by some boards and not by others"),
            Self::ObituaryHeard { board } => write!(f, "the supervisor of {board} has seen its node end"),
            Self::WitnessReached { witness } => write!(f, "{witness} is reached"),
            Self::WitnessLost { witness } => {
                write!(f, "{witness} cannot be reached: the next dead board is not covered")
            }
            Self::LeaseAcquired { term } => write!(f, "this board leads under term {term}"),
            Self::LeaseLost { term, released: true } => write!(f, "this board gave up term {term}"),
            Self::LeaseLost { term, released: false } => write!(f, "term {term} of this board has ended"),
            Self::LeaderChanged { term, why } => match term.board() {
                Some(board) => write!(f, "{board} leads under term {term}: {why}"),
                None => write!(f, "term {term} began: {why}"),
            },
            Self::HandOver { to: Some(board), why } => write!(f, "the leadership is handed to {board}: {why}"),
            Self::HandOver { to: None, why } => write!(f, "the leadership is given up: {why}"),
            Self::Autonomous => f.write_str("no board leads: exclusive duties rest, all else goes on"),
            Self::Led => f.write_str("there is a leader again"),
            Self::VotersChanged { voters } => {
                write!(f, "version {} of who votes:", voters.version)?;
                voters.set.iter().try_for_each(|voter| write!(f, " {voter}"))
            }
            Self::DutyMoved { duty, to: Some(board), why } => write!(f, "duty {duty} goes to {board}: {why}"),
            Self::DutyMoved { duty, to: None, why } => write!(f, "duty {duty} rests: {why}"),
            Self::DutyActs { duty, token } => write!(f, "duty {duty} acts here under token {token}"),
            Self::DutyRests { duty } => write!(f, "duty {duty} acts here no more"),
            Self::DutyFailed { duty } => write!(f, "duty {duty} ended here too often: it is left alone for a while"),
            Self::BadFrame { from, why } => write!(f, "{from} sent a frame that is none: {why}"),
            Self::SessionOpened { board, term } => write!(f, "{board} speaks for the site under term {term}"),
            Self::SessionRefused { reason } => write!(f, "a session was refused: {reason}"),
            Self::SiteSentAway { sites, share, .. } => write!(f, "sent elsewhere: {sites} here, the share is {share}"),
            Self::SiteKept => f.write_str("sent away, and back: it reaches no other gateway, and stays"),
            Self::Overlap { stream, range: r } => write!(f, "records {} to {} of {stream} came again", r.first, r.last),
        }
    }
}
