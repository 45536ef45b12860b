//! `roadstead backup` and `roadstead restore`: copies of a gateway's store. Owns the words, and which backup is meant by a time;
//! the copying is in `gateway::store::backup`.

use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use gateway::config::GatewayConfig;
use gateway::store::StoreError;
use gateway::store::backup::{self, Backup, BackupError};
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
    let gateway = gateway(&asked.config)?;
    let now = now();
    let taken =
        backup::take(&gateway.data_dir, &asked.to, &name(now), now).map_err(|error| failed("no backup", error))?;
    let mut told = format!("{} taken: {}\n", taken.name, contents(&taken));
    if let Some(keep) = asked.keep {
        for gone in backup::prune(&asked.to, keep.into()).map_err(|error| failed("old backups stay", error))? {
            told.push_str(&format!("{gone} removed\n"));
        }
    }
    crate::say(&told)
}

fn list(asked: &BackupList) -> Result<ExitCode, Failure> {
    let all = found(&asked.dir)?;
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
    let all = found(&asked.dir)?;
    if all.is_empty() {
        return Err(Failure::new(format!("no backup is in {}", asked.dir.display())));
    }
    let mut bad = 0_usize;
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
        _ => Err(Failure::new(format!("{bad} of {} backups cannot be put back", all.len()))),
    }
}

/// Puts the newest backup back, or the newest that was taken by a time.
pub(crate) fn restore(asked: &Restore) -> Result<ExitCode, Failure> {
    let gateway = gateway(&asked.config)?;
    let all = found(&asked.from)?;
    let limit = asked.to.as_deref().unwrap_or(LAST);
    let chosen = all
        .iter()
        .rfind(|backup| date(backup.manifest.taken_ms).get(..SECONDS) <= limit.get(..SECONDS));
    let Some(chosen) = chosen else {
        let until = asked.to.as_ref().map(|to| format!(" of {to} or before")).unwrap_or_default();
        return Err(Failure::new(format!("no backup{until} is in {}", asked.from.display()))
            .remedy("`roadstead backup list` shows which there are"));
    };
    let aside = format!("before-{}", name(now()));
    let kept = backup::restore(&gateway.data_dir, &asked.from, chosen, &aside)
        .map_err(|error| failed("nothing is restored", error))?;
    let mut told = format!("{} is in place: {}\n", chosen.name, contents(chosen));
    if let Some(kept) = kept {
        told.push_str(&format!("what was there is kept as {}\n", kept.display()));
    }
    told.push_str("start the gateway: its sites send again what they still hold\n");
    crate::say(&told)
}

/// Length of a date and time to the second.
const SECONDS: usize = "2026-03-01T08:00:00".len();
/// After any other.
const LAST: &str = "9999-12-31T23:59:59Z";

/// A time that backups are compared with: RFC 3339 in UTC, such as 2026-03-01T08:00:00Z.
pub(crate) fn check_time(text: &str) -> Result<String, String> {
    let is_shaped = |(at, c): (usize, char)| match at {
        4 | 7 => c == '-',
        10 => c == 'T',
        13 | 16 => c == ':',
        _ => c.is_ascii_digit(),
    };
    let seconds = text.get(..SECONDS).unwrap_or_default();
    let rest = text.get(SECONDS..).unwrap_or_default().strip_suffix('Z');
    let is_fraction =
        |rest: &str| rest.is_empty() || rest.strip_prefix('.').is_some_and(|of| of.bytes().all(|b| b.is_ascii_digit()));
    if !seconds.is_empty() && seconds.char_indices().all(is_shaped) && rest.is_some_and(is_fraction) {
        Ok(text.to_owned())
    } else {
        Err("give it in UTC, such as 2026-03-01T08:00:00Z".to_owned())
    }
}

fn gateway(config: &Path) -> Result<GatewayConfig, Failure> {
    match check::load(config)? {
        Checked::Gateway(gateway) => Ok(gateway),
        Checked::Board(_) | Checked::Witness(_) => {
            Err(Failure::new(format!("{} is no gateway's", config.display())).remedy("give a gateway's"))
        }
    }
}

fn found(dir: &Path) -> Result<Vec<Backup>, Failure> {
    backup::list(dir).map_err(|error| failed("there are no backups", error))
}

fn failed(what: &str, error: BackupError) -> Failure {
    let remedy = match &error {
        BackupError::Store(StoreError::Locked { .. }) => Some("stop the gateway first"),
        BackupError::Damaged { .. } => Some("`roadstead backup verify` says which backups are whole"),
        BackupError::File { .. } | BackupError::Busy { .. } | BackupError::Store(_) => None,
    };
    let failure = Failure::new(what).because(error);
    match remedy {
        Some(remedy) => failure.remedy(remedy),
        None => failure,
    }
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
        for good in ["2026-03-01T08:00:00Z", "2026-03-01T08:00:00.25Z"] {
            assert_eq!(check_time(good), Ok(good.to_owned()));
        }
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
