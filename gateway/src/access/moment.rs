//! Moments as machines write them.

use shared::time::WallMillis;
use time::OffsetDateTime;

/// RFC 3339 in UTC, to the millisecond; a moment past the year 9999 reads as the end of that year.
pub(crate) fn rfc3339(at: WallMillis) -> String {
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    let moment = OffsetDateTime::from_unix_timestamp(seconds);
    let Ok(moment) = moment else { return "9999-12-31T23:59:59.999Z".to_owned() };
    let (year, month, day) = moment.to_calendar_date();
    let (hour, minute, second) = moment.to_hms();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", at.0 % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_in_utc() {
        assert_eq!(rfc3339(WallMillis(1_772_352_000_007)), "2026-03-01T08:00:00.007Z");
        assert_eq!(rfc3339(WallMillis(u64::MAX)), "9999-12-31T23:59:59.999Z");
    }
}
