//! A browser as far as the tests need one: requests with a cookie, forms from our own pages, in the clear or over TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::region::PATIENCE;

/// An answer: status, head and body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(of, _)| of.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .next()
    }
}

#[derive(Clone)]
pub(crate) struct Browser {
    address: SocketAddr,
    tls: Option<Arc<rustls::ClientConfig>>,
    /// `name=value`, as it was set last.
    pub(crate) cookie: Option<String>,
    /// Sent with every request.
    pub(crate) headers: Vec<String>,
}

impl Browser {
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { address, tls: None, cookie: None, headers: Vec::new() }
    }

    pub(crate) fn encrypted(address: SocketAddr, tls: rustls::ClientConfig) -> Self {
        Self { tls: Some(Arc::new(tls)), ..Self::at(address) }
    }

    pub(crate) fn with(&self, header: &str) -> Self {
        let mut other = self.clone();
        other.headers.push(header.to_owned());
        other
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    /// Sends a form as one of our own pages does.
    pub(crate) async fn post(&mut self, path: &str, form: &str) -> Answer {
        let origin = format!("Origin: https://{}", self.address);
        let mut ours = self.with(&origin);
        let answer = ours.ask("POST", path, form).await;
        self.cookie = ours.cookie;
        answer
    }

    pub(crate) async fn ask(&mut self, method: &str, path: &str, form: &str) -> Answer {
        self.try_ask(method, path, form).await.unwrap()
    }

    pub(crate) async fn try_ask(&mut self, method: &str, path: &str, form: &str) -> std::io::Result<Answer> {
        let cookie = self.cookie.iter().map(|cookie| format!("Cookie: {cookie}"));
        let lines: String = self
            .headers
            .iter()
            .cloned()
            .chain(cookie)
            .map(|line| format!("{line}\r\n"))
            .collect();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n{lines}\r\n{form}",
            self.address,
            form.len(),
        );
        let stream = TcpStream::connect(self.address).await?;
        let exchange = async {
            match &self.tls {
                None => exchange(stream, &request).await,
                Some(tls) => {
                    let name = ServerName::from(self.address.ip());
                    exchange(TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?, &request).await
                }
            }
        };
        let answer = tokio::time::timeout(PATIENCE, exchange).await.unwrap()?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::InvalidData)?;
        let answer = Answer { status: head[9..12].parse().unwrap(), head: head.to_owned(), body: body.to_owned() };
        if let Some(set) = answer.header("set-cookie") {
            let pair = set.split(';').next().unwrap();
            self.cookie = Some(pair.to_owned()).filter(|pair| !pair.ends_with('='));
        }
        Ok(answer)
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> std::io::Result<String> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    if answer.is_empty() {
        Err(std::io::ErrorKind::UnexpectedEof.into())
    } else {
        Ok(answer)
    }
}
