//! Who may look: what a running gateway shows to whom, and that it notices what another process changes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use gateway::GatewayError;
use gateway::access::audit::{self, AuditLog, Deed};
use gateway::access::roll::{Change, Roll, TOKEN_PREFIX};
use gateway::access::totp::STEP_MS;
use gateway::access::{PasswordHash, Role, Secret};
use gateway::config::{GatewayConfig, Https, Machines};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use shared::time::WallMillis;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::browser::Browser;
use crate::region::{Files, PATIENCE, Running, name};

const PASSWORD: &str = "four words that do";
const LOGIN: &str = "name=alice&password=four+words+that+do";
const WRONG: &str = "name=alice&password=four+words+that+dont";

fn now() -> WallMillis {
    WallMillis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64)
}

/// A change as the command line makes it, beside a gateway that may run.
fn change(files: &Files, change: &Change) {
    let mut roll = Roll::open(&files.path("data")).unwrap();
    let mut log = AuditLog::open(&files.path("data")).unwrap();
    roll.change(change, &Deed::at_console("", ""), &mut log, now()).unwrap();
}

fn add(files: &Files, user: &str, role: Role) {
    let password = PasswordHash::of(PASSWORD).unwrap();
    change(files, &Change::AddAccount { name: name(user), role, password });
}

fn token(files: &Files, called: &str, role: Role) -> String {
    let secret = Secret::draw(TOKEN_PREFIX).unwrap();
    let text = format!("Authorization: Bearer {}", secret.text());
    change(files, &Change::AddToken { name: name(called), role, secret, expires: WallMillis(now().0 + 60_000) });
    text
}

async fn signed_in(running: &Running, user: &str) -> Browser {
    let mut browser = Browser::at(running.http);
    let answer = browser.post("/login", &LOGIN.replace("alice", user)).await;
    assert_eq!(answer.status, 303, "{}", answer.body);
    browser
}

/// Every route of the source, as a path of the site elm or of the account bob: a new one cannot be forgotten.
fn routes() -> BTreeSet<String> {
    let sources = [include_str!("../../src/api.rs"), include_str!("../../src/dashboard/mod.rs")];
    let patterns = sources.iter().flat_map(|source| source.split(".route(").skip(1));
    let paths = patterns.map(|rest| rest.split('"').nth(1).unwrap());
    paths
        .map(|path| path.replace("{site}", "elm").replace("{name}", "bob"))
        .collect()
}

const OPEN: [&str; 5] = ["/livez", "/readyz", "/login", "/assets/style.css", "/assets/live.js"];

