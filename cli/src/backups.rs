//! `roadstead backup` and `roadstead restore`: copies of a gateway's store. Owns the words; which backup is meant by a time is in
//! `depot`, the copying in `gateway::store::backup`.

pub(crate) mod arguments;
mod beside;
mod depot;

use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use gateway::access::audit;
use gateway::config::{GatewayConfig, StoreKind};
use gateway::store::StoreError;
use gateway::store::backup::{self, Backup, BackupError, BackupKey, PIECE_BYTES, Taken, Taking, Vault};
use serde_json::json;

use self::arguments::{
    BackupCommand, BackupKeyNew, BackupList, BackupPrune, BackupTake, BackupUnpack, BackupVerify, Restore,
};
use self::depot::{Depot, Found, Kept};
use crate::arguments::Output;
use crate::check::{self, Checked};
use crate::failure::Failure;
use crate::files::{self, Readers};
use crate::journal::date;
use crate::status::plain;

/// Does what is asked of backups.
pub(crate) fn run(asked: &BackupCommand) -> Result<ExitCode, Failure> {
    match asked {
        BackupCommand::Key(asked) => key(asked),
        BackupCommand::Take(asked) => take(asked),
        BackupCommand::List(asked) => list(asked),
        BackupCommand::Verify(asked) => verify(asked),
        BackupCommand::Prune(asked) => prune(asked),
        BackupCommand::Unpack(asked) => unpack(asked),
    }
}

fn key(asked: &BackupKeyNew) -> Result<ExitCode, Failure> {
    let shown = asked.file.display();
    if asked.file.symlink_metadata().is_ok() {
        return Err(Failure::new(format!("{shown} exists already"))
            .remedy("take another name: what was encrypted with a key comes back with that key alone"));
    }
    let key = BackupKey::new().map_err(|error| Failure::new("no key").because(error))?;
    files::write(&asked.file, key.to_text().as_bytes(), Readers::Owner)?;
    crate::say(&format!(
        "{shown} made: key {}\nkeep a copy elsewhere: without it nothing of an encrypted backup comes back\n",
        key.name()
    ))
}

fn take(asked: &BackupTake) -> Result<ExitCode, Failure> {
    let gateway = with_a_file(&asked.config)?;
    let depot = Depot::open(&asked.to, &asked.service, asked.key.as_deref())?;
    let (now, shown) = (now(), depot.shown());
    let name = name(now);
    let outcome = match depot.vault() {
        Some(vault) => take_sealed(&vault, asked, &gateway, (&name, now)),
        None => {
            let taken = backup::take(&gateway.data_dir, depot.dir()?, &name, now);
            let told = taken.map(|taken| format!("{}: {}", taken.name, contents(&taken)));
            told.map_err(|error| failed("no backup", error))
        }
    };
    note(&gateway, "backup.take", &shown, outcome.as_ref().map(Clone::clone))?;
    let mut told = format!("taken: {}\n", outcome?);
    if let Some(keep) = asked.keep {
        told.push_str(
            &removed(&depot, keep, Some(&name))
                .map_err(|failure| Failure::new(format!("{name} is taken, and old backups stay")).because(failure))?,
        );
    }
    crate::say(&told)
}

/// Takes one into a vault; says of it what is worth being written down.
fn take_sealed(
    vault: &Vault<'_>,
    asked: &BackupTake,
    gateway: &GatewayConfig,
    (name, taken_ms): (&str, u64),
) -> Result<String, Failure> {
    let taking = Taking {
        store: &gateway.data_dir,
        scratch: asked.scratch.as_deref().unwrap_or(&gateway.data_dir),
        beside: beside::of(gateway, &asked.config)?,
        name,
        taken_ms,
        piece_bytes: PIECE_BYTES,
    };
    let taken = vault.take(taking).map_err(|error| failed("no backup", error))?;
    let Taken { backup, pieces, new_pieces, written } = &taken;
    Ok(format!(
        "{name}: {}; {written} bytes written: {new_pieces} of {pieces} pieces were new",
        contents(backup)
    ))
}

