//! Which segments a new or changed row can matter to, without looking at the others.
//!
//! Conditions are shared by the segments that make them and indexed by what they look at: equality by hash, ranges by
//! their order, windows of time by their length. A changed value touches a segment only when a condition on it comes out
//! differently for the old and the new value.

use std::collections::HashMap;
use std::rc::Rc;

use actionflow_core::segment::truth::Truth;
use pgrx::pg_sys::Datum;

use super::attribute::AttributeIndex;
use super::bind::BoundRule;
use super::condition::{Condition, EventCondition, Test};

/// A segment with its rule, as every session of the database reads it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) revision: i64,
    pub(crate) relation: u32,
    pub(crate) rule: BoundRule,
}

/// All segments over one table.
#[derive(Debug, Default)]
pub(crate) struct Matcher {
    pub(crate) segments: Vec<Member>,
    /// Names of the columns that some condition reads; a row gives its values in this order.
    pub(crate) columns: Vec<String>,
    conditions: Vec<Shared>,
    attributes: Vec<AttributeIndex>,
    /// Segments that every new row has to be asked about.
    always: Vec<usize>,
    /// Segments by the name of an event that they count.
    by_event: HashMap<String, Vec<usize>>,
}

/// A segment in its matcher.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) segment: Rc<Segment>,
    /// For each condition of the rule, its number in the matcher.
    conditions: Vec<usize>,
}

/// A condition with the segments that make it.
#[derive(Debug)]
struct Shared {
    condition: Rc<Condition>,
    /// Index into the matcher's columns; `None` for a condition on events.
    column: Option<usize>,
    segments: Vec<usize>,
    /// Segments that cannot hold for a new row unless this holds, or will.
    opens: Vec<usize>,
}

/// A row whose values can be asked for.
pub(crate) trait Row {
    /// The value of one of the matcher's columns.
    fn value(&self, column: usize) -> Option<Datum>;
}

/// What is known of a customer's events.
pub(crate) enum Events<'a> {
    /// Nothing: every literal about them counts as this.
    Assumed(bool),
    Known(&'a dyn Fn(&EventCondition) -> Truth),
}

/// Marks segments, each once; kept between rows because clearing it would cost more than using it.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    marks: Vec<u32>,
    round: u32,
    pub(crate) found: Vec<usize>,
}

impl Candidates {
    pub(crate) fn clear(&mut self, segments: usize) {
        self.found.clear();
        if self.marks.len() < segments || self.round == u32::MAX {
            self.marks = vec![0; segments];
            self.round = 0;
        }
        self.round += 1;
    }

    fn add(&mut self, segment: usize) {
        if let Some(mark) = self.marks.get_mut(segment)
            && *mark != self.round
        {
            *mark = self.round;
            self.found.push(segment);
        }
    }
}

impl Matcher {
    pub(crate) fn new(segments: &[Rc<Segment>]) -> Self {
        let mut matcher = Self::default();
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut columns: HashMap<&str, usize> = HashMap::new();
        for (position, segment) in segments.iter().enumerate() {
            let rule = &segment.rule;
            let mut conditions = Vec::with_capacity(rule.conditions.len());
            for (condition, key) in rule.conditions.iter().zip(&rule.keys) {
                let number = *numbers.entry(key).or_insert_with(|| {
                    let column = match &**condition {
                        Condition::Attribute(attribute) => {
                            Some(*columns.entry(&attribute.column).or_insert_with(|| {
                                matcher.columns.push(attribute.column.clone());
                                matcher.columns.len() - 1
                            }))
                        }
                        Condition::Event(_) => None,
                    };
                    matcher.conditions.push(Shared {
                        condition: Rc::clone(condition),
                        column,
                        segments: Vec::new(),
                        opens: Vec::new(),
                    });
                    matcher.conditions.len() - 1
                });
                matcher.conditions[number].segments.push(position);
                conditions.push(number);
            }
            matcher.note_events(rule, position);
            match rule
                .formula
                .required(&|index| cost(&rule.conditions[index]))
            {
                None => matcher.always.push(position),
                Some((_, required)) => {
                    for index in required {
                        matcher.conditions[conditions[index]].opens.push(position);
                    }
                }
            }
            matcher.segments.push(Member {
                segment: Rc::clone(segment),
                conditions,
            });
        }
        matcher.attributes = matcher.index_attributes();
        matcher
    }

    fn note_events(&mut self, rule: &BoundRule, position: usize) {
        for event in rule.events() {
            let users = self.by_event.entry(event.name.clone()).or_default();
            if users.last() != Some(&position) {
                users.push(position);
            }
        }
    }

