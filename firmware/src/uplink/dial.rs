//! Dialling one way to the region: a socket bound to its path, a handshake with its gateway; and the addresses behind host names.
//! Chooses nothing.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use link::endpoint::{self, Binding, Listening, SignsOfLife};
use link::identity::Identity;
use link::logging::whole_story;
use link::sites::gateway_name;
use quinn::{Connection, ConnectionError};
use shared::uplink::ways::Way;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::config::{GatewayAddress, GatewayPlace, Region, UplinkPath};

/// An address behind a name is looked up again after so long, as names are moved.
const LOOK_UP_EVERY: Duration = Duration::from_secs(60);
/// The same where there was none.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(5);
/// A connection that is not wanted after all is given so long to say so.
const HANG_UP_MAX: Duration = Duration::from_secs(1);

/// A connection that stands and says nothing yet.
#[derive(Debug)]
pub(super) struct Dialled {
    pub(super) way: Way,
    pub(super) address: SocketAddr,
    pub(super) listening: Listening,
    pub(super) connection: Connection,
}

impl Dialled {
    /// It was dialled to see whether somebody answers.
    pub(super) fn hang_up(self) {
        self.connection.close(0_u32.into(), b"only to see that somebody answers");
        // Where nothing is heard of it the gateway notices by itself.
        tokio::spawn(async move { tokio::time::timeout(HANG_UP_MAX, self.listening.endpoint.wait_idle()).await });
    }
}

/// Who dials, and whom, by which paths.
#[derive(Debug)]
pub(super) struct Caller {
    identity: Identity,
    pub(super) gateways: Vec<GatewayAddress>,
    pub(super) paths: Vec<UplinkPath>,
    /// The addresses of each gateway, as far as they are known.
    found: Vec<watch::Receiver<Vec<SocketAddr>>>,
    _looking: JoinSet<()>,
}

impl Caller {
    pub(super) fn new(identity: Identity, region: &Region) -> Self {
        let mut looking = JoinSet::new();
        let mut found = Vec::new();
        for gateway in &region.gateways {
            let (tell, told) = watch::channel(Vec::new());
            match gateway.address.clone() {
                GatewayPlace::Address(address) => drop(tell.send_replace(vec![address])),
                GatewayPlace::Named { host, port } => drop(looking.spawn(look_up((host, port), tell))),
            }
            found.push(told);
        }
        let (gateways, paths) = (region.gateways.clone(), region.paths.clone());
        Self { identity, gateways, paths, found, _looking: looking }
    }

    /// One attempt: a socket of its own, so that a path whose state somebody on the way has lost is not tried again. Never ends where
    /// nobody answers: bound it in time. `signs_of_life` are given by what the path is where they are not said.
    pub(super) async fn attempt(
        self: Arc<Self>,
        way: Way,
        signs_of_life: Option<SignsOfLife>,
    ) -> Result<Dialled, String> {
        let (gateway, path) = (&self.gateways[way.gateway], &self.paths[way.path]);
        // The first of the kind that the path has.
        let fits = |address: &&SocketAddr| path.address.is_none_or(|from| from.is_ipv4() == address.is_ipv4());
        let Some(address) = self.found[way.gateway].borrow().iter().find(fits).copied() else {
            return Err(format!("no address of {} is known", gateway.address));
        };
        let signs_of_life = signs_of_life.unwrap_or(match path.is_metered {
            true => SignsOfLife::Seldom,
            false if self.has_choice() => SignsOfLife::Often,
            false => SignsOfLife::Usual,
        });
        let binding = Binding { interface: path.interface.as_deref(), address: path.address, signs_of_life };
        let listening = endpoint::uplink(&self.identity, address, binding).map_err(|error| whole_story(&error))?;
        let connecting = listening.endpoint.connect(address, &gateway_name(&gateway.name));
        let connection = match connecting.map_err(|error| whole_story(&error))?.await {
            Ok(connection) => connection,
            // Silence is no refusal, after which the way would rest: whoever asked has a patience of its own.
            Err(ConnectionError::TimedOut) => std::future::pending().await,
            Err(error) => return Err(whole_story(&error)),
        };
        Ok(Dialled { way, address, listening, connection })
    }

    /// Whether another path may do where one does not.
    pub(super) fn has_other_path(&self) -> bool {
        self.paths.len() > 1
    }

    /// Whether there are two paths of which one may take alarms beside the other.
    pub(super) fn has_second_path(&self) -> bool {
        self.has_other_path() && self.paths.iter().any(|path| path.takes_alarms)
    }

    /// Whether there is more than one way.
    pub(super) fn has_choice(&self) -> bool {
        self.paths.len() * self.gateways.len() > 1
    }

    /// The way in words.
    pub(super) fn name(&self, way: Way) -> String {
        let (gateway, path) = (&self.gateways[way.gateway], &self.paths[way.path]);
        if self.paths.len() == 1 {
            gateway.name.to_string()
        } else {
            format!("{} by {}", gateway.name, path.name)
        }
    }
}

/// Keeps the addresses behind a name: the last ones that were found, also where it cannot be looked up now. On a thread of its own, as
/// a resolver waits for half a minute where nobody answers; one at a time.
async fn look_up(place: (String, u16), tell: watch::Sender<Vec<SocketAddr>>) {
    loop {
        let (done, found) = oneshot::channel();
        let asked = place.clone();
        let asking = std::thread::Builder::new().name("name".to_owned()).spawn(move || {
            let found = asked.to_socket_addrs().map(Iterator::collect).unwrap_or_default();
            let _ = done.send(found);
        });
        let found: Vec<SocketAddr> = if asking.is_ok() {
            found.await.unwrap_or_default()
        } else {
            Vec::new()
        };
        let again = if found.is_empty() { LOOK_UP_AGAIN } else { LOOK_UP_EVERY };
        if !found.is_empty() {
            tell.send_replace(found);
        }
        tokio::time::sleep(again).await;
    }
}
