//! The HTTP client: what it refuses to reach, what it does not follow, and how much it reads.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actionflow_core::outcome::SendError;
use actionflow_worker::config::AddressPolicy;
use actionflow_worker::deliver::{Client, Limit, Lookup, LookupFuture};
use reqwest::{Method, Request};

use crate::receiver::{Answer, Receiver};

/// Resolves every name to these addresses.
struct FixedLookup(Vec<IpAddr>);

impl Lookup for FixedLookup {
    fn lookup(&self, _host: &str) -> LookupFuture {
        let addresses = self.0.clone();
        Box::pin(async move { Ok(addresses) })
    }
}

fn client(policy: AddressPolicy, addresses: &[&str]) -> Client {
    let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
    Client::with_lookup(policy, Arc::new(FixedLookup(addresses))).unwrap()
}

fn post(url: &str) -> Request {
    let mut request = Request::new(Method::POST, url.parse().unwrap());
    *request.timeout_mut() = Some(Duration::from_secs(5));
    request
}

#[tokio::test]
async fn a_public_name_that_resolves_to_a_private_address_is_never_dialled() {
    let receiver = Receiver::start([]).await;
    let client = client(AddressPolicy::PublicOnly, &["127.0.0.1"]);
    let url = format!("http://hooks.example.com:{}/", receiver.address.port());
    let failure = client.send(post(&url), Limit::START).await.unwrap_err();
    assert_eq!(failure.kind, SendError::AddressRefused);
    assert_eq!(
        failure.message,
        r#"refused to connect to "hooks.example.com": it is at a loopback address"#
    );
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn the_same_name_is_reached_when_private_addresses_are_allowed() {
    let receiver = Receiver::start([]).await;
    let client = client(AddressPolicy::Any, &["127.0.0.1"]);
    let url = format!("http://hooks.example.com:{}/", receiver.address.port());
    assert_eq!(
        client.send(post(&url), Limit::START).await.unwrap().status,
        200
    );
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn an_address_in_the_url_is_never_dialled_however_it_is_spelled() {
    let receiver = Receiver::start([]).await;
    let client = Client::new(AddressPolicy::PublicOnly).unwrap();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "017700000001",
        "[::ffff:127.0.0.1]",
        "localhost",
    ] {
        let url = format!("http://{host}:{}/", receiver.address.port());
        let failure = client.send(post(&url), Limit::START).await.unwrap_err();
        assert_eq!(
            failure.kind,
            SendError::AddressRefused,
            "{host}: {}",
            failure.message
        );
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_its_target_is_never_visited() {
    let target = Receiver::start([]).await;
    for status in [301, 302, 303, 307, 308] {
        let redirect = Answer::with(status, &format!("location: {}", target.url()), "");
        let receiver = Receiver::start([redirect]).await;
        let client = Client::new(AddressPolicy::Any).unwrap();
        assert_eq!(
            client
                .send(post(&receiver.url()), Limit::START)
                .await
                .unwrap()
                .status,
            status
        );
        assert_eq!(receiver.requests().len(), 1);
    }
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn the_start_of_the_answer_is_kept_and_an_endless_one_is_cut() {
    let endless =
        Answer::Endless("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".to_owned());
    let receiver = Receiver::start([endless, Answer::with(200, "retry-after: 7", "short\0")]).await;
    let client = Client::new(AddressPolicy::Any).unwrap();
    let cut = client
        .send(post(&receiver.url()), Limit::START)
        .await
        .unwrap();
    assert_eq!((cut.status, cut.prefix()), (200, "x".repeat(1024)));
    let whole = client
        .send(post(&receiver.url()), Limit::START)
        .await
        .unwrap();
    assert_eq!(
        (
            whole.status,
            whole.prefix().as_str(),
            whole.retry_after.as_deref()
        ),
        (200, "short", Some("7"))
    );
    assert_eq!(
        receiver.connections(),
        2,
        "the connection with the endless answer is not used again"
    );
}

#[tokio::test]
async fn an_answer_that_is_wanted_whole_is_whole_or_said_not_to_be() {
    let header = "content-type: application/json\r\nContent-Type: text/html";
    let script = [
        Answer::with(200, header, &"x".repeat(5000)),
        Answer::with(200, "x: y", &"x".repeat(5001)),
    ];
    let receiver = Receiver::start(script).await;
    let client = Client::new(AddressPolicy::Any).unwrap();
    let limit = Limit::whole(5000);
    let whole = client.send(post(&receiver.url()), limit).await.unwrap();
    assert_eq!((whole.body.len(), whole.is_whole), (5000, true));
    assert_eq!(
        whole.content_type.as_deref(),
        Some("application/json, text/html"),
        "two types are neither of them"
    );
    let cut = client.send(post(&receiver.url()), limit).await.unwrap();
    assert_eq!((cut.body.len(), cut.is_whole), (5000, false));
    assert_eq!(cut.content_type, None);
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let receiver =
        Receiver::start([Answer::with(500, "x: y", "a body"), Answer::status(200)]).await;
    let client = Client::new(AddressPolicy::Any).unwrap();
    for _ in 0..5 {
        client
            .send(post(&receiver.url()), Limit::START)
            .await
            .unwrap();
    }
    assert_eq!((receiver.requests().len(), receiver.connections()), (5, 1));
}

#[tokio::test]
async fn the_timeout_covers_the_body() {
    let stuck = Answer::Text("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_owned());
    let receiver = Receiver::start([stuck, Answer::Hang]).await;
    let client = Client::new(AddressPolicy::Any).unwrap();
    for status in [Some(200), None] {
        let mut request = post(&receiver.url());
        *request.timeout_mut() = Some(Duration::from_millis(100));
        let failure = client.send(request, Limit::START).await.unwrap_err();
        assert_eq!(
            (failure.kind, failure.status),
            (SendError::Timeout, status),
            "{}",
            failure.message
        );
    }
}

#[tokio::test]
async fn what_went_wrong_is_told_without_the_url() {
    let receiver =
        Receiver::start([Answer::Close, Answer::Text("nonsense\r\n\r\n".to_owned())]).await;
    let client = Client::new(AddressPolicy::Any).unwrap();
    let url = format!("{}?key=hidden", receiver.url());
    for _ in 0..2 {
        let failure = client.send(post(&url), Limit::START).await.unwrap_err();
        assert_eq!(failure.kind, SendError::Broken);
        assert!(
            failure.message.starts_with("no answer: ") && !failure.message.contains("hidden"),
            "{}",
            failure.message
        );
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let failure = client
        .send(post(&format!("http://{closed}/?key=hidden")), Limit::START)
        .await
        .unwrap_err();
    assert_eq!(failure.kind, SendError::Connect);
    assert!(
        failure.message.starts_with("could not connect: ") && !failure.message.contains("hidden"),
        "{}",
        failure.message
    );
}
