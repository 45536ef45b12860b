//! How a refused configuration is shown: file, line, column, the line itself with carets, and what to do. Owns the
//! picture; what is refused is decided elsewhere.

use alloc::borrow::ToOwned as _;
use alloc::boxed::Box;
use alloc::string::{String, ToString as _};
use core::fmt;
use core::ops::Range;

/// Characters of the offending line that are shown; a longer line is cut around the place.
const SHOWN_CHARS_MAX: usize = 120;
/// Characters of a message or suggestion that are shown: what a file quotes into it may be long.
const MESSAGE_CHARS_MAX: usize = 400;

/// A configuration that is refused: the writer's fault, nothing has been changed; correct the file and try again.
/// Its `Display` is the whole story over several lines:
///
/// ```text
/// board-1.toml:3:1: unknown key `votres`
///     3 | votres = [1, 2, 3]
///       | ^^^^^^
///   help: did you mean `voters`?
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file's name as it was given.
    pub file: Box<str>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub suggestion: Option<String>,
    /// The line, or the part of it around the place; control characters shown as blanks.
    pub shown: Box<str>,
    /// Where the carets stand under `shown`, in characters, from 0; never empty.
    pub carets: Range<usize>,
}

impl ConfigError {
    /// Refuses the bytes `at` of `text`. A range outside of the text points at its end.
    pub(super) fn new(file: &str, text: &str, at: Range<usize>, message: &str) -> Self {
        let start = floor(text, at.start);
        let end = floor(text, at.end).max(start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |length| start + length);
        let column = text[line_start..start].chars().count();
        let width = text[start..end.min(line_end)].trim_end().chars().count().max(1);
        // A long line is cut so that the place stands a third from the left.
        let cut = if column + width > SHOWN_CHARS_MAX {
            column.saturating_sub(SHOWN_CHARS_MAX / 3)
        } else {
            0
        };
        let line = without_password(text[line_start..line_end].trim_end());
        let caret_end = (column - cut + width).min(SHOWN_CHARS_MAX);
        Self {
            file: plain(file).into(),
            line: text[..line_start].matches('\n').count() + 1,
            column: column + 1,
            message: shortened(message),
            suggestion: None,
            shown: line.chars().skip(cut).take(SHOWN_CHARS_MAX).map(visible).collect(),
            carets: column - cut..caret_end,
        }
    }

    /// The same refusal with what to do about it.
    #[must_use]
    pub fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(shortened(&suggestion.into()));
        self
    }
}

/// The nearest start of a character at or before `index`.
fn floor(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

/// `line` with stars for the password of an address such as `postgres://user:password@host`: refusals end in logs.
fn without_password(line: &str) -> String {
    let after = |text: &str, mark: &str| text.find(mark).map(|at| at + mark.len());
    let Some(begin) = after(line, "://") else { return line.to_owned() };
    let Some(colon) = after(&line[begin..], ":") else { return line.to_owned() };
    let Some(end) = line[begin + colon..].rfind('@') else {
        return line.to_owned();
    };
    let (secret, rest) = line[begin + colon..].split_at(end);
    let stars: String = secret.chars().map(|_| '*').collect();
    alloc::format!("{}{stars}{rest}", &line[..begin + colon])
}

/// A terminal obeys control characters; what a file contains is only ever shown.
fn visible(letter: char) -> char {
    if letter.is_control() { ' ' } else { letter }
}

fn plain(text: &str) -> String {
    text.chars().map(visible).collect()
}

fn shortened(message: &str) -> String {
    let message = plain(message.trim_end());
    match message.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((cut, _)) => message[..cut].to_owned() + " ...",
        None => message,
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        let number = self.line.to_string();
        let blank = " ".repeat(number.len());
        writeln!(f, "    {number} | {}", self.shown)?;
        let before = " ".repeat(self.carets.start);
        let carets = "^".repeat(self.carets.len());
        write!(f, "    {blank} | {before}{carets}")?;
        if let Some(suggestion) = &self.suggestion {
            write!(f, "\n  help: {suggestion}")?;
        }
        Ok(())
    }
}

impl core::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_of_every_text_can_be_refused() {
        for text in ["", "\n", "a", "é\r\nü = ☂\n\n", "\u{feff}x", "a\n\u{1b}[31mb"] {
            for start in 0..=text.len() + 2 {
                for end in 0..=text.len() + 2 {
                    let refusal = ConfigError::new("f", text, start..end, "m");
                    assert!(!refusal.carets.is_empty(), "{text:?} {start}..{end}");
                    assert!(!refusal.to_string().contains('\u{1b}'));
                }
            }
        }
    }

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let text = "a = 1\nbé = 2\r\n";
        let at = text.find('2').expect("it is there");
        let refusal = ConfigError::new("f.toml", text, at..at + 1, "too many").suggest("use 1");
        assert_eq!(refusal.to_string(), "f.toml:2:6: too many\n    2 | bé = 2\n      |      ^\n  help: use 1");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = "x".repeat(10_000) + "HERE" + &"y".repeat(10_000);
        let refusal = ConfigError::new("f", &text, 10_000..10_004, "long");
        let under: String = refusal
            .shown
            .chars()
            .skip(refusal.carets.start)
            .take(refusal.carets.len())
            .collect();
        assert_eq!(under, "HERE");
        assert_eq!(refusal.shown.chars().count(), SHOWN_CHARS_MAX);
        assert_eq!(refusal.column, 10_001);
    }
}
