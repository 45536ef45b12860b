//! `roadstead drill`: disasters on purpose, on this machine, with a report. Owns the course of a drill; what it shows is
//! judged by a fresh read of the store.

pub mod arguments;
mod copies;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use gateway::store::FILE;
use gateway::store::read::{SqliteReader, StoreReader as _};
use serde::Serialize;
use tokio::task::JoinSet;

use self::arguments::{DrillCommand, RestoreDrill};
use self::copies::Copies;
use crate::bench::feed::{self, feed};
use crate::demo::relay::Relay;
use crate::demo::screen::grouped;
use crate::demo::site::{Home, Site};
use crate::demo::until_interrupted;
use crate::failure::Failure;
use crate::files;

/// Boards.
const BOARDS: u8 = 3;
/// What is acknowledged is in the store after so long, or something is wrong.
const STORED_MAX: Duration = Duration::from_secs(300);
/// Between two looks at the store.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// As a shell says of a process that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;

/// Runs a drill.
pub(crate) fn run(asked: &DrillCommand) -> Result<ExitCode, Failure> {
    match asked {
        DrillCommand::Restore(asked) => until_interrupted(restore(asked), || ExitCode::from(INTERRUPTED)),
    }
}

/// What a restored region was like.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Report {
    /// Readings acknowledged.
    records: u64,
    /// Of these, in the backup.
    in_backup: u64,
    /// Bytes that the first backup wrote.
    first_bytes: u64,
    /// Bytes that the second one wrote, a fiftieth of the readings later.
    second_bytes: u64,
    /// Putting the backup together and checking it, in seconds.
    verify_backup_s: f64,
    /// Fetching and checking the backup and putting it back, in seconds.
    put_back_s: f64,
    /// From the loss of the store until everything was in it again, in seconds.
    restore_s: f64,
    /// Reading all of it afresh, in seconds.
    verify_s: f64,
    /// Acknowledged and not in the store.
    missing: u64,
    /// Rows beyond the first of each reading, and rows of nobody.
    duplicated: u64,
}

impl Report {
    fn write(&self, path: Option<&Path>) -> Result<(), Failure> {
        let Some(path) = path else { return Ok(()) };
        let text = serde_json::to_string(self)
            .map_err(|error| Failure::new(format!("cannot write {}", path.display())).because(error))?;
        files::write(path, format!("{text}\n").as_bytes(), files::Readers::All)
    }

    const fn passes(&self) -> bool {
        self.missing == 0 && self.duplicated == 0
    }

    fn text(&self) -> String {
        let rows = [
            ("acknowledged", grouped(self.records), "readings, all of them stored before the loss"),
            ("in the backup", grouped(self.in_backup), "of these; the others were stored after it was taken"),
            ("first backup", mib(self.first_bytes), "written"),
            ("second backup", mib(self.second_bytes), "written, a fiftieth of the readings later"),
            (
                "verified",
                format!("{:.1} s", self.verify_backup_s),
                "the second one put together elsewhere and checked",
            ),
            ("put back", format!("{:.1} s", self.put_back_s), "the same fetched, checked and put in place"),
            (
                "whole again",
                format!("{:.1} s", self.restore_s),
                "from the loss until every reading was stored again",
            ),
            ("read afresh", format!("{:.1} s", self.verify_s), "every row of the store"),
            ("missing", grouped(self.missing), "acknowledged, but not stored"),
            ("duplicated", grouped(self.duplicated), "stored more than once, or by nobody"),
        ];
        let mut text = String::from("\n");
        for (what, figure, meaning) in rows {
            text.push_str(&format!("  {what:<14} {figure:>12}   {meaning}\n"));
        }
        text.push_str(if self.passes() {
            "\nPASS: the region has everything again, once.\n"
        } else {
            "\nFAIL: missing and duplicated must be 0.\n"
        });
        text
    }
}

