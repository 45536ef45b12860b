//! Tests of the command line: what is understood, what is refused, and that every command's help teaches.

use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(line.split_whitespace())
}

fn help(path: &[&str]) -> String {
    let mut command = Arguments::command().term_width(100);
    command.build();
    let mut found = &mut command;
    for name in path {
        found = found.find_subcommand_mut(name).expect("the command exists");
    }
    found.render_long_help().to_string()
}

#[test]
fn the_shape_is_sound() {
    Arguments::command().debug_assert();
}

#[test]
fn every_command_shows_examples_that_are_understood() {
    for path in [
        &["init"][..],
        &["node"],
        &["gateway"],
        &["witness"],
        &["config", "check"],
        &["status"],
        &["sites"],
        &["events"],
        &["journal", "verify"],
        &["journal", "stats"],
        &["journal", "dump"],
        &["journal", "key", "new"],
        &["journal", "key", "list"],
        &["journal", "key", "rotate"],
        &["journal", "key", "destroy"],
        &["leader", "hand-over"],
        &["voters"],
        &["vote"],
        &["backup", "key"],
        &["backup", "take"],
        &["backup", "list"],
        &["backup", "verify"],
        &["backup", "prune"],
        &["backup", "unpack"],
        &["restore"],
        &["drill", "restore"],
        &["user", "add"],
        &["user", "totp"],
        &["token", "add"],
        &["audit", "verify"],
        &["reload"],
        &["completions"],
        &["demo"],
        &["bench", "ingest"],
        &["bench", "failover"],
        &["bench", "drain"],
        &["bench", "sites"],
        &["bench", "gateway"],
        &["bench", "blocks"],
    ] {
        let shown = help(path);
        let (_, examples) = shown
            .split_once("Examples:")
            .unwrap_or_else(|| panic!("{path:?} has none:\n{shown}"));
        let mut seen = 0;
        for line in examples.lines().filter_map(|line| line.strip_prefix("  ")) {
            let Some(at) = line.find("roadstead ").filter(|_| !line.starts_with(' ')) else {
                continue;
            };
            let command = line[at..].split(['>', '|']).next().unwrap_or_default();
            assert!(parse(command).is_ok(), "{command}: {}", parse(command).unwrap_err());
            seen += 1;
        }
        assert!(seen >= 1, "{path:?} has no example:\n{shown}");
    }
}

#[test]
fn the_first_help_names_every_command_and_the_exit_codes() {
    let shown = help(&[]);
    for words in [
        "demo",
        "bench",
        "init",
        "node",
        "gateway",
        "config",
        "status",
        "completions",
        "Exit codes: 0 done, 1 failed, 2",
    ] {
        assert!(shown.contains(words), "{words}:\n{shown}");
    }
    assert!(!help(&["node"]).contains("--child"), "what is for the supervisor alone is not shown");
}

#[test]
fn the_orientation_names_commands_that_exist() {
    for line in orientation::TEXT.lines().filter_map(|line| line.strip_prefix("  roadstead ")) {
        let words = line.split("  ").next().unwrap_or_default();
        let name = words.split(' ').next().unwrap_or_default();
        // `help` is clap's own; the others must be understood as they stand.
        if name != "help" {
            let words = words.replace("FILE...", "a.toml");
            assert!(parse(&format!("roadstead {words}")).is_ok(), "{words}");
        }
    }
}

