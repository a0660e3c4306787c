//! Algorithms, and secrets out of their text forms.

use serde_json::Value;
use subtle::ConstantTimeEq as _;

use super::encoding::Encoding;
use super::mac::{Hash, Keyed, sha256};
use crate::input::{Error, Kind, Object, Place};
use crate::segment::moment;

/// What a request's signature may be made with. It is always the configured one: a request cannot choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Hmac(Hash),
    /// SHA-256 of a text that holds the secret.
    PlainSha256,
    Ed25519,
    /// ECDSA on P-256 with SHA-256, signatures in DER.
    EcdsaP256,
    /// No signature: the header is the secret.
    Token,
}

/// A secret that may be used, and when.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) material: Material,
    period: Period,
}

/// When a secret may be used, in microseconds since 1970, both ends included.
#[derive(Clone, Copy)]
pub(super) struct Period {
    from: i64,
    until: i64,
}

#[derive(Clone)]
pub(super) enum Material {
    Keyed(Keyed),
    Plain(Box<[u8]>),
    /// A public key in the form that the cryptographic library takes.
    Public(Box<[u8]>),
    /// The hash of a secret: two texts of different lengths take the same time to compare.
    Token([u8; 32]),
}

const MAX_SECRETS: usize = 10;
const MAX_SECRET_BYTES: usize = 4096;
const SECRET_KEYS: &[&str] = &["secret", "notBefore", "notAfter"];

/// `SubjectPublicKeyInfo` (RFC 5480, 2) of an uncompressed point on P-256, as far as the point.
const P256_INFO: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
const P256_POINT_BYTES: usize = 65;
const ED25519_BYTES: usize = 32;

impl Algorithm {
    pub(super) fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "sha1" => Self::Hmac(Hash::Sha1),
            "sha256" => Self::Hmac(Hash::Sha256),
            "sha384" => Self::Hmac(Hash::Sha384),
            "sha512" => Self::Hmac(Hash::Sha512),
            "sha256-plain" => Self::PlainSha256,
            "ed25519" => Self::Ed25519,
            "ecdsa-p256-sha256" => Self::EcdsaP256,
            "token" => Self::Token,
            _ => return None,
        })
    }

    /// The lengths that a signature may have, in bytes.
    pub(super) const fn signature_bytes(self) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::Hmac(hash) => hash.bytes()..=hash.bytes(),
            Self::PlainSha256 | Self::Token => 32..=32,
            Self::Ed25519 => 64..=64,
            // Two integers of 1 to 33 bytes, and 6 bytes around them.
            Self::EcdsaP256 => 8..=72,
        }
    }

    /// Whether the secret is a public key.
    pub(super) const fn is_asymmetric(self) -> bool {
        matches!(self, Self::Ed25519 | Self::EcdsaP256)
    }

    /// What a secret is made into, or a clause about why it cannot be used and a sentence about what to do. Without an encoding
    /// the text itself is the secret.
    fn material(
        self,
        text: &str,
        encoding: Option<Encoding>,
    ) -> Result<Material, (&'static str, &'static str)> {
        let is_public = self.is_asymmetric();
        let marks = if is_public {
            &["whsec_", "whsk_"][..]
        } else {
            &["whpk_", "whsk_", "-----BEGIN"]
        };
        if marks.iter().any(|mark| text.starts_with(mark)) {
            return Err((
                "the secret is a key for another algorithm",
                "Use the secret that the sender shows for this algorithm; a public key is not a shared secret.",
            ));
        }
        let bytes = match encoding {
            None if is_public => Err((
                "the public key has no encoding",
                "Set secretEncoding to \"hex\" or \"base64\".",
            )),
            None => Ok(text.as_bytes().to_vec()),
            Some(encoding) => encoding.decode(text).ok_or((
                "the secret does not have the form that secretEncoding says",
                "Copy the secret completely, with its padding, and without what stands before it.",
            )),
        }?;
        if bytes.is_empty() {
            return Err((
                "the secret is empty",
                "Use the secret that the sender shows.",
            ));
        }
        match self {
            Self::Hmac(hash) => Ok(Material::Keyed(Keyed::new(hash, &bytes))),
            Self::PlainSha256 => Ok(Material::Plain(bytes.into())),
            Self::Token => Ok(Material::Token(token_hash(text))),
            Self::Ed25519 if bytes.len() == ED25519_BYTES => Ok(Material::Public(bytes.into())),
            Self::Ed25519 => Err((
                "the public key does not have 32 bytes",
                "Use the Ed25519 public key that the sender shows.",
            )),
            Self::EcdsaP256 => match bytes.strip_prefix(P256_INFO) {
                Some(point @ [4, ..]) if point.len() == P256_POINT_BYTES => {
                    Ok(Material::Public(point.into()))
                }
                _ => Err((
                    "the public key is not an uncompressed key on P-256",
                    "Use the base64 between BEGIN PUBLIC KEY and END PUBLIC KEY, on one line.",
                )),
            },
        }
    }
}

