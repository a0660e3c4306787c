//! The signed request: the same for every delivery and for every enrich request.

use std::time::{Duration, SystemTime};

use actionflow_core::jose::SetSigner;
use actionflow_core::outcome::SendError;
use actionflow_core::signature::sign;
use bytes::Bytes;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, Request};
use serde_json::Value;

use super::{Failure, Target};

static WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
static WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
static WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Builds and signs the request that carries `message`, in the form that the endpoint wants. `id` is the same for every
/// attempt.
pub(crate) fn prepare(
    target: &Target,
    id: i64,
    message: &Bytes,
    timeout: Duration,
    now: SystemTime,
) -> Result<Request, Failure> {
    let endpoint = &target.endpoint;
    if let Some(fault) = &endpoint.fault {
        return Err(unsendable(fault));
    }
    let url = target.url.as_ref().map_err(|problem| unsendable(problem))?;

    let id = id.to_string();
    let seconds = unix_seconds(now);
    let body = match &endpoint.set {
        None => message.clone(),
        Some(signer) => token(signer, message, &id, seconds)?,
    };
    let timestamp = seconds.to_string();
    let signature = sign(&endpoint.secrets, &id, &timestamp, &body);

    let mut request = Request::new(Method::POST, url.clone());
    let headers = request.headers_mut();
    headers.clone_from(&endpoint.headers);
    for (name, value) in [
        (&WEBHOOK_ID, id),
        (&WEBHOOK_TIMESTAMP, timestamp),
        (&WEBHOOK_SIGNATURE, signature),
    ] {
        let value =
            HeaderValue::try_from(value).expect("digits and base64 are allowed in a header");
        headers.insert(name, value);
    }
    *request.timeout_mut() = Some(timeout);
    *request.body_mut() = Some(body.into());
    Ok(request)
}

/// The message as a Security Event Token.
fn token(signer: &SetSigner, message: &[u8], id: &str, seconds: i64) -> Result<Bytes, Failure> {
    let message: Value = serde_json::from_slice(message).map_err(|_| {
        unsendable("the message cannot be read, so that no token can be made of it")
    })?;
    let token = signer.sign(&message, id, seconds);
    token
        .map(Bytes::from)
        .map_err(|e| unsendable(&format!("no token can be made of the message: {e}")))
}

/// Whole seconds since 1970; a clock before that counts as 1970.
pub(crate) fn unix_seconds(now: SystemTime) -> i64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

fn unsendable(message: &str) -> Failure {
    Failure {
        kind: SendError::Unsendable,
        status: None,
        message: message.to_owned(),
    }
}
