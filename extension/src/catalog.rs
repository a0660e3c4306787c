//! What the backend keeps in memory of the configuration: flows, event triggers, endpoints, watched tables, settings.
//!
//! It is read with one query when first needed, and again after a transaction that changed any of it has committed
//! (sql/invalidation.sql announces that through Postgres' relation-cache invalidations).

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use actionflow_core::flow::Definition;
use actionflow_core::rendezvous::Limits;
use pgrx::JsonB;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::Value;

use crate::error::Error;
use crate::event::{Event, Mode};
use crate::pg::invalidation::CATALOG;
use crate::pg::snapshot;
use crate::webhook::trigger::Webhook;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Catalog>>> = const { RefCell::new(None) };
}

/// More are not asked for by one connection in its time.
const MAX_WEBHOOKS: usize = 1_000;

#[derive(Debug)]
pub(crate) struct Catalog {
    flows: HashMap<String, Rc<Flow>>,
    triggers: HashMap<String, Vec<EventTrigger>>,
    /// By the id of the segment, and whether they wait for its exits.
    segment_triggers: HashMap<(i64, bool), Vec<EventTrigger>>,
    endpoints: HashMap<String, Rc<Endpoint>>,
    watched: HashMap<u32, Rc<Watched>>,
    /// Those to which requests have come here, by the token of their URL.
    webhooks: RefCell<HashMap<String, Rc<Webhook>>>,
    pub(crate) records_all_events: bool,
    pub(crate) max_flow_depth: i32,
    /// For all enrich actions of one event.
    pub(crate) enrich_budget: Duration,
    pub(crate) retention: Retention,
    pub(crate) event_table: pg_sys::Oid,
    pub(crate) sequences: Sequences,
}

/// A flow that is not archived, or the name of one that is.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) is_archived: bool,
    draft: Rc<Definition>,
    published: Option<(i32, Rc<Definition>)>,
}

#[derive(Debug)]
pub(crate) struct EventTrigger {
    pub(crate) id: i64,
    pub(crate) flow: Rc<Flow>,
    pub(crate) is_test: bool,
}

#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) id: i64,
    pub(crate) is_ordered: bool,
    pub(crate) is_enabled: bool,
    /// Counts changes of its settings.
    pub(crate) revision: i64,
    pub(crate) url: String,
    pub(crate) test_url: Option<String>,
    /// For enrich.
    pub(crate) limits: Limits,
}

/// A watched table, or a partition of one.
#[derive(Debug)]
pub(crate) struct Watched {
    /// The watched table itself, which a partition belongs to.
    pub(crate) root: u32,
    /// The name of that table for SQL.
    pub(crate) name: String,
    pub(crate) id_column: String,
    /// SQL expressions over a row called `t`: the customer's id as text, and the profile as JSON.
    pub(crate) id_sql: String,
    pub(crate) profile_sql: String,
    /// A condition on the row `t`: its id is among the texts of the array `$1`.
    pub(crate) has_id_sql: String,
    pub(crate) revoked_when: Option<String>,
}

/// Days for which each ring of history is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retention {
    pub(crate) events: i32,
    pub(crate) runs: i32,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequences {
    pub(crate) event: pg_sys::Oid,
    pub(crate) run: pg_sys::Oid,
    pub(crate) delivery: pg_sys::Oid,
}

/// The configuration as it stands for this transaction.
pub(crate) fn current() -> Result<Rc<Catalog>, Error> {
    let known = CURRENT.with_borrow(Clone::clone);
    match known {
        Some(catalog) if !CATALOG.is_stale() => Ok(catalog),
        _ => load(),
    }
}

fn load() -> Result<Rc<Catalog>, Error> {
    // Until the end of the load anything may be announced, and then this result is not current already.
    CATALOG.mark_fresh(anchor()?);
    // As it is committed now, or a change that was announced since this statement began would be missed for good.
    let catalog = Spi::connect(|_| {
        let found = snapshot::latest("select actionflow._catalog()", &[])?;
        Ok::<_, Error>(found.rows().next().and_then(|row| row.get::<JsonB>(1)))
    })
    .and_then(|json| {
        let json = json.ok_or_else(|| Error::Internal("the catalog is empty".to_owned()))?;
        Catalog::from_json(&json.0)
    });
    match catalog {
        Ok(catalog) => {
            let catalog = Rc::new(catalog);
            CURRENT.set(Some(Rc::clone(&catalog)));
            Ok(catalog)
        }
        Err(error) => {
            CATALOG.mark_stale();
            Err(error)
        }
    }
}

