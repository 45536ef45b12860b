//! Every change that can be made to the roll, each with what the audit log calls it: what is not here cannot be done.

use rusqlite::{Connection, ErrorCode, params};
use shared::ids::Name;
use shared::time::WallMillis;

use super::{ACCOUNTS_MAX, RollError, TOKENS_MAX};
use crate::access::hashing::PasswordHash;
use crate::access::moment::rfc3339;
use crate::access::role::Role;
use crate::access::secrets::Secret;
use crate::access::totp::{TotpSecret, recovery_print};

/// One change.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new account, enabled, without a second factor.
    AddAccount {
        /// Its name.
        name: Name,
        /// What it may do.
        role: Role,
        /// Its password.
        password: PasswordHash,
    },
    /// An account may sign in, or not. Not ends its sessions.
    Enable(Name, bool),
    /// An account goes, with its sessions.
    RemoveAccount(Name),
    /// Another password. Ends its sessions.
    Password(Name, PasswordHash),
    /// Other rights. Ends its sessions.
    SetRole(Name, Role),
    /// A second factor, with its recovery codes; an earlier one goes. Ends its sessions.
    Totp {
        /// Whose.
        name: Name,
        /// What the telephone has.
        secret: TotpSecret,
        /// The step by which it was confirmed: not taken again.
        step: u64,
        /// For those who lose it.
        recovery: Vec<String>,
    },
    /// No second factor any more. Ends its sessions.
    NoTotp(Name),
    /// A new token.
    AddToken {
        /// Its name.
        name: Name,
        /// What it may do.
        role: Role,
        /// What its holder says.
        secret: Secret,
        /// When it ends.
        expires: WallMillis,
    },
    /// A token goes.
    RevokeToken(Name),
}

impl Change {
    /// What the audit log calls it.
    pub const fn what(&self) -> &'static str {
        match self {
            Self::AddAccount { .. } => "account.add",
            Self::Enable(_, true) => "account.enable",
            Self::Enable(_, false) => "account.disable",
            Self::RemoveAccount(_) => "account.remove",
            Self::Password(..) => "account.password",
            Self::SetRole(..) => "account.role",
            Self::Totp { .. } => "account.totp",
            Self::NoTotp(_) => "account.no_totp",
            Self::AddToken { .. } => "token.add",
            Self::RevokeToken(_) => "token.revoke",
        }
    }

    /// Whom or what it changes.
    pub(super) fn on(&self) -> String {
        match self {
            Self::AddAccount { name, .. }
            | Self::Enable(name, _)
            | Self::RemoveAccount(name)
            | Self::Password(name, _)
            | Self::SetRole(name, _)
            | Self::Totp { name, .. }
            | Self::NoTotp(name) => format!("user:{name}"),
            Self::AddToken { name, .. } | Self::RevokeToken(name) => format!("token:{name}"),
        }
    }

    /// The same, as people read it.
    pub(super) fn detail(&self) -> String {
        match self {
            Self::AddAccount { role, .. } | Self::SetRole(_, role) => role.to_string(),
            Self::AddToken { role, expires, .. } => format!("{role} until {}", rfc3339(*expires)),
            Self::Totp { recovery, .. } => format!("with {} recovery codes", recovery.len()),
            Self::Enable(..) | Self::RemoveAccount(_) | Self::Password(..) | Self::NoTotp(_) | Self::RevokeToken(_) => {
                String::new()
            }
        }
    }

    pub(super) fn make(&self, sql: &Connection, now: WallMillis) -> Result<(), RollError> {
        match self {
            Self::AddAccount { name, role, password } => add_account(sql, name, *role, password, now),
            Self::Enable(name, enabled) => {
                one(name, sql.execute(&renewed("enabled = ?2"), params![name.as_str(), enabled])?)
            }
            Self::RemoveAccount(name) => {
                forget_recovery(sql, name)?;
                one(name, sql.execute("DELETE FROM account WHERE name = ?1", [name.as_str()])?)
            }
            Self::Password(name, PasswordHash { salt, digest, memory_kib, passes }) => {
                let set = renewed("salt = ?2, digest = ?3, memory_kib = ?4, passes = ?5");
                one(name, sql.execute(&set, params![name.as_str(), salt, digest, memory_kib, passes])?)
            }
            Self::SetRole(name, role) => {
                one(name, sql.execute(&renewed("role = ?2"), params![name.as_str(), role.code()])?)
            }
            Self::Totp { name, secret, step, recovery } => set_totp(sql, name, (secret, *step), recovery),
            Self::NoTotp(name) => {
                forget_recovery(sql, name)?;
                one(name, sql.execute(&renewed("totp = NULL"), [name.as_str()])?)
            }
            Self::AddToken { name, role, secret, expires } => add_token(sql, name, (*role, secret, *expires), now),
            Self::RevokeToken(name) => {
                let gone = sql.execute("DELETE FROM token WHERE name = ?1", [name.as_str()])?;
                if gone == 1 {
                    Ok(())
                } else {
                    Err(RollError::Unknown { what: "token", name: name.clone() })
                }
            }
        }
    }
}

