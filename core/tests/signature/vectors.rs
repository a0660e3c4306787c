//! Signatures that senders and their libraries publish.

use actionflow_core::signature::{Config, Rejection, Request};
use serde_json::json;

use super::{NOW, config, verify, verify_at};

fn with(preset: &str, secret: &str) -> Config {
    config(&json!({"preset": preset, "secret": secret}))
}

#[test]
fn github_and_whatsapp() {
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let headers = [("X-Hub-Signature-256", signature)];
    let github = with("github", "It's a Secret to Everybody");
    assert_eq!(verify(&github, &headers, b"Hello, World!"), Ok(()));
    assert_eq!(
        verify(&github, &headers, b"Hello, World"),
        Err(Rejection::Mismatch)
    );

    let signature = "sha256=0329a06b62cd16b33eb6792be8c60b158d89a2ee3a876fce9a881ebb488c0914";
    let headers = [("x-hub-signature-256", signature)];
    assert_eq!(verify(&with("meta", "secret"), &headers, b"test"), Ok(()));
}

#[test]
fn slack() {
    let body = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar\
        &user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=\
        &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
        &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let headers = [
        ("X-Slack-Request-Timestamp", "1531420618"),
        (
            "X-Slack-Signature",
            "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        ),
    ];
    let slack = with("slack", "8f742231b10e8888abcd99yyyzzz85a5");
    let now = 1_531_420_618_000_000;
    assert_eq!(verify_at(&slack, &headers, body, now), Ok(()));
    assert_eq!(verify(&slack, &headers, body), Err(Rejection::TooOld));
}

#[test]
fn standard_webhooks_with_a_shared_secret_and_with_a_public_key() {
    let headers = [
        ("webhook-id", "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk"),
        ("webhook-timestamp", "1649367553"),
        (
            "webhook-signature",
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ),
    ];
    let body = br#"{"email":"test@example.com","username":"test_user"}"#;
    let shared = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let now = 1_649_367_553_000_000;
    assert_eq!(
        verify_at(&with("standard-webhooks", shared), &headers, body, now),
        Ok(())
    );

    let headers = [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        (
            "webhook-signature",
            "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
        ),
    ];
    let body = br#"{"test": 2432232314}"#;
    let public = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
    let now = 1_614_265_330_000_000;
    assert_eq!(
        verify_at(&with("standard-webhooks", public), &headers, body, now),
        Ok(())
    );
    let both = config(&json!({"preset": "standard-webhooks", "secrets": [shared, public]}));
    assert_eq!(verify_at(&both, &headers, body, now), Ok(()));
    let wrong = Err(Rejection::Mismatch);
    assert_eq!(
        verify_at(&with("standard-webhooks", shared), &headers, body, now),
        wrong
    );
    assert_eq!(
        verify_at(&both, &headers, br#"{"test": 2432232315}"#, now),
        wrong
    );
}

#[test]
fn paddle_whose_second_signature_is_right() {
    let secret = "pdl_ntf_01hbpjmytsa32fhr36nqgc3kgb_WvRO0eL4Bj9rgYYIBZY6wZhG4EHy9jzh";
    let header = "ts=1696195954;h1=dummy;h1=d96299976a6eb066f484d7fde011ac56fc32b38fc9940bc419d6e537fdc6ef02";
    let headers = [("Paddle-Signature", header)];
    let now = 1_696_195_954_000_000;
    assert_eq!(
        verify_at(&with("paddle", secret), &headers, b"hello-world", now),
        Ok(())
    );
}

#[test]
fn box_with_either_key() {
    let body = br#"{"type":"webhook_event","webhook":{"id":"1234567890"},"trigger":"FILE.UPLOADED","source":{"id":"1234567890","type":"file","name":"Test.txt"}}"#;
    let primary = (
        "Box-Signature-Primary",
        "6TfeAW3A1PASkgboxxA5yqHNKOwFyMWuEXny/FPD5hI=",
    );
    let secondary = (
        "Box-Signature-Secondary",
        "v+1CD1Jdo3muIcbpv5lxxgPglOqMfsNHPV899xWYydo=",
    );
    let time = ("Box-Delivery-Timestamp", "2020-01-01T00:00:00-07:00");
    let now = 1_577_862_000_000_000;
    for (secret, header) in [
        ("SamplePrimaryKey", primary),
        ("SampleSecondaryKey", secondary),
    ] {
        let one = with("box", secret);
        assert_eq!(
            verify_at(&one, &[primary, secondary, time], body, now),
            Ok(())
        );
        assert_eq!(verify_at(&one, &[header, time], body, now), Ok(()));
    }
    let both = json!({"preset": "box", "secrets": ["SamplePrimaryKey", "SampleSecondaryKey"]});
    let late = now + 601_000_000;
    assert_eq!(
        verify_at(&config(&both), &[primary, time], body, late),
        Err(Rejection::TooOld)
    );
    assert_eq!(
        verify_at(
            &with("box", "SamplePrimaryKey"),
            &[secondary, time],
            body,
            now
        ),
        Err(Rejection::Mismatch)
    );
}

#[test]
fn twilio_signs_a_form_in_order() {
    let twilio = config(&json!({
        "preset": "twilio", "secret": "12345", "url": "https://mycompany.com/myapp.php?foo=1&bar=2",
    }));
    let signature = ("X-Twilio-Signature", "GvWf1cFY/Q7PnoempGyD5oXAezc=");
    let form = (
        "Content-Type",
        "application/x-www-form-urlencoded; charset=UTF-8",
    );
    let body = b"To=%2B18005551212&CallSid=CA1234567890ABCDE&Caller=%2B14158675310&Digits=1234&From=%2B14158675310";
    assert_eq!(verify(&twilio, &[signature, form], body), Ok(()));
    let twice = [body.as_slice(), b"&Digits=1234"].concat();
    assert_eq!(
        verify(&twilio, &[signature, form], &twice),
        Ok(()),
        "a repeated value counts once"
    );
    let more = [body.as_slice(), b"&Digits=1"].concat();
    assert_eq!(
        verify(&twilio, &[signature, form], &more),
        Err(Rejection::Mismatch)
    );
    let json = ("Content-Type", "application/json");
    assert_eq!(
        verify(&twilio, &[signature, json], body),
        Err(Rejection::NoForm)
    );
}

#[test]
fn hubspot_without_a_key() {
    let hubspot = config(&json!({
        "preset": "hubspot-v2", "secret": "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy", "url": "https://www.example.com/webhook_uri",
    }));
    let cases = [
        (
            "GET",
            "",
            "eee2dddcc73c94d699f5e395f4b9d454a069a6855fbfa152e91e88823087200e",
        ),
        (
            "POST",
            r#"{"example_field":"example_value"}"#,
            "9569219f8ba981ffa6f6f16aa0f48637d35d728c7e4d93d0d52efaa512af7900",
        ),
    ];
    for (method, body, signature) in cases {
        let headers = [("X-HubSpot-Signature", signature)];
        let request = |method| Request {
            method,
            headers: &headers,
            body: body.as_bytes(),
            now: NOW,
        };
        assert_eq!(hubspot.verify(&request(method)), Ok(()));
        assert_eq!(hubspot.verify(&request("PUT")), Err(Rejection::Mismatch));
    }
}

#[test]
fn adyen_signs_eight_fields() {
    let key = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056";
    let adyen = with("adyen", key);
    let body = |success: &str, reference: &str| {
        let item = json!({
            "pspReference": "7914073381342284", "merchantAccountCode": "TestMerchant", "merchantReference": reference,
            "amount": {"value": 1130, "currency": "EUR"}, "eventCode": "AUTHORISATION", "success": success,
            "additionalData": {"hmacSignature": "coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0="},
        });
        json!({"notificationItems": [{"NotificationRequestItem": item}]}).to_string()
    };
    let reference = "TestPayment-1407325143704";
    assert_eq!(
        verify(&adyen, &[], body("true", reference).as_bytes()),
        Ok(())
    );
    assert_eq!(
        verify(&adyen, &[], body("false", reference).as_bytes()),
        Err(Rejection::Mismatch)
    );
    let border = verify(&adyen, &[], body("true", "a:b").as_bytes());
    assert!(matches!(border, Err(Rejection::Border(_))), "{border:?}");
}

#[test]
fn zendesk_in_today_s_order_and_in_the_older_one() {
    let secret = "HRkRd4BeOAoUkfZr-mhauJT64rvBASlJRoIyPsd3zeA=";
    let now = 1_627_207_200_000_000;
    let headers = |signature| {
        [
            ("X-Zendesk-Webhook-Signature", signature),
            (
                "X-Zendesk-Webhook-Signature-Timestamp",
                "2021-07-25T10:00:00Z",
            ),
        ]
    };
    let body = br#"{"say": "hello"}"#;
    let today = headers("Rry/4TtIdFyawtXXp8QdI6tlAUUQ/5kL1OTp5qo/ZIk=");
    let older = headers("tRDSF7URY8BLCDlaBcQ7FHu051Zk+aAB0NKMP53teMw=");
    let zendesk = with("zendesk", secret);
    assert_eq!(verify_at(&zendesk, &today, body, now), Ok(()));
    assert_eq!(
        verify_at(&zendesk, &older, body, now),
        Err(Rejection::Mismatch)
    );
    let reversed =
        json!({"preset": "zendesk", "secret": secret, "template": "[payload][timestamp]"});
    assert_eq!(verify_at(&config(&reversed), &older, body, now), Ok(()));
}

#[test]
fn the_example_of_the_original_verifies_a_stripe_request() {
    let stripe = config(&json!({
        "algorithm": "sha256", "digest": "hex", "secret": "secret",
        "data": {
            "signature": {"header": "stripe-signature", "parsePrefix": "v1="},
            "timestamp": {"header": "stripe-signature", "parsePrefix": "t="}
        },
        "template": "[timestamp].[payload]",
    }));
    let mac = "49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686";
    for header in [
        format!("t=1700000000,v1={mac}"),
        format!("v1={mac}, t=1700000000"),
        format!("t=1700000000,v1=00{},v1={mac},v0=abc", &mac[2..]),
        format!("t=1700000000,v1=nonsense,v1=,v1={}", mac.to_uppercase()),
    ] {
        let headers = [("Stripe-Signature", header.as_str())];
        assert_eq!(verify(&stripe, &headers, br#"{"a":1}"#), Ok(()), "{header}");
        assert_eq!(
            verify(&stripe, &headers, br#"{"a":2}"#),
            Err(Rejection::Mismatch)
        );
    }
}

/// Algorithm, digest, format of the timestamp, template and signature, for the key `secret` and the body `{"a":1}`.
const OWN: &str = "\
sha256 | hex       | s       | [timestamp].[payload]    | 49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686
sha256 | hex       | s       | v0:[timestamp]:[payload] | 7d06e4dcbb54167f0033658ac8c45abe35b1fa257ff38a448e290762b595f902
sha256 | hex       | s       | [timestamp]:[payload]    | 4f0bff5cd8903c8149837f5187dd1ebbb1ba3fe7acd2a8b61cb3fb91e509a6ad
sha256 | hex       | ms      | [timestamp]:[payload]    | 2771fa9d831c2c34306a777725c9743ffdedaf3030596bc7b488c970ff31f61c
sha256 | base64    | iso8601 | [timestamp][payload]     | YEVoXKkSEY9ncncYgdJ6eZ3bLvYN4pXbfjUjQ88X0x8=
sha256 | base64    | iso8601 | [payload][timestamp]     | CzX/M8hVFWV4zzIbhb39QhP2JnJz+2r6A2DeZqFPjaQ=
sha256 | base64url | iso8601 | [payload][timestamp]     | CzX_M8hVFWV4zzIbhb39QhP2JnJz-2r6A2DeZqFPjaQ
sha1   | hex       | -       | [payload]                | f8446672f033e4b2beafc5ca3a71eafcd2cafb6e
sha256 | base64    | -       | [payload]                | qp4uNXX11wmLbKzNeQiIw21f22M0KnO62i1qUXR6hJQ=
sha256 | hex       | -       | [payload]                | aa9e2e3575f5d7098b6caccd790888c36d5fdb63342a73bada2d6a51747a8494
sha512 | hex       | -       | [payload]                | 42f08c0da01c9a46d4e5663d5f2140526a016507c598182c6769cca2bcf7ba43c395b719b01d288f5ad322564dce1d40ca28ef50b876fc49a33d13d6783114dd";

#[test]
fn templates_formats_and_digests() {
    for line in OWN.lines() {
        let columns: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let [algorithm, digest, format, template, signature] = columns.try_into().unwrap();
        let time = match format {
            "s" => "1700000000",
            "ms" => "1700000000000",
            _ => "2023-11-14T22:13:20Z",
        };
        let mut data = json!({"signature": {"header": "x-signature"}});
        if format != "-" {
            data["timestamp"] = json!({"header": "x-time", "format": format});
        }
        let answer = |secret: &str| {
            let json = json!({
                "algorithm": algorithm, "digest": digest, "secret": secret, "template": template, "data": data,
            });
            let headers = [("X-Signature", signature), ("X-Time", time)];
            verify(&config(&json), &headers, br#"{"a":1}"#)
        };
        assert_eq!(answer("secret"), Ok(()), "{line}");
        assert_eq!(answer("Secret"), Err(Rejection::Mismatch), "{line}");
    }
}
