//! Decides who is let in. Owns roll, audit log, sessions and waits; time is passed in, and passwords are hashed elsewhere between
//! the two halves of a trial.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shared::ids::Name;
use shared::time::{Instant, WallMillis};

use super::audit::{AuditError, AuditLog, Deed, Entry, Refusals};
use super::hashing::{HashError, PasswordHash};
use super::role::Role;
use super::roll::{Account, AccountId, Change, Roll, RollError, Token};
use super::secrets::{Fingerprint, NoEntropy, Secret};
use super::sessions::Sessions;
use super::throttle::Throttle;
use super::totp::{TotpSecret, plain, recovery_codes};

/// Wrong tries for one account before it has to wait. NIST SP 800-63B-4 asks for no more than 100 in a row; with the waits that
/// double this allows about a hundred a day.
pub(super) const ACCOUNT_TRIES: u32 = 5;
/// Wrong tries from one address (of IPv6, one network of 64 bits) before it has to wait: a few people behind one router.
pub(super) const ADDRESS_TRIES: u32 = 20;
/// Addresses that are remembered.
pub(super) const ADDRESSES_MAX: usize = 4096;

/// Now, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    pub(crate) wall: WallMillis,
}

/// What a request brings to show who it is from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// Of a browser that is signed in.
    pub(crate) cookie: Option<Fingerprint>,
    /// Of a program.
    pub(crate) token: Option<Fingerprint>,
    /// What a client's certificate says, which TLS has verified.
    pub(crate) machine: Option<String>,
}

/// Who somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// A person.
    User(Account),
    /// A program with a token.
    Token(String),
    /// A machine with a certificate.
    Machine(String),
}

/// Somebody who is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Visitor {
    pub(crate) who: Who,
    pub(crate) role: Role,
}

/// Whether somebody is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Nobody is asked: there are no accounts, and only this machine is listened to.
    Open,
    /// Somebody who is known.
    Known(Visitor),
    /// Somebody who is not.
    Stranger,
}

/// Why somebody who wanted to sign in is not. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denied {
    /// From this address so many were wrong that the next has to wait.
    #[error("too many wrong tries came from your address; wait {} s", .0.as_secs().max(1))]
    Wait(Duration),
    /// Name, password, code, or the account has to wait: one answer for all, so that it tells nothing about who has an account.
    #[error("name, password or code is wrong, or the account has to wait after too many wrong tries")]
    Wrong,
    /// No password can be checked now.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The roll cannot be read, or what would be done not be written down.
    #[error(transparent)]
    Roll(#[from] RollError),
}

impl From<AuditError> for Denied {
    fn from(error: AuditError) -> Self {
        Self::Roll(error.into())
    }
}

impl From<NoEntropy> for Denied {
    fn from(error: NoEntropy) -> Self {
        Self::Roll(error.into())
    }
}

/// A login of which the password is still to be compared.
#[derive(Debug)]
pub(crate) struct Trial {
    account: Option<Account>,
    is_locked: bool,
    address: IpAddr,
    /// What the password has to match.
    pub(crate) hash: PasswordHash,
}

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) logins: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) unwritten: AtomicU64,
    pub(crate) sessions: AtomicU64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Keeper {
    roll: Roll,
    log: AuditLog,
    sessions: Sessions,
    accounts: Throttle<AccountId>,
    addresses: Throttle<IpAddr>,
    refusals: Refusals,
    counts: Arc<Counts>,
    is_loopback: bool,
}

impl Keeper {
    /// Keeps the doors of a gateway that listens on loopback alone, or not.
    pub(crate) fn new(roll: Roll, log: AuditLog, is_loopback: bool, counts: Arc<Counts>) -> Self {
        Self {
            roll,
            log,
            sessions: Sessions::default(),
            accounts: Throttle::new(ACCOUNT_TRIES, super::roll::ACCOUNTS_MAX),
            addresses: Throttle::new(ADDRESS_TRIES, ADDRESSES_MAX),
            refusals: Refusals::default(),
            counts,
            is_loopback,
        }
    }

    /// Who this is. `is_use` where somebody asks for something, which keeps a session from being idle.
    pub(crate) fn admit(
        &mut self,
        credentials: &Credentials,
        is_use: bool,
        address: IpAddr,
        now: Moment,
    ) -> Result<Pass, RollError> {
        if self.is_loopback && !self.roll.has_accounts()? {
            return Ok(Pass::Open);
        }
        if let Some(print) = &credentials.token {
            return Ok(match self.roll.token(print, now.wall)? {
                Some(Token { name, role, .. }) => Pass::Known(Visitor { who: Who::Token(name), role }),
                None => {
                    self.refuse(Deed { from: address.to_string(), ..anonymous("token") }, "bad token", now);
                    Pass::Stranger
                }
            });
        }
        if let Some(name) = &credentials.machine {
            return Ok(Pass::Known(Visitor { who: Who::Machine(name.clone()), role: Role::Viewer }));
        }
        let Some(print) = &credentials.cookie else { return Ok(Pass::Stranger) };
        let Some(session) = self.sessions.find(print, is_use, now.at) else {
            return Ok(Pass::Stranger);
        };
        let (id, generation) = (session.account, session.generation);
        match self.roll.account_by_id(id)? {
            Some(account) if account.enabled && account.generation == generation => {
                let role = account.role;
                Ok(Pass::Known(Visitor { who: Who::User(account), role }))
            }
            Some(_) | None => {
                self.sessions.end(print);
                Ok(Pass::Stranger)
            }
        }
    }

