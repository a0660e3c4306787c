//! The metrics of inbound webhooks.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::DURATION_BUCKETS;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: u16,
}

/// What is counted of inbound webhooks.
#[derive(Debug)]
pub struct WebhookMetrics {
    requests: Family<StatusLabels, Counter>,
    /// From the end of a request's head to its answer.
    pub duration: Histogram,
    /// Webhooks that wait for a connection to the database.
    pub queue: Gauge,
}

impl Default for WebhookMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            duration: Histogram::new(DURATION_BUCKETS),
            queue: Gauge::default(),
        }
    }
}

impl WebhookMetrics {
    /// Counts an answer.
    pub fn answered(&self, status: u16, duration: Duration) {
        self.requests.get_or_create(&StatusLabels { status }).inc();
        self.duration.observe(duration.as_secs_f64());
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "webhook_requests",
            "Answers to inbound webhooks by their HTTP status",
            self.requests.clone(),
        );
        registry.register(
            "webhook_duration_seconds",
            "From the end of an inbound webhook's head to its answer",
            self.duration.clone(),
        );
        registry.register(
            "webhook_queue",
            "Inbound webhooks that wait for a connection to the database",
            self.queue.clone(),
        );
    }
}
