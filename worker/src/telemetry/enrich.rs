//! The metrics of Enrich.

use actionflow_core::enrich::answer::Decision;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::DURATION_BUCKETS;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// What is counted of requests whose callers wait.
#[derive(Debug)]
pub struct EnrichMetrics {
    requests: Family<OutcomeLabels, Counter>,
    allowed: Counter,
    challenged: Counter,
    blocked: Counter,
    /// Requests that were answered with a failure.
    pub failed: Counter,
    /// From taking a request to its reply.
    pub duration: Histogram,
    /// Requests that have been taken and not answered.
    pub in_flight: Gauge,
    /// Requests that were answered without HTTP.
    pub cache_hits: Counter,
    /// Attempts that are missing from the log.
    pub log_dropped: Counter,
}

impl Default for EnrichMetrics {
    fn default() -> Self {
        let requests = Family::<OutcomeLabels, Counter>::default();
        let counter = |outcome| requests.get_or_create(&OutcomeLabels { outcome }).clone();
        Self {
            allowed: counter("allow"),
            challenged: counter("challenge"),
            blocked: counter("block"),
            failed: counter("failed"),
            requests,
            duration: Histogram::new(DURATION_BUCKETS),
            in_flight: Gauge::default(),
            cache_hits: Counter::default(),
            log_dropped: Counter::default(),
        }
    }
}

impl EnrichMetrics {
    /// The counter of requests with this answer.
    #[must_use]
    pub fn answered(&self, decision: Decision) -> &Counter {
        match decision {
            Decision::Allow => &self.allowed,
            Decision::Challenge => &self.challenged,
            Decision::Block => &self.blocked,
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "enrich_requests",
            "Enrich requests by what their callers were told",
            self.requests.clone(),
        );
        registry.register(
            "enrich_duration_seconds",
            "From taking an enrich request to its reply, retry included",
            self.duration.clone(),
        );
        registry.register(
            "enrich_in_flight",
            "Enrich requests that have been taken and not answered",
            self.in_flight.clone(),
        );
        registry.register(
            "enrich_cache_hits",
            "Enrich requests that were answered without HTTP",
            self.cache_hits.clone(),
        );
        registry.register(
            "enrich_log_dropped",
            "Enrich attempts that are missing from the log",
            self.log_dropped.clone(),
        );
    }
}
