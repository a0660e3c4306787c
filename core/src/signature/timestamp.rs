//! Timestamps as senders write them. The text itself is signed, so that one moment has one spelling, and of fixed width, so
//! that no digit can be moved between it and what stands beside it.

use crate::input::{Error, Object};
use crate::segment::moment;

/// A timestamp's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Ten digits.
    Seconds,
    /// Thirteen digits.
    Milliseconds,
    /// Sixteen digits.
    Microseconds,
    /// RFC 3339 with capital letters: `2023-11-14T22:13:20.5Z`, `2023-11-14T23:13:20+01:00`.
    Iso8601,
}

impl Format {
    /// Reads the key `format`; seconds when there is none.
    pub(super) fn read(object: &Object<'_>) -> Result<Self, Error> {
        match object.text("format")? {
            None | Some("s") => Ok(Self::Seconds),
            Some("ms") => Ok(Self::Milliseconds),
            Some("us") => Ok(Self::Microseconds),
            Some("iso8601") => Ok(Self::Iso8601),
            Some(_) => Err(object.place.key("format").unusable(
                "unknown format of a timestamp",
                "Use one of: \"s\", \"ms\", \"us\", \"iso8601\".",
            )),
        }
    }

    /// The moment in microseconds since 1970; `None` when the text has another form.
    pub(super) fn microseconds(self, text: &str) -> Option<i64> {
        match self {
            Self::Seconds => digits(text, 10)?.checked_mul(1_000_000),
            Self::Milliseconds => digits(text, 13)?.checked_mul(1_000),
            Self::Microseconds => digits(text, 16),
            Self::Iso8601 if is_rfc3339(text.as_bytes()) => moment::parse(text),
            Self::Iso8601 => None,
        }
    }
}

fn digits(text: &str, count: usize) -> Option<i64> {
    let is_number = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// Only the form; whether the date exists is for the parser to say.
fn is_rfc3339(text: &[u8]) -> bool {
    let Some((start, rest)) = text.split_at_checked(19) else {
        return false;
    };
    let rest = match rest.strip_prefix(b".") {
        None => rest,
        Some(fraction) => {
            let length = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
            match (length, fraction.get(length..)) {
                (1..=9, Some(rest)) => rest,
                _ => return false,
            }
        }
    };
    let offset_fits = rest == b"Z" || fits(rest, b"+00:00") || fits(rest, b"-00:00");
    fits(start, b"0000-00-00T00:00:00") && offset_fits
}

/// Whether a text has digits where the pattern has zeros, and the same characters elsewhere.
fn fits(text: &[u8], pattern: &[u8]) -> bool {
    let same = |(byte, shape): (&u8, &u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        _ => byte == shape,
    };
    text.len() == pattern.len() && text.iter().zip(pattern).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_is_read_and_no_other() {
        let second = 1_700_000_000_000_000;
        assert_eq!(Format::Seconds.microseconds("1700000000"), Some(second));
        assert_eq!(
            Format::Milliseconds.microseconds("1700000000001"),
            Some(second + 1000)
        );
        assert_eq!(
            Format::Microseconds.microseconds("1700000000000001"),
            Some(second + 1)
        );
        for text in [
            "",
            "170000000",
            "17000000000",
            "+170000000",
            "-170000000",
            " 170000000",
            "1700000000 ",
            "17_0000000",
            "1700000.00",
            "1.70000e09",
            "0x6553f100",
            "NaN",
            "1700000000000",
            "１７０００００００",
        ] {
            assert_eq!(Format::Seconds.microseconds(text), None, "{text}");
        }
    }

    #[test]
    fn an_iso_timestamp_is_complete_and_strict() {
        let read = |text| Format::Iso8601.microseconds(text);
        let second = 1_700_000_000_000_000;
        for text in [
            "2023-11-14T22:13:20Z",
            "2023-11-14T22:13:20.000000000Z",
            "2023-11-14T23:43:20+01:30",
            "2023-11-14T21:13:20.0-01:00",
        ] {
            assert_eq!(read(text), Some(second), "{text}");
        }
        for text in [
            "",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "2023-11-14t22:13:20Z",
            "2023-11-14T22:13:20z",
            "2023-11-14 22:13:20Z",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20.0000000000Z",
            "2023-11-14T22:13:20,5Z",
            "2023-02-30T22:13:20Z",
            "2023-11-14T25:13:20Z",
            "2023-11-14T22:13:20+0100",
            "2023-11-14T22:13:20+01",
            "2023-11-14T22:13:20Z[UTC]",
            "+002023-11-14T22:13:20Z",
            "0000-11-14T22:13:20Z",
            "2023-11-14T22:13:20Z ",
            "2023-W46-2T22:13:20Z",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
