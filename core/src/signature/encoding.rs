//! Text forms of bytes, read strictly: every text means one sequence of bytes or none.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};

use crate::input::{Error, Object};

/// Senders differ on the padding of this alphabet.
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How bytes are written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Letters of either case: some senders write capitals, and it is the bytes that are compared.
    Hex,
    /// The standard alphabet, padded, without stray bits at the end.
    Base64,
    /// The URL-safe alphabet, padded or not, without stray bits at the end.
    Base64Url,
}

impl Encoding {
    /// Reads the key `digest` of a configuration.
    pub(super) fn read_digest(object: &Object<'_>) -> Result<Self, Error> {
        let (value, place) = object.require("digest")?;
        let name = value
            .as_str()
            .ok_or_else(|| place.wrong_type("a string", value))?;
        Self::by_name(name).ok_or_else(|| {
            place.unusable(
                "unknown digest",
                "Use one of: \"hex\", \"base64\", \"base64url\".",
            )
        })
    }

    pub(super) fn by_name(name: &str) -> Option<Self> {
        match name {
            "hex" => Some(Self::Hex),
            "base64" => Some(Self::Base64),
            "base64url" => Some(Self::Base64Url),
            _ => None,
        }
    }

    /// The bytes that a text stands for, written into the buffer; `None` also when they do not fit into it.
    pub(super) fn decode_into<'b>(self, text: &str, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let length = match self {
            Self::Hex => {
                let length = text.len() / 2;
                hex::decode_to_slice(text, buffer.get_mut(..length)?).ok()?;
                length
            }
            Self::Base64 => STANDARD.decode_slice(text, buffer).ok()?,
            Self::Base64Url => URL_SAFE.decode_slice(text, buffer).ok()?,
        };
        buffer.get(..length)
    }

    /// The bytes that a text stands for.
    pub(super) fn decode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Hex => hex::decode(text).ok(),
            Self::Base64 => STANDARD.decode(text).ok(),
            Self::Base64Url => URL_SAFE.decode(text).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_means_one_sequence_of_bytes_or_none() {
        let decode = |encoding: Encoding, text: &str| {
            let bytes = encoding.decode(text);
            let mut buffer = [0; 8];
            assert_eq!(encoding.decode_into(text, &mut buffer), bytes.as_deref());
            bytes
        };
        assert_eq!(decode(Encoding::Hex, "00fF"), Some(vec![0, 255]));
        for text in ["0", "0g", " 00", "00 ", "0x00", "é"] {
            assert_eq!(decode(Encoding::Hex, text), None, "{text}");
        }
        assert_eq!(decode(Encoding::Base64, "+/8="), Some(vec![0xfb, 0xff]));
        for text in ["+/8", "+/9=", "-_8=", "+/8==", "+/8=\n", "+ /8=", "+/8=A"] {
            assert_eq!(decode(Encoding::Base64, text), None, "{text}");
        }
        for text in ["-_8=", "-_8"] {
            assert_eq!(decode(Encoding::Base64Url, text), Some(vec![0xfb, 0xff]));
        }
        for text in ["-_9", "+/8=", "-_8==", "-"] {
            assert_eq!(decode(Encoding::Base64Url, text), None, "{text}");
        }
        let mut short = [0; 1];
        assert_eq!(Encoding::Hex.decode_into("0000", &mut short), None);
        assert_eq!(Encoding::Base64.decode_into("+/8=", &mut short), None);
    }
}
