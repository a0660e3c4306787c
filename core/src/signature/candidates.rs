//! The signatures that a request presents, decoded.

use serde_json::Value;

use super::config::{Check, Config, Signatures};
use super::key::{Algorithm, token_hash};
use super::source::{Part, each_part, each_value};
use super::verify::{Rejection, Request, text_at};

/// Signatures of one kind that a request may present: ten old keys and the new one, and some to spare.
const MAX_SIGNATURES: usize = 16;
/// The same for public keys, where each costs a hundred times as much to check.
const MAX_PUBLIC_SIGNATURES: usize = 4;
/// The longest in bytes: ECDSA in DER.
const MAX_BYTES: usize = 72;
/// The longest in characters: that in hex.
const MAX_CHARACTERS: usize = 2 * MAX_BYTES;
/// Standard Webhooks has two kinds of signatures in one header.
pub(super) const MAX_CHECKS: usize = 2;

/// A signature that was presented.
pub(super) struct Signature {
    bytes: [u8; MAX_BYTES],
    length: u8,
}

/// The signatures for one check. Nearly every request has one, which costs no allocation.
#[derive(Default)]
pub(super) struct List {
    first: Option<Signature>,
    others: Vec<Signature>,
}

/// The signatures for each check of a configuration.
#[derive(Default)]
pub(super) struct Candidates {
    lists: [List; MAX_CHECKS],
}

impl Signature {
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }

    fn new(bytes: &[u8]) -> Option<Self> {
        let mut signature = Self {
            bytes: [0; MAX_BYTES],
            length: u8::try_from(bytes.len()).ok()?,
        };
        signature
            .bytes
            .get_mut(..bytes.len())?
            .copy_from_slice(bytes);
        Some(signature)
    }
}

impl List {
    pub(super) const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Signature> {
        self.first.iter().chain(&self.others)
    }

    fn push(&mut self, signature: Signature) {
        if self.first.is_none() {
            self.first = Some(signature);
        } else {
            self.others.push(signature);
        }
    }
}

impl Candidates {
    /// Reads what the request presents, in its body's JSON where the configuration says so.
    pub(super) fn read(
        &mut self,
        config: &Config,
        request: &Request<'_>,
        json: Option<&Value>,
    ) -> Result<(), Rejection> {
        for (check, list) in config.checks.iter().zip(&mut self.lists) {
            let limit = match check.algorithm.is_asymmetric() {
                true => MAX_PUBLIC_SIGNATURES,
                false => MAX_SIGNATURES,
            };
            let mut presented = 0;
            each_presented(&config.signatures, &check.part, request, json, |text| {
                presented += 1;
                if presented > limit {
                    return Err(Rejection::ManySignatures);
                }
                // One that cannot be read does not spoil the others.
                if let Some(signature) = check.decode(text) {
                    list.push(signature);
                }
                Ok(())
            })?;
        }
        if self.lists.iter().all(List::is_empty) {
            return Err(Rejection::NoSignature);
        }
        Ok(())
    }

    /// The signatures for each check, in the order of the checks.
    pub(super) const fn lists(&self) -> &[List] {
        &self.lists
    }
}

impl Check {
    /// The bytes of a presented signature, when it has the form and the length of one.
    fn decode(&self, text: &str) -> Option<Signature> {
        let Some(encoding) = self.digest else {
            return (self.algorithm == Algorithm::Token && !text.is_empty())
                .then(|| Signature::new(&token_hash(text)))?;
        };
        if text.len() > MAX_CHARACTERS {
            return None;
        }
        let mut buffer = [0; MAX_CHARACTERS];
        let bytes = encoding.decode_into(text, &mut buffer)?;
        let is_complete = self.algorithm.signature_bytes().contains(&bytes.len());
        is_complete.then(|| Signature::new(bytes))?
    }
}

fn each_presented(
    from: &Signatures,
    part: &Part,
    request: &Request<'_>,
    json: Option<&Value>,
    mut take: impl FnMut(&str) -> Result<(), Rejection>,
) -> Result<(), Rejection> {
    match from {
        Signatures::Json(pointer) => {
            let json = json.ok_or(Rejection::NoJson)?;
            each_part(&text_at(json, pointer)?, part, take)
        }
        Signatures::Headers(names) => {
            let mut missing = None;
            let mut is_there = false;
            for name in names {
                match each_value(request, name, part, &mut take) {
                    Ok(()) => is_there = true,
                    Err(error @ Rejection::MissingHeader(_)) => missing = missing.or(Some(error)),
                    Err(error) => return Err(error),
                }
            }
            missing.filter(|_| !is_there).map_or(Ok(()), Err)
        }
    }
}
