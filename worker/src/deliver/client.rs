//! The HTTP client: sends one request and reads what is worth keeping of the answer.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use actionflow_core::outcome::SendError;
use anyhow::Context as _;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::redirect;

use super::guard::{AddressRefused, GuardedResolver, check_literal};
use super::{Lookup, SystemLookup};
use crate::config::AddressPolicy;
use crate::db::tls;

/// How much of an answer is kept with the attempt.
const KEPT_BODY: usize = 1024;

/// How much of an answer is read so that its connection can be used again; past this the connection is closed.
const READ_BODY: usize = 64 * 1024;

/// Below the 5 seconds after which common servers close an idle connection: a request written at that moment would fail,
/// although nothing is wrong.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// How much of an answer's body is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// So many bytes are kept ...
    keep: usize,
    /// ... and reading ends once more than so many have come.
    read: usize,
}

impl Limit {
    /// The first part, for people.
    pub const START: Self = Self {
        keep: KEPT_BODY,
        read: READ_BODY,
    };

    /// All of it, up to so many bytes.
    #[must_use]
    pub const fn whole(bytes: usize) -> Self {
        Self {
            keep: bytes,
            read: bytes,
        }
    }
}

/// What an endpoint answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// The header `retry-after` as it was sent.
    pub retry_after: Option<String>,
    /// The header `content-type` as it was sent; several are joined by commas.
    pub content_type: Option<String>,
    /// The body as far as it was to be kept.
    pub body: Vec<u8>,
    /// Whether that is all of it.
    pub is_whole: bool,
}

impl Response {
    /// The first part of the body, without NUL and with replacement characters for what is not UTF-8.
    #[must_use]
    pub fn prefix(&self) -> String {
        printable(&self.body[..self.body.len().min(KEPT_BODY)])
    }
}

/// Why there is no complete answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: SendError,
    /// The status, when the answer broke off after it.
    pub status: Option<u16>,
    /// For people; holds neither the URL nor anything secret.
    pub message: String,
}

/// Keeps connections to endpoints and reuses them; a clone shares them.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    policy: AddressPolicy,
}

impl Client {
    /// A client that resolves names with the operating system.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(policy: AddressPolicy) -> anyhow::Result<Self> {
        Self::with_lookup(policy, Arc::new(SystemLookup))
    }

    /// A client that resolves names with `lookup`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn with_lookup(policy: AddressPolicy, lookup: Arc<dyn Lookup>) -> anyhow::Result<Self> {
        let roots = tls::system_roots();
        if roots.is_empty() {
            tracing::warn!(
                "found no certificate authorities on this system; https endpoints will be refused"
            );
        }
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::verifying(roots))
            .http1_only()
            .redirect(redirect::Policy::none())
            .no_proxy()
            // The schedule decides about retries, never the client.
            .retry(reqwest::retry::never())
            .referer(false)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .dns_resolver(GuardedResolver::new(lookup, policy))
            .build()
            .context("set up the HTTP client")?;
        Ok(Self { http, policy })
    }

    /// Sends a request and waits for the end of its answer, or of what `limit` wants of it, for as long as the request's
    /// timeout allows.
    ///
    /// # Errors
    /// When no complete answer came. Any status is an answer.
    pub async fn send(&self, request: reqwest::Request, limit: Limit) -> Result<Response, Failure> {
        check_literal(request.url(), self.policy).map_err(|refusal| Failure {
            kind: SendError::AddressRefused,
            status: None,
            message: refusal.to_string(),
        })?;
        let mut response = self
            .http
            .execute(request)
            .await
            .map_err(|e| failure(&e, None))?;
        let status = response.status().as_u16();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned);
        let content_type = content_type(response.headers());
        let (body, is_whole) = read_body(&mut response, limit)
            .await
            .map_err(|e| failure(&e, Some(status)))?;
        Ok(Response {
            status,
            retry_after,
            content_type,
            body,
            is_whole,
        })
    }
}

fn content_type(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(CONTENT_TYPE).iter();
    // Sent twice, it is neither of the two.
    values
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .reduce(|first, second| format!("{first}, {second}"))
}

/// The kept part of the body, and whether it is all of it.
async fn read_body(
    response: &mut reqwest::Response,
    limit: Limit,
) -> reqwest::Result<(Vec<u8>, bool)> {
    let mut kept = Vec::new();
    let mut read = 0;
    while read <= limit.read {
        let Some(chunk) = response.chunk().await? else {
            let is_whole = read <= limit.keep;
            return Ok((kept, is_whole));
        };
        read += chunk.len();
        let room = limit.keep - kept.len();
        kept.extend_from_slice(&chunk[..room.min(chunk.len())]);
    }
    Ok((kept, false))
}

/// Text that the database can store: UTF-8 without NUL, at most [`KEPT_BODY`] long.
fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.extend(chunk.valid().chars().filter(|&c| c != '\0'));
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    // A replacement character is longer than the byte that it stands for.
    text.truncate(text.floor_char_boundary(KEPT_BODY));
    text
}

fn failure(error: &reqwest::Error, status: Option<u16>) -> Failure {
    let refusal = causes(error).find_map(|cause| cause.downcast_ref::<AddressRefused>());
    let cause = causes(error)
        .last()
        .map(ToString::to_string)
        .unwrap_or_default();
    let (kind, message) = match refusal {
        Some(refusal) => (SendError::AddressRefused, refusal.to_string()),
        None if error.is_timeout() => (
            SendError::Timeout,
            "the time for the attempt ran out".to_owned(),
        ),
        None if error.is_connect() => (SendError::Connect, format!("could not connect: {cause}")),
        None if status.is_some() => (SendError::Broken, format!("the answer broke off: {cause}")),
        None => (SendError::Broken, format!("no answer: {cause}")),
    };
    Failure {
        kind,
        status,
        message,
    }
}

/// The causes below the client's own error, whose text would hold the URL.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_an_answer_can_be_stored_as_text() {
        assert_eq!(printable(b"ok"), "ok");
        assert_eq!(printable(b"a\0b\xffc"), "ab\u{fffd}c");
        assert_eq!(printable(&[0xff; KEPT_BODY]).len(), 1023);
        assert_eq!(printable("é".repeat(512).as_bytes()).len(), KEPT_BODY);
    }
}
