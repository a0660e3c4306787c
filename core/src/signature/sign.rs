//! Standard Webhooks v1: the secret's text form, and the signature header of a request.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// What every symmetric secret's text form begins with.
const PREFIX: &str = "whsec_";

/// Lengths that the specification allows for a symmetric key, in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A symmetric signing key, ready to sign.
///
/// It holds the keyed hash state and not the key: the two compressions that keying costs are paid once a
/// secret instead of once a request.
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

/// Why a text is not a signing secret. It never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The text does not begin with `whsec_`.
    #[error("a signing secret begins with \"whsec_\"")]
    Prefix,
    /// What follows the prefix is not padded standard base64.
    #[error("a signing secret is base64 after \"whsec_\"")]
    Encoding,
    /// The decoded key is shorter or longer than the specification allows.
    #[error("a signing secret holds 24 to 64 bytes, this one {0}")]
    Length(usize),
}

impl Secret {
    /// Reads the text form `whsec_<base64>`.
    ///
    /// # Errors
    /// When the prefix, the encoding or the key's length (24 to 64 bytes) is wrong.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(SecretError::Prefix)?;
        let key = STANDARD
            .decode(encoded)
            .map_err(|_| SecretError::Encoding)?;
        if !KEY_BYTES.contains(&key.len()) {
            return Err(SecretError::Length(key.len()));
        }
        let keyed = Hmac::new_from_slice(&key).expect("HMAC takes keys of any length");
        Ok(Self(keyed))
    }

    /// The text form of a key of 24 to 64 random bytes.
    #[must_use]
    pub fn text_form(key: &[u8]) -> String {
        format!("{PREFIX}{}", STANDARD.encode(key))
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> impl AsRef<[u8]> + use<> {
        let mut mac = self.0.clone();
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac.finalize().into_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The value of `webhook-signature`: one `v1,<base64>` for each secret, joined by single spaces.
///
/// `id` and `timestamp` (Unix seconds) are those of the `webhook-id` and `webhook-timestamp` headers; `body` is the exact
/// bytes that are sent. A receiver accepts the request when any one of the signatures fits, so that a secret can be
/// replaced without a gap.
#[must_use]
pub fn sign(secrets: &[Secret], id: &str, timestamp: &str, body: &[u8]) -> String {
    // "v1," and 44 characters of base64, and the space between two.
    let mut header = String::with_capacity(secrets.len() * 48);
    for secret in secrets {
        if !header.is_empty() {
            header.push(' ');
        }
        header.push_str("v1,");
        STANDARD.encode_string(secret.mac(id, timestamp, body), &mut header);
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_is_not_one_is_refused_with_the_reason() {
        let parse = |text: &str| Secret::parse(text).err();
        assert_eq!(
            parse("C2FVsBQIhrscChlQIMV+b5sSYspob7oD"),
            Some(SecretError::Prefix)
        );
        assert_eq!(parse("whsec_not base64"), Some(SecretError::Encoding));
        assert_eq!(
            parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7o"),
            Some(SecretError::Encoding)
        );
        assert_eq!(parse("whsec_"), Some(SecretError::Length(0)));
        assert_eq!(parse("whsec_aGVsbG8="), Some(SecretError::Length(5)));
        assert_eq!(parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"), None);
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        let secret = Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }
}
