//! Strict reading of JSON that comes from people: every key is known, every mistake names its place.

use serde_json::{Map, Value};

/// A mistake in a JSON document, with the path to it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("invalid {subject}: {kind}")]
pub struct Error {
    /// What the document is, such as `flow definition`.
    pub subject: &'static str,
    /// Where the mistake is, as a JSON path from `$`.
    pub path: String,
    /// What is wrong there.
    pub kind: Kind,
}

/// What is wrong with a JSON document.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Kind {
    /// Occurs when an object holds a key that has no meaning there.
    #[error("unknown key \"{key}\"")]
    UnknownKey {
        /// The key as given.
        key: String,
        /// The keys that have a meaning there.
        allowed: &'static [&'static str],
    },
    /// Occurs when a required key is absent.
    #[error("key \"{0}\" is missing")]
    MissingKey(&'static str),
    /// Occurs when a value has another JSON type than the one expected.
    #[error("expected {expected}, got {found}")]
    WrongType {
        /// In words, such as `an array of strings`.
        expected: &'static str,
        /// The JSON type that was found.
        found: &'static str,
    },
    /// Occurs when a value has the right type and cannot be used.
    #[error("{message}")]
    Unusable {
        /// What is wrong, as a clause.
        message: String,
        /// What to do, as a full sentence.
        hint: &'static str,
    },
    /// Occurs when something is larger than allowed.
    #[error("{what} is over the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit with its unit.
        limit: String,
    },
    /// Occurs when the document asks for something that this version does not do.
    #[error("{0} is not supported yet")]
    Unsupported(String),
}

/// An object that is being read, and where it stands.
pub(crate) struct Object<'a> {
    map: &'a Map<String, Value>,
    pub(crate) place: Place,
}

/// A place in a document, from which mistakes there are reported.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    pub(crate) subject: &'static str,
    pub(crate) path: String,
}

impl Place {
    /// The document itself.
    #[must_use]
    pub fn root(subject: &'static str) -> Self {
        Self {
            subject,
            path: "$".to_owned(),
        }
    }

    /// The JSON path, from `$`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The place under a key.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        let simple = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let path = if simple {
            format!("{}.{key}", self.path)
        } else {
            format!("{}[{key:?}]", self.path)
        };
        Self {
            subject: self.subject,
            path,
        }
    }

    /// The place of an array's element.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self {
            subject: self.subject,
            path: format!("{}[{index}]", self.path),
        }
    }

    /// A mistake at this place.
    #[must_use]
    pub fn error(&self, kind: Kind) -> Error {
        Error {
            subject: self.subject,
            path: self.path.clone(),
            kind,
        }
    }

    pub(crate) fn wrong_type(&self, expected: &'static str, found: &Value) -> Error {
        self.error(Kind::WrongType {
            expected,
            found: type_name(found),
        })
    }

    /// A mistake in a value of the right type; the hint is a full sentence.
    #[must_use]
    pub fn unusable(&self, message: impl Into<String>, hint: &'static str) -> Error {
        self.error(Kind::Unusable {
            message: message.into(),
            hint,
        })
    }
}

impl<'a> Object<'a> {
    /// Reads an object that may hold the allowed keys only.
    pub(crate) fn read(
        place: Place,
        value: &'a Value,
        allowed: &'static [&'static str],
    ) -> Result<Self, Error> {
        let map = value
            .as_object()
            .ok_or_else(|| place.wrong_type("an object", value))?;
        if let Some(key) = map.keys().find(|key| !allowed.contains(&key.as_str())) {
            return Err(place.error(Kind::UnknownKey {
                key: key.clone(),
                allowed,
            }));
        }
        Ok(Self { map, place })
    }

    /// The value under a key, when there is one and it is not null.
    pub(crate) fn get(&self, key: &str) -> Option<(&'a Value, Place)> {
        self.find(key).map(|value| (value, self.place.key(key)))
    }

    /// As [`Object::get`], for those who need the place only when something is wrong there.
    pub(crate) fn find(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn require(&self, key: &'static str) -> Result<(&'a Value, Place), Error> {
        self.get(key)
            .ok_or_else(|| self.place.error(Kind::MissingKey(key)))
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>, Error> {
        self.get(key)
            .map(|(value, place)| {
                value
                    .as_str()
                    .ok_or_else(|| place.wrong_type("a string", value))
            })
            .transpose()
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, Error> {
        self.get(key)
            .map(|(value, place)| {
                value
                    .as_bool()
                    .ok_or_else(|| place.wrong_type("true or false", value))
            })
            .transpose()
    }

    /// A whole number in a range; the hint says which.
    pub(crate) fn whole_number(
        &self,
        key: &str,
        min: i64,
        max: i64,
        hint: &'static str,
    ) -> Result<Option<i64>, Error> {
        let Some((value, place)) = self.get(key) else {
            return Ok(None);
        };
        match value.as_i64() {
            Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
            Some(number) => Err(place.unusable(format!("{number} is out of range"), hint)),
            None => Err(place.wrong_type("a whole number", value)),
        }
    }

    /// An object of free content; empty when absent.
    pub(crate) fn free_object(&self, key: &str) -> Result<Map<String, Value>, Error> {
        match self.find(key) {
            None => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map.clone()),
            Some(value) => Err(self.place.key(key).wrong_type("an object", value)),
        }
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
