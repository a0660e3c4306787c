//! Judging a request.

use std::borrow::Cow;

use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use serde_json::Value;

use super::candidates::{Candidates, List};
use super::config::{Check, Config, From, Id};
use super::form;
use super::key::{Algorithm, Material, is_same};
use super::mac::sha256;
use super::source::{Part, one_value};
use super::template::{Piece, Template, Values};

/// Longer ids cannot be looked up: they are part of an index.
const MAX_ID_BYTES: usize = 200;

/// A request as it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method, as the request line has it.
    pub method: &'a str,
    /// Names in any case and values, in the order of arrival; a name that came twice is there twice.
    pub headers: &'a [(&'a str, &'a str)],
    /// The exact bytes.
    pub body: &'a [u8],
    /// When it arrived, in microseconds since 1970.
    pub now: i64,
}

/// Why a request is not believed: for the owner's log, never for the sender. It holds no secret and no signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Occurs when the configuration has no secret, or none that is valid now.
    #[error("no secret may be used now")]
    NoSecret,
    /// Occurs when a header that the configuration names did not come.
    #[error("header \"{0}\" is missing")]
    MissingHeader(String),
    /// Occurs when a header came without a value, or without the part that the configuration means.
    #[error("header \"{0}\" does not hold what is configured")]
    EmptyHeader(String),
    /// Occurs when a header's value is longer than any sender's.
    #[error("header \"{0}\" is over the limit of 8 KiB")]
    LongHeader(String),
    /// Occurs when a header's value holds control characters, or others outside of ASCII.
    #[error("header \"{0}\" is not printable ASCII text")]
    HeaderText(String),
    /// Occurs when a header came with different values, of which one is meant.
    #[error("header \"{0}\" has several values that differ")]
    Contradiction(String),
    /// Occurs when what should hold signatures holds none that can be read.
    #[error("there is no signature of the configured form")]
    NoSignature,
    /// Occurs when there are more signatures than a sender makes.
    #[error("there are too many signatures")]
    ManySignatures,
    /// Occurs when the timestamp has not exactly the configured form.
    #[error("the timestamp does not have the configured form")]
    TimestampForm,
    /// Occurs when a value could be split elsewhere under the same signature, or is longer than any sender's.
    #[error("the value of {0} cannot be told from what stands beside it")]
    Border(String),
    /// Occurs when the method is not a word.
    #[error("the method is not a word")]
    Method,
    /// Occurs when a value is needed from a body that is not JSON.
    #[error("the body is not JSON")]
    NoJson,
    /// Occurs when the body does not have a text, a number or a truth value where one is needed.
    #[error("the body has no usable value at {0}")]
    NoValue(String),
    /// Occurs when form parameters are signed and the request is not a form.
    #[error("the content type is not application/x-www-form-urlencoded")]
    NoForm,
    /// Occurs when a form has more than 1,000 parameters.
    #[error("the form has too many parameters")]
    LongForm,
    /// Occurs when no signature was made with one of the secrets over this request.
    #[error("no signature fits")]
    Mismatch,
    /// Occurs when the request is signed and was signed too long ago.
    #[error("the timestamp is too old")]
    TooOld,
    /// Occurs when the request is signed with a time that is still to come.
    #[error("the timestamp is in the future")]
    FromTheFuture,
}

impl Config {
    /// Whether the request was signed with one of the secrets, lately.
    ///
    /// Whatever the request holds, this ends in one of the two answers; a configuration without a usable secret believes
    /// nothing. All valid secrets are tried with all signatures, and results are compared in constant time. The age is looked
    /// at last, so that only who can sign learns anything about the clock.
    ///
    /// # Errors
    /// When the request is not to be believed.
    pub fn verify(&self, request: &Request<'_>) -> Result<(), Rejection> {
        let now = request.now;
        let mut keys = self.checks.iter().flat_map(|check| &check.keys);
        if !keys.any(|key| key.is_valid(now)) {
            return Err(Rejection::NoSecret);
        }
        let json = match self.needs_json {
            true => Some(parse(request.body)?),
            false => None,
        };
        let mut candidates = Candidates::default();
        candidates.read(self, request, json.as_ref())?;
        let values = self.values(request, json.as_ref())?;
        let moment = self.moment(&values.timestamp)?;
        let mut is_signed = false;
        for (check, signatures) in self.checks.iter().zip(candidates.lists()) {
            is_signed |= check.fits(signatures, &self.template, &values, now);
        }
        if !is_signed {
            return Err(Rejection::Mismatch);
        }
        self.check_age(moment, request)
    }

