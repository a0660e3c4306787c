//! Laws of segments in time: what is said to hold until a moment does hold until then.

use std::ops::Range;

use actionflow_core::segment::truth::{Truth, within_last, within_next};
use actionflow_core::segment::window::{self, Comparison, Fact, Window};
use actionflow_core::segment::{duration, moment};
use jiff::SignedDuration;
use jiff::civil::DateTime;
use proptest::prelude::*;

/// Small enough to try every moment, and for moments of different leaves to coincide.
const MOMENTS: Range<i64> = -2..34;

#[derive(Debug, Clone)]
enum Tree {
    /// A step function: the value before any step, then the moments from which it has another one, or the same again.
    Leaf(bool, Vec<(i64, bool)>),
    All(Vec<Tree>),
    Any(Vec<Tree>),
    Not(Box<Tree>),
}

impl Tree {
    fn holds(&self, now: i64) -> bool {
        match self {
            Self::Leaf(first, steps) => steps
                .iter()
                .rev()
                .find(|(at, _)| *at <= now)
                .map_or(*first, |(_, value)| *value),
            Self::All(children) => children.iter().all(|child| child.holds(now)),
            Self::Any(children) => children.iter().any(|child| child.holds(now)),
            Self::Not(child) => !child.holds(now),
        }
    }

    fn truth(&self, now: i64) -> Truth {
        match self {
            Self::Leaf(_, steps) => Truth {
                holds: self.holds(now),
                flips_at: steps.iter().map(|(at, _)| *at).find(|at| *at > now),
            },
            Self::All(children) => Truth::all(children.iter().map(|child| child.truth(now))),
            Self::Any(children) => Truth::any(children.iter().map(|child| child.truth(now))),
            Self::Not(child) => child.truth(now).not(),
        }
    }
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = (
        any::<bool>(),
        prop::collection::btree_map(0i64..32, any::<bool>(), 0..4),
    )
        .prop_map(|(first, steps)| Tree::Leaf(first, steps.into_iter().collect()));
    leaf.prop_recursive(4, 24, 4, |inner| {
        let children = prop::collection::vec(inner.clone(), 0..4);
        prop_oneof![
            children.clone().prop_map(Tree::All),
            children.prop_map(Tree::Any),
            inner.prop_map(|child| Tree::Not(Box::new(child))),
        ]
    })
}

fn truths() -> impl Strategy<Value = Vec<Truth>> {
    let truth = (any::<bool>(), prop::option::weighted(0.9, 1i64..40))
        .prop_map(|(holds, flips_at)| Truth { holds, flips_at });
    prop::collection::vec(truth, 0..5)
}

/// `None` is never, so it is after every moment.
fn moment_of(truth: Truth) -> i64 {
    truth.flips_at.unwrap_or(i64::MAX)
}

fn comparisons(values: Range<i64>) -> impl Strategy<Value = Vec<(Comparison, i64)>> {
    let comparison = prop::sample::select(&Comparison::ALL[..]);
    prop::collection::vec((comparison, values), 0..3)
}

fn all_facts() -> impl Strategy<Value = Vec<Fact<i64>>> {
    let fact = (-20i64..30, prop::option::weighted(0.8, -5i64..10))
        .prop_map(|(at, amount)| Fact { at, amount });
    prop::collection::vec(fact, 0..12).prop_map(|mut facts| {
        facts.sort_by_key(|fact| fact.at);
        facts
    })
}

fn window_holds(facts: &[Fact<i64>], window: &Window<'_, i64>, now: i64) -> bool {
    let counted: Vec<_> = facts
        .iter()
        .filter(|fact| fact.at <= now && window.within_us.is_none_or(|w| fact.at > now - w))
        .collect();
    let count = i64::try_from(counted.len()).expect("a few facts");
    let sum: i64 = counted.iter().filter_map(|fact| fact.amount).sum();
    window.count.iter().all(|(c, value)| c.holds(&count, value))
        && window.sum.iter().all(|(c, value)| c.holds(&sum, value))
}

