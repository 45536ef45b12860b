//! `roadstead user`, `token` and `audit`: who may look at a gateway, and what was done. Works beside a gateway that runs, on the same
//! files. Owns the words; rolls and logs are in `gateway::access`.

pub(crate) mod arguments;
mod input;
mod log;

use std::path::Path;
use std::process::ExitCode;

use gateway::access::audit::{AuditLog, Deed, Outcome};
use gateway::access::roll::{Change, Roll, RollError, TOKEN_PREFIX};
use gateway::access::totp::{TotpSecret, recovery_codes};
use gateway::access::{PasswordHash, Role, Secret, check_password};
use serde_json::json;
use shared::ids::Name;
use shared::time::WallMillis;

use crate::arguments::Output;
use crate::backups::gateway;
use crate::failure::Failure;
use crate::journal::date;
use crate::status::plain;
use arguments::{RollOf, TokenCommand, UserCommand, Whose};

pub(crate) use self::log::run as audit;

/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Does what is asked of accounts.
pub(crate) fn user(asked: &UserCommand) -> Result<ExitCode, Failure> {
    match asked {
        UserCommand::Add { whose, role } => add(whose, *role),
        UserCommand::List { roll, output } => list_accounts(roll, *output),
        UserCommand::Disable(whose) => make(whose, |name| Change::Enable(name, false), "may sign in no more"),
        UserCommand::Enable(whose) => make(whose, |name| Change::Enable(name, true), "may sign in"),
        UserCommand::Remove(whose) => make(whose, Change::RemoveAccount, "is removed"),
        UserCommand::Password(whose) => password(whose),
        UserCommand::Totp { whose, remove: true } => make(whose, Change::NoTotp, "is asked for no code any more"),
        UserCommand::Totp { whose, remove: false } => totp(whose),
        UserCommand::Role { whose, role } => {
            make(whose, |name| Change::SetRole(name, *role), &format!("is {role}; sessions are ended"))
        }
    }
}

/// Does what is asked of tokens.
pub(crate) fn token(asked: &TokenCommand) -> Result<ExitCode, Failure> {
    match asked {
        TokenCommand::Add { whose, role, days } => add_token(whose, *role, *days),
        TokenCommand::List { roll, output } => list_tokens(roll, *output),
        TokenCommand::Revoke(whose) => make(whose, Change::RevokeToken, "is good no more"),
    }
}

/// Roll and log of a gateway, open.
struct Book {
    roll: Roll,
    log: AuditLog,
}

impl Book {
    fn open(config: &Path) -> Result<Self, Failure> {
        let data_dir = gateway(config)?.data_dir;
        let roll = Roll::open(&data_dir).map_err(failed)?;
        let log = AuditLog::open(&data_dir).map_err(|error| failed(error.into()))?;
        Ok(Self { roll, log })
    }

    fn make(&mut self, change: &Change) -> Result<(), Failure> {
        let by = Deed::at_console("", "");
        self.roll.change(change, &by, &mut self.log, now()).map_err(failed)
    }

    fn is_known(&self, name: &Name) -> Result<bool, Failure> {
        Ok(self.roll.account(name).map_err(failed)?.is_some())
    }
}

/// Writes down what a command did that is about no account, and how it ended.
pub(crate) fn note(
    data_dir: &Path,
    what: &'static str,
    on: String,
    outcome: &Result<String, String>,
) -> Result<(), Failure> {
    let (outcome, detail) = match outcome {
        Ok(detail) => (Outcome::Ok, detail.clone()),
        Err(detail) => (Outcome::Failed, detail.clone()),
    };
    let deed = Deed { outcome, detail, ..Deed::at_console(what, on) };
    let added = AuditLog::open(data_dir).and_then(|mut log| log.add(&deed, now()));
    added
        .map(|_| ())
        .map_err(|error| Failure::new(format!("{what} is not in the audit log")).because(error))
}

fn make(whose: &Whose, change: impl FnOnce(Name) -> Change, told: &str) -> Result<ExitCode, Failure> {
    Book::open(&whose.roll.config)?.make(&change(whose.name.clone()))?;
    crate::say(&format!("{} {told}\n", whose.name))
}

fn add(whose: &Whose, role: Role) -> Result<ExitCode, Failure> {
    let mut book = Book::open(&whose.roll.config)?;
    if book.is_known(&whose.name)? {
        return Err(failed(RollError::Taken { what: "account", name: whose.name.clone() }));
    }
    let password = new_password(&whose.name)?;
    book.make(&Change::AddAccount { name: whose.name.clone(), role, password })?;
    crate::say(&format!("{} may sign in as {role}\n", whose.name))
}

