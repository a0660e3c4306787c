//! Lengths of time in rules: exact, so a day is 24 hours, a month 30 days and a year 365 days.

use jiff::Span;

use super::moment::DAY_US;

/// Far above any length that can be written sensibly; it bounds the work of the parser.
const MAX_BYTES: usize = 100;

/// The longest duration: 100 years of 365 days.
const MAX_US: i64 = 100 * 365 * DAY_US;

/// Reads a positive duration in microseconds, such as `30 days`, `2 weeks 3 hours`, `1.5 hours` or ISO 8601 `P30D`.
///
/// `None` when it cannot be read, is zero or negative, is longer than 100 years, or is no whole number of microseconds.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let nanoseconds = nanoseconds(&text.parse().ok()?);
    let microseconds = i64::try_from(nanoseconds / 1000).ok()?;
    (nanoseconds % 1000 == 0 && (1..=MAX_US).contains(&microseconds)).then_some(microseconds)
}

/// Wide enough for every span: the largest has twelve times fewer digits than `i128`.
fn nanoseconds(span: &Span) -> i128 {
    let days = i64::from(span.get_years()) * 365
        + i64::from(span.get_months()) * 30
        + i64::from(span.get_weeks()) * 7
        + i64::from(span.get_days());
    let seconds = i64::from(span.get_hours()) * 3600 + span.get_minutes() * 60 + span.get_seconds();
    let microseconds = i128::from(days) * i128::from(DAY_US)
        + i128::from(seconds) * 1_000_000
        + i128::from(span.get_milliseconds()) * 1000
        + i128::from(span.get_microseconds());
    microseconds * 1000 + i128::from(span.get_nanoseconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const HOUR: i64 = 3600 * SECOND;

    #[test]
    fn friendly_and_iso_forms_are_read() {
        let cases = [
            ("30 days", 30 * DAY_US),
            ("1 day", DAY_US),
            ("24 hours", DAY_US),
            ("2 weeks 3 hours", 14 * DAY_US + 3 * HOUR),
            ("1 hour, 30 minutes", HOUR * 3 / 2),
            ("90 minutes", HOUR * 3 / 2),
            ("1.5 hours", HOUR * 3 / 2),
            ("1 day 02:30:00", DAY_US + HOUR * 5 / 2),
            ("1 month", 30 * DAY_US),
            ("12 months", 360 * DAY_US),
            ("1 year", 365 * DAY_US),
            (
                "1 year 1 month 1 week 1 day 1 hour 1 minute 1 second",
                403 * DAY_US + HOUR + 61 * SECOND,
            ),
            ("250 ms", SECOND / 4),
            ("1 microsecond", 1),
            ("0.000001 seconds", 1),
            ("1000 ns", 1),
            ("P30D", 30 * DAY_US),
            ("p30d", 30 * DAY_US),
            ("PT12H", 12 * HOUR),
            ("P1Y2M3DT4H", (365 + 60 + 3) * DAY_US + 4 * HOUR),
            ("P1M", 30 * DAY_US),
            ("PT1M", 60 * SECOND),
            ("PT0.5S", SECOND / 2),
            ("100 years", MAX_US),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn what_is_unreadable_or_not_positive_or_too_long_is_refused() {
        let cases = [
            "",
            "30",
            "days",
            "a week",
            "30 parsecs",
            "P",
            "PT",
            "P30",
            "0 days",
            "PT0S",
            "-1 day",
            "1 day ago",
            "-P1D",
            "1 nanosecond",
            "1001 ns",
            "PT1.0000005S",
            "1.5 days",
            "100 years 1 microsecond",
            "101 years",
            "36501 days",
            "99999999999999999999 days",
            "NaN hours",
            "1 day\0",
            "1 dáy",
        ];
        for text in cases {
            assert_eq!(parse(text), None, "{text:?}");
        }
        let padded = |bytes: usize| format!("1{}day", " ".repeat(bytes - 4));
        assert_eq!(parse(&padded(MAX_BYTES)), Some(DAY_US));
        assert_eq!(parse(&padded(MAX_BYTES + 1)), None);
    }
}
