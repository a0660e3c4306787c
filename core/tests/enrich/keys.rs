//! The endpoint options that hold keys: a mistake is named where it stands, and no key is repeated.

use actionflow_core::endpoint::check_options;
use actionflow_core::jose::{AnswerKey, SetSigner};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::vectors::*;

const OTHER_SECRET_24: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn refused(options: &Value) -> String {
    let error = check_options(options).expect_err("must be refused");
    format!("{} at {}", error.kind, error.path)
}

#[test]
fn every_algorithm_takes_its_keys() {
    let good = [
        ("HS256", SECRET),
        ("HS256", &SECRET["whsec_".len()..]),
        ("RS256", RSA_PUBLIC),
        ("RS256", RSA_PUBLIC_PKCS1),
        ("ES256", EC_PUBLIC),
        ("EdDSA", ED_PUBLIC),
    ];
    for (algorithm, key) in good {
        let options = json!({"answer_key": {"algorithm": algorithm, "key": key, "tolerance_seconds": 0, "issuer": "i"}});
        assert_eq!(check_options(&options), Ok(()), "{options}");
    }
    let good = [
        ("HS256", Value::Null),
        ("RS256", RSA_PRIVATE.into()),
        ("RS256", RSA_PRIVATE_PKCS1.into()),
        ("ES256", EC_PRIVATE.into()),
        ("EdDSA", ED_PRIVATE.into()),
    ];
    for (algorithm, key) in good {
        let options = json!({
            "format": "set",
            "set": {
                "issuer": "https://example.com", "audience": ["a", "b"], "algorithm": algorithm, "key": key, "key_id": "k",
                "event_prefix": "https://example.com/events/"
            }
        });
        assert_eq!(check_options(&options), Ok(()), "{options}");
    }
}

#[test]
fn no_other_key_is_taken_to_verify() {
    const NOT_PUBLIC: &str = "the key is not a public key in PEM form";
    const OTHER: &str = "the key does not fit the algorithm";
    const UNUSABLE: &str = "the key cannot be used";
    const SECRET_FORM: &str = "the secret has the wrong form";
    let cases = [
        ("HS256", "c2hvcnQ=", SECRET_FORM),
        ("HS256", OTHER_SECRET_24, SECRET_FORM),
        ("HS256", RSA_PUBLIC, SECRET_FORM),
        ("HS256", "", SECRET_FORM),
        ("RS256", SECRET, NOT_PUBLIC),
        ("RS256", RSA_PRIVATE, NOT_PUBLIC),
        ("RS256", RSA_PRIVATE_PKCS1, NOT_PUBLIC),
        ("RS256", RSA_1024_PUBLIC, UNUSABLE),
        ("RS256", EC_PUBLIC, OTHER),
        ("RS256", ED_PUBLIC, OTHER),
        ("ES256", RSA_PUBLIC, OTHER),
        ("ES256", RSA_PUBLIC_PKCS1, OTHER),
        ("ES256", P384_PUBLIC, OTHER),
        ("ES256", K256_PUBLIC, OTHER),
        ("ES256", EC_PUBLIC_COMPRESSED, UNUSABLE),
        ("ES256", EC_PRIVATE, NOT_PUBLIC),
        ("EdDSA", EC_PUBLIC, OTHER),
        ("EdDSA", ED_PRIVATE, NOT_PUBLIC),
    ];
    for (algorithm, key, message) in cases {
        let options = json!({"answer_key": {"algorithm": algorithm, "key": key}});
        assert_eq!(
            refused(&options),
            format!("{message} at $.answer_key.key"),
            "{options}"
        );
    }
}

