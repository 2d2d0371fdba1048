//! Connecting: several servers, one of them in use; another takes its place when it does not answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};

use super::tls::{self, Tls, Token};
use super::{Answer, Attempt, BuildError, Client, Error, Query};
use crate::api::problem::Problem;

/// The server of a client that is told none.
pub const SERVER_DEFAULT: &str = "http://127.0.0.1:6878";

/// For a connection to come about: long enough for another continent, short enough to go on to the next server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For an answer to begin, where a call says nothing else.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A stream says something every 10 s; three times that without a byte, and it is dead. So is any other answer.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// No answer is waited for longer: the longest drain, and what it takes to say how it went.
const ANSWER_TIMEOUT_MAX: Duration = Duration::from_mins(6);
/// How often nodes that answer "not now" are asked again, all of them, before giving up: about 3 s in all.
const ROUNDS_MAX: usize = 5;
/// Nodes that do not know enough yet are asked again this often, where that is waited for.
const ASK_WARMING_AGAIN: Duration = Duration::from_millis(500);
/// The largest answer that is read: more than a million instances.
const ANSWER_BYTES_MAX: usize = 512 << 20;

/// What a client is told before its first call.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    servers: Vec<String>,
    name: Option<String>,
    tls: Tls,
    token: Option<Token>,
    warming: Option<(Duration, OnWait)>,
}

/// Is given the sentence in which a node says what it waits for.
type OnWait = fn(&str);

impl Builder {
    /// Nodes of the cluster, like `http://10.0.0.1:6878`; those after the first are for when it does not answer.
    #[must_use]
    pub fn servers<T: Into<String>>(mut self, servers: impl IntoIterator<Item = T>) -> Self {
        self.servers.extend(servers.into_iter().map(Into::into));
        self
    }

    /// How this program calls itself to the registry, like `cart/1.4`; shown among a service's subscribers.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Whom to trust, and what to show, where a server is `https://`.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// Says who calls: sent to every server with every request, as `Authorization: Bearer`.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Token(token.into()));
        self
    }

    /// How long a call goes on asking nodes that do not know enough yet (503 `warming`); `on_wait` is given the reason, once for each call.
    /// Without this a call gives up after about 3 s.
    #[must_use]
    pub fn wait_while_warming(mut self, limit: Duration, on_wait: fn(&str)) -> Self {
        self.warming = Some((limit, on_wait));
        self
    }

    /// A client; it connects with its first call.
    ///
    /// # Errors
    /// [`BuildError`] when a server's address cannot be one, or the token cannot be sent.
    pub fn build(self) -> Result<Client, BuildError> {
        let servers = self.servers.iter().map(|text| to_url(text)).collect::<Result<Vec<_>, _>>()?;
        if servers.is_empty() {
            return Err(BuildError::NoServer);
        }
        let name = self.name.unwrap_or_else(|| concat!("muster/", env!("CARGO_PKG_VERSION")).to_owned());
        let http = to_http(&servers, &self.tls, self.token.as_ref(), SILENCE_MAX)?;
        let patient = to_http(&servers, &self.tls, self.token.as_ref(), ANSWER_TIMEOUT_MAX)?;
        let connection = Connection { http, patient, servers, current: AtomicUsize::new(0), name, warming: self.warming };
        Ok(Client { connection: Arc::new(connection) })
    }
}

/// A server as it may be written: with a scheme or without.
fn to_url(text: &str) -> Result<Url, BuildError> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    match Url::parse(&whole) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() && url.path() == "/" && url.query().is_none() => Ok(url),
        Ok(_) | Err(_) => Err(BuildError::Server(text.to_owned())),
    }
}

fn to_http(servers: &[Url], tls: &Tls, token: Option<&Token>, silence_max: Duration) -> Result<reqwest::Client, BuildError> {
    let has_secure_server = servers.iter().any(|url| url.scheme() == "https");
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(tls.to_config(has_secure_server)?)
        .default_headers(token.map(to_headers).transpose()?.unwrap_or_default())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(silence_max)
        .tcp_nodelay(true);
    // A node never sends us elsewhere; who tries is no node.
    http.redirect(reqwest::redirect::Policy::none()).build().map_err(|error| BuildError::Tls(error.to_string()))
}

