//! What the end of an attempt means for its delivery.

use std::time::Duration;

/// Which answers of an endpoint count as success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SuccessRule {
    /// Exactly 200.
    #[default]
    Status200,
    /// Any status from 200 to 299.
    Status2xx,
}

impl SuccessRule {
    /// Reads the endpoint option `success`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "200" => Some(Self::Status200),
            "2xx" => Some(Self::Status2xx),
            _ => None,
        }
    }

    fn accepts(self, status: u16) -> bool {
        match self {
            Self::Status200 => status == 200,
            Self::Status2xx => (200..300).contains(&status),
        }
    }
}

/// Why a request got no complete answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// The request could not be built from the endpoint's settings.
    Unsendable,
    /// The address guard refused every address of the host.
    AddressRefused,
    /// No connection: name resolution, TCP or TLS failed.
    Connect,
    /// The time allowed for the whole attempt ran out.
    Timeout,
    /// The connection broke, or what came back is not HTTP.
    Broken,
    /// The attempt itself failed inside the worker.
    Panicked,
}

/// What becomes of a delivery after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint accepted it.
    Delivered,
    /// It is tried again after this wait.
    Retry(Duration),
    /// The schedule is used up.
    Dead,
    /// The receiver wants no more (410): the endpoint is disabled, and the delivery waits for it to be enabled again.
    Gone,
}

/// Decides what an attempt means. `next` is the wait before the next attempt, `None` when the schedule is used up.
///
/// Every failure is retried alike: a status that looks final, or an address refused, is often a mistake that the endpoint's
/// owner repairs within the schedule.
#[must_use]
pub fn classify(
    answer: Result<u16, SendError>,
    success: SuccessRule,
    next: Option<Duration>,
) -> Outcome {
    match (answer, next) {
        (Ok(status), _) if success.accepts(status) => Outcome::Delivered,
        (Ok(410), _) => Outcome::Gone,
        (_, Some(wait)) => Outcome::Retry(wait),
        (_, None) => Outcome::Dead,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Dead, Delivered, Gone, Retry};
    use SuccessRule::{Status2xx, Status200};

    const WAIT: Duration = Duration::from_secs(30);

    #[test]
    fn an_attempt_means() {
        let again = Some(WAIT);
        let table = [
            (Ok(200), Status200, again, Delivered),
            (Ok(200), Status200, None, Delivered),
            (Ok(201), Status200, again, Retry(WAIT)),
            (Ok(204), Status200, None, Dead),
            (Ok(204), Status2xx, again, Delivered),
            (Ok(299), Status2xx, None, Delivered),
            (Ok(199), Status2xx, again, Retry(WAIT)),
            (Ok(300), Status2xx, again, Retry(WAIT)),
            (Ok(302), Status200, again, Retry(WAIT)),
            (Ok(400), Status200, again, Retry(WAIT)),
            (Ok(404), Status200, None, Dead),
            (Ok(410), Status200, again, Gone),
            (Ok(410), Status2xx, None, Gone),
            (Ok(429), Status200, again, Retry(WAIT)),
            (Ok(503), Status2xx, None, Dead),
            (Err(SendError::Unsendable), Status200, again, Retry(WAIT)),
            (
                Err(SendError::AddressRefused),
                Status200,
                again,
                Retry(WAIT),
            ),
            (Err(SendError::Connect), Status200, None, Dead),
            (Err(SendError::Timeout), Status2xx, again, Retry(WAIT)),
            (Err(SendError::Broken), Status2xx, None, Dead),
            (Err(SendError::Panicked), Status200, again, Retry(WAIT)),
        ];
        for (answer, success, next, expected) in table {
            let outcome = classify(answer, success, next);
            assert_eq!(outcome, expected, "{answer:?} {success:?} {next:?}");
        }
    }

    #[test]
    fn the_success_rule_has_two_spellings() {
        assert_eq!(SuccessRule::parse("200"), Some(Status200));
        assert_eq!(SuccessRule::parse("2xx"), Some(Status2xx));
        assert_eq!(SuccessRule::parse("201"), None);
    }
}
