//! What may be configured, and what is said about the rest.

use actionflow_core::signature::{Config, Request, without_secrets};
use serde_json::{Value, json};

use super::{NOW, base64, config, sha256, verify};

fn base() -> Value {
    json!({
        "algorithm": "sha256", "digest": "hex", "secret": "hush hush", "template": "[payload]",
        "data": {"signature": {"header": "x-sign"}},
    })
}

/// The configuration with other keys at its root.
fn with(more: Value) -> Value {
    let mut json = base();
    let root = json.as_object_mut().expect("an object");
    root.extend(more.as_object().expect("an object").clone());
    json
}

fn mistake(json: &Value) -> (String, String) {
    let error = Config::parse(json).expect_err(&json.to_string());
    for secret in ["hush", "hunter2"] {
        assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");
    }
    let message = error.to_string();
    (
        error.path,
        message
            .strip_prefix("invalid signature configuration: ")
            .expect("the subject")
            .to_owned(),
    )
}

/// Keys laid over [`base`], the path that the error names, and what it says.
const MISTAKES: &str = r#"{"data": {}} | $.data | key "signature" is missing
{"algorithm": null} | $ | key "algorithm" is missing
{"digest": null} | $ | key "digest" is missing
{"template": null} | $ | key "template" is missing
{"data": null} | $ | key "data" is missing
{"data": {"signature": {}}} | $.data.signature | key "header" is missing
{"tolerence": 3} | $ | unknown key "tolerence"
{"data": {"signature": {"header": "a", "prefix": "b"}}} | $.data.signature | unknown key "prefix"
{"algorithm": "hunter2"} | $.algorithm | unknown algorithm
{"algorithm": "md5"} | $.algorithm | unknown algorithm
{"digest": "binary"} | $.digest | unknown digest
{"template": ""} | $.template | the template is empty
{"template": "[payload"} | $.template | a token of the template does not end
{"template": "[body]"} | $.template | unknown token "[body]" in the template
{"template": "[payload][payload]"} | $.template | the template has the body twice
{"template": "x"} | $.template | the body is not signed
{"signsBody": false} | $.template | "signsBody" is false and the body is signed
{"template": "[timestamp].[payload]"} | $.template | [timestamp] has no source
{"template": "[id].[payload]"} | $.template | [id] has no source
{"template": "[secret][payload]"} | $.template | [secret] belongs to the algorithm "sha256-plain" and only there
{"algorithm": "sha256-plain"} | $.template | [secret] belongs to the algorithm "sha256-plain" and only there
{"template": "[url][payload]"} | $ | key "url" is missing
{"url": "https://example.com"} | $.template | "url" is not signed
{"url": "example.com"} | $.url | the url is not an http or https address
{"urlDecode": "all"} | $.urlDecode | unknown decoding of the url
{"urlDecode": "hubspot"} | $ | key "url" is missing
{"template": "[header:a b][payload]"} | $.template | the header's name cannot be used
{"template": "[json:a][payload]"} | $.template | the JSON pointer cannot be read
{"template": "[header:a][payload]"} | $.template | two values stand side by side, so that the end of one could be signed as the beginning of the other
{"template": "[json:/a][payload]"} | $.template | two values stand side by side, so that the end of one could be signed as the beginning of the other
{"template": "[header:a][json:/b].[payload]"} | $.template | two values stand side by side, so that the end of one could be signed as the beginning of the other
{"template": "[form:sorted][header:a]"} | $.template | two values stand side by side, so that the end of one could be signed as the beginning of the other
{"template": "[id][payload]", "data": {"signature": {"header": "a"}, "id": {"header": "b"}}} | $.template | two values stand side by side, so that the end of one could be signed as the beginning of the other
{"template": "[json:/a~2][payload]"} | $.template | the JSON pointer cannot be read
{"tolerance": 5} | $.tolerance | there is no timestamp
{"toleranceFuture": 5} | $.toleranceFuture | there is no timestamp
{"tolerance": -1} | $.tolerance | -1 is out of range
{"tolerance": "5"} | $.tolerance | expected a whole number, got a string
{"data": {"signature": {"header": "a"}, "timestamp": {"header": "b"}}} | $.template | the timestamp is not signed
{"data": {"signature": {"header": "a"}, "timestamp": {"header": "b"}}, "tolerance": 0} | $.template | the timestamp is not signed
{"data": {"signature": {"header": "a"}, "timestamp": {"header": "b", "format": "m"}}} | $.data.timestamp.format | unknown format of a timestamp
{"data": {"signature": {"header": "a"}, "timestamp": {"json": "/b", "parsePrefix": "t="}}} | $.data.timestamp | a timestamp in the body is a whole value
{"data": {"signature": {"header": "é"}}} | $.data.signature.header | the header's name cannot be used
{"data": {"signature": {"header": ""}}} | $.data.signature.header | the header's name cannot be used
{"data": {"signature": {"header": "a", "json": "/a"}}} | $.data.signature.json | there is another source already
{"data": {"signature": {"headers": []}}} | $.data.signature.headers | expected an array of 1 to 10 strings, got an array
{"data": {"signature": {"headers": ["a", 3]}}} | $.data.signature.headers[1] | expected a string, got a number
{"data": {"signature": {"header": "a", "parsePrefix": ""}}} | $.data.signature.parsePrefix | the prefix cannot be used
{"data": {"signature": {"header": "a", "parsePrefix": ",v1"}}} | $.data.signature.parsePrefix | the prefix begins with a separator, so that nothing could match
{"data": {"signature": {"header": "a", "position": 1}}} | $.data.signature.position | a position needs a "separator"
{"data": {"signature": {"header": "a", "separator": ",,"}}} | $.data.signature.separator | the separator is not one character
{"data": {"signature": {"header": "a", "separator": ",", "parsePrefix": "b"}}} | $.data.signature.separator | there is a "parsePrefix" already
{"data": {"signature": {"header": "a"}, "id": {"header": "b", "json": "/c"}}} | $.data.id.json | there is another source already
{"secret": 3} | $.secret | expected a string or an object, got a number
{"secret": "hunter2\n"} | $.secret | the secret has white space around it, or a NUL inside
{"secret": "hunter2\u0000x"} | $.secret | the secret has white space around it, or a NUL inside
{"secret": "whpk_hunter2"} | $.secret | the secret is a key for another algorithm
{"secret": "-----BEGIN PUBLIC KEY-----hunter2"} | $.secret | the secret is a key for another algorithm
{"secretEncoding": "base32"} | $.secretEncoding | unknown encoding
{"secretEncoding": "hex"} | $.secret | the secret does not have the form that secretEncoding says
{"secretEncoding": "base64", "secret": "hunter2"} | $.secret | the secret does not have the form that secretEncoding says
{"secretEncoding": "base64", "secretPrefix": "whsec_", "secret": "whsec_"} | $.secret | the secret is empty
{"secrets": "hunter2"} | $.secrets | expected an array of secrets, got a string
{"secrets": ["", "", "", "", "", "", "", "", "", "hunter2"]} | $.secrets | the number of secrets is over the limit of 10
{"secrets": ["a", {"secret": "b", "id": 3}]} | $.secrets[1] | unknown key "id"
{"secrets": [{"secret": "hunter2", "notAfter": "soon"}]} | $.secrets[0].notAfter | the time cannot be read
{"secrets": [{"notBefore": "2026-01-02", "notAfter": "2026-01-01"}]} | $.secrets[0].notAfter | the secret ends before it begins
{"algorithm": "token"} | $.digest | a token is compared as it is, from a header
{"algorithm": "token", "digest": null} | $.template | a token is compared as it is, from a header
{"algorithm": "standard-webhooks"} | $.digest | Standard Webhooks says what this is
{"algorithm": "ed25519", "secret": "hunter2"} | $.secret | the public key has no encoding
{"algorithm": "ed25519", "secretEncoding": "hex", "secret": "00"} | $.secret | the public key does not have 32 bytes
{"algorithm": "ecdsa-p256-sha256", "secretEncoding": "hex", "secret": "00"} | $.secret | the public key is not an uncompressed key on P-256"#;

