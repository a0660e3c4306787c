//! What a webhook trigger is configured with.

use serde_json::{Map, Value};

use super::{AllowList, Handshake};
use crate::input::{Error, Object, Place};
use crate::mapping::Mapping;
use crate::signature;

/// Keys of a signature and of a handshake that cannot be read back; those of a group replace each other.
const UNREADABLE: &[&[&str]] = &[&["secret", "secrets"], &["url"], &["verify_token"]];
/// What says whose they are: with another sender they would be wrong, or let the one before go on sending.
const SENDER: [&str; 3] = ["preset", "algorithm", "kind"];
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
    /// When a key is unknown, a type is wrong, or a part of them is not usable; also a signature without a secret, and a handshake
    /// that the signature does not suffice for.
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
        if let Some(handshake) = &handshake {
            handshake.check(signature.as_ref(), &object.place.key("handshake"))?;
        }
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
/// Secrets, signed URLs and verify tokens cannot be read back, so a signature or a handshake that comes without any keeps those
/// that it had, as long as its `preset` and `algorithm`, or its `kind`, are as they were.
#[must_use]
pub fn merged(old: &Value, changes: &Map<String, Value>) -> Value {
    let mut merged = old.as_object().cloned().unwrap_or_default();
    for (key, change) in changes {
        let before = merged.remove(key);
        if change.is_null() {
            continue;
        }
        let mut change = change.clone();
        if let (Some(Value::Object(before)), Value::Object(now)) = (before, &mut change)
            && is_same_sender(&before, now)
        {
            keep_unreadable(before, now);
        }
        merged.insert(key.clone(), change);
    }
    Value::Object(merged)
}

fn is_same_sender(before: &Map<String, Value>, now: &Map<String, Value>) -> bool {
    let written =
        |map: &Map<String, Value>, key: &str| map.get(key).filter(|v| !v.is_null()).cloned();
    let mut keys = SENDER.into_iter();
    keys.all(|key| written(before, key) == written(now, key))
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

    /// Why a change cannot be stored.
    fn refused(old: Value, changes: Value) -> String {
        let error = Options::parse(&merge(old, changes)).expect_err("must be refused");
        error.to_string()
    }

    #[test]
    fn another_sender_keeps_no_secret() {
        let github = json!({"signature": {"preset": "github", "secret": "hush"}});
        for signature in [
            json!({"preset": "stripe"}),
            json!({"preset": "github", "algorithm": "sha512"}),
            json!({"algorithm": "sha256", "digest": "hex", "template": "[payload]", "data": {"signature": {"header": "x-sign"}}}),
        ] {
            assert_eq!(
                refused(github.clone(), json!({"signature": signature})),
                "invalid signature configuration: the secret is missing",
                "{signature}"
            );
        }
        let kept = json!({"signature": {"preset": "github", "algorithm": null, "tolerance": null}});
        assert_eq!(merge(github, kept)["signature"]["secret"], "hush");
    }

    #[test]
    fn another_sender_keeps_no_url_and_no_verify_token() {
        let square = json!({"signature": {"preset": "square", "secret": "a", "url": "https://example.com/hook"}});
        let github = json!({"signature": {"preset": "github", "secret": "b"}});
        let changed = merge(square.clone(), github.clone());
        assert_eq!(changed, github);
        Options::parse(&changed).expect("a github signature has no url");
        let new = merge(
            square,
            json!({"signature": {"preset": "square", "secret": "b"}}),
        );
        assert_eq!(new["signature"]["url"], "https://example.com/hook");

        let meta = json!({"handshake": {"kind": "meta", "verify_token": "hush"}});
        for slack in [json!({"kind": "slack"}), json!("slack")] {
            let changed = merge(meta.clone(), json!({"handshake": slack}));
            assert_eq!(changed, json!({"handshake": slack}));
            let options = Options::parse(&changed).expect("slack has no verify token");
            assert_eq!(options.handshake, Some(Handshake::Slack));
        }
        let kept = merge(meta.clone(), json!({"handshake": {"kind": "meta"}}));
        assert_eq!(kept, meta);
    }

    #[test]
    fn zooms_handshake_needs_a_secret_for_its_answer() {
        let zoom = |signature: Value| json!({"signature": signature, "handshake": "zoom"});
        for options in [
            json!({"handshake": "zoom"}),
            zoom(json!({"preset": "token", "secret": "hush"})),
            zoom(json!({"preset": "hubspot-v1", "secret": "hush"})),
        ] {
            let error = Options::parse(&options).expect_err("must be refused");
            assert_eq!(error.path, "$.handshake");
            assert_eq!(
                error.to_string(),
                "invalid webhook trigger options: the handshake of zoom needs a signature with HMAC"
            );
        }
        for signature in [
            json!({"preset": "zoom", "secret": "hush"}),
            json!({"preset": "github", "secret": "hush"}),
        ] {
            Options::parse(&zoom(signature)).expect("an HMAC secret");
        }
        let implied = json!({"signature": {"preset": "zoom", "secret": "hush"}});
        let options = Options::parse(&implied).expect("the preset");
        assert_eq!(options.handshake, Some(Handshake::Zoom));
    }

    #[test]
    fn a_handshake_is_a_text_or_an_object() {
        let error = Options::parse(&json!({"handshake": 7})).expect_err("must be refused");
        assert_eq!(
            error.to_string(),
            "invalid webhook trigger options: expected a string or an object, got a number"
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
