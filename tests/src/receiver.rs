//! An HTTP endpoint that records what it receives and answers from a script.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::eventually::{PATIENCE, eventually};
use crate::http::{Message, read_request};

/// How the receiver treats one request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// This status, at once.
    Status(u16),
    /// This status with these headers and this body.
    Full(u16, Vec<(String, String)>, String),
    /// No answer, for as long as the client waits.
    Hang,
    /// This status, once the test has called [`Receiver::release`] for it.
    Held(u16),
    /// This status after a time: for what takes long, never for an order of events.
    Slow(u16, Duration),
    /// This status, and then a body without an end.
    Endless(u16),
    /// The connection is closed without an answer.
    Drop,
    /// What the function says about the request.
    By(fn(&Request) -> Self),
    /// Another answer, once the test has called [`Receiver::release`] for it.
    Later(Box<Self>),
    /// Another answer after a time: for what takes long, never for an order of events.
    After(Duration, Box<Self>),
}

impl Answer {
    /// A status with one header.
    pub fn with_header(status: u16, name: &str, value: &str) -> Self {
        Self::Full(
            status,
            vec![(name.to_owned(), value.to_owned())],
            String::new(),
        )
    }

    /// Status 200 with this JSON, as enrich endpoints answer.
    pub fn json(body: &serde_json::Value) -> Self {
        let content_type = ("content-type".to_owned(), "application/json".to_owned());
        Self::Full(200, vec![content_type], body.to_string())
    }
}

/// A request that arrived.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Its path.
    pub path: String,
    /// Its headers in their order, with names as sent.
    pub headers: Vec<(String, String)>,
    /// Its body, byte for byte.
    pub body: Vec<u8>,
    /// When it had arrived whole.
    pub at: SystemTime,
}

impl Request {
    /// The value of a header, its name in any case; empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(present, _)| present.eq_ignore_ascii_case(name))
            .map_or("", |(_, value)| value)
    }

    /// Its `webhook-id`: the delivery's id.
    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    /// Its body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// The id of the customer whom it is about.
    pub fn user_id(&self) -> String {
        self.json()["data"]["user"]["id"]
            .as_str()
            .expect("data.user.id is a string")
            .to_owned()
    }
}

#[derive(Debug, Default)]
struct State {
    requests: Vec<Request>,
    scripts: HashMap<String, VecDeque<Answer>>,
    defaults: HashMap<String, Answer>,
    in_flight: HashMap<String, usize>,
    most_in_flight: HashMap<String, usize>,
    faults: Vec<String>,
}

/// A server on a loopback port. Unscripted requests are answered with 200.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    held: Arc<Semaphore>,
    serving: Option<tokio::task::JoinHandle<()>>,
}

