//! Tests of [`super`]: a full file, and every way in which one can be wrong.

use super::*;

const FULL: &str = r##"
site = "north"
board = 1
data_dir = "data"
voters = [1]
copies = 2

[listen]
mesh = "127.0.0.1:7410"
mqtt = "127.0.0.1:7411"
http = "127.0.0.1:7412"

[identity]
certificate = "certificate.pem"
key = "/etc/keys/key.pem"
ca = "site-ca.pem"

[[peer]]
board = 2
mesh = "127.0.0.1:7420"

[region]
ca = "region-ca.pem"

[[region.gateway]]
name = "central"
address = "127.0.0.1:7400"

[bridge]
broker = "[::1]:1883"
protocol = "5"
topics = ["det/+/on", "#"]

[timing]
lease_ms = 900

[journal]
segments_max = 8
"##;

fn parse(text: &str) -> Result<BoardConfig, ConfigError> {
    BoardConfig::parse(Path::new("site/board-1/board.toml"), text.as_bytes())
}

/// The refusal of the full file with `from` replaced.
fn refused(from: &str, to: &str) -> String {
    assert!(FULL.contains(from), "{from}");
    let text = FULL.replacen(from, to, 1);
    parse(&text).expect_err("it is wrong").to_string()
}

/// What is parsed from the full file with `from` replaced.
fn changed(from: &str, to: &str) -> BoardConfig {
    assert!(FULL.contains(from), "{from}");
    parse(&FULL.replacen(from, to, 1)).unwrap()
}

fn has(shown: &str, words: &str) {
    assert!(shown.contains(words), "{shown}");
}

#[test]
fn a_full_file() {
    let config = parse(FULL).unwrap();
    assert_eq!(config.data_dir, Path::new("site/board-1/data"));
    assert_eq!(config.identity.ca, Path::new("site/board-1/site-ca.pem"));
    assert_eq!(config.identity.key, Path::new("/etc/keys/key.pem"));
    assert_eq!(config.node.boards.len(), 2);
    assert_eq!(config.node.timing.lease.as_millis(), 900);
    assert_eq!(config.node.journal.segments_max, 8);
    assert!(config.node.has_region);
    let two = BoardId::new(2).unwrap();
    assert_eq!(config.peers.get(&two), Some(&"127.0.0.1:7420".parse().unwrap()));
    assert!(config.peers.keys().copied().eq(config.node.peers().iter()));
    let region = config.region.unwrap();
    assert_eq!(region.gateways[0].name.as_str(), "central");
    let bridge = config.bridge.unwrap();
    assert_eq!((bridge.host.as_str(), bridge.port), ("::1", 1883));
    assert_eq!(bridge.client_id, "roadstead-north-board-1");
    assert_eq!((bridge.protocol, bridge.qos), (BridgeProtocol::V5, 1));
    assert_eq!(bridge.login, None);
    assert_eq!(config.publishers, Publishers::default());
}

#[test]
fn who_may_publish() {
    let section = "[mqtt]\nanonymous = true\nusers_file = \"users\"\nconnections_max = 65536\n[identity]";
    let publishers = changed("[identity]", section).publishers;
    let users_file = Some(PathBuf::from("site/board-1/users"));
    assert_eq!(publishers, Publishers { anonymous: true, users_file, connections_max: 65_536 });
    let with = |line: &str| refused("[identity]", &format!("[mqtt]\n{line}\n[identity]"));
    has(&with("connections_max = 0"), ":14:19: `mqtt.connections_max` is too small: 0");
    has(&with("connections_max = 65537"), "the nearest allowed value is 65536");
    has(&with("users_file = \"\""), ":14:14: `mqtt.users_file` is empty");
    has(&with("user_file = \"a\""), "did you mean `users_file`?");
    has(&with("anonymous = 1"), "expected true or false");
}

#[test]
fn a_front_door_that_nobody_may_use_is_refused() {
    for address in ["192.0.2.11", "0.0.0.0", "[::]", "[2001:db8::1]", "[::ffff:192.0.2.11]"] {
        let address = format!("{address}:7411");
        let shown = refused("127.0.0.1:7411", &address);
        has(&shown, &format!(":10:8: `listen.mqtt` is {address}, but no client of another host may publish"));
        has(&shown, "`users_file = \"mqtt-users\"` (lines of name:password) or `anonymous = true`");
        let section = |line: &str| format!("{address}\"\nhttp = \"127.0.0.1:7412\"\n[mqtt]\n{line}\n");
        let listens = "127.0.0.1:7411\"\nhttp = \"127.0.0.1:7412\"\n";
        has(&refused(listens, &section("anonymous = false")), "no client of another host may publish");
        for line in ["anonymous = true", "users_file = \"users\""] {
            assert_eq!(changed(listens, &section(line)).listen.mqtt.to_string(), address);
        }
    }
    for address in ["127.0.0.2:7411", "[::1]:7411", "[::ffff:127.0.0.1]:7411"] {
        assert_eq!(changed("127.0.0.1:7411", address).publishers, Publishers::default());
    }
}

