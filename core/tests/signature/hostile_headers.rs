//! Headers as no sender writes them, and those that only look as if.

use actionflow_core::signature::{Rejection, Request};
use serde_json::json;

use super::attacks::{BODY, standard, standard_headers, stripe_json, stripe_mac};
use super::{Headers, SECONDS, base64, config, sha256, verify};

/// What is wrong, and the header; MAC stands for the right signature.
const WRONG: &[(&str, &str)] = &[
    ("empty", ""),
    ("blank", "  "),
    ("time alone", "t=1700000000"),
    ("signature alone", "v1=MAC"),
    ("empty signature", "t=1700000000,v1="),
    ("empty time", "t=,v1=MAC"),
    ("odd number of digits", "t=1700000000,v1=0MAC"),
    ("more behind the signature", "t=1700000000,v1=MAC00"),
    ("another version", "t=1700000000,v0=MAC"),
    ("capital prefix", "t=1700000000,V1=MAC"),
    ("prefix inside", "t=1700000000,xv1=MAC"),
    ("two times", "t=1700000000,t=1700000001,v1=MAC"),
    ("two times, other first", "t=1700000001,t=1700000000,v1=MAC"),
    ("not ASCII", "t=1700000000,v1=é,v1=MAC"),
    ("NUL", "t=1700000000,v1=MAC\0"),
    ("line break", "t=1700000000,\n v1=MAC"),
];

/// Times that are signed: who may sign must still write the time in the one way, and lately.
const WRONG_TIMES: &[&str] = &[
    "+1700000000",
    " 1700000000",
    "1_700_000_000",
    "1700000000.0",
    "1.7e9",
    "NaN",
    "-170000000",
    "01700000000",
    "1700000000000",
    "1700000000abc",
    "１７００００００００",
    "99999999999999999999999999999999999999999999999999",
    "1699999699",
    "1700000301",
];

#[test]
fn hostile_stripe_headers_are_rejected() {
    let mac = stripe_mac("1700000000", BODY);
    let stripe = config(&stripe_json());
    let answer = |header: &str| verify(&stripe, &[("Stripe-Signature", header)], BODY);
    let good = format!("t=1700000000,v1={mac}");
    assert_eq!(answer(&good), Ok(()));
    for (name, header) in WRONG {
        assert!(answer(&header.replace("MAC", &mac)).is_err(), "{name}");
    }
    assert_eq!(answer(&good[..good.len() - 2]), Err(Rejection::NoSignature));
    let long = Err(Rejection::LongHeader("stripe-signature".to_owned()));
    assert_eq!(answer(&format!("{good},{}", "x".repeat(1 << 20))), long);
    assert_eq!(answer(&format!("{good}{}", ",v1=00".repeat(10_000))), long);
    let many = format!("{good}{}", ",v1=00".repeat(16));
    assert_eq!(answer(&many), Err(Rejection::ManySignatures));
}

#[test]
fn a_signed_time_has_one_spelling_and_is_of_now() {
    let stripe = config(&stripe_json());
    let answer = |time: &str| {
        let header = format!("t={time},v1={}", stripe_mac(time, BODY));
        verify(&stripe, &[("Stripe-Signature", &header)], BODY)
    };
    for time in WRONG_TIMES {
        assert!(answer(time).is_err(), "{time}");
    }
    for time in ["1700000000", "1699999700", "1700000300"] {
        assert_eq!(answer(time), Ok(()), "exactly the tolerance is allowed");
    }
}

#[test]
fn up_to_16_signatures_are_all_tried() {
    let stripe = config(&stripe_json());
    let mac = stripe_mac("1700000000", BODY);
    for place in 0..16 {
        let elements: Vec<&str> = (0..16)
            .map(|at| if at == place { mac.as_str() } else { "00" })
            .collect();
        let header = format!("t=1700000000,v1={}", elements.join(",v1="));
        assert_eq!(
            verify(&stripe, &[("stripe-signature", &header)], BODY),
            Ok(()),
            "{place}"
        );
    }
}

