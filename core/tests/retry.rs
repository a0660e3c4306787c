//! Laws of the retry schedule.

use std::time::{Duration, SystemTime};

use actionflow_core::retry::{MAX_RETRY_AFTER, delay, parse_retry_after};
use proptest::prelude::*;

proptest! {
    #[test]
    fn the_wait_stays_within_a_fifth_of_the_schedule(seconds in 0u64..1_000_000, random in 0.0..1.0f64) {
        let wait = delay(&[Duration::from_secs(seconds)], 0, random, None).expect("one retry is left");
        let scheduled = seconds as f64;
        prop_assert!((scheduled * 0.799_999..=scheduled * 1.200_001).contains(&wait.as_secs_f64()));
    }

    #[test]
    fn the_wait_is_never_shorter_than_the_receiver_asks(
        seconds in 0u64..1000,
        asked in 0u64..200_000,
        random in any::<f64>(),
    ) {
        let asked = Duration::from_secs(asked);
        let wait = delay(&[Duration::from_secs(seconds)], 0, random, Some(asked)).expect("one retry is left");
        prop_assert!(wait >= asked.min(MAX_RETRY_AFTER));
        prop_assert!(wait <= asked.min(MAX_RETRY_AFTER).max(Duration::from_secs(seconds).mul_f64(1.21)));
    }

    #[test]
    fn reading_retry_after_never_panics(value in "\\PC{0,40}|[0-9.]{0,400}") {
        if let Some(wait) = parse_retry_after(&value, SystemTime::UNIX_EPOCH) {
            prop_assert!(wait <= MAX_RETRY_AFTER);
        }
    }
}
