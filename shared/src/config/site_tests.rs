//! Tests of [`super`]: ranges on both sides, impossible combinations, and the refusals' words.

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    board: Spanned<u8>,
    #[serde(default)]
    peers: Vec<Spanned<u8>>,
    voters: Option<Spanned<Vec<Spanned<u8>>>>,
    witness: Option<Spanned<u8>>,
    copies: Option<Spanned<u8>>,
    #[serde(default)]
    timing: RawTiming,
    #[serde(default)]
    journal: RawJournal,
}

fn check(text: &str) -> Result<(Members, Timing, JournalConfig), ConfigError> {
    let text = Text::from_str("f.toml", text)?;
    let raw: Raw = text.parse()?;
    let peers: Vec<_> = raw.peers.iter().collect();
    let members = RawMembers {
        board: &raw.board,
        peers: &peers,
        voters: raw.voters.as_ref(),
        witness: raw.witness.as_ref(),
        copies: raw.copies.as_ref(),
    };
    Ok((members.check(&text)?, raw.timing.check(&text)?, raw.journal.check(&text)?))
}

fn refused(text: &str, words: &str) {
    let shown = check(text).expect_err("it is impossible").to_string();
    assert!(shown.contains(words), "{shown}");
}

fn set(numbers: &[u8]) -> BoardSet {
    numbers.iter().filter_map(|number| BoardId::new(*number)).collect()
}

#[test]
fn defaults() {
    let (members, timing, journal) = check("board = 2\npeers = [1, 3]").unwrap();
    assert_eq!(members.boards, set(&[1, 2, 3]));
    assert_eq!(members.voters, Voters { version: 1, set: set(&[1, 2, 3]).into() });
    assert_eq!(members.copies, 2);
    assert_eq!(timing, Timing::default());
    assert_eq!(journal, JournalConfig::default());
    assert_eq!(check("board = 1").unwrap().0.copies, 1);
}

#[test]
fn voters_by_size() {
    let all: Vec<u8> = (1..=64).collect();
    for (boards, voters) in [(1, 1), (2, 2), (3, 3), (4, 3), (5, 5), (6, 5), (64, 5)] {
        assert_eq!(default_voters(set(&all[..boards]), false), set(&all[..voters]), "{boards} boards");
    }
    for (boards, voters) in [(1, 1), (2, 2), (3, 2), (4, 2), (5, 4), (64, 4)] {
        assert_eq!(default_voters(set(&all[..boards]), true), set(&all[..voters]), "{boards} boards and a witness");
    }
}

#[test]
fn members() {
    refused("board = 0", "f.toml:1:9: `board` is 0, but a board's number is 1 to 64");
    refused("board = 65", "1 to 64");
    assert_eq!(check("board = 64").unwrap().0.boards, set(&[64]));
    refused("board = 1\npeers = [2, 1]", "f.toml:2:13: peer board-1 is this board itself");
    refused("board = 1\npeers = [2, 2]", "f.toml:2:13: peer board-2 is named twice");
}

#[test]
fn voters() {
    let with = |voters: &str| format!("board = 1\npeers = [2, 3, 4, 5, 6, 7, 8, 9]\nvoters = [{voters}]");
    assert_eq!(check(&with("3")).unwrap().0.voters.set, set(&[3]).into());
    assert_eq!(check(&with("1,2,3,4,5,6,7")).unwrap().0.voters.set.len(), 7);
    refused(&with("1,2,3,4,5,6,7,8,9"), "9 voters, but 1 to 7 can vote, one board at least");
    refused(&with(""), "f.toml:3:10: 0 voters");
    refused(&with("1, 2"), "2 voters: an even number cannot break a tie");
    refused(&with("1, 2"), "help: for this site: `voters = [1, 2, 3, 4, 5]`");
    refused(&with("1, 2, 10"), "f.toml:3:17: voter board-10 is no board of this site");
    refused(&with("1, 2, 2"), "f.toml:3:17: voter board-2 is named twice");
    assert_eq!(check("board = 1\npeers = [2]\nvoters = [1, 2]").unwrap().0.voters.set.len(), 2);
}