#[test]
fn no_other_key_is_taken_to_sign() {
    const NOT_PRIVATE: &str = "the key is not a private key in PEM form";
    const OTHER: &str = "the key does not fit the algorithm";
    const UNUSABLE: &str = "the key cannot be used";
    let cases = [
        ("HS256", SECRET, "HS256 takes no key of its own"),
        ("RS256", "secret", NOT_PRIVATE),
        ("RS256", RSA_PUBLIC, NOT_PRIVATE),
        ("RS256", RSA_1024_PRIVATE, UNUSABLE),
        ("RS256", EC_PRIVATE, OTHER),
        ("ES256", RSA_PRIVATE, OTHER),
        ("ES256", RSA_PRIVATE_PKCS1, OTHER),
        ("ES256", P384_PRIVATE, OTHER),
        ("ES256", EC_PRIVATE_SEC1, NOT_PRIVATE),
        ("ES256", ENCRYPTED_PRIVATE, NOT_PRIVATE),
        ("EdDSA", EC_PRIVATE, OTHER),
        ("EdDSA", ED_PUBLIC, NOT_PRIVATE),
    ];
    for (algorithm, key, message) in cases {
        let options = json!({"set": {"issuer": "i", "algorithm": algorithm, "key": key}});
        assert_eq!(
            refused(&options),
            format!("{message} at $.set.key"),
            "{options}"
        );
    }
}

#[test]
fn settings_beside_the_key_are_checked_where_they_stand() {
    let answer_key = |key: &str, value: Value| {
        let mut options = json!({"answer_key": {"algorithm": "HS256", "key": SECRET}});
        options["answer_key"][key] = value;
        options
    };
    let set = |key: &str, value: Value| {
        let mut options = json!({"set": {"issuer": "i", "algorithm": "HS256"}});
        options["set"][key] = value;
        options
    };
    let cases = [
        (json!({"answer_key": "x"}), "$.answer_key"),
        (json!({"answer_key": {"key": SECRET}}), "$.answer_key"),
        (
            json!({"answer_key": {"algorithm": "HS256"}}),
            "$.answer_key",
        ),
        (answer_key("kid", json!("k")), "$.answer_key"),
        (answer_key("key", json!(1)), "$.answer_key.key"),
        (
            answer_key("algorithm", json!("none")),
            "$.answer_key.algorithm",
        ),
        (
            answer_key("algorithm", json!("hs256")),
            "$.answer_key.algorithm",
        ),
        (
            answer_key("algorithm", json!(["HS256"])),
            "$.answer_key.algorithm",
        ),
        (
            answer_key("tolerance_seconds", json!(-1)),
            "$.answer_key.tolerance_seconds",
        ),
        (
            answer_key("tolerance_seconds", json!(3601)),
            "$.answer_key.tolerance_seconds",
        ),
        (answer_key("issuer", json!("")), "$.answer_key.issuer"),
        (answer_key("issuer", json!(7)), "$.answer_key.issuer"),
        (json!({"set": {"algorithm": "HS256"}}), "$.set"),
        (json!({"set": {"issuer": "i"}}), "$.set"),
        (
            json!({"set": {"issuer": "i", "algorithm": "RS256"}}),
            "$.set",
        ),
        (set("algorithm", json!("HS512")), "$.set.algorithm"),
        (set("issuer", json!("a\nb")), "$.set.issuer"),
        (set("audience", json!([])), "$.set.audience"),
        (set("audience", json!({})), "$.set.audience"),
        (set("audience", json!(["a", 1])), "$.set.audience[1]"),
        (set("audience", json!(vec!["a"; 51])), "$.set.audience"),
        (set("key_id", json!("")), "$.set.key_id"),
        (set("event_prefix", json!("events/")), "$.set.event_prefix"),
        (set("event_prefix", json!("urn:a b:")), "$.set.event_prefix"),
        (set("other", json!(1)), "$.set"),
    ];
    for (options, path) in cases {
        let error = check_options(&options).expect_err("must be refused");
        assert_eq!(error.path, path, "{options}");
    }
}

#[test]
fn hs256_signs_with_the_endpoints_secret_when_it_is_long_enough() {
    let set = json!({"issuer": "i", "algorithm": "HS256"});
    assert!(SetSigner::parse(&set, Some(SECRET)).is_ok());
    let short = SetSigner::parse(&set, Some(OTHER_SECRET_24)).expect_err("too short");
    assert_eq!(
        short.kind.to_string(),
        "HS256 needs a signing secret of at least 32 bytes"
    );
    let absent = SetSigner::parse(&set, None).expect_err("no secret");
    assert_eq!(absent.kind.to_string(), "key \"secret\" is missing");
    assert_eq!(
        refused(&json!({"set": set, "secret": OTHER_SECRET_24})),
        "HS256 needs a signing secret of at least 32 bytes at $.set.algorithm"
    );
}