/// Sets something of the account ?1, and ends its sessions.
fn renewed(set: &str) -> String {
    format!("UPDATE account SET {set}, generation = generation + 1 WHERE name = ?1")
}

fn one(name: &Name, changed: usize) -> Result<(), RollError> {
    if changed == 1 {
        Ok(())
    } else {
        Err(RollError::Unknown { what: "account", name: name.clone() })
    }
}

fn add_account(
    sql: &Connection,
    name: &Name,
    role: Role,
    PasswordHash { salt, digest, memory_kib, passes }: &PasswordHash,
    now: WallMillis,
) -> Result<(), RollError> {
    room(sql, "account", ACCOUNTS_MAX)?;
    let added = sql.execute(
        "INSERT INTO account (name, role, enabled, generation, salt, digest, memory_kib, passes, totp_step, created_ms)
         VALUES (?1, ?2, 1, 0, ?3, ?4, ?5, ?6, 0, ?7)",
        params![name.as_str(), role.code(), salt, digest, memory_kib, passes, now.0.cast_signed()],
    );
    unless_taken(added, "account", name)
}

fn add_token(
    sql: &Connection,
    name: &Name,
    (role, secret, expires): (Role, &Secret, WallMillis),
    now: WallMillis,
) -> Result<(), RollError> {
    room(sql, "token", TOKENS_MAX)?;
    let added = sql.execute(
        "INSERT INTO token (name, digest, role, created_ms, expires_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![name.as_str(), secret.fingerprint(), role.code(), now.0.cast_signed(), expires.0.cast_signed()],
    );
    unless_taken(added, "token", name)
}

fn set_totp(
    sql: &Connection,
    name: &Name,
    (secret, step): (&TotpSecret, u64),
    recovery: &[String],
) -> Result<(), RollError> {
    forget_recovery(sql, name)?;
    let set = renewed("totp = ?2, totp_step = ?3");
    one(name, sql.execute(&set, params![name.as_str(), secret.bytes(), step.cast_signed()])?)?;
    let mut insert = sql.prepare("INSERT INTO recovery SELECT id, ?2 FROM account WHERE name = ?1")?;
    for code in recovery {
        insert.execute(params![name.as_str(), recovery_print(code)])?;
    }
    Ok(())
}

fn forget_recovery(sql: &Connection, name: &Name) -> Result<(), RollError> {
    sql.execute("DELETE FROM recovery WHERE account IN (SELECT id FROM account WHERE name = ?1)", [name.as_str()])?;
    Ok(())
}

fn room(sql: &Connection, what: &'static str, max: usize) -> Result<(), RollError> {
    let count: i64 = sql.query_row(&format!("SELECT count(*) FROM {what}"), [], |row| row.get(0))?;
    if count.cast_unsigned() < max as u64 {
        Ok(())
    } else {
        Err(RollError::Full { what, max })
    }
}

fn unless_taken(added: rusqlite::Result<usize>, what: &'static str, name: &Name) -> Result<(), RollError> {
    match added {
        Ok(_) => Ok(()),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            Err(RollError::Taken { what, name: name.clone() })
        }
        Err(error) => Err(error.into()),
    }
}
