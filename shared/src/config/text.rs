//! Configuration as text: bytes to text to raw, with a refusal that names file, line, column and remedy. Pure: the
//! bytes are passed in. Owns reading TOML and checking single values; what the values mean together is decided
//! where the checked form is made.
//!
//! ```text
//! bytes --Text::new--> text --Text::parse--> raw (Spanned values) --a crate's own check--> checked configuration
//! ```

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;
use core::ops::{Range, RangeInclusive};

use serde::de::DeserializeOwned;
pub use toml::Spanned;

use super::nearest::nearest;
pub use super::refusal::ConfigError;
use crate::ids::Name;
use crate::limits::{CONFIG_BYTES_MAX, NAME_BYTES_MAX};

/// A configuration file's text under its name.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    file: &'a str,
    text: &'a str,
}

impl<'a> Text<'a> {
    /// The text of `bytes`, read from `file` (a name for messages only). Refused: more than
    /// [`CONFIG_BYTES_MAX`] bytes, and bytes that are not UTF-8.
    pub fn new(file: &'a str, bytes: &'a [u8]) -> Result<Self, ConfigError> {
        if bytes.len() > CONFIG_BYTES_MAX {
            let message = format!("the file is longer than {CONFIG_BYTES_MAX} bytes");
            return Err(ConfigError::new(file, "", 0..0, &message)
                .suggest("a configuration is a few kilobytes: is this the right file?"));
        }
        match core::str::from_utf8(bytes) {
            Ok(text) => Ok(Self { file, text }),
            Err(error) => {
                let lossy = String::from_utf8_lossy(bytes);
                let at = error.valid_up_to();
                Err(ConfigError::new(file, &lossy, at..at + 1, "this is not UTF-8 text")
                    .suggest("save the file as UTF-8"))
            }
        }
    }

    /// The text of a string, for callers that have one.
    pub fn from_str(file: &'a str, text: &'a str) -> Result<Self, ConfigError> {
        Self::new(file, text.as_bytes())
    }

    /// The values of the text. `Raw` and its tables should `deny_unknown_fields`, so that a mistyped key is
    /// refused instead of ignored.
    pub fn parse<Raw: DeserializeOwned>(&self) -> Result<Raw, ConfigError> {
        toml::from_str(self.text).map_err(|error| self.retell(error))
    }

    /// Refuses what stands at the bytes `at`: `Spanned::span` of the offending value.
    pub fn refuse(&self, at: Range<usize>, message: impl AsRef<str>) -> ConfigError {
        ConfigError::new(self.file, self.text, at, message.as_ref())
    }

    /// Refuses the text as a whole, where no single place is at fault.
    pub fn refuse_all(&self, message: impl AsRef<str>) -> ConfigError {
        self.refuse(0..0, message)
    }

    /// `value` where it lies `within`; `key` and `unit` (may be empty) are for the refusal.
    pub fn within<T: PartialOrd + Copy + Display>(
        &self,
        key: &str,
        value: &Spanned<T>,
        within: RangeInclusive<T>,
        unit: &str,
    ) -> Result<T, ConfigError> {
        let given = *value.get_ref();
        if within.contains(&given) {
            return Ok(given);
        }
        let (low, high) = within.into_inner();
        let (nearest, side) = if given < low { (low, "small") } else { (high, "large") };
        let space = if unit.is_empty() { "" } else { " " };
        let message = format!("`{key}` is too {side}: {given}{space}{unit}, but it must be {low} to {high}");
        let suggestion = format!("the nearest allowed value is {nearest}");
        Err(self.refuse(value.span(), message).suggest(suggestion))
    }

    /// The same for a value that may be absent: then `default`.
    pub fn within_or<T: PartialOrd + Copy + Display>(
        &self,
        key: &str,
        value: Option<&Spanned<T>>,
        within: RangeInclusive<T>,
        unit: &str,
        default: T,
    ) -> Result<T, ConfigError> {
        value.map_or(Ok(default), |value| self.within(key, value, within, unit))
    }