/// Removes old ones; what was removed, in words.
fn removed(depot: &Depot, keep: u16, spared: Option<&str>) -> Result<String, Failure> {
    let cannot = |error| failed("not all that should go is removed", error);
    let (names, pieces) = match depot.vault() {
        Some(vault) => {
            let swept = vault.prune(keep.into(), spared).map_err(cannot)?;
            (swept.backups, Some(swept.pieces))
        }
        None => (backup::prune(depot.dir()?, keep.into(), spared.unwrap_or_default()).map_err(cannot)?, None),
    };
    let mut told: String = names.iter().map(|gone| format!("{gone} removed\n")).collect();
    if let Some(pieces) = pieces.filter(|pieces| *pieces > 0) {
        told.push_str(&format!("{pieces} pieces that no backup needs removed\n"));
    }
    Ok(told)
}

fn prune(asked: &BackupPrune) -> Result<ExitCode, Failure> {
    let depot = Depot::open(&asked.place, &asked.service, asked.key.as_deref())?;
    let told = removed(&depot, asked.keep, None)?;
    crate::say(if told.is_empty() { "nothing was to be removed\n" } else { &told })
}

fn list(asked: &BackupList) -> Result<ExitCode, Failure> {
    let Found { all, unreadable } = Depot::open(&asked.place, &asked.service, asked.key.as_deref())?.found()?;
    if asked.output == Output::Json {
        let lines: Vec<_> = all
            .iter()
            .map(|kept| {
                let Backup { name, manifest } = kept.backup();
                let encrypted = matches!(kept, Kept::Sealed(_));
                json!({ "name": name, "taken": date(manifest.taken_ms), "encrypted": encrypted, "manifest": manifest })
            })
            .collect();
        return crate::say(&format!("{:#}\n", json!(lines)));
    }
    let mut table = plain(&["backup", "taken", "kind", "sites", "records", "bytes"]);
    for kept in &all {
        let Backup { name, manifest } = kept.backup();
        let kind = if matches!(kept, Kept::Sealed(_)) { "encrypted" } else { "plain" };
        table.add_row(vec![
            name.clone(),
            date(manifest.taken_ms),
            kind.to_owned(),
            manifest.sites.to_string(),
            manifest.records.to_string(),
            manifest.bytes.to_string(),
        ]);
    }
    for name in &unreadable {
        eprintln!("{name}: what it holds cannot be read");
    }
    crate::say(&format!("{}\n", table.trim_fmt()))
}

fn verify(asked: &BackupVerify) -> Result<ExitCode, Failure> {
    let depot = Depot::open(&asked.place, &asked.service, asked.key.as_deref())?;
    let Found { mut all, unreadable } = depot.found()?;
    if all.is_empty() && unreadable.is_empty() {
        return Err(Failure::new(format!("no backup is in {}", depot.shown())));
    }
    let mut bad = unreadable.len();
    for name in &unreadable {
        crate::say(&format!("{name} IS NOT: what it holds cannot be read\n"))?;
    }
    if let Some(Err(error)) = depot.vault().map(|vault| vault.check_head()) {
        eprintln!("{}: the next backup mends it", link::logging::whole_story(&error));
    }
    if asked.newest {
        all.drain(..all.len().saturating_sub(1));
    }
    let scratch = asked.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let checked = all.len() + bad;
    for kept in &all {
        let backup = kept.backup();
        match depot.verify(kept, &scratch) {
            Ok(()) => crate::say(&format!("{} is whole: {}\n", backup.name, contents(backup)))?,
            // That it was not tried says nothing of the backup.
            Err(error @ BackupError::NoRoom { .. }) => return Err(failed("it cannot be tried", error)),
            Err(error) => {
                bad += 1;
                crate::say(&format!("{} IS NOT: {}\n", backup.name, link::logging::whole_story(&error)))?
            }
        };
    }
    match bad {
        0 => Ok(ExitCode::SUCCESS),
        _ => Err(Failure::new(format!("{bad} of {checked} backups cannot be put back"))),
    }
}

