//! Waiting longer after each failure in a row.

use std::time::Duration;

/// Long enough not to be noticed by a server that is starting, short enough not to be noticed by people.
const FIRST: Duration = Duration::from_millis(100);

/// Waits that double from a tenth of a second to a limit, spread so that several workers do not return together.
pub(crate) struct Backoff {
    limit: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, failures: 0 }
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    pub(crate) fn next(&mut self) -> Duration {
        let wait = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(self.limit);
        self.failures = self.failures.saturating_add(1);
        wait.mul_f64(rand::random_range(0.75..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_to_its_limit_and_starts_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_secs(5));
        assert!(backoff.next() <= Duration::from_millis(100));
        for _ in 0..100 {
            backoff.next();
        }
        assert!(backoff.next() >= Duration::from_millis(3750));
        assert!(backoff.next() <= Duration::from_secs(5));
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
    }
}
