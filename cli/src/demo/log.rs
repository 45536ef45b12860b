//! A traffic signal controller's high-resolution log: events as `ts,device,event,param`. Owns reading CSV of that
//! shape, any length, order, codes and rate; refuses a bad line by its number. Replaying is the demo's part.

use std::fmt;
use std::io::{self, BufRead, Read};

/// Bytes of one line. A longer one is refused.
const LINE_BYTES_MAX: u64 = 1024;
/// Events of one log: some 23 days of a busy controller. More are refused.
pub const EVENTS_MAX: usize = 10_000_000;
/// Distinct devices of one log. More are refused.
pub const DEVICES_MAX: usize = 65_536;
/// Bytes of a device's name. Longer ones are refused.
pub const DEVICE_BYTES_MAX: usize = 64;

/// The columns, in order.
const HEADER: &str = "ts,device,event,param";

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// Milliseconds since 1970 by the controller's clock, as if that were UTC.
    pub at_ms: i64,
    /// Which of [`Log::devices`].
    pub device: u32,
    /// What happened: an enumeration of the controller's maker, such as 82, detector on.
    pub event: i64,
    /// To what: detector, phase, ...
    pub param: i64,
}

/// A log, in the order of its file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Names of devices, in order of first appearance.
    pub devices: Vec<String>,
    /// The events.
    pub events: Vec<LogEvent>,
}

/// Why a log cannot be read. Nothing was changed; correct the file.
#[derive(Debug)]
pub struct BadLog {
    /// The line, from 1; 0 where no line is at fault.
    pub line: u64,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for BadLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.why),
            line => write!(f, "line {line}: {}", self.why),
        }
    }
}

impl std::error::Error for BadLog {}

impl Log {
    /// Reads CSV. The first line is the header `ts,device,event,param`; times are `2024-04-15T12:00:00.000`, with any
    /// or no fraction, a blank for the T, and `Z` or an offset allowed; event and parameter are whole numbers. Blank
    /// lines are passed over.
    pub fn read_csv(mut from: impl BufRead) -> Result<Self, BadLog> {
        let mut log = Self::default();
        let mut line = Vec::new();
        let mut number = 0;
        let mut has_header = false;
        loop {
            line.clear();
            number += 1;
            let bad = |why: String| BadLog { line: number, why };
            let read = from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
            if read.map_err(|error: io::Error| bad(error.to_string()))? == 0 {
                break;
            }
            if line.len() as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
                return Err(bad(format!("it is longer than {LINE_BYTES_MAX} bytes")));
            }
            let text = std::str::from_utf8(&line).map_err(|_| bad("it is not UTF-8 text".to_owned()))?;
            let text = text.trim_start_matches('\u{feff}').trim();
            if text.is_empty() {
                continue;
            }
            if has_header {
                log.take_line(text).map_err(bad)?;
            } else {
                check_header(text).map_err(bad)?;
                has_header = true;
            }
        }
        if !has_header {
            return Err(BadLog { line: 0, why: format!("it is empty: the first line must be {HEADER}") });
        }
        Ok(log)
    }

    fn take_line(&mut self, text: &str) -> Result<(), String> {
        if self.events.len() == EVENTS_MAX {
            return Err(format!("more than {EVENTS_MAX} events"));
        }
        let mut fields = text.split(',').map(unquoted);
        let (Some(ts), Some(device), Some(event), Some(param), None) =
            (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
        else {
            let count = text.split(',').count();
            return Err(format!("{count} fields, but there must be 4: {HEADER}"));
        };
        let at_ms = millis(ts).ok_or_else(|| format!("\"{ts}\" is no time such as 2024-04-15T12:00:00.000"))?;
        let whole = |name: &str, field: &str| {
            field
                .parse::<i64>()
                .map_err(|_| format!("{name} \"{field}\" is no whole number"))
        };
        let (event, param) = (whole("event", event)?, whole("param", param)?);
        let device = self.device(device)?;
        self.events.push(LogEvent { at_ms, device, event, param });
        Ok(())
    }

    /// The index of the device `name`, a new one where it was not seen yet.
    fn device(&mut self, name: &str) -> Result<u32, String> {
        // The latest device is nearly always the same again, and a log has few.
        if let Some(index) = self.devices.iter().rposition(|device| device == name) {
            return Ok(u32::try_from(index).unwrap_or(u32::MAX));
        }
        if name.is_empty() || name.len() > DEVICE_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(format!("{name:?} is no device: 1 to {DEVICE_BYTES_MAX} printable bytes are"));
        }
        if self.devices.len() == DEVICES_MAX {
            return Err(format!("more than {DEVICES_MAX} devices"));
        }
        self.devices.push(name.to_owned());
        Ok(u32::try_from(self.devices.len() - 1).unwrap_or(u32::MAX))
    }
}

