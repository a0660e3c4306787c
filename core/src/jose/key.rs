//! Keys out of their text forms, each checked against the algorithm that it is for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{DecodingKey, EncodingKey};

use super::algorithm::Algorithm;
use super::{der, pem};

/// What a symmetric secret's text form may begin with (Standard Webhooks).
const SECRET_PREFIX: &str = "whsec_";

/// Lengths of a shared secret in bytes: RFC 7518, 3.2 asks for that of the hash at least.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 32..=1024;

/// Sizes of an RSA modulus for verifying: what the cryptographic library takes.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

// Contents of an AlgorithmIdentifier: RFC 8017, A.1 (with its NULL), RFC 5480, 2.1.1 (P-256), RFC 8410, 3.
const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
const P256: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
const ED25519: &[u8] = b"\x06\x03\x2b\x65\x70";

/// Why a text is not the key that is needed. It never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyError {
    /// It is not base64 of a length that HS256 may have.
    #[error("the secret has the wrong form")]
    Secret,
    /// It is not PEM, or not a public key.
    #[error("the key is not a public key in PEM form")]
    NotPublic,
    /// It is not PEM, or not a private key.
    #[error("the key is not a private key in PEM form")]
    NotPrivate,
    /// It is a key for something else.
    #[error("the key does not fit the algorithm")]
    Algorithm,
    /// It is a key of the right kind whose numbers cannot be used.
    #[error("the key cannot be used")]
    Unusable,
}

impl KeyError {
    /// What to do about it, as a full sentence.
    pub(super) const fn hint(self) -> &'static str {
        match self {
            Self::Secret => {
                "Use the base64 of at least 32 random bytes, with or without whsec_ before it."
            }
            Self::NotPublic => "Use the text from BEGIN PUBLIC KEY to END PUBLIC KEY.",
            Self::NotPrivate => {
                "Use the text from BEGIN PRIVATE KEY to END PRIVATE KEY (PKCS #8, not encrypted)."
            }
            Self::Algorithm => {
                "RS256 takes an RSA key, ES256 one on the curve P-256, EdDSA an Ed25519 key."
            }
            Self::Unusable => {
                "Use an RSA key of 2048 to 4096 bits, an uncompressed P-256 key, or an Ed25519 key, as they are generated."
            }
        }
    }
}

/// A key that verifies. For HS256 it is the shared secret.
pub(super) fn public(algorithm: Algorithm, text: &str) -> Result<DecodingKey, KeyError> {
    if algorithm == Algorithm::Hs256 {
        return Ok(DecodingKey::from_secret(&secret(text)?));
    }
    let (label, content) = pem::decode(text).ok_or(KeyError::NotPublic)?;
    match label {
        "PUBLIC KEY" => {}
        // What RS256 needs is inside without a wrapper (RFC 8017, A.1.1).
        "RSA PUBLIC KEY" if algorithm == Algorithm::Rs256 => return rsa_public(&content),
        "RSA PUBLIC KEY" => return Err(KeyError::Algorithm),
        _ => return Err(KeyError::NotPublic),
    }
    let (identifier, key) = public_key_info(&content).ok_or(KeyError::NotPublic)?;
    match algorithm {
        Algorithm::Hs256 => Err(KeyError::Algorithm),
        Algorithm::Rs256 if identifier == RSA => rsa_public(key),
        // An uncompressed point, the only form that the cryptographic library takes.
        Algorithm::Es256 if identifier == P256 => match key {
            [4, point @ ..] if point.len() == 64 => Ok(DecodingKey::from_ec_der(key)),
            _ => Err(KeyError::Unusable),
        },
        Algorithm::EdDsa if identifier == ED25519 => match key.len() {
            32 => Ok(DecodingKey::from_ed_der(key)),
            _ => Err(KeyError::Unusable),
        },
        Algorithm::Rs256 | Algorithm::Es256 | Algorithm::EdDsa => Err(KeyError::Algorithm),
    }
}

/// A key pair that signs, proven by signing with it; not for HS256.
pub(super) fn private(algorithm: Algorithm, text: &str) -> Result<EncodingKey, KeyError> {
    let (label, content) = pem::decode(text).ok_or(KeyError::NotPrivate)?;
    let key = match (label, algorithm) {
        ("PRIVATE KEY", _) => {
            let (identifier, key) = private_key_info(&content).ok_or(KeyError::NotPrivate)?;
            match algorithm {
                Algorithm::Rs256 if identifier == RSA => EncodingKey::from_rsa_der(key),
                // These two are handed over with their wrapper.
                Algorithm::Es256 if identifier == P256 => EncodingKey::from_ec_der(&content),
                Algorithm::EdDsa if identifier == ED25519 => EncodingKey::from_ed_der(&content),
                _ => return Err(KeyError::Algorithm),
            }
        }
        // RFC 8017, A.1.2.
        ("RSA PRIVATE KEY", Algorithm::Rs256) => EncodingKey::from_rsa_der(&content),
        ("RSA PRIVATE KEY", _) => return Err(KeyError::Algorithm),
        _ => return Err(KeyError::NotPrivate),
    };
    jsonwebtoken::crypto::sign(b"", &key, algorithm.jws()).map_err(|_| KeyError::Unusable)?;
    Ok(key)
}

/// A shared secret: base64, with or without the prefix of Standard Webhooks.
pub(super) fn secret(text: &str) -> Result<Vec<u8>, KeyError> {
    let encoded = text.strip_prefix(SECRET_PREFIX).unwrap_or(text);
    STANDARD
        .decode(encoded)
        .ok()
        .filter(|secret| SECRET_BYTES.contains(&secret.len()))
        .ok_or(KeyError::Secret)
}

/// `RSAPublicKey` (RFC 8017, A.1.1).
fn rsa_public(der: &[u8]) -> Result<DecodingKey, KeyError> {
    let size = || {
        let mut numbers = der::take_last(der, der::SEQUENCE)?;
        let modulus = der::take(&mut numbers, der::INTEGER)?;
        let exponent = der::take_last(numbers, der::INTEGER)?;
        Some((der::bits(modulus)?, der::bits(exponent)?))
    };
    match size() {
        Some((modulus, 2..=33)) if RSA_BITS.contains(&modulus) => {
            Ok(DecodingKey::from_rsa_der(der))
        }
        _ => Err(KeyError::Unusable),
    }
}

/// Algorithm identifier and key of a `SubjectPublicKeyInfo` (RFC 5280, 4.1).
fn public_key_info(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut info = der::take_last(der, der::SEQUENCE)?;
    let identifier = der::take(&mut info, der::SEQUENCE)?;
    let bits = der::take_last(info, der::BIT_STRING)?;
    // The first byte counts the unused bits of the last one.
    let key = bits.strip_prefix(&[0])?;
    Some((identifier, key))
}

/// Algorithm identifier and key of a `OneAsymmetricKey` (RFC 5958, 2); attributes and public key are left alone.
fn private_key_info(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut info = der::take_last(der, der::SEQUENCE)?;
    let _version = der::take(&mut info, der::INTEGER)?;
    let identifier = der::take(&mut info, der::SEQUENCE)?;
    let key = der::take(&mut info, der::OCTET_STRING)?;
    Some((identifier, key))
}
