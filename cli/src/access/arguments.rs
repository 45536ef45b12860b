//! The shape of `roadstead user`, `token` and `audit`, and their help.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use gateway::access::Role;
use shared::config::text::check_name;
use shared::ids::Name;

use crate::arguments::Output;

/// `roadstead user`.
#[derive(Debug, Args)]
pub struct User {
    /// What to do with them.
    #[command(subcommand)]
    pub command: UserCommand,
}

/// What can be done with accounts.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make an account; its password is asked for
    #[command(after_help = "\
Examples:
  roadstead user add alice --role admin --config site/gateway/gateway.toml
  pass show roadstead/alice | roadstead user add alice --role viewer --config gateway.toml

The password is asked for without being shown, or is the first line of stdin where that is no terminal; never an argument, which \
other users of the machine could read. At least 12 characters. A gateway that runs asks who is there from the next request on.

viewer    sees sites, records and metrics
operator  sees the audit log too
admin     sees accounts and tokens too, and disables and enables accounts")]
    Add {
        #[command(flatten)]
        whose: Whose,
        /// What it may do: viewer, operator or admin.
        #[arg(long, value_parser = role)]
        role: Role,
    },
    /// Show all accounts
    List {
        #[command(flatten)]
        roll: RollOf,
        /// How they are shown.
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Let an account sign in no more, and end its sessions
    Disable(Whose),
    /// Let a disabled account sign in again
    Enable(Whose),
    /// Take an account away
    Remove(Whose),
    /// Give an account another password, and end its sessions
    Password(Whose),
    /// Set up a second factor: codes of an authenticator (TOTP)
    #[command(after_help = "\
Examples:
  roadstead user totp alice --config gateway.toml
  roadstead user totp alice --remove --config gateway.toml

Shows a secret for the authenticator and asks for the code that it shows then; only that turns it on, and ends the account's \
sessions. The recovery codes at the end are shown once. People do the same on their account's page.")]
    Totp {
        #[command(flatten)]
        whose: Whose,
        /// Turn it off instead.
        #[arg(long)]
        remove: bool,
    },
    /// Give an account other rights, and end its sessions
    Role {
        #[command(flatten)]
        whose: Whose,
        /// What it may do: viewer, operator or admin.
        #[arg(long, value_parser = role)]
        role: Role,
    },
}

/// `roadstead token`.
#[derive(Debug, Args)]
pub struct Token {
    /// What to do with them.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token for a program; it is shown once
    #[command(after_help = "\
Examples:
  roadstead token add prometheus --config gateway.toml > prometheus.token
  curl -H \"Authorization: Bearer $(cat prometheus.token)\" http://127.0.0.1:7580/api/sites

Only its digest is kept. Where the gateway speaks HTTPS, machines can show a certificate instead: `machines_ca` in [access].")]
    Add {
        #[command(flatten)]
        whose: Whose,
        /// What it may do: viewer, operator or admin.
        #[arg(long, value_parser = role, default_value = "viewer")]
        role: Role,
        /// For how many days it is good: 1 to 3650.
        #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=gateway::access::roll::TOKEN_DAYS_MAX))]
        days: u64,
    },
    /// Show all tokens, also those that have ended
    List {
        #[command(flatten)]
        roll: RollOf,
        /// How they are shown.
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Take a token away
    Revoke(Whose),
}

/// `roadstead audit`.
#[derive(Debug, Args)]
pub struct Audit {
    /// What to do with it.
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// What can be done with the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Show the newest entries
    List {
        #[command(flatten)]
        roll: RollOf,
        /// How many at most.
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// How they are shown.
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Say whether the log is as it was written
    #[command(after_help = "\
Examples:
  roadstead audit verify --config gateway.toml
  roadstead audit verify --config gateway.toml -o json | jq .findings

Each line carries the digest of the one before it, so a changed, removed or moved line is found and named. Whoever can write the \
directory can write the whole log anew: note the last number and digest elsewhere now and then, and give them with --noted N:DIGEST. Exits \
with 1 if anything is wrong.")]
    Verify {
        #[command(flatten)]
        roll: RollOf,
        /// Number and digest of an entry, as an earlier verification told them.
        #[arg(long, value_name = "N:DIGEST", value_parser = noted)]
        noted: Option<Noted>,
        /// How it is told.
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
}

/// Whose roll and log.
#[derive(Debug, Args)]
pub struct RollOf {
    /// The gateway's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// One account or token of a gateway.
#[derive(Debug, Args)]
pub struct Whose {
    /// The name: a to z, 0 to 9 and -, up to 32.
    #[arg(value_parser = check_name)]
    pub name: Name,
    #[command(flatten)]
    #[allow(missing_docs, reason = "its fields say it")]
    pub roll: RollOf,
}

/// An entry that was noted elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// Its number.
    pub seq: u64,
    /// Its digest.
    pub digest: String,
}

fn role(text: &str) -> Result<Role, &'static str> {
    text.parse()
}

fn noted(text: &str) -> Result<Noted, &'static str> {
    let wrong = "give number and digest, such as 12:9f86...; the digest has 64 hexadecimal digits";
    let (seq, digest) = text.split_once(':').ok_or(wrong)?;
    let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digest = Some(digest.to_lowercase()).filter(|_| is_digest).ok_or(wrong)?;
    Ok(Noted { seq: seq.parse().map_err(|_| wrong)?, digest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_a_number_and_a_digest() {
        let digest = "9F".repeat(32);
        assert_eq!(noted(&format!("12:{digest}")), Ok(Noted { seq: 12, digest: "9f".repeat(32) }));
        for bad in ["", "12", &digest, &format!("x:{digest}"), &format!("1:{digest}0"), "1:9f"] {
            assert!(noted(bad).is_err(), "{bad}");
        }
    }
}