fn unpack(asked: &BackupUnpack) -> Result<ExitCode, Failure> {
    let depot = Depot::open(&asked.place, &asked.service, Some(&asked.key))?;
    let mut found = depot.found()?;
    found.all.retain(|kept| matches!(kept, Kept::Sealed(_)));
    let chosen = depot.choose(&found, asked.to.as_deref())?;
    let vault = depot.vault().ok_or_else(|| Failure::new("no key is given"))?;
    let names = vault
        .unpack(chosen.backup(), &asked.into)
        .map_err(|error| failed("not all is unpacked", error))?;
    let mut told = format!("of {}, in {}:\n", chosen.backup().name, asked.into.display());
    names.iter().for_each(|name| told.push_str(&format!("  {name}\n")));
    crate::say(&told)
}

/// Puts the newest backup back, or the newest that was taken by a time.
pub(crate) fn restore(asked: &Restore) -> Result<ExitCode, Failure> {
    let gateway = with_a_file(&asked.config)?;
    let depot = Depot::open(&asked.from, &asked.service, asked.key.as_deref())?;
    let found = depot.found()?;
    let chosen = depot.choose(&found, asked.to.as_deref())?;
    let (aside, backup) = (format!("before-{}", name(now())), chosen.backup());
    let restored = depot.restore(&chosen, &gateway.data_dir, &aside);
    let restored = restored.map_err(|error| failed("nothing is restored", error));
    let outcome = restored.as_ref().map(|_| format!("{}: {}", backup.name, contents(backup)));
    // A failure begins no log where there is none: the backup's own would then be left out the next time.
    if restored.is_ok() || gateway.data_dir.join(audit::DIRECTORY).exists() {
        note(&gateway, "backup.restore", &depot.shown(), outcome)?;
    }
    let restored = restored?;
    let mut told = format!("{} is in place: {}\n", backup.name, contents(backup));
    if let Some(kept) = restored.kept {
        told.push_str(&format!("what was there is kept as {}\n", kept.display()));
    }
    for name in &restored.beside {
        told.push_str(&format!("{name} is in place, too: as it was then, also what was taken away since\n"));
    }
    for name in &restored.left {
        told.push_str(&format!("{name} stays as it is: the one that is there is newer\n"));
    }
    for name in &found.unreadable {
        told.push_str(&format!("{name} was left out: what it holds cannot be read\n"));
    }
    told.push_str("start the gateway: its sites send again what they still hold\n");
    crate::say(&told)
}

/// Length of a date and time to the second.
const SECONDS: usize = "2026-03-01T08:00:00".len();

/// A time that backups are compared with: RFC 3339 in UTC, such as 2026-03-01T08:00:00Z. Returned to the millisecond, as [`date`]
/// writes it.
pub(crate) fn check_time(text: &str) -> Result<String, String> {
    let is_shaped = |(at, c): (usize, char)| match at {
        4 | 7 => c == '-',
        10 => c == 'T',
        13 | 16 => c == ':',
        _ => c.is_ascii_digit(),
    };
    let asked = text
        .get(..SECONDS)
        .zip(text.get(SECONDS..).and_then(|rest| rest.strip_suffix('Z')));
    let Some((seconds, rest)) = asked.filter(|(seconds, _)| seconds.char_indices().all(is_shaped)) else {
        return Err("give it in UTC, such as 2026-03-01T08:00:00Z".to_owned());
    };
    let fraction = if rest.is_empty() { Some("0") } else { rest.strip_prefix('.') };
    match fraction.filter(|of| !of.is_empty() && of.bytes().all(|b| b.is_ascii_digit())) {
        Some(fraction) => Ok(format!("{seconds}.{:0<3.3}Z", fraction)),
        None => Err("what stands behind the seconds is no fraction".to_owned()),
    }
}

