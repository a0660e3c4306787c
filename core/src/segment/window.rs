//! Event conditions: how many of a customer's events count now, what they sum up to, and when the clock changes the answer.

use std::ops::{Add, Sub};

use super::truth::Truth;

/// One event of a customer that a condition may count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fact<N> {
    /// When it occurred, in microseconds since 1970.
    pub at: i64,
    /// The number to sum; `None` when the event has none.
    pub amount: Option<N>,
}

/// How a count or a sum is compared with a given number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
}

impl Comparison {
    /// Every comparison, in the order of its documentation.
    pub const ALL: [Self; 6] = [Self::Eq, Self::Ne, Self::Gt, Self::Gte, Self::Lt, Self::Lte];

    /// The key in a rule, such as `gte`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Ne => "ne",
            Self::Gt => "gt",
            Self::Gte => "gte",
            Self::Lt => "lt",
            Self::Lte => "lte",
        }
    }

    /// The comparison of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name() == name)
    }

    /// Whether `left` compares so with `right`.
    #[must_use]
    pub fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Eq => left == right,
            Self::Ne => left != right,
            Self::Gt => left > right,
            Self::Gte => left >= right,
            Self::Lt => left < right,
            Self::Lte => left <= right,
        }
    }
}

/// What an event condition asks of the events that count; all comparisons must hold.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a, N> {
    /// Comparisons of the number of events.
    pub count: &'a [(Comparison, i64)],
    /// Comparisons of the sum of their amounts.
    pub sum: &'a [(Comparison, N)],
    /// At a moment `m`, the events in `(m - within_us, m]` count; without it, all up to `m`.
    pub within_us: Option<i64>,
}

impl<N> Window<'_, N> {
    /// Whether a fact has left the window at a moment. One that would leave beyond the range of `i64` stays.
    fn is_past(&self, fact: &Fact<N>, moment: i64) -> bool {
        self.leaves_at(fact).is_some_and(|at| at <= moment)
    }

    fn leaves_at(&self, fact: &Fact<N>) -> Option<i64> {
        fact.at.checked_add(self.within_us?)
    }
}

