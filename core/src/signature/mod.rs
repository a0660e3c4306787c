//! Signatures of webhooks, as Standard Webhooks defines them.

mod sign;

pub use sign::{Secret, SecretError, sign};
