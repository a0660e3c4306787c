//! Endpoints made ready for sending, once for many requests: keyed secrets, header map, keys of answers and of SETs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actionflow_core::jose::{AnswerKey, SET_CONTENT_TYPE, SetSigner};
use actionflow_core::outcome::SuccessRule;
use actionflow_core::signature::Secret;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::telemetry::{EndpointMetrics, Metrics};

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
    answer_key: Option<Value>,
    #[serde(default)]
    format: Format,
    set: Option<Value>,
}

/// What a request's body is.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// The message.
    #[default]
    Json,
    /// A Security Event Token made of it.
    Set,
}

/// An endpoint ready for sending.
pub(crate) struct Endpoint {
    pub(crate) name: String,
    pub(crate) headers: HeaderMap,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) timeout: Duration,
    pub(crate) success: SuccessRule,
    pub(crate) schedule: Vec<Duration>,
    /// What the answers of Enrich have to be signed with.
    pub(crate) answer_key: Option<AnswerKey>,
    /// Makes the body of a request, when it is to be a Security Event Token.
    pub(crate) set: Option<SetSigner>,
    /// A permit for each request under way.
    pub(crate) requests: Semaphore,
    pub(crate) metrics: Arc<EndpointMetrics>,
    /// Why nothing can be sent with these settings.
    pub(crate) fault: Option<String>,
}

impl Endpoint {
    pub(crate) fn read(settings: &str, metrics: &Metrics) -> Self {
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
        let set = settings.set_signer()?;
        let content_type = set
            .as_ref()
            .map_or("application/json", |_| SET_CONTENT_TYPE);
        Ok(Self {
            name: settings.name.clone(),
            headers: headers(&settings.headers, content_type)?,
            secrets,
            timeout: Duration::from_millis(settings.timeout_ms),
            success,
            schedule: schedule
                .collect::<Result<_, _>>()
                .map_err(|_| "a retry time is negative".to_owned())?,
            answer_key: settings.answer_key()?,
            set,
            requests: Semaphore::new(settings.max_in_flight.map_or(REQUESTS_AT_ONCE, usize::from)),
            metrics: Arc::new(metrics.endpoint(&settings.name)),
            fault: None,
        })
    }

    pub(crate) fn faulty(name: String, fault: String, metrics: &Metrics) -> Self {
        Self {
            headers: HeaderMap::new(),
            secrets: Vec::new(),
            timeout: FALLBACK_TIMEOUT,
            success: SuccessRule::default(),
            schedule: FALLBACK_SCHEDULE.map(Duration::from_secs).into(),
            answer_key: None,
            set: None,
            requests: Semaphore::new(REQUESTS_AT_ONCE),
            metrics: Arc::new(metrics.endpoint(&name)),
            name,
            fault: Some(fault),
        }
    }
}

impl Settings {
    fn answer_key(&self) -> Result<Option<AnswerKey>, String> {
        let key = self.answer_key.as_ref().map(AnswerKey::parse).transpose();
        key.map_err(|e| format!("its answer_key cannot be used: {e}"))
    }

    fn set_signer(&self) -> Result<Option<SetSigner>, String> {
        let set = match (self.format, &self.set) {
            (Format::Json, _) => return Ok(None),
            (Format::Set, Some(set)) => set,
            (Format::Set, None) => {
                return Err("its format is \"set\" without the option set".to_owned());
            }
        };
        // The newest secret is the first.
        let secret = self.secrets.first().map(String::as_str);
        match SetSigner::parse(set, secret) {
            Ok(signer) => Ok(Some(signer)),
            Err(e) => Err(format!("its option set cannot be used: {e}")),
        }
    }
}

fn headers(
    own: &BTreeMap<String, String>,
    content_type: &'static str,
) -> Result<HeaderMap, String> {
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
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(headers)
}
