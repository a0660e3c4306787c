//! What a sender sees: the database's answer, or why there is none. Never an internal detail.

use axum::body::Body;
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, Response, StatusCode};

use super::inbound::Answer;

/// In seconds. By then the requests that filled the queue have been answered.
const RETRY_BUSY: HeaderValue = HeaderValue::from_static("1");
/// In seconds. A database that restarts takes longer than a moment.
const RETRY_UNAVAILABLE: HeaderValue = HeaderValue::from_static("5");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Why a webhook has no answer of the database. The sender is told no more than this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The body ends early, or its chunks are malformed.
    Malformed,
    Method,
    /// The URL has no token that was ever given out.
    Unknown,
    /// The body took too long to arrive.
    Slow,
    TooLarge,
    /// As many webhooks as may wait are waiting.
    Busy,
    Unavailable,
    Internal,
}

impl Refusal {
    pub(super) fn response(self) -> Response<Body> {
        let (status, code, message) = self.parts();
        let text = serde_json::json!({"error": {"code": code, "message": message}}).to_string();
        let mut response = json(status, text);
        let headers = response.headers_mut();
        match self {
            Self::Busy => drop(headers.insert(RETRY_AFTER, RETRY_BUSY)),
            Self::Unavailable => drop(headers.insert(RETRY_AFTER, RETRY_UNAVAILABLE)),
            // What is left of the body is of no use, and where the next request begins is uncertain.
            Self::Malformed | Self::Slow => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Self::Method | Self::Unknown | Self::TooLarge | Self::Internal => {}
        }
        response
    }

    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed => (
                StatusCode::BAD_REQUEST,
                "invalid_request",
                "the body is incomplete or malformed",
            ),
            Self::Method => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "use POST or PUT",
            ),
            // As the database says it of a token that it does not know.
            Self::Unknown => (
                StatusCode::NOT_FOUND,
                "not_found",
                "there is no such webhook",
            ),
            Self::Slow => (
                StatusCode::REQUEST_TIMEOUT,
                "timeout",
                "the body took too long to arrive",
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "payload_too_large",
                "the body is larger than 1 MiB",
            ),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "too many requests at once; try again in a second",
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "the webhook cannot be received now; try again later",
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the webhook could not be received",
            ),
        }
    }
}

/// The database's answer as HTTP; without a status that HTTP knows it is a failure.
pub(super) fn answered(answer: Answer) -> Result<Response<Body>, Refusal> {
    // 1xx would not be the end of an answer.
    let status = match StatusCode::from_u16(answer.status) {
        Ok(status) if !status.is_informational() => status,
        _ => return Err(Refusal::Internal),
    };
    match answer.response {
        None => Ok(empty(status)),
        Some(text) if text == "null" => Ok(empty(status)),
        Some(text) if text.starts_with('"') => match serde_json::from_str::<String>(&text) {
            Ok(text) => Ok(plain(status, text)),
            Err(_) => Err(Refusal::Internal),
        },
        Some(text) => Ok(json(status, text)),
    }
}

fn empty(status: StatusCode) -> Response<Body> {
    with_body(status, Body::empty())
}

fn json(status: StatusCode, text: String) -> Response<Body> {
    let mut response = with_body(status, Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// A sender may have chosen the text, as in a handshake: nothing may take it for a page.
fn plain(status: StatusCode, text: String) -> Response<Body> {
    let mut response = with_body(status, Body::from(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, TEXT);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn with_body(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // What a webhook takes beside is a matter of its configuration, so this is what is true of all.
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("POST, PUT"));
    }
    response
}
