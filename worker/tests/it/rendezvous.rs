//! A rendezvous in memory with the behaviour of the one in the database, and what drives an enricher around it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use actionflow_worker::Grace;
use actionflow_worker::config::AddressPolicy;
use actionflow_worker::db::DbError;
use actionflow_worker::deliver::Client;
use actionflow_worker::enrich::{Enricher, Entry, Rendezvous, Replies, Taken};
use actionflow_worker::telemetry::Metrics;
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::queue::{endpoint, failure};

/// Longer than any step of these tests takes, so that a failure ends and says where.
const LIMIT: Duration = Duration::from_secs(60);

/// The endpoint of every request here.
const ENDPOINT: i64 = 1;

/// Everything that the rendezvous was asked, and what it is to answer.
#[derive(Default)]
pub(crate) struct State {
    waiting: VecDeque<Taken>,
    settings: HashMap<i64, Value>,
    pub(crate) replies: HashMap<i64, Value>,
    /// As the database would read them.
    pub(crate) entries: Vec<Value>,
    pub(crate) takes: Vec<Instant>,
    pub(crate) fetches: usize,
    pub(crate) is_retired: bool,
    pub(crate) has_left: bool,
    /// Whether anything was handed over after the connection that takes had ended.
    pub(crate) answered_late: bool,
    /// So many takes say that the database is not prepared.
    pub(crate) refused_takes: usize,
    /// So many takes fail.
    pub(crate) take_failures: usize,
    /// So many calls that hand replies over fail.
    pub(crate) answer_failures: usize,
    /// So many calls to record fail.
    pub(crate) record_failures: usize,
    /// Calls to record never return.
    pub(crate) is_record_stuck: bool,
}

#[derive(Default)]
pub(crate) struct MemoryRendezvous {
    state: Mutex<State>,
    wake: Notify,
    changes: watch::Sender<u64>,
}

impl MemoryRendezvous {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Gives the endpoint these settings, laid over the usual ones.
    pub(crate) fn configure(&self, revision: i64, settings: &Value) {
        let mut settings = endpoint(settings);
        settings["revision"] = revision.into();
        self.state().settings.insert(ENDPOINT, settings);
    }

    /// A caller asks, and waits for ten seconds. What is given is laid over the usual head.
    pub(crate) fn ask(&self, id: i64, url: &str, head: Value) {
        self.ask_within(Duration::from_secs(10), id, url, head);
    }

    /// A caller asks, and waits for so long.
    pub(crate) fn ask_within(&self, remaining: Duration, id: i64, url: &str, head: Value) {
        let mut usual = json!({
            "id": id, "endpoint_id": ENDPOINT, "endpoint_revision": 1, "url": url, "flow_id": 3, "run_id": 17, "event_id": 9,
            "action": "risk", "user_id": "42", "mode": "live", "cache_key": null, "cache_seconds": 0,
        });
        let own = head.as_object().unwrap().clone();
        usual.as_object_mut().unwrap().extend(own);
        let taken = Taken {
            ticket: ticket(id),
            remaining,
            head: usual.to_string(),
            body: format!(r#"{{"type":"login","timestamp":"2026-11-22T03:00:00.000Z","data":{{"request":{id},"flow_invocation_id":"inv","user":{{"id":"42"}}}}}}"#).into(),
        };
        self.state().waiting.push_back(taken);
        self.wake.notify_one();
    }

    /// Waits until the state is as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&State) -> bool) {
        let mut changes = self.changes.subscribe();
        let waiting = changes.wait_for(|_| wanted(&self.state()));
        timeout(LIMIT, waiting)
            .await
            .expect("the state is reached")
            .unwrap();
    }

    /// Waits for the reply to a request.
    pub(crate) async fn reply(&self, id: i64) -> Value {
        self.until(|state| state.replies.contains_key(&ticket(id)))
            .await;
        self.state().replies[&ticket(id)].clone()
    }

    /// Waits for so many entries of a request, in order.
    pub(crate) async fn entries(&self, id: i64, count: usize) -> Vec<Value> {
        let of_request = |state: &State| -> Vec<Value> {
            let entries = state.entries.iter();
            entries.filter(|e| e["request_id"] == id).cloned().collect()
        };
        self.until(|state| of_request(state).len() >= count).await;
        of_request(&self.state())
    }

