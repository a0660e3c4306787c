//! The configuration: what people write, checked and compiled.

use std::fmt;

use serde_json::Value;

use super::encoding::Encoding;
use super::form;
use super::key::{Algorithm, Key, Material};
use super::mac::Hash;
use super::preset;
use super::read;
use super::source::Part;
use super::template::{Piece, Template};
use super::timestamp::Format;
use super::url::missing_url;
use crate::input::{Error, Place};

pub(super) const SUBJECT: &str = "signature configuration";

/// How a sender signs its requests: read from JSON once, then used for every request.
///
/// Its keys, all but `preset` optional where a preset has them:
/// - `algorithm`: `sha1`, `sha256`, `sha384`, `sha512` (HMAC), `sha256-plain` (a hash over a text that holds `[secret]`),
///   `ed25519`, `ecdsa-p256-sha256`, `token` (the header is the secret), or `standard-webhooks` (secrets that begin with
///   `whsec_` check signatures `v1,`, public keys that begin with `whpk_` check `v1a,`);
/// - `digest`: `hex`, `base64` or `base64url`, how signatures are written;
/// - `secret`, and `secrets`: texts, or objects of `secret`, `notBefore` and `notAfter` (ISO 8601); ten in all. Each valid one
///   is tried with each signature. `secretPrefix` is left off where a secret begins with it; `secretEncoding` is `utf8` (the
///   text itself), `base64`, `base64url` or `hex`;
/// - `data.signature`: a `header`, several `headers` or a place in the body (`json`, a pointer as in RFC 6901), and which part
///   of it: every element that begins with `parsePrefix`, or every part from `position` on between `separator`s;
/// - `data.timestamp`: likewise a `header` or `json`, and its `format`: `s`, `ms`, `us` or `iso8601`;
/// - `data.id`: the `header` or the `json` that identifies a request;
/// - `template`: what is signed, with the tokens `[timestamp]` (its text), `[payload]`, `[id]`, `[url]`, `[method]`,
///   `[header:NAME]`, `[json:/POINTER]`, `[form:sorted]` and `[secret]`;
/// - `tolerance` and `toleranceFuture`: seconds that a timestamp may be off, 300 by default, 0 for any;
/// - `url`: what `[url]` stands for, never taken from a request; `urlDecode`: `hubspot`;
/// - `signsBody`: false where the template does not hold the body, so that nobody writes that by mistake;
/// - `preset`: a sender's name; the other keys lie over the preset's. `note`: free text.
#[derive(Clone)]
pub struct Config {
    pub(super) preset: Option<&'static str>,
    /// One, or the two of Standard Webhooks.
    pub(super) checks: Vec<Check>,
    pub(super) signatures: Signatures,
    pub(super) template: Template,
    pub(super) timestamp: Option<Timestamp>,
    pub(super) id: Option<Id>,
    /// Empty when the template has no `[url]`.
    pub(super) url: String,
    pub(super) credential_headers: Vec<String>,
    /// Lower-case names of all headers that a verdict depends on.
    pub(super) headers: Vec<String>,
    /// Whether the template has `[id]`.
    pub(super) has_id: bool,
    /// Whether the template has `[method]`.
    pub(super) has_method: bool,
    /// Whether the template has `[form:sorted]`.
    pub(super) has_form: bool,
    /// Whether something in the body has to be known before a signature can be checked.
    pub(super) needs_json: bool,
}

/// One kind of signature, and the secrets for it.
#[derive(Clone)]
pub(super) struct Check {
    pub(super) algorithm: Algorithm,
    /// None for tokens, which are compared as texts.
    pub(super) digest: Option<Encoding>,
    pub(super) part: Part,
    pub(super) keys: Vec<Key>,
}

/// Where signatures stand.
#[derive(Clone)]
pub(super) enum Signatures {
    /// In headers, lower-case, of which one at least must be there.
    Headers(Vec<String>),
    /// In the body, at a JSON pointer.
    Json(String),
}

/// Where a single value stands.
#[derive(Clone)]
pub(super) enum From {
    Header(String),
    Json(String),
}

/// A timestamp, and how far off it may be, in microseconds; none for any age.
#[derive(Clone)]
pub(super) struct Timestamp {
    pub(super) from: From,
    pub(super) part: Part,
    pub(super) format: Format,
    pub(super) past: Option<i64>,
    pub(super) future: Option<i64>,
}

/// What identifies a request.
#[derive(Clone)]
pub(super) enum Id {
    Header(String),
    Json(String),
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// When a key is unknown, a value cannot be used, or what is configured would prove nothing. Secrets may be absent or blank
    /// ([`Config::require_secret`]); they are never repeated.
    pub fn parse(json: &Value) -> Result<Self, Error> {
        let place = Place::root(SUBJECT);
        let (json, preset) = preset::overlaid(json, &place)?;
        read::config(&json, preset, place)
    }

    /// Whether a request can be believed at all.
    ///
    /// # Errors
    /// When there is no secret.
    pub fn require_secret(&self) -> Result<(), Error> {
        if self.checks.iter().any(|check| !check.keys.is_empty()) {
            return Ok(());
        }
        Err(Place::root(SUBJECT).key("secret").unusable(
            "the secret is missing",
            "Set \"secret\" to what the sender shows, or \"secrets\" to several.",
        ))
    }

    /// Headers that are the secret itself and must not be kept, in lower case.
    #[must_use]
    pub fn credential_headers(&self) -> &[String] {
        &self.credential_headers
    }

    /// Whether [`Config::verify`] looks at a header; all others may be left out of the request.
    #[must_use]
    pub fn reads_header(&self, name: &[u8]) -> bool {
        let mut names = self.headers.iter();
        names.any(|known| known.as_bytes().eq_ignore_ascii_case(name))
    }

