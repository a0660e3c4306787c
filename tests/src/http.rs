//! As much HTTP/1.1 as a receiver that records raw bytes needs.

use std::io::{Error, ErrorKind, Result};

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpStream;

/// A request as it came over the wire.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) method: String,
    pub(crate) path: String,
    /// In their order, names as sent.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// Reads the next request of a connection, or `None` when the client is done.
pub(crate) async fn read_request(
    stream: &mut BufReader<impl AsyncRead + Unpin>,
) -> Result<Option<Message>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Err(Error::new(
            ErrorKind::InvalidData,
            format!("not a request line: {line:?}"),
        ));
    };
    let mut headers = Vec::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let length = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(Ok(0), |(_, value)| value.parse())
        .map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some(Message {
        method,
        path,
        headers,
        body,
    }))
}

/// What a server has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its headers in their order, with names as sent.
    pub headers: Vec<(String, String)>,
    /// Its body, byte for byte.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header, its name in any case; empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(present, _)| present.eq_ignore_ascii_case(name))
            .map_or("", |(_, value)| value)
    }

    /// Its body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Its body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("the answer is not JSON: {self:?}"))
    }

    fn parse(answer: &[u8]) -> Option<Self> {
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&answer[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.filter_map(|line| line.split_once(':'));
        Some(Self {
            status,
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .collect(),
            body: answer[end + 4..].to_vec(),
        })
    }
}

/// The bytes of a request after which the server closes the connection.
pub fn request_bytes(
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    if !matches!(method, "GET" | "HEAD") {
        head += &format!("content-length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    [head.as_bytes(), body].concat()
}

/// Sends a request as it is, and returns the answer after which the server closes the connection.
///
/// # Errors
/// When nobody answers there, or not in HTTP.
pub async fn exchange(address: &str, request: &[u8]) -> Result<Response> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Response::parse(&answer).ok_or_else(|| {
        let answer = String::from_utf8_lossy(&answer);
        Error::new(ErrorKind::InvalidData, format!("not an answer: {answer:?}"))
    })
}

/// GETs `path` from `address` and returns status and body.
///
/// # Errors
/// When nobody answers there, or not in HTTP.
pub async fn get(address: &str, path: &str) -> Result<(u16, String)> {
    let response = exchange(address, &request_bytes("GET", path, &[], b"")).await?;
    Ok((response.status, response.text()))
}