impl Receiver {
    /// A receiver on a port that the system chooses.
    pub async fn new() -> Self {
        let mut receiver = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            state: Arc::default(),
            held: Arc::new(Semaphore::new(0)),
            serving: None,
        };
        receiver.open().await;
        receiver
    }

    /// Listens, on the same port as before when there was one.
    pub async fn open(&mut self) {
        let listener = listen(self.address)
            .unwrap_or_else(|error| panic!("cannot listen on {}: {error}", self.address));
        self.address = listener.local_addr().expect("a listener has an address");
        self.serving = Some(tokio::spawn(serve(
            listener,
            self.state.clone(),
            self.held.clone(),
        )));
    }

    /// Stops listening and breaks every connection, as a network does that goes away.
    pub async fn close(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            // The answer is always that it was aborted.
            let _ = serving.await;
        }
        self.state().in_flight.clear();
    }

    /// The URL of `path` here.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The answers to the next requests for `path`, in turn.
    pub fn script(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        self.state()
            .scripts
            .entry(path.to_owned())
            .or_default()
            .extend(answers);
    }

    /// The answer to every request for `path` that no script covers.
    pub fn always(&self, path: &str, answer: Answer) {
        self.state().defaults.insert(path.to_owned(), answer);
    }

    /// Lets `count` requests go on that are, or will be, [`Answer::Held`].
    pub fn release(&self, count: usize) {
        self.held.add_permits(count);
    }

    /// Takes back what was released and nobody has needed.
    pub fn hold(&self) {
        self.held.forget_permits(usize::MAX);
    }

    /// Every request for `path` until now.
    pub fn requests(&self, path: &str) -> Vec<Request> {
        self.state()
            .requests
            .iter()
            .filter(|request| request.path == path)
            .cloned()
            .collect()
    }

    /// Every request until now.
    pub fn all(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// How many requests for `path` wait for their answer.
    pub fn in_flight(&self, path: &str) -> usize {
        self.state().in_flight.get(path).copied().unwrap_or(0)
    }

    /// The most requests for `path` that ever waited at once.
    pub fn most_in_flight(&self, path: &str) -> usize {
        self.state().most_in_flight.get(path).copied().unwrap_or(0)
    }

    /// Waits for `count` requests for `path`, and returns them all.
    pub async fn wait_for(&self, path: &str, count: usize) -> Vec<Request> {
        eventually(PATIENCE, async || {
            let requests = self.requests(path);
            if requests.len() >= count {
                Ok(requests)
            } else {
                Err(format!("{} of {count} requests for {path}", requests.len()))
            }
        })
        .await
    }

    /// Waits for the only request for `path`.
    pub async fn wait_for_one(&self, path: &str) -> Request {
        let mut requests = self.wait_for(path, 1).await;
        assert_eq!(requests.len(), 1, "more than one request: {requests:#?}");
        requests.remove(0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
        let faults = std::mem::take(&mut self.state().faults);
        if !std::thread::panicking() {
            assert!(
                faults.is_empty(),
                "requests that were not HTTP: {faults:#?}"
            );
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("nobody panics with the state in hand")
}

/// A listener whose port can be taken again while old connections linger.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// Accepts connections. They belong to this future: dropping it breaks them all.
async fn serve(listener: TcpListener, state: Arc<Mutex<State>>, held: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(converse(stream, state.clone(), held.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(stream: TcpStream, state: Arc<Mutex<State>>, held: Arc<Semaphore>) {
    let mut stream = BufReader::new(stream);
    loop {
        match read_request(&mut stream).await {
            Ok(Some(message)) => {
                let path = message.path.clone();
                let is_last = message.headers.iter().any(|(name, value)| {
                    name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case("close")
                });
                let answer = record(&state, message);
                let written = reply(&mut stream, answer, &held).await;
                if let Some(count) = lock(&state).in_flight.get_mut(&path) {
                    *count = count.saturating_sub(1);
                }
                if is_last || !matches!(written, Ok(true)) {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                lock(&state).faults.push(error.to_string());
                return;
            }
            // A client that goes away, or was killed, is what some tests are about.
            Ok(None) | Err(_) => return,
        }
    }
}

fn record(state: &Mutex<State>, message: Message) -> Answer {
    let mut state = lock(state);
    let path = message.path.clone();
    let Message {
        method,
        path: target,
        headers,
        body,
    } = message;
    state.requests.push(Request {
        method,
        path: target,
        headers,
        body,
        at: SystemTime::now(),
    });
    let count = state.in_flight.entry(path.clone()).or_default();
    *count += 1;
    let now = *count;
    let most = state.most_in_flight.entry(path.clone()).or_default();
    *most = now.max(*most);
    let scripted = state.scripts.get_mut(&path).and_then(VecDeque::pop_front);
    let answer = scripted
        .or_else(|| state.defaults.get(&path).cloned())
        .unwrap_or(Answer::Status(200));
    match (answer, state.requests.last()) {
        (Answer::By(function), Some(request)) => function(request),
        (answer, _) => answer,
    }
}

/// Waits for what an answer waits for.
async fn when_due(mut answer: Answer, held: &Semaphore) -> io::Result<Answer> {
    loop {
        answer = match answer {
            Answer::Later(next) => {
                held.acquire().await.map_err(io::Error::other)?.forget();
                *next
            }
            Answer::After(delay, next) => {
                tokio::time::sleep(delay).await;
                *next
            }
            now => return Ok(now),
        };
    }
}

/// Answers one request; `false` when the connection is done with.
async fn reply(
    stream: &mut BufReader<TcpStream>,
    answer: Answer,
    held: &Semaphore,
) -> io::Result<bool> {
    let (status, headers, body) = match when_due(answer, held).await? {
        Answer::Status(status) => (status, Vec::new(), String::new()),
        Answer::Full(status, headers, body) => (status, headers, body),
        Answer::Slow(status, delay) => {
            tokio::time::sleep(delay).await;
            (status, Vec::new(), String::new())
        }
        Answer::Held(status) => {
            held.acquire().await.map_err(io::Error::other)?.forget();
            (status, Vec::new(), String::new())
        }
        Answer::Hang => {
            // Ends when the client closes its side.
            read_request(stream).await?;
            return Ok(false);
        }
        Answer::Endless(status) => return answer_endlessly(stream.get_mut(), status).await,
        // The others are none that is due.
        Answer::Drop | Answer::By(_) | Answer::Later(_) | Answer::After(..) => return Ok(false),
    };
    let mut text = format!(
        "HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    text += &body;
    stream.get_mut().write_all(text.as_bytes()).await?;
    Ok(true)
}

/// Sends until the client hangs up.
async fn answer_endlessly(stream: &mut TcpStream, status: u16) -> io::Result<bool> {
    let head = format!("HTTP/1.1 {status} Scripted\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 16, "x".repeat(1 << 16));
    loop {
        stream.write_all(chunk.as_bytes()).await?;
    }
}
