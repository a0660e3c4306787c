//! What an endpoint answers to a question, believed only after every check.

use serde_json::{Map, Number, Value};

use crate::jose::{AnswerKey, TokenError};

/// The longest answer that is read, in bytes.
pub const MAX_ANSWER_BYTES: usize = 1 << 20;

const MAX_CLAIMS: usize = 100;
const MAX_CLAIM_NAME_BYTES: usize = 200;
const MAX_CLAIMS_BYTES: usize = 64 << 10;
const MAX_TEXT_CHARS: usize = 1024;
/// The database takes longer numbers and greater exponents up to some limit, and writes every digit out: ten bytes of an
/// answer would become 128 KiB.
const MAX_NUMBER_BYTES: usize = 400;
/// No number in double precision has a greater one, to either side.
const MAX_EXPONENT: u64 = 324;
/// RFC 7519, 4.1: they say who issued a token and for whom, which is for the one who issues it.
const REGISTERED_CLAIMS: [&str; 7] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];

/// What is to happen, from the mildest to the strictest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decision {
    /// Go on.
    Allow,
    /// Ask for more proof first.
    Challenge,
    /// Refuse.
    Block,
}

/// An endpoint's answer that has passed every check.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What is to happen.
    pub action: Decision,
    /// For the actions that follow, under the action's name among the variables.
    pub data: Map<String, Value>,
    /// For the token that the caller issues; none of the registered names.
    pub custom_claims: Map<String, Value>,
    /// For the log, at most 1,024 characters.
    pub reason: Option<String>,
    /// For the person, at most 1,024 characters.
    pub user_message: Option<String>,
}

/// Why an answer cannot be used, for the endpoint's owner. It never repeats the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Occurs when the body is longer than [`MAX_ANSWER_BYTES`].
    #[error("the answer is over the limit of 1 MiB")]
    TooLarge,
    /// Occurs when the endpoint has no key and the answer does not say that it is JSON.
    #[error(
        "the answer's content type is not application/json, and the endpoint has no \"answer_key\""
    )]
    NotJsonType,
    /// Occurs when the endpoint has a key and the answer does not say that it is a JWT.
    #[error(
        "the answer's content type is not application/jwt, which the endpoint's \"answer_key\" requires"
    )]
    NotJwtType,
    /// Occurs when the body is not JSON.
    #[error("the answer is not JSON")]
    NotJson,
    /// Occurs when the body is JSON and not an object.
    #[error("the answer is not a JSON object")]
    NotAnObject,
    /// Occurs when the endpoint has a key and the body is not a token that it makes believable.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Occurs when the action is none of the three.
    #[error("the answer's \"action\" is none of \"allow\", \"block\" and \"challenge\"")]
    UnknownAction,
    /// Occurs when a part of the answer has another JSON type.
    #[error("the answer's \"{key}\" is not {expected}")]
    WrongType {
        /// Which part.
        key: &'static str,
        /// What it is to be.
        expected: &'static str,
    },
    /// Occurs when there are more than 100 custom claims.
    #[error("the answer has more than 100 custom claims")]
    TooManyClaims,
    /// Occurs when a custom claim's name is empty or longer than 200 bytes.
    #[error("the name of a custom claim is empty or longer than 200 bytes")]
    ClaimName,
    /// Occurs when a custom claim has a name that JWT reserves.
    #[error("\"{0}\" cannot be a custom claim")]
    RegisteredClaim(&'static str),
    /// Occurs when the custom claims take more than 64 KiB as JSON.
    #[error("the answer's custom claims are over the limit of 64 KiB")]
    ClaimsTooLarge,
    /// Occurs when a text or a key holds the character NUL, which the database cannot store.
    #[error("the answer's \"{0}\" holds the character NUL")]
    Nul(&'static str),
    /// Occurs when a number has an exponent over 324 or more than 400 characters.
    #[error("the answer's \"{0}\" holds a number that is out of range")]
    Number(&'static str),
}

/// Reads an answer: with a key, nothing but a JWT that is signed with it is believed; without one, nothing but JSON.
///
/// An answer without a content type is taken for what it has to be; one with several, joined by commas, is refused.
/// `request_id` is the request's `webhook-id`, `now_seconds` counts from 1970.
///
/// # Errors
/// When the answer is too large, of the wrong kind, not believable, or breaks a rule of [`Answer::from_json`].
pub fn read(
    body: &[u8],
    content_type: Option<&str>,
    key: Option<&AnswerKey>,
    request_id: &str,
    now_seconds: i64,
) -> Result<Answer, AnswerError> {
    if body.len() > MAX_ANSWER_BYTES {
        return Err(AnswerError::TooLarge);
    }
    let is_of_type =
        |expected| content_type.is_none_or(|content_type| is_media_type(content_type, expected));
    let Some(key) = key else {
        if !is_of_type("application/json") {
            return Err(AnswerError::NotJsonType);
        }
        let json = serde_json::from_slice(body).map_err(|_| AnswerError::NotJson)?;
        return Answer::from_json(&json);
    };
    if !is_of_type("application/jwt") {
        return Err(AnswerError::NotJwtType);
    }
    let token = std::str::from_utf8(body).map_err(|_| TokenError::Form)?;
    let claims = key.verify(token.trim_ascii(), request_id, now_seconds)?;
    Answer::from_object(&claims)
}

impl Decision {
    /// The decision of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Allow, Self::Challenge, Self::Block]
            .into_iter()
            .find(|decision| decision.as_str() == name)
    }

    /// The name, as answers write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Challenge => "challenge",
            Self::Block => "block",
        }
    }
}

