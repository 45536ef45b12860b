//! Stands before every path: who asks, whether they may, and whether a change comes from our own pages. What is not listed as
//! open to everybody is open to those alone who are known.

use std::net::IpAddr;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use link::http::{Peer, Refused};
use link::logging::whole_story;

use super::desk::Access;
use super::keeper::{Credentials, Pass, Visitor};
use super::machines;
use super::role::Role;
use super::secrets::{Fingerprint, fingerprint};

/// For everybody: health, the login page, and what it looks like.
pub(crate) const OPEN: [&str; 5] = ["/livez", "/readyz", "/login", "/assets/style.css", "/assets/live.js"];
/// Where one signs in.
pub(crate) const LOGIN: &str = "/login";
/// Pages that are kept live ask for nothing by themselves.
const LIVE: &str = "/live";
/// Bytes of a path that one is sent back to after a login.
const BACK_BYTES_MAX: usize = 256;

/// What one must be for a path, by the pattern it was found by.
fn needed(pattern: &str) -> Role {
    match pattern {
        "/audit" => Role::Operator,
        "/accounts" | "/accounts/{name}" => Role::Admin,
        _ => Role::Viewer,
    }
}

/// Who asks, for those who answer: an extension of every request that was let in.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    /// `None` where nobody is asked, and on paths that are for everybody.
    pub(crate) visitor: Option<Visitor>,
    pub(crate) credentials: Credentials,
    pub(crate) address: IpAddr,
}

/// Lets a request in, or answers it.
pub(crate) async fn guard(State(access): State<Access>, mut request: Request, next: Next) -> Response {
    let pattern = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned())
        .unwrap_or_default();
    let Some(peer) = request.extensions().get::<Peer>().cloned() else {
        return Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "nobody knows who asks").into_response();
    };
    if !request.method().is_safe() && !is_from_our_pages(request.headers()) {
        let error = "this did not come from a page of this gateway; open the page again and repeat it there";
        return Refused::new(StatusCode::FORBIDDEN, error).into_response();
    }
    let address = peer.address.ip().to_canonical();
    let credentials = credentials(&access, request.headers(), &peer);
    let mut asker = Asker { visitor: None, credentials, address };
    if !OPEN.contains(&pattern.as_str()) {
        asker.visitor = match identify(&access, &asker, !pattern.starts_with(LIVE)).await {
            // Whoever is on this machine may look, but nobody is an admin.
            Ok(Pass::Open) if needed(&pattern) > Role::Viewer => return may_not(&pattern),
            Ok(Pass::Open) if names_somebody_else(request.headers()) => return elsewhere(),
            Ok(Pass::Open) => None,
            Ok(Pass::Known(visitor)) if visitor.role < needed(&pattern) => return may_not(&pattern),
            Ok(Pass::Known(visitor)) => Some(visitor),
            Ok(Pass::Stranger) => return sign_in(&request),
            Err(refused) => return refused.into_response(),
        };
    }
    request.extensions_mut().insert(asker);
    let mut response = next.run(request).await;
    // Of what only some may see, nothing is kept on the way.
    let headers = response.headers_mut();
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Where nobody is asked, a page of another name must not pass for ours: see [`link::http::no_foreign_name`].
fn names_somebody_else(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).map(|host| host.to_str().unwrap_or("?.?"));
    host.is_some_and(link::http::is_foreign_name)
}

fn elsewhere() -> Response {
    let error = "nobody is asked who they are here, so this machine's own names alone are answered: use 127.0.0.1 or \
                 localhost, or make an account (`roadstead user add`)";
    Refused::new(StatusCode::FORBIDDEN, error).into_response()
}

/// Who this is, by what they bring.
pub(crate) async fn identify(access: &Access, asker: &Asker, is_use: bool) -> Result<Pass, Refused> {
    let (credentials, address) = (asker.credentials.clone(), asker.address);
    let pass = access
        .ask(move |keeper, now| keeper.admit(&credentials, is_use, address, now))
        .await;
    let pass = pass.map_err(|busy| Refused::new(StatusCode::SERVICE_UNAVAILABLE, busy.to_string()))?;
    // Who cannot be looked up is not let in.
    pass.map_err(|error| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, whole_story(&error)))
}

fn may_not(pattern: &str) -> Response {
    let error = format!("this is for those who are {} or more", needed(pattern));
    Refused::new(StatusCode::FORBIDDEN, error).into_response()
}

/// A browser is sent to the login page, and back afterwards; a program is told.
fn sign_in(request: &Request) -> Response {
    let accepts = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or_default();
    if request.method() == Method::GET && accepts.contains("text/html") {
        let path = request.uri().path();
        let to = if path == "/" {
            LOGIN.to_owned()
        } else {
            format!("{LOGIN}?to={path}")
        };
        return Redirect::to(&to).into_response();
    }
    let error = "sign in at /login, or bring a token (`roadstead token add`) as \"Authorization: Bearer\"";
    let refused = Refused::new(StatusCode::UNAUTHORIZED, error);
    ([(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))], refused).into_response()
}

