//! The conditions on one attribute, arranged so that a value finds those that matter.

use std::collections::HashMap;
use std::rc::Rc;

use actionflow_core::segment::truth::Truth;
use pgrx::pg_sys::Datum;

use super::condition::{AttributeCondition, Condition, Limit, Probe, Test};
use crate::pg::types::DataType;

/// All conditions on one column, or on one path in it.
#[derive(Debug)]
pub(crate) struct AttributeIndex {
    column: usize,
    entries: Vec<Entry>,
    /// Entries by the hash of a value that they compare with.
    equal: HashMap<u64, Vec<usize>>,
    /// Both limits of all ranges, in their order: entry, and whether it is the lower one.
    limits: Vec<(usize, bool)>,
    /// Entries that open segments, by their lower limit, and those without one by their upper limit.
    opening_above: Vec<usize>,
    opening_below: Vec<usize>,
    /// `within_last`, by its length in microseconds.
    ages: Vec<(i64, usize)>,
    /// What has to be asked one by one.
    others: Vec<usize>,
}

#[derive(Debug)]
struct Entry {
    /// The condition's number in the matcher.
    number: usize,
    condition: Rc<Condition>,
    is_opening: bool,
}

impl Entry {
    fn probe(&self) -> Option<&Probe> {
        match &*self.condition {
            Condition::Attribute(AttributeCondition { probe, .. }) => Some(probe),
            Condition::Event(_) => None,
        }
    }

    fn truth(&self, subject: Option<Datum>, now: i64) -> Truth {
        match (self.probe(), subject) {
            (Some(probe), Some(subject)) => probe.truth_of(subject, now),
            _ => Truth::always(false),
        }
    }

    fn limit(&self, is_lower: bool) -> Option<&Limit> {
        match &self.probe()?.test {
            Test::Range { lower, upper, .. } => (if is_lower { lower } else { upper }).as_ref(),
            _ => None,
        }
    }
}

impl AttributeIndex {
    pub(crate) fn new(column: usize) -> Self {
        Self {
            column,
            entries: Vec::new(),
            equal: HashMap::new(),
            limits: Vec::new(),
            opening_above: Vec::new(),
            opening_below: Vec::new(),
            ages: Vec::new(),
            others: Vec::new(),
        }
    }

    pub(crate) fn column(&self) -> usize {
        self.column
    }

    /// Adds a condition on this attribute; `is_opening` when some segment cannot hold for a new row without it.
    pub(crate) fn add(&mut self, number: usize, condition: &Rc<Condition>, is_opening: bool) {
        let place = self.entries.len();
        let entry = Entry {
            number,
            condition: Rc::clone(condition),
            is_opening,
        };
        if let Some(probe) = entry.probe() {
            match &probe.test {
                Test::OneOf(constants) => {
                    let hashes: Option<Vec<u64>> = constants
                        .iter()
                        .map(|constant| probe.data_type.hash(constant.value.datum()))
                        .collect();
                    match hashes {
                        None => self.others.push(place),
                        Some(hashes) => {
                            for hash in hashes {
                                self.equal.entry(hash).or_default().push(place);
                            }
                        }
                    }
                }
                // Between JSON types there is an order too, but not one that a condition follows.
                Test::Range {
                    json_type: None,
                    lower,
                    upper,
                } => {
                    self.limits.extend(lower.is_some().then_some((place, true)));
                    self.limits
                        .extend(upper.is_some().then_some((place, false)));
                    if is_opening && lower.is_some() {
                        self.opening_above.push(place);
                    } else if is_opening {
                        self.opening_below.push(place);
                    }
                }
                Test::WithinLast(duration) => self.ages.push((*duration, place)),
                _ => self.others.push(place),
            }
        }
        self.entries.push(entry);
    }

    /// To be called once, when all conditions have been added.
    pub(crate) fn sort(&mut self) {
        let Self {
            entries,
            limits,
            opening_above,
            opening_below,
            ages,
            ..
        } = self;
        let Some(data_type) = entries
            .first()
            .and_then(Entry::probe)
            .map(|probe| Rc::clone(&probe.data_type))
        else {
            return;
        };
        let value = |place: usize, is_lower: bool| {
            entries[place]
                .limit(is_lower)
                .map(|limit| limit.constant.value.datum())
        };
        let by = |a: Option<Datum>, b: Option<Datum>| match (a, b) {
            (Some(a), Some(b)) => data_type.compare(a, b),
            _ => std::cmp::Ordering::Equal,
        };
        limits.sort_by(|a, b| by(value(a.0, a.1), value(b.0, b.1)));
        opening_above.sort_by(|a, b| by(value(*a, true), value(*b, true)));
        opening_below.sort_by(|a, b| by(value(*a, false), value(*b, false)));
        ages.sort_unstable();
    }

    fn data_type(&self) -> Option<&DataType> {
        Some(&self.entries.first()?.probe()?.data_type)
    }

    fn subject(&self, value: Option<Datum>) -> Option<Datum> {
        self.entries.first()?.probe()?.subject(value)
    }

    fn limit_value(&self, (place, is_lower): (usize, bool)) -> Option<Datum> {
        Some(self.entries[place].limit(is_lower)?.constant.value.datum())
    }