/// The relation whose invalidation stands for all configuration tables.
fn anchor() -> Result<pg_sys::Oid, Error> {
    snapshot::value("select 'actionflow._flow'::pg_catalog.regclass", &[])?
        .ok_or_else(|| Error::Internal("the table of flows is missing".to_owned()))
}

/// Announces a change of the configuration; the trigger function of every table that `_catalog` reads.
#[pg_extern(sql = "create function actionflow._invalidate() returns trigger
language c volatile parallel unsafe as 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
fn _invalidate(_fcinfo: pg_sys::FunctionCallInfo) -> Result<i64, ErrorReport> {
    CATALOG.announce(anchor()?);
    Ok(0)
}

impl Catalog {
    pub(crate) fn flow(&self, name: &str) -> Result<&Rc<Flow>, Error> {
        match self.flows.get(name) {
            None => Err(Error::NoSuchFlow(name.to_owned())),
            Some(flow) if flow.is_archived => Err(Error::ArchivedFlow(name.to_owned())),
            Some(flow) => Ok(flow),
        }
    }

    /// The triggers that an event may fire.
    pub(crate) fn listeners(&self, event: &Event) -> impl Iterator<Item = &EventTrigger> {
        let by_name = self.triggers.get(&event.name);
        let by_segment = event
            .crossing
            .and_then(|crossing| self.segment_triggers.get(&crossing));
        by_name.into_iter().chain(by_segment).flatten()
    }

    /// Whether an event of this name is of use to anything.
    pub(crate) fn wants(&self, event: &str) -> bool {
        self.records_all_events || self.triggers.contains_key(event)
    }

    pub(crate) fn endpoint(&self, name: &str) -> Option<&Rc<Endpoint>> {
        self.endpoints.get(name)
    }

    /// A watched table, or a partition of one.
    pub(crate) fn watched(&self, relation: pg_sys::Oid) -> Option<&Rc<Watched>> {
        self.watched.get(&relation.to_u32())
    }

    pub(crate) fn webhook(&self, token: &str) -> Option<Rc<Webhook>> {
        self.webhooks.borrow().get(token).cloned()
    }

    pub(crate) fn keep_webhook(&self, token: &str, webhook: Rc<Webhook>) {
        let mut webhooks = self.webhooks.borrow_mut();
        if webhooks.len() >= MAX_WEBHOOKS {
            webhooks.clear();
        }
        webhooks.insert(token.to_owned(), webhook);
    }

    fn from_json(json: &Value) -> Result<Self, Error> {
        let mut flows = HashMap::new();
        let mut flows_by_id = HashMap::new();
        for flow in list(json, "flows") {
            let flow = Rc::new(Flow::from_json(flow)?);
            flows_by_id.insert(flow.id, Rc::clone(&flow));
            flows.insert(flow.name.clone(), flow);
        }
        let mut triggers: HashMap<String, Vec<EventTrigger>> = HashMap::new();
        let mut segment_triggers: HashMap<(i64, bool), Vec<EventTrigger>> = HashMap::new();
        for trigger in list(json, "triggers") {
            let Some(flow) = flows_by_id.get(&int(trigger, "flow_id")?) else {
                continue;
            };
            let waiting = match trigger["segment_id"].as_i64() {
                None => triggers.entry(text(trigger, "event")?).or_default(),
                Some(segment) => {
                    let key = (segment, trigger["crossing"] == "exit");
                    segment_triggers.entry(key).or_default()
                }
            };
            waiting.push(EventTrigger {
                id: int(trigger, "id")?,
                flow: Rc::clone(flow),
                is_test: trigger["mode"] == "test",
            });
        }
        let mut endpoints = HashMap::new();
        for endpoint in list(json, "endpoints") {
            let value = Rc::new(Endpoint::from_json(endpoint)?);
            endpoints.insert(text(endpoint, "name")?, value);
        }
        let mut watched = HashMap::new();
        for table in list(json, "watched") {
            let relation = u32::try_from(int(table, "relid")?).unwrap_or_default();
            watched.insert(relation, Rc::new(Watched::from_json(table)?));
        }
        let settings = &json["settings"];
        let sequences = &json["sequences"];
        Ok(Self {
            flows,
            triggers,
            segment_triggers,
            endpoints,
            watched,
            webhooks: RefCell::default(),
            records_all_events: settings["record_all_events"] == true,
            max_flow_depth: small(settings, "max_flow_depth")?,
            enrich_budget: Duration::from_millis(
                u64::try_from(int(settings, "enrich_budget_ms")?)
                    .map_err(|_| broken("enrich_budget_ms"))?,
            ),
            retention: Retention {
                events: small(&settings["retention"], "events")?,
                runs: small(&settings["retention"], "runs")?,
            },
            event_table: oid(json, "event_table")?,
            sequences: Sequences {
                event: oid(sequences, "event")?,
                run: oid(sequences, "run")?,
                delivery: oid(sequences, "delivery")?,
            },
        })
    }
}

