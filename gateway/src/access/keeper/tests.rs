//! Logins with the clock in the hand: who is let in, who has to wait, and what a flood leaves behind.

use std::fs;

use super::*;
use crate::access::audit::{self, Outcome};
use crate::access::scratch::Scratch;
use crate::access::throttle::WAIT_MIN;
use crate::access::totp::STEP_MS;

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const AWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

fn name(name: &str) -> Name {
    Name::try_from(name).unwrap()
}

fn at(seconds: u64) -> Moment {
    Moment {
        at: Instant::from_micros((1000 + seconds) * 1_000_000),
        wall: WallMillis((1_000_000 + seconds) * 1000),
    }
}

struct Bench {
    keeper: Keeper,
    scratch: Scratch,
}

impl Bench {
    /// With the users alice and bob; what a password hashes to does not matter here, only whether it matched.
    fn new(is_loopback: bool) -> Self {
        let mut bench = Self::empty(is_loopback);
        for user in ["alice", "bob"] {
            bench.change(&Change::AddAccount {
                name: name(user),
                role: Role::Admin,
                password: PasswordHash::of_nobody().unwrap(),
            });
        }
        bench
    }

    fn empty(is_loopback: bool) -> Self {
        let scratch = Scratch::new();
        let (roll, log) = (Roll::open(scratch.path()).unwrap(), AuditLog::open(scratch.path()).unwrap());
        Self { keeper: Keeper::new(roll, log, is_loopback, Arc::default()), scratch }
    }

    /// As another process does it.
    fn change(&mut self, change: &Change) {
        let mut roll = Roll::open(self.scratch.path()).unwrap();
        let mut log = AuditLog::open(self.scratch.path()).unwrap();
        roll.change(change, &Deed::at_console("", ""), &mut log, WallMillis(1)).unwrap();
    }

    fn login(&mut self, user: &str, matches: bool, code: &str, now: Moment) -> Result<Secret, Denied> {
        self.login_from(HOME, (user, matches, code), now)
    }

    fn login_from(
        &mut self,
        from: IpAddr,
        (user, matches, code): (&str, bool, &str),
        now: Moment,
    ) -> Result<Secret, Denied> {
        let trial = self.keeper.try_login(user, from, now)?;
        self.keeper.login(trial, matches, code, now)
    }

    fn pass(&mut self, secret: &Secret, now: Moment) -> Pass {
        let credentials = Credentials { cookie: Some(secret.fingerprint()), ..Credentials::default() };
        self.keeper.admit(&credentials, true, HOME, now).unwrap()
    }

    fn knows(&mut self, secret: &Secret, now: Moment) -> bool {
        matches!(self.pass(secret, now), Pass::Known(_))
    }

    fn refusals(&self) -> Vec<String> {
        let mut all = audit::newest(self.scratch.path(), 100_000).unwrap();
        all.retain(|entry| entry.outcome == Outcome::Refused);
        all.into_iter()
            .rev()
            .map(|entry| format!("{} {}", entry.on, entry.detail))
            .collect()
    }
}

#[test]
fn without_accounts_loopback_is_open_and_nothing_else_ever() {
    let nobody = Credentials::default();
    let mut bench = Bench::empty(true);
    assert_eq!(bench.keeper.admit(&nobody, true, HOME, at(0)).unwrap(), Pass::Open);
    bench.change(&Change::AddAccount {
        name: name("alice"),
        role: Role::Viewer,
        password: PasswordHash::of_nobody().unwrap(),
    });
    assert_eq!(bench.keeper.admit(&nobody, true, HOME, at(0)).unwrap(), Pass::Stranger, "from the next request on");
    bench.change(&Change::Enable(name("alice"), false));
    assert_eq!(bench.keeper.admit(&nobody, true, HOME, at(0)).unwrap(), Pass::Stranger, "disabled is not removed");
    bench.change(&Change::RemoveAccount(name("alice")));
    assert_eq!(bench.keeper.admit(&nobody, true, HOME, at(0)).unwrap(), Pass::Open);
    let mut beyond = Bench::empty(false);
    assert_eq!(beyond.keeper.admit(&nobody, true, HOME, at(0)).unwrap(), Pass::Stranger);
}

