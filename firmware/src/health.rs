//! How the board's machine is, once a second: busy processors, memory, heat, and how late this process is woken. Owns the
//! reading and the judging of it; what a level means for leadership is the node's to say.
//!
//! ```text
//!  level  processors  memory free  below the critical heat  woken late by
//!  3      otherwise
//!  2      > 95 %      < 15 %       < 15 K                   > 20 ms
//!  1                  < 7 %        < 8 K                    > 50 ms
//!  0                  < 3 %        < 3 K                    > 200 ms
//! ```
//!
//! Memory: the kernel begins to reclaim hard near its low watermark, a few percent (Documentation/admin-guide/sysctl/vm.rst).
//! Heat: governors throttle some 10 K below the critical trip (Documentation/driver-api/thermal). Lateness: 200 ms is a whole
//! default lease. A worse level counts at once, a better one once it has lasted for [`BETTER_AFTER`].

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use shared::action::Health;
use tokio::sync::mpsc;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// A machine counts as better once it has been so for as long, so that one on the edge does not change its mind.
const BETTER_AFTER: Duration = Duration::from_secs(10);
/// Where a machine does not say at which heat it stops: below what the boards of `boards/` name.
const CRITICAL_MILLIKELVIN: i64 = 100_000;
/// Thermal zones looked at: a system on chip has a dozen.
const ZONES_MAX: usize = 32;

/// One look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Look {
    busy_permille: u16,
    memory_permille: Option<u16>,
    /// Below the critical heat, in thousandths of a kelvin.
    margin: Option<i64>,
    late: Duration,
}

impl Look {
    fn level(&self) -> u8 {
        let memory = self.memory_permille.unwrap_or(1000);
        let margin = self.margin.unwrap_or(i64::MAX);
        let late = |millis| self.late > Duration::from_millis(millis);
        if memory < 30 || margin < 3_000 || late(200) {
            0
        } else if memory < 70 || margin < 8_000 || late(50) {
            1
        } else if self.busy_permille > 950 || memory < 150 || margin < 15_000 || late(20) {
            2
        } else {
            3
        }
    }
}

/// The level told, with its hysteresis.
#[derive(Debug)]
struct Level {
    told: u8,
    better_since: Option<Instant>,
}

impl Level {
    const fn new() -> Self {
        Self { told: 3, better_since: None }
    }

    fn handle(&mut self, level: u8, now: Instant) -> u8 {
        if level > self.told {
            let since = *self.better_since.get_or_insert(now);
            if now.duration_since(since) >= BETTER_AFTER {
                self.told += 1;
                self.better_since = None;
            }
        } else {
            self.told = level;
            self.better_since = None;
        }
        self.told
    }
}

/// Looks once a second for as long as somebody listens.
pub(crate) async fn watch(told: mpsc::Sender<Health>) {
    let (mut ticks, mut level) = (Ticks::read(), Level::new());
    loop {
        let due = Instant::now() + PERIOD;
        tokio::time::sleep_until(due.into()).await;
        let late = due.elapsed();
        // A sensor behind a slow bus answers late, and the thread that is judged here is the node's.
        let read = tokio::task::spawn_blocking(|| (Ticks::read(), memory(), heat_margin()));
        let Ok((now, memory_permille, margin)) = read.await else { return };
        let look = Look { busy_permille: busy(ticks, now), memory_permille, margin, late };
        ticks = now;
        let health = Health {
            level: level.handle(look.level(), Instant::now()),
            load_permille: look.busy_permille,
            lateness_micros: u32::try_from(late.as_micros()).unwrap_or(u32::MAX),
        };
        if told.send(health).await.is_err() {
            return;
        }
    }
}

/// Time of all processors since the machine started, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ticks {
    all: u64,
    idle: u64,
}

impl Ticks {
    fn read() -> Self {
        fs::read_to_string("/proc/stat").map_or(Self::default(), |text| Self::parse(&text))
    }

