//! One HTTP GET, bounded in time and bytes. Owns the exchange; knows nothing of what is asked.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Bytes of an answer's body: a status of 64 boards is some ten kilobytes. More is an error.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why there is no answer. Nothing was changed anywhere; asking again may help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// The address is not one.
    #[error("{0} is no http:// address with a host; such as http://127.0.0.1:7412")]
    Address(String),
    /// Nothing listens there, or the way is barred.
    #[error("nothing answers there ({0}): is the process running?")]
    Connect(std::io::Error),
    /// Too slow.
    #[error("no answer within {} ms", .0.as_millis())]
    Slow(Duration),
    /// Something answers, but not in HTTP.
    #[error("what answers there does not speak HTTP ({0})")]
    Protocol(hyper::Error),
    /// The answer is a refusal.
    #[error("it answers {0}")]
    Refused(hyper::StatusCode),
    /// The answer is too long or broke off.
    #[error("its answer broke off ({0})")]
    Body(String),
    /// The answer is not what it should be.
    #[error("its answer is not the JSON expected ({0}): another version, or another program?")]
    Json(#[from] serde_json::Error),
}

/// The body of the answer to `GET base` + `path`.
pub(crate) async fn get(base: &str, path: &str, within: Duration) -> Result<Bytes, NoAnswer> {
    let exchange = exchange(base, path);
    tokio::time::timeout(within, exchange)
        .await
        .unwrap_or(Err(NoAnswer::Slow(within)))
}

async fn exchange(base: &str, path: &str) -> Result<Bytes, NoAnswer> {
    let bad = || NoAnswer::Address(base.to_owned());
    let uri: Uri = base.parse().map_err(|_| bad())?;
    if uri.scheme_str() != Some("http") {
        return Err(bad());
    }
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(bad)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(80);
    let stream = TcpStream::connect((bare, port)).await.map_err(NoAnswer::Connect)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(NoAnswer::Protocol)?;
    let request = Request::get(path)
        .header(header::HOST, format!("{host}:{port}"))
        .header(header::ACCEPT, "application/json")
        .body(Empty::<Bytes>::new())
        .map_err(|_| bad())?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(NoAnswer::Protocol)?;
        if !answer.status().is_success() {
            return Err(NoAnswer::Refused(answer.status()));
        }
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        body.map(|body| body.to_bytes())
            .map_err(|error| NoAnswer::Body(error.to_string()))
    };
    // The connection is driven here, beside the question, so that nothing outlives the answer.
    tokio::pin!(answer, connection);
    tokio::select! {
        answer = &mut answer => answer,
        ended = &mut connection => match ended {
            // The last bytes may have come with the end.
            Ok(()) => answer.await,
            Err(error) => Err(NoAnswer::Protocol(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// Asks a server that says `says` to whatever comes, and then closes.
    async fn asked(says: Vec<u8>) -> Result<Bytes, NoAnswer> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(&says).await;
        };
        let (answer, ()) = tokio::join!(get(&base, "/status", LONG), serve);
        answer
    }

    #[tokio::test]
    async fn answers_and_what_is_none() {
        let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec();
        assert_eq!(asked(ok).await.unwrap(), "{}");
        let refused = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_vec();
        assert!(matches!(asked(refused).await, Err(NoAnswer::Refused(_))));
        assert!(matches!(asked(b"SSH-2.0-x\r\n".to_vec()).await, Err(NoAnswer::Protocol(_))));
        let short = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}".to_vec();
        assert!(asked(short).await.is_err());
        let mut long = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        long.resize(long.len() + ANSWER_BYTES_MAX + 1, b' ');
        assert!(matches!(asked(long).await, Err(NoAnswer::Body(_))));
    }

    #[tokio::test]
    async fn silence_has_an_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let answer = get(&base, "/status", Duration::from_millis(50)).await;
        assert!(matches!(answer, Err(NoAnswer::Slow(_))), "{answer:?}");
        drop(listener);
        let answer = get(&base, "/status", LONG).await;
        assert!(matches!(answer, Err(NoAnswer::Connect(_))), "{answer:?}");
    }

    #[tokio::test]
    async fn addresses_that_are_none() {
        for base in ["", "127.0.0.1:80", "https://a", "http://", "ftp://a", "http:// a"] {
            assert!(matches!(get(base, "/", LONG).await, Err(NoAnswer::Address(_))), "{base:?}");
        }
    }
}
