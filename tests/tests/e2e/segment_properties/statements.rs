//! Random statements that write customers and events.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::columns::{Column, Family, json_object};
use super::draw::{chance, literal, number, pick};
use super::rules::EVENTS;
use super::schema::Schema;

const DAY_US: i64 = 86_400_000_000;

/// Writes statements over one table; `now` is the moment that the clock shows, in microseconds since the test's first.
pub(crate) struct Writer<'a> {
    pub(crate) schema: &'a Schema,
    pub(crate) now: i64,
    pub(crate) has_nested_events: bool,
    pub(crate) has_merge: bool,
}

impl Writer<'_> {
    pub(crate) fn statement(&self, rng: &mut StdRng) -> String {
        let can_conflict = !self.schema.is_deferred;
        match number(rng, 0, 99) {
            0..20 => self.insert(rng),
            20..30 if can_conflict => self.upsert(rng),
            20..55 => self.update(rng),
            55..60 => self.change_ids(rng),
            60..66 => self.delete(rng),
            66..68 => format!("truncate {}", self.schema.table),
            68..74 if self.has_merge => self.merge(rng),
            74..77 => self.copy(rng),
            77..80 => self.several_at_once(rng),
            80..83 if self.has_nested_events => self.event_with_change(rng),
            83..85 => self.undone(rng),
            _ => self.events(rng),
        }
    }

    fn id(&self, rng: &mut StdRng) -> String {
        self.schema
            .id_value(self.schema.ids.choose(rng).expect("a pool has values"))
    }

    fn ids(&self, rng: &mut StdRng) -> Vec<String> {
        let amount = number(rng, 1, 5);
        self.schema
            .ids
            .choose_multiple(rng, amount)
            .map(|id| self.schema.id_value(id))
            .collect()
    }

    fn names(&self) -> String {
        let names: Vec<String> = self.schema.written().map(Column::sql).collect();
        [vec![self.schema.id.to_owned()], names].concat().join(", ")
    }

    /// Rows of different ids.
    fn values(&self, rng: &mut StdRng) -> String {
        let rows: Vec<String> = self
            .ids(rng)
            .into_iter()
            .map(|id| {
                let values: Vec<String> = self
                    .schema
                    .written()
                    .map(|column| column.value(rng))
                    .collect();
                format!("({id}, {})", values.join(", "))
            })
            .collect();
        format!("(values {}) as v ({})", rows.join(", "), self.names())
    }

    /// A query for rows whose ids are still free.
    fn new_rows(&self, rng: &mut StdRng) -> String {
        let Schema { table, id, .. } = self.schema;
        format!(
            "select v.* from {} where not exists (select from {table} as o where o.{id} = v.{id})",
            self.values(rng)
        )
    }

    fn insert(&self, rng: &mut StdRng) -> String {
        let Schema { table, id, .. } = self.schema;
        let names = self.names();
        if self.schema.is_deferred && chance(rng, 15) {
            return format!("insert into {table} ({id}) values (null)");
        }
        if self.schema.is_deferred || chance(rng, 50) {
            format!("insert into {table} ({names}) {}", self.new_rows(rng))
        } else {
            format!(
                "insert into {table} ({names}) select * from {} on conflict do nothing",
                self.values(rng)
            )
        }
    }

    fn upsert(&self, rng: &mut StdRng) -> String {
        let Schema { table, id, .. } = self.schema;
        let set: Vec<String> = self
            .schema
            .written()
            .filter(|_| chance(rng, 60))
            .map(|column| format!("{0} = excluded.{0}", column.sql()))
            .collect();
        let action = if set.is_empty() {
            "nothing".to_owned()
        } else {
            format!("update set {}", set.join(", "))
        };
        format!(
            "insert into {table} ({}) select * from {} on conflict ({id}) do {action}",
            self.names(),
            self.values(rng)
        )
    }

    fn condition(&self, rng: &mut StdRng) -> String {
        let id = self.schema.id;
        let column = self
            .schema
            .columns
            .choose(rng)
            .expect("a table has columns");
        match number(rng, 0, 9) {
            0 => "true".to_owned(),
            1 => format!("{} is null", column.sql()),
            2 if !matches!(column.kind.family, Family::Opaque | Family::Json) => {
                format!("{} = {}", column.sql(), column.value(rng))
            }
            3..7 => format!("{id} = {}", self.id(rng)),
            _ => format!("{id} in ({})", self.ids(rng).join(", ")),
        }
    }

    fn assignments(&self, rng: &mut StdRng) -> String {
        let columns: Vec<&Column> = self.schema.written().collect();
        let amount = number(rng, 1, columns.len().min(3));
        let set: Vec<String> = columns
            .choose_multiple(rng, amount)
            .map(|column| {
                let value = if chance(rng, 5) {
                    column.sql()
                } else {
                    column.value(rng)
                };
                format!("{} = {value}", column.sql())
            })
            .collect();
        set.join(", ")
    }

    fn update(&self, rng: &mut StdRng) -> String {
        format!(
            "update {} set {} where {}",
            self.schema.table,
            self.assignments(rng),
            self.condition(rng)
        )
    }

    fn change_ids(&self, rng: &mut StdRng) -> String {
        let Schema { table, id, .. } = self.schema;
        let (one, other) = (self.id(rng), self.id(rng));
        if self.schema.is_deferred && one != other {
            return match number(rng, 0, 3) {
                0 => format!("update {table} set {id} = null where {id} = {one}"),
                1 => format!("update {table} set {id} = {one} where ctid = (select min(o.ctid) from {table} as o where o.{id} is null)
                    and not exists (select from {table} as o where o.{id} = {one})"),
                _ => format!("update {table} set {id} = case {id} when {one} then {other} else {one} end where {id} in ({one}, {other})"),
            };
        }
        format!(
            "update {table} set {id} = {other}, {} where {id} = {one} and not exists (select from {table} as o where o.{id} = {other})",
            self.assignments(rng)
        )
    }

    fn delete(&self, rng: &mut StdRng) -> String {
        format!(
            "delete from {} where {}",
            self.schema.table,
            self.condition(rng)
        )
    }

    fn merge(&self, rng: &mut StdRng) -> String {
        let Schema { table, id, .. } = self.schema;
        let set: Vec<String> = self
            .schema
            .written()
            .map(|column| format!("{0} = v.{0}", column.sql()))
            .collect();
        let inserted: Vec<String> = self
            .schema
            .written()
            .map(|column| format!("v.{}", column.sql()))
            .collect();
        format!(
            "merge into {table} as t using {} on t.{id} = v.{id}
             when matched and v.{id} = {} then delete
             when matched then update set {}
             when not matched then insert ({}) values (v.{id}, {})",
            self.values(rng),
            self.id(rng),
            set.join(", "),
            self.names(),
            inserted.join(", ")
        )
    }

    fn copy(&self, rng: &mut StdRng) -> String {
        let table = self.schema.table;
        let (rows, names) = (
            literal(&self.new_rows(rng)),
            self.names().replace('\'', "''"),
        );
        let body = format!(
            "declare
                 v_file text := '/tmp/actionflow-' || current_database() || '.copy';
             begin
                 execute 'copy (' || {rows} || ') to ''' || v_file || '''';
                 execute 'copy {table} ({names}) from program ''cat ' || v_file || '; rm ' || v_file || '''';
             end"
        );
        format!("do {}", literal(&body))
    }

    /// Rows for many new ids.
    pub(crate) fn many(&self, rng: &mut StdRng) -> String {
        let Schema { table, id_type, .. } = self.schema;
        let id = match *id_type {
            "uuid" => "md5(i::text)::uuid".to_owned(),
            "text" => "'u' || i".to_owned(),
            _ => format!("i::{id_type}"),
        };
        let values: Vec<String> = self
            .schema
            .written()
            .map(|column| {
                format!(
                    "case i % 3 when 0 then {} when 1 then {} else {} end",
                    column.value(rng),
                    column.value(rng),
                    column.value(rng)
                )
            })
            .collect();
        format!(
            "insert into {table} ({}) select {id}, {} from generate_series(1001, 2700) as i",
            self.names(),
            values.join(", ")
        )
    }

    /// A statement that is undone inside a function, before one that stays.
    fn undone(&self, rng: &mut StdRng) -> String {
        let body = format!(
            "begin
                 begin
                     {};
                     raise division_by_zero;
                 exception when division_by_zero then
                     null;
                 end;
                 {};
             end",
            self.update(rng),
            self.update(rng)
        );
        format!("do {}", literal(&body))
    }

    /// One command that deletes, updates and inserts.
    fn several_at_once(&self, rng: &mut StdRng) -> String {
        let Schema { table, id, .. } = self.schema;
        let gone = self.id(rng);
        format!(
            "with gone as (delete from {table} where {id} = {gone} returning 1),
                 changed as (update {table} set {} where {id} <> {gone} and {} returning 1)
             insert into {table} ({}) {}",
            self.assignments(rng),
            self.condition(rng),
            self.names(),
            self.new_rows(rng)
        )
    }

    fn moment(&self, rng: &mut StdRng) -> String {
        let days = pick(rng, &[0_i64, 1, 7, 14, 30, 90, 365, 400]);
        let at = match number(rng, 0, 9) {
            0..3 => return "public.clock()".to_owned(),
            3..5 => self.now + days * DAY_US,
            5 => self.now + 1,
            // On the same grid as the clock, so that windows end at the very moment that it shows.
            6..9 => self.now - days * DAY_US,
            _ => self.now - days * DAY_US + 1,
        };
        format!("public.at({at})")
    }

    /// Events, logged for the oracle when they are live.
    fn events(&self, rng: &mut StdRng) -> String {
        let rows: Vec<String> = (0..number(rng, 1, 4))
            .map(|_| {
                let user = match chance(rng, 85) {
                    true => self.schema.ids.choose(rng),
                    false => self.schema.strange_ids.choose(rng),
                };
                format!(
                    "({}, {}, {}::jsonb, '{}', {})",
                    literal(EVENTS.choose(rng).expect("it has values")),
                    literal(user.expect("a pool has values")),
                    literal(&json_object(rng)),
                    if chance(rng, 90) { "live" } else { "test" },
                    self.moment(rng)
                )
            })
            .collect();
        let default = if chance(rng, 50) {
            "nullif(v.at, public.clock())"
        } else {
            "v.at"
        };
        format!(
            "with v (name, user_id, properties, mode, at) as (values {}),
                 logged as (insert into public.event_log select user_id, name, at, properties from v where mode = 'live')
             select actionflow.emit_event(v.name, v.user_id, v.properties, v.mode, {default}) from v",
            rows.join(", ")
        )
    }

    /// Events that a statement emits while it changes the same customers.
    fn event_with_change(&self, rng: &mut StdRng) -> String {
        let Schema { table, id, .. } = self.schema;
        let event = literal(EVENTS.choose(rng).expect("it has values"));
        format!(
            "with changed as (
                 update {table} as t set {} where {} and {id} is not null
                 returning t.{id}::text as user_id, actionflow.emit_event({event}, t.{id}::text, '{{}}', 'live', public.clock()))
             insert into public.event_log select c.user_id, {event}, public.clock(), '{{}}' from changed as c",
            self.assignments(rng),
            self.condition(rng),
        )
    }
}
