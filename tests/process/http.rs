//! Asks a board or gateway over HTTP, with nothing between the test and the socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// A process on this machine answers within so long, or not at all.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// The body at `path`, if the answer is 200.
pub(crate) fn get(http: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&http, ANSWER_MAX).ok()?;
    stream.set_read_timeout(Some(ANSWER_MAX)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: board\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200 ").then(|| body.to_owned())
}

/// A board's `/status`, if it says.
pub(crate) fn status(http: SocketAddr) -> Option<Value> {
    serde_json::from_str(&get(http, "/status")?).ok()
}

/// What `/metrics` says.
#[derive(Debug)]
pub(crate) struct Metrics(String);

impl Metrics {
    /// Asks for them.
    pub(crate) fn of(http: SocketAddr) -> Self {
        Self(get(http, "/metrics").expect("metrics are there"))
    }

    /// The sum of the series called `name` whose labels contain `label`; a name without a series is a failure.
    pub(crate) fn sum(&self, name: &str, label: &str) -> u64 {
        let series: Vec<&str> = self
            .0
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])))
            .collect();
        assert!(!series.is_empty(), "there is no metric {name}");
        let values = series.iter().filter(|line| line.contains(label));
        values
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }
}