    fn index_attributes(&self) -> Vec<AttributeIndex> {
        let mut attributes: Vec<AttributeIndex> = Vec::new();
        let mut places: HashMap<(usize, Option<&[String]>), usize> = HashMap::new();
        for (number, shared) in self.conditions.iter().enumerate() {
            let (Some(column), Condition::Attribute(attribute)) =
                (shared.column, &*shared.condition)
            else {
                continue;
            };
            let path = attribute
                .probe
                .path
                .as_ref()
                .map(super::super::pg::jsonb::Path::steps);
            let place = *places.entry((column, path)).or_insert_with(|| {
                attributes.push(AttributeIndex::new(column));
                attributes.len() - 1
            });
            attributes[place].add(number, &shared.condition, !shared.opens.is_empty());
        }
        for attribute in &mut attributes {
            attribute.sort();
        }
        attributes
    }

    /// The segments that an event of this name may matter to.
    pub(crate) fn counting(&self, event: &str) -> &[usize] {
        self.by_event.get(event).map_or(&[], Vec::as_slice)
    }

    /// The conditions on events that a segment has.
    pub(crate) fn events_of(&self, segment: usize) -> impl Iterator<Item = &EventCondition> {
        self.segments[segment].segment.rule.events()
    }

    pub(crate) fn truth(
        &self,
        segment: usize,
        row: &impl Row,
        now: i64,
        events: &Events<'_>,
    ) -> Truth {
        let member = &self.segments[segment];
        member.segment.rule.formula.truth(&mut |index, is_negated| {
            let shared = &self.conditions[member.conditions[index]];
            let truth = match (&*shared.condition, events) {
                (Condition::Attribute(attribute), _) => {
                    let value = shared.column.and_then(|column| row.value(column));
                    attribute.probe.truth(value, now)
                }
                (Condition::Event(_), Events::Assumed(holds)) => return Truth::always(*holds),
                (Condition::Event(event), Events::Known(truth)) => truth(event),
            };
            if is_negated { truth.not() } else { truth }
        })
    }

    /// The truth of a rule when its events do not matter; `None` when they do.
    pub(crate) fn truth_without_events(
        &self,
        segment: usize,
        row: &impl Row,
        now: i64,
    ) -> Option<Truth> {
        let most = self.truth(segment, row, now, &Events::Assumed(true));
        if !self.reads_events(segment) || most == Truth::always(false) {
            return Some(most);
        }
        let least = self.truth(segment, row, now, &Events::Assumed(false));
        (least == Truth::always(true)).then_some(least)
    }

    fn reads_events(&self, segment: usize) -> bool {
        self.segments[segment]
            .segment
            .rule
            .events()
            .next()
            .is_some()
    }

    /// Finds the segments that may hold for a new row, or may come to hold by the clock.
    pub(crate) fn find_for_new(&self, row: &impl Row, now: i64, candidates: &mut Candidates) {
        candidates.clear(self.segments.len());
        for segment in &self.always {
            candidates.add(*segment);
        }
        for attribute in &self.attributes {
            attribute.find_holding(row.value(attribute.column()), now, &mut |number| {
                for segment in &self.conditions[number].opens {
                    candidates.add(*segment);
                }
            });
        }
    }

    /// Finds the segments for which a changed row may come out differently. `has_changed` tells it of a column.
    pub(crate) fn find_for_changed(
        &self,
        old: &impl Row,
        new: &impl Row,
        has_changed: &impl Fn(usize) -> bool,
        now: i64,
        candidates: &mut Candidates,
    ) {
        candidates.clear(self.segments.len());
        for attribute in &self.attributes {
            let column = attribute.column();
            if has_changed(column) {
                attribute.find_different(
                    old.value(column),
                    new.value(column),
                    now,
                    &mut |number| {
                        for segment in &self.conditions[number].segments {
                            candidates.add(*segment);
                        }
                    },
                );
            }
        }
    }
}

/// How many rows a condition is likely to let through, as far as its kind tells; `None` when it says nothing of new rows.
fn cost(condition: &Condition) -> Option<u32> {
    match condition {
        Condition::Event(_) => None,
        Condition::Attribute(attribute) => Some(match &attribute.probe.test {
            Test::OneOf(constants) => 10 + u32::try_from(constants.len()).unwrap_or(u32::MAX / 2),
            Test::Text(..) | Test::HasAny(_) | Test::HasAll(_) | Test::Moment { .. } => 2_000,
            Test::WithinLast(_) | Test::WithinNext(_) => 3_000,
            Test::Range { .. } => 4_000,
            Test::Exists => 10_000,
        }),
    }
}
