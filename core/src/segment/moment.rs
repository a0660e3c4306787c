//! Dates and times in rules. Those without an offset are UTC, so that a rule means the same in every session.

use jiff::civil::{DateTime, Time, datetime};
use jiff::fmt::temporal::Pieces;

/// A day in microseconds.
pub const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;

const EPOCH: DateTime = datetime(1970, 1, 1, 0, 0, 0, 0);

/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59.999999Z in microseconds: years of four digits.
const MIN_US: i64 = -719_162 * DAY_US;
const MAX_US: i64 = 2_932_897 * DAY_US - 1;

/// Reads an ISO 8601 date or date-time as microseconds since 1970; a date alone is its midnight.
///
/// A finer fraction is rounded to the nearest microsecond, as Postgres does. `None` when it cannot be read or lies outside the
/// years 0001 to 9999.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    let pieces = pieces(text)?;
    let time = pieces.time().unwrap_or(Time::midnight());
    let offset = pieces.to_numeric_offset().map_or(0, |o| o.seconds());
    let local = pieces.date().to_datetime(time).duration_since(EPOCH);
    let nanoseconds = local.as_nanos() - i128::from(offset) * 1_000_000_000;
    let microseconds = i64::try_from((nanoseconds + 500).div_euclid(1000)).ok()?;
    (MIN_US..=MAX_US)
        .contains(&microseconds)
        .then_some(microseconds)
}

/// The text that [`parse`] reads as these microseconds, in UTC; what lies outside the years 0001 to 9999 becomes the nearest
/// moment inside.
#[must_use]
pub fn text(microseconds: i64) -> String {
    // Not as an instant: those end two hours before the year 9999 does, for zones that are ahead of UTC.
    let since = jiff::SignedDuration::from_micros(microseconds.clamp(MIN_US, MAX_US));
    let moment = EPOCH.checked_add(since).unwrap_or(EPOCH);
    moment.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// Whether a text is a date alone, without a time.
#[must_use]
pub fn is_date(text: &str) -> bool {
    pieces(text).is_some_and(|pieces| pieces.time().is_none()) && parse(text).is_some()
}

fn pieces(text: &str) -> Option<Pieces<'_>> {
    let pieces = Pieces::parse(text).ok()?;
    // A zone in brackets may contradict the offset, and its meaning depends on the zone database of the machine.
    let has_zone = pieces.time_zone_annotation().is_some();
    (!has_zone && pieces.date().year() >= 1).then_some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    /// 2024-03-01T00:00:00Z.
    const MARCH: i64 = 1_709_251_200 * SECOND;

    #[test]
    fn dates_and_times_are_read_as_utc_unless_they_say_otherwise() {
        let ten = MARCH + 10 * 3600 * SECOND;
        let eight = MARCH + 8 * 3600 * SECOND;
        let cases = [
            ("1970-01-01", 0),
            ("2024-03-01", MARCH),
            ("2024-03-01T10:00:00Z", ten),
            ("2024-03-01t10:00:00z", ten),
            ("2024-03-01T10:00:00", ten),
            ("2024-03-01 10:00:00", ten),
            ("2024-03-01 10:00", ten),
            ("2024-03-01T10:00:00+00:00", ten),
            ("2024-03-01T10:00:00-00:00", ten),
            ("2024-03-01 10:00:00+02", eight),
            ("2024-03-01T10:00:00+0200", eight),
            ("2024-03-01T10:00:00.123456+02:00", eight + 123_456),
            ("2024-03-01T10:00:00.5Z", ten + SECOND / 2),
            ("2024-03-01T04:30:00-05:30", ten),
            ("2024-03-01T10:00:00.1234564Z", ten + 123_456),
            ("2024-03-01T10:00:00.123456500Z", ten + 123_457),
            ("1969-12-31T23:59:59.9999994Z", -1),
            ("1969-12-31T23:59:59.9999996Z", 0),
            ("2024-02-29", MARCH - DAY_US),
            ("0001-01-01", MIN_US),
            ("9999-12-31T23:59:59.999999Z", MAX_US),
            ("9999-12-31T23:59:59.999999-00:00", MAX_US),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_moment_of_the_years_1_to_9999_is_refused() {
        let cases = [
            "",
            "now",
            "infinity",
            "10:00:00",
            "2024",
            "2024-03",
            "2024-13-01",
            "2023-02-29",
            "2024-03-01T",
            "2024-03-01T25:00:00Z",
            "2024-03-01Z",
            "2024-03-01+02",
            "2024-03-01T10:00:00+99",
            "2024-03-01T10:00:00Z ",
            " 2024-03-01",
            "2024-03-01T10:00:00+01:00[Europe/Berlin]",
            "2024-03-01[UTC]",
            "0000-12-31",
            "0000-12-31T23:00:00-02:00",
            "0001-01-01T00:00:00+01:00",
            "-000001-01-01",
            "+010000-01-01",
            "9999-12-31T23:00:00-02:00",
            "9999-12-31T23:59:59.9999999Z",
            "01/03/2024",
            "1709251200",
        ];
        for text in cases {
            assert_eq!(parse(text), None, "{text:?}");
            assert!(!is_date(text), "{text:?}");
        }
    }

    #[test]
    fn a_date_is_told_from_a_date_with_a_time() {
        assert!(is_date("2024-03-01"));
        assert!(!is_date("2024-03-01T00:00:00"));
        assert!(!is_date("2024-03-01 00:00:00+02"));
    }
}
