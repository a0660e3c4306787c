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
            Self::Hex => unhex(text.as_bytes(), buffer)?,
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

/// What each byte means as a digit of hex.
static DIGITS: [u8; 256] = digits();
/// More than any digit, in bits that none has.
const NO_DIGIT: u8 = 0xf0;

const fn digits() -> [u8; 256] {
    let mut digits = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        let digit = b"0123456789abcdef"[value as usize];
        digits[digit as usize] = value;
        digits[digit.to_ascii_uppercase() as usize] = value;
        value += 1;
    }
    digits
}

/// Writes the bytes that digits of hex stand for, and says how many. With a table and one check at the end, because this is done
/// for every request: a check of each digit takes several times as long.
fn unhex(text: &[u8], buffer: &mut [u8]) -> Option<usize> {
    let (pairs, []) = text.as_chunks() else {
        return None;
    };
    let mut seen = 0;
    for (byte, [high, low]) in buffer.get_mut(..pairs.len())?.iter_mut().zip(pairs) {
        let (high, low) = (DIGITS[usize::from(*high)], DIGITS[usize::from(*low)]);
        seen |= high | low;
        *byte = high << 4 | low;
    }
    (seen & NO_DIGIT == 0).then_some(pairs.len())
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
        for byte in 0..=u8::MAX {
            let digit = char::from(byte).to_digit(16).filter(|_| byte.is_ascii());
            let digit = digit.map(|digit| vec![digit as u8 * 16 + 15, 240 + digit as u8]);
            let text = [byte, b'f', b'F', byte];
            let mut buffer = [0; 2];
            let length = unhex(&text, &mut buffer);
            assert_eq!(length.map(|length| buffer[..length].to_vec()), digit);
        }
        let mut short = [0; 1];
        assert_eq!(Encoding::Hex.decode_into("0000", &mut short), None);
        assert_eq!(Encoding::Base64.decode_into("+/8=", &mut short), None);
    }
}