#[test]
fn ranges_of_arguments_hold_on_both_sides() {
    for (good, bad) in [
        ("init d --boards 1", "init d --boards 0"),
        ("init d --boards 64", "init d --boards 65"),
        ("init d --boards 3 --port-base 1", "init d --boards 3 --port-base 0"),
        ("init d --boards 3 --port-base 65535", "init d --boards 3 --port-base 65536"),
        ("init d --boards 3 --site n-1", "init d --boards 3 --site N"),
        ("status --url http://a --timeout-ms 10", "status --url http://a --timeout-ms 9"),
        ("status --url http://a --timeout-ms 60000", "status --url http://a --timeout-ms 60001"),
        ("status --dir d -o json", "status --dir d -o yaml"),
        ("status --dir d", "status"),
        ("sites --dir d", "sites"),
        ("events north-4 --dir d --limit 1000", "events north-4 --dir d --limit 1001"),
        ("events north-4 --dir d", "events North --dir d"),
        ("config check a", "config check"),
        ("journal verify d", "journal verify"),
        ("journal stats d --timeout-ms 60000", "journal stats d --timeout-ms 60001"),
        ("journal dump d --board 64", "journal dump d --board 65"),
        ("journal dump d --class bulk", "journal dump d --class loud"),
        ("journal dump d --stream board-1/3/alarm", "journal dump d --stream 1/3"),
        ("journal dump d --segment 2a", "journal dump d --segment x"),
        ("journal key destroy k 1 --dir d", "journal key destroy k 1"),
        ("node --config a", "node"),
        ("init d --boards 3", "init d"),
        ("init d --boards 3 --witness", "init d --boards 3 --witness --no-witness"),
        (
            "init d --boards 2 --witness-host 10.0.0.1",
            "init d --boards 2 --witness-host 10.0.0.1 --no-witness",
        ),
        ("witness --config a", "witness"),
        ("demo --boards 2", "demo --boards 1"),
        ("demo --boards 16", "demo --boards 17"),
        ("demo --seconds 5 --rate 1", "demo --seconds 4"),
        ("demo --rate 100000", "demo --rate 100001"),
        ("demo --hold --keep d", "demo --hold --rate 5"),
        ("bench ingest --in-flight 1,65536", "bench ingest --in-flight 0"),
        ("bench ingest --payload 16", "bench ingest --payload 15"),
        ("bench ingest --against nats,nats-default,redis,rabbitmq,mosquitto", "bench ingest --against kafka"),
        ("bench gateway --store postgres --block-records 1024", "bench gateway --block-records 1025"),
        ("bench gateway --store sqlite --transaction-blocks 256", "bench gateway --store mysql"),
        ("bench blocks --records 1,2048", "bench blocks --records 2049"),
        ("bench blocks --runs 100 --seed 0", "bench blocks --runs 0"),
        ("bench journal --batch 1,2048", "bench journal --batch 2049"),
        ("bench drain --loss 0 --rate-mbit 0.1", "bench drain --loss 0.6"),
        ("bench drain --records 1000 --rate-mbit 1000", "bench drain --records 1000 --rate-mbit 1001"),
        ("bench drain --against mosquitto,nats,mosquitto-bbr,nats-bbr", "bench drain --against kafka"),
        ("bench failover --trials 1", "bench failover --trials 0"),
        ("bench failover --cases process_crash,hand_over", "bench failover --cases process_crash,flood"),
        ("bench failover --against etcd,keepalived", "bench failover --against zookeeper"),
    ] {
        assert!(parse(&format!("roadstead {good}")).is_ok(), "{good}");
        let refusal = parse(&format!("roadstead {bad}")).expect_err(bad);
        assert!(refusal.use_stderr(), "{bad}");
    }
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Arguments::command(), "roadstead", &mut script);
        assert!(String::from_utf8(script).unwrap().contains("status"));
    }
}

/// The commands whose help is kept as text, each in `assets/help`.
const KEPT: &[(&str, &[&str])] = &[
    ("roadstead", &[]),
    ("demo", &["demo"]),
    ("bench-ingest", &["bench", "ingest"]),
    ("bench-journal", &["bench", "journal"]),
    ("bench-failover", &["bench", "failover"]),
    ("bench-drain", &["bench", "drain"]),
    ("bench-gateway", &["bench", "gateway"]),
    ("bench-blocks", &["bench", "blocks"]),
    ("bench-paths", &["bench", "paths"]),
    ("bench-sites", &["bench", "sites"]),
    ("init", &["init"]),
    ("node", &["node"]),
    ("gateway", &["gateway"]),
    ("witness", &["witness"]),
    ("reload", &["reload"]),
    ("config-check", &["config", "check"]),
    ("status", &["status"]),
    ("journal-verify", &["journal", "verify"]),
    ("journal-stats", &["journal", "stats"]),
    ("journal-dump", &["journal", "dump"]),
    ("journal-key-new", &["journal", "key", "new"]),
    ("journal-key-destroy", &["journal", "key", "destroy"]),
    ("backup-key", &["backup", "key"]),
    ("backup-take", &["backup", "take"]),
    ("backup-list", &["backup", "list"]),
    ("backup-verify", &["backup", "verify"]),
    ("backup-prune", &["backup", "prune"]),
    ("backup-unpack", &["backup", "unpack"]),
    ("restore", &["restore"]),
    ("drill-restore", &["drill", "restore"]),
    ("completions", &["completions"]),
];

/// A change of the help is seen in review: `ROADSTEAD_KEEP_HELP=1 cargo test -p cli help` writes the files anew.
#[test]
fn help_is_as_kept() {
    for (name, path) in KEPT {
        let file = format!("{}/assets/help/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        let shown: String = help(path).lines().map(|line| line.trim_end().to_owned() + "\n").collect();
        if std::env::var_os("ROADSTEAD_KEEP_HELP").is_some() {
            std::fs::write(&file, &shown).unwrap();
        }
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(shown, kept, "{file}");
    }
}
