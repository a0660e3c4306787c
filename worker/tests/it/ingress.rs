//! A server whose database is in memory, and a client that writes bytes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use actionflow_worker::db::{Database, DbError, PgQueue};
use actionflow_worker::ingress::{
    Answer, Failure, FailureKind, Inbound, Ingress, Limits, TrustedProxies, Webhooks, listen,
};
use actionflow_worker::telemetry::Metrics;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than any step of these tests takes, so that a failure ends and says where.
const LIMIT: Duration = Duration::from_secs(60);

/// What the database in memory does with a call.
pub(crate) enum Call {
    Answers(Answer),
    Fails(FailureKind),
    Panics,
}

/// A database in memory: it keeps what it receives and answers from a script, then with 202.
#[derive(Default)]
pub(crate) struct MemoryWebhooks {
    script: Mutex<VecDeque<Call>>,
    received: watch::Sender<Vec<Inbound>>,
    is_held: watch::Sender<bool>,
}

impl MemoryWebhooks {
    pub(crate) fn will(&self, call: Call) {
        self.script.lock().unwrap().push_back(call);
    }

    pub(crate) fn will_answer(&self, status: u16, response: Option<&str>) {
        let response = response.map(str::to_owned);
        self.will(Call::Answers(Answer { status, response }));
    }

    /// Calls do not return before [`Self::release`].
    pub(crate) fn hold(&self) {
        self.is_held.send_replace(true);
    }

    pub(crate) fn release(&self) {
        self.is_held.send_replace(false);
    }

    pub(crate) fn received(&self) -> Vec<Inbound> {
        self.received.borrow().clone()
    }

    pub(crate) async fn arrived(&self, count: usize) {
        let mut received = self.received.subscribe();
        let waiting = received.wait_for(|received| received.len() >= count);
        timeout(LIMIT, waiting).await.expect("it arrives").unwrap();
    }

    fn script(&self) -> MutexGuard<'_, VecDeque<Call>> {
        self.script.lock().unwrap()
    }
}

impl Webhooks for MemoryWebhooks {
    async fn receive(&self, inbound: &Inbound) -> Result<Answer, Failure> {
        self.received
            .send_modify(|received| received.push(inbound.clone()));
        let mut is_held = self.is_held.subscribe();
        is_held.wait_for(|is_held| !is_held).await.unwrap();
        let call = self.script().pop_front();
        match call {
            None => Ok(Answer {
                status: 202,
                response: Some(r#"{"data": {}}"#.to_owned()),
            }),
            Some(Call::Answers(answer)) => Ok(answer),
            Some(Call::Fails(kind)) => Err(Failure {
                kind,
                error: DbError::Silent(Duration::from_secs(1)),
            }),
            Some(Call::Panics) => panic!("a defect"),
        }
    }
}

/// A server under way.
pub(crate) struct Serving {
    pub(crate) webhooks: Arc<MemoryWebhooks>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

/// What differs from one test to the next.
pub(crate) struct Setup {
    pub(crate) limits: Limits,
    pub(crate) calls: usize,
    pub(crate) proxies: &'static str,
    pub(crate) grace: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            calls: 8,
            proxies: "",
            grace: LIMIT,
        }
    }
}

impl Serving {
    pub(crate) async fn start(setup: Setup) -> Self {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (webhooks, metrics) = (Arc::<MemoryWebhooks>::default(), Arc::<Metrics>::default());
        // Asked only for the metrics page, which does without.
        let nowhere = Database::parse("postgres://127.0.0.1:1/nowhere").unwrap();
        let ingress = Ingress {
            webhooks: webhooks.clone(),
            calls: setup.calls,
            proxies: TrustedProxies::parse(setup.proxies).unwrap(),
            limits: setup.limits,
            health: Arc::default(),
            metrics: metrics.clone(),
            queue: Arc::new(PgQueue::new(&nowhere)),
        };
        let stop = CancellationToken::new();
        let serving = tokio::spawn(ingress.serve(listener, stop.clone(), setup.grace));
        Self {
            webhooks,
            metrics,
            address,
            stop,
            serving,
        }
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection {
            stream: TcpStream::connect(self.address).await.unwrap(),
            read: Vec::new(),
        }
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, request: &[u8]) -> Response {
        let mut connection = self.connect().await;
        connection.send(request).await;
        connection.answer().await
    }

    /// Waits until so many webhooks wait for the database.
    pub(crate) async fn queued(&self, count: i64) {
        reaches(&self.metrics.webhooks.queue, count).await;
    }

    /// Waits until so many connections have been accepted and not closed.
    pub(crate) async fn connected(&self, count: i64) {
        reaches(&self.metrics.http_connections, count).await;
    }

    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    pub(crate) async fn ended(self) {
        timeout(LIMIT, self.serving)
            .await
            .expect("the server ends")
            .unwrap();
    }
}

async fn reaches(gauge: &Gauge, count: i64) {
    let waiting = async {
        while gauge.get() != count {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, waiting).await.expect("so many at once");
}

/// The client's side of a connection.
pub(crate) struct Connection {
    stream: TcpStream,
    /// What has arrived and is of the next answer.
    read: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Response {
    /// The value of a header, or an empty text.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| *key == name).map_or("", |(_, v)| v)
    }

    /// The code of an answer in the form of an error.
    pub(crate) fn error_code(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        let error = body["error"].as_object().unwrap();
        assert_eq!((body.as_object().unwrap().len(), error.len()), (1, 2));
        assert!(!error["message"].as_str().unwrap().is_empty());
        error["code"].as_str().unwrap().to_owned()
    }
}

impl Connection {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next answer.
    pub(crate) async fn answer(&mut self) -> Response {
        self.read_answer(true).await
    }

    /// The next answer, which has no body whatever its head says: to HEAD, or a 100.
    pub(crate) async fn answer_without_body(&mut self) -> Response {
        self.read_answer(false).await
    }

    async fn read_answer(&mut self, has_body: bool) -> Response {
        let end = loop {
            match self.read.windows(4).position(|w| w == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => assert!(self.fill().await, "closed after {:?}", self.read),
            }
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap();
        let mut answer = Response {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head,
            body: String::new(),
        };
        let length = answer.header("content-length").parse().unwrap_or(0);
        while has_body && self.read.len() < length {
            assert!(self.fill().await, "closed within the body");
        }
        if has_body {
            answer.body = String::from_utf8(self.read.drain(..length).collect()).unwrap();
        }
        answer
    }

    /// Waits until the server closes, after no further answer.
    pub(crate) async fn closed(&mut self) {
        while self.fill().await {}
        assert!(self.read.is_empty(), "{:?}", self.read);
    }

    /// Whether more has arrived.
    async fn fill(&mut self) -> bool {
        let reading = self.stream.read_buf(&mut self.read);
        match timeout(LIMIT, reading).await.expect("something happens") {
            Ok(count) => count > 0,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A POST with these further header lines, each with its line end.
pub(crate) fn post(headers: &str, body: &str) -> Vec<u8> {
    post_to(
        "afwh_ttttttttttttttttttttttttttttttttttttttttttt",
        headers,
        body,
    )
}

/// The same to the URL with this token.
pub(crate) fn post_to(token: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST /v1/webhooks/{token} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {length}\r\n\r\n{body}")
        .into_bytes()
}
