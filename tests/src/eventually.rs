//! Waiting for what another process does.

use std::time::{Duration, Instant};

/// How long a test waits for something that takes milliseconds on a healthy
/// system: far above what a busy machine needs, so that only a fault reaches it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks. Short against every wait in these tests, long against the cost of a query.
const PAUSE: Duration = Duration::from_millis(20);

/// Repeats `look` until it answers `Ok`.
///
/// # Panics
/// When `deadline` has passed, with the `Err` of the last look: the state that never became right.
pub async fn eventually<T>(
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let started = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(state) if started.elapsed() > deadline => {
                panic!("gave up after {deadline:?}; last state: {state}")
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