#[test]
fn a_session_is_its_person_until_anything_of_them_changes() {
    let changes = [
        Change::Enable(name("alice"), false),
        Change::RemoveAccount(name("alice")),
        Change::SetRole(name("alice"), Role::Viewer),
        Change::Password(name("alice"), PasswordHash::of_nobody().unwrap()),
        Change::NoTotp(name("alice")),
        Change::Totp { name: name("alice"), secret: TotpSecret::draw().unwrap(), step: 0, recovery: Vec::new() },
    ];
    for change in changes {
        let mut bench = Bench::new(true);
        let (alice, bob) =
            (bench.login("alice", true, "", at(0)).unwrap(), bench.login("bob", true, "", at(0)).unwrap());
        let Pass::Known(Visitor { who: Who::User(account), role: Role::Admin }) = bench.pass(&alice, at(1)) else {
            panic!("not let in")
        };
        assert_eq!(account.name, "alice");
        bench.change(&change);
        assert!(!bench.knows(&alice, at(1)), "{change:?}");
        assert!(bench.knows(&bob, at(1)), "{change:?}");
    }
}

#[test]
fn one_answer_for_every_mistake() {
    let mut bench = Bench::new(true);
    bench.change(&Change::Enable(name("bob"), false));
    for (user, matches) in [("alice", false), ("carol", true), ("carol", false), ("bob", true), ("", false)] {
        let trial = bench.keeper.try_login(user, HOME, at(0)).unwrap();
        assert_eq!((trial.hash.memory_kib, trial.hash.passes), (19 * 1024, 2), "{user}: as much work");
        assert!(matches!(bench.keeper.login(trial, matches, "", at(0)), Err(Denied::Wrong)), "{user}");
    }
    let why = bench.refusals();
    let wanted = [
        "user:alice password",
        " unknown name",
        " unknown name",
        "user:bob account disabled",
        " unknown name",
    ];
    assert_eq!(why, wanted);
}

#[test]
fn an_account_waits_after_five_wrong_tries_and_is_forgiven_by_a_right_one() {
    let mut bench = Bench::new(true);
    for _ in 0..ACCOUNT_TRIES - 1 {
        bench.login("alice", false, "", at(0)).unwrap_err();
    }
    bench.login("alice", true, "", at(0)).unwrap();
    for _ in 0..ACCOUNT_TRIES {
        bench.login("alice", false, "", at(0)).unwrap_err();
    }
    let wait = WAIT_MIN.as_secs();
    let denied = bench.login("alice", true, "", at(wait - 1));
    assert!(matches!(denied, Err(Denied::Wrong)), "not told that it waits: {denied:?}");
    bench.login_from(AWAY, ("alice", true, ""), at(wait - 1)).unwrap_err();
    bench.login("bob", true, "", at(wait - 1)).unwrap();
    bench.login("alice", true, "", at(wait)).unwrap();
    assert_eq!(bench.refusals().iter().filter(|why| why.contains("account waits")).count(), 2);
}

#[test]
fn an_address_waits_whomever_it_tries() {
    let mut bench = Bench::new(true);
    for number in 0..ADDRESS_TRIES {
        let denied = bench.login(&format!("guess-{number}"), false, "", at(0));
        assert!(matches!(denied, Err(Denied::Wrong)), "{number}");
    }
    let denied = bench.login("alice", true, "", at(0));
    assert!(matches!(denied, Err(Denied::Wait(wait)) if wait == WAIT_MIN), "{denied:?}");
    bench.login_from(AWAY, ("alice", true, ""), at(0)).unwrap();
    bench.login("alice", true, "", at(WAIT_MIN.as_secs())).unwrap();
    let v6 = |text: &str| network(text.parse().unwrap());
    assert_eq!(v6("2001:db8:1:2:3::4"), v6("2001:db8:1:2::9"));
    assert_ne!(v6("2001:db8:1:2::"), v6("2001:db8:1:3::"));
    assert_eq!(v6("::ffff:192.0.2.1"), HOME);
}

#[test]
fn tries_at_the_same_time_are_no_way_around_the_wait() {
    let mut bench = Bench::new(true);
    let mut trials: Vec<Trial> = (0..ACCOUNT_TRIES + 3)
        .map(|_| bench.keeper.try_login("alice", HOME, at(0)).unwrap())
        .collect();
    let late = trials.pop().unwrap();
    assert!(
        matches!(bench.keeper.login(late, true, "", at(0)), Err(Denied::Wrong)),
        "it was begun as the eighth"
    );
    // Those that could not be compared do not count.
    let mut busy = Bench::new(true);
    for _ in 0..10 * ADDRESS_TRIES {
        let trial = busy.keeper.try_login("alice", HOME, at(0)).unwrap();
        busy.keeper.give_up(&trial, at(0));
    }
    busy.login("alice", true, "", at(0)).unwrap();
}

