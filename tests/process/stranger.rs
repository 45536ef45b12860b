//! Somebody who dials a board or a gateway with a certificate of their choice and waits to be thrown out.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use link::endpoint;
use link::identity::Identity;

/// Who is not thrown out for so long was let in. Less than the patience of either server for a hello.
const LET_IN_AFTER: Duration = Duration::from_millis(1500);
/// A handshake on this machine takes no longer.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// What became of the dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Welcome {
    /// The connection stands.
    LetIn,
    /// The server would not have it; in its words.
    ThrownOut(String),
}

impl Welcome {
    /// Whether the server would not have it.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::ThrownOut(_))
    }
}

/// Dials `target`, which must prove to be `name` under `roots`, with certificate and key in the directory `own`.
pub(crate) fn dial(own: &Path, roots: &Path, target: SocketAddr, name: &str) -> Welcome {
    let identity = Identity::load(&own.join("certificate.pem"), &own.join("key.pem"), roots).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let dialler = endpoint::uplink(&identity, target, endpoint::Binding::default())
            .unwrap()
            .endpoint;
        let connecting = dialler.connect(target, name).unwrap();
        let connection = match tokio::time::timeout(HANDSHAKE_MAX, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Welcome::ThrownOut(error.to_string()),
            Err(_) => panic!("{target} does not answer a handshake"),
        };
        // With TLS 1.3 a client is done before the server has looked at its certificate.
        let welcome = match tokio::time::timeout(LET_IN_AFTER, connection.closed()).await {
            Ok(error) => Welcome::ThrownOut(error.to_string()),
            Err(_) => Welcome::LetIn,
        };
        connection.close(0_u32.into(), b"seen enough");
        dialler.wait_idle().await;
        welcome
    })
}
