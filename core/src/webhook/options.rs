//! What a webhook trigger is configured with.

use serde_json::{Map, Value};

use super::{AllowList, Handshake};
use crate::input::{Error, Object, Place};
use crate::mapping::Mapping;
use crate::signature;

/// Keys of a signature and of a handshake that cannot be read back; those of a group replace each other.
const UNREADABLE: &[&[&str]] = &[&["secret", "secrets"], &["url"], &["verify_token"]];
const KEYS: &[&str] = &["signature", "mapping", "allowed_ips", "handshake"];

/// Options of a webhook trigger that have been checked.
#[derive(Debug)]
pub struct Options {
    /// How requests are signed; `None`: whoever knows the URL may send.
    pub signature: Option<signature::Config>,
    /// What the trigger payload is made from the body by.
    pub mapping: Mapping,
    /// Where requests may come from.
    pub allowed_ips: AllowList,
    /// How the sender asks before it sends.
    pub handshake: Option<Handshake>,
}

impl Options {
    /// Parses the options.
    ///
    /// # Errors
    /// When a key is unknown, a type is wrong, or a part of them is not usable; also a signature without a secret.
    pub fn parse(json: &Value) -> Result<Self, Error> {
        let object = Object::read(Place::root("webhook trigger options"), json, KEYS)?;
        let signature = match object.get("signature") {
            None => None,
            Some((value, _)) => {
                let config = signature::Config::parse(value)?;
                config.require_secret()?;
                Some(config)
            }
        };
        let mapping = match object.get("mapping") {
            None => Mapping::default(),
            Some((value, _)) => Mapping::parse(value)?,
        };
        let allowed_ips = match object.get("allowed_ips") {
            None => AllowList::default(),
            Some((value, place)) => AllowList::parse(value, &place)?,
        };
        let handshake = match object.get("handshake") {
            Some((value, place)) => Some(Handshake::parse(value, &place)?),
            None => signature
                .as_ref()
                .and_then(signature::Config::preset)
                .and_then(Handshake::of_preset),
        };
        Ok(Self {
            signature,
            mapping,
            allowed_ips,
            handshake,
        })
    }

    /// Headers that are the sender's secret.
    #[must_use]
    pub fn credential_headers(&self) -> &[String] {
        self.signature
            .as_ref()
            .map_or(&[], signature::Config::credential_headers)
    }
}

/// The options after a change: keys that are given replace those that were there, null removes them.
///
/// Secrets and signed URLs cannot be read back, so a signature that comes without any keeps those that it had.
#[must_use]
pub fn merged(old: &Value, changes: &Map<String, Value>) -> Value {
    let mut merged = old.as_object().cloned().unwrap_or_default();
    for (key, change) in changes {
        let before = merged.remove(key);
        if change.is_null() {
            continue;
        }
        let mut change = change.clone();
        if let (Some(Value::Object(before)), Value::Object(now)) = (before, &mut change) {
            keep_unreadable(before, now);
        }
        merged.insert(key.clone(), change);
    }
    Value::Object(merged)
}

fn keep_unreadable(mut before: Map<String, Value>, now: &mut Map<String, Value>) {
    for group in UNREADABLE {
        if group.iter().any(|key| now.contains_key(*key)) {
            continue;
        }
        let kept = group.iter().filter_map(|key| before.remove_entry(*key));
        now.extend(kept);
    }
}

/// The options as people may see them.
#[must_use]
pub fn public_options(json: &Value) -> Value {
    let mut public: Map<String, Value> = json.as_object().cloned().unwrap_or_default();
    if let Some(signature) = public.get_mut("signature") {
        *signature = signature::without_secrets(signature);
    }
    if let Some(handshake) = public.get_mut("handshake").and_then(Value::as_object_mut) {
        handshake.remove("verify_token");
    }
    Value::Object(public)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn merge(old: Value, changes: Value) -> Value {
        let Value::Object(changes) = changes else {
            unreachable!()
        };
        merged(&old, &changes)
    }

    #[test]
    fn a_change_replaces_what_it_names_and_null_removes() {
        let old = json!({"mapping": {"kind": "none"}, "allowed_ips": ["192.0.2.1"]});
        let changes = json!({"allowed_ips": null, "mapping": {"kind": "fields", "targetUserIds": {"const": null}}});
        assert_eq!(
            merge(old, changes),
            json!({"mapping": {"kind": "fields", "targetUserIds": {"const": null}}})
        );
    }

    #[test]
    fn a_signature_without_secrets_keeps_those_it_had() {
        let old = json!({"signature": {"preset": "slack", "secrets": ["a", "b"]}});
        let kept = merge(
            old.clone(),
            json!({"signature": {"preset": "slack", "tolerance": 60}}),
        );
        assert_eq!(
            kept,
            json!({"signature": {"preset": "slack", "tolerance": 60, "secrets": ["a", "b"]}})
        );
        let replaced = merge(
            old,
            json!({"signature": {"preset": "slack", "secret": "c"}}),
        );
        assert_eq!(
            replaced,
            json!({"signature": {"preset": "slack", "secret": "c"}})
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = public_options(&json!({
            "signature": {"preset": "slack", "secret": "hush"}, "handshake": {"kind": "meta", "verify_token": "hush"}, "allowed_ips": []
        }));
        assert!(!shown.to_string().contains("hush"), "{shown}");
        assert_eq!(shown["signature"]["preset"], "slack");
    }
}
