//! Who may look, and what was done: for those who may see it. An admin disables and enables accounts here; everything else is done
//! on the gateway's machine.

use axum::extract::{Extension, Form, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use link::http::Refused;
use link::logging::whole_story;
use maud::{Markup, html};
use serde::Deserialize;
use shared::ids::Name;
use shared::time::WallMillis;

use super::words::moment;
use super::{Dashboard, answer, page};
use crate::access::audit::{Entry, Outcome};
use crate::access::roll::{Account, Change, RollError, Token};
use crate::access::{Asker, Who};

/// Entries on the page of the audit log.
const ENTRIES: usize = 200;

/// `GET /audit`.
pub(super) async fn audit(
    State(dashboard): State<Dashboard>,
    Extension(asker): Extension<Asker>,
) -> Result<Response, Refused> {
    let entries = dashboard.shown.access.ask(|keeper, _| keeper.newest(ENTRIES)).await;
    let entries = entries.map_err(|busy| Refused::new(StatusCode::SERVICE_UNAVAILABLE, busy.to_string()))?;
    let entries = entries.map_err(|error| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, whole_story(&error)))?;
    Ok(answer(page("Roadstead: audit log", None, &asker, &audit_body(&entries))))
}

fn audit_body(entries: &[Entry]) -> Markup {
    html! {
        h1 { "Audit log" }
        p.note {
            "The newest " (entries.len()) ", newest first. " code { "roadstead audit verify" }
            " on the gateway's machine says whether all of it is as it was written."
        }
        table {
            thead { tr {
                th scope="col" { "When" } th scope="col" { "Who" } th scope="col" { "From" } th scope="col" { "What" }
                th scope="col" { "Outcome" } th scope="col" { "Detail" }
            } }
            tbody { @for entry in entries {
                tr {
                    th scope="row" { (entry.at) }
                    td data-label="Who" { (entry.who) }
                    td data-label="From" { (entry.from) }
                    td data-label="What" { (entry.what) " " (entry.on) }
                    td data-label="Outcome" { (outcome(entry.outcome)) }
                    td data-label="Detail" { (entry.detail) }
                }
            } }
        }
    }
}

fn outcome(outcome: Outcome) -> Markup {
    let (class, word) = match outcome {
        Outcome::Ok => ("yes", "ok"),
        Outcome::Refused => ("no", "refused"),
        Outcome::Failed => ("no", "failed"),
    };
    html! { span class=(class) { (word) } }
}

/// `GET /accounts`.
pub(super) async fn accounts(
    State(dashboard): State<Dashboard>,
    Extension(asker): Extension<Asker>,
) -> Result<Response, Refused> {
    let all = dashboard.shown.access.ask(|keeper, _| keeper.everybody()).await;
    let all = all.map_err(|busy| Refused::new(StatusCode::SERVICE_UNAVAILABLE, busy.to_string()))?;
    let (accounts, tokens) = all.map_err(refused)?;
    Ok(answer(page("Roadstead: accounts", None, &asker, &accounts_body(&accounts, &tokens, &asker))))
}

fn refused(error: RollError) -> Refused {
    let status = match &error {
        RollError::Unknown { .. } => StatusCode::NOT_FOUND,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Refused::new(status, whole_story(&error))
}

fn accounts_body(accounts: &[Account], tokens: &[Token], asker: &Asker) -> Markup {
    let now = link::clock::wall();
    html! {
        h1 { "Accounts" }
        table {
            thead { tr {
                th scope="col" { "Name" } th scope="col" { "Role" } th scope="col" { "Second factor" } th scope="col" { "State" }
                th scope="col" { "Change" }
            } }
            tbody { @for account in accounts { (line(account, is_own(asker, account))) } }
        }
        h2 { "Tokens" }
        @if tokens.is_empty() { p { "There are none." } } @else {
            table {
                thead { tr { th scope="col" { "Name" } th scope="col" { "Role" } th scope="col" { "Ends" } } }
                tbody { @for token in tokens {
                    tr {
                        th scope="row" { (token.name) }
                        td data-label="Role" { (token.role) }
                        td data-label="Ends" { (ends(token, now)) }
                    }
                } }
            }
        }
        p.note {
            "Accounts and tokens are made and removed on the gateway's machine: " code { "roadstead user" } ", "
            code { "roadstead token" } "."
        }
    }
}

fn line(account: &Account, is_own: bool) -> Markup {
    let (class, state, verb) = if account.enabled {
        ("yes", "enabled", "Disable")
    } else {
        ("no", "disabled", "Enable")
    };
    html! {
        tr {
            th scope="row" { (account.name) }
            td data-label="Role" { (account.role) }
            td data-label="Second factor" { @if account.totp { "on" } @else { "off" } }
            td data-label="State" { span class=(class) { (state) } }
            td data-label="Change" {
                // Whoever locks themselves out by mistake needs the gateway's machine.
                @if !is_own {
                    form.inline method="post" action=(format!("/accounts/{}", account.name)) {
                        input type="hidden" name="enabled" value=(!account.enabled);
                        button aria-label=(format!("{verb} {}", account.name)) { (verb) }
                    }
                }
            }
        }
    }
}

fn ends(token: &Token, now: WallMillis) -> String {
    let at = moment(token.expires_ms.cast_signed());
    if token.expires_ms <= now.0 { format!("ended {at}") } else { at }
}

fn is_own(asker: &Asker, account: &Account) -> bool {
    person(asker) == Some(account.name.as_str())
}

fn person(asker: &Asker) -> Option<&str> {
    match &asker.visitor.as_ref()?.who {
        Who::User(account) => Some(&account.name),
        Who::Token(_) | Who::Machine(_) => None,
    }
}

#[derive(Deserialize)]
pub(super) struct Enabled {
    enabled: bool,
}

/// `POST /accounts/{name}`.
pub(super) async fn enable(
    State(dashboard): State<Dashboard>,
    Extension(asker): Extension<Asker>,
    Path(name): Path<String>,
    Form(Enabled { enabled }): Form<Enabled>,
) -> Result<Response, Refused> {
    let by = person(&asker).ok_or_else(|| Refused::new(StatusCode::FORBIDDEN, "only a person changes accounts"))?;
    if by == name {
        return Err(Refused::new(StatusCode::FORBIDDEN, "nobody disables themselves"));
    }
    let none = || Refused::new(StatusCode::NOT_FOUND, "there is no such account");
    let change = Change::Enable(Name::try_from(name.as_str()).map_err(|_| none())?, enabled);
    let (by, address) = (by.to_owned(), asker.address);
    let changed = dashboard
        .shown
        .access
        .ask(move |keeper, now| keeper.change(&by, &change, address, now))
        .await;
    let changed = changed.map_err(|busy| Refused::new(StatusCode::SERVICE_UNAVAILABLE, busy.to_string()))?;
    changed.map_err(refused)?;
    Ok(Redirect::to("/accounts").into_response())
}