#[test]
fn the_least_file() {
    let (head, _) = FULL.split_once("[[peer]]").unwrap();
    let config = parse(&head.replace("copies = 2\n", "").replace("voters = [1]\n", "")).unwrap();
    assert_eq!((config.node.copies, config.node.voters.set.len()), (1, 1));
    assert!(!config.node.has_region);
    assert_eq!((config.region, config.bridge), (None, None));
}

#[test]
fn keys_and_types() {
    let shown = refused("voters", "votres");
    has(&shown, "site/board-1/board.toml:5:1: unknown key `votres`");
    has(&shown, "did you mean `voters`?");
    has(&refused("mqtt =", "mtqt ="), "did you mean `mqtt`?");
    has(&refused("site = \"north\"\n", ""), "missing key `site`");
    has(&refused("mqtt = \"127.0.0.1:7411\"\n", ""), "add `mqtt = ...` in `listen`");
    has(&refused("board = 1", "board = \"1\""), "expected a whole number from 0 to 255");
    has(&refused("protocol = \"5\"", "protocol = \"4\""), "unknown value `4`");
    has(&refused("site = \"north\"", "site = \"North\""), "`site` is no name: it has 'N'");
    has(&parse("").unwrap_err().to_string(), ":1:1: missing key `site`");
}

#[test]
fn addresses() {
    has(&refused("127.0.0.1:7410", "localhost:7410"), ":9:8: `listen.mesh` is \"localhost:7410\"");
    has(&refused("127.0.0.1:7411", "127.0.0.1:0"), "`listen.mqtt` has port 0");
    has(&refused("127.0.0.1:7411", "127.0.0.1:65536"), "which is not an IP address and port");
    has(&refused("127.0.0.1:7412", "127.0.0.1:7411"), "which `listen.mqtt` takes");
    has(&refused("127.0.0.1:7420", "0.0.0.0:7420"), "names no machine to dial");
    has(&refused("127.0.0.1:7420", "127.0.0.1:7410"), "which another board of this file has");
    has(&refused("127.0.0.1:7400", "[::]:7400"), "names no machine to dial");
}

#[test]
fn combinations() {
    has(&refused("voters = [1]", "voters = [1, 3]"), "voter board-3 is no board of this site");
    has(&refused("copies = 2", "copies = 3"), "3 copies, but the site has 2 boards");
    has(&refused("lease_ms = 900", "lease_ms = 149"), "more than a third of the lease");
    has(&refused("board = 2", "board = 1"), "peer board-1 is this board itself");
    let (text, _) = FULL.split_once("[[region.gateway]]").unwrap();
    has(&parse(text).unwrap_err().to_string(), "0 gateways, but a region has 1 to 8");
}

/// The order of the regions is that of their first gateways; where one is named, all are.
#[test]
fn regions() {
    let gateway = |name: &str, region: &str| {
        format!("[[region.gateway]]\nname = \"{name}\"\naddress = \"127.0.0.1:7401\"\n{region}\n")
    };
    let with = |more: &str| FULL.replace("[bridge]", &format!("{more}\n[bridge]"));
    assert_eq!(parse(&with(&gateway("other", ""))).unwrap().region.unwrap().ranks(), [0, 0]);
    let text = with(&gateway("other", "region = \"south\""));
    has(&parse(&text).unwrap_err().to_string(), "the gateway \"central\" does not say of which region it is");
    let of = |region| format!("region = \"{region}\"");
    let more = [gateway("other", &of("south")), gateway("third", &of("north")), gateway("fourth", &of("south"))];
    let text = with(&more.concat()).replace("name = \"central\"", "name = \"central\"\nregion = \"north\"");
    let region = parse(&text).unwrap().region.unwrap();
    assert_eq!(region.ranks(), [0, 1, 0, 1]);
    assert_eq!(region.gateways[1].region.as_ref().unwrap().as_str(), "south");
    let text = text.replace("\"south\"", "\"South\"");
    has(&parse(&text).unwrap_err().to_string(), "region.gateway.region");
}

