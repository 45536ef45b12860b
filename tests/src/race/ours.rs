//! The membership that ships, as a detector.

use shared::config::{JournalConfig, NodeConfig, RepairConfig, Timing};
use shared::ids::{BoardId, BoardSet, Epoch, Name, Term, Voters};
use shared::membership::{Membership, Output};
use shared::outbox::Outbox;
use shared::time::Instant;
use shared::wire::control::ControlMessage;
use shared::wire::heartbeat::{Claim, Hearing, Heartbeat, Vitals};

use super::{Detector, Effects, Seat};

/// Around each of our datagrams: IP and UDP, QUIC's short header and tag, the frame, our version.
const ENVELOPE: u32 = 28 + 27 + 3 + 1;
/// A packet that only acknowledges.
const ACKNOWLEDGEMENT: u32 = 61;
/// A heartbeat with a longer period is acknowledged alone.
const RIDES_MS: u16 = 250;

/// The membership that ships.
#[derive(Debug)]
pub struct Ours {
    members: Membership,
    outputs: Outbox<Output>,
    vitals: Vitals,
}

/// What leaves to one board at one instant.
#[derive(Clone, Debug, Default)]
pub struct Datagram {
    beat: Option<Heartbeat>,
    news: Vec<Hearing>,
}

impl Detector for Ours {
    type Datagram = Datagram;
    type Tuning = Timing;

    fn start(seat: Seat, tuning: &Timing, now: Instant, _out: &mut Effects<Datagram>) -> Self {
        let boards: BoardSet = (1..=seat.boards).filter_map(BoardId::new).collect();
        let voters: BoardSet = boards.iter().take(3).collect();
        let config = NodeConfig {
            site: Name::default(),
            board: seat.board,
            boards,
            voters: Voters { version: 1, set: voters.into() },
            priority: 0,
            domain: Name::default(),
            duties: Vec::new(),
            copies: 2,
            timing: *tuning,
            journal: JournalConfig::default(),
            repair: RepairConfig::default(),
            has_region: false,
        };
        let epoch = Epoch { boot: seat.life, nonce: seat.seed };
        // Board 1 says that it leads: its heartbeats are the most and the longest.
        let term = Term::new(1000, seat.board);
        let leads = (seat.board.get() == 1).then_some(Claim { term, left_ms: 200 });
        let vitals = Vitals { seen: term, leads, accepts: true, ..Vitals::default() };
        let members = Membership::with_rules(&config, epoch, seat.seed, seat.rules, now);
        Self { members, outputs: Outbox::default(), vitals }
    }

    fn hear(&mut self, from: BoardId, datagram: &Datagram, now: Instant, out: &mut Effects<Datagram>) {
        if let Some(beat) = &datagram.beat {
            self.members.handle_heartbeat(from, beat, now, &mut self.outputs);
            self.drain(out);
        }
        for hearing in &datagram.news {
            self.members.handle_hearing(from, hearing, now, &mut self.outputs);
            self.drain(out);
        }
        if datagram.beat.as_ref().is_none_or(|beat| beat.period_ms > RIDES_MS) {
            out.besides += ACKNOWLEDGEMENT;
        }
    }

    fn wake(&mut self, now: Instant, out: &mut Effects<Datagram>) {
        let vitals = self.vitals;
        self.members.handle_deadline(now, &vitals, &mut self.outputs);
        self.drain(out);
    }

    fn next(&self) -> Instant {
        self.members.next_deadline().at
    }

    fn is_alive(&self, board: BoardId) -> bool {
        self.members.is_alive(board)
    }
}

impl Ours {
    /// What leaves to one board at one instant shares a datagram.
    fn drain(&mut self, out: &mut Effects<Datagram>) {
        while let Some(output) = self.outputs.pop() {
            match output {
                Output::Tell { to, heartbeat } => {
                    let bytes = size(&ControlMessage::Heartbeat(heartbeat.clone()));
                    out.sent
                        .push((to, Datagram { beat: Some(heartbeat), news: Vec::new() }, ENVELOPE + bytes));
                }
                Output::TellHearing { to, hearing } => {
                    let bytes = size(&ControlMessage::Hearing(hearing.clone()));
                    match out.sent.iter_mut().rev().find(|(board, ..)| *board == to) {
                        Some((_, datagram, sum)) => {
                            datagram.news.push(hearing);
                            *sum += bytes;
                        }
                        None => {
                            let datagram = Datagram { beat: None, news: vec![hearing] };
                            out.sent.push((to, datagram, ENVELOPE + bytes));
                        }
                    }
                }
                Output::Up { board, .. } => out.found.push((board, true)),
                Output::Down { board, .. } => out.found.push((board, false)),
                Output::Restarted { .. } | Output::Impaired { .. } | Output::Whole { .. } => {}
            }
        }
    }
}

fn size(message: &ControlMessage) -> u32 {
    let bytes = postcard::experimental::serialized_size(message).expect("every message can be written");
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
