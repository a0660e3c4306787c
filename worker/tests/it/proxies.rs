//! Where a request came from, as a table.

use actionflow_worker::ingress::TrustedProxies;
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::ingress::{Serving, Setup, post};

const PROXIES: &str = "10.0.0.0/8, 192.0.2.1, 2001:db8:ffff::/48, ::ffff:203.0.113.0/120";

fn source(peer: &str, headers: &[(&str, &str)]) -> String {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let proxies = TrustedProxies::parse(PROXIES).unwrap();
    let source = proxies.source(peer.parse().unwrap(), &map);
    source.map_or_else(|| "unknown".to_owned(), |source| source.to_string())
}

#[test]
fn a_peer_that_is_no_trusted_proxy_is_the_source_whatever_it_says() {
    let headers = [
        ("forwarded", "for=10.0.0.9"),
        ("x-forwarded-for", "10.0.0.9"),
    ];
    assert_eq!(source("198.51.100.7", &headers), "198.51.100.7");
    assert_eq!(source("192.0.2.2", &headers), "192.0.2.2");
    assert_eq!(source("::ffff:198.51.100.7", &headers), "198.51.100.7");
    assert_eq!(source("10.0.0.1", &[]), "10.0.0.1");
}

#[test]
fn x_forwarded_for_is_read_from_the_right_end() {
    for (value, expected) in [
        ("198.51.100.7", "198.51.100.7"),
        ("6.6.6.6, 198.51.100.7", "198.51.100.7"),
        ("6.6.6.6, 198.51.100.7, 10.1.1.1", "198.51.100.7"),
        ("198.51.100.7,192.0.2.1 ,\t10.1.1.1", "198.51.100.7"),
        ("198.51.100.7:4711", "198.51.100.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("2001:DB8:0::7, 2001:db8:ffff::2", "2001:db8::7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("198.51.100.7, ::ffff:10.2.3.4", "198.51.100.7"),
        ("198.51.100.7, 203.0.113.9", "198.51.100.7"),
        // All are ours: the first of them is where it came from.
        ("10.3.3.3, 10.2.2.2", "10.3.3.3"),
        // From here on, what cannot be read: nobody says who it was.
        ("", "unknown"),
        ("unknown", "unknown"),
        ("198.51.100.7,", "unknown"),
        ("198.51.100.7, 10.2.2.2x", "unknown"),
        ("198.51.100.7, spoofed, 10.2.2.2", "unknown"),
        ("198.51.100.7:99999", "unknown"),
        ("198.51.100.7:", "unknown"),
        ("198.51.100.007", "unknown"),
        ("fe80::1%eth0", "unknown"),
        ("[198.51.100.7]", "unknown"),
        ("[2001:db8::7", "unknown"),
        ("[2001:db8::7]4711", "unknown"),
        ("\"198.51.100.7\"", "unknown"),
        ("198.51.100.7 6.6.6.6", "unknown"),
        ("198.51.100.ü", "unknown"),
    ] {
        assert_eq!(
            source("10.0.0.1", &[("x-forwarded-for", value)]),
            expected,
            "{value:?}"
        );
    }
    let lines = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-for", "198.51.100.7, 10.1.1.1"),
    ];
    assert_eq!(
        source("10.0.0.1", &lines),
        "198.51.100.7",
        "the last line is the latest"
    );
    assert_eq!(
        source("::ffff:10.0.0.1", &lines),
        "198.51.100.7",
        "a proxy in its other form"
    );
}

