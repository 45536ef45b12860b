//! Tests of [`super`]: what a person is told after a site was made.

use firmware::secrets::parse_users;
use shared::ids::Name;

use super::*;
use crate::scratch::Scratch;

fn site(dir: &Path, host: &str, boards: u8) -> Init {
    let name = |name: &str| Name::try_from(name).unwrap();
    Init {
        dir: dir.to_owned(),
        boards,
        site: name("north"),
        gateway: name("central"),
        host_base: host.parse().unwrap(),
        gateway_host: None,
        port_base: 7400,
        witness: false,
        no_witness: false,
        witness_host: None,
        encrypt: false,
        force: true,
    }
}

/// Makes the site, and returns what is told.
fn told(init: &Init) -> String {
    let places = Places { host_base: init.host_base, port_base: init.port_base, gateway: None };
    let (boards, gateway) = places.lay_out(init.boards, init.gateway.clone()).unwrap();
    let apart = wanted_witness(init).unwrap();
    let witness = apart.map(|apart| places.witness(&gateway, apart).unwrap());
    let plan = SitePlan { site: init.site.clone(), boards, gateway, witness, journal: None };
    let made = make_site(&init.dir, &plan, |_| {}).unwrap();
    next_steps(&init.dir, &plan, &made)
}

#[test]
fn the_password_is_told_once_where_one_is_needed() {
    let scratch = Scratch::new("steps");
    let text = told(&site(scratch.path(), "10.1.4.11", 2));
    let users = parse_users(&std::fs::read(scratch.path().join("board-2/mqtt-users")).unwrap()).unwrap();
    assert_eq!(text.matches(users[0].password.as_str()).count(), 1, "{text}");
    let example = format!("mosquitto_pub -h 10.1.4.11 -p 7401 -q 1 -u sensor -P {} -t det/1", users[0].password);
    assert!(text.contains(&example), "{text}");
    let local = told(&site(scratch.path(), "127.0.0.1", 2));
    assert!(!local.contains("password") && !local.contains("mosquitto_pub"), "{local}");
}

#[test]
fn a_journal_that_is_kept_is_told() {
    let scratch = Scratch::new("steps-kept");
    told(&site(scratch.path(), "127.0.0.1", 3));
    std::fs::create_dir(scratch.path().join("board-3/data")).unwrap();
    let text = told(&site(scratch.path(), "127.0.0.1", 2));
    assert!(text.contains("board-3 is no board of this site any more"), "{text}");
    assert!(!text.contains("board-2 is no board"), "{text}");
}

#[test]
fn a_directory_with_something_in_it_needs_force() {
    let scratch = Scratch::new("steps-force");
    let asked = site(scratch.path(), "127.0.0.1", 1);
    std::fs::write(scratch.path().join("file"), "mine").unwrap();
    let refused = run(&Init { force: false, ..asked }).unwrap_err().to_string();
    assert!(refused.contains("is not empty") && refused.contains("--force"), "{refused}");
    assert!(!scratch.path().join("ca").exists());
}

#[test]
fn an_encrypted_site_has_keys_for_each_board_and_keeps_those_that_are_there() {
    let scratch = Scratch::new("steps-encrypt");
    let asked = Init { encrypt: true, ..site(scratch.path(), "127.0.0.1", 2) };
    run(&asked).unwrap();
    let keys = |board: u8| std::fs::read(scratch.path().join(format!("board-{board}/journal.key"))).unwrap();
    let (first, second) = (keys(1), keys(2));
    assert_ne!(first, second, "each board has keys of its own");
    for board in [1, 2] {
        let path = scratch.path().join(format!("board-{board}/board.toml"));
        let config = firmware::config::BoardConfig::parse(&path, &std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(config.journal_key, Some(path.with_file_name("journal.key")));
        firmware::keys::Keys::load(&path.with_file_name("journal.key")).unwrap();
    }
    run(&asked).unwrap();
    assert_eq!((keys(1), keys(2)), (first, second), "records may be encrypted with them");
    let plain = site(scratch.path(), "127.0.0.1", 2);
    run(&plain).unwrap();
    let path = scratch.path().join("board-1/board.toml");
    let config = firmware::config::BoardConfig::parse(&path, &std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(config.journal_key, None);
}

#[test]
fn a_pair_has_a_witness_unless_told_otherwise() {
    let scratch = Scratch::new("steps-pair");
    let pair = site(scratch.path(), "127.0.0.1", 2);
    let text = told(&pair);
    assert!(text.contains("The gateway central is the witness too, on UDP 127.0.0.1:7401"), "{text}");
    let text = told(&Init { no_witness: true, ..site(scratch.path(), "127.0.0.1", 2) });
    assert!(text.contains("no witness, exclusive duties and the uplink stop"), "{text}");
    let text = told(&Init { witness_host: Some("10.1.4.20".parse().unwrap()), ..pair });
    let path = scratch.path().join("witness/witness.toml");
    assert!(text.contains(&format!("roadstead witness --config {}", path.display())), "{text}");
    let three = told(&site(scratch.path(), "127.0.0.1", 3));
    assert!(!three.contains("witness"), "{three}");
    let asked = |boards| wanted_witness(&Init { witness: true, ..site(scratch.path(), "127.0.0.1", boards) });
    assert!(asked(1).is_err() && asked(3).unwrap() == Some(None));
}