    /// The sender's id of this request, when it has one that can be used: not empty, printable, and of at most 200 bytes.
    ///
    /// It means something only after [`Config::verify`].
    #[must_use]
    pub fn request_id(&self, request: &Request<'_>) -> Option<String> {
        let id = match self.id.as_ref()? {
            Id::Header(name) => one_value(request, name, &Part::Whole).ok()?.to_owned(),
            Id::Json(pointer) => match parse(request.body).ok()?.pointer(pointer)? {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => return None,
            },
        };
        let is_usable = !id.trim().is_empty() && id.len() <= MAX_ID_BYTES;
        (is_usable && !id.contains(char::is_control)).then_some(id)
    }

    /// What the template asks of the request.
    fn values<'a>(
        &'a self,
        request: &Request<'a>,
        json: Option<&'a Value>,
    ) -> Result<Values<'a>, Rejection> {
        let mut values = Values {
            payload: request.body,
            url: &self.url,
            method: request.method,
            ..Values::default()
        };
        let template = &self.template;
        if let Some(timestamp) = &self.timestamp {
            values.timestamp = match (&timestamp.from, json) {
                (From::Header(name), _) => {
                    Cow::Borrowed(one_value(request, name, &timestamp.part)?)
                }
                (From::Json(pointer), Some(json)) => text_at(json, pointer)?,
                // It is in the signed body, which is read when the signature fits.
                (From::Json(_), None) => Cow::Borrowed(""),
            };
        }
        if self.has_id {
            values.id = self.id_in_template(request)?;
        }
        // The method is a word in capitals and a URL is none, so that nothing can be moved between the two.
        let is_word =
            !request.method.is_empty() && request.method.bytes().all(|b| b.is_ascii_uppercase());
        if self.has_method && !is_word {
            return Err(Rejection::Method);
        }
        if self.has_form {
            values.form = form::sorted(request)?;
        }
        for (index, (value, name)) in values.headers.iter_mut().zip(&template.headers).enumerate() {
            *value = one_value(request, name, &Part::Whole)?;
            let border = template.border_after(&Piece::Header(index));
            if border.is_some_and(|border| value.as_bytes().contains(&border)) {
                return Err(header_border(name));
            }
        }
        if let Some(json) = json {
            values.json = template.json_values(json)?;
        }
        Ok(values)
    }

    fn id_in_template<'a>(&self, request: &Request<'a>) -> Result<&'a str, Rejection> {
        let Some(Id::Header(name)) = &self.id else {
            return Ok("");
        };
        let id = one_value(request, name, &Part::Whole)?;
        let border = self.template.border_after(&Piece::Id);
        if id.len() > MAX_ID_BYTES || border.is_some_and(|border| id.as_bytes().contains(&border)) {
            return Err(header_border(name));
        }
        Ok(id)
    }

    /// The moment that a timestamp means; `None` when there is none, or when it is not read yet.
    fn moment(&self, text: &str) -> Result<Option<i64>, Rejection> {
        match &self.timestamp {
            Some(timestamp) if !text.is_empty() => {
                let moment = timestamp.format.microseconds(text);
                moment.map(Some).ok_or(Rejection::TimestampForm)
            }
            _ => Ok(None),
        }
    }

    fn check_age(&self, moment: Option<i64>, request: &Request<'_>) -> Result<(), Rejection> {
        let Some(timestamp) = &self.timestamp else {
            return Ok(());
        };
        let moment = match &timestamp.from {
            From::Json(pointer) if moment.is_none() => {
                let json = parse(request.body)?;
                timestamp.format.microseconds(&text_at(&json, pointer)?)
            }
            _ => moment,
        };
        let age = request
            .now
            .saturating_sub(moment.ok_or(Rejection::TimestampForm)?);
        if timestamp.past.is_some_and(|limit| age > limit) {
            return Err(Rejection::TooOld);
        }
        if timestamp.future.is_some_and(|limit| age < -limit) {
            return Err(Rejection::FromTheFuture);
        }
        Ok(())
    }
}

