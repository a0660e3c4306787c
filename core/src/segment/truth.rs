//! What holds now, and until when at the earliest: the clock is asked again only then.

/// Whether something holds now, and the earliest moment at which the clock alone may change that.
///
/// The moment is a lower bound that only moves away: asked again before it, the answer is the same and the bound no earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truth {
    /// Whether it holds now.
    pub holds: bool,
    /// Microseconds since 1970, after now; `None` when time alone never changes it.
    pub flips_at: Option<i64>,
}

impl Truth {
    /// What time does not change.
    #[must_use]
    pub const fn always(holds: bool) -> Self {
        Self {
            holds,
            flips_at: None,
        }
    }

    /// The opposite, which changes at the same moments.
    #[must_use]
    pub const fn not(self) -> Self {
        Self {
            holds: !self.holds,
            flips_at: self.flips_at,
        }
    }

    /// Whether every child holds; no child at all holds.
    ///
    /// A child that never holds ends the reading of the children.
    #[must_use]
    pub fn all(children: impl Iterator<Item = Self>) -> Self {
        // While some children do not hold, the whole cannot before each of them has flipped: the last one counts.
        let mut until_held = None;
        let mut until_lost = None;
        for child in children {
            match child {
                Self {
                    holds: false,
                    flips_at: None,
                } => return child,
                Self { holds: false, .. } => until_held = until_held.max(child.flips_at),
                Self { holds: true, .. } => until_lost = earliest(until_lost, child.flips_at),
            }
        }
        Self {
            holds: until_held.is_none(),
            flips_at: until_held.or(until_lost),
        }
    }

    /// Whether some child holds; no child at all does not.
    ///
    /// A child that always holds ends the reading of the children.
    #[must_use]
    pub fn any(children: impl Iterator<Item = Self>) -> Self {
        Self::all(children.map(Self::not)).not()
    }
}

/// Whether `value` is in `(now - duration, now]`: from its own moment until just before the duration has passed.
///
/// `i64::MAX` and `i64::MIN` are infinity and -infinity, which are never within.
#[must_use]
pub fn within_last(value: i64, duration: i64, now: i64) -> Truth {
    between(Some(value), value.checked_add(duration), value, now)
}

/// Whether `value` is in `(now, now + duration]`: from the duration before its moment until just before that.
///
/// `i64::MAX` and `i64::MIN` are infinity and -infinity, which are never within.
#[must_use]
pub fn within_next(value: i64, duration: i64, now: i64) -> Truth {
    between(value.checked_sub(duration), Some(value), value, now)
}

/// Whether `now` is in `[from, until)`; an edge outside the range of `i64` is never reached.
fn between(from: Option<i64>, until: Option<i64>, value: i64, now: i64) -> Truth {
    let is_infinite = value == i64::MAX || value == i64::MIN;
    let is_over = until.is_some_and(|until| until <= now);
    if is_infinite || is_over {
        return Truth::always(false);
    }
    match from {
        Some(from) if now < from => Truth {
            holds: false,
            flips_at: Some(from),
        },
        _ => Truth {
            holds: true,
            flips_at: until,
        },
    }
}

fn earliest(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        _ => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(flips_at: impl Into<Option<i64>>) -> Truth {
        Truth {
            holds: true,
            flips_at: flips_at.into(),
        }
    }

    fn not_held(flips_at: impl Into<Option<i64>>) -> Truth {
        held(flips_at).not()
    }

    #[test]
    fn all_is_lost_with_the_first_child_and_held_with_the_last() {
        let cases: [(&[Truth], Truth); 8] = [
            (&[], held(None)),
            (&[held(None), held(None)], held(None)),
            (&[held(9), held(5), held(None), held(7)], held(5)),
            (&[not_held(5), not_held(9), not_held(7)], not_held(9)),
            (&[held(3), not_held(9), held(None)], not_held(9)),
            (&[not_held(9), held(20)], not_held(9)),
            (&[not_held(5), not_held(None), held(1)], not_held(None)),
            (&[not_held(i64::MIN), held(3)], not_held(i64::MIN)),
        ];
        for (children, expected) in cases {
            assert_eq!(
                Truth::all(children.iter().copied()),
                expected,
                "{children:?}"
            );
        }
    }

    #[test]
    fn any_is_held_until_the_last_child_and_not_held_until_the_first() {
        let cases: [(&[Truth], Truth); 6] = [
            (&[], not_held(None)),
            (&[held(5), held(9), held(7)], held(9)),
            (&[not_held(9), not_held(5), not_held(None)], not_held(5)),
            (&[not_held(3), held(9)], held(9)),
            (&[held(None), not_held(3)], held(None)),
            (&[not_held(None)], not_held(None)),
        ];
        for (children, expected) in cases {
            assert_eq!(
                Truth::any(children.iter().copied()),
                expected,
                "{children:?}"
            );
        }
    }

    #[test]
    fn a_decided_child_ends_the_reading() {
        let mut children = [Truth::always(true), Truth::always(false), held(1)].into_iter();
        assert_eq!(Truth::all(children.by_ref()), Truth::always(false));
        assert_eq!(children.len(), 1);
        let mut children = [not_held(1), Truth::always(true), held(1)].into_iter();
        assert_eq!(Truth::any(children.by_ref()), Truth::always(true));
        assert_eq!(children.len(), 1);
    }

    #[test]
    fn a_value_is_within_the_last_duration_from_its_moment_until_before_the_end() {
        let within = |now| within_last(100, 30, now);
        assert_eq!(within(99), not_held(100));
        assert_eq!(within(100), held(130));
        assert_eq!(within(129), held(130));
        assert_eq!(within(130), not_held(None));
    }

    #[test]
    fn a_value_is_within_the_next_duration_until_just_before_its_moment() {
        let within = |now| within_next(100, 30, now);
        assert_eq!(within(69), not_held(70));
        assert_eq!(within(70), held(100));
        assert_eq!(within(99), held(100));
        assert_eq!(within(100), not_held(None));
    }

    #[test]
    fn infinity_is_never_within_and_the_ends_of_the_range_do_not_overflow() {
        for now in [i64::MIN, 0, i64::MAX] {
            for value in [i64::MIN, i64::MAX] {
                assert_eq!(within_last(value, 30, now), Truth::always(false));
                assert_eq!(within_next(value, 30, now), Truth::always(false));
            }
        }
        let last = i64::MAX - 1;
        assert_eq!(within_last(last, 30, last), held(None));
        assert_eq!(within_last(last, i64::MAX, 0), not_held(last));
        let first = i64::MIN + 1;
        assert_eq!(within_next(first, 30, i64::MIN), held(first));
        assert_eq!(within_next(first, 30, 0), not_held(None));
    }
}
