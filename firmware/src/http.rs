//! The board's status over HTTP: for machines `/livez`, `/readyz`, `/metrics` and `/status`, for people `/`. Reads
//! snapshots that the node's owner publishes; asks the node nothing.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use link::clock;
use link::http::Refused;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde::Serialize;
use serde_json::json;
use shared::node::status::Status;
use tokio::sync::watch;

use crate::askers;
use crate::drive::Snapshot;
use crate::page;
use crate::secrets::StatusToken;
use crate::uplink::{StandingGauge, StandingStatus};
use crate::wear::{WearGauge, WearStatus};

/// A node that has published nothing for so long hangs: it does so every 50 ms. Long enough for a slow disk's stall.
const HUNG_AFTER: Duration = Duration::from_secs(10);

/// What the pages are made from.
#[derive(Clone, Debug)]
pub(crate) struct Pages {
    pub(crate) snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// Set once everything that is measured has started.
    pub(crate) registry: Arc<OnceLock<Registry>>,
    /// Set once the disk is open.
    pub(crate) wear: Arc<OnceLock<WearGauge>>,
    /// Set once everything has started, where there is a region.
    pub(crate) uplink: Arc<OnceLock<StandingGauge>>,
}

impl Pages {
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshots.borrow().clone()
    }

    fn wear(&self) -> Option<WearStatus> {
        self.wear.get().map(WearGauge::status)
    }

    fn standing(&self) -> Option<StandingStatus> {
        self.uplink.get().map(|gauge| gauge.status(clock::now()))
    }
}

/// The board's pages, behind the question for `token` where there is one.
pub(crate) fn router(pages: Pages, token: Option<StatusToken>) -> Router {
    let open = Router::new()
        .route("/", get(people))
        .route("/live.js", get(async || ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], page::SCRIPT)))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .with_state(pages);
    match token {
        Some(token) => open.layer(from_fn_with_state(token, askers::ask)),
        None => open.layer(from_fn(link::http::no_foreign_name)),
    }
}

/// Alive: the process starts, or its node moves on.
async fn live(State(pages): State<Pages>) -> Response {
    match pages.snapshot() {
        Some(snapshot) if clock::now().since(snapshot.at) >= HUNG_AFTER => {
            Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the node stands still").into_response()
        }
        Some(_) | None => Json(json!({ "alive": true })).into_response(),
    }
}

/// Ready: a publisher that connects now will be served.
async fn ready(State(pages): State<Pages>) -> Response {
    let Some(snapshot) = pages.snapshot() else {
        return not_ready(&["the journal is being read"]);
    };
    let why = unready(&snapshot.status);
    if why.is_empty() {
        Json(json!({ "ready": true })).into_response()
    } else {
        not_ready(&why)
    }
}

fn unready(status: &Status) -> Vec<&'static str> {
    let causes = [
        (status.leader.is_none(), "no leader is known"),
        (status.poisoned, "the journal is not writable"),
        (!status.accepts, "records are not taken in: the journal is full, busy or stopping"),
    ];
    causes.into_iter().filter_map(|(holds, why)| holds.then_some(why)).collect()
}

fn not_ready(why: &[&str]) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "ready": false, "error": why.join("; ") }))).into_response()
}

/// What the node says, what its medium has borne, and how its uplink stands.
#[derive(Debug, Serialize)]
struct BoardStatus<'s> {
    #[serde(flatten)]
    status: &'s Status,
    /// How many seconds the backlog still takes, where it falls.
    backlog_eta_s: Option<u64>,
    wear: Option<WearStatus>,
    uplink_path: Option<StandingStatus>,
}

async fn status(State(pages): State<Pages>) -> Response {
    match pages.snapshot() {
        Some(snapshot) => Json(BoardStatus {
            status: &snapshot.status,
            backlog_eta_s: snapshot.backlog_eta.map(|eta| eta.as_secs()),
            wear: pages.wear(),
            uplink_path: pages.standing(),
        })
        .into_response(),
        None => Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the journal is being read").into_response(),
    }
}

