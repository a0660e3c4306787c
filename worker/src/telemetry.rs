//! Logs and metrics. Neither ever holds a secret, a body or a header's value.

mod enrich;
mod webhooks;

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;

pub use enrich::EnrichMetrics;
pub use webhooks::WebhookMetrics;

use crate::config::{Log, LogFormat};
use crate::db::QueueStat;

/// From a receiver on the same machine (1 ms) to the longest useful timeout (a minute).
const DURATION_BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
];

/// Below this the database's client writes what statements are called with: secrets, bodies, the credentials of webhooks.
const NEVER_BELOW: &str = "tokio_postgres=warn";

/// Starts logging to the standard error stream.
///
/// # Errors
/// When the filter is malformed, or logging has been started before.
pub fn start_logging(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.filter)?.add_directive(NEVER_BELOW.parse()?);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|e| anyhow::anyhow!("start logging: {e}"))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    endpoint: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabels {
    endpoint: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    endpoint: String,
    mode: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueStateLabels {
    endpoint: String,
    mode: String,
    state: &'static str,
}

/// Every metric of the worker.
pub struct Metrics {
    registry: Registry,
    deliveries: Family<OutcomeLabels, Counter>,
    durations: Family<EndpointLabels, Histogram, fn() -> Histogram>,
    queue_depth: Family<QueueStateLabels, Gauge>,
    queue_oldest: Family<QueueLabels, Gauge<f64, AtomicU64>>,
    /// Deliveries whose request is under way.
    pub in_flight: Gauge,
    /// Attempts that panicked.
    pub panics: Counter,
    /// Leases that ended before their attempt was recorded.
    pub leases_lost: Counter,
    /// Calls to the database that failed.
    pub database_errors: Counter,
    /// Memberships that were due and have been checked.
    pub segment_checks: Counter,
    /// Memberships that changed by time alone.
    pub segment_crossings: Counter,
    /// Customers that bulk jobs have looked at.
    pub bulk_customers: Counter,
    /// What is counted of requests whose callers wait.
    pub enrich: EnrichMetrics,
    /// What is counted of inbound webhooks.
    pub webhooks: WebhookMetrics,
    /// HTTP connections to this worker that are open.
    pub http_connections: Gauge,
}

/// The counters of one endpoint, looked up once and not for each delivery.
#[derive(Debug)]
pub struct EndpointMetrics {
    delivered: Counter,
    retried: Counter,
    dead: Counter,
    gone: Counter,
    duration: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("actionflow");
        let metrics = Self {
            deliveries: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            queue_depth: Family::default(),
            queue_oldest: Family::default(),
            in_flight: Gauge::default(),
            panics: Counter::default(),
            leases_lost: Counter::default(),
            database_errors: Counter::default(),
            segment_checks: Counter::default(),
            segment_crossings: Counter::default(),
            bulk_customers: Counter::default(),
            enrich: EnrichMetrics::default(),
            webhooks: WebhookMetrics::default(),
            http_connections: Gauge::default(),
            registry: Registry::default(),
        };
        let worker = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("worker", "This worker", worker);
        registry.register(
            "deliveries",
            "Recorded attempts by what became of the delivery",
            metrics.deliveries.clone(),
        );
        registry.register(
            "attempt_duration_seconds",
            "From connecting to the end of the answer",
            metrics.durations.clone(),
        );
        registry.register(
            "queue_depth",
            "Deliveries that have not ended",
            metrics.queue_depth.clone(),
        );
        registry.register(
            "queue_oldest_due_seconds",
            "How long the oldest due delivery has waited",
            metrics.queue_oldest.clone(),
        );
        registry.register(
            "in_flight",
            "Deliveries whose request is under way",
            metrics.in_flight.clone(),
        );
        for (name, help, counter) in metrics.counters() {
            registry.register(name, help, counter.clone());
        }
        metrics.enrich.register(&mut registry);
        metrics.webhooks.register(&mut registry);
        registry.register(
            "http_connections",
            "HTTP connections to this worker that are open",
            metrics.http_connections.clone(),
        );
        Self {
            registry,
            ..metrics
        }
    }
}

