//! One bit is enough: changed in the body, the time, the signature or the secret, it makes a request one that is not believed.

use actionflow_core::signature::{Config, Request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use super::{NOW, base64, config, sha1, sha256, sha512};

/// A scheme: how the secret, the signature and the signed text are written.
#[derive(Debug, Clone, Copy)]
struct Scheme {
    algorithm: &'static str,
    digest: &'static str,
    encoding: &'static str,
    prefix: &'static str,
    template: &'static str,
    format: &'static str,
    time: &'static str,
}

const fn scheme(
    [algorithm, digest, encoding, prefix, template, format, time]: [&'static str; 7],
) -> Scheme {
    Scheme {
        algorithm,
        digest,
        encoding,
        prefix,
        template,
        format,
        time,
    }
}

const SCHEMES: [Scheme; 5] = [
    scheme([
        "sha256",
        "hex",
        "hex",
        "v1=",
        "[timestamp].[payload]",
        "s",
        "1700000000",
    ]),
    scheme([
        "sha256",
        "base64",
        "base64",
        "v1,",
        "[id].[timestamp].[payload]",
        "s",
        "1700000000",
    ]),
    scheme([
        "sha1",
        "hex",
        "base64",
        "sha1=",
        "v0:[timestamp]:[payload]",
        "ms",
        "1700000000000",
    ]),
    scheme([
        "sha512",
        "base64",
        "hex",
        "s=",
        "[payload][timestamp]",
        "iso8601",
        "2023-11-14T22:13:20Z",
    ]),
    scheme([
        "ed25519",
        "base64",
        "hex",
        "v1a,",
        "[timestamp][payload]",
        "us",
        "1700000000000000",
    ]),
];

impl Scheme {
    fn config(self, key: &[u8]) -> Config {
        config(&self.json(key))
    }

    fn json(self, key: &[u8]) -> Value {
        let secret = if self.encoding == "hex" {
            hex::encode(key)
        } else {
            base64(key)
        };
        let mut data = json!({
            "signature": {"header": "x-sign", "parsePrefix": self.prefix},
            "timestamp": {"header": "x-time", "format": self.format},
        });
        if self.template.contains("[id]") {
            data["id"] = json!({"header": "x-id"});
        }
        json!({
            "algorithm": self.algorithm, "digest": self.digest, "secret": secret, "secretEncoding": self.encoding,
            "template": self.template, "data": data, "tolerance": 0,
        })
    }

    /// The key that verifies, and the signature.
    fn sign(self, key: &[u8; 32], body: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (before, after) = self.template.split_once("[payload]").expect("a body");
        let fill = |text: &str| text.replace("[timestamp]", self.time).replace("[id]", "m1");
        let text = [fill(before).as_bytes(), body, fill(after).as_bytes()].concat();
        let mac = match self.algorithm {
            "sha1" => sha1(key, &text),
            "sha256" => sha256(key, &text),
            "sha512" => sha512(key, &text),
            _ => {
                let pair =
                    ring::signature::Ed25519KeyPair::from_seed_unchecked(key).expect("a seed");
                let public = ring::signature::KeyPair::public_key(&pair)
                    .as_ref()
                    .to_vec();
                return (public, pair.sign(&text).as_ref().to_vec());
            }
        };
        (key.to_vec(), mac)
    }

    fn is_believed(self, key: &[u8], signature: &[u8], time: &str, body: &[u8]) -> bool {
        let text = if self.digest == "hex" {
            hex::encode(signature)
        } else {
            STANDARD.encode(signature)
        };
        let header = format!("{}{text}", self.prefix);
        let headers = [
            ("X-Sign", header.as_str()),
            ("X-Time", time),
            ("X-Id", "m1"),
        ];
        let request = Request {
            method: "POST",
            headers: &headers,
            body,
            now: NOW,
        };
        self.config(key).verify(&request).is_ok()
    }
}

fn flipped(bytes: &[u8], at: Index) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    let bit = at.index(bytes.len() * 8);
    changed[bit / 8] ^= 1 << (bit % 8);
    changed
}

proptest! {
    #[test]
    fn a_signed_request_is_believed_and_none_with_a_changed_bit(
        scheme in prop::sample::select(SCHEMES.as_slice()),
        key in any::<[u8; 32]>(),
        body in prop::collection::vec(any::<u8>(), 1..300),
        at in any::<Index>(),
    ) {
        let (key, signature) = scheme.sign(&key, &body);
        prop_assert!(scheme.is_believed(&key, &signature, scheme.time, &body));
        prop_assert!(!scheme.is_believed(&key, &signature, scheme.time, &flipped(&body, at)));
        prop_assert!(!scheme.is_believed(&key, &flipped(&signature, at), scheme.time, &body));
        prop_assert!(!scheme.is_believed(&flipped(&key, at), &signature, scheme.time, &body));
        // Not all bits of a text make a text: those that do not cannot arrive as a header.
        if let Ok(time) = String::from_utf8(flipped(scheme.time.as_bytes(), at)) {
            prop_assert!(!scheme.is_believed(&key, &signature, &time, &body));
        }
    }

    #[test]
    fn no_request_and_no_configuration_causes_a_panic(
        names in prop::collection::vec("stripe-signature|x-sign|webhook-(id|signature|timestamp)", 0..6),
        values in prop::collection::vec("(t=|v1=|v1,|v1a,|[0-9]{10}|[0-9a-f]{64}|[,; ]|\\PC){0,12}", 6),
        template in "(\\[(timestamp|payload|id|url|method|secret|json:/a|header:x|form:sorted|\\PC)\\]|\\PC){0,8}",
        algorithm in "sha1|sha256|sha384|sha512|ed25519|ecdsa-p256-sha256|sha256-plain|token|standard-webhooks",
        secret in "(whsec_|whpk_)?[A-Za-z0-9+/]{0,44}=?",
        body in prop::collection::vec(any::<u8>(), 0..50),
        now in any::<i64>(),
    ) {
        let headers: Vec<(&str, &str)> =
            names.iter().zip(&values).map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let request = Request { method: "POST", headers: &headers, body: &body, now };
        let wild = json!({
            "algorithm": algorithm, "digest": "hex", "secret": secret, "template": template,
            "data": {"signature": {"header": "x-sign"}, "id": {"json": "/id"}},
        });
        let stripe = json!({"preset": "stripe", "secret": "a"});
        let standard = json!({"preset": "standard-webhooks", "secret": "whsec_YWFh"});
        for json in [wild, stripe, standard] {
            if let Ok(config) = Config::parse(&json) {
                prop_assert!(config.verify(&request).is_err());
                let _either = config.request_id(&request);
            }
        }
    }
}
