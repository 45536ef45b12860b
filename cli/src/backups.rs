//! `roadstead backup` and `roadstead restore`: copies of a gateway's store. Owns the words, and which backup is meant by a time;
//! the copying is in `gateway::store::backup`.

use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use gateway::config::{GatewayConfig, StoreKind};
use gateway::store::StoreError;
use gateway::store::backup::{self, Backup, BackupError, Backups};
use serde_json::json;

use crate::arguments::{BackupCommand, BackupList, BackupTake, BackupVerify, Output, Restore};
use crate::check::{self, Checked};
use crate::failure::Failure;
use crate::journal::date;
use crate::status::plain;

/// Does what is asked of backups.
pub(crate) fn run(asked: &BackupCommand) -> Result<ExitCode, Failure> {
    match asked {
        BackupCommand::Take(asked) => take(asked),
        BackupCommand::List(asked) => list(asked),
        BackupCommand::Verify(asked) => verify(asked),
    }
}

fn take(asked: &BackupTake) -> Result<ExitCode, Failure> {
    let gateway = with_a_file(&asked.config)?;
    let now = now();
    let taken = backup::take(&gateway.data_dir, &asked.to, &name(now), now);
    let outcome = taken.as_ref().map(|taken| format!("{}: {}", taken.name, contents(taken)));
    write_down(&gateway, "backup.take", &asked.to, outcome)?;
    let taken = taken.map_err(|error| failed("no backup", error))?;
    let mut told = format!("{} taken: {}\n", taken.name, contents(&taken));
    if let Some(keep) = asked.keep {
        let pruned = backup::prune(&asked.to, keep.into(), &taken.name);
        for gone in pruned.map_err(|error| failed(&format!("{} is taken, and old backups stay", taken.name), error))? {
            told.push_str(&format!("{gone} removed\n"));
        }
    }
    crate::say(&told)
}

fn list(asked: &BackupList) -> Result<ExitCode, Failure> {
    let all = found(&asked.dir)?.whole;
    if asked.output == Output::Json {
        let lines: Vec<_> = all
            .iter()
            .map(|backup| json!({ "name": backup.name, "taken": date(backup.manifest.taken_ms), "manifest": backup.manifest }))
            .collect();
        return crate::say(&format!("{:#}\n", json!(lines)));
    }
    let mut table = plain(&["backup", "taken", "sites", "records", "bytes"]);
    for Backup { name, manifest } in &all {
        table.add_row(vec![
            name.clone(),
            date(manifest.taken_ms),
            manifest.sites.to_string(),
            manifest.records.to_string(),
            manifest.bytes.to_string(),
        ]);
    }
    crate::say(&format!("{}\n", table.trim_fmt()))
}

fn verify(asked: &BackupVerify) -> Result<ExitCode, Failure> {
    let Backups { whole: all, unreadable } = found(&asked.dir)?;
    if all.is_empty() && unreadable.is_empty() {
        return Err(Failure::new(format!("no backup is in {}", asked.dir.display())));
    }
    let mut bad = unreadable.len();
    for name in &unreadable {
        crate::say(&format!("{name} IS NOT: its manifest cannot be read\n"))?;
    }
    for backup in &all {
        match backup::verify(&asked.dir, backup) {
            Ok(()) => crate::say(&format!("{} is whole: {}\n", backup.name, contents(backup)))?,
            Err(error) => {
                bad += 1;
                crate::say(&format!("{} IS NOT: {}\n", backup.name, link::logging::whole_story(&error)))?
            }
        };
    }
    match bad {
        0 => Ok(ExitCode::SUCCESS),
        _ => Err(Failure::new(format!("{bad} of {} backups cannot be put back", all.len() + unreadable.len()))),
    }
}

/// Puts the newest backup back, or the newest that was taken by a time.
pub(crate) fn restore(asked: &Restore) -> Result<ExitCode, Failure> {
    let gateway = with_a_file(&asked.config)?;
    let Backups { whole: all, unreadable } = found(&asked.from)?;
    let is_meant = |backup: &&Backup| asked.to.as_ref().is_none_or(|to| date(backup.manifest.taken_ms) <= *to);
    let chosen = all.iter().rfind(is_meant);
    let Some(chosen) = chosen else {
        let until = asked.to.as_ref().map(|to| format!(" of {to} or before")).unwrap_or_default();
        return Err(Failure::new(format!("no backup{until} is in {}", asked.from.display()))
            .remedy("`roadstead backup list` shows which there are"));
    };
    let aside = format!("before-{}", name(now()));
    let kept = backup::restore(&gateway.data_dir, &asked.from, chosen, &aside);
    write_down(
        &gateway,
        "backup.restore",
        &asked.from,
        kept.as_ref().map(|_| format!("{}: {}", chosen.name, contents(chosen))),
    )?;
    let kept = kept.map_err(|error| failed("nothing is restored", error))?;
    let mut told = format!("{} is in place: {}\n", chosen.name, contents(chosen));
    if let Some(kept) = kept {
        told.push_str(&format!("what was there is kept as {}\n", kept.display()));
    }
    for name in &unreadable {
        told.push_str(&format!("{name} was left out: its manifest cannot be read\n"));
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

fn found(dir: &Path) -> Result<Backups, Failure> {
    backup::list(dir).map_err(|error| failed("there are no backups", error))
}

fn failed(what: &str, error: BackupError) -> Failure {
    let remedy = match &error {
        BackupError::Store(StoreError::Locked { .. }) => Some("stop the gateway first"),
        BackupError::Damaged { .. } => Some("`roadstead backup verify` says which backups are whole"),
        BackupError::File { .. }
        | BackupError::Object { .. }
        | BackupError::Busy { .. }
        | BackupError::WrongKey { .. }
        | BackupError::NoRoom { .. }
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
fn write_down(
    gateway: &GatewayConfig,
    what: &'static str,
    dir: &Path,
    outcome: Result<String, &BackupError>,
) -> Result<(), Failure> {
    let outcome = outcome.map_err(|error| link::logging::whole_story(error).to_string());
    crate::access::note(&gateway.data_dir, what, dir.display().to_string(), &outcome)
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