#[test]
fn a_code_is_asked_for_and_good_once() {
    let mut bench = Bench::new(true);
    let alice = bench.login("alice", true, "", at(0)).unwrap();
    let print = alice.fingerprint();
    let Pass::Known(Visitor { who: Who::User(account), .. }) = bench.pass(&alice, at(0)) else {
        panic!("not let in")
    };
    let secret = bench.keeper.offer_totp(&print, at(0)).unwrap();
    let code = |seconds: u64| secret.code(at(seconds).wall.0 / STEP_MS);
    let wrong = if code(0) == "000000" { "000001" } else { "000000" };
    assert!(bench.keeper.confirm_totp(&print, &account, (wrong, HOME), at(0)).is_err());
    let (recovery, fresh) = bench.keeper.confirm_totp(&print, &account, (&code(0), HOME), at(0)).unwrap();
    assert!(!bench.knows(&alice, at(0)) && bench.knows(&fresh, at(0)), "signed in anew");
    assert!(bench.login("alice", true, "", at(0)).is_err(), "no code");
    assert!(bench.login("alice", true, &code(0), at(0)).is_err(), "the one that confirmed it");
    assert!(bench.login("alice", true, &code(30), at(30)).is_ok());
    assert!(bench.login("alice", true, &code(30), at(31)).is_err(), "a replay");
    assert!(bench.login("alice", false, &code(90), at(90)).is_err(), "a wrong password takes no code");
    assert!(bench.login("alice", true, &code(90), at(90)).is_ok());
    assert!(bench.login("alice", true, &recovery[0], at(91)).is_ok());
    assert!(bench.login("alice", true, &recovery[0], at(92)).is_err(), "a replay");
    assert!(bench.login("bob", true, "", at(92)).is_ok(), "who has none is not asked");
}

#[test]
fn a_change_during_a_login_ends_it() {
    let mut bench = Bench::new(true);
    let trial = bench.keeper.try_login("alice", HOME, at(0)).unwrap();
    bench.change(&Change::Enable(name("alice"), false));
    assert!(bench.keeper.login(trial, true, "", at(0)).is_err());
    let trial = bench.keeper.try_login("bob", HOME, at(0)).unwrap();
    bench.change(&Change::Password(name("bob"), PasswordHash::of_nobody().unwrap()));
    assert!(bench.keeper.login(trial, true, "", at(0)).is_err(), "it was the old password");
}

#[test]
fn a_flood_stays_in_bounds() {
    let mut bench = Bench::new(true);
    for number in 0..20_000_u32 {
        let from = IpAddr::from(number.to_be_bytes());
        drop(bench.login_from(from, ("alice", false, ""), at(u64::from(number / 100))));
    }
    assert!(bench.keeper.addresses.len() <= ADDRESSES_MAX && bench.keeper.accounts.len() <= 2);
    assert_eq!(bench.keeper.counts.refused.load(Ordering::Relaxed), 20_000);
    bench.keeper.close(at(200));
    let told = bench.refusals();
    assert!(told.len() <= 22 && told.last().unwrap().contains("19980 more"), "{told:?}");
    let bytes: u64 = fs::read_dir(bench.scratch.path().join(audit::DIRECTORY))
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(bytes < 20_000, "{bytes}");
}

#[test]
fn tokens_and_certificates_are_machines() {
    let mut bench = Bench::new(false);
    let secret = Secret::draw("rst_").unwrap();
    let print = secret.fingerprint();
    let expires = WallMillis(at(10).wall.0);
    bench.change(&Change::AddToken { name: name("scrape"), role: Role::Operator, secret, expires });
    let token = Credentials { token: Some(print), ..Credentials::default() };
    let known = Pass::Known(Visitor { who: Who::Token("scrape".to_owned()), role: Role::Operator });
    assert_eq!(bench.keeper.admit(&token, true, HOME, at(9)).unwrap(), known);
    assert_eq!(bench.keeper.admit(&token, true, HOME, at(10)).unwrap(), Pass::Stranger);
    bench.change(&Change::RevokeToken(name("scrape")));
    assert_eq!(bench.keeper.admit(&token, true, HOME, at(9)).unwrap(), Pass::Stranger);
    let machine = Credentials { machine: Some("prometheus".to_owned()), ..Credentials::default() };
    let known = Pass::Known(Visitor { who: Who::Machine("prometheus".to_owned()), role: Role::Viewer });
    assert_eq!(bench.keeper.admit(&machine, true, HOME, at(0)).unwrap(), known);
    let both = Credentials { token: Some([0; 32]), ..machine };
    assert_eq!(
        bench.keeper.admit(&both, true, HOME, at(0)).unwrap(),
        Pass::Stranger,
        "a bad token is no good company"
    );
}
