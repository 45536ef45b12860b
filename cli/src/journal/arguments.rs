//! The shape of `roadstead journal` and its help. Owns words and examples; does nothing.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use shared::ids::{BoardId, Class, SegmentId};

use crate::arguments::Output;

/// `roadstead journal`.
#[derive(Debug, Args)]
pub struct Journal {
    /// What to do.
    #[command(subcommand)]
    pub command: JournalCommand,
}

/// What can be done with a journal.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Check every block of a board's journal; changes nothing
    #[command(after_help = "\
Examples:
  roadstead journal verify site/board-1/data
  roadstead journal verify site/board-1/data -o json | jq .damaged

DIR is a board's data_dir, whether the board runs or not: no lock is taken and nothing is written. Checked are the \
checksums of every block, its place in the chain, and both copies of the state. A torn end is no damage: it was never \
acknowledged, and the next start cuts it. What is missing at damaged places is told where the blocks around it show it; \
those records come from another board's copy. Encrypted blocks are checked without their key.

Exit codes: 0 whole, 1 damaged, 2 it cannot be read.")]
    Verify(Verify),
    /// Count what a board's journal holds, by class and by stream; changes nothing
    #[command(after_help = "\
Examples:
  roadstead journal stats site/board-1/data
  roadstead journal stats /mnt/disk-of-a-dead-board -o json
  roadstead journal stats /var/lib/roadstead --status http://127.0.0.1:7412

Directory alone: what is held, what was declared shed, and how full the files are. What is committed on enough boards, and \
what the region covers, a board knows only while it runs: it is asked where board.toml stands beside DIR or --status \
says where it listens. Under `written` a record counts each time that it stands in a block.

A stream is one class of one life of a board: board-1/3.00c0ffee00c0ffee/event is the events of board 1 in its third \
life.")]
    Stats(Stats),
    /// Print the records of a board's journal, one a line; changes nothing
    #[command(after_help = "\
Examples:
  roadstead journal dump site/board-1/data
  roadstead journal dump site/board-1/data --class alarm -o json
  roadstead journal dump data --stream board-1/3 --from 100 --to 200
  roadstead journal dump data --segment 2a --payload none
  roadstead journal dump site/board-1/data --key site/board-1/journal.key

Records come in the order of the files, a page at a time, so that a journal of any size can be read; one that was written twice \
comes twice. A payload that is no UTF-8 is shown as base64. Exits with 1 where something could not be shown: damage, or \
encrypted blocks without their key.")]
    Dump(Dump),
    /// Make, rotate and destroy the keys that a journal is encrypted with
    Key(Key),
}

/// `roadstead journal key`.
#[derive(Debug, Args)]
pub struct Key {
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// What can be done with a file of keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a file with one new key
    #[command(after_help = "\
Examples:
  roadstead journal key new site/board-1/journal.key

Say `key = \"journal.key\"` in [journal] of board.toml, and start the board anew: what it writes from then on is encrypted. \
Each board has keys of its own. Keep the file on another medium than the journal if you can, and out of its backups; \
where systemd starts the board, LoadCredentialEncrypted=journal.key takes its place. Whoever loses it loses this board's \
records; those of the other boards are theirs.")]
    New {
        /// The file; it must not exist.
        file: PathBuf,
    },
    /// Show which generations a file of keys has
    #[command(after_help = "\
Examples:
  roadstead journal key list site/board-1/journal.key
  roadstead journal key list journal.key --dir data
      also says how many segments of this journal need each")]
    List {
        /// The file of keys.
        file: PathBuf,
        /// A board's data_dir.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Add a new key, which seals all new segments
    #[command(after_help = "\
Examples:
  roadstead journal key rotate site/board-1/journal.key

A running board takes it at its next segment; nothing is written anew. The older keys stay as long as segments need them.")]
    Rotate {
        /// The file of keys.
        file: PathBuf,
    },
    /// Destroy an older key: what it encrypted can be read no more
    #[command(after_help = "\
Examples:
  roadstead journal key destroy site/board-1/journal.key 1 --dir site/board-1/data

Refused while a segment needs the key: its records may not be in the region yet. On flash the old file's bytes can outlive \
it in cells that are not in use: that is why it should not lie on the journal's medium.")]
    Destroy {
        /// The file of keys.
        file: PathBuf,
        /// Number of the generation, as `list` shows it.
        generation: u32,
        /// The data_dir of the board whose keys these are.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Destroy it although segments need it: their records are lost on this board.
        #[arg(long)]
        force: bool,
    },
}

/// `roadstead journal verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// A board's data_dir.
    pub dir: PathBuf,
    /// How to answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// File with the journal's keys, to check also that encrypted blocks are what was written.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
}

