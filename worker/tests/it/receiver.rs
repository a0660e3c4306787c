//! A real HTTP receiver on loopback. It records what arrives and answers from a script.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// Every value of a header, in order.
    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        match self.headers(name)[..] {
            [value] => value,
            ref other => panic!("{name} arrived as {other:?}"),
        }
    }
}

/// What the receiver does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Writes this text, which is a whole HTTP answer.
    Text(String),
    /// Writes this text and then an endless body.
    Endless(String),
    /// Never answers.
    Hang,
    /// Answers 200 when [`Receiver::release`] is called.
    Hold,
    /// Closes the connection.
    Close,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self::Text(format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n"))
    }

    pub(crate) fn with(status: u16, header: &str, body: &str) -> Self {
        Self::Text(format!(
            "HTTP/1.1 {status} x\r\n{header}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
    }
}

/// A listening receiver; it ends with the test's runtime.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Mutex<VecDeque<Answer>>,
    seen: watch::Sender<Seen>,
    released: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Seen {
    connections: usize,
    requests: Vec<Request>,
}

impl Receiver {
    /// Answers 200 once the script is used up.
    pub(crate) async fn start(script: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(script.into_iter().collect()),
            seen: watch::Sender::default(),
            released: watch::Sender::new(false),
        });
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.seen.send_modify(|seen| seen.connections += 1);
                tokio::spawn(serve(stream, serving.clone()));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Lets every held request be answered.
    pub(crate) fn release(&self) {
        self.shared.released.send_replace(true);
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.seen.borrow().connections
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.seen.borrow().requests.clone()
    }

    /// Waits until so many requests have arrived.
    pub(crate) async fn arrived(&self, count: usize) -> Vec<Request> {
        let mut seen = self.shared.seen.subscribe();
        let seen = seen
            .wait_for(|seen| seen.requests.len() >= count)
            .await
            .unwrap();
        seen.requests.clone()
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await {
        let answer = shared
            .script
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or_else(|| Answer::status(200));
        shared.seen.send_modify(|seen| seen.requests.push(request));
        match answer {
            Answer::Text(text) => stream.write_all(text.as_bytes()).await.unwrap_or_default(),
            Answer::Endless(text) => {
                let mut written = stream.write_all(text.as_bytes()).await;
                while written.is_ok() {
                    written = stream.write_all(&[b'x'; 4096]).await;
                }
                return;
            }
            Answer::Hang => std::future::pending().await,
            Answer::Hold => {
                shared
                    .released
                    .subscribe()
                    .wait_for(|released| *released)
                    .await
                    .unwrap();
                let text = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(text.as_bytes()).await.unwrap_or_default();
            }
            Answer::Close => return,
        }
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let line = lines.remove(0);
    let split = |line: &String| {
        line.split_once(": ")
            .map(|(k, v)| (k.to_lowercase(), v.to_owned()))
    };
    let headers: Vec<_> = lines.iter().filter_map(split).collect();
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, v)| v.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request {
        line,
        headers,
        body,
    })
}