#[test]
fn a_witness_votes_beside_boards() {
    let with = |voters: &str| format!("board = 1\npeers = [2, 3, 4]\nwitness = 1\n{voters}");
    let pair = check("board = 1\npeers = [2]\nwitness = 63").unwrap().0.voters;
    assert_eq!((pair.set.len(), pair.set.witnesses().count(), pair.quorum()), (3, 1, 2));
    assert_eq!(check(&with("voters = [1, 2, 3, 4]")).unwrap().0.voters.set.len(), 5);
    refused(&with("voters = [1, 2, 3]"), "4 voters, the witness included: an even number cannot break a tie");
    refused(&with("voters = []"), "one board at least");
    refused("board = 1\npeers = [2]\nwitness = 0", "`witness.id` is 0");
    refused("board = 1\npeers = [2]\nwitness = 64", "`witness.id` is 64");
}

#[test]
fn copies() {
    let with = |copies: u8| format!("board = 1\npeers = [2, 3, 4, 5, 6]\ncopies = {copies}");
    assert_eq!(check(&with(1)).unwrap().0.copies, 1);
    assert_eq!(check(&with(5)).unwrap().0.copies, 5);
    refused(&with(0), "`copies` is too small: 0, but it must be 1 to 5");
    refused(&with(6), "`copies` is too large: 6");
    assert_eq!(check("board = 1\npeers = [2]\ncopies = 2").unwrap().0.copies, 2);
    refused("board = 1\npeers = [2]\ncopies = 3", "f.toml:3:10: 3 copies, but the site has 2 boards");
}

#[test]
fn every_range_of_the_clockwork_on_both_sides() {
    // What else must be said so that the range alone decides.
    let ranges = [
        ("heartbeat_ms", 10, 1000, "down_after_ms = 4000"),
        ("down_after_ms", 20, 60_000, "heartbeat_ms = 10"),
        ("lease_ms", 50, 5000, "renew_ms = 10"),
        ("lease_most_ms", 50, 5000, "lease_ms = 50\nrenew_ms = 10"),
        ("witness_lease_ms", 50, 5000, "lease_ms = 50\nrenew_ms = 10"),
        ("renew_ms", 5, 1666, "lease_ms = 5000"),
        ("hedge_after_ms", 10, 10_000, ""),
        ("seal_alarm_ms", 1, 1000, ""),
        ("seal_event_ms", 1, 10_000, ""),
        ("adopt_after_ms", 100, 600_000, ""),
    ];
    for (key, low, high, beside) in ranges {
        let with = |value: u64| format!("board = 1\n[timing]\n{key} = {value}\n{beside}");
        check(&with(low)).unwrap();
        check(&with(high)).unwrap();
        refused(&with(low - 1), &format!("`timing.{key}` is too small: {} ms", low - 1));
        refused(&with(high + 1), &format!("`timing.{key}` is too large: {} ms", high + 1));
    }
}

#[test]
fn times_that_cannot_stand_together() {
    check("board = 1\n[timing]\nheartbeat_ms = 100\ndown_after_ms = 200").unwrap();
    refused(
        "board = 1\n[timing]\nheartbeat_ms = 100\ndown_after_ms = 199",
        "f.toml:4:17: `timing.down_after_ms` is 199, which is less than 2 heartbeats of 100 ms",
    );
    refused("board = 1\n[timing]\nheartbeat_ms = 101", "f.toml:3:16: `timing.down_after_ms` is 200");
    check("board = 1\n[timing]\nlease_ms = 300\nrenew_ms = 100").unwrap();
    refused(
        "board = 1\n[timing]\nlease_ms = 299\nrenew_ms = 100",
        "f.toml:4:12: `timing.renew_ms` is 100, which is more than a third of the lease of 299 ms",
    );
    refused("board = 1\n[timing]\nlease_ms = 149", "f.toml:3:12: `timing.renew_ms` is 50");
    for key in ["lease_most_ms", "witness_lease_ms"] {
        check(&format!("board = 1\n[timing]\n{key} = 200")).unwrap();
        refused(
            &format!("board = 1\n[timing]\n{key} = 199"),
            &format!("`timing.{key}` is 199, which is less than the lease of 200 ms"),
        );
    }
}

