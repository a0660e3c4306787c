//! A random table of customers.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::columns::{self, Column};
use super::draw::{chance, literal, number};
use super::kinds::JSON_MOMENTS;

#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) table: &'static str,
    /// Quoted.
    pub(crate) id: &'static str,
    pub(crate) id_type: &'static str,
    pub(crate) ids: &'static [&'static str],
    pub(crate) strange_ids: &'static [&'static str],
    pub(crate) columns: Vec<Column>,
    /// Ids may then be swapped, and NULL; but ON CONFLICT does not go with it.
    pub(crate) is_deferred: bool,
    pub(crate) is_partitioned: bool,
    /// Triggers of the application that write customers or events while a statement runs.
    pub(crate) inner: Option<Inner>,
    /// Thousands of rows: more than fit in one of the product's batches.
    pub(crate) is_large: bool,
}

const TYPES: &[&str] = &[
    "create type public.mood as enum ('sad', 'ok', 'Happy', 'it''s')",
    "create domain public.small as int check (value > 0)",
    "create domain public.short as text check (length(value) < 9)",
    "create type public.pair as (a int, b text)",
    "create schema \"Odd schema\"",
];

/// When an application's trigger runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inner {
    Row,
    /// Before or after the product's own trigger, which is called `insert_actionflow` and the like.
    Statement(&'static str),
    AtCommit,
    Event,
}

/// Needs a server that is built with ICU.
pub(crate) const NOCASE: &str = "create collation public.nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";

const NUMBERS: &[&str] = &["1", "2", "3", "4", "5", "6", "7", "8", "-1", "10"];
const WORDS: &[&str] = &[
    "ann", "Ann", "é", "a b", "x'y", "q\"r", "b\\", "{}", "1", "01", "%",
];
const UUIDS: &[&str] = &[
    "00000000-0000-0000-0000-000000000001",
    "00000000-0000-0000-0000-000000000002",
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12",
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a13",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
];

const INNER: &[Inner] = &[
    Inner::Row,
    Inner::Statement("a_change"),
    Inner::Statement("z_change"),
    Inner::AtCommit,
    Inner::Event,
];

/// A type of ids, ids of customers, and ids that belong to no row however alike they look.
type Ids = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const IDS: &[Ids] = &[
    (
        "bigint",
        NUMBERS,
        &["01", " 1", "+1", "1.0", "abc", "99999999999999999999", "77"],
    ),
    (
        "public.small",
        &["1", "2", "3", "4", "5", "6", "7", "8"],
        &["01", "-1", "abc", "77"],
    ),
    ("text", WORDS, &["ANN", "ann ", "nobody"]),
    (
        "uuid",
        UUIDS,
        &[
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{00000000-0000-0000-0000-000000000001}",
            "1",
        ],
    ),
    (
        "char(6)",
        &["ann", "Ann", "é", "1", "01"],
        &["ann   ", "nobody"],
    ),
];

impl Schema {
    pub(crate) fn draw(rng: &mut StdRng, without: &[String]) -> Self {
        let is_allowed = |name: &str| !without.iter().any(|left_out| left_out == name);
        let (id_type, ids, strange_ids) = *IDS.choose(rng).expect("a pool has values");
        let is_partitioned = chance(rng, 15) && is_allowed("partitions");
        let mut columns = columns::columns(rng, without);
        if is_partitioned {
            // Postgres shows triggers the row as it was before such columns were computed, when it has been routed to a
            // partition with its columns in another order.
            columns.retain(|column| !column.is_generated());
        }
        Self {
            table: ["public.customers", "\"Odd schema\".\"T.1\""]
                .choose(rng)
                .expect("it has values"),
            id: ["id", "\"Key\""].choose(rng).expect("it has values"),
            id_type,
            ids,
            strange_ids,
            columns,
            is_deferred: !is_partitioned && chance(rng, 25) && is_allowed("deferred"),
            is_partitioned,
            inner: (chance(rng, 20) && is_allowed("triggers"))
                .then(|| *INNER.choose(rng).expect("it has values")),
            is_large: chance(rng, 5) && is_allowed("large"),
        }
    }

    /// The id of a row `t` as text.
    pub(crate) fn id_text(&self) -> String {
        format!("t.{}::text", self.id)
    }

    pub(crate) fn id_value(&self, id: &str) -> String {
        format!("{}::{}", literal(id), self.id_type)
    }

