//! Accounts, tokens and log as the command line changes and shows them, on a gateway's files.

use std::path::PathBuf;

use super::*;
use crate::scratch::Scratch;

/// A gateway's configuration in a directory of its own.
fn config(scratch: &Scratch) -> PathBuf {
    let path = scratch.path().join("gateway.toml");
    let text = "data_dir = \"data\"\n[identity]\ncertificate = \"c\"\nkey = \"k\"\nca = \"a\"\n[[site]]\nname = \"elm\"\nca = \"e\"\n";
    std::fs::write(&path, text).unwrap();
    path
}

fn whose(config: &Path, name: &str) -> Whose {
    Whose { name: Name::try_from(name).unwrap(), roll: RollOf { config: config.to_owned() } }
}

#[test]
fn every_change_is_made_and_written_down_and_what_cannot_be_is_told() {
    let scratch = Scratch::new("access");
    let path = config(&scratch);
    let alice = || whose(&path, "alice");
    let mut book = Book::open(&path).unwrap();
    let password = PasswordHash::of("four words that do").unwrap();
    book.make(&Change::AddAccount { name: alice().name, role: Role::Viewer, password })
        .unwrap();
    user(&UserCommand::Disable(alice())).unwrap();
    assert!(!book.roll.account("alice").unwrap().unwrap().enabled);
    user(&UserCommand::Enable(alice())).unwrap();
    user(&UserCommand::Role { whose: alice(), role: Role::Admin }).unwrap();
    let account = book.roll.account("alice").unwrap().unwrap();
    assert!(account.enabled && account.role == Role::Admin);
    user(&UserCommand::Totp { whose: alice(), remove: true }).unwrap();
    token(&TokenCommand::Add { whose: whose(&path, "scrape"), role: Role::Viewer, days: 1 }).unwrap();
    let tokens = book.roll.tokens().unwrap();
    assert_eq!(tokens[0].expires_ms - tokens[0].created_ms, DAY_MS);
    token(&TokenCommand::Revoke(whose(&path, "scrape"))).unwrap();
    user(&UserCommand::Remove(alice())).unwrap();

    let again = user(&UserCommand::Remove(alice())).unwrap_err().to_string();
    assert!(again.contains("no account called alice") && again.contains("roadstead user list"), "{again}");
    let again = token(&TokenCommand::Revoke(whose(&path, "scrape"))).unwrap_err().to_string();
    assert!(again.contains("roadstead token list"), "{again}");
    for output in [Output::Table, Output::Json] {
        user(&UserCommand::List { roll: alice().roll, output }).unwrap();
        token(&TokenCommand::List { roll: alice().roll, output }).unwrap();
    }
    note(&scratch.path().join("data"), "backup.take", String::new(), &Err("no room".to_owned())).unwrap();
    let entries = gateway::access::audit::newest(&scratch.path().join("data"), 50).unwrap();
    let whats: Vec<&str> = entries.iter().rev().map(|entry| entry.what.as_str()).collect();
    let wanted = [
        "account.add",
        "account.disable",
        "account.enable",
        "account.role",
        "account.no_totp",
        "token.add",
        "token.revoke",
        "account.remove",
        "backup.take",
    ];
    assert_eq!(whats, wanted);
    assert!(
        entries
            .iter()
            .all(|entry| entry.who.starts_with("uid:") && entry.from == "console")
    );
    assert_eq!(entries[0].outcome, Outcome::Failed);
}

#[test]
fn a_log_that_was_changed_is_an_exit_code() {
    let scratch = Scratch::new("access-log");
    let path = config(&scratch);
    let verify = |noted: Option<arguments::Noted>| {
        let asked =
            arguments::AuditCommand::Verify { roll: RollOf { config: path.clone() }, noted, output: Output::Json };
        format!("{:?}", audit(&asked).unwrap())
    };
    let (whole, broken) = (format!("{:?}", ExitCode::SUCCESS), format!("{:?}", ExitCode::FAILURE));
    assert_eq!(verify(None), whole, "empty");
    for days in 1..4 {
        let called = whose(&path, &format!("t-{days}"));
        token(&TokenCommand::Add { whose: called, role: Role::Viewer, days }).unwrap();
    }
    assert_eq!(verify(None), whole);
    assert_eq!(verify(Some(arguments::Noted { seq: 3, digest: "0".repeat(64) })), broken);
    let file = scratch.path().join("data/audit/000000000001.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("t-2", "t-9")).unwrap();
    assert_eq!(verify(None), broken);
    let list = arguments::AuditCommand::List { roll: RollOf { config: path.clone() }, limit: 2, output: Output::Table };
    audit(&list).unwrap();
}