impl EventTrigger {
    /// The mode in which an event starts the flow.
    pub(crate) fn mode_for(&self, event: &Event) -> Mode {
        if self.is_test { Mode::Test } else { event.mode }
    }
}

impl Flow {
    /// What a start in this mode runs: the draft, or the published version with its number, if there is one.
    pub(crate) fn version_for(&self, mode: Mode) -> Option<(Option<i32>, Rc<Definition>)> {
        match mode {
            Mode::Test => Some((None, Rc::clone(&self.draft))),
            Mode::Live => {
                let (version, definition) = self.published.as_ref()?;
                Some((Some(*version), Rc::clone(definition)))
            }
        }
    }

    fn from_json(json: &Value) -> Result<Self, Error> {
        let published = match json["version"].as_i64() {
            None => None,
            Some(_) => {
                let definition = Definition::parse(&json["definition"])?;
                Some((small(json, "version")?, Rc::new(definition)))
            }
        };
        Ok(Self {
            id: int(json, "id")?,
            name: text(json, "name")?,
            is_archived: json["is_archived"] == true,
            draft: Rc::new(Definition::parse(&json["draft"])?),
            published,
        })
    }
}

impl Endpoint {
    fn from_json(json: &Value) -> Result<Self, Error> {
        Ok(Self {
            id: int(json, "id")?,
            is_ordered: json["ordered"] == true,
            is_enabled: json["is_enabled"] == true,
            revision: int(json, "revision")?,
            url: text(json, "url")?,
            test_url: json["test_url"].as_str().map(str::to_owned),
            limits: Limits {
                max_in_flight: json["max_in_flight"]
                    .as_i64()
                    .and_then(|max| u32::try_from(max).ok()),
                breaker_failures: u32::try_from(int(json, "breaker_failures")?)
                    .map_err(|_| broken("breaker_failures"))?,
                breaker_time: int(json, "breaker_us")?,
            },
        })
    }
}

impl Watched {
    fn from_json(json: &Value) -> Result<Self, Error> {
        Ok(Self {
            name: text(json, "name")?,
            root: u32::try_from(int(json, "root")?).unwrap_or_default(),
            id_column: text(json, "id_column")?,
            has_id_sql: text(json, "has_id_sql")?,
            id_sql: text(json, "id_sql")?,
            profile_sql: text(json, "profile_sql")?,
            revoked_when: json["revoked_when"].as_str().map(str::to_owned),
        })
    }
}

fn list<'a>(json: &'a Value, key: &str) -> &'a [Value] {
    json[key].as_array().map_or(&[], Vec::as_slice)
}

fn broken(key: &str) -> Error {
    Error::Internal(format!("the catalog has no usable \"{key}\""))
}

fn int(json: &Value, key: &str) -> Result<i64, Error> {
    json[key].as_i64().ok_or_else(|| broken(key))
}

fn small(json: &Value, key: &str) -> Result<i32, Error> {
    i32::try_from(int(json, key)?).map_err(|_| broken(key))
}

fn text(json: &Value, key: &str) -> Result<String, Error> {
    json[key]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| broken(key))
}

fn oid(json: &Value, key: &str) -> Result<pg_sys::Oid, Error> {
    u32::try_from(int(json, key)?)
        .map(pg_sys::Oid::from)
        .map_err(|_| broken(key))
}
