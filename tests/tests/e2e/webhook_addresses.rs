//! Where a webhook comes from: the connection, or what trusted proxies say of it.

use actionflow_tests::Cluster;
use serde_json::{Value, json};

use crate::webhook_stage::{Sent, Stage, user_mapping};

/// What a hop says, and whether the request is let in by [`allowed`].
const HOPS: &[(u16, &[(&str, &str)])] = &[
    (403, &[]),
    (202, &[("X-Forwarded-For", "203.0.113.9")]),
    (202, &[("X-Forwarded-For", "203.0.113.9:4711")]),
    (202, &[("X-Forwarded-For", "::ffff:203.0.113.9")]),
    (202, &[("X-Forwarded-For", "2001:db8::7")]),
    (202, &[("X-Forwarded-For", "198.51.100.1, 203.0.113.9")]),
    (202, &[("X-Forwarded-For", "unknown, 203.0.113.9")]),
    (
        202,
        &[("X-Forwarded-For", "203.0.113.9, 10.1.2.3, 127.0.0.1")],
    ),
    (
        202,
        &[
            ("X-Forwarded-For", "198.51.100.1"),
            ("X-Forwarded-For", "203.0.113.9"),
        ],
    ),
    (202, &[("Forwarded", "for=203.0.113.9;proto=https")]),
    (202, &[("Forwarded", "for=\"[2001:db8::7]:4711\"")]),
    (202, &[("Forwarded", "for=198.51.100.1, FOR=203.0.113.9")]),
    // What a sender writes stands at the left.
    (403, &[("X-Forwarded-For", "203.0.113.9, 198.51.100.1")]),
    (
        403,
        &[
            ("X-Forwarded-For", "203.0.113.9"),
            ("X-Forwarded-For", "198.51.100.1"),
        ],
    ),
    (403, &[("X-Forwarded-For", "203.0.113.9, unknown")]),
    (403, &[("X-Forwarded-For", "203.0.113.9, ")]),
    (403, &[("X-Forwarded-For", "203.0.113.9, 10.1.2.3x")]),
    (403, &[("Forwarded", "for=203.0.113.9, for=198.51.100.1")]),
    (403, &[("Forwarded", "for=\"203.0.113.9, for=198.51.100.1")]),
    (403, &[("Forwarded", "for=203.0.113.9;for=198.51.100.1")]),
    (403, &[("Forwarded", "by=203.0.113.9")]),
    (
        403,
        &[
            ("X-Real-IP", "203.0.113.9"),
            ("CF-Connecting-IP", "203.0.113.9"),
            ("X-Client-IP", "203.0.113.9"),
        ],
    ),
    // One of them is the sender's own.
    (
        403,
        &[
            ("Forwarded", "for=203.0.113.9"),
            ("X-Forwarded-For", "198.51.100.1"),
        ],
    ),
    (
        403,
        &[
            ("X-Forwarded-For", "203.0.113.9"),
            ("Forwarded", "for=198.51.100.1"),
        ],
    ),
];

fn allowed() -> Value {
    json!({"mapping": user_mapping(), "allowed_ips": ["203.0.113.0/24", "2001:db8::/32"]})
}

fn with_hops(hops: &[(&str, &str)]) -> Sent {
    let sent = Sent::json(&json!({"user": "1"}));
    hops.iter()
        .fold(sent, |sent, (name, value)| sent.header(name, value))
}

#[tokio::test]
async fn t24_behind_a_trusted_proxy_the_address_is_the_last_one_that_is_no_proxy() {
    let stage = Stage::within(Cluster::shared(), |worker| {
        worker.flag("--trusted-proxies", "127.0.0.1, 10.0.0.0/8")
    })
    .await;
    let hook = stage.live(&allowed()).await;
    for (status, hops) in HOPS {
        assert_eq!(
            stage.status(&hook, &with_hops(hops)).await,
            *status,
            "{hops:?}"
        );
    }
    let refused = "select distinct host(remote_addr) from actionflow.webhook_rejections order by 1";
    assert_eq!(
        stage.sql().rows(refused).await,
        ["127.0.0.1", "198.51.100.1", ""],
        "the last is unknown: two headers that differ"
    );
    let reasons = stage.reasons().await.join("\n");
    assert!(reasons.contains("198.51.100.1"), "{reasons}");
}

#[tokio::test]
async fn t24_without_trusted_proxies_the_address_is_that_of_the_connection() {
    let stage = Stage::new().await;
    let elsewhere = stage.live(&allowed()).await;
    let here = stage
        .live(&json!({"mapping": user_mapping(), "allowed_ips": ["::ffff:127.0.0.0/104"]}))
        .await;
    let anywhere = stage
        .live(&json!({"mapping": user_mapping(), "allowed_ips": []}))
        .await;
    for (_, hops) in HOPS {
        let sent = with_hops(hops);
        let refused = stage.send(&elsewhere, &sent).await;
        assert_eq!(refused.status, 403, "{hops:?}");
        assert_eq!(refused.json()["error"]["code"], "forbidden");
        assert_eq!(stage.status(&here, &sent).await, 202, "{hops:?}");
        assert_eq!(stage.status(&anywhere, &sent).await, 202, "{hops:?}");
    }
}
