//! The pages on which people say who they are: the login, one's own account, and what changes it. Plain forms; what they bring is
//! judged by `access`.

use axum::extract::{Extension, Form, RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use link::logging::whole_story;
use maud::{Markup, html};
use serde::Deserialize;
use shared::ids::Name;

use super::square::square;
use super::{Dashboard, answer, page};
use crate::access::roll::{Account, Change};
use crate::access::totp::TotpSecret;
use crate::access::{
    Access, Asker, Denied, HashError, LOGIN, PASSWORD_BYTES_MAX, Pass, Secret, Who, back, check_password, identify,
    set_cookie,
};

#[derive(Deserialize)]
pub(super) struct Login {
    name: String,
    password: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    to: String,
}

/// What proves that whoever is signed in still is who did so.
#[derive(Deserialize)]
pub(super) struct Proof {
    password: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    new: String,
    #[serde(default)]
    again: String,
}

#[derive(Deserialize)]
pub(super) struct Code {
    code: String,
}

/// `GET /login`.
pub(super) async fn show(
    State(dashboard): State<Dashboard>,
    Extension(asker): Extension<Asker>,
    RawQuery(query): RawQuery,
) -> Response {
    // Where nobody is asked, nobody can say who they are.
    if matches!(identify(&dashboard.shown.access, &asker, true).await, Ok(Pass::Open)) {
        return Redirect::to("/").into_response();
    }
    let to = query.as_deref().and_then(|query| query.strip_prefix("to=")).unwrap_or("/");
    answer(form(&asker, back(to), None))
}

/// `POST /login`.
pub(super) async fn login(
    State(dashboard): State<Dashboard>,
    Extension(asker): Extension<Asker>,
    Form(login): Form<Login>,
) -> Response {
    let access = &dashboard.shown.access;
    let to = back(&login.to);
    match sign_in(access, &asker, &login).await {
        Ok(session) => signed_in(access, &session, Redirect::to(to).into_response()),
        Err(denied) => refuse(&denied, |why| form(&asker, to, Some(why))),
    }
}

async fn sign_in(access: &Access, asker: &Asker, login: &Login) -> Result<Secret, Denied> {
    let (name, address, code) = (login.name.trim().to_owned(), asker.address, login.code.clone());
    let trial = access.ask(move |keeper, now| keeper.try_login(&name, address, now)).await??;
    let matches = match compare(access, &login.password, trial.hash.clone()).await {
        Ok(matches) => matches,
        Err(error) => {
            access.ask(move |keeper, now| keeper.give_up(&trial, now)).await?;
            return Err(error.into());
        }
    };
    access.ask(move |keeper, now| keeper.login(trial, matches, &code, now)).await?
}

/// A password that is longer than any is compared all the same, cut: so that it takes as long.
async fn compare(access: &Access, password: &str, hash: crate::access::PasswordHash) -> Result<bool, HashError> {
    let is_long = password.len() > PASSWORD_BYTES_MAX;
    let password: String = if is_long {
        "-".repeat(PASSWORD_BYTES_MAX)
    } else {
        password.to_owned()
    };
    Ok(access.hasher.matches(password, hash).await? && !is_long)
}

/// `POST /logout`.
pub(super) async fn logout(State(dashboard): State<Dashboard>, Extension(asker): Extension<Asker>) -> Response {
    let access = &dashboard.shown.access;
    if let (Some(account), Some(print)) = (own(&asker), asker.credentials.cookie) {
        let (name, address) = (account.name.clone(), asker.address);
        let ended = access.ask(move |keeper, now| keeper.logout(&print, &name, address, now)).await;
        if let Err(denied) = ended.map_err(Denied::from).and_then(|ended| ended) {
            tracing::error!(why = whole_story(&denied), "a sign-out is not written down");
        }
    }
    let mut response = Redirect::to(LOGIN).into_response();
    response
        .headers_mut()
        .insert(header::SET_COOKIE, set_cookie(None, access.is_encrypted));
    response
}

/// `GET /account`.
pub(super) async fn account(Extension(asker): Extension<Asker>) -> Response {
    match own(&asker) {
        Some(account) => answer(account_page(&asker, account, None)),
        None => answer(no_person(&asker)),
    }
}

/// `POST /account/password`.
pub(super) async fn password(
    State(dashboard): State<Dashboard>,
    Extension(asker): Extension<Asker>,
    Form(proof): Form<Proof>,
) -> Response {
    let Some(account) = own(&asker) else { return answer(no_person(&asker)) };
    let access = &dashboard.shown.access;
    let told = |why: &str| account_page(&asker, account, Some(why));
    let fault = if proof.new == proof.again {
        check_password(&account.name, &proof.new).err()
    } else {
        Some("it was not written the same twice".to_owned())
    };
    if let Some(fault) = fault {
        return (StatusCode::BAD_REQUEST, answer(told(&format!("The new password will not do: {fault}."))))
            .into_response();
    }
    let changed = async {
        prove(access, &asker, account, &proof).await?;
        let hash = access.hasher.hash(proof.new.clone()).await?;
        change(access, &asker, account, |name| Change::Password(name, hash)).await
    };
    match changed.await {
        Ok(session) => {
            signed_in(access, &session, answer(told("The password is changed. Other browsers are signed out.")))
        }
        Err(denied) => refuse(&denied, told),
    }
}

/// `POST /account/totp`: offers a second factor.
pub(super) async fn offer(
    State(dashboard): State<Dashboard>,
    Extension(asker): Extension<Asker>,
    Form(proof): Form<Proof>,
) -> Response {
    let access = &dashboard.shown.access;
    let (Some(account), Some(print)) = (own(&asker), asker.credentials.cookie) else {
        return answer(no_person(&asker));
    };
    let offered = async {
        prove(access, &asker, account, &proof).await?;
        access.ask(move |keeper, now| keeper.offer_totp(&print, now)).await?
    };
    match offered.await {
        Ok(secret) => answer(offer_page(&asker, account, &secret, None)),
        Err(denied) => refuse(&denied, |why| account_page(&asker, account, Some(why))),
    }
}

/// `POST /account/totp/confirm`.
pub(super) async fn confirm(
    State(dashboard): State<Dashboard>,
    Extension(asker): Extension<Asker>,
    Form(Code { code }): Form<Code>,
) -> Response {
    let access = &dashboard.shown.access;
    let (Some(account), Some(print)) = (own(&asker), asker.credentials.cookie) else {
        return answer(no_person(&asker));
    };
    let (known, address) = (account.clone(), asker.address);
    let confirmed = access
        .ask(move |keeper, now| keeper.confirm_totp(&print, &known, (&code, address), now))
        .await
        .map_err(Denied::from)
        .and_then(|confirmed| confirmed);
    match confirmed {
        Ok((recovery, session)) => signed_in(access, &session, answer(recovery_page(&asker, &recovery))),
        Err(denied @ Denied::Wrong) => {
            let offered = access.ask(move |keeper, now| keeper.offered(&print, now)).await;
            let again = "This is not the code that is shown now. Look at the telephone's clock, and try the next one.";
            match offered {
                Ok(Some(secret)) => {
                    (StatusCode::BAD_REQUEST, answer(offer_page(&asker, account, &secret, Some(again)))).into_response()
                }
                Ok(None) | Err(_) => refuse(&denied, |why| account_page(&asker, account, Some(why))),
            }
        }
        Err(denied) => refuse(&denied, |why| account_page(&asker, account, Some(why))),
    }
}

/// `POST /account/totp/remove`.
pub(super) async fn remove(
    State(dashboard): State<Dashboard>,
    Extension(asker): Extension<Asker>,
    Form(proof): Form<Proof>,
) -> Response {
    let access = &dashboard.shown.access;
    let Some(account) = own(&asker) else { return answer(no_person(&asker)) };
    let removed = async {
        prove(access, &asker, account, &proof).await?;
        change(access, &asker, account, Change::NoTotp).await
    };
    match removed.await {
        Ok(session) => {
            let mut plain = account.clone();
            plain.totp = false;
            let told = "No code is asked for any more. Other browsers are signed out.";
            signed_in(access, &session, answer(account_page(&asker, &plain, Some(told))))
        }
        Err(denied) => refuse(&denied, |why| account_page(&asker, account, Some(why))),
    }
}

/// The second look at who is signed in, before anything of theirs is changed: wrong ones count as at the login.
async fn prove(access: &Access, asker: &Asker, account: &Account, proof: &Proof) -> Result<(), Denied> {
    let (name, address, code) = (account.name.clone(), asker.address, proof.code.clone());
    let trial = access.ask(move |keeper, now| keeper.try_login(&name, address, now)).await??;
    let matches = match compare(access, &proof.password, trial.hash.clone()).await {
        Ok(matches) => matches,
        Err(error) => {
            access.ask(move |keeper, now| keeper.give_up(&trial, now)).await?;
            return Err(error.into());
        }
    };
    access.ask(move |keeper, now| keeper.prove(&trial, matches, &code, now)).await?
}

async fn change(
    access: &Access,
    asker: &Asker,
    account: &Account,
    change: impl FnOnce(Name) -> Change,
) -> Result<Secret, Denied> {
    // Every account's name is one.
    let name = Name::try_from(account.name.as_str()).map_err(|_| Denied::Wrong)?;
    let (change, account, address) = (change(name), account.clone(), asker.address);
    access
        .ask(move |keeper, now| keeper.change_own(&account, &change, address, now))
        .await?
}

fn own(asker: &Asker) -> Option<&Account> {
    match &asker.visitor.as_ref()?.who {
        Who::User(account) => Some(account),
        Who::Token(_) | Who::Machine(_) => None,
    }
}

fn signed_in(access: &Access, session: &Secret, mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(header::SET_COOKIE, set_cookie(Some(session.text()), access.is_encrypted));
    response
}

/// The page once more, with what was wrong.
fn refuse(denied: &Denied, page: impl FnOnce(&str) -> Markup) -> Response {
    let (status, after) = match denied {
        Denied::Wait(wait) => (StatusCode::TOO_MANY_REQUESTS, Some(wait.as_secs().max(1))),
        Denied::Wrong => (StatusCode::UNAUTHORIZED, None),
        Denied::Hash(HashError::Busy) => (StatusCode::SERVICE_UNAVAILABLE, Some(5)),
        Denied::Hash(_) | Denied::Roll(_) => (StatusCode::INTERNAL_SERVER_ERROR, None),
    };
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(why = whole_story(denied), "nobody can be signed in");
    }
    let words = format!("Not done: {}.", whole_story(denied));
    let mut response = (status, answer(page(&words))).into_response();
    if let Some(after) = after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after));
    }
    response
}