    /// The first line of `/proc/stat` (proc(5)): idle and iowait are its fourth and fifth number.
    fn parse(text: &str) -> Self {
        let line = text.lines().next().and_then(|line| line.strip_prefix("cpu ")).unwrap_or("");
        let numbers = line.split_whitespace().map_while(|word| word.parse::<u64>().ok());
        numbers.take(8).enumerate().fold(Self::default(), |ticks, (at, number)| Self {
            all: ticks.all.saturating_add(number),
            idle: ticks.idle.saturating_add(if at == 3 || at == 4 { number } else { 0 }),
        })
    }
}

fn busy(before: Ticks, now: Ticks) -> u16 {
    let all = now.all.saturating_sub(before.all);
    let idle = now.idle.saturating_sub(before.idle).min(all);
    let permille = ((all - idle) * 1000).checked_div(all).unwrap_or(0);
    u16::try_from(permille).unwrap_or(1000)
}

fn memory() -> Option<u16> {
    parse_memory(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_memory(text: &str) -> Option<u16> {
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let (free, all) = (of("MemAvailable:")?, of("MemTotal:")?);
    u16::try_from((free * 1000).checked_div(all)?).ok()
}

/// How far the hottest zone is below the heat at which it stops the machine; `None` where nothing measures it.
fn heat_margin() -> Option<i64> {
    let zones = fs::read_dir("/sys/class/thermal").ok()?.flatten().take(ZONES_MAX);
    let zones = zones.filter(|zone| zone.file_name().to_string_lossy().starts_with("thermal_zone"));
    zones.filter_map(|zone| margin_of(&zone.path())).min()
}

fn margin_of(zone: &Path) -> Option<i64> {
    let read = |name: &str| fs::read_to_string(zone.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<i64>().ok();
    let heat = number("temp")?;
    let critical = (0..8)
        .find(|trip| read(&format!("trip_point_{trip}_type")).is_some_and(|kind| kind.trim() == "critical"))
        .and_then(|trip| number(&format!("trip_point_{trip}_temp")))
        .unwrap_or(CRITICAL_MILLIKELVIN);
    Some(critical - heat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_alone_lowers_the_level_at_its_threshold() {
        let well = Look { memory_permille: Some(500), margin: Some(40_000), ..Look::default() };
        assert_eq!(well.level(), 3);
        for (look, level) in [
            (Look { busy_permille: 951, ..well }, 2),
            (Look { busy_permille: 950, ..well }, 3),
            (Look { memory_permille: Some(149), ..well }, 2),
            (Look { memory_permille: Some(69), ..well }, 1),
            (Look { memory_permille: Some(29), ..well }, 0),
            (Look { margin: Some(14_999), ..well }, 2),
            (Look { margin: Some(7_999), ..well }, 1),
            (Look { margin: Some(2_999), ..well }, 0),
            (Look { late: Duration::from_millis(21), ..well }, 2),
            (Look { late: Duration::from_millis(51), ..well }, 1),
            (Look { late: Duration::from_millis(201), ..well }, 0),
        ] {
            assert_eq!(look.level(), level, "{look:?}");
        }
    }

    #[test]
    fn worse_counts_at_once_and_better_when_it_lasts() {
        let (mut level, start) = (Level::new(), Instant::now());
        assert_eq!(level.handle(0, start), 0);
        assert_eq!(level.handle(3, start), 0);
        assert_eq!(level.handle(3, start + BETTER_AFTER), 1);
        assert_eq!(level.handle(0, start + BETTER_AFTER), 0);
    }

    #[test]
    fn what_the_kernel_says_is_read() {
        let before = Ticks::parse("cpu  10 0 10 70 10 0 0 0 0 0\ncpu0 1 1\n");
        assert_eq!(before, Ticks { all: 100, idle: 80 });
        let now = Ticks::parse("cpu  60 0 10 110 20 0 0 0 0 0\n");
        assert_eq!(busy(before, now), 500);
        assert_eq!(busy(now, now), 0);
        assert_eq!(Ticks::parse("garbage"), Ticks::default());
        assert_eq!(parse_memory("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 250 kB\n"), Some(250));
        assert_eq!(parse_memory("MemTotal: 0 kB\nMemAvailable: 250 kB\n"), None);
    }
}