#[test]
fn mistakes_name_their_place() {
    for line in MISTAKES.lines() {
        let [more, path, message]: [&str; 3] =
            line.split(" | ").collect::<Vec<_>>().try_into().unwrap();
        let more = serde_json::from_str(more).unwrap();
        assert_eq!(
            mistake(&with(more)),
            (path.to_owned(), message.to_owned()),
            "{line}"
        );
    }
    assert_eq!(mistake(&json!(3)).1, "expected an object, got a number");
}

#[test]
fn sizes_are_limited() {
    let template =
        |more: &str, times| with(json!({"template": format!("[payload]{}", more.repeat(times))}));
    for (json, message) in [
        (
            template("x", 2048),
            "the template is over the limit of 2048 bytes",
        ),
        (
            template("[method]", 40),
            "the template is over the limit of 40 parts",
        ),
        (
            template("[header:x]", 9),
            "the number of headers in the template is over the limit of 8",
        ),
        (
            with(json!({"note": "x".repeat(2001)})),
            "the note is over the limit of 2000 bytes",
        ),
        (
            with(json!({"secret": "x".repeat(4097)})),
            "the secret is over the limit of 4096 bytes",
        ),
    ] {
        assert_eq!(mistake(&json).1, message);
    }
    config(&template(".[header:x]", 8));
    config(&template("[method]", 39));
}

