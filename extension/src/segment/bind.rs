//! From a rule as people write it to conditions that know the types of the columns that they look at.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use actionflow_core::input::{Kind as Mistake, Place};
use actionflow_core::segment::formula::Formula;
use actionflow_core::segment::rule::{self, Condition as RuleCondition, MAX_CONDITIONS, Op, Rule};
use actionflow_core::segment::window::Comparison;
use pgrx::pg_sys::Oid;
use pgrx::prelude::*;
use serde_json::{Map, Value, json};

use super::condition::{AttributeCondition, Condition, EventCondition, Probe};
use super::test::{self, Values};
use crate::error::Error;
use crate::pg::jsonb::Path;
use crate::pg::snapshot;
use crate::pg::types::{DataType, Kind};

/// The columns of a table with their types.
pub(crate) struct Columns {
    pub(crate) relation: Oid,
    types: HashMap<String, Rc<DataType>>,
    /// Generated columns that a statement's trigger does not see: those that are computed when they are read, and all of a
    /// partitioned table.
    computed: HashSet<String>,
}

/// A rule bound to a table.
#[derive(Debug)]
pub(crate) struct BoundRule {
    pub(crate) formula: Formula,
    pub(crate) conditions: Vec<Rc<Condition>>,
    /// What makes two conditions the same, for each.
    pub(crate) keys: Vec<String>,
}

/// Binds one rule, with those of the segments that it names.
struct Binder<'a> {
    columns: &'a Columns,
    values: Values,
    bound: BoundRule,
    /// The segments whose rules are being read, outermost first.
    within: Vec<String>,
}

impl Columns {
    pub(crate) fn of(relation: Oid) -> Result<Self, Error> {
        Spi::connect(|_| {
            let found = snapshot::latest(
                "select a.attname::text, a.atttypid, a.attcollation,
                     a.attgenerated = 'v' or a.attgenerated <> '' and c.relkind = 'p'
                 from pg_catalog.pg_attribute as a
                 join pg_catalog.pg_class as c on c.oid = a.attrelid
                 where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped",
                &[relation.into()],
            )?;
            let mut types = HashMap::new();
            let mut computed = HashSet::new();
            for row in found.rows() {
                if let (Some(name), Some(oid), Some(collation)) =
                    (row.get::<String>(1), row.get(2), row.get(3))
                {
                    if row.get(4) == Some(true) {
                        computed.insert(name.clone());
                    }
                    types.insert(name, Rc::new(DataType::new(oid, collation)));
                }
            }
            Ok(Self {
                relation,
                types,
                computed,
            })
        })
    }
}

impl BoundRule {
    /// Binds a rule that somebody has just written: every value is checked. Also returns the rule with the segments that
    /// it names spelt out and its values in the one form that every session reads alike.
    ///
    /// `name` is that of the segment that is to have the rule, which it must not name itself.
    pub(crate) fn check(
        rule: &Value,
        columns: &Columns,
        name: Option<&str>,
    ) -> Result<(Self, Value), Error> {
        Self::bind(rule, columns, Values::Checked, name)
    }

    /// Binds a rule that [`BoundRule::check`] has returned.
    pub(crate) fn load(rule: &Value, columns: &Columns) -> Result<Self, Error> {
        Ok(Self::bind(rule, columns, Values::Trusted, None)?.0)
    }

    fn bind(
        rule: &Value,
        columns: &Columns,
        values: Values,
        name: Option<&str>,
    ) -> Result<(Self, Value), Error> {
        let rule = Rule::parse(rule)?;
        let mut binder = Binder {
            columns,
            values,
            bound: Self {
                formula: Formula::All(Vec::new()),
                conditions: Vec::new(),
                keys: Vec::new(),
            },
            within: name.map(str::to_owned).into_iter().collect(),
        };
        let (formula, json) = binder.rule(&rule)?;
        binder.bound.formula = formula;
        Ok((binder.bound, json))
    }

