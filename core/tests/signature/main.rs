//! Signatures: those that are made, and those that are judged. What senders do is done here with another library than the one
//! that judges it, and from the senders' descriptions instead of from the presets.

mod attacks;
mod changes;
mod configuration;
mod hostile_headers;
mod presets;
mod senders;
mod sign;
mod vectors;

use actionflow_core::signature::{Config, Rejection, Request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::Value;

/// When most requests here are made.
const SECONDS: i64 = 1_700_000_000;
const NOW: i64 = SECONDS * 1_000_000;

type Headers<'a> = [(&'a str, &'a str)];

fn config(json: &Value) -> Config {
    Config::parse(json).expect("a good configuration")
}

fn verify(config: &Config, headers: &Headers<'_>, body: &[u8]) -> Result<(), Rejection> {
    verify_at(config, headers, body, NOW)
}

fn verify_at(
    config: &Config,
    headers: &Headers<'_>,
    body: &[u8],
    now: i64,
) -> Result<(), Rejection> {
    let verify = |headers: &Headers<'_>| {
        config.verify(&Request {
            method: "POST",
            headers,
            body,
            now,
        })
    };
    let mut wanted = headers.to_vec();
    wanted.retain(|(name, _)| config.reads_header(name.as_bytes()));
    let verdict = verify(headers);
    assert_eq!(verify(&wanted), verdict, "a header is read after all");
    verdict
}

fn sha256(key: &[u8], text: &[u8]) -> Vec<u8> {
    mac(hmac::HMAC_SHA256, key, text)
}

fn sha1(key: &[u8], text: &[u8]) -> Vec<u8> {
    mac(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key, text)
}

fn sha512(key: &[u8], text: &[u8]) -> Vec<u8> {
    mac(hmac::HMAC_SHA512, key, text)
}

fn mac(algorithm: hmac::Algorithm, key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(algorithm, key), text)
        .as_ref()
        .to_vec()
}

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