fn said(told: Option<&str>) -> Markup {
    html! { @if let Some(told) = told { p.said role="alert" { (told) } } }
}

fn form(asker: &Asker, to: &str, told: Option<&str>) -> Markup {
    let body = html! {
        h1 { "Sign in" }
        (said(told))
        form.sheet method="post" action="/login" {
            input type="hidden" name="to" value=(to);
            label for="name" { "Name" }
            input #name name="name" autocomplete="username" autocapitalize="none" spellcheck="false" maxlength="32" required autofocus;
            label for="password" { "Password" }
            input #password name="password" type="password" autocomplete="current-password" required;
            label for="code" { "Code, if your account has a second factor" }
            input #code name="code" inputmode="text" autocomplete="one-time-code" autocapitalize="none" spellcheck="false" maxlength="32";
            button { "Sign in" }
        }
        p.note { "Accounts are made on the gateway's machine: " code { "roadstead user add" } "." }
    };
    page("Roadstead: sign in", None, asker, &body)
}

/// What asks for the password once more, and for a code where there is one.
fn proof(account: &Account, id: &str) -> Markup {
    html! {
        label for=(format!("{id}-password")) { "Present password" }
        input id=(format!("{id}-password")) name="password" type="password" autocomplete="current-password" required;
        @if account.totp {
            label for=(format!("{id}-code")) { "Code" }
            input id=(format!("{id}-code")) name="code" autocomplete="one-time-code" spellcheck="false" maxlength="32" required;
        }
    }
}

