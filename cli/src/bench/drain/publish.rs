//! Sensors inside the site: one that publishes a backlog as fast as it is acknowledged, and one that publishes a record now
//! and then while the backlog drains and remembers when.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::readings::{Id, Kind, Readings};
use crate::bench::failover::namespace::Namespace;
use crate::bench::ingest::client::{Dialect, Places};
use crate::bench::ingest::dialects::mqtt::Mqtt;

/// Publishes of one sensor on their way at once.
const IN_FLIGHT: u16 = 512;
/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;
/// The next acknowledgement comes within so long, or never.
const ACK_MAX: Duration = Duration::from_secs(60);
/// Between two records of one sensor while the backlog drains.
pub(super) const LIVE_EVERY: Duration = Duration::from_millis(500);

/// A connection to `server`, from within `namespace`.
pub(super) async fn dial(namespace: &Namespace, server: SocketAddr) -> io::Result<TcpStream> {
    let dialled = namespace.within(move || std::net::TcpStream::connect_timeout(&server, Duration::from_secs(5)));
    let stream = dialled.map_err(io::Error::other)??;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    TcpStream::from_std(stream)
}

/// Publishes `count` of `readings` and returns when each is acknowledged.
pub(super) async fn fill<D: Dialect>(
    stream: TcpStream,
    dialect: D,
    mut readings: Readings,
    count: u64,
) -> io::Result<()> {
    let next = move |payload: &mut Vec<u8>| {
        let is_one = readings.id().number < count;
        if is_one {
            payload.extend_from_slice(readings.next());
        }
        is_one
    };
    publish_all(stream, dialect, next).await
}

/// Publishes what `next` writes until it says that there is no more, and returns when each is acknowledged.
pub(in crate::bench) async fn publish_all<D: Dialect>(
    mut stream: TcpStream,
    mut dialect: D,
    mut next: impl FnMut(&mut Vec<u8>) -> bool,
) -> io::Result<()> {
    dialect.greet(&mut stream).await?;
    let mut places = Places::new(IN_FLIGHT);
    let (mut outgoing, mut incoming, mut done) = (Vec::new(), Vec::new(), Vec::new());
    let mut payload = Vec::new();
    let mut has_more = next(&mut payload);
    loop {
        while has_more && let Some(slot) = places.take(Instant::now()) {
            dialect.publish(slot, &payload, &mut outgoing);
            payload.clear();
            has_more = next(&mut payload);
        }
        if places.are_idle() {
            return stream.write_all(dialect.farewell()).await;
        }
        stream.write_all(&outgoing).await?;
        outgoing.clear();
        read(&mut stream, &mut incoming).await?;
        let used = dialect.read(&incoming, &mut done, &mut outgoing)?;
        incoming.drain(..used);
        for slot in done.drain(..) {
            places.give_back(slot)?;
        }
    }
}

async fn read(stream: &mut TcpStream, incoming: &mut Vec<u8>) -> io::Result<()> {
    incoming.reserve(READ_BYTES);
    match tokio::time::timeout(ACK_MAX, stream.read_buf(incoming)).await {
        Ok(Ok(0)) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "acknowledgements do not come")),
    }
}

/// Records published while the backlog drains: when each was, and when it was first seen in the region.
#[derive(Clone, Debug, Default)]
pub(super) struct Live {
    records: Arc<Mutex<BTreeMap<Id, Sent>>>,
    is_over: Arc<AtomicBool>,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Instant,
    seen: Option<Instant>,
}