fn printed(microseconds: i64) -> String {
    (DateTime::constant(1970, 1, 1, 0, 0, 0, 0) + SignedDuration::from_micros(microseconds))
        .to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn a_tree_keeps_its_value_and_its_bound_until_the_moment_it_names(tree in trees()) {
        for now in MOMENTS {
            let truth = tree.truth(now);
            prop_assert_eq!(truth.holds, tree.holds(now));
            prop_assert!(moment_of(truth) > now);
            for later in now..MOMENTS.end.min(moment_of(truth)) {
                prop_assert_eq!(tree.holds(later), truth.holds, "at {} from {}", later, now);
                prop_assert!(moment_of(tree.truth(later)) >= moment_of(truth));
            }
        }
    }

    #[test]
    fn no_bound_is_nearer_than_its_children_allow(children in truths()) {
        let all = Truth::all(children.iter().copied());
        let lost: Vec<_> = children.iter().filter(|child| !child.holds).collect();
        let expected = if lost.is_empty() {
            children.iter().map(|child| moment_of(*child)).min().unwrap_or(i64::MAX)
        } else {
            lost.into_iter().map(|child| moment_of(*child)).max().expect("one is lost")
        };
        prop_assert_eq!(all.holds, children.iter().all(|child| child.holds));
        prop_assert_eq!(moment_of(all), expected);
        let any = Truth::any(children.iter().map(|child| child.not()));
        prop_assert_eq!(any, all.not());
    }

    #[test]
    fn an_event_condition_changes_exactly_when_it_says(
        facts in all_facts(),
        count in comparisons(-1..8),
        sum in comparisons(-10..30),
        within_us in prop::option::weighted(0.7, 1i64..30),
        now in -25i64..65,
    ) {
        let window = Window { count: &count, sum: &sum, within_us };
        let truth = window::truth(&facts, &window, 0, now);
        let holds = window_holds(&facts, &window, now);
        prop_assert_eq!(truth.holds, holds);
        let first_change = (now + 1..100).find(|m| window_holds(&facts, &window, *m) != holds);
        prop_assert_eq!(truth.flips_at, first_change);
        prop_assert_eq!(
            window::holds_without_events(&count, &sum, &0),
            window_holds(&[], &window, now)
        );
    }

    #[test]
    fn nearness_to_now_changes_exactly_when_it_says(
        value in -20i64..20,
        duration in 1i64..20,
        now in -50i64..50,
    ) {
        let last = |now: i64| value > now - duration && value <= now;
        let next = |now: i64| value > now && value <= now + duration;
        let first_change = |holds: &dyn Fn(i64) -> bool| Truth {
            holds: holds(now),
            flips_at: (now + 1..100).find(|m| holds(*m) != holds(now)),
        };
        prop_assert_eq!(within_last(value, duration, now), first_change(&last));
        prop_assert_eq!(within_next(value, duration, now), first_change(&next));
    }

    #[test]
    fn nearness_never_overflows(value in any::<i64>(), duration in any::<i64>(), now in any::<i64>()) {
        for truth in [within_last(value, duration, now), within_next(value, duration, now)] {
            prop_assert!(truth.flips_at.is_none_or(|at| at > now));
        }
    }

    #[test]
    fn reading_a_duration_never_panics(
        text in "\\PC{0,110}|[-+]?P?[0-9.]{0,25}[A-Za-z ]{0,8}[0-9.]{0,12}[TDHMSdhms: ,]{0,4}[0-9]{0,9}[A-Za-z]{0,7}",
    ) {
        if let Some(microseconds) = duration::parse(&text) {
            prop_assert!((1..=36_500 * moment::DAY_US).contains(&microseconds));
        }
    }

    #[test]
    fn the_units_of_a_duration_add_up(days in 0i64..10_000, hours in 0i64..100, microseconds in 1i64..1_000_000) {
        let expected = days * moment::DAY_US + hours * 3_600_000_000 + microseconds;
        let fraction = format!("{:06}", microseconds);
        let iso = format!("P{days}DT{hours}H0.{fraction}S");
        let friendly = format!("{days} days {hours} hours {microseconds} microseconds");
        prop_assert_eq!(duration::parse(&iso), Some(expected), "{}", iso);
        prop_assert_eq!(duration::parse(&friendly), Some(expected), "{}", friendly);
    }

    #[test]
    fn reading_a_moment_never_panics(
        text in "\\PC{0,60}|[-+]?[0-9]{4,6}-[0-9]{2}-[0-9]{2}([Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,12})?)?)?([Zz]|[-+][0-9:]{2,8})?",
    ) {
        let parsed = moment::parse(&text);
        prop_assert!(parsed.is_some() || !moment::is_date(&text));
        prop_assert!(parsed.is_none_or(|m| !moment::is_date(&text) || m.rem_euclid(moment::DAY_US) == 0));
    }

    #[test]
    fn a_printed_moment_is_read_back(
        microseconds in -719_161 * moment::DAY_US..2_932_896 * moment::DAY_US,
        offset_minutes in -14 * 60i64..=14 * 60,
    ) {
        let utc = printed(microseconds);
        prop_assert_eq!(moment::parse(&utc), Some(microseconds), "{}", utc);
        prop_assert_eq!(moment::parse(&format!("{utc}Z")), Some(microseconds), "{}", utc);
        let sign = if offset_minutes < 0 { '-' } else { '+' };
        let (hours, minutes) = (offset_minutes.abs() / 60, offset_minutes.abs() % 60);
        let there = printed(microseconds + offset_minutes * 60_000_000);
        let there = format!("{}{sign}{hours:02}:{minutes:02}", there.replace('T', " "));
        prop_assert_eq!(moment::parse(&there), Some(microseconds), "{}", there);
        let midnight = microseconds.div_euclid(moment::DAY_US) * moment::DAY_US;
        let date = &utc[..10];
        prop_assert!(moment::is_date(date));
        prop_assert_eq!(moment::parse(date), Some(midnight), "{}", date);
    }
}