    /// Visits opening conditions that hold for a value, or may come to hold by the clock.
    pub(crate) fn find_holding(
        &self,
        value: Option<Datum>,
        now: i64,
        visit: &mut impl FnMut(usize),
    ) {
        let Some((subject, data_type)) = self.subject(value).zip(self.data_type()) else {
            return;
        };
        let mut ask = |place: usize| {
            let entry = &self.entries[place];
            if entry.is_opening && entry.truth(Some(subject), now) != Truth::always(false) {
                visit(entry.number);
            }
        };
        for place in self.equal_to(subject, data_type) {
            ask(*place);
        }
        let reached = self.opening_above.partition_point(|place| {
            self.limit_value((*place, true))
                .is_some_and(|limit| data_type.compare(limit, subject).is_le())
        });
        let exceeded = self.opening_below.partition_point(|place| {
            self.limit_value((*place, false))
                .is_some_and(|limit| data_type.compare(limit, subject).is_lt())
        });
        let ranges = self.opening_above[..reached]
            .iter()
            .chain(&self.opening_below[exceeded..]);
        for place in ranges.chain(&self.others) {
            ask(*place);
        }
        for (_, place) in &self.ages[self.first_age_over(subject, now)..] {
            ask(*place);
        }
    }

    fn equal_to(&self, subject: Datum, data_type: &DataType) -> &[usize] {
        if self.equal.is_empty() {
            return &[];
        }
        data_type
            .hash(subject)
            .and_then(|hash| self.equal.get(&hash))
            .map_or(&[], Vec::as_slice)
    }

    /// Windows that are not longer than a moment's age do not hold it and never will.
    fn first_age_over(&self, subject: Datum, now: i64) -> usize {
        if self.ages.is_empty() {
            return 0;
        }
        let moment = self
            .entries
            .first()
            .and_then(Entry::probe)
            .and_then(|probe| probe.moment(subject));
        match moment {
            None => self.ages.len(),
            Some(moment) => {
                let age = now.saturating_sub(moment);
                self.ages.partition_point(|(duration, _)| *duration <= age)
            }
        }
    }

    /// Visits conditions that come out differently for two values, or change by the clock earlier for the new one.
    pub(crate) fn find_different(
        &self,
        old: Option<Datum>,
        new: Option<Datum>,
        now: i64,
        visit: &mut impl FnMut(usize),
    ) {
        let (old, new) = (self.subject(old), self.subject(new));
        let Some(data_type) = self.data_type() else {
            return;
        };
        let mut ask = |place: usize| {
            let entry = &self.entries[place];
            let (before, after) = (entry.truth(old, now), entry.truth(new, now));
            let is_sooner = after
                .flips_at
                .is_some_and(|after| before.flips_at.is_none_or(|before| after < before));
            if before.holds != after.holds || is_sooner {
                visit(entry.number);
            }
        };
        for subject in old.iter().chain(&new) {
            for place in self.equal_to(*subject, data_type) {
                ask(*place);
            }
        }
        for (place, _) in self.limits_between(old, new, data_type) {
            ask(*place);
        }
        for (_, place) in self.ages_between(old, new, now) {
            ask(*place);
        }
        for place in &self.others {
            ask(*place);
        }
    }

    /// Limits that lie between two values, those that equal one of them included; all, when one value is missing.
    fn limits_between(
        &self,
        old: Option<Datum>,
        new: Option<Datum>,
        data_type: &DataType,
    ) -> &[(usize, bool)] {
        let (Some(old), Some(new)) = (old, new) else {
            return if old.is_none() && new.is_none() {
                &[]
            } else {
                &self.limits
            };
        };
        if self.limits.is_empty() {
            return &[];
        }
        let (least, greatest) = if data_type.compare(old, new).is_le() {
            (old, new)
        } else {
            (new, old)
        };
        let from = self.limits.partition_point(|limit| {
            self.limit_value(*limit)
                .is_some_and(|limit| data_type.compare(limit, least).is_lt())
        });
        let count = self.limits[from..].partition_point(|limit| {
            self.limit_value(*limit)
                .is_some_and(|limit| data_type.compare(limit, greatest).is_le())
        });
        &self.limits[from..from + count]
    }

    /// Windows that hold one moment and not the other. A moment that only moves on makes no window end sooner; any other
    /// change may, and then all are asked.
    fn ages_between(&self, old: Option<Datum>, new: Option<Datum>, now: i64) -> &[(i64, usize)] {
        if self.ages.is_empty() {
            return &[];
        }
        let probe = self.entries.first().and_then(Entry::probe);
        let age = |subject: Option<Datum>| Some(now.saturating_sub(probe?.moment(subject?)?));
        match (age(old), age(new)) {
            (None, None) => &[],
            (Some(old), Some(new)) if 0 <= new && new <= old => {
                let from = self.ages.partition_point(|(duration, _)| *duration <= new);
                let count = self.ages[from..].partition_point(|(duration, _)| *duration <= old);
                &self.ages[from..from + count]
            }
            _ => &self.ages,
        }
    }
}
