//! One HTTP GET, bounded in time and bytes, over TLS where the other end must have a certain certificate. Owns the exchange; knows
//! nothing of what is asked.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Bytes of an answer's body: a status of 64 boards is some ten kilobytes. More is an error.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why there is no answer. Nothing was changed anywhere; asking again may help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// The address is not one.
    #[error("{0} is no http:// address with a host; such as http://127.0.0.1:7412")]
    Address(String),
    /// Whom to believe there is not known.
    #[error("to ask at {0}, give the certificate that it must have with --certificate")]
    NoCertificate(String),
    /// The certificate's file cannot be used.
    #[error(transparent)]
    Certificate(#[from] link::identity::IdentityError),
    /// It has another certificate, or speaks no TLS.
    #[error("TLS failed ({0}): does it have the certificate that was given?")]
    Tls(std::io::Error),
    /// It asks who is there.
    #[error("it asks who is there: make a token with `roadstead token add`, and give its file with --token-file")]
    Unknown,
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

/// How the other end is met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Approach {
    /// What is said to be let in.
    pub(crate) token: Option<String>,
    /// The certificate that an https:// address must have, PEM.
    pub(crate) certificate: Option<PathBuf>,
}

/// The body of the answer to `GET base` + `path`, asked in the clear and as nobody.
pub(crate) async fn get(base: &str, path: &str, within: Duration) -> Result<Bytes, NoAnswer> {
    get_as(&Approach::default(), base, path, within).await
}

/// The same for an approach.
pub(crate) async fn get_as(approach: &Approach, base: &str, path: &str, within: Duration) -> Result<Bytes, NoAnswer> {
    let exchange = connect(approach, base, path);
    tokio::time::timeout(within, exchange)
        .await
        .unwrap_or(Err(NoAnswer::Slow(within)))
}

async fn connect(approach: &Approach, base: &str, path: &str) -> Result<Bytes, NoAnswer> {
    let bad = || NoAnswer::Address(base.to_owned());
    let uri: Uri = base.parse().map_err(|_| bad())?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(bad)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16();
    let request = |port: u16| {
        let mut request = Request::get(path)
            .header(header::HOST, format!("{host}:{port}"))
            .header(header::ACCEPT, "application/json");
        if let Some(token) = &approach.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        request.body(Empty::<Bytes>::new()).map_err(|_| bad())
    };
    let reach = async |port: u16| TcpStream::connect((bare, port)).await.map_err(NoAnswer::Connect);
    match uri.scheme_str() {
        Some("http") => {
            let port = port.unwrap_or(80);
            exchange(reach(port).await?, request(port)?).await
        }
        Some("https") => {
            let port = port.unwrap_or(443);
            let certificate = approach.certificate.as_ref();
            let certificate = certificate.ok_or_else(|| NoAnswer::NoCertificate(base.to_owned()))?;
            let tls = TlsConnector::from(Arc::new(link::identity::pinned_tls(certificate)?));
            let name = ServerName::try_from(bare.to_owned()).map_err(|_| bad())?;
            let stream = tls.connect(name, reach(port).await?).await.map_err(NoAnswer::Tls)?;
            exchange(stream, request(port)?).await
        }
        Some(_) | None => Err(bad()),
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Empty<Bytes>>,
) -> Result<Bytes, NoAnswer> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(NoAnswer::Protocol)?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(NoAnswer::Protocol)?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            return Err(NoAnswer::Unknown);
        }
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
        let unknown = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n".to_vec();
        assert!(matches!(asked(unknown).await, Err(NoAnswer::Unknown)));
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
        for base in ["", "127.0.0.1:80", "http://", "ftp://a", "http:// a"] {
            assert!(matches!(get(base, "/", LONG).await, Err(NoAnswer::Address(_))), "{base:?}");
        }
        assert!(matches!(get("https://127.0.0.1:1", "/", LONG).await, Err(NoAnswer::NoCertificate(_))));
    }
}
