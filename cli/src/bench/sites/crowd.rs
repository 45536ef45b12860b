//! One site of a crowd: a session with the gateway, spoken as the leader of a site speaks it. It sends a block of fresh records and a
//! report each second, and knows when each block is acknowledged.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use link::endpoint::{self, Binding, Listening};
use link::frames::{FrameReader, encode, write_all_frames};
use link::identity::Identity;
use link::logging::whole_story;
use link::sites::gateway_name;
use quinn::{Connection, SendStream};
use shared::block::pack;
use shared::frame::Conversation;
use shared::ids::{BoardId, Class, Epoch, Name, Origin, Seq, Stream, Term};
use shared::ranges::RangeSet;
use shared::record::{Key, Kind, Reading};
use shared::time::WallMillis;
use shared::wire::uplink::{BoardReport, FromRegion, Hello, SiteReport, ToRegion};
use tokio::sync::{Semaphore, watch};

use super::super::ingest::client::noise;

/// A board seals what is fresh this often at the latest, and tells how its site is as often.
const EVERY: Duration = Duration::from_secs(1);
/// Waits between attempts, as a board has them.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// An attempt is given up after so long.
const DIAL_MAX: Duration = Duration::from_secs(3);
/// The board that leads each of them.
pub(super) const LEADER: BoardId = BoardId::new(1).expect("it is in range");
/// Sensors of a site.
const SENSORS: u64 = 16;

/// What the crowd does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Connects, and reports.
    Connect,
    /// Sends records too.
    Send,
    /// Sends, and every acknowledgement counts.
    Count,
    /// Sends no more, and ends once all is acknowledged.
    Settle,
}

/// Where a site's keys are, and whom it dials.
#[derive(Clone, Debug)]
pub(super) struct Where {
    pub(super) gateway: Name,
    pub(super) site: Name,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) roots: PathBuf,
}

/// What a site does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    /// From 0; its place within each second.
    pub(super) number: usize,
    pub(super) gateway: SocketAddr,
    pub(super) records_per_s: u32,
    /// Bytes of a record's payload.
    pub(super) payload: usize,
}

/// What it has seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// From a block's sending to its acknowledgement, of those that counted.
    pub(super) took: Vec<Duration>,
    /// Records acknowledged while it counted.
    pub(super) counted: u64,
    /// Records sent, from first to last.
    pub(super) sent: u64,
    /// Records acknowledged, from first to last.
    pub(super) acknowledged: u64,
    /// Sessions that fell once they stood.
    pub(super) fell: u64,
}

/// Runs one site; `up` gets a permit once its first session stands. A session that falls is dialled again, and what was not
/// acknowledged is sent again, as a board does. An error where the measurement was given up.
pub(super) async fn site(
    place: Where,
    order: Order,
    mut stages: watch::Receiver<Stage>,
    up: Arc<Semaphore>,
) -> Result<Seen, String> {
    let identity = Identity::load(&place.certificate, &place.key, &place.roots).map_err(|why| whole_story(&why))?;
    let hello = Hello {
        site: place.site.clone(),
        board: LEADER,
        epoch: Epoch { boot: 1, nonce: order.number as u64 + 1 },
        term: Term::new(1, LEADER),
    };
    let mut talk = Talk::new(&hello, order);
    let mut session = dial(&identity, &place.gateway, order, &hello).await;
    up.add_permits(1);
    while let Err(fell) = serve(&mut session, &mut talk, &mut stages).await {
        tracing::debug!(site = %place.site, why = fell.0, "a session fell");
        talk.seen.fell += 1;
        session = dial(&identity, &place.gateway, order, &hello).await;
    }
    session.connection.close(0_u32.into(), b"the measurement is over");
    Ok(talk.seen)
}

/// Why a session fell.
struct Fell(String);

/// Talks until all is said and acknowledged, or the session falls.
async fn serve(session: &mut Session, talk: &mut Talk, stages: &mut watch::Receiver<Stage>) -> Result<(), Fell> {
    let Session { connection, stream, frames, .. } = session;
    let fell = |why: String| Fell(connection.close_reason().map_or(why, |reason| whole_story(&reason)));
    let mut again: Vec<Bytes> = talk.waiting.iter().map(|waiting| waiting.said.clone()).collect();
    write_all_frames(stream, &mut again)
        .await
        .map_err(|why| fell(whole_story(&why)))?;
    // Sites do not beat in step.
    let offset = EVERY.mul_f64(talk.order.number as f64 * 0.618_034 % 1.0);
    let mut beats = tokio::time::interval_at(tokio::time::Instant::now() + offset, EVERY);
    loop {
        let stage = *stages.borrow_and_update();
        if stage == Stage::Settle && talk.waiting.is_empty() {
            return Ok(());
        }
        tokio::select! {
            said = frames.read::<FromRegion>() => match said {
                Ok(Some(message)) => talk.hear(message, stage).map_err(fell)?,
                Ok(None) => return Err(fell("the gateway ended it".to_owned())),
                Err(error) => return Err(fell(error.to_string())),
            },
            _ = beats.tick() => {
                let mut said = talk.beat(stage);
                write_all_frames(stream, &mut said).await.map_err(|why| fell(whole_story(&why)))?;
            }
            changed = stages.changed() => {
                if changed.is_err() {
                    return Err(fell("the measurement was given up".to_owned()));
                }
            }
        }
    }
}

/// A session that stands.
struct Session {
    _listening: Listening,
    connection: Connection,
    stream: SendStream,
    frames: FrameReader,
}

