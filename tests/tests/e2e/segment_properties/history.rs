//! A random case: a table, segments over it, and a history of steps, all of it drawn before anything runs.

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::draw::{chance, literal, number};
use super::rules::{Rule, Subject};
use super::schema::{self, Schema};
use super::statements::Writer;

const HOUR_US: i64 = 3_600_000_000;

#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Which of the two sessions acts.
    pub(crate) session: usize,
    /// What both sessions run first.
    pub(crate) everywhere: Option<String>,
    pub(crate) statements: Vec<String>,
    /// Whether one statement does it all, so that nobody may cross twice.
    pub(crate) is_single: bool,
}

#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) setup: Vec<String>,
    pub(crate) steps: Vec<Step>,
    pub(crate) table: &'static str,
    pub(crate) id_text: String,
}

/// What is there while the history is drawn.
struct History<'a> {
    rng: StdRng,
    schema: &'a Schema,
    without: &'a [String],
    segments: Vec<(String, Rule)>,
    created: usize,
    now: i64,
    steps: Vec<Step>,
}

impl Case {
    pub(crate) fn draw(seed: u64, without: &[String]) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let schema = Schema::draw(&mut rng, without);
        let mut setup = schema.setup(&mut rng);
        setup.extend(schema::instruments(&schema));
        let mut history = History {
            rng,
            schema: &schema,
            without,
            segments: Vec::new(),
            created: 0,
            now: 0,
            steps: Vec::new(),
        };
        history.draw();
        Self {
            setup,
            steps: history.steps,
            table: schema.table,
            id_text: schema.id_text(),
        }
    }
}

impl<'a> History<'a> {
    fn draw(&mut self) {
        for _ in 0..number(&mut self.rng, 0, 4) {
            self.write();
        }
        for _ in 0..number(&mut self.rng, 5, 12) {
            self.create();
        }
        let mut length = number(&mut self.rng, 30, 60);
        if self.schema.is_large {
            let writer = self.writer();
            let statement = writer.many(&mut self.rng);
            self.step(vec![statement]);
            length = 8;
        }
        for _ in 0..length {
            match number(&mut self.rng, 0, 99) {
                0..50 => self.write(),
                50..62 => self.transaction(),
                62..80 => self.move_clock(),
                80..84 => self.setting(),
                84..91 => self.update(),
                91..94 => self.create(),
                94..96 => self.delete(),
                96..98 => self.ask(),
                _ => self.maintain(),
            }
        }
    }

    fn is_allowed(&self, feature: &str) -> bool {
        !self.without.iter().any(|name| name == feature)
    }

    fn step(&mut self, statements: Vec<String>) -> &mut Step {
        let session = number(&mut self.rng, 0, 1);
        let is_single = statements.len() == 1;
        self.steps.push(Step {
            session,
            everywhere: None,
            statements,
            is_single,
        });
        self.steps.last_mut().expect("one was pushed")
    }