    /// The columns that the rule reads.
    pub(crate) fn columns(&self) -> Vec<&str> {
        let mut columns: Vec<&str> = self
            .conditions
            .iter()
            .filter_map(|condition| match &**condition {
                Condition::Attribute(attribute) => Some(attribute.column.as_str()),
                Condition::Event(_) => None,
            })
            .collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &EventCondition> {
        self.conditions
            .iter()
            .filter_map(|condition| match &**condition {
                Condition::Event(event) => Some(event),
                Condition::Attribute(_) => None,
            })
    }
}

impl Binder<'_> {
    fn rule(&mut self, rule: &Rule) -> Result<(Formula, Value), Error> {
        match rule {
            Rule::All(parts) => {
                let (formulas, json): (Vec<_>, Vec<_>) = self.parts(parts)?.into_iter().unzip();
                Ok((Formula::All(formulas), json!({ "all": json })))
            }
            Rule::Any(parts) => {
                let (formulas, json): (Vec<_>, Vec<_>) = self.parts(parts)?.into_iter().unzip();
                Ok((Formula::Any(formulas), json!({ "any": json })))
            }
            Rule::Not(part) => {
                let (formula, json) = self.rule(part)?;
                Ok((formula.negated(), json!({ "not": json })))
            }
            Rule::Attribute(condition) => {
                let (column, path) = self.column(condition)?;
                let data_type = self.data_type(&column, path.is_some());
                let (probe, value) = self.probe(condition, path, data_type)?;
                let json = condition_json(condition, &value);
                let key = json!([
                    column,
                    condition.attribute,
                    positive(condition.op).name(),
                    value
                ]);
                let attribute = AttributeCondition { column, probe };
                let index = self.add(
                    key.to_string(),
                    Condition::Attribute(attribute),
                    &condition.place,
                )?;
                Ok((literal(index, condition.op), json))
            }
            Rule::Event(condition) => self.event(condition),
            Rule::Segment { name, place } => self.segment(name, place),
        }
    }

    fn parts(&mut self, parts: &[Rule]) -> Result<Vec<(Formula, Value)>, Error> {
        parts.iter().map(|part| self.rule(part)).collect()
    }

    fn add(&mut self, key: String, condition: Condition, place: &Place) -> Result<usize, Error> {
        if let Some(index) = self.bound.keys.iter().position(|known| *known == key) {
            return Ok(index);
        }
        if self.bound.conditions.len() >= MAX_CONDITIONS {
            let limit = MAX_CONDITIONS.to_string();
            let what = "the number of conditions, with those of the segments that the rule names,";
            return Err(place.error(Mistake::TooLarge { what, limit }).into());
        }
        self.bound.keys.push(key);
        self.bound.conditions.push(Rc::new(condition));
        Ok(self.bound.conditions.len() - 1)
    }

    /// The column of an attribute, and the path inside it when it is a jsonb column.
    fn column(&self, condition: &RuleCondition) -> Result<(String, Option<Path>), Error> {
        let attribute = &condition.attribute;
        let types = &self.columns.types;
        let missing = || Error::NoSuchAttribute {
            attribute: attribute.clone(),
            path: condition.place.key("attribute").path().to_owned(),
        };
        let column = attribute
            .split_once('.')
            .filter(|_| !types.contains_key(attribute))
            .map_or(&**attribute, |(column, _)| column);
        if self.columns.computed.contains(column) {
            let what = format!(
                "generated column \"{column}\", which is virtual or of a partitioned table,"
            );
            return Err(condition
                .place
                .key("attribute")
                .error(Mistake::Unsupported(what))
                .into());
        }
        if let Some(data_type) = types.get(attribute) {
            let path = (data_type.kind() == Kind::Jsonb).then(|| Path::new(Vec::new()));
            return Ok((attribute.clone(), path));
        }
        let (column, rest) = attribute.split_once('.').ok_or_else(missing)?;
        let data_type = types.get(column).ok_or_else(missing)?;
        if data_type.kind() != Kind::Jsonb {
            return Err(Error::NotJsonb {
                column: column.to_owned(),
                type_name: data_type.display_name(),
                path: condition.place.key("attribute").path().to_owned(),
            });
        }
        Ok((column.to_owned(), Some(Path::new(rule::split_path(rest)))))
    }

    fn data_type(&self, column: &str, has_path: bool) -> Rc<DataType> {
        match self.columns.types.get(column) {
            Some(data_type) if !has_path => Rc::clone(data_type),
            _ => jsonb_type(),
        }
    }

    fn probe(
        &self,
        condition: &RuleCondition,
        path: Option<Path>,
        data_type: Rc<DataType>,
    ) -> Result<(Probe, Value), Error> {
        let (test, value) = test::bind(condition, positive(condition.op), &data_type, self.values)?;
        let probe = Probe {
            path,
            data_type,
            test,
        };
        Ok((probe, value))
    }