/// Dials until the gateway bids it welcome: with thousands at once it refuses those beyond what it can shake hands with.
async fn dial(identity: &Identity, gateway: &Name, order: Order, hello: &Hello) -> Session {
    let (mut backoff, most) = BACKOFF;
    loop {
        let attempt = tokio::time::timeout(DIAL_MAX, attempt(identity, gateway, order.gateway, hello)).await;
        if let Ok(Ok(session)) = attempt {
            return session;
        }
        // Between half and all of it, at a place of its own.
        let part = 0.5 + 0.5 * (order.number as f64 * 0.618_034 % 1.0);
        tokio::time::sleep(backoff.mul_f64(part)).await;
        backoff = (backoff * 2).min(most);
    }
}

async fn attempt(identity: &Identity, gateway: &Name, address: SocketAddr, hello: &Hello) -> Result<Session, String> {
    let listening = endpoint::uplink(identity, address, Binding::default()).map_err(|error| whole_story(&error))?;
    let connecting = listening
        .endpoint
        .connect(address, &gateway_name(gateway))
        .map_err(|error| whole_story(&error))?;
    let connection = connecting.await.map_err(|error| whole_story(&error))?;
    let (mut stream, back) = connection.open_bi().await.map_err(|error| whole_story(&error))?;
    let first = encode(Conversation::ToRegion, &ToRegion::Hello(hello.clone()));
    stream.write_all(&first).await.map_err(|error| whole_story(&error))?;
    let mut frames = FrameReader::new(back, Conversation::FromRegion);
    match frames.read::<FromRegion>().await {
        Ok(Some(FromRegion::Welcome { .. })) => Ok(Session { _listening: listening, connection, stream, frames }),
        Ok(other) => Err(format!("it was not welcomed: {other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

/// A block that is not acknowledged.
struct Waiting {
    last: Seq,
    count: u32,
    since: Instant,
    said: Bytes,
}

/// What the site has said and heard.
struct Talk {
    order: Order,
    stream: Stream,
    next: Seq,
    rest: Vec<u8>,
    covered: RangeSet,
    waiting: VecDeque<Waiting>,
    seen: Seen,
}

impl Talk {
    fn new(hello: &Hello, order: Order) -> Self {
        let origin = Origin { board: hello.board, epoch: hello.epoch };
        Self {
            order,
            stream: Stream { origin, class: Class::Event },
            next: 1,
            rest: noise(order.number, order.payload).collect(),
            covered: RangeSet::default(),
            waiting: VecDeque::new(),
            seen: Seen::default(),
        }
    }

    /// What is due each second.
    fn beat(&mut self, stage: Stage) -> Vec<Bytes> {
        let mut said = vec![encode(Conversation::ToRegion, &ToRegion::Report(self.report()))];
        if matches!(stage, Stage::Send | Stage::Count) && self.order.records_per_s > 0 {
            let count = self.order.records_per_s;
            let block = pack(self.stream, self.next, count, &self.records(count));
            let block = encode(Conversation::ToRegion, &ToRegion::Block(block));
            said.push(block.clone());
            self.next += u64::from(count);
            self.seen.sent += u64::from(count);
            self.waiting
                .push_back(Waiting { last: self.next - 1, count, since: Instant::now(), said: block });
        }
        said
    }

    fn records(&self, count: u32) -> Vec<u8> {
        let mut raw = Vec::new();
        for seq in self.next..self.next + u64::from(count) {
            let sensor = seq % SENSORS;
            let mut payload = format!("{seq:016x}").into_bytes();
            payload.extend_from_slice(self.rest.get(payload.len()..).unwrap_or_default());
            let reading = Reading {
                kind: Kind::Reading,
                publisher: &format!("sensor-{sensor}"),
                key: Key::Sequence { epoch: 1, seq: seq / SENSORS },
                taken: WallMillis(1_767_225_600_000 + seq),
                topic: &format!("det/{sensor}"),
                payload: &payload,
            };
            reading.encode(&mut raw);
        }
        raw
    }

    /// Three boards that do well.
    fn report(&self) -> SiteReport {
        let line = |board: BoardId| {
            let own = board == self.stream.origin.board;
            let epoch = if own {
                self.stream.origin.epoch
            } else {
                Epoch { boot: 1, nonce: 0xb0a7 }
            };
            let accepted = if own { self.seen.sent } else { 0 };
            let backlog = if own { self.seen.sent - self.seen.acknowledged } else { 0 };
            BoardReport { epoch, alive: true, accepted, committed: accepted, backlog, ..BoardReport::unheard(board) }
        };
        SiteReport { boards: (1..=3).filter_map(BoardId::new).map(line).collect() }
    }

    fn hear(&mut self, message: FromRegion, stage: Stage) -> Result<(), String> {
        let coverage = match message {
            FromRegion::Coverage(coverage) => coverage,
            FromRegion::Welcome { .. } => return Ok(()),
            FromRegion::Refused(why) => return Err(why.to_string()),
        };
        for line in coverage.iter().filter(|line| line.stream == self.stream) {
            self.covered.extend(&line.ranges);
        }
        while let Some(first) = self.waiting.pop_front_if(|first| self.covered.contains(first.last)) {
            self.seen.acknowledged += u64::from(first.count);
            if stage == Stage::Count {
                self.seen.counted += u64::from(first.count);
                self.seen.took.push(first.since.elapsed());
            }
        }
        Ok(())
    }
}
