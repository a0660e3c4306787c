//! Endpoints made ready for sending, once for many deliveries: parsed URL, keyed secrets, header map.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use actionflow_core::outcome::SuccessRule;
use actionflow_core::signature::Secret;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use serde::Deserialize;
use tokio::sync::Semaphore;
use url::Url;

use crate::queue::Delivery;
use crate::telemetry::{EndpointMetrics, Metrics};

/// Endpoints kept ready; when there are more, all are made ready anew, which costs microseconds each.
const MAX_ENDPOINTS: usize = 10_000;

/// URLs kept ready for an endpoint: its own and its test URL, before and after a change.
const MAX_TARGETS: usize = 4;

/// Requests under way at once to an endpoint that sets no limit: polite to its receiver, and as fast as more would be. What
/// is claimed beyond them waits here, so that the next request follows the last without a round trip to the database.
const REQUESTS_AT_ONCE: usize = 64;

/// Headers that belong to the protocol: an endpoint's own headers may not replace them.
const RESERVED_HEADERS: [&str; 14] = [
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "host",
    "content-length",
    "content-type",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
];

/// Used when an endpoint's settings cannot be read, so that a repair still finds its deliveries alive.
const FALLBACK_SCHEDULE: [u64; 5] = [30, 60, 120, 300, 900];

/// How an attempt is made when the settings do not say.
const FALLBACK_TIMEOUT: Duration = Duration::from_secs(5);

/// The settings as the database gives them.
#[derive(Deserialize)]
struct Settings {
    name: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    secrets: Vec<String>,
    timeout_ms: u64,
    success: String,
    retry_seconds: Vec<f64>,
    max_in_flight: Option<u16>,
}

/// An endpoint ready for sending.
pub(crate) struct Endpoint {
    pub(crate) name: String,
    pub(crate) headers: HeaderMap,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) timeout: Duration,
    pub(crate) success: SuccessRule,
    pub(crate) schedule: Vec<Duration>,
    /// A permit for each request under way.
    pub(crate) requests: Semaphore,
    pub(crate) metrics: Arc<EndpointMetrics>,
    /// Why nothing can be sent with these settings.
    pub(crate) fault: Option<String>,
}

/// An endpoint and one of its URLs.
pub(crate) struct Target {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) url: Result<Url, String>,
}

/// Endpoints by id, each with the settings that it was made of.
pub(crate) struct Directory {
    metrics: Arc<Metrics>,
    known: HashMap<i64, Known>,
}

struct Known {
    settings: String,
    endpoint: Arc<Endpoint>,
    targets: Vec<(String, Arc<Target>)>,
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
        let Some(known) = self.known.get_mut(&delivery.endpoint_id) else {
            let fault = "the claim did not bring the endpoint's settings".to_owned();
            let endpoint = Arc::new(Endpoint::faulty(String::new(), fault, &self.metrics));
            return Arc::new(Target {
                endpoint,
                url: parse_url(&delivery.url),
            });
        };
        if let Some((_, target)) = known.targets.iter().find(|(url, _)| *url == delivery.url) {
            return target.clone();
        }
        let target = Arc::new(Target {
            endpoint: known.endpoint.clone(),
            url: parse_url(&delivery.url),
        });
        if known.targets.len() >= MAX_TARGETS {
            known.targets.clear();
        }
        known.targets.push((delivery.url.clone(), target.clone()));
        target
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
        let endpoint = Arc::new(Endpoint::read(&settings, &self.metrics));
        if let Some(fault) = &endpoint.fault {
            tracing::warn!(
                endpoint = endpoint.name,
                "endpoint {} cannot be used: {fault}",
                endpoint.name
            );
        }
        self.known.insert(
            id,
            Known {
                settings,
                endpoint,
                targets: Vec::new(),
            },
        );
    }
}

impl Endpoint {
    fn read(settings: &str, metrics: &Metrics) -> Self {
        let settings: Settings = match serde_json::from_str(settings) {
            Ok(settings) => settings,
            // The message tells line and kind; the text itself holds secrets.
            Err(error) => {
                let fault = format!(
                    "its settings cannot be read ({:?} at column {})",
                    error.classify(),
                    error.column()
                );
                return Self::faulty(String::new(), fault, metrics);
            }
        };
        match Self::build(&settings, metrics) {
            Ok(endpoint) => endpoint,
            Err(fault) => Self::faulty(settings.name, fault, metrics),
        }
    }

    fn build(settings: &Settings, metrics: &Metrics) -> Result<Self, String> {
        let success = SuccessRule::parse(&settings.success).ok_or_else(|| {
            format!(
                "success is {:?}, which is not one of 200, 2xx",
                settings.success
            )
        })?;
        let schedule = settings
            .retry_seconds
            .iter()
            .map(|&s| Duration::try_from_secs_f64(s));
        let secrets = settings
            .secrets
            .iter()
            .map(|text| Secret::parse(text).map_err(|e| e.to_string()));
        let secrets: Vec<Secret> = secrets.collect::<Result<_, _>>()?;
        if secrets.is_empty() {
            return Err("it has no signing secret".to_owned());
        }
        Ok(Self {
            name: settings.name.clone(),
            headers: headers(&settings.headers)?,
            secrets,
            timeout: Duration::from_millis(settings.timeout_ms),
            success,
            schedule: schedule
                .collect::<Result<_, _>>()
                .map_err(|_| "a retry time is negative".to_owned())?,
            requests: Semaphore::new(settings.max_in_flight.map_or(REQUESTS_AT_ONCE, usize::from)),
            metrics: Arc::new(metrics.endpoint(&settings.name)),
            fault: None,
        })
    }

    fn faulty(name: String, fault: String, metrics: &Metrics) -> Self {
        Self {
            headers: HeaderMap::new(),
            secrets: Vec::new(),
            timeout: FALLBACK_TIMEOUT,
            success: SuccessRule::default(),
            schedule: FALLBACK_SCHEDULE.map(Duration::from_secs).into(),
            requests: Semaphore::new(REQUESTS_AT_ONCE),
            metrics: Arc::new(metrics.endpoint(&name)),
            name,
            fault: Some(fault),
        }
    }
}

fn headers(own: &BTreeMap<String, String>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::with_capacity(own.len() + 5);
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("actionflow/", env!("CARGO_PKG_VERSION"))),
    );
    for (name, value) in own {
        let key: HeaderName = name
            .parse()
            .map_err(|_| format!("{name:?} is not a header's name"))?;
        let mut value: HeaderValue = value
            .parse()
            .map_err(|_| format!("the value of header {name:?} is not allowed in HTTP"))?;
        value.set_sensitive(true);
        if !RESERVED_HEADERS.contains(&key.as_str()) {
            headers.insert(key, value);
        }
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(headers)
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