fn to_headers(token: &Token) -> Result<HeaderMap, BuildError> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.0)).map_err(|_| BuildError::Token)?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

/// The servers, and which of them is in use.
#[derive(Debug)]
pub(super) struct Connection {
    http: reqwest::Client,
    /// For answers that may take longer than a stream may be silent.
    patient: reqwest::Client,
    servers: Vec<Url>,
    current: AtomicUsize,
    name: String,
    /// How long nodes that warm are asked again, and who learns of it.
    warming: Option<(Duration, OnWait)>,
}

/// One request, as it is sent to whichever server is in use. Safe to repeat.
#[derive(Debug)]
pub(super) struct Call<'a> {
    method: Method,
    path: &'a [&'a str],
    query: Query,
    body: Option<Vec<u8>>,
    timeout: Duration,
    headers: Vec<(&'static str, String)>,
}

impl<'a> Call<'a> {
    pub(super) fn get(path: &'a [&'a str], query: Query) -> Self {
        Self { method: Method::GET, path, query, body: None, timeout: ANSWER_TIMEOUT, headers: Vec::new() }
    }

    pub(super) fn delete(path: &'a [&'a str], query: Query) -> Self {
        Self { method: Method::DELETE, path, query, body: None, timeout: ANSWER_TIMEOUT, headers: Vec::new() }
    }

    pub(super) fn put(path: &'a [&'a str], query: Query, body: Vec<u8>) -> Self {
        Self { method: Method::PUT, path, query, body: Some(body), timeout: ANSWER_TIMEOUT, headers: Vec::new() }
    }

    /// The same with another time for its answer to begin; then the next server is asked.
    pub(super) fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same with one header more; one that cannot be sent makes the call fail.
    pub(super) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// It is sent with a body.
    pub(super) fn has_body(&self) -> bool {
        self.body.is_some()
    }

    #[cfg(test)]
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn post(path: &'a [&'a str], query: Query, body: Vec<u8>) -> Self {
        Self { method: Method::POST, path, query, body: Some(body), timeout: ANSWER_TIMEOUT, headers: Vec::new() }
    }
}

/// An answer that is a success, whole.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) server: String,
    body: Vec<u8>,
}

impl Reply {
    pub(super) fn into_answer<T: serde::de::DeserializeOwned>(self) -> Result<Answer<T>, Error> {
        match serde_json::from_slice(&self.body) {
            Ok(value) => Ok(Answer { value, body: self.body, server: self.server }),
            Err(error) => Err(Error::Foreign { server: self.server, what: format!("its answer cannot be read: {error}"), status: None }),
        }
    }
}

/// Why one server could not serve a call.
enum Failed {
    /// It did not answer: the next one may.
    Silent(Attempt),
    /// It answers, but not now: the next one may, or itself in a while.
    NotNow(Error),
    /// It failed, or what stands before it did: the next one may answer.
    Broken(Error),
    /// It said no, and so would the others.
    Final(Error),
}

/// Why no server could serve a call.
struct Missed {
    error: Error,
    /// Asking all of them again in a while may help.
    again: bool,
}

impl Connection {
    /// Asks the server in use, then the others; and all of them again while one says "not now".
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Reply, Error> {
        let mut waits = backoff().with_max_times(ROUNDS_MAX).build();
        let (limit, on_wait) = self.warming.unwrap_or((Duration::ZERO, |_| ()));
        let mut waited = Duration::ZERO;
        loop {
            let missed = match self.send_once(call).await {
                Ok(reply) => return Ok(reply),
                Err(missed) => missed,
            };
            if let (true, Some(why)) = (waited < limit, missed.error.warming_reason()) {
                if waited.is_zero() {
                    on_wait(why);
                }
                tokio::time::sleep(ASK_WARMING_AGAIN).await;
                waited += ASK_WARMING_AGAIN;
                continue;
            }
            match waits.next() {
                Some(wait) if missed.again => tokio::time::sleep(wait).await,
                _ => return Err(missed.error),
            }
        }
    }

