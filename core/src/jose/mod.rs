//! Signed JSON tokens (JWS, RFC 7515): answers that endpoints sign, and Security Event Tokens (RFC 8417) that endpoints receive.
//!
//! Keys come as PEM and are taken apart here (`pem`, `der`, `key`), because a malformed key must be an error and nothing else.
//! The algorithm is always the configured one; a token's header may only agree with it.
//!
//! The random numbers that RSA and ECDSA need for signing are drawn by the cryptographic library: that is the one place of this
//! crate whose results differ from call to call.

mod algorithm;
mod der;
mod key;
mod pem;
mod set;
mod token;

pub use set::{SET_CONTENT_TYPE, SetSigner, SignError};
pub use token::{AnswerKey, MAX_TOKEN_BYTES, TokenError};

pub(crate) use set::check_set;
