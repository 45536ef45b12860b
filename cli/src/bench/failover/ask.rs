//! Questions to a board: its status over HTTP, and the wish that it hands over, on its control socket. Blocking, with
//! short limits: whoever is asked runs on this machine.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::beat::Stamp;
use crate::failure::Failure;

/// A process on this machine answers within so long, or not at all.
const ANSWER_MAX: Duration = Duration::from_millis(500);
/// A hand-over is done, or refused, after so long.
const HAND_OVER_MAX: Duration = Duration::from_secs(5);

/// A board's `/status`, if it says.
pub(in crate::bench) fn status(http: SocketAddr) -> Option<Value> {
    let mut stream = TcpStream::connect_timeout(&http, ANSWER_MAX).ok()?;
    stream.set_read_timeout(Some(ANSWER_MAX)).ok()?;
    stream
        .write_all(b"GET /status HTTP/1.1\r\nHost: board\r\nConnection: close\r\n\r\n")
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return None;
    }
    serde_json::from_str(body).ok()
}

/// Wishes that the board behind `socket` hands its leadership over; returns the instant just before the wish was sent.
pub(super) fn hand_over(socket: &Path) -> Result<Stamp, Failure> {
    let cannot = |error: std::io::Error| Failure::new(format!("{} does not answer", socket.display())).because(error);
    let mut stream = UnixStream::connect(socket).map_err(cannot)?;
    stream.set_read_timeout(Some(HAND_OVER_MAX)).map_err(cannot)?;
    let stamp = Stamp::now();
    stream.write_all(b"{\"hand_over\":{\"to\":null}}\n").map_err(cannot)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).map_err(cannot)?;
    let answer: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
    if answer.get("error").is_some() {
        return Err(Failure::new(format!("the hand-over is refused: {}", line.trim())));
    }
    Ok(stamp)
}