impl Check {
    /// Whether one of the signatures was made with one of the keys.
    fn fits(&self, signatures: &List, template: &Template, values: &Values<'_>, now: i64) -> bool {
        if signatures.is_empty() {
            return false;
        }
        // Public keys are asked about one text.
        let mut message = None;
        let mut fits = false;
        for key in self.keys.iter().filter(|key| key.is_valid(now)) {
            fits |= match &key.material {
                Material::Keyed(keyed) => {
                    let tag = keyed.tag(|take| template.feed(values, &[], take));
                    is_among(signatures, tag.as_bytes())
                }
                Material::Plain(secret) => {
                    let tag = sha256(|take| template.feed(values, secret, take));
                    is_among(signatures, tag.as_bytes())
                }
                Material::Token(hash) => is_among(signatures, hash),
                Material::Public(key) => {
                    let algorithm: &dyn VerificationAlgorithm = match self.algorithm {
                        Algorithm::EcdsaP256 => &ECDSA_P256_SHA256_ASN1,
                        _ => &ED25519,
                    };
                    let message = message.get_or_insert_with(|| {
                        let mut message = Vec::with_capacity(values.payload.len() + 128);
                        template.feed(values, &[], &mut |piece| message.extend_from_slice(piece));
                        message
                    });
                    let key = UnparsedPublicKey::new(algorithm, key);
                    signatures
                        .iter()
                        .any(|one| key.verify(message, one.as_bytes()).is_ok())
                }
            };
        }
        fits
    }
}

/// Looks at all of them, so that the time does not tell which one it was.
fn is_among(signatures: &List, tag: &[u8]) -> bool {
    signatures
        .iter()
        .fold(false, |found, one| found | is_same(one.as_bytes(), tag))
}

impl Template {
    fn json_values<'a>(&self, json: &'a Value) -> Result<Vec<Cow<'a, str>>, Rejection> {
        let pointers = self.pointers.iter().enumerate();
        pointers
            .map(|(index, pointer)| {
                // What is absent is signed as nothing, and so is an empty text.
                let value = match json.pointer(pointer) {
                    None | Some(Value::Null) => return Ok(Cow::Borrowed("")),
                    Some(Value::String(text)) if text.is_empty() => return Ok(Cow::Borrowed("")),
                    Some(_) => text_at(json, pointer)?,
                };
                match self.border_after(&Piece::Json(index)) {
                    Some(border) if value.as_bytes().contains(&border) => {
                        Err(Rejection::Border(pointer.clone()))
                    }
                    _ => Ok(value),
                }
            })
            .collect()
    }
}

fn header_border(name: &str) -> Rejection {
    Rejection::Border(format!("header \"{name}\""))
}

/// Bodies nest as deeply as the parser allows, 128 levels; deeper ones are no JSON here.
fn parse(body: &[u8]) -> Result<Value, Rejection> {
    serde_json::from_slice(body).map_err(|_| Rejection::NoJson)
}

/// A text, the digits of a number, or a truth value.
pub(super) fn text_at<'a>(json: &'a Value, pointer: &str) -> Result<Cow<'a, str>, Rejection> {
    match json.pointer(pointer) {
        Some(Value::String(text)) if !text.is_empty() => Ok(Cow::Borrowed(text)),
        Some(Value::Number(number)) => Ok(Cow::Owned(number.to_string())),
        Some(Value::Bool(true)) => Ok(Cow::Borrowed("true")),
        Some(Value::Bool(false)) => Ok(Cow::Borrowed("false")),
        _ => Err(Rejection::NoValue(pointer.to_owned())),
    }
}
