//! Trials as figures: percentiles, a table for people, JSON for programs. Measures nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

/// What one trial gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trial {
    /// From the fault to the next holder.
    pub(super) takeover: Duration,
    /// For how long nobody acted, where that is known.
    pub(super) gap: Option<Duration>,
    /// Beats that should not have been sent.
    pub(super) overlaps: usize,
}

/// The figures of one case.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Case {
    /// Half of the takeovers are no longer, in milliseconds.
    pub(super) p50_ms: f64,
    /// 99 of 100 are no longer; with fewer than 100 trials the longest.
    pub(super) p99_ms: f64,
    /// The longest.
    pub(super) max_ms: f64,
    /// Trials in which two acted at once, where that was watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) overlaps: Option<usize>,
    /// Trials that counted.
    pub(super) trials: usize,
    /// The shortest takeover.
    pub(super) min_ms: f64,
    /// A quarter is no longer.
    pub(super) p25_ms: f64,
    /// Three quarters are no longer.
    pub(super) p75_ms: f64,
    /// Half of the times in which nobody acted are no longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gap_p50_ms: Option<f64>,
    /// 99 of 100 are no longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gap_p99_ms: Option<f64>,
    /// What these figures stand for, where they are not what their name says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
    /// The clockwork in force.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) timing: String,
}

/// The figures of a rival: its cable pulled, and, beside it, its process killed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Rival {
    /// As [`Case`], of the cable.
    #[serde(flatten)]
    pub(super) board_gone: Case,
    /// As [`Case`], of SIGKILL to the process that leads.
    pub(super) process_killed: Case,
}

/// Everything measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Figures {
    /// Ours, by case.
    pub(super) cases: BTreeMap<String, Case>,
    /// Others, by name.
    pub(super) rivals: BTreeMap<String, Rival>,
}

impl Case {
    /// The figures of `trials`.
    pub(super) fn of(trials: &[Trial], note: Option<String>, timing: String) -> Self {
        let mut took: Vec<Duration> = trials.iter().map(|trial| trial.takeover).collect();
        let mut gaps: Vec<Duration> = trials.iter().filter_map(|trial| trial.gap).collect();
        took.sort_unstable();
        gaps.sort_unstable();
        Self {
            p50_ms: rank(&took, 50),
            p99_ms: rank(&took, 99),
            max_ms: rank(&took, 100),
            overlaps: Some(trials.iter().filter(|trial| trial.overlaps > 0).count()),
            trials: trials.len(),
            min_ms: rank(&took, 0),
            p25_ms: rank(&took, 25),
            p75_ms: rank(&took, 75),
            gap_p50_ms: (!gaps.is_empty()).then(|| rank(&gaps, 50)),
            gap_p99_ms: (!gaps.is_empty()).then(|| rank(&gaps, 99)),
            note,
            timing,
        }
    }

    fn row(&self, name: &str, whose: &str) -> [String; 9] {
        let ms = |value: f64| format!("{value:.1}");
        let gap = self.gap_p50_ms.map_or_else(|| "-".to_owned(), ms);
        [
            name.to_owned(),
            whose.to_owned(),
            self.trials.to_string(),
            ms(self.p50_ms),
            ms(self.p99_ms),
            ms(self.max_ms),
            format!("{:.1} {:.1} {:.1}", self.min_ms, self.p25_ms, self.p75_ms),
            gap,
            self.overlaps.map_or_else(|| "-".to_owned(), |overlaps| overlaps.to_string()),
        ]
    }
}

/// The duration that `percent` of a hundred in `sorted` are not above, in milliseconds to a hundredth; 0 of none.
fn rank(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    let took = sorted.get(rank - 1).copied().unwrap_or_default();
    (took.as_secs_f64() * 100_000.0).round() / 100.0
}

impl Figures {
    /// The table, with what was in force below it.
    pub(super) fn table(&self) -> String {
        let mut table = Table::new();
        let header =
            ["case", "whose", "trials", "p50 ms", "p99 ms", "max ms", "min, quartiles", "nobody p50", "overlaps"];
        table.load_style(presets::NOTHING).set_header(header);
        for (name, case) in &self.cases {
            table.add_row(case.row(name, "roadstead"));
        }
        for (name, rival) in &self.rivals {
            table.add_row(rival.board_gone.row("board gone", name));
            table.add_row(rival.process_killed.row("process killed", name));
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = format!("{}\n\n", table.trim_fmt());
        for (name, case) in &self.cases {
            text.push_str(&format!("{name}: {}\n", case.timing));
            if let Some(note) = &case.note {
                text.push_str(&format!("{name}: NOTE: {note}\n"));
            }
        }
        for (name, rival) in &self.rivals {
            text.push_str(&format!("{name}: {}\n", rival.board_gone.timing));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trials(milliseconds: impl Iterator<Item = u64>) -> Vec<Trial> {
        milliseconds
            .map(|ms| Trial { takeover: Duration::from_millis(ms), gap: None, overlaps: usize::from(ms == 7) })
            .collect()
    }

    #[test]
    fn percentiles_at_their_ranks() {
        let case = Case::of(&trials(1..=200), None, String::new());
        assert_eq!([case.min_ms, case.p50_ms, case.p99_ms, case.max_ms], [1.0, 100.0, 198.0, 200.0]);
        assert_eq!((case.overlaps, case.trials), (Some(1), 200));
        let few = Case::of(&trials(1..=50), None, String::new());
        assert_eq!(few.p99_ms, 50.0, "with fewer than a hundred it is the longest");
    }

    #[test]
    fn the_json_has_these_members() {
        let mut figures = Figures::default();
        let case = Case::of(&trials([7].into_iter()), None, "lease_ms = 200".to_owned());
        figures.cases.insert("process_crash".to_owned(), case.clone());
        let rival = Rival { board_gone: case.clone(), process_killed: case };
        figures.rivals.insert("etcd".to_owned(), rival);
        let json = serde_json::to_value(&figures).unwrap();
        for key in ["p50_ms", "p99_ms", "max_ms"] {
            assert_eq!(json["cases"]["process_crash"][key], 7.0, "{key}");
            assert_eq!(json["rivals"]["etcd"][key], 7.0, "{key}");
        }
        assert_eq!(
            (&json["cases"]["process_crash"]["overlaps"], &json["cases"]["process_crash"]["trials"]),
            (&1.into(), &1.into())
        );
        assert!(figures.table().contains("process_crash: lease_ms = 200"));
    }
}