#[test]
fn forwarded_is_read_by_its_grammar_and_from_the_right_end() {
    for (value, expected) in [
        ("for=198.51.100.7", "198.51.100.7"),
        (
            "For=\"198.51.100.7\";proto=https;by=10.0.0.1",
            "198.51.100.7",
        ),
        ("proto=https ; for=198.51.100.7:4711", "198.51.100.7"),
        ("for=6.6.6.6, for=198.51.100.7", "198.51.100.7"),
        (
            "for=6.6.6.6,for=198.51.100.7;host=x,for=10.9.9.9",
            "198.51.100.7",
        ),
        ("for=\"[2001:db8::7]\"", "2001:db8::7"),
        ("for=\"[2001:db8::7]:4711\"", "2001:db8::7"),
        ("for=\"[2001:db8::7]:_port\"", "2001:db8::7"),
        ("for=\"[::ffff:198.51.100.7]\"", "198.51.100.7"),
        // What a sender has left open cannot swallow what the proxies add.
        ("for=\", for=198.51.100.7", "198.51.100.7"),
        ("for=\"6.6.6.6, for=\"[2001:db8::7]\"", "2001:db8::7"),
        // From here on, what cannot be read: nobody says who it was.
        ("", "unknown"),
        ("for=unknown", "unknown"),
        ("for=_hidden", "unknown"),
        ("for=198.51.100.7, for=_hidden, for=10.2.2.2", "unknown"),
        ("proto=https", "unknown"),
        ("198.51.100.7", "unknown"),
        ("for=198.51.100.7;for=6.6.6.6", "unknown"),
        ("for=198.51.100.7;", "unknown"),
        ("for=198.51.100.7;host", "unknown"),
        ("for=198.51.100.7;host=\"a b", "unknown"),
        ("for=198.51.100.7;host=\"a\"b\"", "unknown"),
        ("for=198.51.100.7;ho st=x", "unknown"),
        ("for =198.51.100.7", "unknown"),
        ("for=\"198.51.100.7\\\"\"", "unknown"),
        ("for=198.51.100.7;host=\"x, for=6.6.6.6\"", "unknown"),
        ("for=198.51.100.7;host=\"x, for=6.6.6.6;y=\\\"\"", "unknown"),
    ] {
        assert_eq!(
            source("10.0.0.1", &[("forwarded", value)]),
            expected,
            "{value:?}"
        );
    }
}

#[test]
fn two_headers_that_differ_make_the_source_unknown() {
    let both = |forwarded, other| {
        source(
            "10.0.0.1",
            &[("forwarded", forwarded), ("x-forwarded-for", other)],
        )
    };
    assert_eq!(both("for=198.51.100.7", "198.51.100.7"), "198.51.100.7");
    assert_eq!(
        both("for=198.51.100.7", "10.3.3.3, 198.51.100.7, 10.2.2.2"),
        "198.51.100.7"
    );
    // A proxy writes one of them, and a sender has written the other.
    assert_eq!(both("for=6.6.6.6", "198.51.100.7"), "unknown");
    assert_eq!(both("for=198.51.100.7", "6.6.6.6"), "unknown");
    assert_eq!(both("nonsense", "198.51.100.7"), "unknown");
}

#[test]
fn what_is_no_network_is_named() {
    assert_eq!(
        TrustedProxies::parse("").unwrap(),
        TrustedProxies::default()
    );
    assert_eq!(
        TrustedProxies::parse(" ").unwrap(),
        TrustedProxies::default()
    );
    for text in [
        "localhost",
        "10.0.0.0/33",
        "10.0.0.1,,10.0.0.2",
        "10.0.0.1:80",
        "*",
    ] {
        assert!(TrustedProxies::parse(text).is_err(), "{text}");
    }
    let error = TrustedProxies::parse("10.0.0.1, proxy").unwrap_err();
    assert!(error.contains("\"proxy\""), "{error}");
}

#[tokio::test]
async fn the_source_reaches_the_database() {
    let setup = Setup {
        proxies: "127.0.0.0/8",
        ..Setup::default()
    };
    let serving = Serving::start(setup).await;
    let headers = "x-forwarded-for: 6.6.6.6\r\nX-Forwarded-For: 2001:db8::7, 127.0.0.9\r\n";
    assert_eq!(serving.ask(&post(headers, "{}")).await.status, 202);
    assert_eq!(
        serving.webhooks.received()[0].source.unwrap().to_string(),
        "2001:db8::7"
    );
}
