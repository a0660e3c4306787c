//! Messages as Security Event Tokens (RFC 8417): one event, about one customer, signed with a key of the endpoint.

use std::fmt;

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Map, Value, json};
use url::Url;

use super::algorithm::Algorithm;
use super::key::{self, KeyError};
use crate::input::{Error, Kind, Object, Place};

/// Content type of a request whose body is a Security Event Token (RFC 8935, 2.1).
pub const SET_CONTENT_TYPE: &str = "application/secevent+jwt";

const KEYS: &[&str] = &[
    "issuer",
    "audience",
    "algorithm",
    "key",
    "key_id",
    "event_prefix",
];
const DEFAULT_EVENT_PREFIX: &str = "urn:actionflow:event:";
const MAX_TEXT_BYTES: usize = 2048;
const MAX_AUDIENCES: usize = 50;

/// Makes Security Event Tokens out of messages, as the endpoint option `set` says.
#[derive(Clone)]
pub struct SetSigner {
    settings: Settings,
    key: EncodingKey,
}

/// Why a message was not made into a token. It never repeats the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Occurs when the message lacks something, or has it in another form than ours.
    #[error("the message has no usable \"{0}\"")]
    Message(&'static str),
    /// Occurs when the key does not sign, which was tried before.
    #[error("the token could not be signed")]
    Key,
}

/// The option `set` without its key.
#[derive(Clone)]
struct Settings {
    algorithm: Algorithm,
    issuer: String,
    /// A text, an array of texts, or null.
    audience: Value,
    key_id: Option<String>,
    event_prefix: String,
}

impl SetSigner {
    /// Reads the endpoint option `set`. `secret` is the endpoint's current signing secret, `whsec_…`; HS256 signs with it.
    ///
    /// # Errors
    /// When a setting is unknown, missing or out of its limits, or the key (for HS256: the secret) is none or does not fit the
    /// algorithm. Neither is repeated.
    pub fn parse(json: &Value, secret: Option<&str>) -> Result<Self, Error> {
        let place = Place::root("set options");
        let (settings, key) = Settings::read(place.clone(), json)?;
        let key = match (key, secret) {
            (Some(key), _) => key,
            (None, Some(secret)) => shared_key(&place.key("algorithm"), secret)?,
            (None, None) => return Err(place.error(Kind::MissingKey("secret"))),
        };
        Ok(Self { settings, key })
    }

    /// The token of a message, in compact form.
    ///
    /// `message` is `{"type", "timestamp", "data"}`, `jti` the delivery's id, which stays the same over attempts, and
    /// `iat_seconds` the time of signing, from 1970.
    ///
    /// # Errors
    /// When the message is not one of ours.
    pub fn sign(&self, message: &Value, jti: &str, iat_seconds: i64) -> Result<String, SignError> {
        let settings = &self.settings;
        let header = Header {
            typ: Some("secevent+jwt".to_owned()),
            kid: settings.key_id.clone(),
            ..Header::new(settings.algorithm.jws())
        };
        let claims = settings.claims(message, jti, iat_seconds)?;
        jsonwebtoken::encode(&header, &claims, &self.key).map_err(|_| SignError::Key)
    }
}

impl fmt::Debug for SetSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SetSigner(…)")
    }
}

/// Checks the endpoint option `set`, and that HS256 can sign with the secret, when one is given.
pub(crate) fn check_set(place: Place, json: &Value, secret: Option<&str>) -> Result<(), Error> {
    let (_, key) = Settings::read(place.clone(), json)?;
    if let (None, Some(secret)) = (key, secret) {
        shared_key(&place.key("algorithm"), secret)?;
    }
    Ok(())
}

impl Settings {
    /// The settings, and the key that stands among them, which is absent for HS256 only.
    fn read(place: Place, json: &Value) -> Result<(Self, Option<EncodingKey>), Error> {
        let object = Object::read(place, json, KEYS)?;
        let algorithm = Algorithm::read(&object)?;
        let key = read_key(&object, algorithm)?;
        let (value, place) = object.require("issuer")?;
        let issuer = text(value, &place)?.to_owned();
        let audience = match object.get("audience") {
            Some((value, place)) => read_audience(value, &place)?,
            None => Value::Null,
        };
        let key_id = match object.get("key_id") {
            Some((value, place)) => Some(text(value, &place)?.to_owned()),
            None => None,
        };
        let event_prefix = match object.get("event_prefix") {
            Some((value, place)) => read_event_prefix(value, &place)?,
            None => DEFAULT_EVENT_PREFIX,
        };
        let settings = Self {
            algorithm,
            issuer,
            audience,
            key_id,
            event_prefix: event_prefix.to_owned(),
        };
        Ok((settings, key))
    }