    /// The first half of a login. Whoever is unknown gets a hash that nothing matches, so that the second half takes as long.
    pub(crate) fn try_login(&mut self, name: &str, address: IpAddr, now: Moment) -> Result<Trial, Denied> {
        let network = network(address);
        if let Some(wait) = self.addresses.wait(&network, now.at) {
            self.refuse(Deed { from: address.to_string(), ..anonymous("login") }, "address waits", now);
            return Err(Denied::Wait(wait));
        }
        self.addresses.attempt(&network, now.at);
        let account = self.roll.account(name)?;
        let id = account.as_ref().map(|account| account.id);
        let is_locked = id.is_some_and(|id| self.accounts.wait(&id, now.at).is_some());
        if let Some(id) = id.filter(|_| !is_locked) {
            self.accounts.attempt(&id, now.at);
        }
        let hash = match id {
            Some(id) => self.roll.password(id)?,
            None => PasswordHash::of_nobody()?,
        };
        Ok(Trial { account, is_locked, address, hash })
    }

    /// No password could be compared: the try does not count.
    pub(crate) fn give_up(&mut self, trial: &Trial, now: Moment) {
        self.addresses.refund(&network(trial.address));
        if let Some(account) = trial.account.as_ref().filter(|_| !trial.is_locked) {
            self.accounts.refund(&account.id);
        }
        self.refuse(Deed { from: trial.address.to_string(), ..anonymous("login") }, "too many at once", now);
    }

    /// The second half of a login: begins a session, whose secret is for the browser.
    pub(crate) fn login(&mut self, trial: Trial, matches: bool, code: &str, now: Moment) -> Result<Secret, Denied> {
        let account = self.judge(&trial, matches, now)?;
        let deed = Deed { from: trial.address.to_string(), ..by(&account.name, "login") };
        if account.totp {
            if !self.roll.take_code((account.id, code), (&mut self.log, &deed), now.wall)? {
                return Err(self.wrong(&trial, "code", now));
            }
        } else {
            self.log.add(&deed, now.wall)?;
        }
        self.right(&trial, &account);
        self.counts.logins.fetch_add(1, Ordering::Relaxed);
        self.begin(account.id, now)
    }

    /// The second half of a person's proof that they still are who signed in.
    pub(crate) fn prove(&mut self, trial: &Trial, matches: bool, code: &str, now: Moment) -> Result<(), Denied> {
        let account = self.judge(trial, matches, now)?;
        let deed = Deed { from: trial.address.to_string(), ..by(&account.name, "account.code") };
        if account.totp && !self.roll.take_code((account.id, code), (&mut self.log, &deed), now.wall)? {
            return Err(self.wrong(trial, "code", now));
        }
        self.right(trial, &account);
        Ok(())
    }

    fn judge(&mut self, trial: &Trial, matches: bool, now: Moment) -> Result<Account, Denied> {
        let Some(tried) = &trial.account else {
            return Err(self.wrong(trial, "unknown name", now));
        };
        // It may have changed while the password was hashed.
        let account = self
            .roll
            .account_by_id(tried.id)?
            .filter(|account| account.generation == tried.generation);
        match account {
            _ if trial.is_locked => Err(self.wrong(trial, "account waits", now)),
            None => Err(self.wrong(trial, "account changed", now)),
            Some(account) if !account.enabled => Err(self.wrong(trial, "account disabled", now)),
            Some(_) if !matches => Err(self.wrong(trial, "password", now)),
            Some(account) => Ok(account),
        }
    }

    fn wrong(&mut self, trial: &Trial, why: &'static str, now: Moment) -> Denied {
        // A name that nobody has is not written down: it may be a password in the wrong field.
        let on = trial
            .account
            .as_ref()
            .map(|account| format!("user:{}", account.name))
            .unwrap_or_default();
        self.refuse(Deed { from: trial.address.to_string(), on, ..anonymous("login") }, why, now);
        Denied::Wrong
    }

    fn right(&mut self, trial: &Trial, account: &Account) {
        self.addresses.refund(&network(trial.address));
        self.accounts.forgive(&account.id);
    }

