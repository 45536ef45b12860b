//! QUIC endpoints with the settings that each conversation wants: boards on a LAN, a board and its region over an
//! uplink. Owns sockets and transport limits; knows nothing of messages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{HandshakeData, NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::{
    AckFrequencyConfig, AsyncUdpSocket, ClientConfig, Connection, Endpoint, EndpointConfig, IdleTimeout, Runtime,
    ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use shared::limits::{DATAGRAM_BYTES_MAX, UPLINK_WINDOW_BYTES};
use socket2::SockRef;
use tokio::sync::mpsc;

use crate::haul::{self, Hauling};
use crate::identity::{ALPN, CONTROL_ALPN, Identity, IdentityError, WITNESS_ALPN};
use crate::sites::Sites;
use crate::steady::Steady;
use crate::strays::{CountingSocket, Strays};

/// A board that says nothing for so long is gone. Twice the patience of the node's own membership (400 ms default)
/// with room for a stalled machine: the node decides who is down, this only frees the connection.
const MESH_IDLE: Duration = Duration::from_secs(2);
/// Two of these fit into that, so that a connection which has nothing to carry stays, and one lost costs nothing. Only who
/// dialled sends them: 60 bytes each way, 100 bytes a second for each peer.
const MESH_KEEP_ALIVE: Duration = Duration::from_millis(800);
/// First guess of the round trip between boards, so that a first packet lost on a LAN costs 6 ms and not a second.
const MESH_RTT: Duration = Duration::from_millis(2);
/// Bytes that a board takes from a peer ahead of reading: bounds memory a peer, and fills a gigabit at 8 ms.
const MESH_WINDOW_BYTES: u32 = 1024 * 1024;
/// Packets of data that may come before one is acknowledged. Must stay well below what the first window holds, or whoever has sent a
/// windowful waits for the delay below.
const DATA_ACKS_AFTER: u32 = 8;
/// How long an acknowledgement of data may wait for more packets: a packet lost last is sent again after that and a round trip or two.
const DATA_ACK_DELAY: Duration = Duration::from_millis(5);
/// Bytes that may be on their way to a peer before its first acknowledgement: 45 packets, a third of a millisecond of a gigabit.
const DATA_WINDOW_FIRST_BYTES: u64 = 64 * 1024;
/// Datagrams kept until they are read: a burst of heartbeats and votes of 64 boards.
const DATAGRAMS_RECEIVED_BYTES: usize = 64 * DATAGRAM_BYTES_MAX;
/// Datagrams kept until they are sent. When full the oldest goes: the newest heartbeat says all.
const DATAGRAMS_SENT_BYTES: usize = 4 * DATAGRAM_BYTES_MAX;
/// Bytes that a control connection takes of a stream: a hello and nothing else.
const CONTROL_WINDOW_BYTES: u32 = 4 * 1024;
/// Datagrams that may come before one is acknowledged: at a heartbeat's rate an acknowledgement of its own costs
/// half as much as the heartbeat.
const CONTROL_ACKS_AFTER: u32 = 16;
/// How long an acknowledgement may wait for a datagram to ride on. Quinn asks for no more than 25 ms or a round trip,
/// whichever is longer; more is harmless, because silence is judged by heartbeats and not by acknowledgements.
const CONTROL_ACK_DELAY: Duration = Duration::from_millis(250);

/// What comes while a process that many dial is busy waits here: the signs of life of thousands of sites for some seconds.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// An uplink that is silent for so long counts as down for the transport, whatever a board's own judgement of silence
/// (`shared::uplink::silence`) says before that. The region has no other.
const UPLINK_IDLE: Duration = Duration::from_secs(3);
/// A board's signs of life where nothing else is sent: six of these fit into that patience.
const UPLINK_KEEP_ALIVE: Duration = Duration::from_millis(500);
/// The region's own, where nothing comes from a board: so rarely that a board decides how often something is sent, and twice within
/// that patience.
const REGION_KEEP_ALIVE: Duration = Duration::from_millis(1400);
/// A board's signs of life where nothing else is sent and there is another way, so that silence is noticed soon: 60 bytes each way, 50
/// MB a day.
const PATH_KEEP_ALIVE: Duration = Duration::from_millis(200);
/// The same where bytes are paid for: 10 MB a day.
const PATH_KEEP_ALIVE_METERED: Duration = Duration::from_secs(1);
/// Datagrams on an uplink say nothing but that they are there: what one may hold, and what waits to be read by nobody.
const ASKED_BYTES: usize = 64;
/// Streams of a session on which a backlog comes: a packet that is lost holds up those behind it on its stream until it is sent again.
/// Eight bring no more than four do on 20 Mbit/s and 80 ms (`roadstead bench drain`).
pub const BACKLOG_STREAMS: u32 = 4;
/// Twice 20 Mbit/s x 80 ms (the measured uplink, notes: buffer-sync), and more than the largest block: so much of a stream may wait
/// behind a packet that was lost, while the others go on.
const UPLINK_WINDOW: u32 = 400 * 1024;

