//! The `[status]` section: who may look at the board's page where other hosts reach it. Owns that nobody looks there unasked; the
//! token's file is read by [`crate::secrets`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use shared::config::text::{ConfigError, Spanned, Text};

use super::file;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStatus {
    token_file: Spanned<PathBuf>,
}

/// The token's file, relative to `beside`. Refused: a page that other hosts can reach, without one.
pub(super) fn check(
    raw: Option<&RawStatus>,
    text: &Text<'_>,
    beside: &Path,
    (value, listen): (&Spanned<String>, SocketAddr),
) -> Result<Option<PathBuf>, ConfigError> {
    let token = raw
        .map(|raw| file(text, "status.token_file", &raw.token_file, beside))
        .transpose()?;
    if token.is_none() && !listen.ip().to_canonical().is_loopback() {
        let message =
            format!("`listen.http` is {listen}, which other hosts reach, and nobody there would be asked who they are");
        return Err(text.refuse(value.span(), message).suggest(
            "add [status] with `token_file = \"status-token\"` (one line of at least 32 characters, mode 0600; `roadstead init` \
             makes it), and the page is HTTPS and asks for it; or listen on 127.0.0.1",
        ));
    }
    Ok(token)
}
