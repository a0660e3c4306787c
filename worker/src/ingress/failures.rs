//! What the log says of webhooks that the database did not answer: one line at a time, however many there are.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::inbound::{Failure, Inbound};

/// While the database is away each webhook fails, thousands in a second; a line in this time is enough.
const ONE_LINE_IN: Duration = Duration::from_secs(1);

/// The log of failures.
#[derive(Default)]
pub(super) struct Failures {
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    logged: Option<Instant>,
    unlogged: u64,
}

impl Failures {
    /// Logs a failure, or counts it for the next line. The line has no body, header or token, nor anything of them that the
    /// server repeats.
    pub(super) fn log(&self, inbound: &Inbound, failure: Failure) {
        let Some(unlogged) = self.turn() else { return };
        let Failure { kind, error } = failure;
        let webhook = fingerprint(&inbound.token);
        let error = error.without_data();
        tracing::warn!(%webhook, ?kind, unlogged, "failed to receive a webhook: {error}");
    }

    /// How many have not been logged since the last line, when it is time for the next.
    fn turn(&self) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.logged.is_some_and(|at| at.elapsed() < ONE_LINE_IN) {
            last.unlogged += 1;
            return None;
        }
        last.logged = Some(Instant::now());
        Some(std::mem::take(&mut last.unlogged))
    }
}

/// Enough of the token's hash to tell one webhook from another, too little to be of any other use.
fn fingerprint(token: &str) -> String {
    let hash = Sha256::digest(token.as_bytes());
    hash.iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_the_beginning_of_the_sha_256() {
        assert_eq!(fingerprint("abc"), "ba7816bf");
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_has_one_line_and_the_next_one_counts_the_rest() {
        let failures = Failures::default();
        assert_eq!(failures.turn(), Some(0));
        assert_eq!((failures.turn(), failures.turn()), (None, None));
        tokio::time::advance(ONE_LINE_IN).await;
        assert_eq!(failures.turn(), Some(2));
        assert_eq!(failures.turn(), None);
    }
}
