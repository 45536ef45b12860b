//! `roadstead journal dump`: prints records, one a line, as they stand in the files. One block at a time is in memory.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use firmware::inspect::gap_of;
use firmware::inspect::walk::{Block, Piece, Walked};
use firmware::keys::Keys;
use serde_json::{Value, json};
use shared::ids::SegmentId;
use shared::journal::format::{Found, decode};
use shared::record::{Gap, GapReason, Key, Reading};
use shared::wire::peer::Run;

use super::arguments::{Dump, Form, Payload};
use super::{counted, keys, open, unreadable};
use crate::failure::Failure;

pub(super) fn run(asked: &Dump) -> Result<ExitCode, Failure> {
    let complete = to(asked, BufWriter::new(io::stdout().lock()))?;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints to `out`; says whether everything could be shown.
pub(super) fn to<W: Write>(asked: &Dump, out: W) -> Result<bool, Failure> {
    let dir = open(&asked.dir)?;
    let keys = keys(asked.key.as_deref())?;
    let mut printer = Printer { asked, keys, out, unshown: Unshown::default() };
    let segments = dir.segments().map_err(unreadable)?;
    let wanted = |segment: &SegmentId| asked.segment.is_empty() || asked.segment.contains(segment);
    if let Some(missing) = asked.segment.iter().find(|segment| !segments.contains(segment)) {
        let at = asked.dir.display();
        return Err(Failure::new(format!("{at} has no segment {:x}", missing.0)).remedy("`ls` shows which there are"));
    }
    let mut written = Ok(());
    for segment in segments.into_iter().filter(wanted) {
        let walked = dir.walk(segment, |piece| match printer.piece(segment, piece) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                written = Err(error);
                ControlFlow::Break(())
            }
        });
        if walked.map_err(unreadable)? == Walked::Stopped {
            break;
        }
    }
    match written.and_then(|()| printer.out.flush()) {
        Ok(()) => Ok(printer.unshown.tell()),
        // A reader that has had enough (`| head`) is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        Err(error) => Err(Failure::new("cannot write to stdout").because(error)),
    }
}

/// What was passed over.
#[derive(Debug, Default)]
struct Unshown {
    holes: u64,
    sealed: u64,
    unread: u64,
}

impl Unshown {
    /// Says what was left out; true where nothing was.
    fn tell(&self) -> bool {
        for (count, what, why) in [
            (self.holes, "damaged place", "`roadstead journal verify` tells more"),
            (self.sealed, "encrypted block", "give their key with --key"),
            (self.unread, "block without records", "`roadstead journal verify` tells more"),
        ] {
            if count > 0 {
                eprintln!("not shown: {}: {why}", counted(count, what));
            }
        }
        self.holes + self.sealed + self.unread == 0
    }
}

struct Printer<'a, W> {
    asked: &'a Dump,
    keys: Option<Keys>,
    out: W,
    unshown: Unshown,
}

/// A record and where it stands.
struct Line<'a> {
    segment: SegmentId,
    offset: u32,
    run: &'a Run,
    seq: u64,
    reading: &'a Reading<'a>,
    payload: Payload,
}

