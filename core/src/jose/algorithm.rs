//! The algorithms that may be configured, and no others.

use crate::input::{Error, Object};

/// An algorithm of JWS (RFC 7518, 3.1; RFC 8037, 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Hs256,
    Rs256,
    Es256,
    EdDsa,
}

impl Algorithm {
    /// Reads the key `algorithm` of an object.
    pub(super) fn read(object: &Object<'_>) -> Result<Self, Error> {
        let (value, place) = object.require("algorithm")?;
        let name = value
            .as_str()
            .ok_or_else(|| place.wrong_type("a string", value))?;
        // The name is not repeated: a key may have been put in its place.
        [Self::Hs256, Self::Rs256, Self::Es256, Self::EdDsa]
            .into_iter()
            .find(|algorithm| algorithm.as_str() == name)
            .ok_or_else(|| {
                place.unusable(
                    "unknown algorithm",
                    "Use one of: \"HS256\", \"RS256\", \"ES256\", \"EdDSA\".",
                )
            })
    }

    /// The name as token headers write it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(super) const fn jws(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Hs256 => jsonwebtoken::Algorithm::HS256,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}