#[test]
fn keys_show_themselves_nowhere() {
    let signer = SetSigner::parse(&json!({"issuer": "i", "algorithm": "HS256"}), Some(SECRET));
    assert_eq!(format!("{signer:?}"), "Ok(SetSigner(…))");
    let key = AnswerKey::parse(&json!({"algorithm": "EdDSA", "key": ED_PUBLIC}));
    assert_eq!(format!("{key:?}"), "Ok(AnswerKey(…))");
    for place in [
        "algorithm",
        "key",
        "issuer",
        "tolerance_seconds",
        "audience",
        "event_prefix",
    ] {
        let mut json = json!({"algorithm": "RS256", "key": "hunter2", "issuer": "hunter2"});
        json[place] = "hunter2".into();
        for error in [
            AnswerKey::parse(&json).map(drop),
            SetSigner::parse(&json, Some("hunter2")).map(drop),
        ] {
            let error = error.expect_err("must be refused");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }
}

/// A key of the vectors with some bytes of its DER changed, cut off or repeated.
fn broken_pem() -> impl Strategy<Value = (&'static str, String)> {
    let keys = prop::sample::select(vec![
        ("RS256", RSA_PUBLIC),
        ("RS256", RSA_PUBLIC_PKCS1),
        ("RS256", RSA_PRIVATE),
        ("RS256", RSA_PRIVATE_PKCS1),
        ("ES256", EC_PUBLIC),
        ("ES256", EC_PRIVATE),
        ("EdDSA", ED_PUBLIC),
        ("EdDSA", ED_PRIVATE),
    ]);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (keys, changes, 0usize..40).prop_map(|((algorithm, pem), changes, cut)| {
        let (begin, rest) = pem.split_once("-----\n").expect("PEM");
        let (encoded, end) = rest.split_once("\n-----END").expect("PEM");
        let mut der = STANDARD.decode(encoded.replace('\n', "")).expect("base64");
        for (index, byte) in changes {
            let index = index.index(der.len());
            der[index] = byte;
        }
        der.truncate(der.len().saturating_sub(cut.saturating_sub(20)));
        let encoded = STANDARD.encode(der);
        (algorithm, format!("{begin}-----\n{encoded}\n-----END{end}"))
    })
}

proptest! {
    #[test]
    fn a_broken_key_never_panics((algorithm, key) in broken_pem()) {
        let _is_judged = AnswerKey::parse(&json!({"algorithm": algorithm, "key": key}));
        let _is_judged = SetSigner::parse(&json!({"issuer": "i", "algorithm": algorithm, "key": key}), None);
    }
}

#[test]
fn points_and_keys_of_another_length_are_refused() {
    let cases: [(&str, &[u8], usize); 2] = [
        (
            "ES256",
            b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
            65,
        ),
        ("EdDSA", b"\x06\x03\x2b\x65\x70", 32),
    ];
    for (algorithm, identifier, good) in cases {
        for length in [1, good - 1, good, good + 1] {
            let key = [vec![0, 4], vec![7; length - 1]].concat();
            let info = [element(0x30, identifier), element(0x03, &key)].concat();
            let key = public_pem(&element(0x30, &info));
            let options = json!({"answer_key": {"algorithm": algorithm, "key": key}});
            assert_eq!(
                check_options(&options).is_ok(),
                length == good,
                "{algorithm} {length}"
            );
        }
    }
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("short");
    assert!(length < 0x80, "a length of one byte");
    [&[tag, length], content].concat()
}

fn public_pem(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    format!("-----BEGIN PUBLIC KEY-----\n{encoded}\n-----END PUBLIC KEY-----")
}

/// Recursive readers of such a key overflow the stack, which ends the whole process.
#[test]
fn a_key_that_nests_deeply_is_refused() {
    let mut der = Vec::new();
    while der.len() < 11_000 {
        let length = u16::try_from(der.len()).expect("short");
        let [high, low] = length.to_be_bytes();
        der.splice(0..0, [0x30, 0x82, high, low]);
    }
    let encoded = STANDARD.encode(der);
    for (label, algorithm) in [("PUBLIC KEY", "ES256"), ("RSA PUBLIC KEY", "RS256")] {
        let key = format!("-----BEGIN {label}-----\n{encoded}\n-----END {label}-----");
        assert!(AnswerKey::parse(&json!({"algorithm": algorithm, "key": key})).is_err());
    }
}