#[test]
fn presets_and_what_differs_from_them() {
    let timing = |text: &str| check(&format!("board = 1\n[timing]\n{text}")).unwrap().1;
    assert_eq!(timing("preset = 'default'"), Timing::default());
    let fast = timing("preset = 'fast'");
    assert_eq!((fast.lease.as_millis(), fast.renew.as_millis()), (100, 20));
    assert_eq!(timing("preset = 'rough'").lease.as_millis(), 1000);
    assert_eq!(timing("preset = 'fast'\nlease_ms = 120").lease.as_millis(), 120);
    refused("board = 1\n[timing]\npreset = 'fats'", "did you mean `fast`?");
}

#[test]
fn the_journal_on_both_sides() {
    let with = |key: &str, value: u64| format!("board = 1\n[journal]\n{key} = {value}");
    assert_eq!(check(&with("segment_mib", 4)).unwrap().2.segment_bytes, 4 << 20);
    assert_eq!(check(&with("segment_mib", 256)).unwrap().2.segment_bytes, 256 << 20);
    refused(&with("segment_mib", 3), "`journal.segment_mib` is too small: 3 MiB");
    refused(&with("segment_mib", 257), "too large");
    assert_eq!(check(&with("segments_max", 8)).unwrap().2.segments_max, 8);
    assert_eq!(check(&with("segments_max", 65_536)).unwrap().2.segments_max, 65_536);
    refused(&with("segments_max", 7), "too small");
    refused(&with("segments_max", 65_537), "too large");
    refused(&with("segments_mx", 5), "did you mean `segments_max`?");
    assert_eq!(check(&with("segments_max", 64)).unwrap().2.alarm_reserve, 4, "a sixteenth");
    assert_eq!(check(&with("alarm_reserve", 128)).unwrap().2.alarm_reserve, 128);
    refused(&with("alarm_reserve", 129), "too large");
    refused(&with("alarm_reserve", 0), "too small");
    assert_eq!(check(&with("bulk_mib_max", 16)).unwrap().2.bulk_bytes_max, 16 << 20);
    refused(&with("event_mib_max", 15), "too small");
    assert_eq!(check(&with("event_linger_ms", 1000)).unwrap().2.event_linger.as_millis(), 1000);
    refused(&with("event_linger_ms", 1001), "too large");
    refused(&with("bulk_linger_ms", 10_001), "too large");
}

#[test]
fn repair_on_both_sides() {
    #[derive(serde::Deserialize)]
    struct File {
        repair: RawRepair,
    }
    let check = |line: &str| {
        let whole = format!("[repair]\n{line}");
        let text = Text::from_str("f.toml", &whole).unwrap();
        text.parse::<File>()
            .and_then(|file| file.repair.check(&text))
            .map_err(|error| error.to_string())
    };
    assert_eq!(check(""), Ok(RepairConfig::default()));
    for (key, low, high) in [
        ("scrub_bytes_per_s", 0, 1 << 30),
        ("scrub_every_s", 1, 2_592_000),
        ("absent_after_s", 1, 2_592_000_u64),
    ] {
        check(&format!("{key} = {low}")).unwrap();
        check(&format!("{key} = {high}")).unwrap();
        assert!(check(&format!("{key} = {}", high + 1)).unwrap_err().contains("too large"), "{key}");
        assert!(low == 0 || check(&format!("{key} = {}", low - 1)).unwrap_err().contains("too small"), "{key}");
    }
    assert!(check("scrub_evry_s = 5").unwrap_err().contains("did you mean `scrub_every_s`?"));
}