async fn restore(asked: &RestoreDrill) -> Result<ExitCode, Failure> {
    let home = Home::temporary("drill")?;
    let copies = Copies::new(home.path().join("backups"), asked.plain)?;
    let mut site = Site::make(home, BOARDS, true)?;
    let _relay = Relay::start(site.uplink(), site.plan().gateway.quic).await?;
    site.start_all()?;
    site.ready().await?;
    let half = asked.records / 2;
    let early = half - asked.records / 50;
    eprintln!("{BOARDS} boards and a gateway run; {} readings of {} bytes", grouped(half), feed::READING_BYTES);
    let data = site.gateway_data();
    publish(&site, 0, early).await?;
    stored(&mut site, early).await?;
    let first_bytes = copies.take(&data, "drill-1", 0)?;
    publish(&site, early, half).await?;
    stored(&mut site, half).await?;
    let second_bytes = copies.take(&data, "drill-2", 1)?;
    eprintln!("two backups are taken; {} more readings", grouped(asked.records - half));
    publish(&site, half, asked.records).await?;
    stored(&mut site, asked.records).await?;

    site.kill_gateway();
    let lost = Instant::now();
    lose(&data)?;
    eprintln!("the gateway is killed and its store is gone");
    copies.verify()?;
    let verify_backup_s = lost.elapsed().as_secs_f64();
    copies.restore(&data)?;
    let put_back_s = lost.elapsed().as_secs_f64() - verify_backup_s;
    site.start_gateway()?;
    eprintln!(
        "the backup is verified after {verify_backup_s:.1} s, and {put_back_s:.1} s later in place; the boards send again what it lacks"
    );
    let came = stored(&mut site, asked.records).await;
    let restore_s = lost.elapsed().as_secs_f64();
    if let Err(failure) = came {
        eprintln!("{failure}");
    }
    let began = Instant::now();
    let (missing, duplicated) = judge(&site, asked.records)?;
    let verify_s = began.elapsed().as_secs_f64();
    let report = Report {
        records: asked.records,
        in_backup: half,
        first_bytes,
        second_bytes,
        verify_backup_s,
        put_back_s,
        restore_s,
        verify_s,
        missing,
        duplicated,
    };
    report.write(asked.json.as_deref())?;
    crate::say(&report.text())?;
    Ok(if report.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Publishes the readings with these numbers, a share to each board, and returns when all are acknowledged.
async fn publish(site: &Site, first: u64, end: u64) -> Result<(), Failure> {
    let cannot = |error| Failure::new("publishing failed").because(error);
    let mut publishing = JoinSet::new();
    let share = (end - first).div_ceil(u64::from(BOARDS));
    for (sensor, board) in (0..BOARDS).zip(&site.plan().boards) {
        let from = (first + u64::from(sensor) * share).min(end);
        publishing.spawn(feed(board.mqtt, sensor, from..(from + share).min(end)));
    }
    while let Some(done) = publishing.join_next().await {
        done.map_err(std::io::Error::other).flatten().map_err(cannot)?;
    }
    Ok(())
}

/// Waits until the store has so many rows.
async fn stored(site: &mut Site, rows: u64) -> Result<(), Failure> {
    let (data, name) = (site.gateway_data(), site.plan().site.clone());
    let begun = Instant::now();
    let mut there = 0;
    while begun.elapsed() < STORED_MAX {
        site.check()?;
        let counted = SqliteReader::open(&data).and_then(|store| store.counts(&name));
        there = counted.map_or(0, |counts| counts.sum(|stream| stream.rows));
        if there >= rows {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let seconds = STORED_MAX.as_secs();
    Err(Failure::new(format!(
        "{} of {} readings are stored after {seconds} s",
        grouped(there),
        grouped(rows)
    )))
}

/// The disk is gone, and what the gateway kept on it.
fn lose(data: &Path) -> Result<(), Failure> {
    let cannot = |error| Failure::new(format!("cannot remove the store in {}", data.display())).because(error);
    for entry in fs::read_dir(data).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        if entry.file_name().to_string_lossy().starts_with(FILE) {
            fs::remove_file(entry.path()).map_err(cannot)?;
        }
    }
    Ok(())
}

/// How many readings are not in the store, and how many rows are too many.
fn judge(site: &Site, records: u64) -> Result<(u64, u64), Failure> {
    let data = site.gateway_data();
    let cannot = |error| Failure::new(format!("cannot read the region's store in {}", data.display())).because(error);
    let mut seen = vec![false; usize::try_from(records).unwrap_or(usize::MAX)];
    let mut duplicated = 0;
    let store = SqliteReader::open(&data).map_err(cannot)?;
    let mut each = |row: gateway::store::read::Row<'_>| {
        let number = feed::number(row.payload).and_then(|number| usize::try_from(number).ok());
        match number.and_then(|number| seen.get_mut(number)) {
            Some(seen) if !*seen => *seen = true,
            Some(_) | None => duplicated += 1,
        }
    };
    store.rows(&site.plan().site, &mut each).map_err(cannot)?;
    let missing = seen.iter().filter(|seen| !**seen).count() as u64;
    Ok((missing, duplicated))
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_passes_only_where_nothing_is_missing_and_nothing_twice() {
        let report = Report { records: 1_000_000, in_backup: 500_000, ..Report::default() };
        assert!(report.passes() && report.text().contains("PASS") && report.text().contains("1,000,000"));
        for bad in [Report { missing: 1, ..report.clone() }, Report { duplicated: 1, ..report }] {
            assert!(!bad.passes() && bad.text().contains("FAIL"));
        }
    }
}