/// The checked configuration of a gateway.
pub(crate) fn gateway(config: &Path) -> Result<GatewayConfig, Failure> {
    match check::load(config)? {
        Checked::Gateway(gateway) => Ok(gateway),
        Checked::Board(_) | Checked::Witness(_) => {
            Err(Failure::new(format!("{} is no gateway's", config.display())).remedy("give a gateway's"))
        }
    }
}

/// The same of one whose store is a file, which is all that is copied here.
fn with_a_file(config: &Path) -> Result<GatewayConfig, Failure> {
    let gateway = gateway(config)?;
    match gateway.store {
        StoreKind::Sqlite => Ok(gateway),
        StoreKind::Postgres(place) => Err(Failure::new(format!(
            "the store of this gateway is the PostgreSQL database {place}, whose backups its own tools take"
        ))
        .remedy("pgBackRest or Barman for a point in time, pg_dump for a copy: docs/stores.md")),
    }
}

fn failed(what: &str, error: BackupError) -> Failure {
    let remedy = match &error {
        BackupError::Store(StoreError::Locked { .. }) => Some("stop the gateway first"),
        BackupError::Damaged { .. } => Some("`roadstead backup verify` says which backups are whole"),
        BackupError::WrongKey { .. } => Some("give the key that they were taken with; nothing was touched"),
        BackupError::NoRoom { .. } => Some("name a directory on a disk with more room with --scratch"),
        BackupError::Busy { .. } => {
            Some("try again when it is done; a killed one is no obstacle, in a bucket after a minute")
        }
        BackupError::File { .. }
        | BackupError::Object { .. }
        | BackupError::TooMany { .. }
        | BackupError::Key(_)
        | BackupError::Store(_) => None,
    };
    let failure = Failure::new(what).because(error);
    match remedy {
        Some(remedy) => failure.remedy(remedy),
        None => failure,
    }
}

/// The audit log's line of a backup or restoration, also of one that failed.
fn note(
    gateway: &GatewayConfig,
    what: &'static str,
    place: &str,
    outcome: Result<String, &Failure>,
) -> Result<(), Failure> {
    // What to do about it is for who is there, not for the log.
    let outcome = outcome.map_err(|failure| failure.to_string().lines().next().unwrap_or_default().to_owned());
    crate::access::note(&gateway.data_dir, what, place.to_owned(), &outcome)
}

fn contents(backup: &Backup) -> String {
    let manifest = &backup.manifest;
    format!("{} records of {} sites in {} bytes", manifest.records, manifest.sites, manifest.bytes)
}

/// Backups are called by their time, so that their names are in order: 20260301T080000000Z.
fn name(millis: u64) -> String {
    date(millis).chars().filter(|c| !matches!(c, '-' | ':' | '.')).collect()
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_in_utc_alone_and_names_are_in_their_order() {
        let same = |text: &str, is: &str| assert_eq!(check_time(text), Ok(is.to_owned()));
        same("2026-03-01T08:00:00Z", "2026-03-01T08:00:00.000Z");
        same("2026-03-01T08:00:00.25Z", "2026-03-01T08:00:00.250Z");
        same("2026-03-01T08:00:00.123456Z", "2026-03-01T08:00:00.123Z");
        for bad in [
            "",
            "2026-03-01",
            "2026-03-01T08:00:00",
            "2026-03-01T08:00:00+01:00",
            "2026-03-01 08:00:00Z",
            "2026-03-01T08:00:00.xZ",
        ] {
            assert!(check_time(bad).is_err(), "{bad}");
        }
        assert_eq!(name(1_772_352_000_001), "20260301T080000001Z");
        assert!(name(1_772_352_000_001) > name(1_772_352_000_000));
    }
}
