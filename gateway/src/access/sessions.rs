//! Who is signed in: sessions by the fingerprint of their cookie. In memory alone, so that a restart signs everybody out; bounded,
//! and each with two ends: one of idleness, one for good.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::time::Instant;

use super::roll::AccountId;
use super::secrets::{Fingerprint, NoEntropy, Secret};
use super::totp::TotpSecret;

/// A session that asks for nothing for so long is over. Pages that are kept live ask for nothing by themselves.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(60 * 60);
/// No session lasts longer (OWASP's Session Management Cheat Sheet: a working day).
pub(super) const LIFE_MAX: Duration = Duration::from_secs(12 * 60 * 60);
/// Sessions of one account. At the limit its oldest gives way.
pub(super) const SESSIONS_A_PERSON: usize = 8;
/// Sessions of all. At the limit the one that is idle longest gives way.
pub(super) const SESSIONS_MAX: usize = 1024;

/// One browser.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) account: AccountId,
    /// Of the account when it began: what changes the account's secrets or rights ends it.
    pub(super) generation: i64,
    began: Instant,
    seen: Instant,
    /// A second factor that was offered and is not confirmed.
    pub(super) offered: Option<TotpSecret>,
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now.since(self.seen) >= IDLE_MAX || now.since(self.began) >= LIFE_MAX
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: BTreeMap<Fingerprint, Session>,
}

impl Sessions {
    /// Begins one; the secret is for the browser's cookie.
    pub(super) fn begin(&mut self, account: AccountId, generation: i64, now: Instant) -> Result<Secret, NoEntropy> {
        let secret = Secret::draw("")?;
        self.open.retain(|_, session| !session.is_over(now));
        let own = |session: &&Session| session.account == account;
        if self.open.values().filter(own).count() >= SESSIONS_A_PERSON {
            self.give_way(|session| session.account == account, |session| session.began);
        }
        if self.open.len() >= SESSIONS_MAX {
            self.give_way(|_| true, |session| session.seen);
        }
        let session = Session { account, generation, began: now, seen: now, offered: None };
        self.open.insert(secret.fingerprint(), session);
        Ok(secret)
    }

    fn give_way(&mut self, of: impl Fn(&Session) -> bool, by: impl Fn(&Session) -> Instant) {
        let candidates = self.open.iter().filter(|(_, session)| of(session));
        if let Some(print) = candidates.min_by_key(|(_, session)| by(session)).map(|(print, _)| *print) {
            self.open.remove(&print);
        }
    }

    /// The session of a cookie. `is_use` where somebody asks for something, which a page that is kept live does not.
    pub(super) fn find(&mut self, print: &Fingerprint, is_use: bool, now: Instant) -> Option<&mut Session> {
        if self.open.get(print)?.is_over(now) {
            self.open.remove(print);
            return None;
        }
        let session = self.open.get_mut(print)?;
        if is_use {
            session.seen = now;
        }
        Some(session)
    }

    /// Ends the session of a cookie.
    pub(super) fn end(&mut self, print: &Fingerprint) {
        self.open.remove(print);
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_micros(1_000_000_000);
    const MS: Duration = Duration::from_millis(1);

    fn account(number: i64) -> AccountId {
        AccountId(number)
    }

    #[test]
    fn a_session_ends_by_idleness() {
        let mut sessions = Sessions::default();
        let print = sessions.begin(account(1), 0, START).unwrap().fingerprint();
        assert!(sessions.find(&print, true, START + (IDLE_MAX - MS)).is_some());
        let seen = START + (IDLE_MAX - MS);
        assert!(sessions.find(&print, false, seen + (IDLE_MAX - MS)).is_some(), "looked at, not used");
        assert!(sessions.find(&print, true, seen + IDLE_MAX).is_none());
        assert_eq!(sessions.len(), 0);
    }

    #[test]
    fn a_session_ends_for_good() {
        let mut sessions = Sessions::default();
        let print = sessions.begin(account(1), 0, START).unwrap().fingerprint();
        let mut now = START;
        while now + IDLE_MAX / 2 < START + LIFE_MAX {
            now = now + IDLE_MAX / 2;
            assert!(sessions.find(&print, true, now).is_some());
        }
        assert!(sessions.find(&print, true, START + (LIFE_MAX - MS)).is_some());
        assert!(sessions.find(&print, true, START + LIFE_MAX).is_none());
    }

    #[test]
    fn sessions_are_bounded_by_person_and_in_all() {
        let mut sessions = Sessions::default();
        let first = sessions.begin(account(1), 0, START).unwrap().fingerprint();
        for number in 1..SESSIONS_A_PERSON as u32 {
            sessions.begin(account(1), 0, START + MS * number).unwrap();
        }
        let now = START + MS * 1000;
        assert!(sessions.find(&first, true, now).is_some());
        let other = sessions.begin(account(2), 0, now).unwrap().fingerprint();
        sessions.begin(account(1), 0, now).unwrap();
        assert!(sessions.find(&first, true, now).is_none(), "the oldest of the same person");
        assert!(sessions.find(&other, true, now).is_some());
        for number in 0..2 * SESSIONS_MAX as i64 {
            sessions.begin(account(10 + number), 0, now).unwrap();
            assert!(sessions.len() <= SESSIONS_MAX);
        }
        assert_eq!(sessions.len(), SESSIONS_MAX);
    }
}
