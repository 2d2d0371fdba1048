//! Bodies: read whole, within a size and a time, and only when they are said to be JSON.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt;
use serde::Serialize;

use super::App;
use super::bodies::Bodies;
use super::problem::{Code, Problem, shown as shown_text};
use crate::units::{show_bytes, show_ms};

/// Room for an answer about one instance, so that it is not moved while it is written.
const ANSWER_BYTES: usize = 768;

/// How long the next piece of a body may take.
const PIECE_TIMEOUT: Duration = Duration::from_secs(10);

/// What one kind of request may send.
#[derive(Debug, Clone)]
pub struct Limits {
    bytes_max: usize,
    key: &'static str,
    timeout_ms: u64,
    bodies: Arc<Bodies>,
}

impl Limits {
    /// Of a request about one instance.
    #[must_use]
    pub fn of_one(app: &App) -> Self {
        Self::new(app, app.config.http.body_bytes_max, "http.body_bytes_max")
    }

    /// Of a request about many.
    #[must_use]
    pub fn of_batch(app: &App) -> Self {
        Self::new(app, app.config.http.batch_body_bytes_max, "http.batch_body_bytes_max")
    }

    fn new(app: &App, bytes_max: usize, key: &'static str) -> Self {
        Self { bytes_max, key, timeout_ms: app.config.http.body_timeout_ms, bodies: Arc::clone(&app.bodies) }
    }
}

/// Reads a body whole. Empty when there is none: the caller takes that for `{}`.
///
/// # Errors
/// 408, 413, 415 and 503, and 400 when the connection breaks; nothing was changed.
pub async fn read(request: Request<Body>, limits: Limits) -> Result<Bytes, Problem> {
    let (head, body) = request.into_parts();
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    if let Some(encoding) = head.headers.get_all(header::CONTENT_ENCODING).iter().find(|encoding| !is_plain(encoding)) {
        return Err(encoded(encoding));
    }
    let is_json = head.method == Method::PUT || says_json(&head.headers);
    if !is_json && body.size_hint().lower() > 0 {
        return Err(not_json());
    }
    if body.size_hint().lower() > limits.bytes_max as u64 {
        return Err(too_large(&limits));
    }
    let whole = tokio::time::timeout(Duration::from_millis(limits.timeout_ms), gather(body, &limits))
        .await
        .map_err(|_| late(limits.timeout_ms))??;
    if is_json || whole.is_empty() { Ok(without_mark(whole)) } else { Err(not_json()) }
}

/// An answer with a JSON body.
pub fn json(status: StatusCode, shape: &impl Serialize) -> Response {
    let mut bytes = Vec::with_capacity(ANSWER_BYTES);
    serde_json::to_writer(&mut bytes, shape).expect("unreachable: strings, numbers and maps of them are JSON");
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A body of one frame, as most are, is not copied, and its memory is the connection's. One that comes in pieces takes memory of its own.
async fn gather(mut body: Body, limits: &Limits) -> Result<Bytes, Problem> {
    let Some(first) = next_piece(&mut body).await? else { return Ok(Bytes::new()) };
    if body.is_end_stream() {
        return if first.len() > limits.bytes_max { Err(too_large(limits)) } else { Ok(first) };
    }
    let bytes_max = body.size_hint().upper().map_or(limits.bytes_max, |rest| limits.bytes_max.min(first.len() + rest as usize));
    let mut whole = limits.bodies.begin();
    let mut next = Some(first);
    while let Some(data) = next {
        if whole.len() + data.len() > limits.bytes_max {
            return Err(too_large(limits));
        }
        if !whole.push(&data, bytes_max) {
            return Err(too_many());
        }
        // Not kept while the next one is waited for: it may be a small part of a large buffer.
        drop(data);
        next = next_piece(&mut body).await?;
    }
    Ok(whole.into_bytes())
}

/// The next bytes, which may not be waited for as long as a body may take in all: what has come takes memory.
async fn next_piece(body: &mut Body) -> Result<Option<Bytes>, Problem> {
    tokio::time::timeout(PIECE_TIMEOUT, next_data(body)).await.unwrap_or_else(|_| Err(late(PIECE_TIMEOUT.as_millis() as u64)))
}

/// The next bytes; trailers are passed over.
async fn next_data(body: &mut Body) -> Result<Option<Bytes>, Problem> {
    while !body.is_end_stream() {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(_)) => return Err(Problem::new(Code::InvalidRequest, "The body broke off; nothing was changed.")),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
    Ok(None)
}

/// `application/json` or anything that ends in `+json`, whatever its parameters.
fn says_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(header::CONTENT_TYPE).map(|value| value.to_str()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim();
    let subtype = |essence: &str| essence.strip_prefix("application/").map(str::to_owned);
    subtype(&essence.to_ascii_lowercase()).is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}

/// Nothing was done to the body.
fn is_plain(encoding: &HeaderValue) -> bool {
    let mut steps = encoding.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    steps.all(|step| step.is_empty() || step.eq_ignore_ascii_case(b"identity"))
}

fn encoded(encoding: &HeaderValue) -> Problem {
    let shown = String::from_utf8_lossy(encoding.as_bytes());
    let detail = format!("A body is read as it is, and not with `content-encoding: {}`; nothing was changed.", shown_text(&shown));
    Problem::new(Code::UnsupportedMediaType, detail)
}

/// Some editors and programs put a mark before text in UTF-8.
fn without_mark(whole: Bytes) -> Bytes {
    if whole.starts_with("\u{feff}".as_bytes()) { whole.slice('\u{feff}'.len_utf8()..) } else { whole }
}

fn not_json() -> Problem {
    Problem::new(Code::UnsupportedMediaType, "A body needs `content-type: application/json`; nothing was changed.")
}

fn late(timeout_ms: u64) -> Problem {
    Problem::new(
        Code::RequestTimeout,
        format!("The body, or the next part of it, did not arrive within {}; nothing was changed.", show_ms(timeout_ms)),
    )
}

fn too_many() -> Problem {
    let detail = "The bodies that are on their way here take as much memory as they may (`http.bodies_bytes_max`); nothing was changed. \
                  Send it again in a moment, in smaller parts, or to another node.";
    Problem::new(Code::Overloaded, detail).with_key("http.bodies_bytes_max")
}

fn too_large(limits: &Limits) -> Problem {
    let detail = format!("A body may have at most {} here (`{}`); nothing was changed.", show_bytes(limits.bytes_max as u64), limits.key);
    Problem::new(Code::BodyTooLarge, detail).with_key(limits.key)
}