#[test]
fn values_whose_border_is_known_may_stand_side_by_side() {
    let data = json!({
        "signature": {"header": "x-sign"}, "timestamp": {"header": "x-time"}, "id": {"header": "x-id"},
    });
    let template = |template: &str| with(json!({"data": data, "template": template}));
    for text in [
        "[id][timestamp][payload]",
        "[timestamp][json:/a][method].[payload]",
        "[payload][header:x-a].[timestamp]",
        "[id].[timestamp].[payload]",
    ] {
        config(&template(text));
    }
    let url = json!({"template": "[header:x-a][url][payload]", "url": "https://example.com"});
    config(&with(url));
}

#[test]
fn secrets_are_read_as_they_are_written() {
    let signature = hex::encode(sha256(b"key!", b"x"));
    let cases = [
        json!({"secret": "key!"}),
        json!({"secret": "6b657921", "secretEncoding": "hex"}),
        json!({"secret": "a2V5IQ==", "secretEncoding": "base64"}),
        json!({"secret": "a2V5IQ", "secretEncoding": "base64url"}),
        json!({"secret": "whsec_a2V5IQ==", "secretEncoding": "base64", "secretPrefix": "whsec_"}),
        json!({"secret": "a2V5IQ==", "secretEncoding": "base64", "secretPrefix": "whsec_"}),
        json!({"secret": null, "secrets": ["other", "key!"]}),
        json!({"secret": "other", "secrets": ["", {"secret": "key!", "notBefore": "2020-01-01"}]}),
    ];
    for more in cases {
        let config = config(&with(more.clone()));
        assert_eq!(
            verify(&config, &[("x-sign", &signature)], b"x"),
            Ok(()),
            "{more}"
        );
        assert_eq!(config.require_secret(), Ok(()));
    }
    let text = config(&with(json!({"secret": "whsec_key!"})));
    assert!(
        verify(&text, &[("x-sign", &signature)], b"x").is_err(),
        "without secretPrefix the text is the key"
    );
}

#[test]
fn the_tolerance_may_differ_by_side() {
    let data = json!({"signature": {"header": "x-sign"}, "timestamp": {"header": "x-time"}});
    let signature = hex::encode(sha256(b"hush hush", b"1700000000x"));
    let headers = [("x-sign", signature.as_str()), ("x-time", "1700000000")];
    let is_good = |more: Value, seconds: i64| {
        let mut json = with(json!({"data": data, "template": "[timestamp][payload]"}));
        json.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        super::verify_at(&config(&json), &headers, b"x", NOW + seconds * 1_000_000).is_ok()
    };
    for (more, past, future) in [
        (json!({}), 300, 300),
        (json!({"tolerance": 10}), 10, 10),
        (json!({"tolerance": 10, "toleranceFuture": 20}), 10, 20),
        (json!({"toleranceFuture": 20}), 300, 20),
    ] {
        assert!(
            is_good(more.clone(), past) && !is_good(more.clone(), past + 1),
            "{more}"
        );
        assert!(
            is_good(more.clone(), -future) && !is_good(more.clone(), -future - 1),
            "{more}"
        );
    }
    assert!(
        is_good(json!({"tolerance": 0}), 1_000_000) && is_good(json!({"tolerance": 0}), -1_000_000)
    );
    assert!(!is_good(json!({"tolerance": 0, "toleranceFuture": 1}), -2));
}