fn password(whose: &Whose) -> Result<ExitCode, Failure> {
    let mut book = Book::open(&whose.roll.config)?;
    if !book.is_known(&whose.name)? {
        return Err(failed(RollError::Unknown { what: "account", name: whose.name.clone() }));
    }
    let password = new_password(&whose.name)?;
    book.make(&Change::Password(whose.name.clone(), password))?;
    crate::say(&format!("{} has another password; sessions are ended\n", whose.name))
}

fn new_password(name: &Name) -> Result<PasswordHash, Failure> {
    let password = input::new_password(name)?;
    check_password(name, &password).map_err(|why| Failure::new(format!("this password will not do: {why}")))?;
    PasswordHash::of(&password).map_err(|error| Failure::new("the password cannot be hashed").because(error))
}

fn totp(whose: &Whose) -> Result<ExitCode, Failure> {
    let mut book = Book::open(&whose.roll.config)?;
    if !book.is_known(&whose.name)? {
        return Err(failed(RollError::Unknown { what: "account", name: whose.name.clone() }));
    }
    let drawn = |error: gateway::access::NoEntropy| Failure::new("no secret can be drawn").because(error);
    let (secret, recovery) = (TotpSecret::draw().map_err(drawn)?, recovery_codes().map_err(drawn)?);
    let name = whose.name.clone();
    crate::say(&format!("secret: {}\nas a link: {}\n", secret.text(), secret.uri(&name)))?;
    let code = input::shown("code that the authenticator shows now: ")?;
    let step = secret.step_of(code.trim(), now(), 0).ok_or_else(|| {
        Failure::new("this is not the code that is shown now")
            .remedy("nothing was changed; compare the clocks of this machine and of the telephone, and try again")
    })?;
    let codes = recovery.join("\n");
    book.make(&Change::Totp { name: name.clone(), secret, step, recovery })?;
    crate::say(&format!(
        "{name} is asked for a code from now on; sessions are ended\nrecovery codes, each good once in the place of a \
         code; keep them on paper:\n{codes}\n"
    ))
}

fn add_token(whose: &Whose, role: Role, days: u64) -> Result<ExitCode, Failure> {
    let mut book = Book::open(&whose.roll.config)?;
    let secret = Secret::draw(TOKEN_PREFIX).map_err(|error| Failure::new("no token can be drawn").because(error))?;
    let expires = WallMillis(now().0.saturating_add(days.saturating_mul(DAY_MS)));
    book.make(&Change::AddToken { name: whose.name.clone(), role, secret: secret.clone(), expires })?;
    eprintln!("{} may look as {role} until {}; the token is shown this once:", whose.name, date(expires.0));
    crate::say(&format!("{}\n", secret.text()))
}

fn list_accounts(of: &RollOf, output: Output) -> Result<ExitCode, Failure> {
    let accounts = Book::open(&of.config)?.roll.accounts().map_err(failed)?;
    if output == Output::Json {
        return crate::say(&format!("{:#}\n", json!(accounts)));
    }
    let mut table = plain(&["account", "role", "state", "second factor", "recovery codes", "made"]);
    for account in accounts {
        table.add_row(vec![
            account.name,
            account.role.to_string(),
            if account.enabled { "enabled" } else { "disabled" }.to_owned(),
            if account.totp { "on" } else { "off" }.to_owned(),
            account.recovery_codes.to_string(),
            date(account.created_ms),
        ]);
    }
    crate::say(&format!("{}\n", table.trim_fmt()))
}

fn list_tokens(of: &RollOf, output: Output) -> Result<ExitCode, Failure> {
    let tokens = Book::open(&of.config)?.roll.tokens().map_err(failed)?;
    if output == Output::Json {
        return crate::say(&format!("{:#}\n", json!(tokens)));
    }
    let now = now().0;
    let mut table = plain(&["token", "role", "state", "ends", "made"]);
    for token in tokens {
        table.add_row(vec![
            token.name,
            token.role.to_string(),
            if now < token.expires_ms { "good" } else { "ended" }.to_owned(),
            date(token.expires_ms),
            date(token.created_ms),
        ]);
    }
    crate::say(&format!("{}\n", table.trim_fmt()))
}

fn failed(error: RollError) -> Failure {
    let remedy = match &error {
        RollError::Unknown { what: "token", .. } => Some("`roadstead token list` shows which there are"),
        RollError::Unknown { .. } => Some("`roadstead user list` shows which there are"),
        RollError::Taken { .. } => Some("give another name"),
        RollError::Full { .. } => Some("remove those that nobody uses"),
        RollError::File { .. }
        | RollError::Exposed { .. }
        | RollError::Layout { .. }
        | RollError::Database(_)
        | RollError::Audit(_)
        | RollError::Entropy(_) => None,
    };
    let failure = Failure::new("nothing was changed").because(error);
    match remedy {
        Some(remedy) => failure.remedy(remedy),
        None => failure,
    }
}

fn now() -> WallMillis {
    link::clock::wall()
}

#[cfg(test)]
mod tests;
