//! PEM (RFC 7468): one block of base64 between two lines that name its kind.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// An RSA private key of 8192 bits takes 6.5 KiB.
const MAX_PEM_BYTES: usize = 16 << 10;

/// The label and the content of a text that is exactly one block; `None` when it is anything else.
pub(super) fn decode(text: &str) -> Option<(&str, Vec<u8>)> {
    if text.len() > MAX_PEM_BYTES {
        return None;
    }
    let rest = text.trim_ascii().strip_prefix("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (encoded, rest) = rest.split_once("-----END ")?;
    let end = rest.strip_suffix("-----")?;
    if end != label {
        return None;
    }
    let encoded: String = encoded
        .chars()
        .filter(|c| !c.is_ascii_whitespace())
        .collect();
    Some((label, STANDARD.decode(encoded).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_block_is_read_however_its_lines_end() {
        let expected = Some(("PUBLIC KEY", b"hello".to_vec()));
        for text in [
            "-----BEGIN PUBLIC KEY-----\naGVsbG8=\n-----END PUBLIC KEY-----\n",
            "-----BEGIN PUBLIC KEY-----\r\naGVs\r\nbG8=\r\n-----END PUBLIC KEY-----\r\n",
            "  -----BEGIN PUBLIC KEY-----aGVsbG8=-----END PUBLIC KEY-----",
        ] {
            assert_eq!(decode(text), expected, "{text:?}");
        }
    }

    #[test]
    fn anything_else_is_not_a_block() {
        let long = format!(
            "-----BEGIN A-----{}-----END A-----",
            "AAAA".repeat(MAX_PEM_BYTES / 4)
        );
        for text in [
            "",
            "aGVsbG8=",
            "-----BEGIN A-----aGVsbG8=",
            "-----BEGIN A-----aGVsbG8=-----END B-----",
            "-----BEGIN A-----aGVsbG8-----END A-----",
            "-----BEGIN A-----aGVsbG8=-----END A-----x",
            "-----BEGIN A-----aGVsbG8=-----END A----------BEGIN A-----aGVsbG8=-----END A-----",
            "-----BEGIN A-----\nProc-Type: 4,ENCRYPTED\n\naGVsbG8=-----END A-----",
            &long,
        ] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }
}