async fn people(State(pages): State<Pages>) -> Response {
    /// Nothing is loaded from elsewhere, and nothing in the page's text is run. The style stands in the page.
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'; \
        img-src data:; base-uri 'none'; frame-ancestors 'none'";
    let (wear, standing) = (pages.wear(), pages.standing());
    let page = page::render(pages.snapshot().as_deref(), wear.as_ref(), standing.as_ref());
    let headers = [(header::CONTENT_SECURITY_POLICY, POLICY), (header::CACHE_CONTROL, "no-store")];
    (headers, Html(page)).into_response()
}

async fn metrics(State(pages): State<Pages>) -> Response {
    let Some(registry) = pages.registry.get() else {
        return Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the journal is being read").into_response();
    };
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use shared::node::status::Status;

    use super::*;

    fn status() -> Status {
        Status {
            site: "north".into(),
            board: 1,
            epoch: "1.0".into(),
            leader: Some(1),
            term: 257,
            lease_remaining_ms: Some(500),
            duties: vec!["uplink".to_owned()],
            leader_why: "there was no leader",
            autonomous: false,
            vote: Default::default(),
            user_duties: Vec::new(),
            history: Vec::new(),
            uplink: "closed",
            region: "idle",
            accepts: true,
            degraded: false,
            poisoned: false,
            accepted: 3,
            committed: 2,
            degraded_records: 0,
            unacknowledged: 0,
            owed: 0,
            repair: Default::default(),
            refused: 0,
            uncommitted: 1,
            hedged: 0,
            backlog: 3,
            shed: shared::node::status::ShedStatus::default(),
            segments: 1,
            segments_max: 4,
            boards: Vec::new(),
            waits_for: "nothing",
            deadlines: Vec::new(),
        }
    }

    #[test]
    fn each_cause_alone_makes_a_board_unready() {
        assert!(unready(&status()).is_empty());
        for (spoil, cause) in [
            ((|status: &mut Status| status.leader = None) as fn(&mut Status), "leader"),
            (|status| status.poisoned = true, "writable"),
            (|status| status.accepts = false, "taken in"),
        ] {
            let mut status = status();
            spoil(&mut status);
            let why = unready(&status);
            assert!(why.len() == 1 && why[0].contains(cause), "{why:?}");
        }
    }

    #[tokio::test]
    async fn every_page_but_health_asks_for_the_token() {
        let (_, snapshots) = watch::channel(None);
        let pages = Pages { snapshots, registry: Arc::default(), wear: Arc::default(), uplink: Arc::default() };
        let token = "0123456789abcdef0123456789abcdef";
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stopper, stop) = link::stop::signal();
        let serving = tokio::spawn(link::http::serve(listener, router(pages, Some(StatusToken::of(token))), stop));
        let status = async |path: &str, with: &str| {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: b\r\nConnection: close\r\n{with}\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer[9..12].parse::<u16>().unwrap()
        };
        let bearer = format!("Authorization: Bearer {token}\r\n");
        // Every route of this file: a new one cannot be forgotten. Before the first snapshot some are not ready.
        let source = include_str!("http.rs");
        let (source, _) = source.split_once("#[cfg(test)]").unwrap();
        let paths: Vec<&str> = source
            .split(".route(\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert!(paths.len() >= 5, "{paths:?}");
        for path in paths {
            let is_open = ["/livez", "/readyz"].contains(&path);
            assert_eq!(status(path, "").await != 401, is_open, "{path}");
            assert_eq!(status(path, "Authorization: Bearer x\r\n").await != 401, is_open, "{path}");
            assert_ne!(status(path, &bearer).await, 401, "{path}");
        }
        stopper.stop();
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn a_hung_node_is_not_alive() {
        let age = |age: Duration| {
            let at = shared::time::Instant::from_micros(clock::now().micros() - age.as_micros() as u64);
            let (_, snapshots) = watch::channel(Some(Arc::new(Snapshot { status: status(), at, backlog_eta: None })));
            Pages { snapshots, registry: Arc::default(), wear: Arc::default(), uplink: Arc::default() }
        };
        assert_eq!(live(State(age(HUNG_AFTER / 2))).await.status(), StatusCode::OK);
        assert_eq!(live(State(age(HUNG_AFTER))).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
