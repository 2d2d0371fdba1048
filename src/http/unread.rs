//! Requests whose head could not be read: too long, or not HTTP. The library answers those by itself, with a status and nothing else; here stands
//! what is sent in its place.

use std::time::Duration;

use axum::http::{Request, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::edge::Edge;
use super::listener::to_bytes;
use super::problem::{Code, Problem};

/// A request's head, all lines together.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How long what a client still sends is read after it was refused, and how much of it: closing at once would take the answer back.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What every answer of this node's own has.
const OWN: &[u8] = b"muster-node";

/// The answer in the place of one that the library has made by itself; `None`: it has not.
pub(super) fn in_place_of(answer: &[u8], edge: &Edge) -> Option<Vec<u8>> {
    let status = answer.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let problem = refusal(StatusCode::from_bytes(status).ok()?)?;
    let is_own = answer.windows(OWN.len()).any(|bytes| bytes == OWN);
    (!is_own).then(|| to_bytes(&edge.refuse(problem)))
}

fn refusal(status: StatusCode) -> Option<Problem> {
    Some(match status {
        StatusCode::URI_TOO_LONG => Problem::new(
            Code::UriTooLong,
            "The address is longer than 65,534 bytes, as many as are read; nothing was changed. `POST /v1/watch` takes in its body what an \
             address cannot hold.",
        ),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => head_too_large(),
        StatusCode::BAD_REQUEST => {
            Problem::new(Code::InvalidRequest, "The head of the request could not be read as HTTP/1.1; nothing was changed.")
        }
        _ => return None,
    })
}

fn head_too_large() -> Problem {
    let detail = "The address and the headers are larger than 64 KiB together, as much as is read; nothing was changed. Send fewer or shorter \
                  ones; `POST /v1/watch` takes in its body what an address cannot hold.";
    Problem::new(Code::HeadTooLarge, detail)
}

/// HTTP/2: the refusal of a request whose head was read and is too large all the same.
pub(super) fn too_large<B>(request: &Request<B>) -> Option<Problem> {
    let headers: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let uri = request.uri();
    let address = uri.path_and_query().map_or(0, |path| path.as_str().len()) + uri.authority().map_or(0, |host| host.as_str().len());
    (headers + address > HEAD_BYTES_MAX).then(head_too_large)
}

/// Reads away what the client still sends.
pub(super) async fn linger(stream: &mut (impl AsyncRead + Unpin)) {
    let read_away = async {
        let (mut rest, mut bytes) = ([0; 4096], 0);
        while let Ok(read @ 1..) = stream.read(&mut rest).await {
            bytes += read;
            if bytes > LINGER_BYTES_MAX {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, read_away).await;
}
