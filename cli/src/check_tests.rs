//! Tests of [`super`]: a corpus of broken files made from whole ones, each with what is said about it.

use std::net::IpAddr;

use shared::ids::Name;
use shared::limits::CONFIG_BYTES_MAX;

use super::*;
use crate::init::make_site;
use crate::init::plan::{Places, SitePlan};
use crate::scratch::Scratch;

/// The text of board 1 of a site of three, and of its gateway, as `init` writes them.
fn whole() -> (String, String) {
    let scratch = Scratch::new("check");
    let host_base = IpAddr::from([127, 0, 0, 1]);
    let places = Places { host_base, port_base: 7400, gateway: None };
    let name = |name: &str| Name::try_from(name).unwrap();
    let (boards, gateway) = places.lay_out(3, name("central")).unwrap();
    let plan = SitePlan { site: name("north"), boards, gateway, witness: None, journal: None };
    let made = make_site(scratch.path(), &plan, |_| {}).unwrap();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    (read(&made.boards[0]), read(&made.gateway))
}

fn refusal(bytes: &[u8]) -> String {
    check(Path::new("f.toml"), bytes).expect_err("it is broken").to_string()
}

/// (what is replaced, by what, what is said), in the file of a board.
const BOARD_CORPUS: &[(&str, &str, &[&str])] = &[
    ("\nvoters = ", "\nvotres = ", &["unknown key `votres`", "^^^^^^", "did you mean `voters`?"]),
    ("[listen]", "[lissten]", &["unknown key `lissten`", "did you mean `listen`?"]),
    ("# renew_ms", "renew_sm", &["unknown key `renew_sm`", "did you mean `renew_ms`?"]),
    ("\ncopies = 2", "\ncopies = \"2\"", &["`copies`: expected a whole number", "found string \"2\""]),
    ("\ncopies = 2", "\ncopies = 2.0", &["expected a whole number", "found floating point `2.0`"]),
    ("\ncopies = 2", "\ncopies = -1", &["expected a whole number", "found integer `-1`"]),
    ("\ncopies = 2", "\ncopies = 0", &["`copies` is too small: 0", "nearest allowed value is 1"]),
    ("\ncopies = 2", "\ncopies = 6", &["`copies` is too large: 6", "nearest allowed value is 5"]),
    ("\ncopies = 2", "\ncopies = 4", &["4 copies, but the site has 3 boards", "set `copies = 3`"]),
    ("\nsite = \"north\"", "", &["missing key `site`", "at the top of the file"]),
    ("\nmqtt = \"127.0.0.1:7411\"", "", &["missing key `mqtt`", "in `listen`"]),
    ("\nboard = 1", "\nboard = 65", &["`board` is 65, but a board's number is 1 to 64"]),
    ("[1, 2, 3]", "[1, 2]", &["an even number cannot break a tie", "`voters = [1, 2, 3]`"]),
    ("[1, 2, 3]", "[1, 2, 9]", &["voter board-9 is no board of this site", "add a [[peer]]"]),
    ("[1, 2, 3]", "[]", &["0 voters, but 1 to 7 can vote"]),
    ("[1, 2, 3]", "[1, 2, 3", &["f.toml:"]),
    ("# lease_ms = 200 ", "lease_ms = 5001 ", &["`timing.lease_ms` is too large: 5001 ms"]),
    ("# lease_ms = 200 ", "lease_ms = 49 ", &["`timing.lease_ms` is too small: 49 ms"]),
    (
        "# lease_ms = 200 ",
        "lease_ms = 140 ",
        &["more than a third of the lease of 140 ms", "`renew_ms = 46`"],
    ),
    ("# heartbeat_ms = 100 ", "heartbeat_ms = 200 ", &["less than 2 heartbeats", "`down_after_ms = 400`"]),
    ("# segment_mib = 8 ", "segment_mib = 257 ", &["`journal.segment_mib` is too large: 257 MiB"]),
    ("\"127.0.0.1:7410\"", "\"board-1:7410\"", &["is not an IP address and port"]),
    ("\"127.0.0.1:7410\"", "\"127.0.0.1\"", &["is not an IP address and port"]),
    ("\"127.0.0.1:7420\"", "\"0.0.0.0:7420\"", &["names no machine to dial"]),
    ("\"central\"", "\"Central\"", &["`region.gateway.name` is no name: it has 'C'"]),
    ("\nboard = 1", "", &["missing key `board`", "at the top of the file"]),
    ("\nboard = 1", "\nbord = 1", &["unknown key `bord`", "did you mean `board`?"]),
    ("\nsite = \"north\"", "\n[[site]]\nname = \"x\"", &["f.toml:"]),
    ("\nboard = 1", "\nboard = 1\nboard = 1", &["duplicate key"]),
];

