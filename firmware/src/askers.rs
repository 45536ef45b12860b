//! Asks whoever looks at the board's page for the token: programs as `Authorization: Bearer`, browsers as a password with any name.
//! Health is for everybody.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use link::http::Refused;

use crate::secrets::StatusToken;

/// For everybody.
const OPEN: [&str; 2] = ["/livez", "/readyz"];

/// Lets a request in, or asks for the token.
pub(crate) async fn ask(State(token): State<StatusToken>, request: Request, next: Next) -> Response {
    if OPEN.contains(&request.uri().path()) || is_known(&token, request.headers()) {
        return next.run(request).await;
    }
    let refused = Refused::new(
        StatusCode::UNAUTHORIZED,
        "give the token in the file that [status] names, as \"Authorization: Bearer\" or as the password",
    );
    let ask = HeaderValue::from_static("Basic realm=\"Roadstead board\", charset=\"UTF-8\"");
    ([(header::WWW_AUTHENTICATE, ask)], refused).into_response()
}

fn is_known(token: &StatusToken, headers: &HeaderMap) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, given)) = given.and_then(|given| given.split_once(' ')) else {
        return false;
    };
    if scheme.eq_ignore_ascii_case("bearer") {
        return token.is(given.trim().as_bytes());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return false;
    }
    let Ok(pair) = BASE64.decode(given.trim().as_bytes()) else { return false };
    let colon = pair.iter().position(|byte| *byte == b':');
    colon.is_some_and(|at| token.is(&pair[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_known_by(line: &str) -> bool {
        let token = StatusToken::of("0123456789abcdef0123456789abcdef");
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(line).unwrap());
        is_known(&token, &headers)
    }

    #[test]
    fn the_token_is_taken_both_ways_and_nothing_else_is() {
        let basic = |pair: &str| format!("Basic {}", BASE64.encode(pair.as_bytes()));
        assert!(is_known_by("Bearer 0123456789abcdef0123456789abcdef"));
        assert!(is_known_by("bearer  0123456789abcdef0123456789abcdef"));
        assert!(is_known_by(&basic("anybody:0123456789abcdef0123456789abcdef")));
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcdef0123456789abcdeg",
            "Bearer 0123456789abcdef0123456789abcde",
            "Digest 0123456789abcdef0123456789abcdef",
            "Basic 0123456789abcdef0123456789abcdef",
            "Basic ===",
            &basic("0123456789abcdef0123456789abcdef"),
            &basic("anybody:"),
        ] {
            assert!(!is_known_by(bad), "{bad}");
        }
        assert!(!is_known(&StatusToken::of("0123456789abcdef0123456789abcdef"), &HeaderMap::new()));
    }
}
