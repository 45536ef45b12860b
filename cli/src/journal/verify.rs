//! `roadstead journal verify`: says whether a journal is whole, and where it is not.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use firmware::inspect::verdict::{self, Damage, DamageFault, Verdict};

use super::arguments::Verify;
use super::{counted, keys, open, unreadable, whose};
use crate::arguments::Output;
use crate::failure::Failure;

/// It cannot be read.
const UNREADABLE: u8 = 2;

pub(super) fn run(asked: &Verify) -> Result<ExitCode, Failure> {
    let checked = || {
        let mut keys = keys(asked.key.as_deref())?;
        verdict::verify(&open(&asked.dir)?, keys.as_mut()).map_err(unreadable)
    };
    let verdict = match checked() {
        Ok(verdict) => verdict,
        Err(failure) => {
            eprintln!("error: {failure}");
            return Ok(ExitCode::from(UNREADABLE));
        }
    };
    match asked.output {
        Output::Table => crate::say(&told(&asked.dir, &verdict))?,
        Output::Json => crate::say(&super::json(&asked.dir, &verdict)?)?,
    };
    Ok(if verdict.whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The verdict for people.
pub(super) fn told(dir: &Path, verdict: &Verdict) -> String {
    let mut text = whose(dir, &verdict.state, verdict.in_use);
    let whole = verdict.state.copies.iter().filter(|copy| copy.whole).count();
    let state = match whole {
        2 => "both copies whole",
        1 => "one copy whole: the next start restores the other",
        _ => "no copy whole: what this board has promised is not known",
    };
    let mut put = |line: String| text.write_str(&line).expect("a String takes every character");
    put(format!("state: {state}\n"));
    let sealed = match verdict.sealed_blocks {
        0 => String::new(),
        some => format!(" ({some} of them encrypted, their records not looked at)"),
    };
    put(format!(
        "{}, {}: {} whole{sealed}, {} in them\n",
        counted(verdict.segments, "segment"),
        counted(verdict.bytes, "byte"),
        counted(verdict.blocks, "block"),
        counted(verdict.records, "record"),
    ));
    if verdict.gone > 0 {
        put(format!("{} went away meanwhile: all of it is in the region\n", counted(verdict.gone, "segment")));
    }
    for torn in &verdict.torn {
        put(format!(
            "torn: segment {} at byte {}: the end of a write that was never acknowledged; the next start cuts it\n",
            torn.segment, torn.offset
        ));
    }
    for damage in &verdict.damaged {
        put(place(damage));
    }
    if verdict.unlisted > 0 {
        put(format!("and {} more\n", counted(verdict.unlisted, "place")));
    }
    put(if verdict.whole {
        "whole\n".to_owned()
    } else {
        "DAMAGED\n".to_owned()
    });
    text
}

fn place(damage: &Damage) -> String {
    let what = match damage.fault {
        DamageFault::Payload => "a block's payload does not hold",
        DamageFault::Header => "no block's header holds",
        DamageFault::Unreadable => "the system cannot read it",
        DamageFault::Records => "the checksums hold, but there are no records in it",
        DamageFault::Seal => "the checksums hold, but this is not what was encrypted: somebody changed it",
        DamageFault::Order => "the block that belongs here is missing",
    };
    let bytes = counted(damage.bytes.into(), "byte");
    let mut text = format!("damaged: segment {} at byte {}, {bytes}: {what}\n", damage.segment, damage.offset);
    match (damage.missing.is_empty(), damage.by_footer) {
        (true, true) => text.push_str("  every record that stood there stands elsewhere in the journal too\n"),
        (true, false) => text.push_str("  which records stood there cannot be told from the blocks around it\n"),
        (false, _) => {}
    }
    for records in &damage.missing {
        let stream = &records.stream;
        let (boot, nonce) = (stream.boot, stream.nonce);
        text.push_str(&format!(
            "  missing{}: board-{}/{boot}.{nonce:016x}/{} {} to {}\n",
            if damage.by_footer { "" } else { ", or never kept here" },
            stream.board,
            stream.class,
            records.range.first,
            records.range.last
        ));
    }
    text
}