    fn changed<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let answer = change(&mut self.state());
        self.changes.send_modify(|count| *count += 1);
        answer
    }
}

/// A ticket is no id: whoever confuses them must fail here.
fn ticket(id: i64) -> i64 {
    id + 1_000_000_000_000
}

impl Rendezvous for MemoryRendezvous {
    async fn take(&self, max: usize, wait: Duration) -> Result<Vec<Taken>, DbError> {
        self.changed(|state| {
            state.takes.push(Instant::now());
            failure(&mut state.refused_takes).map_err(|_| DbError::NotPreloaded)?;
            failure(&mut state.take_failures)
        })?;
        let found = timeout(wait, async {
            loop {
                let taken = self.changed(|state| {
                    let count = max.min(state.waiting.len());
                    let taken: Vec<Taken> = state.waiting.drain(..count).collect();
                    (!taken.is_empty()).then_some(taken)
                });
                match taken {
                    Some(taken) => return taken,
                    None => self.wake.notified().await,
                }
            }
        });
        Ok(found.await.unwrap_or_default())
    }

    async fn retire(&self) -> Result<(), DbError> {
        self.changed(|state| state.is_retired = true);
        Ok(())
    }

    async fn leave(&self) {
        self.changed(|state| state.has_left = true);
    }

    async fn answer(&self, replies: &Replies) -> Result<Vec<i64>, DbError> {
        self.changed(|state| {
            failure(&mut state.answer_failures)?;
            state.answered_late |= state.has_left;
            assert_eq!(replies.tickets.len(), replies.replies.len());
            for (ticket, reply) in replies.tickets.iter().zip(&replies.replies) {
                let reply = serde_json::from_str(reply).unwrap();
                let before = state.replies.insert(*ticket, reply);
                assert_eq!(before, None, "a request is answered once");
            }
            Ok(replies.tickets.clone())
        })
    }

    async fn endpoint(&self, endpoint_id: i64) -> Result<Option<String>, DbError> {
        let settings = self.changed(|state| {
            state.fetches += 1;
            state.settings.get(&endpoint_id).map(Value::to_string)
        });
        // Whoever needs the same meanwhile gets the chance to ask too.
        tokio::task::yield_now().await;
        Ok(settings)
    }

    async fn record(&self, entries: &[Entry]) -> Result<(), DbError> {
        if self.state().is_record_stuck {
            return std::future::pending().await;
        }
        self.changed(|state| {
            failure(&mut state.record_failures)?;
            let entries = entries.iter().map(|e| serde_json::to_value(e).unwrap());
            state.entries.extend(entries);
            Ok(())
        })
    }
}

/// An enricher around a rendezvous in memory, whose endpoint has revision 1 and the usual settings.
pub(crate) struct Running {
    pub(crate) rendezvous: Arc<MemoryRendezvous>,
    pub(crate) metrics: Arc<Metrics>,
    shutdown: oneshot::Sender<()>,
    enricher: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start() -> Self {
        let rendezvous = Arc::new(MemoryRendezvous::default());
        rendezvous.configure(1, &json!({}));
        Self::with(
            Client::new(AddressPolicy::Any).unwrap(),
            Grace::default(),
            rendezvous,
        )
    }

    pub(crate) fn with(client: Client, grace: Grace, rendezvous: Arc<MemoryRendezvous>) -> Self {
        let metrics = Arc::new(Metrics::default());
        let enricher = Enricher {
            rendezvous: rendezvous.clone(),
            client,
            grace,
            health: Arc::default(),
            metrics: metrics.clone(),
        };
        let (shutdown, asked) = oneshot::channel();
        let enricher = tokio::spawn(enricher.run(async move { asked.await.unwrap_or_default() }));
        Self {
            rendezvous,
            metrics,
            shutdown,
            enricher,
        }
    }

    /// Asks the enricher to end, and returns when it has.
    pub(crate) async fn stop(self) {
        self.begin_stop().await.unwrap();
    }

    pub(crate) fn begin_stop(self) -> JoinHandle<()> {
        self.shutdown.send(()).unwrap();
        self.enricher
    }
}
