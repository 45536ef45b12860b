//! `roadstead journal stats`: counts what a journal holds, and joins what the running board says of it.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use firmware::inspect::tally::{self, ClassLine, Counts, StreamLine, Tally};
use serde_json::{Value, json};

use super::arguments::Stats;
use super::{counted, keys, open, unreadable, whose};
use crate::arguments::Output;
use crate::check::{self, Checked};
use crate::failure::Failure;
use crate::init::BOARD_FILE;
use crate::status::client::Approach;
use crate::status::{client, page_of, plain};

pub(super) fn run(asked: &Stats) -> Result<ExitCode, Failure> {
    let dir = open(&asked.dir)?;
    let mut keys = keys(asked.key.as_deref())?;
    let counted = tally::tally(&dir, keys.as_mut()).map_err(unreadable)?;
    let said = ask(asked, &counted)?;
    match asked.output {
        Output::Table => crate::say(&told(&asked.dir, &counted, &said)),
        Output::Json => {
            let text = super::json(&asked.dir, &counted)?;
            let cannot = |error| Failure::new("the answer cannot be written as JSON").because(error);
            let mut value: Value = serde_json::from_str(&text).map_err(cannot)?;
            value["board"] = said.as_json();
            crate::say(&format!("{value:#}\n"))
        }
    }
}

/// What came of asking the running board.
#[derive(Debug)]
pub(super) enum Said {
    /// Nobody knows where it listens.
    Nobody,
    /// It does not answer, or is another one.
    Silent {
        /// Where it was asked.
        url: String,
        /// What came of it.
        why: String,
    },
    /// Its status.
    Status {
        /// Where it was asked.
        url: String,
        /// All of it.
        status: Value,
        /// Records of the journal that the region covers: those held less those that it lacks.
        covered: Option<u64>,
    },
}

impl Said {
    fn as_json(&self) -> Value {
        match self {
            Self::Nobody => Value::Null,
            Self::Silent { url, why } => json!({ "url": url, "error": why }),
            Self::Status { url, status, covered } => {
                let part = |key: &str| status[key].clone();
                json!({
                    "url": url, "covered": covered, "backlog": part("backlog"), "accepted": part("accepted"),
                    "committed": part("committed"), "degraded_records": part("degraded_records"),
                    "owed": part("owed"), "uncommitted": part("uncommitted"),
                })
            }
        }
    }
}

fn ask(asked: &Stats, counted: &Tally) -> Result<Said, Failure> {
    let given = asked.status.clone().map(|url| (url, Approach::default()));
    let Some((url, approach)) = given.or_else(|| beside(&asked.dir)) else {
        return Ok(Said::Nobody);
    };
    let url = url.trim_end_matches('/').to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("cannot start").because(error))?;
    let within = Duration::from_millis(asked.timeout_ms);
    let answer = runtime.block_on(client::get_as(&approach, &url, "/status", within));
    let status = answer.and_then(|body| Ok(serde_json::from_slice::<Value>(&body)?));
    Ok(match status {
        Ok(status) => joined(url, status, counted),
        Err(why) => Said::Silent { url, why: why.to_string() },
    })
}

/// Where the board whose configuration stands beside `dir` listens, where it is the board of this very directory.
fn beside(dir: &Path) -> Option<(String, Approach)> {
    let dir = fs::canonicalize(dir).ok()?;
    let Ok(Checked::Board(config)) = check::load(&dir.parent()?.join(BOARD_FILE)) else {
        return None;
    };
    if fs::canonicalize(&config.data_dir).ok()? != dir {
        return None;
    }
    page_of(&config).ok()
}

/// What a status says of the journal that was counted, if it is of that journal's board.
pub(super) fn joined(url: String, status: Value, counted: &Tally) -> Said {
    let owner = counted.state.owner.as_ref();
    let is_owner = owner.is_none_or(|owner| {
        status["board"].as_u64() == Some(owner.board.into()) && status["site"].as_str() == Some(owner.site.as_str())
    });
    if !is_owner {
        let who = format!("board-{} of site {}", status["board"], status["site"].as_str().unwrap_or("?"));
        return Said::Silent { url, why: format!("it is {who}, whose directory this is not") };
    }
    let held: u64 = counted.streams.iter().map(|line| line.counts.records).sum();
    // The journal grows between the count and the question.
    let covered = status["backlog"].as_u64().map(|backlog| held.saturating_sub(backlog));
    Said::Status { url, status, covered }
}

