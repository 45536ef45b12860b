//! The roll by itself: changes are made once, written down, and seen by whoever has it open.

use super::*;
use crate::access::audit;
use crate::access::scratch::Scratch;
use crate::access::secrets::Secret;

fn name(name: &str) -> Name {
    Name::try_from(name).unwrap()
}

fn add(called: &str) -> Change {
    Change::AddAccount { name: name(called), role: Role::Viewer, password: PasswordHash::of_nobody().unwrap() }
}

fn make(roll: &mut Roll, scratch: &Scratch, change: &Change) -> Result<(), RollError> {
    let mut log = AuditLog::open(scratch.path()).unwrap();
    roll.change(change, &Deed::at_console("", ""), &mut log, WallMillis(1000))
}

#[test]
fn a_change_is_seen_by_others_who_have_the_roll_open() {
    let scratch = Scratch::new();
    let (mut one, other) = (Roll::open(scratch.path()).unwrap(), Roll::open(scratch.path()).unwrap());
    assert!(!other.has_accounts().unwrap());
    make(&mut one, &scratch, &add("alice")).unwrap();
    assert!(other.has_accounts().unwrap());
    let alice = other.account("alice").unwrap().unwrap();
    assert!(alice.enabled && alice.role == Role::Viewer && !alice.totp);
    make(&mut one, &scratch, &Change::SetRole(name("alice"), Role::Admin)).unwrap();
    make(&mut one, &scratch, &Change::Enable(name("alice"), false)).unwrap();
    let changed = other.account("alice").unwrap().unwrap();
    assert!(!changed.enabled && changed.role == Role::Admin && changed.generation == alice.generation + 2);
    make(&mut one, &scratch, &Change::RemoveAccount(name("alice"))).unwrap();
    make(&mut one, &scratch, &add("alice")).unwrap();
    assert_ne!(other.account("alice").unwrap().unwrap().id, alice.id, "another Alice is another account");
    let whats: Vec<String> = audit::newest(scratch.path(), 10)
        .unwrap()
        .into_iter()
        .map(|entry| entry.what)
        .collect();
    assert_eq!(whats, ["account.add", "account.remove", "account.disable", "account.role", "account.add"]);
}

#[test]
fn what_cannot_be_is_refused_and_not_written_down() {
    let scratch = Scratch::new();
    let mut roll = Roll::open(scratch.path()).unwrap();
    make(&mut roll, &scratch, &add("alice")).unwrap();
    assert!(matches!(make(&mut roll, &scratch, &add("alice")), Err(RollError::Taken { .. })));
    let unknown = [
        Change::Enable(name("bob"), true),
        Change::RemoveAccount(name("bob")),
        Change::Password(name("bob"), PasswordHash::of_nobody().unwrap()),
        Change::SetRole(name("bob"), Role::Admin),
        Change::NoTotp(name("bob")),
        Change::RevokeToken(name("bob")),
    ];
    for change in unknown {
        assert!(matches!(make(&mut roll, &scratch, &change), Err(RollError::Unknown { .. })), "{change:?}");
    }
    assert_eq!(audit::newest(scratch.path(), 10).unwrap().len(), 1);
}

#[test]
fn what_cannot_be_written_down_is_not_done() {
    let scratch = Scratch::new();
    let mut roll = Roll::open(scratch.path()).unwrap();
    let mut log = AuditLog::open(scratch.path()).unwrap();
    let dir = scratch.path().join(audit::DIRECTORY);
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::write(&dir, b"in the way").unwrap();
    let by = Deed::at_console("", "");
    assert!(matches!(roll.change(&add("alice"), &by, &mut log, WallMillis(1)), Err(RollError::Audit(_))));
    assert!(!roll.has_accounts().unwrap());
}

#[test]
fn tokens_end_at_their_millisecond() {
    let scratch = Scratch::new();
    let mut roll = Roll::open(scratch.path()).unwrap();
    let secret = Secret::draw(TOKEN_PREFIX).unwrap();
    let print = secret.fingerprint();
    let token = Change::AddToken { name: name("scrape"), role: Role::Viewer, secret, expires: WallMillis(5000) };
    make(&mut roll, &scratch, &token).unwrap();
    assert!(roll.token(&print, WallMillis(4999)).unwrap().is_some());
    assert!(roll.token(&print, WallMillis(5000)).unwrap().is_none());
    assert!(roll.token(&[0; 32], WallMillis(1)).unwrap().is_none());
    make(&mut roll, &scratch, &Change::RevokeToken(name("scrape"))).unwrap();
    assert!(roll.token(&print, WallMillis(4999)).unwrap().is_none());
}

#[test]
fn codes_are_taken_once() {
    let scratch = Scratch::new();
    let mut roll = Roll::open(scratch.path()).unwrap();
    make(&mut roll, &scratch, &add("alice")).unwrap();
    let (secret, recovery) = (TotpSecret::draw().unwrap(), totp::recovery_codes().unwrap());
    let factor = Change::Totp { name: name("alice"), secret: secret.clone(), step: 100, recovery: recovery.clone() };
    make(&mut roll, &scratch, &factor).unwrap();
    let id = roll.account("alice").unwrap().unwrap().id;
    let mut log = AuditLog::open(scratch.path()).unwrap();
    let deed = Deed::by_gateway("login");
    let mut take = |code: &str, step: u64| {
        roll.take_code((id, code), (&mut log, &deed), WallMillis(step * totp::STEP_MS))
            .unwrap()
    };
    assert!(!take(&secret.code(100), 100), "it was enrolled with this one");
    assert!(take(&secret.code(101), 101) && !take(&secret.code(101), 101), "once");
    assert!(take(&secret.code(103), 103) && !take(&secret.code(102), 103), "none before the newest");
    assert!(take(&recovery[3].to_lowercase(), 104) && !take(&recovery[3], 104), "once");
    assert!(!take("", 104) && !take("000000", 104) || secret.code(104) == "000000");
    assert_eq!(roll.account("alice").unwrap().unwrap().recovery_codes, 9);
}

#[test]
fn others_cannot_read_it() {
    let scratch = Scratch::new();
    drop(Roll::open(scratch.path()).unwrap());
    let path = scratch.path().join(FILE);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(Roll::open(scratch.path()), Err(RollError::Exposed { mode: 0o640, .. })));
}