/// Whether an event condition holds now, and the first moment after now at which it no longer does, or does.
///
/// `facts` are in ascending order of `at`, those of the future included. `zero` is the sum of none. The sum is kept by adding
/// and subtracting, so `N` should be exact, like a decimal: floating-point numbers would carry their rounding along.
#[must_use]
pub fn truth<N>(facts: &[Fact<N>], window: &Window<'_, N>, zero: N, now: i64) -> Truth
where
    N: Clone + PartialOrd + Add<Output = N> + Sub<Output = N>,
{
    if window.within_us.is_some_and(|within| within <= 0) {
        return Truth::always(holds_without_events(window.count, window.sum, &zero));
    }
    // The counted facts are facts[first..end], and both ends only move up.
    let mut first = facts.partition_point(|fact| window.is_past(fact, now));
    let mut end = facts.partition_point(|fact| fact.at <= now);
    let mut sum = zero;
    if !window.sum.is_empty() {
        for amount in amounts(&facts[first..end]) {
            sum = sum + amount;
        }
    }
    let holds = compare(window.count, window.sum, end - first, &sum);
    while let Some(moment) = next_change(facts, window, first, end) {
        let come = count_while(&facts[end..], |fact| fact.at <= moment);
        let gone = count_while(&facts[first..], |fact| window.is_past(fact, moment));
        if !window.sum.is_empty() {
            for amount in amounts(&facts[end..end + come]) {
                sum = sum + amount;
            }
            for amount in amounts(&facts[first..first + gone]) {
                sum = sum - amount;
            }
        }
        first += gone;
        end += come;
        if compare(window.count, window.sum, end - first, &sum) != holds {
            return Truth {
                holds,
                flips_at: Some(moment),
            };
        }
    }
    Truth::always(holds)
}

/// Whether an event condition holds for a customer without events; `zero` is the sum of none.
#[must_use]
pub fn holds_without_events<N: PartialOrd>(
    count: &[(Comparison, i64)],
    sum: &[(Comparison, N)],
    zero: &N,
) -> bool {
    compare(count, sum, 0, zero)
}

/// The first moment at which a counted fact leaves or a future one comes.
fn next_change<N>(
    facts: &[Fact<N>],
    window: &Window<'_, N>,
    first: usize,
    end: usize,
) -> Option<i64> {
    let comes = facts.get(end).map(|fact| fact.at);
    let leaves = facts.get(first).and_then(|fact| window.leaves_at(fact));
    comes.into_iter().chain(leaves).min()
}

fn compare<N: PartialOrd>(
    count: &[(Comparison, i64)],
    sum: &[(Comparison, N)],
    counted: usize,
    summed: &N,
) -> bool {
    let counted = i64::try_from(counted).unwrap_or(i64::MAX);
    count.iter().all(|(c, value)| c.holds(&counted, value))
        && sum.iter().all(|(c, value)| c.holds(summed, value))
}

fn amounts<N: Clone>(facts: &[Fact<N>]) -> impl Iterator<Item = N> {
    facts.iter().filter_map(|fact| fact.amount.clone())
}

fn count_while<N>(facts: &[Fact<N>], is_counted: impl Fn(&Fact<N>) -> bool) -> usize {
    facts.iter().take_while(|fact| is_counted(fact)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_SUM: &[(Comparison, i64)] = &[];

    fn facts(moments: &[(i64, i64)]) -> Vec<Fact<i64>> {
        moments
            .iter()
            .map(|&(at, amount)| Fact {
                at,
                amount: Some(amount),
            })
            .collect()
    }

    fn changes_at(holds: bool, moment: i64) -> Truth {
        Truth {
            holds,
            flips_at: Some(moment),
        }
    }

    #[test]
    fn a_comparison_is_read_by_its_name() {
        for comparison in Comparison::ALL {
            assert_eq!(Comparison::parse(comparison.name()), Some(comparison));
        }
        assert_eq!(Comparison::parse("EQ"), None);
        let holding = |left, right| {
            let all = Comparison::ALL.into_iter();
            all.filter(|c| c.holds(&left, &right))
                .map(Comparison::name)
                .collect::<Vec<_>>()
        };
        assert_eq!(holding(1, 2), ["ne", "lt", "lte"]);
        assert_eq!(holding(2, 2), ["eq", "gte", "lte"]);
        assert_eq!(holding(3, 2), ["ne", "gt", "gte"]);
    }

    #[test]
    fn a_count_is_lost_when_the_deciding_event_leaves_the_window() {
        let window = Window {
            count: &[(Comparison::Gte, 2)],
            sum: NO_SUM,
            within_us: Some(10),
        };
        let events = facts(&[(1, 0), (3, 0), (4, 0)]);
        let at = |now| truth(&events, &window, 0, now);
        assert_eq!(at(0), changes_at(false, 3));
        assert_eq!(at(3), changes_at(true, 13));
        assert_eq!(at(12), changes_at(true, 13));
        assert_eq!(at(13), Truth::always(false));
    }

    #[test]
    fn events_that_come_and_go_at_one_moment_change_nothing() {
        let window = Window {
            count: &[(Comparison::Eq, 1)],
            sum: NO_SUM,
            within_us: Some(10),
        };
        let events = facts(&[(0, 0), (10, 0), (20, 0)]);
        assert_eq!(truth(&events, &window, 0, 5), changes_at(true, 30));
        let pair = facts(&[(0, 0), (10, 0), (10, 0), (20, 0), (20, 0)]);
        assert_eq!(truth(&pair, &window, 0, 5), changes_at(true, 10));
        assert_eq!(truth(&pair, &window, 0, 10), Truth::always(false));
    }

    #[test]
    fn a_sum_takes_numbers_only_and_follows_the_window() {
        let window = Window {
            count: &[],
            sum: &[(Comparison::Gt, 100)],
            within_us: Some(10),
        };
        let mut events = facts(&[(1, 60), (2, 50), (5, -20), (8, 30)]);
        events.insert(
            1,
            Fact {
                at: 2,
                amount: None,
            },
        );
        let at = |now| truth(&events, &window, 0, now);
        assert_eq!(at(0), changes_at(false, 2));
        assert_eq!(at(2), changes_at(true, 5));
        assert_eq!(at(5), changes_at(false, 8));
        assert_eq!(at(8), changes_at(true, 11));
        assert_eq!(at(11), Truth::always(false));
    }

    #[test]
    fn without_a_window_only_future_events_change_the_answer() {
        let window = Window {
            count: &[(Comparison::Gte, 1), (Comparison::Lte, 2)],
            sum: NO_SUM,
            within_us: None,
        };
        let events = facts(&[(1, 0), (2, 0), (9, 0)]);
        assert_eq!(
            truth(&events[..2], &window, 0, i64::MAX),
            Truth::always(true)
        );
        assert_eq!(truth(&events, &window, 0, 5), changes_at(true, 9));
        assert_eq!(truth(&events, &window, 0, 9), Truth::always(false));
    }

    #[test]
    fn a_customer_without_events_is_judged_by_zero() {
        let count = |comparison| holds_without_events(&[(comparison, 0)], NO_SUM, &0);
        assert!(count(Comparison::Eq) && !count(Comparison::Gt));
        assert!(holds_without_events(&[], &[(Comparison::Lt, 1)], &0));
        assert!(!holds_without_events(&[], &[(Comparison::Lt, 0)], &0));
        assert!(holds_without_events(&[], NO_SUM, &0));
    }

    #[test]
    fn the_ends_of_the_range_do_not_overflow() {
        let window = Window {
            count: &[(Comparison::Gte, 1)],
            sum: NO_SUM,
            within_us: Some(i64::MAX),
        };
        let events = facts(&[(i64::MAX - 1, 0)]);
        assert_eq!(
            truth(&events, &window, 0, i64::MIN),
            changes_at(false, i64::MAX - 1)
        );
        assert_eq!(truth(&events, &window, 0, i64::MAX), Truth::always(true));
        for within_us in [0, -1, i64::MIN] {
            let empty = Window {
                within_us: Some(within_us),
                ..window
            };
            assert_eq!(truth(&events, &empty, 0, 0), Truth::always(false));
        }
    }
}
