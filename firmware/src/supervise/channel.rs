//! What node and supervisor say to each other about duties: one line of text a datagram, over a pair of sockets of which
//! the node inherits one as its standard input. Owns the words; acts on nothing.
//!
//! ```text
//! node → supervisor   1 order NAME SEQ end | 1 order NAME SEQ standby | 1 order NAME SEQ act TOKEN UNTIL
//! supervisor → node   1 report NAME SEQ ended|failed|starting|standby | 1 report NAME SEQ acts TOKEN
//! ```
//!
//! SEQ counts the orders that ask for something new; a report answers the newest that had arrived. UNTIL is an instant of
//! [`link::clock`], which both read from the same machine. The first word is the version.

use shared::action::{DutyOrder, DutyReport};
use shared::ids::{Fencing, Name, Term};
use shared::time::Instant;

/// The version of this conversation: both ends are one program, so another one is never met but by a mistake.
const VERSION: &str = "1";
/// Bytes of a line. Longer ones are passed over.
pub const LINE_BYTES_MAX: usize = 256;

/// One order, for one duty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Whose.
    pub duty: Name,
    /// Which order this is, or extends.
    pub seq: u64,
    /// What is to become of the process.
    pub order: DutyOrder,
}

/// How one duty's process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whose.
    pub duty: Name,
    /// The newest order that had arrived.
    pub seq: u64,
    /// How it is.
    pub report: DutyReport,
}

impl Order {
    /// As a line.
    pub fn encode(&self) -> String {
        let Self { duty, seq, order } = self;
        match order {
            DutyOrder::End => format!("{VERSION} order {duty} {seq} end"),
            DutyOrder::StandBy => format!("{VERSION} order {duty} {seq} standby"),
            DutyOrder::Act { token, until } => {
                format!("{VERSION} order {duty} {seq} act {} {}", token.token(), until.micros())
            }
        }
    }

    /// The order in a line.
    pub fn decode(line: &[u8]) -> Option<Self> {
        let mut words = words(line, "order")?;
        let (duty, seq) = (words.next()?.try_into().ok()?, words.next()?.parse().ok()?);
        let order = match words.next()? {
            "end" => DutyOrder::End,
            "standby" => DutyOrder::StandBy,
            "act" => {
                let token = fencing(words.next()?)?;
                DutyOrder::Act { token, until: Instant::from_micros(words.next()?.parse().ok()?) }
            }
            _ => return None,
        };
        Some(Self { duty, seq, order })
    }
}

impl Report {
    /// As a line.
    pub fn encode(&self) -> String {
        let Self { duty, seq, report } = self;
        match report {
            DutyReport::Ended { failed: false } => format!("{VERSION} report {duty} {seq} ended"),
            DutyReport::Ended { failed: true } => format!("{VERSION} report {duty} {seq} failed"),
            DutyReport::Starting => format!("{VERSION} report {duty} {seq} starting"),
            DutyReport::StandsBy => format!("{VERSION} report {duty} {seq} standby"),
            DutyReport::Acts { token } => format!("{VERSION} report {duty} {seq} acts {}", token.token()),
        }
    }

    /// The report in a line.
    pub fn decode(line: &[u8]) -> Option<Self> {
        let mut words = words(line, "report")?;
        let (duty, seq) = (words.next()?.try_into().ok()?, words.next()?.parse().ok()?);
        let report = match words.next()? {
            "ended" => DutyReport::Ended { failed: false },
            "failed" => DutyReport::Ended { failed: true },
            "starting" => DutyReport::Starting,
            "standby" => DutyReport::StandsBy,
            "acts" => DutyReport::Acts { token: fencing(words.next()?)? },
            _ => return None,
        };
        Some(Self { duty, seq, report })
    }
}

fn words<'a>(line: &'a [u8], kind: &str) -> Option<impl Iterator<Item = &'a str>> {
    let line = std::str::from_utf8(line.get(..line.len().min(LINE_BYTES_MAX))?).ok()?;
    let mut words = line.split_whitespace();
    (words.next() == Some(VERSION) && words.next() == Some(kind)).then_some(words)
}

fn fencing(word: &str) -> Option<Fencing> {
    let token: u64 = word.parse().ok()?;
    Some(Fencing::new(Term::from_token(token >> 16), (token & 0xffff) as u16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::ids::BoardId;

    #[test]
    fn what_is_encoded_is_decoded_and_nothing_else_is() {
        let token = Fencing::new(Term::new((1 << 40) - 1, BoardId::new(64).unwrap()), u16::MAX);
        let duty: Name = "a-duty-with-a-name-as-long-as-ca".try_into().unwrap();
        for order in [DutyOrder::End, DutyOrder::StandBy, DutyOrder::Act { token, until: Instant::NEVER }] {
            let order = Order { duty: duty.clone(), seq: u64::MAX, order };
            assert!(order.encode().len() <= LINE_BYTES_MAX);
            assert_eq!(Order::decode(order.encode().as_bytes()), Some(order));
        }
        for report in [
            DutyReport::Ended { failed: false },
            DutyReport::Ended { failed: true },
            DutyReport::Starting,
            DutyReport::StandsBy,
            DutyReport::Acts { token },
        ] {
            let report = Report { duty: duty.clone(), seq: 1, report };
            assert_eq!(Report::decode(report.encode().as_bytes()), Some(report));
        }
        for line in ["", "1", "2 order a 1 end", "1 order a x end", "1 order a 1 act 1", "1 report a 1 act", "\u{0}"] {
            assert_eq!((Order::decode(line.as_bytes()), Report::decode(line.as_bytes())), (None, None), "{line}");
        }
        assert_eq!(Order::decode(&[0xff; 300]), None);
    }
}