impl Live {
    fn locked(&self) -> MutexGuard<'_, BTreeMap<Id, Sent>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No more are to be published.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    fn handle_sent(&self, id: Id, at: Instant) {
        self.locked().insert(id, Sent { at, seen: None });
    }

    /// A record is in the region at `now`.
    pub(super) fn handle_seen(&self, id: Id, now: Instant) {
        if let Some(sent) = self.locked().get_mut(&id) {
            sent.seen.get_or_insert(now);
        }
    }

    /// How many of `kind` have been seen.
    pub(super) fn seen(&self, kind: Kind) -> u64 {
        self.locked()
            .iter()
            .filter(|(id, sent)| id.kind == kind && sent.seen.is_some())
            .count() as u64
    }

    /// How many of the newest of `kind` of any board are to be looked at, so that all that have not been seen are among them.
    pub(super) fn unseen(&self, kind: Kind) -> u64 {
        let locked = self.locked();
        let of_kind = |id: &Id| id.kind == kind;
        let unseen = locked
            .iter()
            .filter(|(id, sent)| of_kind(id) && sent.seen.is_none())
            .map(|(id, _)| *id);
        let since = |oldest: Id| {
            locked
                .keys()
                .filter(|id| of_kind(id) && id.board == oldest.board && **id >= oldest)
                .count()
        };
        unseen.map(since).max().unwrap_or(0) as u64
    }

    /// Whether all have been seen.
    pub(super) fn are_all_seen(&self) -> bool {
        self.locked().values().all(|sent| sent.seen.is_some())
    }

    /// Everything sent.
    pub(super) fn ids(&self) -> Vec<Id> {
        self.locked().keys().copied().collect()
    }

    /// From the publish of each of `kind` to its being seen. One that never was counts as if it were at `ended`.
    pub(super) fn took(&self, kind: Kind, ended: Instant) -> Vec<Duration> {
        let locked = self.locked();
        let of_kind = locked.iter().filter(|(id, _)| id.kind == kind);
        of_kind.map(|(_, sent)| sent.seen.unwrap_or(ended) - sent.at).collect()
    }
}

/// Publishes a record of `kind` to `board` now and then, one at a time, until `live` is over.
pub(super) async fn trickle(mut stream: TcpStream, kind: Kind, board: u8, live: Live) -> io::Result<()> {
    let letter = if kind == Kind::Alarm { "alarm" } else { "event" };
    let topic = format!("{}/live/{board}", kind.topic());
    let mut mqtt = Mqtt::on(format!("live-{letter}-{board}"), &topic, Readings::length());
    mqtt.greet(&mut stream).await?;
    let mut readings = Readings::new(kind, board);
    let mut ticks = tokio::time::interval(LIVE_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut outgoing, mut incoming, mut done) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        ticks.tick().await;
        if live.is_over.load(Ordering::Relaxed) {
            return stream.write_all(mqtt.farewell()).await;
        }
        let id = readings.id();
        mqtt.publish(0, readings.next(), &mut outgoing);
        live.handle_sent(id, Instant::now());
        stream.write_all(&outgoing).await?;
        outgoing.clear();
        while done.is_empty() {
            read(&mut stream, &mut incoming).await?;
            let used = mqtt.read(&incoming, &mut done, &mut outgoing)?;
            incoming.drain(..used);
        }
        done.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_seen_once_and_one_that_never_is_counts_to_the_end() {
        let (live, begun) = (Live::default(), Instant::now());
        let id = |kind, number| Id { kind, board: 1, number };
        let after = |ms| begun + Duration::from_millis(ms);
        live.handle_sent(id(Kind::Event, 0), begun);
        live.handle_sent(id(Kind::Event, 1), after(10));
        live.handle_sent(id(Kind::Alarm, 0), begun);
        live.handle_seen(id(Kind::Event, 0), after(30));
        live.handle_seen(id(Kind::Event, 0), after(50));
        live.handle_seen(id(Kind::Backlog, 0), after(50));
        assert_eq!((live.seen(Kind::Event), live.seen(Kind::Alarm), live.are_all_seen()), (1, 0, false));
        assert_eq!((live.unseen(Kind::Event), live.unseen(Kind::Alarm)), (1, 1));
        live.handle_sent(id(Kind::Event, 2), after(20));
        live.handle_seen(id(Kind::Event, 2), after(70));
        assert_eq!(live.unseen(Kind::Event), 2, "one that was seen stands before it");
        let took = live.took(Kind::Event, after(100));
        assert_eq!(took, [30, 90, 50].map(Duration::from_millis));
        live.handle_seen(id(Kind::Event, 1), after(60));
        live.handle_seen(id(Kind::Alarm, 0), after(60));
        assert!(live.are_all_seen() && live.ids().len() == 4);
    }
}
