//! The HTTP face: sites, counts, events, rows, metrics and health, as JSON for programs. Reads the picture and the
//! store; changes nothing. A refused request says what was wrong, where, and what would be right.

mod answers;
mod question;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use link::http::Refused;
use link::logging::whole_story;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use shared::ids::Name;
use tokio::sync::watch;

use crate::access::{Access, guard};
use crate::dashboard::{self, Histories};
use crate::picture::Picture;
use crate::store::read::StoreReader;
use crate::store::{Desk, StoreError, Unanswered};

pub(crate) use self::question::Question;

/// An owner task that has not come round for so long hangs: it does at least every second.
const BEAT_MAX: Duration = Duration::from_secs(10);

/// What the API shows.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) picture: watch::Receiver<Picture>,
    pub(crate) histories: watch::Receiver<Histories>,
    pub(crate) desk: Desk,
    pub(crate) registry: Arc<Registry>,
    pub(crate) access: Access,
}

/// All paths, each behind the guard.
pub(crate) fn router(shown: Shown) -> Router {
    let access = shown.access.clone();
    let pages = dashboard::router(shown.clone());
    Router::new()
        .route("/api/sites", get(sites))
        .route("/api/sites/{site}", get(site))
        .route("/api/sites/{site}/boards", get(boards))
        .route("/api/sites/{site}/counts", get(counts))
        .route("/api/sites/{site}/events", get(events))
        .route("/api/sites/{site}/history", get(history))
        .route("/api/sites/{site}/records", get(records))
        .route("/api/openapi.json", get(openapi))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(shown)
        .merge(pages)
        .layer(from_fn_with_state(access, guard))
}

impl Shown {
    /// The site of a path, if it is served here.
    pub(crate) fn site(&self, name: &str) -> Result<Name, Refused> {
        let picture = self.picture.borrow();
        let found = Name::try_from(name).ok().filter(|name| picture.sites.contains_key(name));
        found.ok_or_else(|| {
            let served: Vec<&str> = picture.sites.keys().map(Name::as_str).take(20).collect();
            let error = format!(
                "no site \"{name}\" is served here; served are: {}; GET /api/sites lists them",
                served.join(", ")
            );
            Refused::new(StatusCode::NOT_FOUND, error)
        })
    }

    /// The store's answer.
    pub(crate) async fn ask<A: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn StoreReader) -> Result<A, StoreError> + Send + 'static,
    ) -> Result<A, Refused> {
        self.desk.ask(question).await.map_err(|unanswered| {
            let status = match unanswered {
                Unanswered::Busy => StatusCode::SERVICE_UNAVAILABLE,
                Unanswered::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            Refused::new(status, whole_story(&unanswered))
        })
    }
}

async fn sites(State(shown): State<Shown>, RawQuery(query): RawQuery) -> Result<Json<Value>, Refused> {
    Question::read(query.as_deref(), &[])?;
    let (picture, histories) = (shown.picture.borrow().clone(), shown.histories.borrow());
    let now = link::clock::now();
    let sites: Vec<Value> = picture
        .sites
        .iter()
        .map(|(name, site)| answers::site(name, site, histories.get(name), now))
        .collect();
    Ok(Json(json!({ "sites": sites })))
}

async fn site(
    State(shown): State<Shown>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Refused> {
    Question::read(query.as_deref(), &[])?;
    let site = shown.site(&name)?;
    let picture = shown.picture.borrow().sites.get(&site).cloned().unwrap_or_default();
    let histories = shown.histories.borrow();
    Ok(Json(answers::site(&site, &picture, histories.get(&site), link::clock::now())))
}

async fn history(
    State(shown): State<Shown>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Refused> {
    Question::read(query.as_deref(), &[])?;
    let site = shown.site(&name)?;
    let histories = shown.histories.borrow();
    Ok(Json(answers::history(&site, histories.get(&site), link::clock::now())))
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("api/openapi.json")).into_response()
}

async fn boards(
    State(shown): State<Shown>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Refused> {
    let mut counts = answer_counts(&shown, &name, query.as_deref()).await?;
    Ok(Json(json!({ "site": name, "boards": counts["boards"].take() })))
}

async fn counts(
    State(shown): State<Shown>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Refused> {
    Ok(Json(answer_counts(&shown, &name, query.as_deref()).await?))
}

async fn answer_counts(shown: &Shown, name: &str, query: Option<&str>) -> Result<Value, Refused> {
    Question::read(query, &[])?;
    let site = shown.site(name)?;
    // The report first: what is stored afterwards can only be more than what it reckons with.
    let picture = shown.picture.borrow().sites.get(&site).cloned().unwrap_or_default();
    let asked = site.clone();
    let counts = shown.ask(move |store| store.counts(&asked)).await?;
    Ok(answers::counts(&site, &picture, &counts, link::clock::now()))
}

async fn events(
    State(shown): State<Shown>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Refused> {
    let question = Question::read(query.as_deref(), &["limit"])?;
    let limit = question.limit()?;
    let site = shown.site(&name)?;
    let events = shown.ask(move |store| store.events(&site, limit)).await?;
    Ok(Json(json!({ "site": name, "events": events })))
}

async fn records(
    State(shown): State<Shown>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Refused> {
    let question = Question::read(query.as_deref(), &["limit", "after"])?;
    let (limit, after) = (question.limit()?, question.after()?);
    let site = shown.site(&name)?;
    let look = move |store: &dyn StoreReader| {
        let mut records = Vec::new();
        let looked = store.look(&site, after, limit, &mut |row| records.push(answers::record(&row)))?;
        Ok((records, looked.next.map(|next| next.to_string())))
    };
    let (records, next) = shown.ask(look).await?;
    Ok(Json(json!({ "site": name, "records": records, "next": next })))
}

async fn metrics(State(shown): State<Shown>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &shown.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written").into_response(),
    }
}

/// Alive: the owner task comes round.
async fn livez(State(shown): State<Shown>) -> Result<&'static str, Refused> {
    let beat = shown.picture.borrow().beat;
    let silent = link::clock::now().since(beat);
    if silent > BEAT_MAX {
        let error = format!("the owner task has not come round for {} ms: restart this process", silent.as_millis());
        return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, error));
    }
    Ok("alive\n")
}

/// Ready: alive, and the store stores.
async fn readyz(State(shown): State<Shown>) -> Result<&'static str, Refused> {
    livez(State(shown.clone())).await?;
    let is_storing = shown.picture.borrow().is_storing;
    if !is_storing {
        let error = "the last transaction was not stored: look for a full disk; the log has the reason";
        return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, error));
    }
    shown.ask(|store| store.sites().map(|_| ())).await?;
    Ok("ready\n")
}