/// A witness that answers nothing for so long is out of reach: twice its grant (2 s).
const WITNESS_IDLE: Duration = Duration::from_secs(4);
/// Four of these fit into that patience; at 60 bytes each way a day of them is 10 MB.
const WITNESS_KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Handshakes that may wait to be looked at; more are refused.
const INCOMING_MAX: usize = 64;
/// Early bytes kept of one waiting handshake, and of all.
const INCOMING_BYTES: u64 = 16 * 1024;

/// Why an endpoint cannot be opened. The operator's to mend; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address cannot be bound.
    #[error("cannot listen on UDP {address}: another process has it, or it is not an address of this machine")]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The interface cannot be bound to.
    #[error(
        "cannot send by interface {interface}: there is none of this name, or this system does not let a process choose one"
    )]
    Interface {
        /// Which interface.
        interface: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The TLS settings cannot carry QUIC.
    #[error("TLS and QUIC share no cipher suite")]
    Suite(#[from] NoInitialCipherSuite),
}

/// An endpoint and what it counts.
#[derive(Debug)]
pub struct Listening {
    /// Dials, and hands out what comes in.
    pub endpoint: Endpoint,
    /// Datagrams that were not ours.
    pub strays: Arc<Strays>,
    /// How a control connection is dialled, where this endpoint dials boards.
    pub control: Option<ClientConfig>,
    /// Obituaries that came in, unjudged; to be taken once. Where nobody takes them they count as strays.
    pub obituaries: Option<mpsc::Receiver<Vec<u8>>>,
}

/// The endpoint of a board among its peers: dials them and is dialled, on one UDP port, for data and for control.
/// `own_site` is the board's site with its roots ([`Sites::one`]).
pub fn mesh(identity: &Identity, own_site: &Arc<Sites>, listen: SocketAddr) -> Result<Listening, EndpointError> {
    let accepted = Arc::new(accepted_transport());
    let alpns = [ALPN, CONTROL_ALPN];
    let server = server_config(identity, own_site, &accepted, &alpns)?;
    let mut listening = open(identity, Some(server), listen)?;
    let data = client_config(identity, Arc::new(data_transport()), ALPN)?;
    listening.endpoint.set_default_client_config(data);
    listening.control = Some(client_config(identity, Arc::new(control_transport()), CONTROL_ALPN)?);
    Ok(listening)
}

/// How often a board says that it is there, where it says nothing else: so late at most silence is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignsOfLife {
    /// Each half second: there is no other way, so nothing hurries, and thousands of sites may share a gateway.
    #[default]
    Usual,
    /// Each 200 ms: there is another way to be taken.
    Often,
    /// Each second: bytes are paid for.
    Seldom,
}

/// What the socket of an uplink is bound to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Binding<'a> {
    /// The interface that packets leave by, whatever the routes say. Linux lets any process bind a socket so once, from 5.7 on.
    pub interface: Option<&'a str>,
    /// The address that they come from.
    pub address: Option<IpAddr>,
    /// How often it says that it is there.
    pub signs_of_life: SignsOfLife,
}

/// The endpoint of a board towards its region: dials only, from a port that the system chooses, over the family of
/// addresses that `towards` has, bound as `binding` says.
pub fn uplink(identity: &Identity, towards: SocketAddr, binding: Binding<'_>) -> Result<Listening, EndpointError> {
    let from = binding
        .address
        .map_or_else(|| any(towards), |address| SocketAddr::from((address, 0)));
    let mut listening = open_on(identity, None, (from, binding.interface))?;
    let mut transport = uplink_transport(0);
    let keep_alive = match binding.signs_of_life {
        SignsOfLife::Usual => UPLINK_KEEP_ALIVE,
        SignsOfLife::Often => PATH_KEEP_ALIVE,
        SignsOfLife::Seldom => PATH_KEEP_ALIVE_METERED,
    };
    transport.keep_alive_interval(Some(keep_alive));
    let client = client_config(identity, Arc::new(transport), ALPN)?;
    listening.endpoint.set_default_client_config(client);
    Ok(listening)
}

/// Packets of an uplink's `connection` that the region has acknowledged so far, each once. An acknowledgement that the region sends again
/// with what it says itself does not count: where the way out alone is dead, that is all that comes.
pub fn acknowledged(connection: &Connection) -> u64 {
    haul::acknowledged(connection)
}