#[test]
fn duplicate_headers_are_all_tried_and_must_agree_on_the_time() {
    let mut json = stripe_json();
    json["data"] = json!({"signature": {"header": "x-sign"}, "timestamp": {"header": "x-time"}});
    let config = config(&json);
    let mac = stripe_mac("1700000000", BODY);
    let time = ("X-Time", "1700000000");
    let cases: [(&Headers<'_>, bool); 8] = [
        (&[("X-Sign", &mac), time], true),
        (&[("X-Sign", "00"), time, ("x-sign", &mac)], true),
        (&[("X-Sign", &mac), time, ("x-sign", "00")], true),
        (&[("X-Sign", &mac), time, time], true),
        (&[("X-Sign", &mac), time, ("x-time", "1700000001")], false),
        (&[("X-Sign", &mac), ("x-time", "1700000001"), time], false),
        (&[("X-Sign", &mac), time, ("x-time", "")], false),
        (&[("X-Sign", &mac)], false),
    ];
    for (headers, is_good) in cases {
        assert_eq!(
            verify(&config, headers, BODY).is_ok(),
            is_good,
            "{headers:?}"
        );
    }
}

#[test]
fn base64_has_one_spelling() {
    let json = json!({
        "algorithm": "sha256", "digest": "base64", "secret": "secret", "template": "[payload]",
        "data": {"signature": {"header": "x-sign"}},
    });
    let config = config(&json);
    let good = "qp4uNXX11wmLbKzNeQiIw21f22M0KnO62i1qUXR6hJQ=";
    assert_eq!(verify(&config, &[("x-sign", good)], BODY), Ok(()));
    let url_safe = good.replace('+', "-").replace('/', "_");
    let stray_bits = good.replace("JQ=", "JR=");
    let without_padding = good.trim_end_matches('=').to_owned();
    let hex = hex::encode(sha256(b"secret", BODY));
    for other in [
        without_padding,
        stray_bits,
        format!("{good}="),
        format!("{good}AAAA"),
        format!("={good}"),
        format!("{good},{good}"),
        hex,
        good.replace("qp", "q p"),
    ] {
        assert_eq!(
            verify(&config, &[("x-sign", &other)], BODY),
            Err(Rejection::NoSignature),
            "{other}"
        );
    }
    assert_eq!(url_safe, good, "this one has neither");
}

#[test]
fn standard_webhooks_elements_do_not_spoil_one_another() {
    let key = b"0123456789abcdef0123456789abcdef";
    let shared = standard(&format!("whsec_{}", base64(key)));
    let mac = base64(&sha256(key, &[b"msg_1.1700000000.", BODY].concat()));
    for before in [
        "",
        "garbage ",
        "v1,a,b ",
        "  ",
        "v1,!!! ",
        "v1 ",
        "v1, ",
        "v1a,AAAA ",
        "v1,AAAA ",
    ] {
        let signature = format!("{before}v1,{mac}");
        assert_eq!(
            verify(&shared, &standard_headers(&signature), BODY),
            Ok(()),
            "{before}"
        );
    }
    // A comparison that stops with the shorter text takes the first of these for right.
    let short = format!("v1,{}", &mac[..4]);
    let no_version = mac.clone();
    let capital = format!("V1,{mac}");
    let other_kind = format!("v1a,{mac}");
    for signature in ["v1,", "v1", "", &short, &no_version, &capital, &other_kind] {
        assert_eq!(
            verify(&shared, &standard_headers(signature), BODY),
            Err(Rejection::NoSignature),
            "{signature}"
        );
    }
}

#[test]
fn methods_are_words() {
    let json = json!({"preset": "hubspot-v2", "secret": "s", "url": "https://example.com/"});
    let config = config(&json);
    for method in ["", "post", "PO ST", "POSTé", "P\0"] {
        let headers = [("x-hubspot-signature", "00".repeat(32))];
        let headers = headers
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let request = Request {
            method,
            headers: &headers,
            body: BODY,
            now: SECONDS,
        };
        assert_eq!(config.verify(&request), Err(Rejection::Method), "{method}");
    }
}

#[test]
fn a_form_of_many_parameters_is_refused() {
    let twilio = config(&json!({"preset": "twilio", "secret": "s", "url": "https://example.com/"}));
    let signature = base64(&[0; 20]);
    let headers = [
        ("x-twilio-signature", signature.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    assert_eq!(
        verify(&twilio, &headers, &b"a&".repeat(1000)),
        Err(Rejection::Mismatch)
    );
    assert_eq!(
        verify(&twilio, &headers, &b"a&".repeat(1001)),
        Err(Rejection::LongForm)
    );
}
