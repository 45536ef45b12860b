//! The pages for people: all sites, and one; drawn by the server, kept live by server-sent events, whole without scripts and
//! without any other host. Reads the picture, the histories and the store; changes nothing.

mod duties;
mod health;
mod history;
mod live;
mod login;
mod overview;
mod page;
mod people;
mod plot;
mod site;
mod square;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Path, RawQuery, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use link::http::Refused;
use maud::Markup;
use shared::ids::Name;
use tokio::sync::Semaphore;

use crate::access::Asker;
use crate::api::{Question, Shown};

use self::health::Health;
pub(crate) use self::health::judge;
pub(crate) use self::history::{Histories, SiteHistory, keep};
use self::live::{Looked, VIEWERS_MAX, follow};
use self::overview::{Filter, Overview};
use self::page::page;
use self::site::Stored;

/// Nothing is loaded from elsewhere, nothing in a page's text is run, and no other page shows this one in a frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

#[derive(Clone)]
struct Dashboard {
    shown: Shown,
    places: Arc<Semaphore>,
}

/// All pages.
pub(crate) fn router(shown: Shown) -> Router {
    Router::new()
        .route("/", get(sites))
        .route("/sites/{site}", get(one_site))
        .route("/live", get(live_sites))
        .route("/live/{site}", get(live_site))
        .route(
            "/assets/style.css",
            get(async || asset("text/css; charset=utf-8", include_str!("assets/style.css"))),
        )
        .route(
            "/assets/live.js",
            get(async || asset("text/javascript; charset=utf-8", include_str!("assets/live.js"))),
        )
        .route("/login", get(login::show).post(login::login))
        .route("/logout", post(login::logout))
        .route("/account", get(login::account))
        .route("/account/password", post(login::password))
        .route("/account/totp", post(login::offer))
        .route("/account/totp/confirm", post(login::confirm))
        .route("/account/totp/remove", post(login::remove))
        .route("/accounts", get(people::accounts))
        .route("/accounts/{name}", post(people::enable))
        .route("/audit", get(people::audit))
        .layer(middleware::from_fn(guard))
        .with_state(Dashboard { shown, places: Arc::new(Semaphore::new(VIEWERS_MAX)) })
}

async fn guard(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Revalidated at each use, so that a new gateway's pages never meet an old one's assets.
fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

fn answer(page: Markup) -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page.into_string()).into_response()
}

fn filter(query: Option<&str>) -> Result<Filter, Refused> {
    let question = Question::read(query, &["show", "name"])?;
    let health = match question.value("show").filter(|word| !word.is_empty()) {
        None => None,
        Some(word) => Some(Health::ALL.into_iter().find(|health| health.word() == word).ok_or_else(|| {
            let words = Health::ALL.map(Health::word).join(", ");
            Refused::new(StatusCode::BAD_REQUEST, format!("parameter \"show\" is \"{word}\"; give one of: {words}"))
        })?),
    };
    // Letters that a name cannot have are in no name, so nothing has to be decoded.
    let name = question.value("name").unwrap_or_default().to_lowercase();
    Ok(Filter { health, name })
}

async fn sites(
    State(dashboard): State<Dashboard>,
    Extension(asker): Extension<Asker>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    let filter = filter(query.as_deref())?;
    let shown = &dashboard.shown;
    let overview = {
        let (picture, histories) = (shown.picture.borrow(), shown.histories.borrow());
        Overview::draw(&picture, &histories, &filter, link::clock::now())
    };
    let live = format!("/live{}", filter.query());
    Ok(answer(page("Roadstead: sites", Some(&live), &asker, &overview.body(&filter))))
}

async fn one_site(
    State(dashboard): State<Dashboard>,
    Extension(asker): Extension<Asker>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    Question::read(query.as_deref(), &[])?;
    let name = dashboard.shown.site(&name)?;
    let body = body_of(&dashboard.shown, &name).await?;
    Ok(answer(page(&format!("Roadstead: {name}"), Some(&format!("/live/{name}")), &asker, &body)))
}

async fn body_of(shown: &Shown, name: &Name) -> Result<Markup, Refused> {
    // The picture first: what is stored afterwards can only be more than what it reckons with.
    let picture = shown.picture.borrow().sites.get(name).cloned().unwrap_or_default();
    let asked = name.clone();
    let stored = shown.ask(move |store| Stored::read(store, &asked)).await?;
    let histories = shown.histories.borrow();
    let parts = site::parts(name, &picture, histories.get(name), &stored, link::clock::now());
    Ok(maud::html! { @for part in &parts { (part.markup) } })
}

async fn live_sites(
    State(dashboard): State<Dashboard>,
    Extension(asker): Extension<Asker>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    let filter = filter(query.as_deref())?;
    dashboard.follow(Looked::Sites(filter), asker)
}

async fn live_site(
    State(dashboard): State<Dashboard>,
    Extension(asker): Extension<Asker>,
    Path(name): Path<String>,
) -> Result<Response, Refused> {
    let name = dashboard.shown.site(&name)?;
    dashboard.follow(Looked::Site(name), asker)
}

impl Dashboard {
    fn follow(self, looked: Looked, asker: Asker) -> Result<Response, Refused> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let error =
                format!("{VIEWERS_MAX} pages are kept live already; this one is right as of when it was loaded");
            Refused::new(StatusCode::SERVICE_UNAVAILABLE, error)
        })?;
        Ok(follow(self.shown, looked, asker, place).into_response())
    }
}
