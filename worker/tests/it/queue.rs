//! A queue in memory with the behaviour of the one in the database, and what drives a worker around it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use actionflow_core::outcome::Outcome;
use actionflow_worker::config::AddressPolicy;
use actionflow_worker::db::DbError;
use actionflow_worker::deliver::Client;
use actionflow_worker::health::Health;
use actionflow_worker::queue::{Claim, Delivery, Finished, Lease, Privacy, Queue};
use actionflow_worker::telemetry::Metrics;
use actionflow_worker::{Grace, Worker};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub(crate) const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// What was recorded of a delivery.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) id: i64,
    pub(crate) outcome: Outcome,
    pub(crate) status: Option<u16>,
    pub(crate) error: Option<String>,
    pub(crate) response: Option<String>,
    pub(crate) answer: Option<String>,
}

/// Everything that the queue was asked, and what it is to answer.
#[derive(Default)]
pub(crate) struct State {
    pending: VecDeque<Delivery>,
    held: HashMap<i64, i64>,
    last_token: i64,
    pub(crate) records: Vec<Record>,
    pub(crate) released: Vec<i64>,
    pub(crate) claims: Vec<Instant>,
    pub(crate) announcements: usize,
    pub(crate) wake_ups: usize,
    pub(crate) next_claim_in: Option<Duration>,
    /// So many announcements are refused.
    pub(crate) refusals: usize,
    /// So many calls to record fail.
    pub(crate) record_failures: usize,
    /// So many claims fail.
    pub(crate) claim_failures: usize,
}

#[derive(Default)]
pub(crate) struct MemoryQueue {
    state: Mutex<State>,
    wake: Notify,
    changes: watch::Sender<u64>,
}

impl MemoryQueue {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Queues a delivery to an endpoint named by its URL, with these settings laid over the usual ones.
    pub(crate) fn push(&self, id: i64, url: &str, settings: serde_json::Value) {
        self.queue(delivery(id, url, &settings));
    }

    pub(crate) fn queue(&self, delivery: Delivery) {
        self.state().pending.push_back(delivery);
        self.wake.notify_one();
    }

    /// Waits until the state is as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&State) -> bool) {
        let mut changes = self.changes.subscribe();
        let waiting = changes.wait_for(|_| wanted(&self.state()));
        // Longer than any step of these tests takes, so that a failure ends and says where.
        tokio::time::timeout(Duration::from_secs(60), waiting)
            .await
            .expect("the state is reached")
            .unwrap();
    }

    /// Waits for so many records, and returns them by id.
    pub(crate) async fn recorded(&self, count: usize) -> Vec<Record> {
        self.until(|state| state.records.len() >= count).await;
        let mut records = self.state().records.clone();
        records.sort_by_key(|record| record.id);
        records
    }

    fn changed<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let answer = change(&mut self.state());
        self.changes.send_modify(|count| *count += 1);
        answer
    }
}

/// An endpoint's settings, with these laid over the usual ones.
pub(crate) fn endpoint(settings: &serde_json::Value) -> serde_json::Value {
    let mut endpoint = serde_json::json!({
        "name": "crm", "headers": {}, "secrets": [SECRET], "timeout_ms": 5000, "success": "200",
        "retry_seconds": [30, 60],
    });
    let own = settings.as_object().unwrap().clone();
    endpoint.as_object_mut().unwrap().extend(own);
    endpoint
}

