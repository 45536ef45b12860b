//! Tests of [`super`]: a made site is what boards and gateways accept, and keys are for their owner alone.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use firmware::config::Publishers;
use firmware::secrets::Secrets;
use link::identity::Identity;
use link::sites::Sites;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use shared::ids::Name;

use super::plan::Places;
use super::*;
use crate::scratch::Scratch;

fn plan(count: u8) -> SitePlan {
    plan_at("127.0.0.1", count)
}

fn plan_at(host: &str, count: u8) -> SitePlan {
    let places = Places { host_base: host.parse().unwrap(), port_base: 7400, gateway: None };
    let (boards, gateway) = places.lay_out(count, Name::try_from("central").unwrap()).unwrap();
    SitePlan { site: Name::try_from("north").unwrap(), boards, gateway, witness: None, journal: None }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn board_config(path: &Path) -> BoardConfig {
    BoardConfig::parse(path, &std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn sites_of_every_size_are_usable() {
    for (count, voters, copies) in [(1, 1, 1), (2, 2, 2), (3, 3, 2), (4, 3, 2), (7, 5, 2)] {
        let scratch = Scratch::new("init-sizes");
        let mut parts = 0;
        let made = make_site(scratch.path(), &plan(count), |done| parts = done).unwrap();
        assert_eq!((made.boards.len(), parts), (usize::from(count), usize::from(count) + 1));
        let configs: Vec<_> = made.boards.iter().map(|path| board_config(path)).collect();
        for config in &configs {
            assert_eq!(config.node.voters.set.len(), voters);
            assert_eq!(config.node.copies, copies);
            assert_eq!(config.node.fingerprint(), configs[0].node.fingerprint());
            assert_eq!(config.peers.len(), usize::from(count) - 1);
        }
        let text = std::fs::read_to_string(&made.boards[0]).unwrap();
        assert!(!text.contains('{'), "every place of the template is filled");
        assert_eq!(text.contains("exclusive duties stop"), count == 2);
    }
}

#[test]
fn keys_are_for_their_owner_alone() {
    let scratch = Scratch::new("init-modes");
    let stale = scratch.path().join("board-1");
    std::fs::create_dir_all(&stale).unwrap();
    std::fs::write(stale.join("key.pem"), "old").unwrap();
    let made = make_site(scratch.path(), &plan(1), |_| {}).unwrap();
    let board = board_config(&made.boards[0]);
    assert_eq!(mode(&board.identity.key), 0o600);
    assert_eq!(mode(&board.identity.certificate), 0o644);
    assert_eq!(mode(&made.authorities), 0o700);
    for name in ["site-ca.key", "region-ca.key"] {
        assert_eq!(mode(&made.authorities.join(name)), 0o600);
    }
}

#[test]
fn the_site_believes_its_boards_and_no_others() {
    let scratch = Scratch::new("init-trust");
    let other = Scratch::new("init-trust-other");
    let made = make_site(scratch.path(), &plan(2), |_| {}).unwrap();
    let foreign = make_site(other.path(), &plan(2), |_| {}).unwrap();
    let gateway = GatewayConfig::parse(&made.gateway, &std::fs::read(&made.gateway).unwrap()).unwrap();
    let mut sites = Sites::default();
    for site in &gateway.sites {
        sites.load(site.name.clone(), &site.ca).unwrap();
    }
    Identity::load(&gateway.certificate, &gateway.key, &gateway.ca)
        .and_then(|identity| identity.server_tls(&Arc::new(Sites::default()), &[link::identity::ALPN]))
        .unwrap();
    let own = board_config(&made.boards[1]).identity.certificate;
    let strange = board_config(&foreign.boards[1]).identity.certificate;
    for (certificate, believed) in [(own, true), (strange, false), (gateway.certificate, false)] {
        let chain = pem_chain(&certificate);
        // In 1970, now, and long after: a board without a clock finds its site.
        for seconds in [0, 1_790_000_000, 200_000_000_000] {
            let at = rustls_time(seconds);
            let found = sites.verify(&chain, at);
            assert_eq!(found.is_ok(), believed, "{certificate:?} at {seconds}: {found:?}");
            if let Ok((site, board)) = found {
                assert_eq!((site.as_str(), board.get()), ("north", 2));
            }
        }
    }
}

#[test]
fn a_gateway_for_other_hosts_speaks_https_and_asks_who_is_there() {
    for (host, is_beyond) in [("127.0.0.1", false), ("10.1.4.11", true), ("2001:db8::11", true)] {
        let scratch = Scratch::new("init-https");
        let made = make_site(scratch.path(), &plan_at(host, 3), |_| {}).unwrap();
        let config = GatewayConfig::parse(&made.gateway, &std::fs::read(&made.gateway).unwrap()).unwrap();
        assert_eq!(config.https.is_some(), is_beyond, "{host}");
        let (certificate, key) = (made.gateway.with_file_name("https.pem"), made.gateway.with_file_name("https.key"));
        assert_eq!((mode(&certificate), mode(&key)), (0o644, 0o600));
        Identity::load_unbelieving(&certificate, &key)
            .and_then(|identity| identity.https_tls(None))
            .unwrap();
        let chain = pem_chain(&certificate);
        let leaf = rustls::server::ParsedCertificate::try_from(&chain[0]).unwrap();
        for name in [config.listen_http.ip().to_string(), "localhost".to_owned(), "127.0.0.1".to_owned()] {
            let name = rustls::pki_types::ServerName::try_from(name).unwrap();
            rustls::client::verify_server_name(&leaf, &name).unwrap();
        }
    }
}

#[test]
fn sensors_on_other_hosts_have_a_user() {
    for host in ["10.1.4.11", "2001:db8::11"] {
        let scratch = Scratch::new("init-users");
        let made = make_site(scratch.path(), &plan_at(host, 3), |_| {}).unwrap();
        let user = made.user.clone().unwrap();
        assert_eq!((user.name.as_str(), user.password.len()), ("sensor", 32));
        assert!(!format!("{made:?}").contains(&user.password), "a password is never printed by accident");
        for path in &made.boards {
            let config = board_config(path);
            assert_eq!(mode(config.publishers.users_file.as_ref().unwrap()), 0o600);
            assert_eq!(Secrets::read(&config).unwrap().users, std::slice::from_ref(&user), "the same on all boards");
            assert_eq!(mode(path), 0o644);
            assert!(!std::fs::read_to_string(path).unwrap().contains(&user.password));
        }
        let again = make_site(scratch.path(), &plan_at(host, 3), |_| {}).unwrap();
        assert_ne!(again.user.unwrap().password, user.password, "every site has its own");
        let tokens: Vec<_> = made
            .boards
            .iter()
            .map(|path| board_config(path).status_token.unwrap())
            .collect();
        assert!(tokens.iter().all(|path| mode(path) == 0o600));
        let read = |path: &Path| firmware::secrets::status_token(path).unwrap();
        assert!(tokens.iter().all(|path| read(path) == read(&tokens[0])), "one for the site");
        let config = board_config(&made.boards[1]);
        let (url, approach) = crate::status::page_of(&config).unwrap();
        assert!(url.starts_with("https://") && approach.token == Some(read(&tokens[1])), "{url}");
        let chain = pem_chain(&config.identity.certificate);
        let leaf = rustls::server::ParsedCertificate::try_from(&chain[0]).unwrap();
        rustls::client::verify_server_name(&leaf, &config.listen.http.ip().into()).unwrap();
    }
}

#[test]
fn on_loopback_nobody_needs_a_user() {
    let scratch = Scratch::new("init-local");
    make_site(scratch.path(), &plan_at("10.1.4.11", 1), |_| {}).unwrap();
    let made = make_site(scratch.path(), &plan(1), |_| {}).unwrap();
    let config = board_config(&made.boards[0]);
    assert_eq!((made.user, config.publishers), (None, Publishers::default()));
    assert!(!made.boards[0].with_file_name("mqtt-users").exists(), "the other site's password is gone");
    // What stands there as a comment is a section that can be used.
    let text = std::fs::read_to_string(&made.boards[0]).unwrap();
    let spoken = text
        .replace("# [mqtt]", "[mqtt]")
        .replace("# users_file", "users_file")
        .replace("# anonymous", "anonymous")
        .replace("# connections_max", "connections_max");
    let spoken = BoardConfig::parse(&made.boards[0], spoken.as_bytes()).unwrap();
    let users_file = Some(made.boards[0].with_file_name("mqtt-users"));
    assert_eq!(spoken.publishers, Publishers { users_file, ..Publishers::default() });
}

#[test]
fn the_bridge_in_the_comment_can_be_used() {
    let scratch = Scratch::new("init-bridge");
    let made = make_site(scratch.path(), &plan(1), |_| {}).unwrap();
    let text = std::fs::read_to_string(&made.boards[0]).unwrap();
    let (head, tail) = text.split_once("# [bridge]").unwrap();
    let (section, rest) = tail.split_once("\n\n").unwrap();
    let spoken = format!("{head}[bridge]{}\n\n{rest}", section.replace("\n# ", "\n"));
    let bridge = BoardConfig::parse(&made.boards[0], spoken.as_bytes()).unwrap().bridge.unwrap();
    let login = bridge.login.unwrap();
    assert_eq!((bridge.qos, bridge.client_id.as_str()), (1, "roadstead-north-board-1"));
    assert_eq!(login.password_file, made.boards[0].with_file_name("bridge-password"));
}

#[test]
fn boards_beyond_a_smaller_site_are_gone_but_not_their_records() {
    let scratch = Scratch::new("init-smaller");
    let dir = |number: u8| scratch.path().join(format!("board-{number}"));
    make_site(scratch.path(), &plan_at("10.1.4.11", 5), |_| {}).unwrap();
    std::fs::create_dir(dir(5).join("data")).unwrap();
    std::fs::write(dir(5).join("data/0001.journal"), "records").unwrap();
    std::fs::create_dir(dir(6)).unwrap();
    std::fs::write(dir(6).join("key.pem"), "somebody's").unwrap();
    let made = make_site(scratch.path(), &plan(3), |_| {}).unwrap();
    assert!(dir(3).exists() && !dir(4).exists());
    assert_eq!(made.kept, [dir(5)]);
    let left: Vec<_> = std::fs::read_dir(dir(5))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["data"]);
    assert_eq!(std::fs::read(dir(5).join("data/0001.journal")).unwrap(), b"records");
    assert!(dir(6).join("key.pem").exists(), "it has no configuration, so it is not ours");
}

fn pem_chain(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).unwrap().collect::<Result<_, _>>().unwrap()
}

fn rustls_time(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

#[test]
fn a_pair_and_its_witness_know_each_other() {
    for (count, apart, voters) in [(2, None, 3), (2, Some("10.1.4.20"), 3), (3, None, 3), (5, None, 5)] {
        let scratch = Scratch::new("init-witness");
        let mut plan = plan(count);
        let places = Places { host_base: "127.0.0.1".parse().unwrap(), port_base: 7400, gateway: None };
        let apart = apart.map(|host: &str| host.parse().unwrap());
        plan.witness = Some(places.witness(&plan.gateway, apart).unwrap());
        let made = make_site(scratch.path(), &plan, |_| {}).unwrap();
        let gateway = GatewayConfig::parse(&made.gateway, &std::fs::read(&made.gateway).unwrap()).unwrap();
        let served = made.witness.as_ref().map(|path| {
            let config = WitnessConfig::parse(path, &std::fs::read(path).unwrap()).unwrap();
            Identity::load(&config.certificate, &config.key, &config.ca).unwrap();
            config.served
        });
        for path in &made.boards {
            let config = board_config(path);
            let witness = config.witness.unwrap();
            assert_eq!(config.node.voters.set.len(), voters);
            match &served {
                Some(served) => {
                    assert_eq!((witness.address, gateway.listen_witness), (served.listen, None));
                    assert_eq!(witness.certificate_name, "witness.witness.roadstead");
                    assert_eq!(served.sites[0].name.as_str(), "north");
                }
                None => {
                    assert_eq!(Some(witness.address), gateway.listen_witness);
                    assert_eq!(witness.certificate_name, "gateway.central.roadstead");
                }
            }
            assert!(!std::fs::read_to_string(path).unwrap().contains("exclusive duties stop"));
        }
    }
}

#[test]
fn what_stands_in_comments_can_be_used() {
    let scratch = Scratch::new("init-comments");
    let made = make_site(scratch.path(), &plan(3), |_| {}).unwrap();
    let text = std::fs::read_to_string(&made.boards[0]).unwrap();
    let spoken = |from: &str| {
        let (head, tail) = text.split_once(&format!("# {from}")).unwrap();
        let (section, rest) = tail.split_once("\n\n").unwrap();
        let text = format!("{head}{from}{}\n\n{rest}", section.replace("\n# ", "\n"));
        BoardConfig::parse(&made.boards[0], text.as_bytes())
    };
    let served = spoken("[witness_for]").unwrap().witness_for.unwrap();
    assert_eq!(served.sites[0].name.as_str(), "south");
    // Three voting boards and a witness are even: that is what must be said.
    assert!(
        spoken("[witness]")
            .unwrap_err()
            .to_string()
            .contains("4 voters, the witness included")
    );
    let duties = spoken("[[duty]]").unwrap();
    assert_eq!((duties.node.duties.len(), duties.processes.len()), (1, 0), "this board has no camera");
}