#[test]
fn whole_files_are_summed_up() {
    let (board, gateway) = whole();
    let checked = check(Path::new("f.toml"), board.as_bytes()).unwrap();
    assert_eq!(
        checked.summary(),
        "board-1 of site north: 3 boards, 3 voters, 2 copies, mesh 127.0.0.1:7410, mqtt 127.0.0.1:7411, \
         http 127.0.0.1:7412, region at 127.0.0.1:7400"
    );
    let checked = check(Path::new("f.toml"), gateway.as_bytes()).unwrap();
    assert_eq!(checked.summary(), "gateway of 1 site (north), quic 127.0.0.1:7400, http 127.0.0.1:7402");
}

#[test]
fn every_default_in_a_comment_is_the_default() {
    let (board, _) = whole();
    let plain = check(Path::new("f.toml"), board.as_bytes()).unwrap();
    // Every commented key of the clockwork and the journal, made real, but for those whose default is no value.
    let (head, tail) = board.split_once("[timing]").unwrap();
    let spoken = head.to_owned()
        + "[timing]"
        + &tail
            .replace("\n# renew", "\nrenew")
            .lines()
            .filter(|line| !line.contains("Default: "))
            .map(uncommented)
            .collect::<String>();
    assert!(spoken.contains("\nheartbeat_ms = 100"), "{spoken}");
    let spoken = check(Path::new("f.toml"), spoken.as_bytes()).unwrap();
    let (Checked::Board(plain), Checked::Board(spoken)) = (plain, spoken) else {
        panic!("both are boards");
    };
    assert_eq!(plain, spoken);
}

fn uncommented(line: &str) -> String {
    match line.strip_prefix("# ") {
        Some(rest) if rest.contains(" = ") && !rest.starts_with("The") => format!("{rest}\n"),
        Some(_) | None => format!("{line}\n"),
    }
}

#[test]
fn broken_files_are_refused_with_place_and_remedy() {
    let (board, gateway) = whole();
    for (from, to, words) in BOARD_CORPUS {
        assert_eq!(board.matches(from).count().min(1), 1, "{from:?} is in the file");
        let shown = refusal(board.replacen(from, to, 1).as_bytes());
        assert!(shown.starts_with("f.toml:"), "{shown}");
        assert!(shown.contains('^'), "{shown}");
        for words in *words {
            assert!(shown.contains(words), "{from:?} -> {to:?} lacks {words:?}:\n{shown}");
        }
    }
    let shown = refusal(gateway.replace("\nquic", "\nquick").as_bytes());
    assert!(shown.contains("did you mean `quic`?"), "{shown}");
}

#[test]
fn what_is_no_configuration_at_all() {
    assert!(refusal(b"").contains("f.toml:1:1: this is neither a board"));
    assert!(refusal(b"\xff\xfe").contains("f.toml:1:1: this is not UTF-8 text"));
    assert!(refusal(&vec![b'#'; CONFIG_BYTES_MAX + 1]).contains("longer than 1048576 bytes"));
    assert!(refusal(&vec![b'#'; CONFIG_BYTES_MAX]).contains("neither a board's"));
    assert!(refusal(b"\x00\x01\x02").starts_with("f.toml:1:"));
}

/// Every whole file cut anywhere, and with any one byte spoiled, is read or refused, never a panic.
#[test]
fn no_damage_makes_it_panic() {
    let (board, gateway) = whole();
    for text in [board, gateway] {
        // Comments do not parse into anything; without them every byte matters.
        let text: String = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| format!("{line}\n"))
            .collect();
        let bytes = text.as_bytes();
        for at in 0..bytes.len() {
            let _ = check(Path::new("f.toml"), &bytes[..at]);
            for wrong in [0, b'"', b'[', b'=', b'9', 0xff] {
                let mut spoiled = bytes.to_vec();
                spoiled[at] = wrong;
                let _ = check(Path::new("f.toml"), &spoiled);
            }
        }
    }
}

#[test]
fn a_file_that_is_longer_than_allowed_is_not_read_to_its_end() {
    let scratch = Scratch::new("check-huge");
    let path = scratch.path().join("huge.toml");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("longer than"));
    assert!(
        load(&scratch.path().join("none.toml"))
            .unwrap_err()
            .to_string()
            .contains("cannot read")
    );
    assert!(load(scratch.path()).unwrap_err().to_string().contains("cannot read"));
}