    /// RFC 8417, 2.2, and RFC 9493, 3.2.7 for `sub_id`.
    fn claims(&self, message: &Value, jti: &str, iat_seconds: i64) -> Result<Value, SignError> {
        let kind = message["type"].as_str().ok_or(SignError::Message("type"))?;
        let happened_at: jiff::Timestamp = message["timestamp"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .ok_or(SignError::Message("timestamp"))?;
        let data = message["data"]
            .as_object()
            .ok_or(SignError::Message("data"))?;
        let user = match &message["data"]["user"]["id"] {
            Value::String(id) => id.clone(),
            // A profile may bring its own.
            Value::Number(id) => id.to_string(),
            _ => return Err(SignError::Message("user")),
        };
        let invocation = message["data"]["flow_invocation_id"]
            .as_str()
            .ok_or(SignError::Message("flow_invocation_id"))?;
        let mut events = Map::new();
        events.insert(self.event_uri(kind), Value::Object(data.clone()));
        let mut claims = json!({
            "iss": self.issuer, "iat": iat_seconds, "jti": jti, "toe": happened_at.as_second(), "txn": invocation,
            "sub_id": {"format": "opaque", "id": user},
        });
        claims["events"] = Value::Object(events);
        if !self.audience.is_null() {
            claims["aud"] = self.audience.clone();
        }
        Ok(claims)
    }

    /// The URI of an event (RFC 8417, 2.2); what a URI may not hold of its name is percent-encoded.
    fn event_uri(&self, kind: &str) -> String {
        let mut uri = self.event_prefix.clone();
        for byte in kind.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte) {
                uri.push(char::from(byte));
            } else {
                uri.push_str(&format!("%{byte:02X}"));
            }
        }
        uri
    }
}

fn read_key(object: &Object<'_>, algorithm: Algorithm) -> Result<Option<EncodingKey>, Error> {
    let key = object.get("key");
    match (algorithm, key) {
        (Algorithm::Hs256, None) => Ok(None),
        (Algorithm::Hs256, Some((_, place))) => Err(place.unusable(
            "HS256 takes no key of its own",
            "Leave it out: the endpoint's signing secret is used.",
        )),
        (_, None) => Err(object.place.error(Kind::MissingKey("key"))),
        (_, Some((value, place))) => {
            let text = value
                .as_str()
                .ok_or_else(|| place.wrong_type("a string", value))?;
            key::private(algorithm, text)
                .map(Some)
                .map_err(|error| unusable(&place, error))
        }
    }
}

fn shared_key(place: &Place, secret: &str) -> Result<EncodingKey, Error> {
    key::secret(secret)
        .map(|secret| EncodingKey::from_secret(&secret))
        .map_err(|_| {
            place.unusable(
                "HS256 needs a signing secret of at least 32 bytes",
                "Rotate the endpoint's secret, or use another algorithm.",
            )
        })
}

fn unusable(place: &Place, error: KeyError) -> Error {
    place.unusable(error.to_string(), error.hint())
}

fn read_audience(value: &Value, place: &Place) -> Result<Value, Error> {
    match value {
        Value::String(_) => {
            text(value, place)?;
        }
        Value::Array(list) if (1..=MAX_AUDIENCES).contains(&list.len()) => {
            for (index, value) in list.iter().enumerate() {
                text(value, &place.index(index))?;
            }
        }
        Value::Array(_) => {
            return Err(place.unusable(
                "the number of audiences cannot be used",
                "Use 1 to 50 of them.",
            ));
        }
        _ => return Err(place.wrong_type("a string or an array of strings", value)),
    }
    Ok(value.clone())
}

fn read_event_prefix<'a>(value: &'a Value, place: &Place) -> Result<&'a str, Error> {
    let prefix = text(value, place)?;
    let is_usable = prefix.bytes().all(|byte| byte.is_ascii_graphic())
        && Url::parse(&format!("{prefix}event")).is_ok();
    if is_usable {
        Ok(prefix)
    } else {
        Err(place.unusable(
            "the prefix does not make event names URIs",
            "Use the beginning of an absolute URI, such as \"https://example.com/events/\" or \"urn:example:event:\".",
        ))
    }
}

/// A text without control characters, of 1 to 2048 bytes.
fn text<'a>(value: &'a Value, place: &Place) -> Result<&'a str, Error> {
    let text = value
        .as_str()
        .ok_or_else(|| place.wrong_type("a string", value))?;
    let is_usable =
        !text.is_empty() && text.len() <= MAX_TEXT_BYTES && !text.contains(char::is_control);
    if is_usable {
        Ok(text)
    } else {
        Err(place.unusable(
            "the text cannot be used",
            "Use 1 to 2048 bytes without control characters.",
        ))
    }
}