fn check_header(text: &str) -> Result<(), String> {
    let columns: Vec<String> = text.split(',').map(|name| unquoted(name).to_ascii_lowercase()).collect();
    if columns.join(",") == HEADER {
        Ok(())
    } else {
        Err(format!("the header must be {HEADER}"))
    }
}

fn unquoted(field: &str) -> &str {
    let field = field.trim();
    field
        .strip_prefix('"')
        .and_then(|field| field.strip_suffix('"'))
        .unwrap_or(field)
        .trim()
}

/// Milliseconds since 1970 of an ISO 8601 date and time.
fn millis(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut date = date.splitn(3, '-');
    let year = digits(date.next()?, 4)?;
    let month = digits(date.next()?, 2).filter(|month| (1..=12).contains(month))?;
    let day = digits(date.next()?, 2).filter(|day| (1..=days_in(year, month)).contains(day))?;
    let (time, offset) = without_offset(time)?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut clock = time.splitn(3, ':');
    let hour = digits(clock.next()?, 2).filter(|hour| *hour < 24)?;
    let minute = digits(clock.next()?, 2).filter(|minute| *minute < 60)?;
    // 60 is a leap second: it becomes the second after.
    let second = digits(clock.next()?, 2).filter(|second| *second <= 60)?;
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Some(seconds * 1000 + thousandths(fraction)?)
}

/// Takes `Z`, `+hh:mm` or `-hh:mm` off; the offset comes in seconds.
fn without_offset(time: &str) -> Option<(&str, i64)> {
    if let Some(time) = time.strip_suffix(['Z', 'z']) {
        return Some((time, 0));
    }
    let Some(at) = time.find(['+', '-']) else {
        return Some((time, 0));
    };
    let (time, offset) = time.split_at(at);
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = offset[1..].split_once(':')?;
    let seconds = digits(hours, 2)? * 3600 + digits(minutes, 2)? * 60;
    Some((time, sign * seconds))
}

/// Exactly `count` decimal digits.
fn digits(text: &str, count: usize) -> Option<i64> {
    let plain = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// The first three digits of a fraction, as thousandths.
fn thousandths(fraction: &str) -> Option<i64> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(
        fraction
            .bytes()
            .chain(*b"000")
            .take(3)
            .fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')),
    )
}