/// A notification to an endpoint named by its URL.
pub(crate) fn delivery(id: i64, url: &str, settings: &serde_json::Value) -> Delivery {
    Delivery {
        lease: Lease { id, token: 0 },
        attempt: 1,
        retry: 0,
        url: url.to_owned(),
        body: format!(r#"{{"delivery":{id}}}"#).into(),
        endpoint_id: i64::from(url.len() as u32),
        endpoint: Some(endpoint(settings).to_string()),
        enrich_timeout: None,
        privacy: Privacy::Ordinary,
    }
}

pub(crate) fn failure(count: &mut usize) -> Result<(), DbError> {
    match count.checked_sub(1) {
        Some(rest) => {
            *count = rest;
            Err(DbError::Silent(Duration::from_secs(1)))
        }
        None => Ok(()),
    }
}

impl Queue for MemoryQueue {
    async fn claim(&self, max: usize) -> Result<Claim, DbError> {
        self.changed(|state| {
            state.claims.push(Instant::now());
            failure(&mut state.claim_failures)?;
            state.last_token += 1;
            let token = state.last_token;
            let count = max.min(state.pending.len());
            let mut deliveries: Vec<Delivery> = state.pending.drain(..count).collect();
            for delivery in &mut deliveries {
                delivery.lease.token = token;
                state.held.insert(delivery.lease.id, token);
            }
            Ok(Claim {
                deliveries,
                next_claim_in: state.next_claim_in,
            })
        })
    }

    async fn complete(&self, batch: &[Finished]) -> Result<Vec<i64>, DbError> {
        self.changed(|state| {
            failure(&mut state.record_failures)?;
            let held = batch
                .iter()
                .filter(|f| state.held.get(&f.lease.id) == Some(&f.lease.token));
            let records: Vec<Record> = held
                .map(|f| Record {
                    id: f.lease.id,
                    outcome: f.outcome,
                    status: f.status,
                    error: f.error.clone(),
                    response: f.response.clone(),
                    answer: f.answer.clone(),
                })
                .collect();
            let ids: Vec<i64> = records.iter().map(|record| record.id).collect();
            state.held.retain(|id, _| !ids.contains(id));
            state.records.extend(records);
            Ok(ids)
        })
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<i64>, DbError> {
        Ok(leases.iter().map(|lease| lease.id).collect())
    }

    async fn release(&self, leases: &[Lease]) -> Result<Vec<i64>, DbError> {
        self.changed(|state| {
            let ids: Vec<i64> = leases.iter().map(|lease| lease.id).collect();
            state.held.retain(|id, _| !ids.contains(id));
            state.released.extend(&ids);
            Ok(ids)
        })
    }

    async fn prepare_to_sleep(&self) -> Result<bool, DbError> {
        self.changed(|state| {
            state.announcements += 1;
            Ok(failure(&mut state.refusals).is_ok())
        })
    }

    async fn wake_up(&self) -> Result<(), DbError> {
        self.changed(|state| state.wake_ups += 1);
        Ok(())
    }

    async fn notified(&self) {
        self.wake.notified().await;
    }
}

/// A worker around a queue in memory.
pub(crate) struct Running {
    pub(crate) queue: Arc<MemoryQueue>,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
    shutdown: oneshot::Sender<()>,
    worker: JoinHandle<Result<(), DbError>>,
}

impl Running {
    pub(crate) fn start(concurrency: usize) -> Self {
        Self::with(
            concurrency,
            Client::new(AddressPolicy::Any).unwrap(),
            Grace::default(),
            Arc::default(),
        )
    }

    pub(crate) fn with(
        concurrency: usize,
        client: Client,
        grace: Grace,
        queue: Arc<MemoryQueue>,
    ) -> Self {
        let (health, metrics) = (Arc::new(Health::default()), Arc::new(Metrics::default()));
        let worker = Worker {
            queue: queue.clone(),
            client,
            concurrency,
            grace,
            health: health.clone(),
            metrics: metrics.clone(),
        };
        let (shutdown, asked) = oneshot::channel();
        let worker = tokio::spawn(worker.run(async move { asked.await.unwrap_or_default() }));
        Self {
            queue,
            health,
            metrics,
            shutdown,
            worker,
        }
    }

    /// Asks the worker to end, and returns when it has.
    pub(crate) async fn stop(self) {
        self.begin_stop().await.unwrap().unwrap();
    }

    pub(crate) fn begin_stop(self) -> JoinHandle<Result<(), DbError>> {
        self.shutdown.send(()).unwrap();
        self.worker
    }
}
