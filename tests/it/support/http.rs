//! A plain HTTP/1.1 client that sends exactly the bytes it is told: what a URL library would mend or refuse must reach the node.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Past this a node that does not answer is a failure, not a wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self { method: method.into(), target: target.into(), headers: Vec::new(), body: None }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn bytes(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").bytes(body.to_string())
    }

    fn encode(&self, host: SocketAddr) -> Vec<u8> {
        let length = self.body.as_ref().map(|body| ("content-length".to_owned(), body.len().to_string()));
        let headers: Vec<String> = self.headers.iter().chain(&length).map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("{} {} HTTP/1.1\r\nhost: {host}\r\n{}\r\n", self.method, self.target, headers.concat());
        [head.as_bytes(), self.body.as_deref().unwrap_or_default()].concat()
    }
}

/// What was answered.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in the answer {}: {:?}", self.status, self.text()))
    }

    /// The answer's JSON, which must come with this status.
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        if self.body.is_empty() { Value::Null } else { self.json() }
    }
}

/// A connection that is kept between requests.
pub(crate) struct Connection {
    host: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) async fn open(host: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        Ok(Self { host, stream: BufReader::new(stream) })
    }

    pub(crate) async fn send(&mut self, request: &Request) -> io::Result<Response> {
        let exchange = async {
            self.write(&request.encode(self.host)).await;
            let (status, headers) = self.read_head().await?;
            let mut response = Response { status, headers, body: Vec::new() };
            if request.method != "HEAD" && !matches!(status, 204 | 304) {
                response.body = self.read_body(&response).await?;
            }
            Ok(response)
        };
        tokio::time::timeout(ANSWER_TIMEOUT, exchange).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// Writes what the node still takes: one that refuses a large body answers and closes before it has read it all.
    async fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.get_mut().write_all(bytes).await;
    }

    /// Sends the request of a stream and gives what follows its head.
    pub(crate) async fn into_stream(mut self, request: &Request) -> io::Result<(Response, Chunks)> {
        self.write(&request.encode(self.host)).await;
        let (status, headers) = tokio::time::timeout(ANSWER_TIMEOUT, self.read_head()).await.map_err(|_| io::ErrorKind::TimedOut)??;
        Ok((Response { status, headers, body: Vec::new() }, Chunks { stream: self.stream }))
    }

    async fn read_head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let status_line = read_line(&mut self.stream).await?;
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let mut headers = Vec::new();
        loop {
            let line = read_line(&mut self.stream).await?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok((status, headers))
    }

    async fn read_body(&mut self, head: &Response) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if head.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = read_chunk(&mut self.stream).await? {
                body.extend(chunk);
            }
        } else if let Some(length) = head.header("content-length").and_then(|length| length.parse().ok()) {
            body.resize(length, 0);
            self.stream.read_exact(&mut body).await?;
        }
        Ok(body)
    }
}

/// The chunks of a body that does not end by itself.
pub(crate) struct Chunks {
    stream: BufReader<TcpStream>,
}

impl Chunks {
    /// The next one; `None` at the body's end, however it ended.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        read_chunk(&mut self.stream).await.ok().flatten()
    }
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

async fn read_chunk(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Vec<u8>>> {
    let size = read_line(stream).await?;
    let size = usize::from_str_radix(&size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut chunk = vec![0; size + 2];
    stream.read_exact(&mut chunk).await?;
    chunk.truncate(size);
    Ok((size > 0).then_some(chunk))
}

/// One node's HTTP, each request on a connection of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Api {
    pub(crate) host: SocketAddr,
}

impl Api {
    pub(crate) async fn try_send(&self, request: &Request) -> io::Result<Response> {
        Connection::open(self.host).await?.send(request).await
    }

    pub(crate) async fn send(&self, request: &Request) -> Response {
        self.try_send(request).await.unwrap_or_else(|error| panic!("{} {}: {error}", request.method, request.target))
    }

    pub(crate) async fn get(&self, target: &str) -> Response {
        self.send(&Request::new("GET", target)).await
    }

    pub(crate) async fn put(&self, target: &str, body: &Value) -> Response {
        self.send(&Request::new("PUT", target).json(body)).await
    }

    pub(crate) async fn post(&self, target: &str, body: &Value) -> Response {
        self.send(&Request::new("POST", target).json(body)).await
    }

    pub(crate) async fn delete(&self, target: &str) -> Response {
        self.send(&Request::new("DELETE", target)).await
    }

    /// What the node says of its cluster, if it answers.
    pub(crate) async fn try_cluster(&self) -> Result<Value, String> {
        let answer = self.try_send(&Request::new("GET", "/v1/cluster")).await.map_err(|error| error.to_string())?;
        if answer.status == 200 { Ok(answer.json()) } else { Err(answer.text()) }
    }

    /// What the node says of its cluster.
    pub(crate) async fn cluster(&self) -> Value {
        self.get("/v1/cluster").await.expect(200)
    }
}
