//! Numbers, spans and times as people read them.

use std::time::Duration;

use time::OffsetDateTime;

/// A number with its thousands set apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A rate: whole from ten on, with one decimal below.
pub(super) fn rate(per_second: f64) -> String {
    if per_second >= 9.95 {
        // Rates are finite and not negative.
        grouped(per_second.round() as u64)
    } else {
        format!("{per_second:.1}")
    }
}

/// A span in its largest unit, rounded down: what says it changes seldom.
pub(super) fn about(span: Duration) -> String {
    match span.as_secs() {
        0..60 => "less than a minute".to_owned(),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds @ 3600..86_400 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// How long something takes still.
pub(super) fn left(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..60 => format!("{} s", seconds.max(1)),
        _ => about(span),
    }
}

/// A moment in UTC, to the second: `2026-03-01 08:00:00`. What is no moment of four-digit years is shown as its number.
pub(super) fn moment(ms: i64) -> String {
    match OffsetDateTime::from_unix_timestamp(ms.div_euclid(1000)) {
        Ok(at) => {
            let (year, month, day) = at.to_calendar_date();
            let (hour, minute, second) = at.to_hms();
            format!("{year}-{:02}-{day:02} {hour:02}:{minute:02}:{second:02}", u8::from(month))
        }
        Err(_) => format!("{ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let all = [0, 12, 999, 1000, 12_345, 1_234_567, u64::MAX].map(grouped);
        assert_eq!(all, ["0", "12", "999", "1,000", "12,345", "1,234,567", "18,446,744,073,709,551,615"]);
        assert_eq!([0.0, 9.94, 9.96, 1234.4].map(rate), ["0.0", "9.9", "10", "1,234"]);
    }

    #[test]
    fn spans_and_moments_are_words() {
        let spans = [59, 60, 3599, 3600, 86_399, 86_400, 864_000].map(|seconds| about(Duration::from_secs(seconds)));
        assert_eq!(spans, ["less than a minute", "1 min", "59 min", "1 h", "23 h", "1 days", "10 days"]);
        assert_eq!([0, 5, 75].map(|seconds| left(Duration::from_secs(seconds))), ["1 s", "5 s", "1 min"]);
        assert_eq!(moment(1_772_352_000_999), "2026-03-01 08:00:00");
        assert_eq!((moment(-1), moment(i64::MAX)), ("1969-12-31 23:59:59".to_owned(), format!("{} ms", i64::MAX)));
    }
}