impl Metrics {
    /// The counters without labels: name, help, counter.
    fn counters(&self) -> [(&'static str, &'static str, &Counter); 6] {
        [
            (
                "attempt_panics",
                "Attempts that failed inside the worker",
                &self.panics,
            ),
            (
                "leases_lost",
                "Leases that ended before their attempt was recorded",
                &self.leases_lost,
            ),
            (
                "database_errors",
                "Calls to the database that failed",
                &self.database_errors,
            ),
            (
                "segment_checks",
                "Memberships that were due and have been checked",
                &self.segment_checks,
            ),
            (
                "segment_crossings",
                "Memberships that changed by time alone",
                &self.segment_crossings,
            ),
            (
                "bulk_customers",
                "Customers that bulk jobs have looked at",
                &self.bulk_customers,
            ),
        ]
    }

    /// The counters of this endpoint.
    #[must_use]
    pub fn endpoint(&self, name: &str) -> EndpointMetrics {
        let counter = |outcome| {
            let labels = OutcomeLabels {
                endpoint: name.to_owned(),
                outcome,
            };
            self.deliveries.get_or_create(&labels).clone()
        };
        EndpointMetrics {
            delivered: counter("delivered"),
            retried: counter("retry"),
            dead: counter("dead"),
            gone: counter("gone"),
            duration: self
                .durations
                .get_or_create(&EndpointLabels {
                    endpoint: name.to_owned(),
                })
                .clone(),
        }
    }

    /// Replaces the queue's gauges; endpoints that are not mentioned disappear.
    pub fn set_queue(&self, stats: &[QueueStat]) {
        self.queue_depth.clear();
        self.queue_oldest.clear();
        for stat in stats {
            let labels = QueueLabels {
                endpoint: stat.endpoint.clone(),
                mode: stat.mode.clone(),
            };
            self.queue_oldest
                .get_or_create(&labels)
                .set(stat.oldest_due_seconds);
            for (state, count) in [("pending", stat.pending), ("running", stat.running)] {
                let QueueLabels { endpoint, mode } = labels.clone();
                self.queue_depth
                    .get_or_create(&QueueStateLabels {
                        endpoint,
                        mode,
                        state,
                    })
                    .set(count);
            }
        }
    }

    /// Everything in the Prometheus text format.
    ///
    /// # Errors
    /// When a metric cannot be written, which would be a defect of its own.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut page = String::new();
        text::encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

/// Counts something that is under way, for as long as this lives: also when the future that holds it is dropped.
pub(crate) struct UnderWay<'a>(&'a Gauge);

impl<'a> UnderWay<'a> {
    pub(crate) fn enter(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl EndpointMetrics {
    /// Counts an attempt that has been recorded.
    pub(crate) fn count(&self, finished: &crate::queue::Finished) {
        use actionflow_core::outcome::Outcome;
        let counter = match finished.outcome {
            Outcome::Delivered => &self.delivered,
            Outcome::Retry(_) => &self.retried,
            Outcome::Dead => &self.dead,
            Outcome::Gone => &self.gone,
        };
        counter.inc();
        self.duration.observe(finished.duration.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_endpoints_and_forgets_those_without_a_queue() {
        let metrics = Metrics::default();
        metrics.endpoint("crm").delivered.inc();
        let stat = |endpoint: &str| QueueStat {
            endpoint: endpoint.to_owned(),
            mode: "live".to_owned(),
            pending: 7,
            running: 1,
            oldest_due_seconds: 1.5,
        };
        metrics.set_queue(&[stat("old")]);
        metrics.set_queue(&[stat("crm")]);
        let page = metrics.render().unwrap();
        assert!(
            page.contains(r#"actionflow_deliveries_total{endpoint="crm",outcome="delivered"} 1"#),
            "{page}"
        );
        assert!(
            page.contains(
                r#"actionflow_queue_depth{endpoint="crm",mode="live",state="pending"} 7"#
            ),
            "{page}"
        );
        assert!(
            page.contains(r#"actionflow_queue_oldest_due_seconds{endpoint="crm",mode="live"} 1.5"#),
            "{page}"
        );
        assert!(
            page.contains(r#"actionflow_worker_info{version="0.1.0"} 1"#),
            "{page}"
        );
        assert!(!page.contains("old\""), "{page}");
    }
}