const COLUMNS: [&str; 9] =
    ["records", "written", "bytes", "blocks", "segments", "gap records", "shed", "lost", "ranges"];

/// The counts for people.
pub(super) fn told(dir: &Path, tally: &Tally, said: &Said) -> String {
    let mut text = whose(dir, &tally.state, tally.in_use);
    let mut put = |line: String| text.write_str(&line).expect("a String takes every character");
    put(format!(
        "{}, {} without a block; {} of {} bytes used ({:.1} %)\n",
        counted(tally.segments, "segment"),
        tally.empty_segments,
        tally.used_bytes,
        tally.file_bytes,
        tally.fill * 100.0
    ));
    let ratio = tally
        .used_per_record_byte
        .map(|ratio| format!(", {ratio:.2} bytes on disk for each byte of records"));
    put(format!(
        "{}: {} of payload, {} of records{}\n",
        counted(tally.blocks, "block"),
        counted(tally.payload_bytes, "byte"),
        counted(tally.record_bytes, "byte"),
        ratio.unwrap_or_default()
    ));
    for (count, what) in [
        (tally.gone, "segments went away meanwhile and are not counted"),
        (tally.holes, "places are damaged: see `roadstead journal verify`"),
        (tally.sealed_blocks, "blocks are encrypted, their records not counted: give --key"),
        (tally.unread_blocks, "blocks hold no records: see `roadstead journal verify`"),
        (tally.unlisted, "streams more are not listed"),
    ] {
        if count > 0 {
            put(format!("{count} {what}\n"));
        }
    }
    put(format!("{}\n", board(said)));
    let mut classes = plain(
        &["class", "streams"]
            .into_iter()
            .chain(COLUMNS[..8].iter().copied())
            .collect::<Vec<_>>(),
    );
    for ClassLine { class, streams, counts } in &tally.classes {
        let head = [(*class).to_owned(), streams.to_string()];
        classes.add_row(head.into_iter().chain(numbers(counts)).collect::<Vec<_>>());
    }
    put(format!("\n{}\n", classes.trim_fmt()));
    let mut streams = plain(&["stream", "", "first", "last"].into_iter().chain(COLUMNS).collect::<Vec<_>>());
    for line in &tally.streams {
        let StreamLine { stream, own, first, last, ranges, counts } = line;
        let name = format!("board-{}/{}.{:016x}/{}", stream.board, stream.boot, stream.nonce, stream.class);
        let whose = if *own { "own" } else { "copy" };
        let head = [name, whose.to_owned(), first.to_string(), last.to_string()];
        streams.add_row(
            head.into_iter()
                .chain(numbers(counts))
                .chain([ranges.to_string()])
                .collect::<Vec<_>>(),
        );
    }
    if !tally.streams.is_empty() {
        put(format!("\n{}\n", streams.trim_fmt()));
    }
    text
}

fn numbers(counts: &Counts) -> [String; 8] {
    let Counts { records, written, bytes, blocks, segments, gap_records, shed, lost } = counts;
    [records, written, bytes, blocks, segments, gap_records, shed, lost].map(u64::to_string)
}

/// What the running board says, in words.
fn board(said: &Said) -> String {
    match said {
        Said::Nobody => "what is committed and covered only the running board knows: give --status".to_owned(),
        Said::Silent { url, why } => {
            format!("what is committed and covered only the running board knows; at {url}: {why}")
        }
        Said::Status { status, covered, .. } => {
            let number = |key: &str| status[key].as_u64().map_or("?".to_owned(), |number| number.to_string());
            format!(
                "the running board says: {} accepted and {} committed since its start ({} on fewer boards than wanted, {} \
                 copies owed), {} waiting; of what is here the region covers {}, and lacks {}",
                number("accepted"),
                number("committed"),
                number("degraded_records"),
                number("owed"),
                number("uncommitted"),
                covered.map_or("?".to_owned(), |covered| covered.to_string()),
                number("backlog"),
            )
        }
    }
}
