//! Tokens that endpoints sign: a JWT (RFC 7519) is believed when it is signed with the configured key, new, and about the request.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::key;
use crate::input::{Error, Object, Place};

/// The longest token that is looked at.
pub const MAX_TOKEN_BYTES: usize = 128 << 10;

const KEYS: &[&str] = &["algorithm", "key", "tolerance_seconds", "issuer"];
/// Clocks that are set over the network differ by far less, those that are not by about this.
const DEFAULT_TOLERANCE_SECONDS: i64 = 60;
const MAX_ISSUER_BYTES: usize = 2048;

/// What an endpoint's answers are verified with: the endpoint option `answer_key`.
#[derive(Clone)]
pub struct AnswerKey {
    algorithm: Algorithm,
    key: DecodingKey,
    tolerance_seconds: i64,
    issuer: Option<String>,
}

/// Why a token is not believed. It never repeats the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Occurs when the token is longer than [`MAX_TOKEN_BYTES`].
    #[error("the token is over the limit of 128 KiB")]
    TooLarge,
    /// Occurs when the text is not three parts of base64 with dots between them.
    #[error("the token is not a signed JWT in compact form")]
    Form,
    /// Occurs when the header is not a JSON object.
    #[error("the token's header is not a JSON object")]
    Header,
    /// Occurs when the header names another algorithm than the configured one, `none` included.
    #[error("the token's algorithm is not {0}, which is configured")]
    Algorithm(&'static str),
    /// Occurs when the header asks for extensions, none of which is known.
    #[error("the token's header has \"crit\", which is not supported")]
    Critical,
    /// Occurs when the token is a Security Event Token, such as one of ours that is sent back.
    #[error("the token is a Security Event Token, not an answer")]
    SecurityEvent,
    /// Occurs when the signature was not made with the configured key over this header and these claims.
    #[error("the token's signature does not fit the configured key")]
    Signature,
    /// Occurs when the claims are not a JSON object.
    #[error("the token's claims are not a JSON object")]
    Claims,
    /// Occurs when a time is no number of seconds since 1970.
    #[error("the token's \"{0}\" is not a number of seconds")]
    Time(&'static str),
    /// Occurs when the token does not say when it was made.
    #[error("the token has no \"iat\"")]
    NoIssuedAt,
    /// Occurs when the token was made too long ago.
    #[error("the token's \"iat\" is further in the past than the tolerance")]
    TooOld,
    /// Occurs when the token was made at a time that is still to come.
    #[error("the token's \"iat\" is further in the future than the tolerance")]
    FromTheFuture,
    /// Occurs when the token has expired.
    #[error("the token has expired (\"exp\")")]
    Expired,
    /// Occurs when the token is not valid yet.
    #[error("the token is not valid yet (\"nbf\")")]
    NotYetValid,
    /// Occurs when the token answers another request, or does not say which.
    #[error("the token's \"jti\" is not the id of the request (header webhook-id)")]
    OtherRequest,
    /// Occurs when another issuer than the configured one, or none, is named.
    #[error("the token's \"iss\" is not the configured issuer")]
    Issuer,
}

impl AnswerKey {
    /// Reads the endpoint option `answer_key`.
    ///
    /// # Errors
    /// When a setting is unknown, missing or out of its limits, or the key is none or does not fit the algorithm. The key is
    /// not repeated.
    pub fn parse(json: &Value) -> Result<Self, Error> {
        Self::read(Place::root("answer key"), json)
    }

    pub(crate) fn read(place: Place, json: &Value) -> Result<Self, Error> {
        let object = Object::read(place, json, KEYS)?;
        let algorithm = Algorithm::read(&object)?;
        let (value, place) = object.require("key")?;
        let text = value
            .as_str()
            .ok_or_else(|| place.wrong_type("a string", value))?;
        let key = key::public(algorithm, text)
            .map_err(|error| place.unusable(error.to_string(), error.hint()))?;
        let tolerance = object.whole_number(
            "tolerance_seconds",
            0,
            3600,
            "Use a whole number of seconds from 0 to 3600.",
        )?;
        let issuer = object.text("issuer")?;
        if issuer.is_some_and(|issuer| issuer.is_empty() || issuer.len() > MAX_ISSUER_BYTES) {
            return Err(object.place.key("issuer").unusable(
                "the issuer cannot be used",
                "Use a text of 1 to 2048 bytes.",
            ));
        }
        Ok(Self {
            algorithm,
            key,
            tolerance_seconds: tolerance.unwrap_or(DEFAULT_TOLERANCE_SECONDS),
            issuer: issuer.map(str::to_owned),
        })
    }

    /// The claims of a token, when it is signed with this key, about this request and of now.
    ///
    /// `now_seconds` counts from 1970. `aud` and `sub` are not looked at: `jti` binds the token to the request.
    ///
    /// # Errors
    /// When the token cannot be believed.
    pub fn verify(
        &self,
        token: &str,
        request_id: &str,
        now_seconds: i64,
    ) -> Result<Map<String, Value>, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLarge);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Form)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Form)?;
        // Nothing but the alphabet, so that only three parts are taken for a token.
        let header = decode(header).ok_or(TokenError::Form)?;
        let claims = decode(claims).ok_or(TokenError::Form)?;
        decode(signature).ok_or(TokenError::Form)?;
        self.check_header(&header)?;
        let is_signed = jsonwebtoken::crypto::verify(
            signature,
            message.as_bytes(),
            &self.key,
            self.algorithm.jws(),
        );
        if !is_signed.unwrap_or(false) {
            return Err(TokenError::Signature);
        }
        let claims = object(&claims).ok_or(TokenError::Claims)?;
        self.check_claims(&claims, request_id, now_seconds)?;
        Ok(claims)
    }

    /// The header decides nothing: it is refused when it wants something else than what is configured.
    fn check_header(&self, header: &[u8]) -> Result<(), TokenError> {
        let header = object(header).ok_or(TokenError::Header)?;
        let algorithm = self.algorithm.as_str();
        if header.get("alg").and_then(Value::as_str) != Some(algorithm) {
            return Err(TokenError::Algorithm(algorithm));
        }
        // RFC 7515, 4.1.11: who does not know an extension that is marked as critical must refuse the token.
        if header.contains_key("crit") {
            return Err(TokenError::Critical);
        }
        // An endpoint that sends back the token that it received would otherwise allow everything, when one shared secret
        // serves both ways: that token is new and its id is the request's. RFC 8725, 3.11 tells kinds apart by their type.
        let kind = header.get("typ").and_then(Value::as_str).unwrap_or("JWT");
        let kind = kind.to_ascii_lowercase();
        if kind.strip_prefix("application/").unwrap_or(&kind) == "secevent+jwt" {
            return Err(TokenError::SecurityEvent);
        }
        Ok(())
    }

    /// The library's own check of times is not used: it reads the clock, and it takes a time of the wrong type, or any time
    /// at all where numbers keep their digits, for an absent one.
    fn check_claims(
        &self,
        claims: &Map<String, Value>,
        request_id: &str,
        now_seconds: i64,
    ) -> Result<(), TokenError> {
        let tolerance = self.tolerance_seconds as f64;
        let now = now_seconds as f64;
        let issued_at = time(claims, "iat")?.ok_or(TokenError::NoIssuedAt)?;
        if issued_at < now - tolerance {
            return Err(TokenError::TooOld);
        }
        if issued_at > now + tolerance {
            return Err(TokenError::FromTheFuture);
        }
        if time(claims, "exp")?.is_some_and(|expiry| expiry <= now - tolerance) {
            return Err(TokenError::Expired);
        }
        if time(claims, "nbf")?.is_some_and(|start| start > now + tolerance) {
            return Err(TokenError::NotYetValid);
        }
        if claims.get("jti").and_then(Value::as_str) != Some(request_id) {
            return Err(TokenError::OtherRequest);
        }
        let issuer = self.issuer.as_deref();
        if issuer.is_some() && claims.get("iss").and_then(Value::as_str) != issuer {
            return Err(TokenError::Issuer);
        }
        Ok(())
    }
}

impl fmt::Debug for AnswerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerKey(…)")
    }
}

fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

fn object(json: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(json).ok()
}

/// A claim in seconds since 1970; fractions are allowed (RFC 7519, 2).
fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<f64>, TokenError> {
    claims
        .get(name)
        .map(|value| value.as_f64().ok_or(TokenError::Time(name)))
        .transpose()
}