    async fn send_once(&self, call: &Call<'_>) -> Result<Reply, Missed> {
        let (server, response) = self.open_any(call).await?;
        match read(response).await {
            Ok(body) => Ok(Reply { server, body }),
            Err(why) => {
                self.turn_to_next();
                Err(Missed { error: Error::Unreachable(vec![Attempt { server, why, untrusted: false, proxied: false }]), again: true })
            }
        }
    }

    /// Opens a stream at the server in use, or at the next that gives one; says which.
    pub(super) async fn stream(&self, call: &Call<'_>) -> Result<(String, Response), Error> {
        self.open_any(call).await.map_err(|missed| missed.error)
    }

    /// Every server once, from the one in use on, until one answers.
    async fn open_any(&self, call: &Call<'_>) -> Result<(String, Response), Missed> {
        let first = self.current.load(Ordering::Relaxed);
        let mut silent = Vec::new();
        let (mut not_now, mut broken) = (None, None);
        for step in 0..self.servers.len() {
            let at = (first + step) % self.servers.len();
            match self.open(at, call).await {
                Ok(response) => {
                    self.current.store(at, Ordering::Relaxed);
                    return Ok((self.server(at), response));
                }
                Err(Failed::Silent(attempt)) => silent.push(attempt),
                Err(Failed::NotNow(error)) => not_now = Some(error),
                Err(Failed::Broken(error)) => broken = Some(error),
                Err(Failed::Final(error)) => {
                    // It answers: what follows from its no is best asked of it, too.
                    self.current.store(at, Ordering::Relaxed);
                    return Err(Missed { error, again: false });
                }
            }
        }
        let again = not_now.is_some();
        Err(Missed { error: not_now.or(broken).unwrap_or(Error::Unreachable(silent)), again })
    }

    /// Uses the next server from now on: this one is leaving, or its stream broke.
    pub(super) fn turn_to_next(&self) {
        let at = self.current.load(Ordering::Relaxed);
        self.current.store((at + 1) % self.servers.len(), Ordering::Relaxed);
    }

    /// One request to one server, up to its answer's head.
    async fn open(&self, at: usize, call: &Call<'_>) -> Result<Response, Failed> {
        let mut url = self.servers[at].clone();
        url.path_segments_mut().expect("unreachable: http URLs have a path").clear().extend(call.path);
        url.query_pairs_mut().extend_pairs(call.query.iter());
        let http = if call.timeout < SILENCE_MAX { &self.http } else { &self.patient };
        let mut request = http.request(call.method.clone(), url).header("muster-client", &self.name);
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        let answered = tokio::time::timeout(call.timeout, request.send()).await;
        let proxy = self.proxy_to(at);
        let silent = |why: String, untrusted| {
            let (why, proxied) = (why + proxy.as_deref().unwrap_or_default(), proxy.is_some());
            Failed::Silent(Attempt { server: self.server(at), why, untrusted, proxied })
        };
        let response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let untrusted = matches!(tls::complaint(&error), Some(rustls::Error::InvalidCertificate(_)));
                return Err(silent(in_words(&error), untrusted));
            }
            Err(_) => return Err(silent(format!("no answer within {:?}", call.timeout), false)),
        };
        if response.status().is_success() { Ok(response) } else { Err(refusal(self.server(at), response, proxy.as_deref()).await) }
    }

    /// The proxy that the environment names for this server, in words.
    fn proxy_to(&self, at: usize) -> Option<String> {
        let server = &self.servers[at];
        let proxy = Matcher::from_env().intercept(&server.as_str().parse().ok()?)?;
        // Without the user and the password that may stand before it.
        let place = proxy.uri().authority().map_or("", |authority| authority.as_str().rsplit('@').next().unwrap_or_default());
        let (scheme, host) = (server.scheme(), server.host_str().unwrap_or_default());
        Some(format!(", through the proxy {place} of {scheme}_proxy or all_proxy (no_proxy={host} goes past it)"))
    }

    fn server(&self, at: usize) -> String {
        self.servers[at].as_str().trim_end_matches('/').to_owned()
    }
}

