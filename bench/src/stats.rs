//! Summaries of repeated measurements.

/// Median and range of one figure over the rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Summary {
    /// `None` without samples.
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut samples: Vec<f64> = samples.into_iter().collect();
        samples.sort_by(f64::total_cmp);
        Some(Self {
            median: percentile(&samples, 50.0)?,
            min: *samples.first()?,
            max: *samples.last()?,
        })
    }
}

/// The nearest-rank percentile of sorted samples.
pub fn percentile(sorted: &[f64], percent: f64) -> Option<f64> {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_samples() {
        let samples: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&samples, 50.0), Some(100.0));
        assert_eq!(percentile(&samples, 99.0), Some(198.0));
        assert_eq!(percentile(&[], 50.0), None);
    }

    #[test]
    fn a_summary_does_not_depend_on_order() {
        let expected = Some(Summary {
            median: 2.0,
            min: 1.0,
            max: 9.0,
        });
        assert_eq!(Summary::of([9.0, 1.0, 2.0]), expected);
    }
}
