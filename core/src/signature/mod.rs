//! Signatures of webhooks: those that actionflow makes, as Standard Webhooks defines them, and those that senders make.
//!
//! What a sender signs, and how, is a [`Config`]: JSON that people write or take from a [`preset()`], checked and compiled once.
//! It judges a [`Request`] by the bytes that arrived, and answers with a [`Rejection`] for the owner's log when it is not to be
//! believed. Nothing that a request holds can choose an algorithm, a key or a URL, or cause a panic.

mod candidates;
mod config;
mod encoding;
mod form;
mod key;
mod mac;
mod preset;
mod read;
mod sign;
mod source;
mod template;
mod timestamp;
mod url;
mod verify;

pub use config::{Config, without_secrets};
pub(crate) use key::is_same;
pub use preset::{preset, preset_hint, preset_names};
pub use sign::{Secret, SecretError, sign};
pub use verify::{Rejection, Request};