/// How long to wait before trying again: longer each time, never all at once.
pub(super) fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::default().with_min_delay(Duration::from_millis(100)).with_max_delay(Duration::from_secs(5)).with_jitter()
}

async fn refusal(server: String, response: Response, proxy: Option<&str>) -> Failed {
    let status = response.status();
    let body = read(response).await.unwrap_or_default();
    match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => {
            let error = Error::Refused { server, problem: Box::new(problem) };
            match status {
                StatusCode::SERVICE_UNAVAILABLE => Failed::NotNow(error),
                // Another node could not reach that one either.
                StatusCode::GATEWAY_TIMEOUT => Failed::Final(error),
                _ if status.is_server_error() && status != StatusCode::INSUFFICIENT_STORAGE => Failed::Broken(error),
                _ => Failed::Final(error),
            }
        }
        Err(_) => {
            let what = format!("it says {status} without a problem of ours{}", proxy.unwrap_or_default());
            let error = Error::Foreign { server, what, status: Some(status.as_u16()) };
            if status.is_server_error() { Failed::Broken(error) } else { Failed::Final(error) }
        }
    }
}

async fn read(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| in_words(&error))? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(format!("its answer is longer than {ANSWER_BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The innermost reason: the outer ones only say that sending a request failed.
fn in_words(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return if error.is_connect() { "no connection within 2 s".to_owned() } else { "no answer in time".to_owned() };
    }
    if let Some(complaint) = tls::complaint(error) {
        return tls::in_words(complaint);
    }
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    match inner.to_string() {
        // What a server says that expects TLS, in TLS.
        text if text.starts_with("invalid HTTP") => "it does not answer in plain HTTP: is it an https:// server?".to_owned(),
        text => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_taken_with_a_scheme_or_without() {
        for good in ["http://127.0.0.1:6878", "https://muster.example/", "127.0.0.1:6878", "node-1:6878", "[::1]:6878"] {
            assert!(to_url(good).is_ok(), "{good}");
        }
        for bad in ["", "nats://a:1", "http://", "http://a/v1", "a b", "http://a?x=1", "a:99999"] {
            assert!(to_url(bad).is_err(), "{bad}");
        }
        assert_eq!(Client::builder().build().unwrap_err(), BuildError::NoServer);
    }

    /// Answers everything with this; gives its address.
    async fn answering(status: &'static str, body: &'static str) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
                let mut head = [0; 4096];
                let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut head).await;
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn a_server_that_fails_is_passed_over_and_one_that_refuses_is_not() {
        let problem = |status: u16, code: &str| {
            let body = format!(r#"{{"type":"t","title":"t","status":{status},"code":"{code}","detail":"d","instance":"i"}}"#);
            &*Box::leak(body.into_boxed_str())
        };
        let last = answering("404 Not Found", problem(404, "unknown_route")).await;
        for (status, body, asks_on) in [
            ("502 Bad Gateway", "bad gateway", true),
            ("503 Service Unavailable", "no backend", true),
            ("500 Internal Server Error", problem(500, "internal"), true),
            ("504 Gateway Timeout", problem(504, "unreachable_node"), false),
            ("507 Insufficient Storage", problem(507, "limit_reached"), false),
            ("403 Forbidden", "not here", false),
        ] {
            let first = answering(status, body).await;
            let client = Client::builder().servers([first, last.clone()]).build().unwrap();
            let error = client.services(crate::client::Query::default()).await.unwrap_err();
            assert_eq!(error.code() == Some("unknown_route"), asks_on, "{status}: {error:?}");
            let alone = Client::builder().servers([answering(status, body).await]).build().unwrap();
            assert!(alone.services(crate::client::Query::default()).await.is_err(), "{status}");
        }
    }

    #[test]
    fn a_token_is_never_shown() {
        let builder = Client::builder().servers(["https://a:1"]).token("hunter2");
        assert!(!format!("{builder:?}").contains("hunter2"));
        let client = builder.build().unwrap();
        assert!(!format!("{client:?}").contains("hunter2"), "{client:?}");
        let broken = Client::builder().servers(["a:1"]).token("hunter\n2").build().unwrap_err();
        assert_eq!(broken, BuildError::Token);
    }
}