impl<W: Write> Printer<'_, W> {
    fn piece(&mut self, segment: SegmentId, piece: Piece<'_>) -> io::Result<()> {
        match piece {
            Piece::Hole(_) => {
                self.unshown.holes += 1;
                Ok(())
            }
            Piece::Block(block) => self.block(segment, block),
        }
    }

    fn block(&mut self, segment: SegmentId, block: Block<'_>) -> io::Result<()> {
        let offset = block.header.place.offset;
        if let Some(keys) = &mut self.keys {
            keys.open(segment, offset, block.bytes);
        }
        match decode(segment, offset, block.bytes) {
            Found::Block { runs, .. } => runs.iter().try_for_each(|run| self.run(segment, offset, run)),
            Found::Sealed(_) => {
                self.unshown.sealed += 1;
                Ok(())
            }
            Found::Broken(_) | Found::Nothing => {
                self.unshown.unread += 1;
                Ok(())
            }
        }
    }

    fn run(&mut self, segment: SegmentId, offset: u32, run: &Run) -> io::Result<()> {
        if !self.wants(run) {
            return Ok(());
        }
        let Ok(readings) = Reading::decode_all(&run.bytes, run.count) else {
            self.unshown.unread += 1;
            return Ok(());
        };
        for (seq, reading) in (run.first..).zip(&readings) {
            if (self.asked.from..=self.asked.to).contains(&seq) {
                let line = Line { segment, offset, run, seq, reading, payload: self.asked.payload };
                match self.asked.output {
                    Form::Text => writeln!(self.out, "{}", line.as_text())?,
                    Form::Json => writeln!(self.out, "{}", line.as_json())?,
                }
            }
        }
        Ok(())
    }

    fn wants(&self, run: &Run) -> bool {
        let Dump { board, class, stream, from, to, .. } = self.asked;
        let (origin, of_class) = (run.stream.origin, run.stream.class);
        let matches = stream.is_none_or(|wanted| {
            wanted.board == origin.board
                && wanted.boot.is_none_or(|boot| boot == origin.epoch.boot)
                && wanted.nonce.is_none_or(|nonce| nonce == origin.epoch.nonce)
                && wanted.class.is_none_or(|class| class == of_class)
        });
        let range = run.range().expect("decode checks the range");
        matches
            && board.is_none_or(|board| board == origin.board.get())
            && class.is_none_or(|class| class == of_class)
            && range.first <= *to
            && range.last >= *from
    }
}

impl Line<'_> {
    fn as_text(&self) -> String {
        let Self { segment, offset, run, seq, reading, payload } = self;
        let says = match gap_of(reading) {
            Some(gap) => {
                let why = reason(&gap);
                format!("GAP {} {} to {}, {} bytes: {why}", gap.stream, gap.range.first, gap.range.last, gap.bytes)
            }
            None => match (payload, std::str::from_utf8(reading.payload)) {
                (Payload::None, _) => counted(reading.payload.len() as u64, "byte"),
                (Payload::Auto, Ok(text)) => plain(text),
                (Payload::Auto | Payload::Base64, _) => format!("base64:{}", STANDARD.encode(reading.payload)),
            },
        };
        format!(
            "{:x}:{offset} {} {seq} {} {} {} {says}",
            segment.0,
            run.stream,
            date(reading.taken.0),
            plain(reading.publisher),
            plain(reading.topic)
        )
    }

    fn as_json(&self) -> Value {
        let Self { segment, offset, run, seq, reading, payload } = self;
        let origin = run.stream.origin;
        let mut line = json!({
            "segment": format!("{:016x}", segment.0), "offset": offset, "board": origin.board.get(),
            "boot": origin.epoch.boot, "nonce": origin.epoch.nonce, "class": run.stream.class.as_str(), "seq": seq,
            "publisher": reading.publisher, "key": key(&reading.key), "taken_ms": reading.taken.0,
            "topic": reading.topic,
        });
        match (gap_of(reading), payload, std::str::from_utf8(reading.payload)) {
            (Some(gap), ..) => {
                line["gap"] = json!({ "stream": gap.stream.to_string(), "first": gap.range.first,
                    "last": gap.range.last, "bytes": gap.bytes, "reason": reason(&gap) });
            }
            (None, Payload::None, _) => line["payload_bytes"] = reading.payload.len().into(),
            (None, Payload::Auto, Ok(text)) => line["payload"] = text.into(),
            (None, ..) => line["payload_base64"] = STANDARD.encode(reading.payload).into(),
        }
        line
    }
}

const fn reason(gap: &Gap) -> &'static str {
    match gap.reason {
        GapReason::JournalFull => "shed, the journal was full",
        GapReason::Damaged => "no copy can be read",
    }
}

fn key(key: &Key) -> Value {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match key {
        Key::Sequence { epoch, seq } => json!({ "epoch": epoch, "seq": seq }),
        Key::Content(digest) => json!({ "content": hex(digest) }),
        Key::Delivery { digest, resent } => json!({ "delivery": hex(digest), "resent": resent }),
    }
}

/// What a sensor says may hold anything; a terminal obeys control characters.
fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Milliseconds since 1970 as RFC 3339, in UTC.
pub(crate) fn date(millis: u64) -> String {
    let (days, rest) = (millis / 86_400_000, millis % 86_400_000);
    // The calendar repeats every 400 years; years begin in March here, so that the day too many comes last.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = year + era * 400 + u64::from(month <= 2);
    let (hours, minutes, seconds) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", rest % 1000)
}
