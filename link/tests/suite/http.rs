//! A dawdling client loses, the others are served; refusals are JSON.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::{get, post};
use link::http::{BODY_BYTES_MAX, CONNECTIONS_MAX, HEAD_MAX, is_foreign_name, no_foreign_name, serve};
use link::stop::{self, Stopper};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn start() -> (SocketAddr, Stopper, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stopper, stop) = stop::signal();
    let router = Router::new()
        .route("/livez", get(async || "alive"))
        .route("/echo", post(async |body: String| body));
    (address, stopper, tokio::spawn(serve(listener, router, stop)))
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let reading = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(20), reading).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn answers_and_refusals() {
    let (address, stopper, serving) = start().await;
    let answer = ask(address, "GET /livez HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("alive"), "{answer}");
    let answer = ask(address, "GET /nowhere HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains(r#"{"error":"#), "{answer}");
    let answer = ask(address, "DELETE /livez HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405") && answer.contains(r#"{"error":"#), "{answer}");
    let answer = ask(address, "\x16\x03\x01 what is this\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let large = BODY_BYTES_MAX + 1;
    let head = format!("POST /echo HTTP/1.1\r\nHost: b\r\nContent-Length: {large}\r\nConnection: close\r\n\r\n");
    let answer = ask(address, &format!("{head}{}", "x".repeat(large))).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    stopper.stop();
    tokio::time::timeout(Duration::from_secs(5), serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn many_dawdlers_keep_nobody_waiting() {
    let (address, _stopper, _serving) = start().await;
    let mut dawdlers = Vec::new();
    for _ in 0..2 * CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /livez HT").await.unwrap();
        dawdlers.push(stream);
    }
    let asked = Instant::now();
    let answer = ask(address, "GET /livez HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n").await;
    assert!(answer.ends_with("alive"), "{answer}");
    assert!(asked.elapsed() < HEAD_MAX, "it waited until the dawdlers were thrown out");
    let mut newest = dawdlers.pop().unwrap();
    let mut rest = Vec::new();
    let thrown_out = tokio::time::timeout(2 * HEAD_MAX, newest.read_to_end(&mut rest)).await;
    assert!(thrown_out.is_ok(), "a request's head may take for ever");
}

#[test]
fn names_that_somebody_else_may_have_are_told_from_our_own() {
    for host in [
        "127.0.0.1",
        "127.0.0.1:7402",
        "[::1]:7402",
        "[::1]",
        "localhost:7402",
        "LOCALHOST.",
        "a.localhost:1",
        "edge-7:7402",
        "",
    ] {
        assert!(!is_foreign_name(host), "{host}");
    }
    for host in ["evil.example", "evil.example:7402", "127.0.0.1.evil.example:7402", "rebind.evil.example.", "?.?"] {
        assert!(is_foreign_name(host), "{host}");
    }
}

#[tokio::test]
async fn pages_that_ask_nobody_answer_to_no_foreign_name() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stopping, stop) = stop::signal();
    let router = Router::new()
        .route("/livez", get(async || "alive\n"))
        .layer(from_fn(no_foreign_name));
    let serving = tokio::spawn(serve(listener, router, stop));
    for (host, status) in [("evil.example", "403"), ("localhost", "200"), ("127.0.0.1:80", "200")] {
        let answer = ask(address, &format!("GET /livez HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{host}: {answer}");
    }
    stopping.stop();
    serving.await.unwrap();
}