#[test]
fn bridges() {
    for broker in ["localhost", "localhost:0", ":1883", "a b:1883", "mqtt://a:1883", "a:99999"] {
        has(&refused("[::1]:1883", broker), "which is no host and port");
    }
    has(&refused(r##"["det/+/on", "#"]"##, "[]"), "0 topic filters");
    for filter in ["", "a/#/b", "a#", "+a/b", "#/a"] {
        has(&refused("\"#\"", &format!("\"{filter}\"")), "is no topic filter");
    }
    for filter in ["#", "+", "a", "/", "+/#", "a//b", "+/+/x"] {
        parse(&FULL.replacen("\"#\"", &format!("\"{filter}\""), 1)).unwrap();
    }
}

#[test]
fn what_a_bridge_asks_for_and_says() {
    let with = |lines: &str| FULL.replacen("protocol = \"5\"", lines, 1);
    let login = "qos = 2\nusername = \"roadside\"\npassword_file = \"broker-password\"";
    let bridge = parse(&with(login)).unwrap().bridge.unwrap();
    let password_file = PathBuf::from("site/board-1/broker-password");
    assert_eq!(bridge.login, Some(BridgeLogin { username: "roadside".into(), password_file }));
    assert_eq!((bridge.qos, bridge.protocol), (2, BridgeProtocol::V311));
    assert_eq!(parse(&with("qos = 0")).unwrap().bridge.unwrap().qos, 0);
    let refused = |lines: &str| parse(&with(lines)).expect_err("it is wrong").to_string();
    has(&refused("qos = 3"), "`bridge.qos` is too large: 3, but it must be 0 to 2");
    has(&refused("username = \"a\""), "add `password_file = ");
    has(&refused("password_file = \"a\""), "add `username = ");
    has(&refused("username = \"a\"\npassword_file = \"\""), "`bridge.password_file` is empty");
    has(&refused("username = \"\"\npassword_file = \"a\""), "`bridge.username` is no user name: it is empty");
    let name = |bytes: usize| format!("username = \"{}\"\npassword_file = \"a\"", "n".repeat(bytes));
    has(&refused(&name(257)), "it has more than 256 bytes");
    assert!(parse(&with(&name(256))).is_ok());
}

const DUTIES: &str = r##"
capabilities = ["camera"]

[[duty]]
name = "signal"
mode = "exclusive"
standby = true
command = ["/usr/bin/python3", "signal.py"]
directory = "work"
environment = { MODEL = "small" }

[[duty]]
name = "infer"
mode = "available"
active = 2
needs = ["npu"]
command = ["infer"]

[[duty]]
name = "elsewhere"
mode = "available"

[listen]
"##;

fn with_duties(from: &str, to: &str) -> Result<BoardConfig, ConfigError> {
    assert!(DUTIES.contains(from), "{from}");
    let duties = DUTIES.replacen(from, to, 1);
    let (before, rest) = FULL.split_once("[listen]").expect("it is full");
    // The listener's keys come first: a table's array ends where the next table begins.
    parse(&format!("{before}{}{}", duties.trim_start(), rest.trim_start()))
}

#[test]
fn duties_are_those_of_the_site_and_processes_those_of_this_board() {
    let config = with_duties("", "").unwrap();
    let duties: Vec<_> = config
        .node
        .duties
        .iter()
        .map(|duty| (duty.name.as_str(), duty.is_local))
        .collect();
    assert_eq!(duties, [("signal", true), ("infer", false), ("elsewhere", false)]);
    assert_eq!(config.node.duties[1].mode, shared::config::DutyMode::Available { active: 2 });
    let [signal] = config.processes.as_slice() else {
        panic!("{:?}", config.processes)
    };
    assert_eq!(signal.directory, Some(PathBuf::from("site/board-1/work")));
    assert_eq!((signal.mode, signal.standby, signal.nice, signal.files_max), ("exclusive", true, 5, 256));
    let able = with_duties("\"camera\"", "\"camera\", \"npu\"").unwrap();
    assert_eq!(able.processes.len(), 2);
    assert_eq!(able.node.fingerprint(), config.node.fingerprint(), "what one board can do is its own affair");
    let renamed = with_duties("\"infer\"", "\"guess\"").unwrap();
    assert_ne!(renamed.node.fingerprint(), config.node.fingerprint());
}

#[test]
fn duties_that_cannot_be_are_refused_where_they_stand() {
    for (from, to, why) in [
        ("\"infer\"", "\"signal\"", "which another duty has"),
        ("\"infer\"", "\"uplink\"", "which another duty has"),
        ("\"infer\"", "\"In fer\"", "is no name"),
        ("active = 2", "active = 0", "too small"),
        ("active = 2", "active = 65", "too large"),
        ("standby = true", "active = 1", "acts on one board"),
        ("standby = true", "standing = true", "unknown key"),
        ("\"exclusive\"", "\"sometimes\"", "sometimes"),
        ("command = [\"infer\"]", "command = []", "0 words"),
        ("\"infer\"]", "\"\"]", "no word"),
        ("MODEL", "ROADSTEAD_TOKEN", "cannot set"),
        ("directory = \"work\"", "nice = 20", "too large"),
        ("directory = \"work\"", "watchdog_ms = 49", "too small"),
    ] {
        let refusal = with_duties(from, to).expect_err(why).to_string();
        assert!(
            refusal.contains(why) && refusal.starts_with("site/board-1/board.toml:"),
            "{from} to {to}: {refusal}"
        );
    }
}

const WITNESS: &str = r##"
[witness]
id = 1
name = "central"
address = "192.0.2.1:7401"
ca = "region-ca.pem"

[witness_for]
listen = "127.0.0.1:7409"
[[witness_for.site]]
name = "south"
ca = "south-ca.pem"

[region]
"##;

fn with_witness(from: &str, to: &str) -> Result<BoardConfig, ConfigError> {
    assert!(WITNESS.contains(from), "{from}");
    let section = WITNESS.replacen(from, to, 1);
    let text = FULL.replacen("[region]\n", section.trim_start(), 1);
    parse(&text.replacen("voters = [1]", "voters = [1, 2]", 1))
}

#[test]
fn a_witness_is_known_by_its_certificate_and_a_board_may_be_one_for_others() {
    let config = with_witness("", "").unwrap();
    assert_eq!(config.node.voters.set.len(), 3);
    let witness = config.witness.unwrap();
    assert_eq!(witness.certificate_name, "gateway.central.roadstead");
    let served = config.witness_for.unwrap();
    assert_eq!((served.listen.port(), served.sites[0].name.as_str()), (7409, "south"));
    assert_eq!(served.sites[0].ca, Path::new("site/board-1/south-ca.pem"));
    for name in ["board-3.south.roadstead", "witness.third.roadstead"] {
        let said = format!("id = 1\ncertificate_name = \"{name}\"");
        assert_eq!(with_witness("id = 1", &said).unwrap().witness.unwrap().certificate_name, name);
    }
}

#[test]
fn witnesses_that_cannot_be_are_refused() {
    for name in ["", ".roadstead", "board-3.south", "board-3.south.example", "a..roadstead", "*.south.roadstead"] {
        let said = format!("id = 1\ncertificate_name = \"{name}\"");
        has(&with_witness("id = 1", &said).unwrap_err().to_string(), "which no certificate of Roadstead says");
    }
    for (from, to, why) in [
        ("id = 1", "id = 64", "a witness's number is 1 to 63"),
        ("192.0.2.1:7401", "0.0.0.0:7401", "names no machine to dial"),
        ("127.0.0.1:7409", "127.0.0.1:7410", "which `listen.mesh` takes"),
        ("\"south\"", "\"north\"", "this board's own site"),
        ("[[witness_for.site]]", "[[witness_for.sites]]", "did you mean `site`?"),
    ] {
        has(&with_witness(from, to).unwrap_err().to_string(), why);
    }
}

#[test]
fn endurance_is_what_the_file_says_else_what_the_profile_says() {
    assert_eq!(parse(FULL).unwrap().endurance, None);
    let tbw = |value: &str| format!("segments_max = 8\nendurance_tbw = {value}");
    assert_eq!(changed("segments_max = 8", &tbw("24")).endurance, Some(24_000_000_000_000));
    assert_eq!(changed("segments_max = 8", &tbw("1000000")).endurance, Some(1_000_000_000_000_000_000));
    for bad in ["0", "1000001"] {
        assert!(refused("segments_max = 8", &tbw(bad)).contains("journal.endurance_tbw"), "{bad}");
    }
    // No board is sold with a medium whose endurance its maker says.
    assert_eq!(changed("copies = 2", "copies = 2\nprofile = \"raspberry-pi-5\"").endurance, None);
    let refusal = refused("copies = 2", "copies = 2\nprofile = \"raspberry-pi-9\"");
    assert!(refusal.contains("no board has") && refusal.contains("raspberry-pi-5"), "{refusal}");
}

#[test]
fn the_file_of_keys_stands_beside_the_configuration() {
    assert_eq!(parse(FULL).unwrap().journal_key, None);
    let config = changed("segments_max = 8", "segments_max = 8\nkey = \"journal.key\"");
    assert_eq!(config.journal_key, Some(PathBuf::from("site/board-1/journal.key")));
    assert!(refused("segments_max = 8", "segments_max = 8\nkey = \"\"").contains("names no file"));
}

#[test]
fn a_page_that_other_hosts_reach_asks_who_they_are() {
    let beyond =
        |rest: &str| FULL.replacen("http = \"127.0.0.1:7412\"\n", &format!("http = \"192.0.2.11:7412\"\n{rest}"), 1);
    let refusal = parse(&beyond("")).unwrap_err();
    assert_eq!(refusal.line, 11, "{refusal}");
    assert!(refusal.to_string().contains("token_file") && refusal.to_string().contains("127.0.0.1"), "{refusal}");
    let config = parse(&beyond("[status]\ntoken_file = \"status-token\"\n")).unwrap();
    assert_eq!(config.status_token.as_deref(), Some(Path::new("site/board-1/status-token")));
    assert!(
        parse(&beyond("[status]\ntoken_file = \"\"\n"))
            .unwrap_err()
            .to_string()
            .contains("names no file")
    );
    assert!(parse(&beyond("[status]\n")).is_err());
    let here = changed("http = \"127.0.0.1:7412\"\n", "http = \"[::ffff:127.0.0.1]:7412\"\n");
    assert_eq!(here.status_token, None);
}

#[test]
fn paths_to_the_region_and_host_names() {
    let with = |paths: &str| parse(&FULL.replace("[region]\n", &format!("{paths}\n[region]\n")));
    let region = parse(FULL).unwrap().region.unwrap();
    assert_eq!(region.paths.len(), 1, "one, wherever the routes lead");
    assert_eq!((region.paths[0].name.as_str(), &region.paths[0].interface), ("any", &None));
    let two = "[[uplink]]\nname = \"fibre\"\naddress = \"192.0.2.7\"\n\n[[uplink]]\ninterface = \"wwan0\"\n\
               metered = true\nbandwidth_mbit = 2\nalarms = false\n";
    let paths = with(two).unwrap().region.unwrap().paths;
    assert_eq!(paths[0].name, "fibre");
    assert_eq!(paths[0].address, Some("192.0.2.7".parse().unwrap()));
    assert_eq!((paths[1].name.as_str(), paths[1].interface.as_deref()), ("wwan0", Some("wwan0")));
    assert!(paths[1].is_metered && !paths[0].is_metered);
    assert!(paths[0].takes_alarms && !paths[1].takes_alarms);
    assert_eq!((paths[0].bandwidth_mbit, paths[1].bandwidth_mbit), (None, Some(2)));
    let refused = |paths: &str| with(paths).unwrap_err().to_string();
    has(&refused("[[uplink]]\nname = \"fibre\"\n"), "says neither");
    has(&refused("[[uplink]]\ninterface = \"a name too long 4\"\n"), "which no interface is called");
    has(&refused("[[uplink]]\naddress = \"0.0.0.0\"\n"), "which is no address of a machine");
    has(&refused("[[uplink]]\naddress = \"192.0.2.7:1\"\n"), "which is no address of a machine");
    has(&refused("[[uplink]]\ninterface = \"a\"\n[[uplink]]\ninterface = \"a\"\n"), "two paths");
    has(&refused("[[uplink]]\ninterface = \"a\"\nbandwidth_mbit = 0\n"), "it must be 1 to 100000");
    has(
        &refused(
            &(0..5)
                .map(|at| format!("[[uplink]]\ninterface = \"e{at}\"\n"))
                .collect::<String>(),
        ),
        "more than 4",
    );
    let (text, _) = FULL.split_once("[region]").unwrap();
    has(
        &parse(&format!("{text}\n[[uplink]]\ninterface = \"a\"\n"))
            .unwrap_err()
            .to_string(),
        "no [region]",
    );
    let named = FULL.replace("127.0.0.1:7400", "gateway-1.example.org:7400");
    let place = parse(&named).unwrap().region.unwrap().gateways.remove(0).address;
    assert_eq!(place, GatewayPlace::Named { host: "gateway-1.example.org".to_owned(), port: 7400 });
    for bad in ["gateway-1.example.org", "gateway_1:7400", "-a.org:7400", "127.0.0.300:7400", "a.org:0"] {
        let text = FULL.replace("127.0.0.1:7400", bad);
        has(&parse(&text).unwrap_err().to_string(), "region.gateway.address");
    }
}
