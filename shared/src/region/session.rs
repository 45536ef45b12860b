//! One connection of a site to the region: who it is, what it has said, and how much of it waits. Judges a hello and
//! the shape of messages; never decides between sessions.

use alloc::vec::Vec;

use crate::config::text::check_name;
use crate::ids::{BoardId, Name, Stream, Term};
use crate::limits::{
    BOARDS_MAX, COVERAGE_STREAMS_MAX, DUTIES_MAX, SESSION_ASKS_MAX, SESSION_BLOCKS_MAX, SESSION_BYTES_MAX,
    SESSION_SLACK,
};
use crate::time::Instant;
use crate::wire::uplink::{DutyTold, Hello, Refusal, SiteDuties, SiteReport};

/// Names a session. The shell chooses it, rising, never reused while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// How far a session has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Connected; must say hello until then.
    Opened {
        /// When patience ends.
        until: Instant,
    },
    /// Has said hello; the store does not know its term yet. What it asks waits.
    Raising {
        /// Its term.
        term: Term,
        /// Questions that wait for the welcome.
        asks: Vec<Vec<Stream>>,
    },
    /// Welcomed.
    Standing {
        /// Its term.
        term: Term,
    },
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The site that the certificate proves.
    pub site: Name,
    /// The board that the certificate proves.
    pub board: BoardId,
    /// How far it has come.
    pub phase: Phase,
    /// Blocks that wait for their transaction.
    pub blocks: usize,
    /// Bytes of those blocks.
    pub bytes: usize,
    /// Questions that wait for their answer.
    pub asks: usize,
}

impl Session {
    /// A session that has yet to say hello.
    pub const fn new(site: Name, board: BoardId, until: Instant) -> Self {
        Self { site, board, phase: Phase::Opened { until }, blocks: 0, bytes: 0, asks: 0 }
    }

    /// Its term, once it has said hello.
    pub const fn term(&self) -> Option<Term> {
        match &self.phase {
            Phase::Opened { .. } => None,
            Phase::Raising { term, .. } | Phase::Standing { term } => Some(*term),
        }
    }

    /// Whether `hello` may open this session: first of its kind, and of the site and board that the certificate proves.
    pub fn judge(&self, hello: &Hello) -> Result<(), Refusal> {
        match self.phase {
            Phase::Opened { .. } if hello.site == self.site && hello.board == self.board => Ok(()),
            Phase::Opened { .. } => Err(Refusal::Identity),
            Phase::Raising { .. } | Phase::Standing { .. } => Err(Refusal::Protocol),
        }
    }

    /// Whether more may be read from it.
    pub const fn accepts(&self) -> bool {
        self.blocks < SESSION_BLOCKS_MAX && self.bytes < SESSION_BYTES_MAX && self.asks < SESSION_ASKS_MAX
    }

    /// Whether it has gone on sending far beyond what may be on its way after the gateway stopped reading.
    pub const fn overruns(&self) -> bool {
        self.blocks >= SESSION_BLOCKS_MAX + SESSION_SLACK || self.asks >= SESSION_ASKS_MAX + SESSION_SLACK
    }
}

/// Whether a question keeps to the limits.
pub fn judge_ask(streams: &[Stream]) -> Result<(), Refusal> {
    if streams.len() > COVERAGE_STREAMS_MAX {
        Err(Refusal::Protocol)
    } else {
        Ok(())
    }
}

/// Whether a report keeps to the limits: no more boards than a site has, each once.
pub fn judge_report(report: &SiteReport) -> Result<(), Refusal> {
    let boards: crate::ids::BoardSet = report.boards.iter().map(|line| line.board).collect();
    if report.boards.len() > BOARDS_MAX || boards.len() != report.boards.len() {
        return Err(Refusal::Protocol);
    }
    Ok(())
}

/// Whether what is told of duties keeps to the limits: no more than a site has, each once, so that each can be named by its name;
/// names as a configuration lets them be, and words that no terminal obeys.
pub fn judge_duties(duties: &SiteDuties) -> Result<(), Refusal> {
    let names: alloc::collections::BTreeSet<&Name> = duties.duties.iter().map(|duty| &duty.name).collect();
    let is_sound = |duty: &DutyTold| {
        let mut words = duty.why.chars().chain(duty.waits_for.chars());
        check_name(&duty.name).is_ok() && !words.any(char::is_control)
    };
    if duties.duties.len() > DUTIES_MAX || names.len() != duties.duties.len() || !duties.duties.iter().all(is_sound) {
        return Err(Refusal::Protocol);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;

    fn name(word: &str) -> Name {
        Name::try_from(word).unwrap()
    }

    fn board(number: u8) -> BoardId {
        BoardId::new(number).unwrap()
    }

    fn hello(site: &str, number: u8) -> Hello {
        Hello { site: name(site), board: board(number), epoch: Epoch::default(), term: Term::from_token(7) }
    }

    #[test]
    fn a_hello_must_name_what_the_certificate_proves_and_come_once() {
        let mut session = Session::new(name("elm"), board(2), Instant::ZERO);
        assert_eq!(session.judge(&hello("elm", 2)), Ok(()));
        assert_eq!(session.judge(&hello("oak", 2)), Err(Refusal::Identity));
        assert_eq!(session.judge(&hello("elm", 3)), Err(Refusal::Identity));
        session.phase = Phase::Standing { term: Term::from_token(7) };
        assert_eq!(session.judge(&hello("elm", 2)), Err(Refusal::Protocol));
    }

    #[test]
    fn room_ends_at_each_limit() {
        let mut session = Session::new(name("elm"), board(2), Instant::ZERO);
        for (blocks, bytes, asks, accepts) in [
            (SESSION_BLOCKS_MAX - 1, SESSION_BYTES_MAX - 1, SESSION_ASKS_MAX - 1, true),
            (SESSION_BLOCKS_MAX, 0, 0, false),
            (0, SESSION_BYTES_MAX, 0, false),
            (0, 0, SESSION_ASKS_MAX, false),
        ] {
            (session.blocks, session.bytes, session.asks) = (blocks, bytes, asks);
            assert_eq!(session.accepts(), accepts);
            assert!(!session.overruns());
        }
        (session.blocks, session.asks) = (SESSION_BLOCKS_MAX + SESSION_SLACK, 0);
        assert!(session.overruns());
    }

    #[test]
    fn a_report_names_each_board_once() {
        let line = |number| crate::wire::uplink::BoardReport {
            board: board(number),
            epoch: Epoch::default(),
            alive: true,
            accepted: 0,
            committed: 0,
            degraded: 0,
            unacknowledged: 0,
            shed: 0,
            backlog: 0,
        };
        let all = SiteReport { boards: (1..=64).map(line).collect() };
        assert_eq!(judge_report(&all), Ok(()));
        let twice = SiteReport { boards: alloc::vec![line(1), line(1)] };
        assert_eq!(judge_report(&twice), Err(Refusal::Protocol));
    }
}