impl Answer {
    /// Reads the JSON form. Unknown keys are ignored, every key is optional, and null stands for an absent one except as
    /// `action`, where it is an error.
    ///
    /// # Errors
    /// When the action is unknown, a type is wrong, a limit is exceeded, a custom claim has a registered name, or the
    /// database could not store something: a NUL character or an extreme number.
    pub fn from_json(json: &Value) -> Result<Self, AnswerError> {
        Self::from_object(json.as_object().ok_or(AnswerError::NotAnObject)?)
    }

    fn from_object(object: &Map<String, Value>) -> Result<Self, AnswerError> {
        let action = match object.get("action") {
            None => Decision::Allow,
            Some(value) => value
                .as_str()
                .and_then(Decision::parse)
                .ok_or(AnswerError::UnknownAction)?,
        };
        let custom_claims = part(object, "custom_claims")?;
        check_claims(&custom_claims)?;
        Ok(Self {
            action,
            data: part(object, "data")?,
            custom_claims,
            reason: text(object, "reason")?,
            user_message: text(object, "user_message")?,
        })
    }

    /// The JSON form; absent texts are left out.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("action".to_owned(), self.action.as_str().into());
        object.insert("data".to_owned(), self.data.clone().into());
        object.insert(
            "custom_claims".to_owned(),
            self.custom_claims.clone().into(),
        );
        for (key, text) in [
            ("reason", &self.reason),
            ("user_message", &self.user_message),
        ] {
            if let Some(text) = text {
                object.insert(key.to_owned(), text.as_str().into());
            }
        }
        Value::Object(object)
    }
}

/// The first 1,024 characters.
pub(super) fn cut(text: &str) -> &str {
    text.char_indices()
        .nth(MAX_TEXT_CHARS)
        .map_or(text, |(end, _)| &text[..end])
}

/// Whether a content type, its parameters aside, is this one; never when there are several.
fn is_media_type(content_type: &str, expected: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    !content_type.contains(',') && essence.trim_ascii().eq_ignore_ascii_case(expected)
}

fn part(object: &Map<String, Value>, key: &'static str) -> Result<Map<String, Value>, AnswerError> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(part)) => {
            check_members(part, key)?;
            Ok(part.clone())
        }
        Some(_) => Err(AnswerError::WrongType {
            key,
            expected: "an object",
        }),
    }
}

fn text(object: &Map<String, Value>, key: &'static str) -> Result<Option<String>, AnswerError> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            check_text(text, key)?;
            Ok(Some(cut(text).to_owned()))
        }
        Some(_) => Err(AnswerError::WrongType {
            key,
            expected: "a string",
        }),
    }
}

fn check_claims(claims: &Map<String, Value>) -> Result<(), AnswerError> {
    if claims.len() > MAX_CLAIMS {
        return Err(AnswerError::TooManyClaims);
    }
    for name in claims.keys() {
        if name.is_empty() || name.len() > MAX_CLAIM_NAME_BYTES {
            return Err(AnswerError::ClaimName);
        }
        if let Some(name) = REGISTERED_CLAIMS.into_iter().find(|claim| claim == name) {
            return Err(AnswerError::RegisteredClaim(name));
        }
    }
    match serde_json::to_vec(claims) {
        Ok(json) if json.len() <= MAX_CLAIMS_BYTES => Ok(()),
        _ => Err(AnswerError::ClaimsTooLarge),
    }
}

/// Whether the database can store what is under a key of the answer.
fn check_members(members: &Map<String, Value>, key: &'static str) -> Result<(), AnswerError> {
    members.iter().try_for_each(|(name, value)| {
        check_text(name, key)?;
        check_value(value, key)
    })
}

fn check_value(value: &Value, key: &'static str) -> Result<(), AnswerError> {
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(number) if is_storable(number) => Ok(()),
        Value::Number(_) => Err(AnswerError::Number(key)),
        Value::String(text) => check_text(text, key),
        Value::Array(values) => values.iter().try_for_each(|value| check_value(value, key)),
        Value::Object(members) => check_members(members, key),
    }
}

fn check_text(text: &str, key: &'static str) -> Result<(), AnswerError> {
    if text.contains('\0') {
        Err(AnswerError::Nul(key))
    } else {
        Ok(())
    }
}

fn is_storable(number: &Number) -> bool {
    let text = number.to_string();
    let exponent = text
        .split_once(['e', 'E'])
        .map_or(Ok(0), |(_, exponent)| exponent.parse::<i64>());
    text.len() <= MAX_NUMBER_BYTES
        && exponent.is_ok_and(|exponent| exponent.unsigned_abs() <= MAX_EXPONENT)
}