#[tokio::test]
async fn every_path_asks_who_is_there_once_there_is_an_account() {
    let files = Files::new();
    let running = files.start().await;
    let mut anyone = Browser::at(running.http);
    let described = running.json("/api/openapi.json").await;
    let mut paths: BTreeSet<String> = described["paths"]
        .as_object()
        .unwrap()
        .keys()
        .map(|path| path.replace("{site}", "elm"))
        .collect();
    assert!(paths.len() >= 7 && routes().is_superset(&paths), "the description names what is not there");
    paths.extend(routes());
    assert!(paths.contains("/accounts/bob") && paths.contains("/live/elm") && paths.len() > 20, "{paths:?}");
    assert_eq!(anyone.get("/api/sites").await.status, 200, "on loopback nobody is asked without accounts");
    assert_eq!(anyone.get("/login").await.status, 303, "there is nothing to say");
    for path in ["/audit", "/accounts"] {
        assert_eq!(anyone.get(path).await.status, 403, "{path}: and nobody is an admin");
    }

    add(&files, "alice", Role::Viewer);
    for path in &paths {
        let is_open = OPEN.contains(&path.as_str());
        let (plain, page) = (anyone.get(path).await, anyone.with("Accept: text/html").get(path).await);
        let posted = anyone.post(path, "").await;
        if is_open {
            assert_eq!((plain.status, page.status), (200, 200), "{path}");
            continue;
        }
        // A method that no path takes is refused before anybody is asked.
        let is_page = plain.status == 401 && matches!(posted.status, 401 | 405);
        let is_form = plain.status == 405 && posted.status == 401;
        assert!(is_page || is_form, "{path}: {} {}", plain.status, posted.status);
        if is_form {
            continue;
        }
        assert!(!plain.body.contains("elm") && plain.header("www-authenticate").is_some(), "{path}");
        assert_eq!(page.status, 303, "{path}");
        assert!(page.header("location").unwrap().starts_with("/login"), "{path}: {}", page.head);
    }
    assert_eq!(anyone.get("/nothing").await.status, 404);
    for bad in [
        "Cookie: roadstead=",
        "Cookie: roadstead=aaaa",
        "Authorization: Bearer rst_aaaa",
        "Authorization: Basic YTpi",
    ] {
        assert_eq!(anyone.with(bad).get("/api/sites").await.status, 401, "{bad}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_person_signs_in_and_out_and_it_is_written_down() {
    let files = Files::new();
    add(&files, "alice", Role::Viewer);
    let running = files.start().await;
    let mut browser = Browser::at(running.http);
    let form = browser.with("Accept: text/html").get("/login?to=/sites/elm").await;
    assert!(form.body.contains("value=\"/sites/elm\"") && !form.body.contains("<script"), "{}", form.body);
    assert!(form.header("content-security-policy").unwrap().contains("default-src 'none'"));
    let wrong = browser.post("/login", WRONG).await;
    assert!(wrong.status == 401 && wrong.header("set-cookie").is_none() && wrong.body.contains("is wrong"));
    let unknown = browser.post("/login", &LOGIN.replace("alice", "carol")).await;
    assert_eq!((unknown.status, &unknown.body), (401, &wrong.body), "one answer for both");
    let right = browser.post("/login", &format!("{LOGIN}&to=/sites/elm")).await;
    assert_eq!((right.status, right.header("location")), (303, Some("/sites/elm")));
    let cookie = right.header("set-cookie").unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && cookie.contains("Path=/"),
        "{cookie}"
    );
    let away = browser.clone().post("/login", &format!("{LOGIN}&to=//evil.example")).await;
    assert_eq!(away.header("location"), Some("/"));

    let page = browser.get("/").await;
    assert!(
        page.status == 200 && page.body.contains("href=\"/account\"") && !page.body.contains("/audit"),
        "{}",
        page.body
    );
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert_eq!(browser.get("/api/sites").await.header("cache-control"), Some("no-store"));
    let account = browser.get("/account").await;
    assert!(account.body.contains("viewer") && account.body.contains("Sign out"), "{}", account.body);
    let stolen = browser.clone();
    assert_eq!(browser.post("/logout", "").await.status, 303);
    assert!(browser.cookie.is_none());
    assert_eq!(stolen.clone().get("/").await.status, 401, "the cookie is good no more");
    running.stop().await;

    let mut whats: Vec<String> = audit::newest(&files.path("data"), 50)
        .unwrap()
        .into_iter()
        .map(|entry| entry.what)
        .collect();
    whats.reverse();
    let wanted = ["account.add", "gateway.start", "login", "login", "login", "login", "logout", "gateway.stop"];
    assert_eq!(whats, wanted);
    let verdict = audit::verify(&files.path("data"), None).unwrap();
    assert!(verdict.findings.is_empty() && verdict.entries == 8, "{verdict:?}");
    let text = std::fs::read_to_string(files.path("data").join("audit/000000000001.jsonl")).unwrap();
    assert!(!text.contains(PASSWORD) && !text.contains("carol"), "{text}");
}

#[tokio::test]
async fn without_accounts_no_page_of_another_name_passes_for_ours() {
    let files = Files::new();
    let running = files.start().await;
    for (host, status) in [("rebind.evil.example:7402", "403"), ("localhost:7402", "200")] {
        let mut stream = TcpStream::connect(running.http).await.unwrap();
        let request = format!("GET /api/sites HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{host}: {answer}");
    }
    running.stop().await;
}

#[tokio::test]
async fn what_another_process_changes_is_seen_at_once() {
    let files = Files::new();
    add(&files, "alice", Role::Viewer);
    let running = files.start().await;
    let mut browser = signed_in(&running, "alice").await;
    let mut live = TcpStream::connect(running.http).await.unwrap();
    let request = format!("GET /live HTTP/1.1\r\nHost: r\r\nCookie: {}\r\n\r\n", browser.cookie.as_deref().unwrap());
    live.write_all(request.as_bytes()).await.unwrap();
    assert_ne!(live.read(&mut [0; 64]).await.unwrap(), 0);

    change(&files, &Change::Enable(name("alice"), false));
    assert_eq!(browser.get("/").await.status, 401);
    assert_eq!(Browser::at(running.http).post("/login", LOGIN).await.status, 401);
    let mut rest = Vec::new();
    let ends = async {
        while !rest.ends_with(b"0\r\n\r\n") {
            let mut piece = [0; 4096];
            let length = live.read(&mut piece).await.unwrap();
            rest.extend_from_slice(&piece[..length]);
            if length == 0 {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, ends)
        .await
        .expect("a page is kept live for somebody who may not look");

    change(&files, &Change::Enable(name("alice"), true));
    let mut browser = signed_in(&running, "alice").await;
    assert_eq!(browser.get("/audit").await.status, 403);
    change(&files, &Change::SetRole(name("alice"), Role::Admin));
    assert_eq!(browser.get("/audit").await.status, 401, "other rights, another session");
    let mut browser = signed_in(&running, "alice").await;
    assert_eq!(browser.get("/audit").await.status, 200);
    change(&files, &Change::RemoveAccount(name("alice")));
    assert_eq!(
        browser.get("/audit").await.status,
        403,
        "on loopback the last one leaves the door open, and no admin"
    );
    running.stop().await;
}

#[tokio::test]
async fn roles_open_what_they_open_and_nothing_above() {
    let files = Files::new();
    for (user, role) in [("victor", Role::Viewer), ("olga", Role::Operator), ("alice", Role::Admin)] {
        add(&files, user, role);
    }
    let running = files.start().await;
    let pages = ["/", "/api/sites", "/metrics", "/audit", "/accounts"];
    let seen = async |mut browser: Browser| {
        let mut statuses = Vec::new();
        for page in pages {
            statuses.push(browser.get(page).await.status);
        }
        statuses
    };
    let wanted = [vec![200, 200, 200, 403, 403], vec![200, 200, 200, 200, 403], vec![200; 5]];
    for ((user, role), wanted) in [("victor", Role::Viewer), ("olga", Role::Operator), ("alice", Role::Admin)]
        .iter()
        .zip(&wanted)
    {
        assert_eq!(&seen(signed_in(&running, user).await).await, wanted, "{user}");
        let token = token(&files, &format!("t-{user}"), *role);
        assert_eq!(&seen(Browser::at(running.http).with(&token)).await, wanted, "a token of {role}");
    }

    let mut alice = signed_in(&running, "alice").await;
    let page = alice.get("/accounts").await.body;
    assert!(
        page.contains("Disable victor") && !page.contains("Disable alice") && page.contains("t-olga"),
        "{page}"
    );
    let mut victor = signed_in(&running, "victor").await;
    assert_eq!(victor.post("/accounts/olga", "enabled=false").await.status, 403);
    assert_eq!(alice.post("/accounts/alice", "enabled=false").await.status, 403);
    assert_eq!(alice.post("/accounts/nobody", "enabled=false").await.status, 404);
    assert_eq!(alice.post("/accounts/victor", "enabled=false").await.status, 303);
    assert_eq!(victor.get("/").await.status, 401);
    let entry = &audit::newest(&files.path("data"), 1).unwrap()[0];
    assert_eq!(
        (entry.who.as_str(), entry.what.as_str(), entry.on.as_str()),
        ("user:alice", "account.disable", "user:victor")
    );
    let machine = token(&files, "robot", Role::Admin);
    assert_eq!(
        Browser::at(running.http)
            .with(&machine)
            .post("/accounts/victor", "enabled=true")
            .await
            .status,
        403
    );
    change(&files, &Change::RevokeToken(name("robot")));
    assert_eq!(Browser::at(running.http).with(&machine).get("/").await.status, 401);
    running.stop().await;
}

#[tokio::test]
async fn forms_of_other_pages_are_refused() {
    let files = Files::new();
    add(&files, "alice", Role::Admin);
    let running = files.start().await;
    let mut browser = signed_in(&running, "alice").await;
    let own = format!("Origin: http://{}", running.http);
    for header in ["X: y", "Origin: null", "Origin: http://evil.example", "Sec-Fetch-Site: cross-site"] {
        for (path, form) in [("/logout", ""), ("/accounts/alice", "enabled=false"), ("/login", LOGIN)] {
            let answer = browser.with(header).ask("POST", path, form).await;
            assert_eq!((answer.status, answer.header("set-cookie")), (403, None), "{header} {path}");
        }
    }
    let mixed = browser
        .with(&own)
        .with("Sec-Fetch-Site: same-site")
        .ask("POST", "/logout", "")
        .await;
    assert_eq!(mixed.status, 403);
    assert_eq!(browser.get("/account").await.status, 200, "still signed in");
    assert_eq!(browser.with(&own).ask("POST", "/logout", "").await.status, 303);
    running.stop().await;
}

#[tokio::test]
async fn a_password_and_a_second_factor_are_changed_by_their_owner() {
    let files = Files::new();
    add(&files, "alice", Role::Viewer);
    let running = files.start().await;
    let mut browser = signed_in(&running, "alice").await;
    let mut other = signed_in(&running, "alice").await;
    let form = |old: &str, new: &str, again: &str| format!("password={old}&new={new}&again={again}");
    let old = PASSWORD.replace(' ', "+");
    for (bad, status) in [
        (form("wrong", "another+four+words", "another+four+words"), 401),
        (form(&old, "another+four+words", "another+four+wordz"), 400),
        (form(&old, "short", "short"), 400),
    ] {
        assert_eq!(browser.post("/account/password", &bad).await.status, status, "{bad}");
    }
    let changed = browser
        .post("/account/password", &form(&old, "another+four+words", "another+four+words"))
        .await;
    assert!(changed.status == 200 && changed.body.contains("is changed"), "{}", changed.body);
    assert_eq!((browser.get("/").await.status, other.get("/").await.status), (200, 401));
    assert_eq!(other.post("/login", LOGIN).await.status, 401, "the old one");

    let offered = browser.post("/account/totp", "password=another+four+words").await;
    assert!(
        offered.body.contains("<svg") && offered.body.contains("otpauth://totp/Roadstead:alice"),
        "{}",
        offered.body
    );
    let secret = offered
        .body
        .split("secret=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap()
        .to_owned();
    let code = |step: u64| code(&secret, step);
    let step = now().0 / STEP_MS;
    let wrong = if code(step) == "123456" { "654321" } else { "123456" };
    let refused = browser.post("/account/totp/confirm", &format!("code={wrong}")).await;
    assert!(refused.status == 400 && refused.body.contains(&secret), "the same secret: {}", refused.body);
    let on = browser.post("/account/totp/confirm", &format!("code={}", code(step))).await;
    assert!(on.status == 200 && on.body.contains("is on"), "{}", on.body);
    let recovery = on
        .body
        .split("<li><code>")
        .nth(1)
        .unwrap()
        .split('<')
        .next()
        .unwrap()
        .to_owned();
    let login = "name=alice&password=another+four+words";
    assert_eq!(other.post("/login", login).await.status, 401, "no code");
    assert_eq!(other.post("/login", &format!("{login}&code={}", code(step))).await.status, 401, "a replay");
    assert_eq!(other.post("/login", &format!("{login}&code={}", code(step + 1))).await.status, 303);
    assert_eq!(other.clone().post("/login", &format!("{login}&code={recovery}")).await.status, 303);
    assert_eq!(other.clone().post("/login", &format!("{login}&code={recovery}")).await.status, 401, "a replay");
    let off = other.post("/account/totp/remove", "password=another+four+words&code=").await;
    assert_eq!(off.status, 401, "not without a code");
    running.stop().await;
}

/// The code of a step, by the secret as a person types it: HMAC-SHA-1 of another implementation would be better, and is not at hand.
fn code(secret: &str, step: u64) -> String {
    gateway::access::totp::TotpSecret::of_text(secret).unwrap().code(step)
}

#[tokio::test]
async fn a_flood_of_logins_leaves_the_gateway_at_work() {
    let files = Files::new();
    add(&files, "alice", Role::Viewer);
    let running = files.start().await;
    let mut browser = signed_in(&running, "alice").await;
    let flood: Vec<_> = (0..100)
        .map(|_| {
            let mut stranger = Browser::at(running.http);
            tokio::spawn(async move { stranger.post("/login", WRONG).await.status })
        })
        .collect();
    assert_eq!((browser.get("/livez").await.status, browser.get("/").await.status), (200, 200));
    let mut statuses = Vec::new();
    for asked in flood {
        statuses.push(asked.await.unwrap());
    }
    let count = |status: u16| statuses.iter().filter(|one| **one == status).count();
    assert_eq!(count(401) + count(429) + count(503), 100, "{statuses:?}");
    assert!(count(401) <= 20 && count(401) > 0, "so many were tried as one address may: {statuses:?}");
    assert_eq!(browser.get("/").await.status, 200);
    running.stop().await;
    assert!(audit::newest(&files.path("data"), 1000).unwrap().len() <= 30);
}

impl Files {
    fn https(&self) -> GatewayConfig {
        self.certify("region", "127.0.0.1", "https");
        let machines = Machines { ca: self.path("elm-ca.pem"), names: BTreeSet::from(["prometheus".to_owned()]) };
        let https =
            Https { certificate: self.path("https.pem"), key: self.path("https.key"), machines: Some(machines) };
        GatewayConfig { https: Some(https), ..self.config() }
    }

    /// A client that believes the region's authority, with a certificate or without.
    fn client(&self, certificate: Option<(&str, &str)>) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(self.path("region-ca.pem")).unwrap())
            .unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let building = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let Some((authority, machine)) = certificate else {
            return building.with_no_client_auth();
        };
        self.certify(authority, machine, "machine");
        let chain = vec![CertificateDer::from_pem_file(self.path("machine.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(self.path("machine.key")).unwrap();
        building.with_client_auth_cert(chain, key).unwrap()
    }
}

#[tokio::test]
async fn machines_are_known_by_their_certificates_and_cookies_are_for_tls_alone() {
    let files = Files::new();
    add(&files, "alice", Role::Admin);
    let running = files.start_with(files.https()).await;
    let mut browser = Browser::encrypted(running.http, files.client(None));
    assert_eq!(browser.get("/livez").await.status, 200);
    assert_eq!(browser.get("/metrics").await.status, 401);
    assert_eq!(browser.post("/login", LOGIN).await.status, 303);
    assert!(browser.cookie.as_ref().unwrap().starts_with("__Host-roadstead="));
    assert_eq!(browser.get("/audit").await.status, 200);

    let mut scrape = Browser::encrypted(running.http, files.client(Some(("elm", "prometheus"))));
    let metrics = scrape.get("/metrics").await;
    assert!(
        metrics.status == 200 && metrics.body.contains("roadstead_region_logins_total 1"),
        "{}",
        metrics.body
    );
    assert_eq!(scrape.get("/audit").await.status, 403);
    let mut unlisted = Browser::encrypted(running.http, files.client(Some(("elm", "grafana"))));
    assert_eq!(unlisted.get("/metrics").await.status, 401);
    let mut foreign = Browser::encrypted(running.http, files.client(Some(("oak", "prometheus"))));
    assert!(foreign.try_ask("GET", "/metrics", "").await.is_err(), "made by another authority");
    assert!(Browser::at(running.http).try_ask("GET", "/livez", "").await.is_err(), "nothing in the clear");
    running.stop().await;
}

#[tokio::test]
async fn beyond_loopback_nothing_starts_without_tls_and_an_account() {
    let files = Files::new();
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let clear = GatewayConfig { listen_http: everywhere, ..files.config() };
    let error = gateway::open(clear.clone()).await.unwrap_err();
    assert!(matches!(error, GatewayError::InTheClear { .. }), "{error}");
    let encrypted = GatewayConfig { listen_http: everywhere, ..files.https() };
    let error = gateway::open(encrypted.clone()).await.unwrap_err();
    assert!(matches!(error, GatewayError::Nobody { .. }), "{error}");
    assert!(error.to_string().contains("roadstead user add"), "{error}");
    add(&files, "alice", Role::Viewer);
    change(&files, &Change::Enable(name("alice"), false));
    assert!(gateway::open(encrypted.clone()).await.is_err(), "nobody who could sign in");
    assert!(matches!(gateway::open(clear).await.unwrap_err(), GatewayError::InTheClear { .. }));
    // Opened and dropped: nobody outside is listened to for longer than that.
    change(&files, &Change::Enable(name("alice"), true));
    drop(gateway::open(encrypted).await.unwrap());
}
