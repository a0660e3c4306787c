//! When a failed request is made again: the endpoint's schedule, spread by jitter, and what the receiver asks for.

use std::time::{Duration, SystemTime};

/// How far a delay is spread around the scheduled one, so that deliveries which failed together do not return together.
const JITTER: f64 = 0.2;

/// The longest wait that a receiver can ask for; a longer one is taken as this.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// The wait before the next attempt, or `None` when the schedule is used up.
///
/// `retry` is the index into `schedule`: 0 after the first failure. `random` is a number from 0 to 1 that places the delay
/// between 80 % and 120 % of the scheduled one. `retry_after` is what the receiver asked for: the wait is never shorter
/// than that, up to [`MAX_RETRY_AFTER`].
#[must_use]
pub fn delay(
    schedule: &[Duration],
    retry: usize,
    random: f64,
    retry_after: Option<Duration>,
) -> Option<Duration> {
    let random = if random.is_finite() {
        random.clamp(0.0, 1.0)
    } else {
        0.5
    };
    let spread = schedule
        .get(retry)?
        .mul_f64(1.0 - JITTER + 2.0 * JITTER * random);
    let asked = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
    Some(spread.max(asked))
}

/// Reads a `Retry-After` header: seconds (a fraction is accepted) or an HTTP date, which counts from `now`.
///
/// A date in the past is no wait; anything unreadable is `None`. The answer is at most [`MAX_RETRY_AFTER`].
#[must_use]
pub fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let wait = if value.starts_with(|c: char| c.is_ascii_digit()) {
        let is_number = value.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let seconds: f64 = if is_number {
            value.parse().ok()?
        } else {
            return None;
        };
        // Clamped first: a number too large for a Duration would otherwise be an error, not a long wait.
        Duration::from_secs_f64(seconds.min(MAX_RETRY_AFTER.as_secs_f64()))
    } else {
        let date = httpdate::parse_http_date(value).ok()?;
        date.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_wait_follows_the_schedule_and_ends_with_it() {
        let schedule = [Duration::from_secs(30), MINUTE];
        assert_eq!(
            delay(&schedule, 0, 0.5, None),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            delay(&schedule, 1, 0.0, None),
            Some(Duration::from_secs(48))
        );
        assert_eq!(
            delay(&schedule, 1, 1.0, None),
            Some(Duration::from_secs(72))
        );
        assert_eq!(delay(&schedule, 2, 0.5, None), None);
        assert_eq!(delay(&schedule, 2, 0.5, Some(MINUTE)), None);
        assert_eq!(delay(&[], 0, 0.5, None), None);
    }

    #[test]
    fn a_receiver_can_ask_for_a_longer_wait_but_not_a_shorter_one_or_more_than_a_day() {
        let wait = |asked| delay(&[MINUTE], 0, 0.5, Some(asked));
        assert_eq!(wait(Duration::from_secs(5)), Some(MINUTE));
        assert_eq!(wait(Duration::from_secs(90)), Some(Duration::from_secs(90)));
        assert_eq!(wait(Duration::MAX), Some(MAX_RETRY_AFTER));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        // 1994-11-06 08:49:37 UTC, the example date of RFC 9110.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let cases = [
            ("120", Some(Duration::from_secs(120))),
            (" 0 ", Some(Duration::ZERO)),
            ("1.5", Some(Duration::from_millis(1500))),
            ("99999999999999999999999", Some(MAX_RETRY_AFTER)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(MINUTE)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(MINUTE)),
            ("Sun Nov  6 08:50:37 1994", Some(MINUTE)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(Duration::ZERO)),
            ("Sat, 06 Nov 2094 08:00:00 GMT", Some(MAX_RETRY_AFTER)),
            ("", None),
            ("-1", None),
            ("soon", None),
            ("1e3", None),
            ("1.2.3", None),
            ("60 seconds", None),
        ];
        for (value, expected) in cases {
            assert_eq!(parse_retry_after(value, now), expected, "{value:?}");
        }
    }
}