    fn begin(&mut self, id: AccountId, now: Moment) -> Result<Secret, Denied> {
        let unknown = || Denied::Wrong;
        let account = self.roll.account_by_id(id)?.ok_or_else(unknown)?;
        let secret = self.sessions.begin(id, account.generation, now.at)?;
        self.counts.sessions.store(self.sessions.len() as u64, Ordering::Relaxed);
        Ok(secret)
    }

    /// Signs a browser out.
    pub(crate) fn logout(&mut self, print: &Fingerprint, user: &str, from: IpAddr, now: Moment) -> Result<(), Denied> {
        self.sessions.end(print);
        self.counts.sessions.store(self.sessions.len() as u64, Ordering::Relaxed);
        self.log.add(&Deed { from: from.to_string(), ..by(user, "logout") }, now.wall)?;
        Ok(())
    }

    /// A person's own change, after which this browser alone is signed in.
    pub(crate) fn change_own(
        &mut self,
        account: &Account,
        change: &Change,
        from: IpAddr,
        now: Moment,
    ) -> Result<Secret, Denied> {
        self.change(&account.name, change, from, now)?;
        self.begin(account.id, now)
    }

    /// A change by the user of this name.
    pub(crate) fn change(&mut self, user: &str, change: &Change, from: IpAddr, now: Moment) -> Result<(), RollError> {
        let deed = Deed { from: from.to_string(), ..by(user, "") };
        self.roll.change(change, &deed, &mut self.log, now.wall)
    }

    /// A second factor for the session's person, which counts once it is confirmed.
    pub(crate) fn offer_totp(&mut self, print: &Fingerprint, now: Moment) -> Result<TotpSecret, Denied> {
        let session = self.sessions.find(print, true, now.at).ok_or(Denied::Wrong)?;
        Ok(session.offered.insert(TotpSecret::draw()?).clone())
    }

    /// Confirms it by a code that the telephone shows: the recovery codes, and a new session.
    pub(crate) fn confirm_totp(
        &mut self,
        print: &Fingerprint,
        account: &Account,
        (code, from): (&str, IpAddr),
        now: Moment,
    ) -> Result<(Vec<String>, Secret), Denied> {
        let session = self.sessions.find(print, true, now.at).ok_or(Denied::Wrong)?;
        let secret = session.offered.clone().ok_or(Denied::Wrong)?;
        let step = secret.step_of(&plain(code), now.wall, 0).ok_or(Denied::Wrong)?;
        let recovery = recovery_codes()?;
        let name = Name::try_from(account.name.as_str()).map_err(|_| Denied::Wrong)?;
        let change = Change::Totp { name, secret, step, recovery: recovery.clone() };
        let secret = self.change_own(account, &change, from, now)?;
        Ok((recovery, secret))
    }

    /// What is offered to a session and not confirmed.
    pub(crate) fn offered(&mut self, print: &Fingerprint, now: Moment) -> Option<TotpSecret> {
        self.sessions.find(print, true, now.at)?.offered.clone()
    }

    /// Everybody who may look.
    pub(crate) fn everybody(&self) -> Result<(Vec<Account>, Vec<Token>), RollError> {
        Ok((self.roll.accounts()?, self.roll.tokens()?))
    }

    /// The newest entries of the audit log, at most `limit`, newest first.
    pub(crate) fn newest(&self, limit: usize) -> Result<Vec<Entry>, AuditError> {
        self.log.newest(limit)
    }

    /// Writes down what the gateway does itself.
    pub(crate) fn note(&mut self, deed: &Deed, now: Moment) -> Result<(), AuditError> {
        self.log.add(deed, now.wall).map(|_| ())
    }

    /// Writes down refusals that were held back long enough.
    pub(crate) fn tick(&mut self, now: Moment) {
        let due = self.refusals.due(now.at);
        self.write(due, now);
    }

    /// Writes down all that was held back.
    pub(crate) fn close(&mut self, now: Moment) {
        let due = self.refusals.close();
        self.write(due, now);
    }

    fn refuse(&mut self, deed: Deed, why: &'static str, now: Moment) {
        self.counts.refused.fetch_add(1, Ordering::Relaxed);
        let due = self.refusals.note(deed, why, now.at);
        self.write(due, now);
    }

    /// A refusal stands, written down or not.
    fn write(&mut self, deeds: impl IntoIterator<Item = Deed>, now: Moment) {
        for deed in deeds {
            if let Err(error) = self.log.add(&deed, now.wall) {
                self.counts.unwritten.fetch_add(1, Ordering::Relaxed);
                tracing::error!(why = link::logging::whole_story(&error), "a refusal is not written down");
            }
        }
    }
}

fn by(user: &str, what: &'static str) -> Deed {
    Deed { who: format!("user:{user}"), ..Deed::by_gateway(what) }
}

fn anonymous(what: &'static str) -> Deed {
    Deed { who: "nobody".to_owned(), ..Deed::by_gateway(what) }
}

/// Whoever has one IPv6 address has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => std::net::Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests;