    fn writer(&self) -> Writer<'a> {
        Writer {
            schema: self.schema,
            now: self.now,
            has_nested_events: self.is_allowed("nested_events"),
            has_merge: !self.schema.is_partitioned || self.is_allowed("partitioned_merge"),
        }
    }

    fn statement(&mut self) -> String {
        let writer = self.writer();
        writer.statement(&mut self.rng)
    }

    fn write(&mut self) {
        let statement = self.statement();
        // A trigger's own statement may move a customer out and in again.
        // So may the second of two events.
        let is_single = self.schema.inner.is_none() && statement.matches("emit_event").count() == 0;
        let is_by_role = chance(&mut self.rng, 10) && self.is_allowed("role");
        let statements = if is_by_role && !statement.contains("copy") {
            // Somebody who may write customers and tell events, and nothing else.
            [
                "begin",
                "set local role actionflow_writer",
                &statement,
                "commit",
            ]
            .map(str::to_owned)
            .to_vec()
        } else {
            vec![statement]
        };
        self.step(statements).is_single = is_single;
    }

    fn transaction(&mut self) {
        let isolation = if chance(&mut self.rng, 20) {
            " isolation level repeatable read"
        } else {
            ""
        };
        let mut statements = vec![format!("begin{isolation}")];
        for _ in 0..number(&mut self.rng, 2, 4) {
            if chance(&mut self.rng, 30) {
                statements.push("savepoint s".to_owned());
                statements.push(self.statement_inside());
                if chance(&mut self.rng, 70) {
                    statements.push("rollback to s".to_owned());
                }
            } else {
                statements.push(self.statement_inside());
            }
        }
        statements.push(
            if chance(&mut self.rng, 15) {
                "rollback"
            } else {
                "commit"
            }
            .to_owned(),
        );
        self.step(statements);
    }

    /// Postgres truncates no table for which deferred triggers are still to run.
    fn statement_inside(&mut self) -> String {
        self.statement().replacen("truncate", "delete from", 1)
    }

    /// Forward, often to the very moment at which a window ends.
    fn move_clock(&mut self) {
        let hours = *[1, 12, 24, 24, 24, 168, 168, 720, 2160, 9000]
            .choose(&mut self.rng)
            .expect("it has values");
        let forward = match number(&mut self.rng, 0, 9) {
            0 => 1,
            1 => hours * HOUR_US - 1,
            2 => hours * HOUR_US + 1,
            _ => hours * HOUR_US,
        };
        self.now += forward;
        let mut statements = Vec::new();
        // Sometimes the worker comes late, and customers change before it does.
        if chance(&mut self.rng, 25) && self.is_allowed("lag") {
            for _ in 0..number(&mut self.rng, 1, 3) {
                statements.push(self.statement());
            }
        }
        let max_checks = *["null", "1", "3", "100"]
            .choose(&mut self.rng)
            .expect("it has values");
        statements.push(format!("select public.ticked({max_checks})"));
        let now = self.now;
        let step = self.step(statements);
        step.everywhere = Some(format!("select public.set_clock({now})"));
        step.is_single = false;
    }

    fn setting(&mut self) {
        let setting = *[
            "set timezone = 'America/New_York'",
            "set timezone = 'Asia/Kathmandu'",
            "set timezone = 'Pacific/Apia'",
            "set datestyle = 'SQL, MDY'",
            "set datestyle = 'German, DMY'",
            "set datestyle = 'Postgres, YMD'",
            "set intervalstyle = 'sql_standard'",
            "set extra_float_digits = -15",
            "set bytea_output = 'escape'",
            "set standard_conforming_strings = off; set escape_string_warning = off",
            "set search_path = ''",
            "set quote_all_identifiers = on",
            "set plan_cache_mode = force_generic_plan",
            "set enable_seqscan = off",
            "set enable_hashagg = off; set enable_hashjoin = off",
            "set transform_null_equals = on",
            "set default_transaction_isolation = 'read uncommitted'",
            "set lc_numeric = 'C'; set row_security = off",
            "set session_replication_role = local",
            "discard plans",
            "reset all",
        ]
        .choose(&mut self.rng)
        .expect("it has values");
        let now = self.now;
        self.step(vec![format!("{setting}; select public.set_clock({now})")]);
    }

    fn maintain(&mut self) {
        let statement = [
            "analyze actionflow._segment_event",
            "analyze",
            "vacuum actionflow._segment_flip",
            "select actionflow._expire_segments(public.clock())",
        ]
        .choose(&mut self.rng)
        .expect("it has values");
        self.step(vec![(*statement).to_owned()]);
    }

    /// Segments that name one, directly or not, with itself.
    fn dependents(&self, name: &str) -> Vec<String> {
        let mut found = vec![name.to_owned()];
        loop {
            let next: Vec<String> = self
                .segments
                .iter()
                .filter(|(user, rule)| {
                    !found.contains(user) && rule.names.iter().any(|named| found.contains(named))
                })
                .map(|(user, _)| user.clone())
                .collect();
            if next.is_empty() {
                return found;
            }
            found.extend(next);
        }
    }

    /// How deep segments name others, from 0.
    fn level(&self, name: &str) -> usize {
        let rule = self.segments.iter().find(|(known, _)| known == name);
        rule.map_or(0, |(_, rule)| {
            rule.names
                .iter()
                .map(|named| 1 + self.level(named))
                .max()
                .unwrap_or(0)
        })
    }

    /// A rule for a segment, which may name others unless it is named itself: chains that grow would pass the limit of the
    /// number of conditions.
    fn rule(&mut self, segment: Option<&str>) -> Rule {
        let is_named = segment.is_some_and(|name| self.dependents(name).len() > 1);
        let nameable = if is_named || !self.is_allowed("nested_segments") {
            0
        } else {
            self.segments.len()
        };
        let id = self.schema.id_text();
        let subject = Subject {
            columns: &self.schema.columns,
            id: &id,
            segments: self.segments[..nameable]
                .iter()
                .map(|(name, _)| name.clone())
                .filter(|name| segment != Some(name) && self.level(name) < 2)
                .collect(),
            has_events: self.is_allowed("events"),
        };
        let depth = number(&mut self.rng, 0, 3);
        Rule::draw(&mut self.rng, &subject, depth)
    }

    fn create(&mut self) {
        let rule = self.rule(None);
        self.created += 1;
        let name = if self.created == 3 {
            "it's \"3\"".to_owned()
        } else {
            format!("s{}", self.created)
        };
        let (json, sql) = (literal(&rule.json), literal(&rule.sql));
        self.step(vec![format!(
            "select public.created({}, {json}, {sql})",
            literal(&name)
        )]);
        self.segments.push((name, rule));
    }

    fn ask(&mut self) {
        if self.is_allowed("ask") {
            let rule = self.rule(None);
            self.step(vec![format!(
                "select public.asked({}, {})",
                literal(&rule.json),
                literal(&rule.sql)
            )]);
        }
    }

    fn update(&mut self) {
        let Some((name, _)) = self.segments.choose(&mut self.rng).cloned() else {
            return;
        };
        let rule = self.rule(Some(&name));
        let (json, sql) = (literal(&rule.json), literal(&rule.sql));
        self.step(vec![format!(
            "select public.updated({}, {json}, {sql})",
            literal(&name)
        )]);
        for (known, place) in &mut self.segments {
            if *known == name {
                *place = rule.clone();
            }
        }
    }

    fn delete(&mut self) {
        let Some((name, _)) = self.segments.choose(&mut self.rng).cloned() else {
            return;
        };
        if self.dependents(&name).len() > 1 {
            return;
        }
        self.segments.retain(|(known, _)| *known != name);
        self.step(vec![format!("select public.deleted({})", literal(&name))]);
    }
}

/// What a psql script of the case is, for a person who wants to see it fail by hand.
pub(crate) fn script(case: &Case, steps: &[Step]) -> String {
    let mut script = case.setup.join(";\n\n");
    script += ";\nselect public.set_clock(0);\nselect * from public.problems(false);\n";
    for (number, step) in steps.iter().enumerate() {
        script += &format!("\n-- step {}, session {}\n", number + 1, step.session);
        for statement in step.everywhere.iter().chain(&step.statements) {
            script += &format!("{statement};\n");
        }
        script += &format!("select * from public.problems({});\n", step.is_single);
    }
    script
}