fn days_in(year: i64, month: i64) -> i64 {
    days(if month == 12 { year + 1 } else { year }, month % 12 + 1, 1) - days(year, month, 1)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years are counted from March, so that the leap day is
/// their last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let since_march = (month + 9) % 12;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 153 days in any five months from March; 719468 days from March of the year 0 to 1970.
    year * 365 + leap_days + (153 * since_march + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Log, BadLog> {
        Log::read_csv(text.as_bytes())
    }

    fn refused(text: &str) -> String {
        read(text).expect_err("it is broken").to_string()
    }

    #[test]
    fn times() {
        for (text, at) in [
            ("1970-01-01T00:00:00", 0),
            ("1969-12-31T23:59:59.999", -1),
            ("2024-04-15T12:00:00.000", 1_713_182_400_000),
            ("2024-04-15 12:00:00.1", 1_713_182_400_100),
            ("2024-04-15T12:00:00.123456Z", 1_713_182_400_123),
            ("2024-04-15T14:00:00+02:00", 1_713_182_400_000),
            ("2024-04-15T04:30:00-07:30", 1_713_182_400_000),
            ("2024-02-29T00:00:00", 1_709_164_800_000),
            ("2000-02-29T00:00:00", 951_782_400_000),
            ("2016-12-31T23:59:60", 1_483_228_800_000),
        ] {
            assert_eq!(millis(text), Some(at), "{text}");
        }
        for text in [
            "",
            "2024",
            "2024-04-15",
            "2024-04-15T",
            "2024-13-01T00:00:00",
            "2024-00-01T00:00:00",
            "2023-02-29T00:00:00",
            "1900-02-29T00:00:00",
            "2024-04-31T00:00:00",
            "2024-04-15T24:00:00",
            "2024-04-15T12:60:00",
            "2024-04-15T12:00",
            "2024-04-15T12:00:00.",
            "2024-04-15T12:00:00.x",
            "24-04-15T12:00:00",
            "2024-04-15T12:00:00+2",
            "2024-4-15T12:00:00",
            "+024-04-15T12:00:00",
        ] {
            assert_eq!(millis(text), None, "{text}");
        }
    }

    #[test]
    fn good_logs() {
        let log = read("\u{feff}ts,Device,event,\"param\"\r\n2024-04-15T12:00:00.000,1136,82,5\r\n\r\n\"2024-04-15 12:00:00\", A-1 ,-1,0\n1970-01-01T00:00:00,1136,0,7").unwrap();
        assert_eq!(log.devices, ["1136", "A-1"]);
        let events: Vec<_> = log.events.iter().map(|e| (e.device, e.event, e.param)).collect();
        assert_eq!(events, [(0, 82, 5), (1, -1, 0), (0, 0, 7)]);
        assert!(read("ts,device,event,param\n").unwrap().events.is_empty());
    }

    #[test]
    fn bad_lines_are_refused_by_number() {
        const HEAD: &str = "ts,device,event,param\n2024-04-15T12:00:00,1,2,3\n";
        assert!(refused("").contains("it is empty"));
        assert!(refused("\n\na,b\n").starts_with("line 3: the header must be"));
        assert!(refused(&format!("{HEAD}\nnow,1,2,3")).starts_with("line 4: \"now\" is no time"));
        for (line, words) in [
            ("2024-04-15T12:00:00,1,2", "3 fields"),
            ("2024-04-15T12:00:00,1,2,3,4", "5 fields"),
            ("2024-04-15T12:00:00,1,x,3", "event \"x\""),
            ("2024-04-15T12:00:00,1,2,3.5", "param \"3.5\""),
            ("2024-04-15T12:00:00,1,2,99999999999999999999", "param"),
            ("2024-04-15T12:00:00,,2,3", "is no device"),
            ("2024-04-15T12:00:00,a\u{7}b,2,3", "is no device"),
        ] {
            let shown = refused(&format!("{HEAD}{line}\n"));
            assert!(shown.starts_with("line 3: ") && shown.contains(words), "{shown}");
        }
        assert!(refused(&"x".repeat(5000)).contains("longer than 1024 bytes"));
        assert!(
            Log::read_csv(&b"ts,device,event,param\n\xff\n"[..])
                .unwrap_err()
                .why
                .contains("UTF-8")
        );
        let name = |length| format!("{HEAD}2024-04-15T12:00:00,{},2,3", "d".repeat(length));
        assert!(read(&name(DEVICE_BYTES_MAX)).is_ok());
        assert!(refused(&name(DEVICE_BYTES_MAX + 1)).contains("is no device"));
    }
}
