//! From an accepted socket to a connection with a session: waits for the CONNECT with patience, refuses in the
//! client's own words, claims the session, says CONNACK.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::connect::{self, Connect, Refusal};
use super::connection::{Connection, Patience};
use super::conversation::{Batch, Conversation, Terms};
use super::counters::add;
use super::fault::Fault;
use super::packet::{Frame, Version};
use super::registry::Claim;
use super::reply::{self, Granted};
use super::wire::{Incoming, Wire};
use super::{Door, stopped};

/// First byte of every CONNECT.
const CONNECT: u8 = 0x10;

/// Serves one socket from its first byte to its last.
pub(super) async fn serve(door: Arc<Door>, stream: TcpStream, peer: SocketAddr) {
    let stop = door.stop.clone();
    let Some(connection) = Box::pin(greet(door, stream, peer, stop.clone())).await else {
        return;
    };
    connection.run(stop).await;
}

async fn greet(
    door: Arc<Door>,
    stream: TcpStream,
    peer: SocketAddr,
    mut stop: watch::Receiver<bool>,
) -> Option<Connection> {
    let mut wire = Wire::new(stream, peer, Arc::clone(&door.counters));
    let until = Instant::now() + door.config.connect_patience;
    let frame = tokio::select! {
        frame = timeout_at(until, first_frame(&mut wire)) => frame,
        () = stopped(&mut stop) => return None,
    };
    let connect = match frame {
        Ok(Some(frame)) => connect::read(&frame).and_then(|connect| {
            connect.authorize(&door.config, peer.ip())?;
            Ok(connect)
        }),
        Ok(None) => Err(Refusal::Silent),
        Err(_) => {
            add(&door.counters.no_connect, 1);
            return None;
        }
    };
    match connect {
        Ok(connect) => welcome(door, wire, connect).await,
        Err(refusal) => {
            door.counters.count_refused(refusal);
            door.note_refused(peer.ip(), refusal);
            wire.out = connect::refuse(refusal);
            let told = !wire.out.is_empty();
            wire.close(told).await;
            None
        }
    }
}

/// The first packet, if it is a CONNECT. Anything else is dropped at its first byte.
async fn first_frame(wire: &mut Wire) -> Option<Frame> {
    loop {
        wire.stream.readable().await.ok()?;
        if !wire.read_now().await.ok()? || wire.first_byte().is_some_and(|byte| byte != CONNECT) {
            return None;
        }
        match wire.next_frame() {
            Incoming::Whole(frame) => return Some(frame),
            Incoming::Partial => {}
            Incoming::Wrong(_) => return None,
        }
    }
}

async fn welcome(door: Arc<Door>, mut wire: Wire, mut connect: Connect) -> Option<Connection> {
    let mut granted = Granted::default();
    if connect.client.is_empty() {
        connect.client = door.assign_client();
        granted.assigned_client = Some(connect.client.clone());
    }
    let expiry_max_s = door.config.session_expiry_max_s;
    if connect.session_expiry_s > expiry_max_s {
        connect.session_expiry_s = expiry_max_s;
        granted.session_expiry_s = Some(expiry_max_s);
    }
    if connect.version == Version::V5 && connect.keep_alive_s > door.config.keep_alive_max_s {
        connect.keep_alive_s = door.config.keep_alive_max_s;
        granted.keep_alive_s = Some(connect.keep_alive_s);
    }
    let Some(claim) = door.registry.claim(&connect.client, connect.is_clean).await else {
        // Every session is connected: "server busy" in either version's words.
        let refusal = if connect.version == Version::V5 {
            Refusal::V5(0x89)
        } else {
            Refusal::V3(3)
        };
        door.counters.count_refused(refusal);
        wire.out = connect::refuse(refusal);
        wire.close(true).await;
        return None;
    };
    granted.session_present = claim.is_resumed;
    let before = wire.out.len();
    reply::connack(connect.version, &granted, &mut wire.out);
    if wire.out.len() - before > connect.packet_bytes_max {
        // [MQTT-3.1.2-24] what cannot be said within the client's limit is not said.
        wire.out.truncate(before);
    }
    let (connection, due) = begin(door, wire, connect, claim);
    if !due.is_empty() {
        // Beside the connection: its CONNACK must not wait for the node.
        let door = Arc::clone(&connection.door);
        tokio::spawn(async move { door.publish_wills(due).await });
    }
    Some(connection)
}

fn begin(door: Arc<Door>, wire: Wire, connect: Connect, claim: Claim) -> (Connection, Vec<shared::action::Offer>) {
    let life = claim.life();
    let (slot, _) = claim.session.place();
    let terms = Terms {
        version: connect.version,
        client: Bytes::from(connect.client.clone()),
        session_expiry_s: connect.session_expiry_s,
        session_expiry_max_s: door.config.session_expiry_max_s,
        packet_bytes_max: connect.packet_bytes_max,
        wants_reasons: connect.wants_reasons,
    };
    let mailbox = door.registry.mailboxes.of(slot);
    // Answers may have come while nobody listened: the first look at the mailbox must not wait for the bell.
    mailbox.bell.notify_one();
    let conversation = Conversation::new(terms, claim.session, Arc::clone(&door.counters));
    let keep_alive = Some(Duration::from_secs(u64::from(connect.keep_alive_s))).filter(|keep| !keep.is_zero());
    let connection = Connection {
        wire,
        conversation,
        client: connect.client,
        will: connect.will.map(Box::new),
        keep_alive,
        life,
        seat: claim.seat,
        mailbox,
        batch: Batch::default(),
        patience: Patience::new(Instant::now()),
        door,
    };
    (connection, claim.due)
}

impl Door {
    /// Tells the log about a peer that spoke wrongly, once an address.
    fn note_refused(&self, peer: IpAddr, refusal: Refusal) {
        if self.is_news(peer) {
            tracing::warn!(%peer, cause = refusal.as_str(), "MQTT connection refused; told once for this address");
        }
    }

    /// Counts why a connection ended from this side, and tells the log once an address where the peer is to blame.
    pub(super) fn note_ending(&self, peer: SocketAddr, fault: Fault) {
        self.counters.count_ended(fault);
        if fault.is_peers_fault() && self.is_news(peer.ip()) {
            tracing::warn!(peer = %peer.ip(), cause = fault.as_str(), "MQTT connection ended; told once for this address");
        } else {
            tracing::debug!(%peer, cause = fault.as_str(), "MQTT connection ended");
        }
    }
}
