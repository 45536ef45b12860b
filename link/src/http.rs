//! Serves HTTP/1.1 in bounds: connections, header time and size, body size, request time and a connection's life.
//! A client that dawdles costs one slot for a moment; when all slots are taken the oldest gives way, so the newcomer
//! (a health check) is always heard. Refusals are JSON: `{"error": "..."}`. Every request carries its [`Peer`].

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::http::header::HOST;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use quinn::rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::stop::Stop;

/// Connections at once. At the limit the oldest is closed.
pub const CONNECTIONS_MAX: usize = 128;
/// A request's head must be complete this long after the connection was opened, or after the answer before it.
pub const HEAD_MAX: Duration = Duration::from_secs(5);
/// Bytes of a request's head.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a request's body.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// An answer must be ready after so long.
pub const REQUEST_MAX: Duration = Duration::from_secs(10);
/// A connection lives no longer: a client that never reads its answer holds nothing for ever.
pub const CONNECTION_MAX: Duration = Duration::from_secs(120);
/// Answers under way are given so long when the process stops.
const STOP_MAX: Duration = Duration::from_millis(500);

/// A refusal as its client sees it.
#[derive(Debug)]
pub struct Refused {
    /// The status.
    pub status: StatusCode,
    /// What was wrong, and what would be right, in words.
    pub error: String,
}

impl Refused {
    /// A refusal with this status and these words.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into() }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(serde_json::json!({ "error": self.error }))).into_response()
    }
}

/// Who is at the other end of a request's connection: an extension of every request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The certificate with which it has proved itself, where TLS asked for one and it had one.
    pub certificate: Option<CertificateDer<'static>>,
}

/// Stands before pages that ask nobody who they are, because they are on loopback: refuses a request whose `Host` is a name of
/// the public DNS. A web page anywhere may let its own name point at 127.0.0.1, and would then read these pages in its visitor's
/// browser as if they were its own (DNS rebinding). An address, `localhost` and a name without a dot are nobody's page elsewhere.
pub async fn no_foreign_name(request: Request, next: Next) -> Response {
    let named = request.headers().get(HOST).map(|host| host.to_str().unwrap_or("?.?"));
    match named.or_else(|| request.uri().host()) {
        Some(host) if is_foreign_name(host) => {
            let error = "these pages ask nobody who they are, so they answer to this machine's own names alone: use \
                         127.0.0.1 or localhost, or set up access for others";
            Refused::new(StatusCode::FORBIDDEN, error).into_response()
        }
        Some(_) | None => next.run(request).await,
    }
}

/// Whether `host`, a name or an address with or without a port, may be a name that somebody else has in the DNS.
pub fn is_foreign_name(host: &str) -> bool {
    if host.starts_with('[') {
        return false;
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let is_address = name.parse::<std::net::Ipv4Addr>().is_ok();
    name.contains('.') && !is_address && !name.ends_with(".localhost")
}

/// What a connection goes through before HTTP is spoken on it.
pub trait Entrance: Clone + Send + Sync + 'static {
    /// What comes out of it.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send;

    /// Takes a connection in; `None` where it is not let in. Has [`HEAD_MAX`] for it.
    fn enter(
        &self,
        stream: TcpStream,
    ) -> impl Future<Output = Option<(Self::Stream, Option<CertificateDer<'static>>)>> + Send;
}

/// No entrance at all: HTTP in the clear.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Entrance for Plain {
    type Stream = TcpStream;

    async fn enter(&self, stream: TcpStream) -> Option<(TcpStream, Option<CertificateDer<'static>>)> {
        Some((stream, None))
    }
}

/// Serves `router` on `listener`, in the clear, until told to stop. What the router does not know is refused as JSON.
pub async fn serve(listener: TcpListener, router: Router, stop: Stop) {
    serve_through(Plain, listener, router, stop).await;
}

/// The same for connections that go through an entrance first.
pub async fn serve_through(entrance: impl Entrance, listener: TcpListener, router: Router, mut stop: Stop) {
    let router = router
        .fallback(async || Refused::new(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            Refused::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take that method")
        })
        .layer(middleware::from_fn(in_time))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let (stream, address) = tokio::select! {
            () = stop.stopped() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: those in use come back, so wait instead of spinning.
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        make_room(&mut oldest_first);
        let connection = connection(entrance.clone(), (stream, address), router.clone(), stop.clone());
        oldest_first.push_back(connections.spawn(connection));
    }
    let _ = tokio::time::timeout(STOP_MAX, async { while connections.join_next().await.is_some() {} }).await;
}

fn make_room(oldest_first: &mut VecDeque<AbortHandle>) {
    if oldest_first.len() < CONNECTIONS_MAX {
        return;
    }
    oldest_first.retain(|connection| !connection.is_finished());
    if oldest_first.len() >= CONNECTIONS_MAX
        && let Some(oldest) = oldest_first.pop_front()
    {
        oldest.abort();
    }
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Refused::new(StatusCode::REQUEST_TIMEOUT, "the request took too long").into_response(),
    }
}

/// Tells the router who is asking.
struct Told {
    service: TowerToHyperService<Router>,
    peer: Peer,
}

impl Service<Request<Incoming>> for Told {
    type Response = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Response;
    type Error = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Error;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer.clone());
        self.service.call(request)
    }
}

async fn connection(
    entrance: impl Entrance,
    (stream, address): (TcpStream, SocketAddr),
    router: Router,
    mut stop: Stop,
) {
    // Only delays small answers where it cannot be set.
    let _ = stream.set_nodelay(true);
    let entered = tokio::select! {
        entered = tokio::time::timeout(HEAD_MAX, entrance.enter(stream)) => entered,
        () = stop.stopped() => return,
    };
    let Ok(Some((stream, certificate))) = entered else { return };
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    let service = Told { service: TowerToHyperService::new(router), peer: Peer { address, certificate } };
    let serving = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let life = tokio::time::sleep(CONNECTION_MAX);
    // Errors here are the client's: it left, dawdled or spoke something else.
    tokio::select! {
        _ = serving.as_mut() => return,
        () = life => return,
        () = stop.stopped() => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(STOP_MAX, serving).await;
}
