//! What a run came to, and all of them together.

use serde::Serialize;

use crate::bench::arguments::Gateway;
use crate::bench::figures::{hundredth, median};
use crate::demo::screen::grouped;

/// One run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Run {
    pub(super) seconds: f64,
    /// Of this process, which is the gateway's part.
    pub(super) gateway_cpu_s: f64,
    /// Of all processes of a server of our own.
    pub(super) database_cpu_s: Option<f64>,
    /// What the store's tables and indexes have grown by.
    pub(super) disk_bytes: u64,
}

/// One run, as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Told {
    seconds: f64,
    records_per_s: f64,
    records_per_cpu_s: Option<f64>,
    gateway_cpu_s: f64,
    database_cpu_s: Option<f64>,
    disk_bytes_per_record: f64,
}

/// All runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Figures {
    store: String,
    keys: String,
    records: u64,
    block_records: u32,
    transaction_blocks: u32,
    payload_bytes: u32,
    records_per_s: f64,
    records_per_s_min: f64,
    records_per_s_max: f64,
    records_per_cpu_s: Option<f64>,
    gateway_cpu_s: f64,
    database_cpu_s: Option<f64>,
    disk_bytes_per_record: f64,
    runs: Vec<Told>,
}

impl Figures {
    pub(super) fn of(asked: &Gateway, runs: Vec<Run>) -> Self {
        let told: Vec<Told> = runs.iter().map(|run| tell(run, asked)).collect();
        let middle = |figure: fn(&Told) -> f64| hundredth(median(told.iter().map(figure)));
        // Known of all runs or of none.
        let known = |figure: fn(&Told) -> Option<f64>| {
            let values: Option<Vec<f64>> = told.iter().map(figure).collect();
            values.map(|values| hundredth(median(values)))
        };
        let speeds = || told.iter().map(|run| run.records_per_s);
        Self {
            store: asked.store.to_string(),
            keys: asked.keys.to_string(),
            records: asked.records,
            block_records: asked.block_records,
            transaction_blocks: asked.transaction_blocks,
            payload_bytes: asked.payload,
            records_per_s: middle(|run| run.records_per_s),
            records_per_s_min: speeds().reduce(f64::min).unwrap_or(0.0),
            records_per_s_max: speeds().reduce(f64::max).unwrap_or(0.0),
            records_per_cpu_s: known(|run| run.records_per_cpu_s),
            gateway_cpu_s: middle(|run| run.gateway_cpu_s),
            database_cpu_s: known(|run| run.database_cpu_s),
            disk_bytes_per_record: middle(|run| run.disk_bytes_per_record),
            runs: told,
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let whole = |value: f64| grouped(value.round() as u64);
        let mut text = format!(
            "{}, {} keys: {} records/s ({} to {} in {} runs)\n",
            self.store,
            self.keys,
            whole(self.records_per_s),
            whole(self.records_per_s_min),
            whole(self.records_per_s_max),
            self.runs.len()
        );
        if let Some(speed) = self.records_per_cpu_s {
            text.push_str(&format!("{} records a second of CPU time, ", whole(speed)));
        }
        text.push_str(&format!("CPU of the gateway {:.2} s", self.gateway_cpu_s));
        if let Some(database) = self.database_cpu_s {
            text.push_str(&format!(", of the database {database:.2} s"));
        }
        text.push_str(&format!("\n{:.0} bytes on disk a record\n", self.disk_bytes_per_record));
        text
    }
}

fn tell(run: &Run, asked: &Gateway) -> Told {
    let records = asked.records as f64;
    // A database elsewhere uses what nobody here sees: then there is no figure, and not too good a one.
    let cpu = match (run.database_cpu_s, &asked.url) {
        (Some(database), _) => Some(run.gateway_cpu_s + database),
        (None, None) => Some(run.gateway_cpu_s),
        (None, Some(_)) => None,
    };
    Told {
        seconds: run.seconds,
        records_per_s: hundredth(records / run.seconds.max(f64::MIN_POSITIVE)),
        records_per_cpu_s: cpu.map(|cpu| hundredth(records / cpu.max(0.01))),
        gateway_cpu_s: hundredth(run.gateway_cpu_s),
        database_cpu_s: run.database_cpu_s.map(hundredth),
        disk_bytes_per_record: hundredth(run.disk_bytes as f64 / records),
    }
}