impl Key {
    /// Makes a key out of a secret's text.
    pub(super) fn new(
        algorithm: Algorithm,
        text: &str,
        encoding: Option<Encoding>,
        period: Period,
        place: &Place,
    ) -> Result<Self, Error> {
        let material = algorithm
            .material(text, encoding)
            .map_err(|(message, hint)| place.unusable(message, hint))?;
        Ok(Self { material, period })
    }

    pub(super) fn is_valid(&self, now: i64) -> bool {
        (self.period.from..=self.period.until).contains(&now)
    }
}

impl Period {
    const ALWAYS: Self = Self {
        from: i64::MIN,
        until: i64::MAX,
    };
}

/// What a presented token is compared by.
pub(super) fn token_hash(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(sha256(|take| take(text.as_bytes())).as_bytes());
    hash
}

/// Whether two results are the same, in a time that does not depend on where they differ.
pub(crate) fn is_same(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// Reads `secret` and `secrets`; blank ones are left out. `key_for` makes a key out of each text.
pub(super) fn read_secrets<K>(
    object: &Object<'_>,
    key_for: impl Fn(&str, Period, &Place) -> Result<K, Error>,
) -> Result<Vec<K>, Error> {
    let mut list = Vec::new();
    list.extend(object.get("secret"));
    if let Some((value, place)) = object.get("secrets") {
        let values = value
            .as_array()
            .ok_or_else(|| place.wrong_type("an array of secrets", value))?;
        let places = values.iter().enumerate();
        list.extend(places.map(|(index, value)| (value, place.index(index))));
        if list.len() > MAX_SECRETS {
            return Err(place.error(Kind::TooLarge {
                what: "the number of secrets",
                limit: MAX_SECRETS.to_string(),
            }));
        }
    }
    let mut keys = Vec::with_capacity(list.len());
    for (value, place) in list {
        let (text, period, place) = read_secret(value, place)?;
        if let Some(text) = check_text(text, &place)? {
            keys.push(key_for(text, period, &place)?);
        }
    }
    Ok(keys)
}

fn read_secret(value: &Value, place: Place) -> Result<(&str, Period, Place), Error> {
    match value {
        Value::String(text) => return Ok((text, Period::ALWAYS, place)),
        // As where the key is absent.
        Value::Null => return Ok(("", Period::ALWAYS, place)),
        Value::Object(_) => {}
        _ => return Err(place.wrong_type("a string or an object", value)),
    }
    let object = Object::read(place, value, SECRET_KEYS)?;
    let period = Period {
        from: moment_at(&object, "notBefore")?.unwrap_or(i64::MIN),
        until: moment_at(&object, "notAfter")?.unwrap_or(i64::MAX),
    };
    if period.from > period.until {
        return Err(object.place.key("notAfter").unusable(
            "the secret ends before it begins",
            "Use a notAfter that is later than notBefore.",
        ));
    }
    let text = object.text("secret")?.unwrap_or_default();
    let place = object.place.key("secret");
    Ok((text, period, place))
}

/// The text when it can be a secret; `None` when it is blank.
fn check_text<'a>(text: &'a str, place: &Place) -> Result<Option<&'a str>, Error> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    if text.len() > MAX_SECRET_BYTES {
        return Err(place.error(Kind::TooLarge {
            what: "the secret",
            limit: format!("{MAX_SECRET_BYTES} bytes"),
        }));
    }
    // HMAC pads keys with zero bytes, so that a secret with some at its end would be two secrets.
    if text.trim() != text || text.contains('\0') {
        return Err(place.unusable(
            "the secret has white space around it, or a NUL inside",
            "Copy the secret without the line break at its end.",
        ));
    }
    Ok(Some(text))
}

fn moment_at(object: &Object<'_>, key: &'static str) -> Result<Option<i64>, Error> {
    let Some(text) = object.text(key)? else {
        return Ok(None);
    };
    moment::parse(text).map(Some).ok_or_else(|| {
        object.place.key(key).unusable(
            "the time cannot be read",
            "Use an ISO 8601 date and time, such as \"2026-11-30T12:00:00Z\".",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // Lengths are checked where signatures are decoded; a comparison that stopped with the shorter one was a hole elsewhere.
    #[test]
    fn a_beginning_is_not_the_same() {
        assert!(is_same(b"ab", b"ab"));
        for (left, right) in [
            (&b""[..], &b"ab"[..]),
            (b"a", b"ab"),
            (b"ab", b"a"),
            (b"ab", b"aB"),
        ] {
            assert!(!is_same(left, right));
        }
    }
}