fn account_page(asker: &Asker, account: &Account, told: Option<&str>) -> Markup {
    let body = html! {
        h1 { "Your account" }
        (said(told))
        dl {
            dt { "Name" } dd { (account.name) }
            dt { "Role" } dd { (account.role) }
            dt { "Second factor" }
            dd { @if account.totp { "on, " (account.recovery_codes) " recovery codes left" } @else { "off" } }
        }
        form method="post" action="/logout" { button { "Sign out" } }
        h2 { "Another password" }
        form.sheet method="post" action="/account/password" {
            (proof(account, "other"))
            label for="new" { "New password, at least 12 characters" }
            input #new name="new" type="password" autocomplete="new-password" required;
            label for="again" { "The same once more" }
            input #again name="again" type="password" autocomplete="new-password" required;
            button { "Change it" }
        }
        h2 { "Second factor" }
        form.sheet method="post" action="/account/totp" {
            (proof(account, "offer"))
            button { @if account.totp { "Use another telephone" } @else { "Set it up" } }
        }
        @if account.totp {
            form.sheet method="post" action="/account/totp/remove" {
                (proof(account, "remove"))
                button { "Turn it off" }
            }
        }
    };
    page("Roadstead: your account", None, asker, &body)
}

fn offer_page(asker: &Asker, account: &Account, secret: &TotpSecret, told: Option<&str>) -> Markup {
    let uri = secret.uri(&account.name);
    let body = html! {
        h1 { "Second factor" }
        (said(told))
        p { "Read this with the authenticator on your telephone, or type the secret. It counts once you have given a code." }
        @if let Some(square) = square(&uri) { (square) }
        dl { dt { "Secret" } dd { code { (secret.text()) } } dt { "As a link" } dd { code { (uri) } } }
        form.sheet method="post" action="/account/totp/confirm" {
            label for="code" { "Code that is shown now" }
            input #code name="code" inputmode="numeric" autocomplete="one-time-code" maxlength="8" required autofocus;
            button { "Confirm" }
        }
        p { a href="/account" { "Leave it as it was" } }
    };
    page("Roadstead: second factor", None, asker, &body)
}

fn recovery_page(asker: &Asker, recovery: &[String]) -> Markup {
    let body = html! {
        h1 { "The second factor is on" }
        p { "Each of these codes is good once in the place of the telephone's. They are shown this one time: keep them on paper." }
        ul.codes { @for code in recovery { li { code { (code) } } } }
        p { a href="/account" { "Done" } }
    };
    page("Roadstead: recovery codes", None, asker, &body)
}

/// For a program that asks for a person's page.
fn no_person(asker: &Asker) -> Markup {
    let body = html! { h1 { "No account" } p { "You are not signed in as a person." } };
    page("Roadstead: no account", None, asker, &body)
}
