//! What the front door is told: where to listen, who may publish, how patient to be. Checked by whoever reads the
//! configuration; nothing here reads a file.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use shared::limits::{DOOR_CONNECTIONS_MAX, DOOR_SESSIONS_MAX};

/// Who may publish under which password.
#[derive(Clone, PartialEq, Eq)]
pub struct DoorUser {
    /// MQTT user name.
    pub name: String,
    /// Its password, as the client sends it.
    pub password: String,
}

/// A password never reaches a log.
impl fmt::Debug for DoorUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DoorUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Configuration of the MQTT front door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorConfig {
    /// Where to listen. Port 0: any free one; `DoorAnswers::address` says which.
    pub listen: SocketAddr,
    /// Whether clients without a user name may publish from other hosts too. Default false: without `users` only
    /// clients on loopback may publish, with `users` only they may.
    pub anonymous: bool,
    /// Who may publish. Default none.
    pub users: Vec<DoorUser>,
    /// Connections at once, 1 to 65536. Default `limits::DOOR_CONNECTIONS_MAX`. Further ones are closed and counted.
    pub connections_max: usize,
    /// Sessions at once, connected or kept; at least `connections_max`. Default `limits::DOOR_SESSIONS_MAX`. At the
    /// limit the kept one that would end soonest ends.
    pub sessions_max: usize,
    /// Longest keep-alive, seconds, 1 to 65535. Default 60. MQTT 5 clients that ask for more are told this one; others
    /// keep theirs, and TCP finds the dead.
    pub keep_alive_max_s: u16,
    /// Longest life of a session without a connection, seconds. Default one day: a sensor that comes back later starts
    /// afresh, and its publisher keys still make what it re-sends one row. MQTT 5 clients are told.
    pub session_expiry_max_s: u32,
    /// How long a connection may take to send its CONNECT. Default 10 s.
    pub connect_patience: Duration,
    /// How long a packet may take from its first byte to its last, and acknowledgements to be read. Default 30 s.
    pub packet_patience: Duration,
}

impl DoorConfig {
    /// The defaults, on `listen`.
    pub const fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            anonymous: false,
            users: Vec::new(),
            connections_max: DOOR_CONNECTIONS_MAX,
            sessions_max: DOOR_SESSIONS_MAX,
            keep_alive_max_s: 60,
            session_expiry_max_s: 24 * 3600,
            connect_patience: Duration::from_secs(10),
            packet_patience: Duration::from_secs(30),
        }
    }
}
