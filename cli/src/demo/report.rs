//! The verdict for people and for programs. Owns words; judges nothing.

use std::path::Path;

use super::screen::grouped;
use super::verdict::Verdict;
use crate::failure::Failure;
use crate::files;

/// The verdict as text.
pub(crate) fn text(verdict: &Verdict) -> String {
    let takeover = verdict
        .takeover_ms
        .map_or("none seen".to_owned(), |millis| format!("{} ms", grouped(millis)));
    let drain = verdict
        .drain_s
        .map_or("not finished".to_owned(), |seconds| format!("{seconds:.1} s"));
    let rows = [
        ("sent", grouped(verdict.sent), "readings that publishers handed to a board"),
        ("acknowledged", grouped(verdict.acked), "of these, as the publishers' own clients saw it"),
        ("stored", grouped(verdict.stored), "of these, in a fresh read of the region's store"),
        ("lost", grouped(verdict.lost), "acknowledged, but not stored"),
        ("duplicated", grouped(verdict.duplicated), "stored more than once"),
        ("out of order", grouped(verdict.out_of_order), "stored behind a later reading of their publisher"),
        ("shed", grouped(verdict.shed), "given up by the site, which says so"),
        ("unaccounted", grouped(verdict.unaccounted), "sent, with no known fate; or stored, but never sent"),
        ("takeover", takeover, "from the leader's death until a board led again"),
        ("drain", drain, "from the uplink's return until everything was stored"),
    ];
    let mut text = String::from("\n");
    for (what, figure, meaning) in rows {
        text.push_str(&format!("  {what:<13} {figure:>12}   {meaning}\n"));
    }
    text.push_str(if verdict.passes() {
        "\nPASS: every acknowledged reading is in the region's store, once and in order.\n"
    } else if verdict.acked == 0 {
        "\nFAIL: no reading was acknowledged, so this run shows nothing.\n"
    } else {
        "\nFAIL: lost, duplicated, out of order and unaccounted must all be 0.\n"
    });
    text
}

/// Writes the verdict as JSON.
pub(crate) fn write_json(path: &Path, verdict: &Verdict) -> Result<(), Failure> {
    let text = serde_json::to_string(verdict)
        .map_err(|error| Failure::new(format!("cannot write {}", path.display())).because(error))?;
    files::write(path, format!("{text}\n").as_bytes(), files::Readers::All)
}