    /// `value` as a name: 1 to [`NAME_BYTES_MAX`] bytes of lower-case letters, digits and `-`, with no `-` at
    /// either end. It becomes part of certificates' DNS names, file names and metrics.
    pub fn name(&self, key: &str, value: &Spanned<String>) -> Result<Name, ConfigError> {
        check_name(value.get_ref()).map_err(|why| self.refuse(value.span(), format!("`{key}` is no name: {why}")))
    }

    /// `value` read by its own rules, as an address is; `expected` says in words what would do, with an example.
    pub fn read<T: core::str::FromStr>(
        &self,
        key: &str,
        value: &Spanned<String>,
        expected: &str,
    ) -> Result<T, ConfigError> {
        value.get_ref().parse().map_err(|_| {
            let message = format!("`{key}` is \"{}\", which is not {expected}", value.get_ref());
            self.refuse(value.span(), message)
        })
    }

    fn retell(&self, mut error: toml::de::Error) -> ConfigError {
        let at = error.span().unwrap_or(0..0);
        // Without its input the error names the path of keys it happened under, at the end of its text.
        error.set_input(None);
        let shown = format!("{error}");
        let path = shown
            .rsplit_once("\nin `")
            .and_then(|(_, path)| path.trim_end().strip_suffix('`'))
            .filter(|_| error.span().is_some());
        let (message, suggestion) = retold(error.message(), path);
        let refusal = self.refuse(at, message);
        match suggestion {
            Some(suggestion) => refusal.suggest(suggestion),
            None => refusal,
        }
    }
}

/// Whether `name` will do as the name of a site, board or gateway; the refusal says why not.
pub fn check_name(name: &str) -> Result<Name, String> {
    if name.is_empty() {
        return Err("it is empty".into());
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(format!("it has {} bytes, at most {NAME_BYTES_MAX} fit", name.len()));
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if let Some(other) = name.chars().find(|c| !allowed(*c)) {
        return Err(format!("it has {other:?}; only a to z, 0 to 9 and - are allowed"));
    }
    if name.starts_with('-') || name.ends_with('-') {
        return Err("it begins or ends with -".into());
    }
    Name::try_from(name).map_err(|_| "it is too long".into())
}

/// The reader's message in this project's words, and what to do.
fn retold(message: &str, path: Option<&str>) -> (String, Option<String>) {
    if let Some((given, known)) = choice(message, "unknown field `") {
        return (format!("unknown key `{given}`"), Some(instead(given, &known, "keys here are")));
    }
    if let Some((given, known)) = choice(message, "unknown variant `") {
        return (format!("unknown value `{given}`"), Some(instead(given, &known, "it is one of")));
    }
    if let Some(key) = message.strip_prefix("missing field `").and_then(|m| m.strip_suffix('`')) {
        let place = match path {
            Some(table) => format!("in `{table}`"),
            None => "at the top of the file, before the first [table]".into(),
        };
        return (format!("missing key `{key}`"), Some(format!("add `{key} = ...` {place}")));
    }
    let parted = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "));
    if let Some((given, expected)) = parted {
        let what = path.map_or(String::new(), |path| format!("`{path}`: "));
        let wanted = in_words(expected);
        return (format!("{what}expected {wanted}, found {given}"), None);
    }
    (message.into(), None)
}

/// Takes apart "unknown field `x`, expected one of `a`, `b`". The unknown word comes from the file and may contain
/// anything; the known ones are ours and do not.
fn choice<'m>(message: &'m str, prefix: &str) -> Option<(&'m str, Vec<&'m str>)> {
    let rest = message.strip_prefix(prefix)?;
    let (given, known) = rest.rsplit_once("`, ")?;
    // The last "`, " stands between two of the known words where there are several: walk back to the first.
    let (given, known) = match rest.rsplit_once("`, expected ") {
        Some(parted) => parted,
        None => (given, known),
    };
    Some((given, known.split('`').skip(1).step_by(2).collect()))
}

fn instead(given: &str, known: &[&str], list: &str) -> String {
    if let Some(near) = nearest(given, known.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    if known.is_empty() {
        return "there are no keys here: remove it".into();
    }
    format!("{list} `{}`", known.join("`, `"))
}

/// A type's name as the reader says it, in words.
fn in_words(expected: &str) -> &str {
    match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a string" | "str" => "text in quotes",
        "a boolean" => "true or false",
        "a sequence" => "a list in [ ]",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