/// `roadstead journal stats`.
#[derive(Debug, Args)]
pub struct Stats {
    /// A board's data_dir.
    pub dir: PathBuf,
    /// How to answer.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// File with the journal's keys, to read encrypted blocks with.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Ask the running board at this address, such as http://127.0.0.1:7412. Default: what board.toml beside DIR says.
    #[arg(long, value_name = "URL")]
    pub status: Option<String>,
    /// How long it may take to answer, in milliseconds: 10 to 60000.
    #[arg(long, value_name = "MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub timeout_ms: u64,
}

/// `roadstead journal dump`.
#[derive(Debug, Args)]
pub struct Dump {
    /// A board's data_dir.
    pub dir: PathBuf,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Form::Text)]
    pub output: Form,
    /// File with the journal's keys, to read encrypted blocks with.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Only records of this board: 1 to 64.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub board: Option<u8>,
    /// Only records of this class: alarm, event or bulk.
    #[arg(long, value_parser = class)]
    pub class: Option<Class>,
    /// Only records of this stream, as `stats` names it; parts at its end may be left out.
    #[arg(long, value_name = "STREAM", value_parser = pattern)]
    pub stream: Option<StreamPattern>,
    /// Only records with this sequence or a higher one.
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    pub from: u64,
    /// Only records with this sequence or a lower one.
    #[arg(long, value_name = "SEQ", default_value_t = u64::MAX, hide_default_value = true)]
    pub to: u64,
    /// Only this segment, its number in hexadecimal as its file is called. May be given several times.
    #[arg(long, value_name = "HEX", value_parser = segment)]
    pub segment: Vec<SegmentId>,
    /// How to show payloads.
    #[arg(long, value_enum, default_value_t = Payload::Auto)]
    pub payload: Payload,
}

/// How records are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people: place, stream, sequence, time, publisher, topic, payload.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// How payloads are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Payload {
    /// As text where it is UTF-8, else as base64.
    Auto,
    /// As base64.
    Base64,
    /// Not at all: their lengths.
    None,
}

/// Which streams: all that have these parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamPattern {
    /// Of which board.
    pub board: BoardId,
    /// In which of its lives.
    pub boot: Option<u32>,
    /// With which nonce.
    pub nonce: Option<u64>,
    /// Which class.
    pub class: Option<Class>,
}

fn class(word: &str) -> Result<Class, String> {
    Class::parse(word).ok_or_else(|| "a class is alarm, event or bulk".to_owned())
}

fn segment(word: &str) -> Result<SegmentId, String> {
    let digits = word.trim_end_matches(".seg");
    let number = u64::from_str_radix(digits, 16).map(SegmentId);
    number.map_err(|_| "a segment is a number in hexadecimal, such as 2a".to_owned())
}

/// `board-1/3.00c0ffee00c0ffee/event`, or a front of it.
fn pattern(word: &str) -> Result<StreamPattern, String> {
    let bad = || "a stream is such as board-1/3.00c0ffee00c0ffee/event, board-1/3 or board-1".to_owned();
    let mut parts = word.split('/');
    let board = parts.next().and_then(|part| part.strip_prefix("board-")).ok_or_else(bad)?;
    let board = board.parse().ok().and_then(BoardId::new).ok_or_else(bad)?;
    let (mut boot, mut nonce) = (None, None);
    if let Some(epoch) = parts.next() {
        let (first, second) = epoch
            .split_once('.')
            .map_or((epoch, None), |(first, second)| (first, Some(second)));
        boot = Some(first.parse().map_err(|_| bad())?);
        nonce = second
            .map(|second| u64::from_str_radix(second, 16).map_err(|_| bad()))
            .transpose()?;
    }
    let class = parts.next().map(|part| Class::parse(part).ok_or_else(bad)).transpose()?;
    if parts.next().is_some() {
        return Err(bad());
    }
    Ok(StreamPattern { board, boot, nonce, class })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_named_whole_or_in_part() {
        let whole = pattern("board-7/3.00c0ffee00c0ffee/alarm").unwrap();
        let board = BoardId::new(7).unwrap();
        let nonce = Some(0x00c0_ffee_00c0_ffee);
        assert_eq!(whole, StreamPattern { board, boot: Some(3), nonce, class: Some(Class::Alarm) });
        let life = pattern("board-7/3").unwrap();
        assert_eq!(life, StreamPattern { board, boot: Some(3), nonce: None, class: None });
        for bad in ["7", "board-0", "board-65", "board-7/x", "board-7/3.zz", "board-7/3/loud", "board-7/3/event/9", ""]
        {
            assert!(pattern(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_segment_is_named_as_its_file_is() {
        assert_eq!(segment("000000000000002a.seg"), Ok(SegmentId(42)));
        assert_eq!(segment("2a"), Ok(SegmentId(42)));
        assert!(segment("x").is_err() && segment("").is_err());
    }
}