    fn event(&mut self, condition: &rule::EventCondition) -> Result<(Formula, Value), Error> {
        let mut filters = Vec::with_capacity(condition.filters.len());
        let mut where_json = Vec::with_capacity(condition.filters.len());
        let mut place = None;
        for filter in &condition.filters {
            place = Some(&filter.place);
            let path = rule::property_path(&filter.attribute, &filter.place)?;
            let (probe, value) = self.probe(filter, Some(Path::new(path)), jsonb_type())?;
            filters.push((probe, filter.op.positive().is_some()));
            where_json.push(condition_json(filter, &value));
        }
        let count: Map<String, Value> = condition
            .count
            .iter()
            .map(|(comparison, number)| (comparison.name().to_owned(), json!(number)))
            .collect();
        let mut json = Map::new();
        json.insert("event".to_owned(), json!(condition.name));
        if !count.is_empty() {
            json.insert("count".to_owned(), Value::Object(count));
        }
        if let Some(given) = &condition.sum {
            let mut sum = Map::new();
            sum.insert(
                "of".to_owned(),
                json!(format!("properties.{}", given.of.join("."))),
            );
            for (comparison, number) in &given.bounds {
                let number = serde_json::from_str(number).unwrap_or(Value::Null);
                sum.insert(comparison.name().to_owned(), number);
            }
            json.insert("sum".to_owned(), Value::Object(sum));
        }
        if let Some(within_us) = condition.within_us {
            json.insert(
                "within_last".to_owned(),
                json!(test::duration_text(within_us)),
            );
        }
        if !where_json.is_empty() {
            json.insert("where".to_owned(), Value::Array(where_json));
        }
        let json = Value::Object(json);
        let (sum_of, bounds) = match &condition.sum {
            None => (None, Vec::new()),
            Some(sum) => (Some(Path::new(sum.of.clone())), amounts(&sum.bounds)?),
        };
        let bound = Condition::Event(EventCondition {
            name: condition.name.clone(),
            count: condition.count.clone(),
            sum: bounds,
            sum_of,
            within_us: condition.within_us,
            filters,
        });
        let root = Place::root("segment rule");
        let index = self.add(json.to_string(), bound, place.unwrap_or(&root))?;
        Ok((Formula::Is(index), json))
    }

    /// The rule of another segment, in place of its name: whoever meets it is a member there.
    fn segment(&mut self, name: &str, place: &Place) -> Result<(Formula, Value), Error> {
        if self.within.iter().any(|outer| outer == name) {
            let circle = [self.within.join("\" uses \""), name.to_owned()].join("\" uses \"");
            let hint = "Spell the conditions out in one of them.";
            return Err(place
                .unusable(format!("segments would go in a circle: \"{circle}\""), hint)
                .into());
        }
        let found = Spi::connect(|client| -> Result<_, Error> {
            let row = client
                .select(
                    "select s.rule, s.relation::oid from actionflow._segment as s where s.name = $1",
                    Some(1),
                    &[name.into()],
                )?
                .first();
            if row.is_empty() {
                return Ok(None);
            }
            Ok(row.get::<pgrx::JsonB>(1)?.zip(row.get::<Oid>(2)?))
        })?;
        let (rule, relation) = found.ok_or_else(|| Error::NoSuchSegment(name.to_owned()))?;
        if relation != self.columns.relation {
            return Err(place
                .error(Mistake::Unsupported(format!(
                    "segment \"{name}\", which is over another table,"
                )))
                .into());
        }
        let rule = Rule::parse(&rule.0)?;
        self.within.push(name.to_owned());
        let result = self.rule(&rule);
        self.within.pop();
        // Its place in the other rule would tell nobody anything.
        result.map_err(|error| match error {
            Error::Input(error) => place.error(error.kind).into(),
            other => other,
        })
    }
}

fn amounts(bounds: &[(Comparison, String)]) -> Result<Vec<(Comparison, AnyNumeric)>, Error> {
    bounds
        .iter()
        .map(|(comparison, text)| {
            let number = AnyNumeric::try_from(text.as_str())
                .map_err(|_| Error::Internal(format!("number {text} is not numeric")))?;
            Ok((*comparison, number))
        })
        .collect()
}

fn positive(op: Op) -> Op {
    op.positive().unwrap_or(op)
}

fn literal(index: usize, op: Op) -> Formula {
    if op.positive().is_some() {
        Formula::IsNot(index)
    } else {
        Formula::Is(index)
    }
}

fn condition_json(condition: &RuleCondition, value: &Value) -> Value {
    let mut json = json!({"attribute": condition.attribute, "op": condition.op.name()});
    if !value.is_null() {
        json["value"] = value.clone();
    }
    json
}

fn jsonb_type() -> Rc<DataType> {
    thread_local! {
        static JSONB: Rc<DataType> = Rc::new(DataType::new(pg_sys::JSONBOID, pg_sys::InvalidOid));
    }
    JSONB.with(Rc::clone)
}