    /// Columns that statements may write.
    pub(crate) fn written(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| !column.is_generated())
    }

    /// The statements that make the table and watch it.
    pub(crate) fn setup(&self, rng: &mut StdRng) -> Vec<String> {
        let late = number(rng, 0, self.columns.len());
        let mut statements: Vec<String> = TYPES.iter().map(|&sql| sql.to_owned()).collect();
        if self
            .columns
            .iter()
            .any(|column| column.kind.name.starts_with("nocase"))
        {
            statements.push(NOCASE.to_owned());
        }
        statements.extend(self.first_shape(&self.columns[..late]));
        statements.extend(self.later_shape(rng, &self.columns[late..]));
        if let Some(inner) = self.inner {
            statements.extend(self.triggers(rng, inner));
        }
        statements.push(format!(
            "grant usage on schema public, \"Odd schema\" to public; grant all on {} to public",
            self.table
        ));
        statements
    }

    /// The table with the first of its columns.
    fn first_shape(&self, columns: &[Column]) -> Vec<String> {
        let (table, id) = (self.table, self.id);
        let key = if self.is_deferred {
            "unique deferrable"
        } else {
            "primary key"
        };
        let mut declarations = vec![
            "gone_1 int".to_owned(),
            format!("{id} {} {key}", self.id_type),
        ];
        declarations.extend(columns.iter().map(|column| self.declaration(column)));
        let partitioning = if self.is_partitioned {
            format!(" partition by list ({id})")
        } else {
            String::new()
        };
        let mut statements = vec![format!(
            "create table {table} ({}){partitioning}",
            declarations.join(", ")
        )];
        if self.is_partitioned {
            statements.extend(self.partitions(&declarations));
        }
        // Attribute numbers with gaps.
        statements.push(format!("alter table {table} drop column gone_1"));
        statements
    }

    /// Some rows, and the rest of the columns.
    fn later_shape(&self, rng: &mut StdRng, columns: &[Column]) -> Vec<String> {
        let (table, id) = (self.table, self.id);
        let mut statements = Vec::new();
        statements.push(format!(
            "select actionflow.watch_customers('{table}', {})",
            literal(id.trim_matches('"'))
        ));
        for id in self.ids.iter().take(3) {
            statements.push(format!(
                "insert into {table} ({}) values ({})",
                self.id,
                self.id_value(id)
            ));
        }
        for column in columns {
            let default = if column.is_generated() {
                String::new()
            } else {
                format!(" default {}", column.value(rng))
            };
            // Rows that are there already hold such a default without having it stored.
            statements.push(format!(
                "alter table {table} add column {}{default}",
                self.declaration(column)
            ));
        }
        for column in self
            .columns
            .iter()
            .filter(|column| matches!(column.kind.name, "long_text" | "jsonb"))
        {
            statements.push(format!(
                "alter table {table} alter column {} set storage external",
                column.sql()
            ));
        }
        statements
    }

    fn declaration(&self, column: &Column) -> String {
        let generated = if column.is_generated() {
            format!(
                " generated always as (ascii(right({}::text, 1))) stored",
                self.id
            )
        } else {
            String::new()
        };
        format!("{} {}{generated}", column.sql(), column.kind.declaration)
    }

    /// Two, one of them with its columns in another order.
    fn partitions(&self, declarations: &[String]) -> Vec<String> {
        let half: Vec<String> = self
            .ids
            .iter()
            .take(self.ids.len() / 2)
            .map(|id| literal(id))
            .collect();
        let reversed: Vec<String> = declarations
            .iter()
            .rev()
            .map(|column| column.replace(" primary key", " not null"))
            .collect();
        vec![
            format!("create table public.part_1 ({})", reversed.join(", ")),
            format!(
                "alter table {} attach partition public.part_1 for values in ({})",
                self.table,
                half.join(", ")
            ),
            format!(
                "create table public.part_2 partition of {} default",
                self.table
            ),
        ]
    }

    /// Statements inside the statement, on rows that the outer one has changed too.
    fn triggers(&self, rng: &mut StdRng, inner: Inner) -> Vec<String> {
        let Some(column) = self.written().next() else {
            return Vec::new();
        };
        let (table, id, name, value) = (self.table, self.id, column.sql(), column.value(rng));
        let action = match inner {
            Inner::Row | Inner::AtCommit => format!("update {table} set {name} = {value} where {id} is not distinct from new.{id}
                     and {name}::text is distinct from ({value})::text"),
            Inner::Statement(_) => {
                let ids: Vec<String> = self.ids.iter().take(3).map(|id| self.id_value(id)).collect();
                format!("update {table} set {name} = {value} where {id} in ({})", ids.join(", "))
            }
            Inner::Event => format!(
                "if new.{id} is not null then
                     perform actionflow.emit_event('visit', new.{id}::text, '{{}}', 'live', public.clock());
                     insert into public.event_log values (new.{id}::text, 'visit', public.clock(), '{{}}');
                 end if"
            ),
        };
        let body =
            format!("begin if pg_trigger_depth() < 2 then {action}; end if; return null; end");
        let event = if self.is_partitioned && inner == Inner::AtCommit {
            "insert"
        } else {
            "insert or update"
        };
        let trigger = match inner {
            Inner::Statement(name) => {
                format!("trigger {name} after {event} on {table} for each statement")
            }
            Inner::AtCommit => format!(
                "constraint trigger at_commit after {event} on {table} deferrable initially deferred for each row"
            ),
            Inner::Row | Inner::Event => {
                format!("trigger each_row after {event} on {table} for each row")
            }
        };
        vec![
            format!(
                "create function public.inner_change() returns trigger language plpgsql as {}",
                literal(&body)
            ),
            format!("create {trigger} execute function public.inner_change()"),
        ]
    }
}

/// What the oracle reads, and what watches over each step.
pub(crate) fn instruments(schema: &Schema) -> Vec<String> {
    let moments: Vec<String> = JSON_MOMENTS
        .iter()
        .map(|(text, at)| format!("({}, '{at}'::timestamptz)", literal(text)))
        .collect();
    let oracle = format!(
        "create function public.oracle(condition text) returns text[] language plpgsql set timezone = 'UTC' set datestyle = 'ISO, YMD' as $f$
         declare
             v_segment record;
             v_members text[];
         begin
             while condition like '%<<%' loop
                 for v_segment in select o.name, o.sql from public.oracle_segment as o loop
                     condition := replace(condition, '<<' || v_segment.name || '>>', v_segment.sql);
                 end loop;
             end loop;
             execute 'select array(select {} from {} as t where t.{} is not null and (' || condition || '))' into v_members;
             return v_members;
         end $f$",
        schema.id_text(),
        schema.table,
        schema.id
    );
    vec![
        include_str!("instruments.sql").to_owned(),
        format!(
            "insert into public.json_moment values {}",
            moments.join(", ")
        ),
        oracle,
        "grant all on all tables in schema public to public".to_owned(),
    ]
}