/// A path of ours that one may be sent back to.
pub(crate) fn back(to: &str) -> &str {
    let is_path = to.starts_with('/') && !to.starts_with("//") && !to.starts_with(LOGIN) && to.len() <= BACK_BYTES_MAX;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.');
    if is_path && to.bytes().all(is_plain) { to } else { "/" }
}

/// Browsers say where a form was sent from (`Sec-Fetch-Site`, else `Origin`), and a page cannot make them say otherwise.
/// SameSite alone would let in every other port of this host.
fn is_from_our_pages(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin";
    }
    let origin = text("origin").and_then(|origin| origin.strip_prefix("https://").or(origin.strip_prefix("http://")));
    origin.is_some() && origin == text("host")
}

fn credentials(access: &Access, headers: &HeaderMap, peer: &Peer) -> Credentials {
    let bearer = headers.get(header::AUTHORIZATION).map(|value| {
        let text = value.to_str().unwrap_or_default();
        let (scheme, token) = text.split_once(' ').unwrap_or_default();
        // What is no token is a bad one: whoever brings one wants to be known by it.
        let token = if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" };
        fingerprint(token.as_bytes())
    });
    let machine = peer
        .certificate
        .as_ref()
        .and_then(|certificate| machines::machine(certificate, &access.machines));
    Credentials { cookie: cookie(headers, access.is_encrypted), token: bearer, machine }
}

/// Under TLS the browser itself sees to it that the cookie is ours alone (`__Host-`): another port or subdomain cannot set it.
const fn cookie_name(is_encrypted: bool) -> &'static str {
    if is_encrypted { "__Host-roadstead" } else { "roadstead" }
}

fn cookie(headers: &HeaderMap, is_encrypted: bool) -> Option<Fingerprint> {
    let name = cookie_name(is_encrypted);
    let all = headers
        .get_all(header::COOKIE)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    let mut values = all
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = values.find(|(of, _)| *of == name)?;
    Some(fingerprint(value.as_bytes()))
}

/// The header that gives a browser its session, or takes it away.
pub(crate) fn set_cookie(session: Option<&str>, is_encrypted: bool) -> HeaderValue {
    let secure = if is_encrypted { "; Secure" } else { "" };
    let name = cookie_name(is_encrypted);
    let line = match session {
        Some(secret) => format!("{name}={secret}; Path=/; HttpOnly; SameSite=Strict{secure}"),
        None => format!("{name}=; Path=/; HttpOnly; SameSite=Strict{secure}; Max-Age=0"),
    };
    // Base64 and our own words are no bytes that a header minds.
    HeaderValue::from_str(&line).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        of.iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_change_comes_from_our_own_pages_or_not_at_all() {
        let ours = |of: &[(&'static str, &'static str)]| is_from_our_pages(&headers(of));
        assert!(ours(&[("host", "a:7580"), ("origin", "https://a:7580")]));
        assert!(ours(&[("host", "a:7580"), ("sec-fetch-site", "same-origin")]));
        for site in ["same-site", "cross-site", "none", ""] {
            assert!(!ours(&[("host", "a:7580"), ("origin", "https://a:7580"), ("sec-fetch-site", site)]), "{site}");
        }
        for origin in ["https://a", "https://a:7581", "https://b:7580", "null", "a:7580", "ftp://a:7580"] {
            assert!(!ours(&[("host", "a:7580"), ("origin", origin)]), "{origin}");
        }
        assert!(!ours(&[("host", "a:7580")]) && !ours(&[("origin", "https://a")]) && !ours(&[]));
    }

    #[test]
    fn one_is_sent_back_to_paths_of_ours_alone() {
        for path in ["/", "/sites/north-4", "/account"] {
            assert_eq!(back(path), path);
        }
        for path in ["", "//evil", "https://evil", "/\\evil", "/login", "/a?b", "/a\r\nb: c", "evil"] {
            assert_eq!(back(path), "/", "{path}");
        }
        assert_eq!(back(&format!("/{}", "a".repeat(BACK_BYTES_MAX))), "/");
    }

    #[test]
    fn the_cookie_is_for_this_port_and_no_script() {
        let line = set_cookie(Some("s"), true);
        assert_eq!(line, "__Host-roadstead=s; Path=/; HttpOnly; SameSite=Strict; Secure");
        assert_eq!(set_cookie(Some("s"), false), "roadstead=s; Path=/; HttpOnly; SameSite=Strict");
        assert!(set_cookie(None, true).to_str().unwrap().ends_with("Secure; Max-Age=0"));
        let brought = headers(&[("cookie", "a=b; __Host-roadstead=s; c")]);
        assert_eq!(cookie(&brought, true), Some(fingerprint(b"s")));
        assert_eq!(cookie(&brought, false), None);
    }
}
