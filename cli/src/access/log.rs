//! `roadstead audit`: shows the log, and says whether it is as it was written.

use std::process::ExitCode;

use gateway::access::audit::{self, AuditError, Outcome, Verdict};
use serde_json::json;

use super::arguments::{AuditCommand, Noted, RollOf};
use crate::arguments::Output;
use crate::backups::gateway;
use crate::failure::Failure;
use crate::status::plain;

/// Does what is asked of the audit log.
pub(crate) fn run(asked: &AuditCommand) -> Result<ExitCode, Failure> {
    match asked {
        AuditCommand::List { roll, limit, output } => list(roll, *limit, *output),
        AuditCommand::Verify { roll, noted, output } => verify(roll, noted.as_ref(), *output),
    }
}

fn list(of: &RollOf, limit: u32, output: Output) -> Result<ExitCode, Failure> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let entries = audit::newest(&gateway(&of.config)?.data_dir, limit).map_err(unread)?;
    if output == Output::Json {
        return crate::say(&format!("{:#}\n", json!(entries)));
    }
    let mut table = plain(&["entry", "when", "who", "from", "what", "outcome", "detail"]);
    for entry in entries {
        let outcome = match entry.outcome {
            Outcome::Ok => "ok",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
        };
        let what = format!("{} {}", entry.what, entry.on);
        table.add_row(vec![
            entry.seq.to_string(),
            entry.at,
            entry.who,
            entry.from,
            what.trim_end().to_owned(),
            outcome.to_owned(),
            entry.detail,
        ]);
    }
    crate::say(&format!("{}\n", table.trim_fmt()))
}

fn verify(of: &RollOf, noted: Option<&Noted>, output: Output) -> Result<ExitCode, Failure> {
    let noted = noted.map(|noted| (noted.seq, noted.digest.as_str()));
    let verdict = audit::verify(&gateway(&of.config)?.data_dir, noted).map_err(unread)?;
    match output {
        Output::Json => crate::say(&format!("{:#}\n", as_json(&verdict)))?,
        Output::Table => crate::say(&in_words(&verdict))?,
    };
    Ok(if verdict.findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn as_json(verdict: &Verdict) -> serde_json::Value {
    let findings = verdict.findings.iter();
    let findings: Vec<_> = findings
        .map(|finding| json!({ "file": finding.file, "line": finding.line, "what": finding.what }))
        .collect();
    json!({
        "entries": verdict.entries,
        "first": verdict.first,
        "last": verdict.last,
        "digest": verdict.digest,
        "findings": findings,
    })
}

fn in_words(verdict: &Verdict) -> String {
    let Verdict { entries, first, last, digest, findings } = verdict;
    if *entries == 0 && findings.is_empty() {
        return "the log is empty\n".to_owned();
    }
    let mut text = String::new();
    for finding in findings {
        text.push_str(&format!("{}:{}: {}\n", finding.file, finding.line, finding.what));
    }
    let is = if findings.is_empty() { "is" } else { "IS NOT" };
    text.push_str(&format!(
        "the log {is} as it was written: {entries} entries, {first} to {last}\nto be noted elsewhere: {last}:{digest}\n"
    ));
    text
}

fn unread(error: AuditError) -> Failure {
    Failure::new("the log cannot be read").because(error)
}