#[test]
fn a_request_has_an_id_or_none() {
    let id = |source: Value, headers: &[(&str, &str)], body: &str| {
        let json = with(json!({"data": {"signature": {"header": "x-sign"}, "id": source}}));
        let request = Request {
            method: "POST",
            headers,
            body: body.as_bytes(),
            now: NOW,
        };
        config(&json).request_id(&request)
    };
    let header = json!({"header": "X-Id"});
    let (long, longer) = ("x".repeat(200), "x".repeat(201));
    for (value, expected) in [
        ("abc", Some("abc")),
        (" abc ", Some("abc")),
        (&long, Some(&long)),
        ("", None),
        (" ", None),
        (&longer, None),
        ("é", None),
        ("a\0", None),
    ] {
        assert_eq!(
            id(header.clone(), &[("x-id", value)], "").as_deref(),
            expected,
            "{value}"
        );
    }
    assert_eq!(id(header.clone(), &[], ""), None);
    assert_eq!(
        id(header.clone(), &[("x-id", "a"), ("X-ID", "a")], "").as_deref(),
        Some("a")
    );
    assert_eq!(id(header, &[("x-id", "a"), ("X-ID", "b")], ""), None);
    for (body, expected) in [
        (r#"{"a": {"id": "x"}}"#, Some("x")),
        (
            r#"{"a": {"id": 12345678901234567890123}}"#,
            Some("12345678901234567890123"),
        ),
        (r#"{"a": {"id": ""}}"#, None),
        (r#"{"a": {"id": "\u0000"}}"#, None),
        (r#"{"a": {"id": {}}}"#, None),
        (r#"{"a": 1}"#, None),
        ("no JSON", None),
        ("", None),
        (r#"{"a": {"id": "é"}}"#, Some("é")),
    ] {
        assert_eq!(
            id(json!({"json": "/a/id"}), &[], body).as_deref(),
            expected,
            "{body}"
        );
    }
    let none = Request {
        method: "POST",
        headers: &[],
        body: b"",
        now: NOW,
    };
    assert_eq!(config(&base()).request_id(&none), None);
}

#[test]
fn handshakes_are_answered_with_the_first_secret() {
    let zoom = config(&json!({"preset": "zoom", "secrets": ["key", "other"]}));
    assert_eq!(zoom.preset(), Some("zoom"));
    assert_eq!(
        zoom.hmac_hex(b"plain token"),
        Some(hex::encode(sha256(b"key", b"plain token")))
    );
    let token = config(&json!({"preset": "token", "secret": "key"}));
    assert_eq!(token.hmac_hex(b"x"), None);
    assert_eq!(token.credential_headers(), ["authorization"]);
    assert!(zoom.credential_headers().is_empty());
}

#[test]
fn a_signature_may_stand_at_a_position() {
    let recurly = config(&json!({"preset": "recurly", "secret": "key"}));
    let good = hex::encode(sha256(b"key", b"1700000000000.x"));
    for (header, is_good) in [
        (format!("1700000000000,{good}"), true),
        (format!("1700000000000,00, {good}"), true),
        (format!("{good},1700000000000"), false),
        (format!("1700000000000;{good}"), false),
    ] {
        assert_eq!(
            verify(&recurly, &[("recurly-signature", &header)], b"x").is_ok(),
            is_good,
            "{header}"
        );
    }
}

#[test]
fn a_public_key_may_verify_the_whole_list_of_a_sender_but_not_more() {
    let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public = base64(ring::signature::KeyPair::public_key(&pair).as_ref());
    let json = with(json!({
        "algorithm": "ed25519", "digest": "base64", "secretEncoding": "base64", "secret": public,
        "data": {"signature": {"header": "x-sign", "parsePrefix": "s="}},
    }));
    let config = config(&json);
    let good = base64(pair.sign(b"x").as_ref());
    let other = base64(&[0; 64]);
    for (count, is_good) in [(0, true), (3, true), (4, false)] {
        let header = format!("{}s={good}", format!("s={other},").repeat(count));
        assert_eq!(
            verify(&config, &[("x-sign", &header)], b"x").is_ok(),
            is_good,
            "{count}"
        );
    }
}

#[test]
fn nothing_shows_a_secret() {
    let json = json!({
        "preset": "square", "secret": "hush", "secrets": ["hush", {"secret": "hush", "notAfter": "2030-01-01"}],
        "url": "https://example.com/v1/webhooks/hush", "tolerance": null,
    });
    assert_eq!(
        without_secrets(&json),
        json!({"preset": "square", "tolerance": null})
    );
    assert_eq!(without_secrets(&json!("hush")), Value::Null);
    assert_eq!(without_secrets(&json!(["hush"])), Value::Null);
    assert_eq!(format!("{:?}", config(&json)), "Config(square)");
    assert_eq!(format!("{:?}", config(&base())), "Config(…)");
}