/// The endpoint of a gateway: accepts boards of `sites`, dials nobody.
pub fn gateway(identity: &Identity, sites: &Arc<Sites>, listen: SocketAddr) -> Result<Listening, EndpointError> {
    let mut transport = uplink_transport(BACKLOG_STREAMS);
    transport.keep_alive_interval(Some(REGION_KEEP_ALIVE));
    let server = server_config(identity, sites, &Arc::new(transport), &[ALPN])?;
    open(identity, Some(server), listen)
}

/// The endpoint of a witness: takes votes of boards of `sites`, dials nobody.
pub fn witness(identity: &Identity, sites: &Arc<Sites>, listen: SocketAddr) -> Result<Listening, EndpointError> {
    let server = server_config(identity, sites, &Arc::new(witness_transport()), &[WITNESS_ALPN])?;
    open(identity, Some(server), listen)
}

/// The endpoint of a board towards its witness: dials only, as [`uplink`] does.
pub fn towards_witness(identity: &Identity, towards: SocketAddr) -> Result<Listening, EndpointError> {
    let mut listening = open(identity, None, any(towards))?;
    let client = client_config(identity, Arc::new(witness_transport()), WITNESS_ALPN)?;
    listening.endpoint.set_default_client_config(client);
    Ok(listening)
}

/// Whether `connection` was made for control.
pub fn is_control(connection: &Connection) -> bool {
    let data = connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok());
    data.is_some_and(|data| data.protocol.as_deref() == Some(CONTROL_ALPN))
}

fn any(towards: SocketAddr) -> SocketAddr {
    match towards {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    }
}

fn client_config(
    identity: &Identity,
    transport: Arc<TransportConfig>,
    alpn: &[u8],
) -> Result<ClientConfig, EndpointError> {
    let tls = QuicClientConfig::try_from(identity.client_tls(alpn)?)?;
    let mut client = ClientConfig::new(Arc::new(tls));
    client.transport_config(transport);
    Ok(client)
}

fn open(identity: &Identity, server: Option<ServerConfig>, listen: SocketAddr) -> Result<Listening, EndpointError> {
    open_on(identity, server, (listen, None))
}

fn open_on(
    identity: &Identity,
    server: Option<ServerConfig>,
    (listen, interface): (SocketAddr, Option<&str>),
) -> Result<Listening, EndpointError> {
    let bind = |source| EndpointError::Bind { address: listen, source };
    let socket = UdpSocket::bind(listen).map_err(bind)?;
    if let Some(interface) = interface {
        let bound = SockRef::from(&socket).bind_device(Some(interface.as_bytes()));
        bound.map_err(|source| EndpointError::Interface { interface: interface.to_owned(), source })?;
    }
    if server.is_some() {
        // The system gives less where its own limit (net.core.rmem_max) is lower, which harms nobody.
        let _ = SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    }
    let socket = TokioRuntime.wrap_udp_socket(socket).map_err(bind)?;
    let strays = Arc::new(Strays::default());
    let (socket, obituaries) = CountingSocket::new(socket, ids(identity), Arc::clone(&strays));
    let socket: Arc<dyn AsyncUdpSocket> = Arc::new(socket);
    let endpoint =
        Endpoint::new_with_abstract_socket(endpoint_config(identity), server, socket, Arc::new(TokioRuntime))
            .map_err(bind)?;
    Ok(Listening { endpoint, strays, control: None, obituaries: Some(obituaries) })
}

fn server_config(
    identity: &Identity,
    sites: &Arc<Sites>,
    transport: &Arc<TransportConfig>,
    alpns: &[&[u8]],
) -> Result<ServerConfig, EndpointError> {
    let tls = QuicServerConfig::try_from(identity.server_tls(sites, alpns)?)?;
    let mut server = ServerConfig::with_crypto(Arc::new(tls));
    server
        .transport_config(Arc::clone(transport))
        .migration(false)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES * INCOMING_MAX as u64);
    Ok(server)
}

/// A restarted process knows its earlier connection ids again and answers them with a reset that the peer can check
/// (RFC 9000, 10.3): both come from the device's key, so the peer notices at its next packet.
fn endpoint_config(identity: &Identity) -> EndpointConfig {
    let secret = identity.secret(b"roadstead stateless reset");
    let reset = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
    let mut config = EndpointConfig::new(Arc::new(reset));
    let key = ids_key(identity);
    config.cid_generator(move || Box::new(quinn_ids(key)));
    // An unset fixed bit then means a stranger.
    config.grease_quic_bit(false);
    config
}