    /// The HMAC of a text with the first secret, as handshakes want it; `None` when the algorithm is another, or without secret.
    #[must_use]
    pub fn hmac_hex(&self, text: &[u8]) -> Option<String> {
        let key = self.checks.first()?.keys.first()?;
        match &key.material {
            Material::Keyed(keyed) => Some(hex::encode(keyed.tag(|take| take(text)).as_bytes())),
            Material::Plain(_) | Material::Public(_) | Material::Token(_) => None,
        }
    }

    /// The preset that was named.
    #[must_use]
    pub fn preset(&self) -> Option<&'static str> {
        self.preset
    }

    /// Puts parts together that have been read, and looks at what only they together can have wrong.
    pub(super) fn assemble(mut self, signs_body: bool, place: &Place) -> Result<Self, Error> {
        let template = &self.template;
        self.has_id = template.has(&Piece::Id);
        self.has_method = template.has(&Piece::Method);
        self.has_form = template.has(&Piece::Form);
        self.needs_json = !template.pointers.is_empty()
            || matches!(self.signatures, Signatures::Json(_))
            || (template.has(&Piece::Timestamp) && self.has_timestamp_in_body());
        self.headers = self.header_names();
        if self.is_token() {
            return Ok(self);
        }
        if template.has(&Piece::Url) && self.url.is_empty() {
            return Err(missing_url(place));
        }
        match self.mistake(signs_body) {
            None => Ok(self),
            Some((message, hint)) => Err(place.key("template").unusable(message, hint)),
        }
    }

    fn header_names(&self) -> Vec<String> {
        let mut names = self.template.headers.clone();
        if let Signatures::Headers(headers) = &self.signatures {
            names.extend_from_slice(headers);
        }
        if let Some(From::Header(name)) = self.timestamp.as_ref().map(|one| &one.from) {
            names.push(name.clone());
        }
        match &self.id {
            Some(Id::Header(name)) if self.has_id => names.push(name.clone()),
            _ => {}
        }
        if self.has_form {
            names.push(form::CONTENT_TYPE.to_owned());
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Where the template does not go with the rest: why, and what to do.
    fn mistake(&self, signs_body: bool) -> Option<(&'static str, &'static str)> {
        let has = |piece| self.template.has(&piece);
        let has_body = has(Piece::Payload) || has(Piece::Form);
        let is_plain = self.first_algorithm() == Some(Algorithm::PlainSha256);
        // A timestamp in the body is signed with the body.
        let is_time_signed =
            has(Piece::Timestamp) || (self.has_timestamp_in_body() && has(Piece::Payload));
        Some(if !has_body && signs_body {
            (
                "the body is not signed",
                "Put [payload] into the template, or set signsBody to false when the sender signs something else.",
            )
        } else if has_body && !signs_body {
            (
                "\"signsBody\" is false and the body is signed",
                "Leave signsBody out.",
            )
        } else if has(Piece::Timestamp) && self.timestamp.is_none() {
            (
                "[timestamp] has no source",
                "Set data.timestamp to its header.",
            )
        } else if self.timestamp.is_some() && !is_time_signed {
            (
                "the timestamp is not signed",
                "Put [timestamp] into the template, or leave data.timestamp out: an unsigned time proves nothing.",
            )
        } else if has(Piece::Id) && !matches!(self.id, Some(Id::Header(_))) {
            ("[id] has no source", "Set data.id.header to its header.")
        } else if has(Piece::Secret) != is_plain {
            (
                "[secret] belongs to the algorithm \"sha256-plain\" and only there",
                "Put [secret] into the template of a hash without key, and nowhere else.",
            )
        } else if self.template.has_open_border() {
            (
                "two values stand side by side, so that the end of one could be signed as the beginning of the other",
                "Put what the sender signs between them into the template; a value that a text follows must not hold its first character.",
            )
        } else if !has(Piece::Url) && !self.url.is_empty() {
            (
                "\"url\" is not signed",
                "Put [url] where the sender signs it, or leave url out.",
            )
        } else {
            return None;
        })
    }

    fn has_timestamp_in_body(&self) -> bool {
        let timestamp = self.timestamp.as_ref();
        timestamp.is_some_and(|timestamp| matches!(timestamp.from, From::Json(_)))
    }

    fn first_algorithm(&self) -> Option<Algorithm> {
        self.checks.first().map(|check| check.algorithm)
    }

    pub(super) fn is_token(&self) -> bool {
        self.first_algorithm() == Some(Algorithm::Token)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Config({})", self.preset.unwrap_or("…"))
    }
}

impl Check {
    /// The two kinds of signatures that Standard Webhooks 1.0.0 defines, told apart by what stands before them.
    pub(super) fn standard_webhooks() -> Vec<Self> {
        let check = |algorithm, prefix: &str| Self {
            algorithm,
            digest: Some(Encoding::Base64),
            part: Part::Elements(prefix.to_owned()),
            keys: Vec::new(),
        };
        vec![
            check(Algorithm::Hmac(Hash::Sha256), "v1,"),
            check(Algorithm::Ed25519, "v1a,"),
        ]
    }
}

/// The configuration as people may see it: without `secret` and `secrets`, and without `url`, in which the token of the webhook
/// usually stands. What is no object becomes null.
#[must_use]
pub fn without_secrets(json: &Value) -> Value {
    let Value::Object(map) = json else {
        return Value::Null;
    };
    let mut map = map.clone();
    map.retain(|key, _| !matches!(key.as_str(), "secret" | "secrets" | "url"));
    Value::Object(map)
}
