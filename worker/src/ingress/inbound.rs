//! An inbound webhook on its way to the database, and what comes back.

use std::borrow::Cow;
use std::future::Future;
use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue, Method};
use bytes::Bytes;
use serde::{Serialize, Serializer};

use crate::db::DbError;

/// The name under which the URL's query is passed on. No sender can forge it: a header's name cannot begin with a colon.
const QUERY: &str = ":query";

/// A request as it arrived, in the form in which the database takes it.
#[derive(Debug, Clone)]
pub struct Inbound {
    /// What the URL ends with.
    pub token: String,
    pub method: Method,
    /// A JSON array of [name, value] pairs: names in lower case, every value of a repeated header, those of one name in order.
    /// A value that is not UTF-8 is read as Latin-1. The URL's query comes last, named `:query`.
    pub headers: String,
    /// The bytes as they were signed.
    pub body: Bytes,
    /// Where it came from; `None` when the proxies before the worker do not say it clearly.
    pub source: Option<IpAddr>,
}

/// What the database answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// A JSON text: an object is sent as it is, a string as plain text, null as nothing.
    pub response: Option<String>,
}

/// Why the database did not answer.
#[derive(Debug)]
pub struct Failure {
    pub kind: FailureKind,
    pub error: DbError,
}

/// What a failure means for the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Another transaction was in the way, and nothing has been done: the same call may work at once.
    Conflict,
    /// The database cannot answer now; it is unknown whether it has acted.
    Unavailable,
    /// The call fails again until a person acts.
    Internal,
}

/// Receives webhooks. Its caller bounds how many calls there are at once.
pub trait Webhooks: Send + Sync + 'static {
    /// One webhook, in one transaction that has been committed when this returns an answer.
    fn receive(&self, inbound: &Inbound) -> impl Future<Output = Result<Answer, Failure>> + Send;
}

/// The headers, and the URL's query when there is one, as [`Inbound::headers`] has them.
pub(super) fn pairs(headers: &HeaderMap, query: Option<&str>) -> String {
    serde_json::to_string(&Pairs { headers, query }).expect("texts can be written as JSON")
}

struct Pairs<'a> {
    headers: &'a HeaderMap,
    query: Option<&'a str>,
}

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| (name.as_str(), text(value)));
        let query = self.query.map(|query| (QUERY, Cow::Borrowed(query)));
        serializer.collect_seq(headers.chain(query))
    }
}

fn text(value: &HeaderValue) -> Cow<'_, str> {
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Cow::Borrowed(text),
        // HTTP's own reading of such bytes; each stays one character, so the value can be told from any other.
        Err(_) => value.as_bytes().iter().copied().map(char::from).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_keep_their_duplicates_and_bytes_that_are_no_utf_8() {
        let mut headers = HeaderMap::new();
        let mut add = |name: &'static str, value: &[u8]| {
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        };
        add("x-signature", b"v1=a");
        add("host", b"example.com");
        add("x-signature", "\"ü\"\\\t".as_bytes());
        add("x-latin", b"\xfc");
        assert_eq!(
            pairs(&headers, Some("a=%20&a=ü")),
            r#"[["x-signature","v1=a"],["x-signature","\"ü\"\\\t"],["host","example.com"],["x-latin","ü"],[":query","a=%20&a=ü"]]"#
        );
        assert_eq!(pairs(&HeaderMap::new(), None), "[]");
    }
}
