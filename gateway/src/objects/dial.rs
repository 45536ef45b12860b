//! The way to an S3 service: HTTP/1.1 by hyper, TLS by rustls, a connection a request. Owns how long anything is waited for; what is
//! asked, signed and asked again is `object_store`'s.
//!
//! `object_store` would bring reqwest for this, with HTTP/2, proxies and cookies; an archive puts some objects an hour.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use quinn::rustls::pki_types::pem::PemObject as _;
use quinn::rustls::pki_types::{CertificateDer, ServerName};
use quinn::rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Sleep, timeout};
use tokio_rustls::TlsConnector;

use super::ObjectError;

/// Resolving, connecting and the TLS handshake: each within this.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// A service answers within this, and between two pieces of an answer; on top, what sending takes at [`SLOWEST`].
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Bytes a second: a slower way to the service counts as none.
const SLOWEST: u64 = 128 * 1024;
/// Where systems keep whom they trust; `SSL_CERT_FILE` comes first.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Makes connections.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    /// `None`: nobody is trusted, so only HTTP in the clear is spoken.
    tls: Option<Arc<ClientConfig>>,
}

impl Dialer {
    /// One that trusts `ca`, or whom the system trusts. Where nothing says whom, that is an error only if TLS is `needed`.
    pub(super) fn new(ca: Option<&Path>, needed: bool) -> Result<Self, ObjectError> {
        let path = match ca {
            Some(path) => Some(path.to_owned()),
            None => system_bundle(),
        };
        let none = || ObjectError::File {
            path: PathBuf::from(BUNDLES[0]),
            source: io::Error::other("nothing says whom to trust: install ca-certificates, or give `ca`"),
        };
        let tls = match path {
            Some(path) => Some(Arc::new(trusting(&path)?)),
            None if needed => return Err(none()),
            None => None,
        };
        Ok(Self { tls })
    }

    async fn answer(self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let uri = request.uri().clone();
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let is_encrypted = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_encrypted { 443 } else { 80 });
        let connect = TcpStream::connect((host.as_str(), port));
        let stream = in_time(HttpErrorKind::Connect, CONNECT_MAX, connect).await?;
        // What is asked leaves at once.
        let _ = stream.set_nodelay(true);
        if !is_encrypted {
            return ask(stream, request, &uri).await;
        }
        let untrusted = |why| HttpError::new(HttpErrorKind::Unknown, io::Error::other(why));
        let tls = self.tls.ok_or_else(|| untrusted("nothing says whom to trust"))?;
        let name = ServerName::try_from(host).map_err(|_| untrusted("no certificate is for such a host"))?;
        let shake = TlsConnector::from(tls).connect(name, stream);
        ask(in_time(HttpErrorKind::Connect, CONNECT_MAX, shake).await?, request, &uri).await
    }
}

impl HttpConnector for Dialer {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for Dialer {
    fn call<'s, 'a>(
        &'s self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>
    where
        's: 'a,
        Self: 'a,
    {
        Box::pin(self.clone().answer(request))
    }
}

async fn ask<S>(stream: S, request: HttpRequest, uri: &Uri) -> Result<HttpResponse, HttpError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let greet = http1::handshake::<_, HttpRequestBody>(TokioIo::new(stream));
    let (mut sender, connection) = in_time(HttpErrorKind::Connect, CONNECT_MAX, greet).await?;
    // Ends with the request and its answer.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the archive's place ended");
        }
    });
    let request = addressed(request, uri)?;
    let sending = Duration::from_secs(request.body().content_length() as u64 / SLOWEST);
    let answer = in_time(HttpErrorKind::Interrupted, ANSWER_MAX + sending, sender.send_request(request)).await?;
    let (head, body) = answer.into_parts();
    let body = Answer { body, patience: Box::pin(tokio::time::sleep(ANSWER_MAX)) };
    Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
}

/// The request as it stands on a connection to its host.
fn addressed(request: HttpRequest, uri: &Uri) -> Result<Request<HttpRequestBody>, HttpError> {
    let unheard = |error| HttpError::new_boxed(HttpErrorKind::Unknown, error);
    let (mut head, body) = request.into_parts();
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    head.uri = target.parse().map_err(|error| unheard(Box::new(error)))?;
    if !head.headers.contains_key(HOST) {
        let host = uri.authority().map_or("", |authority| authority.as_str());
        let host = HeaderValue::from_str(host).map_err(|error| unheard(Box::new(error)))?;
        head.headers.insert(HOST, host);
    }
    Ok(Request::from_parts(head, body))
}

/// What `doing` comes to within `limit`; what fails is of `kind`.
async fn in_time<T, E: std::error::Error + Send + Sync + 'static>(
    kind: HttpErrorKind,
    limit: Duration,
    doing: impl Future<Output = Result<T, E>>,
) -> Result<T, HttpError> {
    match timeout(limit, doing).await {
        Ok(done) => done.map_err(|error| HttpError::new(kind, error)),
        Err(late) => Err(HttpError::new(HttpErrorKind::Timeout, late)),
    }
}

/// The body of an answer, whose pieces are waited for so long and no longer.
#[derive(Debug)]
struct Answer {
    body: Incoming,
    patience: Pin<Box<Sleep>>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => {
                self.patience.as_mut().reset(tokio::time::Instant::now() + ANSWER_MAX);
                Poll::Ready(frame.map(|frame| frame.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error))))
            }
            Poll::Pending if self.patience.as_mut().poll(context).is_ready() => {
                let late = io::Error::from(io::ErrorKind::TimedOut);
                Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Timeout, late))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn system_bundle() -> Option<PathBuf> {
    let said = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    said.into_iter().chain(BUNDLES.map(PathBuf::from)).find(|path| path.is_file())
}

fn trusting(path: &Path) -> Result<ClientConfig, ObjectError> {
    let unusable = |why: String| ObjectError::File { path: path.to_owned(), source: io::Error::other(why) };
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))? {
        let root = root.map_err(|error| unusable(error.to_string()))?;
        // A system's bundle may have one that is too old for this.
        let _ = roots.add(root);
    }
    if roots.is_empty() {
        return Err(unusable("it has no certificate of an authority".to_owned()));
    }
    let provider = Arc::new(quinn::rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?;
    let mut tls = tls.with_root_certificates(roots).with_no_client_auth();
    tls.resumption = quinn::rustls::client::Resumption::disabled();
    Ok(tls)
}
