//! Which partition of a history ring a moment belongs to.

/// Partitions of each ring; sql/history.sql creates as many.
pub const RING_SIZE: i64 = 16;

/// The partition for rows written at a moment, in seconds since 1970.
///
/// A partition takes a period of whole days, long enough that a row is older than the retention before its partition's
/// turn comes again: one partition is current and one is being emptied, so 14 periods cover the retention.
#[must_use]
pub fn ring_partition(retention_days: i32, at_seconds: i64) -> i16 {
    let period_days = (i64::from(retention_days.max(1)) + RING_SIZE - 3) / (RING_SIZE - 2);
    let period = at_seconds.div_euclid(86_400).div_euclid(period_days);
    i16::try_from(period.rem_euclid(RING_SIZE)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_comes_again_only_after_the_retention() {
        for days in [1, 13, 14, 15, 30, 90, 365, 3650] {
            let start = 1_795_000_000;
            let first = ring_partition(days, start);
            let mut left = None;
            let again = (0..20_000i64).find(|day| {
                let same = ring_partition(days, start + day * 86_400) == first;
                if !same && left.is_none() {
                    left = Some(*day);
                }
                same && left.is_some()
            });
            let again = again.expect("the ring closes");
            assert!(
                again - left.expect("left before") >= i64::from(days),
                "{days} days: {again}"
            );
        }
    }
}