fn ids_key(identity: &Identity) -> u64 {
    let secret = identity.secret(b"roadstead connection ids");
    let mut key = [0; 8];
    key.copy_from_slice(&secret[..8]);
    u64::from_le_bytes(key)
}

fn ids(identity: &Identity) -> quinn_proto::HashedConnectionIdGenerator {
    quinn_ids(ids_key(identity))
}

fn quinn_ids(key: u64) -> quinn_proto::HashedConnectionIdGenerator {
    quinn_proto::HashedConnectionIdGenerator::from_key(key)
}

fn idle(after: Duration) -> IdleTimeout {
    IdleTimeout::try_from(after).expect("a few seconds fit a QUIC timeout")
}

/// Data as dialled: it is there before the first record comes, and stays when none comes for long. Nothing comes back that an
/// acknowledgement could ride on, so each costs both sides a packet of its own, and they are asked for seldom.
fn data_transport() -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(DATA_ACKS_AFTER))
        .max_ack_delay(Some(DATA_ACK_DELAY));
    let mut lan = CubicConfig::default();
    lan.initial_window(DATA_WINDOW_FIRST_BYTES);
    let mut transport = mesh_transport();
    transport
        .keep_alive_interval(Some(MESH_KEEP_ALIVE))
        .congestion_controller_factory(Arc::new(lan))
        .ack_frequency_config(Some(acks));
    transport
}

/// Between boards: streams of frames one way, and nothing else.
fn mesh_transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(idle(MESH_IDLE)))
        .keep_alive_interval(None)
        .initial_rtt(MESH_RTT)
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(MESH_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(MESH_WINDOW_BYTES))
        .send_window(u64::from(MESH_WINDOW_BYTES))
        .datagram_receive_buffer_size(None);
    transport
}

/// Control as dialled: a hello each way, then datagrams. It is never idle while two boards hear each other, and kept by
/// nothing else.
fn control_transport() -> TransportConfig {
    let mut transport = mesh_transport();
    transport
        .stream_receive_window(VarInt::from_u32(CONTROL_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONTROL_WINDOW_BYTES))
        .send_window(u64::from(CONTROL_WINDOW_BYTES));
    tell(&mut transport);
    transport
}

/// What is accepted may be either: which, is known when the handshake is over. So it takes what data needs, and sends as
/// control does; on a data connection the accepting side sends nothing that an acknowledgement could be late for.
fn accepted_transport() -> TransportConfig {
    let mut transport = mesh_transport();
    tell(&mut transport);
    transport
}

/// Datagrams both ways: the newest wins, and acknowledgements ride on them where they can.
fn tell(transport: &mut TransportConfig) {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(CONTROL_ACKS_AFTER))
        .max_ack_delay(Some(CONTROL_ACK_DELAY));
    transport
        .congestion_controller_factory(Arc::new(Steady))
        .ack_frequency_config(Some(acks))
        .datagram_receive_buffer_size(Some(DATAGRAMS_RECEIVED_BYTES))
        .datagram_send_buffer_size(DATAGRAMS_SENT_BYTES);
}

/// Votes between a board and its witness, which is asked so rarely that the connection keeps itself.
fn witness_transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(idle(WITNESS_IDLE)))
        .keep_alive_interval(Some(WITNESS_KEEP_ALIVE))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(Some(DATAGRAMS_RECEIVED_BYTES))
        .datagram_send_buffer_size(DATAGRAMS_SENT_BYTES);
    transport
}

/// `backlogs`: streams taken beside the conversation, for what waits for all else.
fn uplink_transport(backlogs: u32) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(idle(UPLINK_IDLE)))
        .keep_alive_interval(Some(UPLINK_KEEP_ALIVE))
        .max_concurrent_uni_streams(VarInt::from_u32(backlogs))
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .stream_receive_window(VarInt::from_u32(UPLINK_WINDOW))
        // A backlog that is not read leaves a stream's share to the conversation.
        .receive_window(VarInt::from_u32((BACKLOG_STREAMS + 1) * UPLINK_WINDOW))
        // More than the boards of a site have on their way: what is fresh never waits for a backlog to be written.
        .send_window(5 * UPLINK_WINDOW_BYTES as u64)
        // They are acknowledged unread. One that does not fit overwrites the oldest.
        .datagram_receive_buffer_size(Some(ASKED_BYTES))
        // Measured on 20 Mbit/s, 80 ms, 1 % loss: CUBIC, the default, reaches a tenth of it (notes: buffer-sync).
        .congestion_controller_factory(Arc::new(Hauling));
    transport
}
