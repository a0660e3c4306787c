//! Which endpoints are known, and where their requests go.

use std::collections::HashMap;
use std::sync::Arc;

use url::Url;

use super::endpoint::Endpoint;
use crate::queue::Delivery;
use crate::telemetry::Metrics;

/// Endpoints kept ready; when there are more, all are made ready anew, which costs microseconds each.
pub(crate) const MAX_ENDPOINTS: usize = 10_000;

/// URLs kept ready for an endpoint: its own and its test URL, before and after a change.
const MAX_TARGETS: usize = 4;

/// An endpoint and one of its URLs.
pub(crate) struct Target {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) url: Result<Url, String>,
}

/// An endpoint and the URLs that it has been used with.
pub(crate) struct Targets {
    pub(crate) endpoint: Arc<Endpoint>,
    used: Vec<(String, Arc<Target>)>,
}

impl Targets {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        if let Some(fault) = &endpoint.fault {
            tracing::warn!(
                endpoint = endpoint.name,
                "endpoint {} cannot be used: {fault}",
                endpoint.name
            );
        }
        Self {
            endpoint: Arc::new(endpoint),
            used: Vec::new(),
        }
    }

    /// The endpoint with this URL.
    pub(crate) fn at(&mut self, url: &str) -> Arc<Target> {
        if let Some((_, target)) = self.used.iter().find(|(used, _)| used == url) {
            return target.clone();
        }
        let target = Arc::new(Target {
            endpoint: self.endpoint.clone(),
            url: parse_url(url),
        });
        if self.used.len() >= MAX_TARGETS {
            self.used.clear();
        }
        self.used.push((url.to_owned(), target.clone()));
        target
    }
}

/// Endpoints by id, each with the settings that it was made of.
pub(crate) struct Directory {
    metrics: Arc<Metrics>,
    known: HashMap<i64, Known>,
}

struct Known {
    settings: String,
    targets: Targets,
}

impl Directory {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            known: HashMap::new(),
        }
    }

    /// Where this delivery goes. Its settings, if it brings some, replace those that are known.
    pub(crate) fn target(&mut self, delivery: &mut Delivery) -> Arc<Target> {
        if let Some(settings) = delivery.endpoint.take() {
            self.learn(delivery.endpoint_id, settings);
        }
        match self.known.get_mut(&delivery.endpoint_id) {
            Some(known) => known.targets.at(&delivery.url),
            None => {
                let fault = "the claim did not bring the endpoint's settings".to_owned();
                let endpoint = Arc::new(Endpoint::faulty(String::new(), fault, &self.metrics));
                let url = parse_url(&delivery.url);
                Arc::new(Target { endpoint, url })
            }
        }
    }

    fn learn(&mut self, id: i64, settings: String) {
        if self
            .known
            .get(&id)
            .is_some_and(|known| known.settings == settings)
        {
            return;
        }
        if self.known.len() >= MAX_ENDPOINTS {
            self.known.clear();
        }
        let targets = Targets::new(Endpoint::read(&settings, &self.metrics));
        self.known.insert(id, Known { settings, targets });
    }
}

fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| format!("the URL is not valid: {e}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        scheme => Err(format!(
            "the URL's scheme is {scheme:?}, which is not http or https"
        )),
    }
}
