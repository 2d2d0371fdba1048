//! Bodies: read whole, within a size and a time, and only when they are said to be JSON.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::Serialize;

use super::problem::{Code, Problem};
use crate::config::HttpConfig;
use crate::units::{show_bytes, show_ms};

/// Room for an answer about one instance, so that it is not moved while it is written.
const ANSWER_BYTES: usize = 768;

/// What one kind of request may send.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    bytes_max: usize,
    key: &'static str,
    timeout_ms: u64,
}

impl Limits {
    /// Of a request about one instance.
    #[must_use]
    pub fn of_one(config: &HttpConfig) -> Self {
        Self { bytes_max: config.body_bytes_max, key: "http.body_bytes_max", timeout_ms: config.body_timeout_ms }
    }

    /// Of a request about many.
    #[must_use]
    pub fn of_batch(config: &HttpConfig) -> Self {
        Self { bytes_max: config.batch_body_bytes_max, key: "http.batch_body_bytes_max", timeout_ms: config.body_timeout_ms }
    }
}

/// Reads a body whole. Empty when there is none: the caller takes that for `{}`.
///
/// # Errors
/// 408, 413 and 415, and 400 when the connection breaks; nothing was changed.
pub async fn read(request: Request<Body>, limits: Limits) -> Result<Bytes, Problem> {
    let (head, body) = request.into_parts();
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let is_json = head.method == Method::PUT || says_json(&head.headers);
    if !is_json && body.size_hint().lower() > 0 {
        return Err(not_json());
    }
    if body.size_hint().lower() > limits.bytes_max as u64 {
        return Err(too_large(limits));
    }
    let whole = tokio::time::timeout(Duration::from_millis(limits.timeout_ms), gather(body, limits))
        .await
        .map_err(|_| Problem::new(Code::RequestTimeout, format!("The body did not arrive within {}.", show_ms(limits.timeout_ms))))??;
    if is_json || whole.is_empty() { Ok(whole) } else { Err(not_json()) }
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

/// A body of one frame, as most are, is not copied.
async fn gather(mut body: Body, limits: Limits) -> Result<Bytes, Problem> {
    let Some(first) = next_data(&mut body).await? else { return Ok(Bytes::new()) };
    let Some(second) = next_data(&mut body).await? else { return within(first, limits) };
    let mut whole = BytesMut::with_capacity((body.size_hint().lower() as usize).min(limits.bytes_max) + first.len() + second.len());
    whole.extend_from_slice(&first);
    let mut next = Some(second);
    while let Some(data) = next {
        if whole.len() + data.len() > limits.bytes_max {
            return Err(too_large(limits));
        }
        whole.extend_from_slice(&data);
        next = next_data(&mut body).await?;
    }
    Ok(whole.freeze())
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

fn within(whole: Bytes, limits: Limits) -> Result<Bytes, Problem> {
    if whole.len() > limits.bytes_max { Err(too_large(limits)) } else { Ok(whole) }
}

/// `application/json` or anything that ends in `+json`, whatever its parameters.
fn says_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(header::CONTENT_TYPE).map(|value| value.to_str()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim();
    let subtype = |essence: &str| essence.strip_prefix("application/").map(str::to_owned);
    subtype(&essence.to_ascii_lowercase()).is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}

fn not_json() -> Problem {
    Problem::new(Code::UnsupportedMediaType, "A body needs `content-type: application/json`; nothing was changed.")
}

fn too_large(limits: Limits) -> Problem {
    let detail = format!("A body may have at most {} here (`{}`); nothing was changed.", show_bytes(limits.bytes_max as u64), limits.key);
    Problem::new(Code::BodyTooLarge, detail).with_key(limits.key)
}
