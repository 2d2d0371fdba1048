//! Attaching: an instance held by an open connection instead of heartbeats, where the node offers that.

use std::fmt;
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt};
use sse_stream::{Sse, SseByteStream};

use super::connect::{ANSWER_TIMEOUT, Call, Connection};
use super::exclusive::Exclusive;
use super::register::to_json;
use super::{Error, Query};
use crate::api::Hex;
use crate::api::attach::{Attached as Registered, Member};
use crate::api::consume::Goodbye;
use crate::api::provide::Registration;
use crate::model::InstanceKey;

/// A node says something every 10 s; one that does not for so long is taken for dead: before its peers do, and take over what it holds.
const SILENT_MAX: Duration = Duration::from_secs(15);
/// How long a node that leaves may have us wait: the lease is to be held again before it is late.
const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(2);

/// An open connection that holds an instance; dropped, it holds it no more.
pub(super) struct Attachment {
    events: Exclusive<BoxStream<'static, Result<Sse, sse_stream::Error>>>,
}

/// What was registered by it.
pub(super) struct Attached {
    pub(super) attachment: Attachment,
    pub(super) incarnation: u64,
    pub(super) digest: Hex,
    pub(super) owner: String,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// The node leaves: come back elsewhere after so long.
    Goodbye(Duration),
    /// Somebody deregistered the instance.
    Deregistered,
    /// The connection broke, in words.
    Lost(String),
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attachment")
    }
}

impl Attachment {
    /// Registers an instance and holds it, at the server in use or the next that takes it.
    pub(super) async fn open(
        connection: &Connection,
        key: &InstanceKey,
        registration: &Registration,
        takeover: bool,
        timeout: Duration,
    ) -> Result<Attached, Error> {
        let mut registration = registration.clone();
        let mut query = Query::default();
        if takeover {
            query = query.with("takeover", "true");
            registration.incarnation = None;
        }
        let (service, id) = (&key.service, key.id.as_str());
        let member = Member::new(service.namespace.as_str(), service.service.as_str(), id, registration);
        let call = Call::post(&["v1", "attach"], query, to_json(&member)).within(timeout);
        let (server, response) = connection.stream(&call).await?;
        let mut attachment = Self { events: Exclusive::new(SseByteStream::new(Box::pin(response.bytes_stream())).boxed()) };
        let foreign = |what: String| Error::Foreign { server: server.clone(), what, status: None };
        let first = tokio::time::timeout(ANSWER_TIMEOUT, attachment.events.get_mut().next()).await;
        let sse = match first {
            Ok(Some(Ok(sse))) if sse.event.as_deref() == Some("registered") => sse,
            _ => return Err(foreign("its stream does not begin with what was registered".to_owned())),
        };
        let registered: Registered<'_> = serde_json::from_str(sse.data.as_deref().unwrap_or_default())
            .map_err(|error| foreign(format!("what it registered cannot be read: {error}")))?;
        let held = registered.instances.first().and_then(|held| Some((held.incarnation, held.digest?)));
        let (incarnation, digest) = held.ok_or_else(|| foreign("it does not say what it registered".to_owned()))?;
        Ok(Attached { attachment, incarnation, digest, owner: registered.owner.into_owned() })
    }

    /// Waits until it ends.
    pub(super) async fn ended(&mut self) -> Ended {
        loop {
            let sse = match tokio::time::timeout(SILENT_MAX, self.events.get_mut().next()).await {
                Err(_) => return Ended::Lost(format!("nothing was heard of the node for {} s", SILENT_MAX.as_secs())),
                Ok(None) => return Ended::Lost("the connection ended".to_owned()),
                Ok(Some(Err(error))) => return Ended::Lost(format!("the connection broke: {error}")),
                Ok(Some(Ok(sse))) => sse,
            };
            match sse.event.as_deref() {
                Some("deregistered") => return Ended::Deregistered,
                Some("goodbye") => {
                    let goodbye: Option<Goodbye> = serde_json::from_str(sse.data.as_deref().unwrap_or_default()).ok();
                    let wait = goodbye.map_or(Duration::ZERO, |goodbye| Duration::from_millis(goodbye.reconnect_ms));
                    return Ended::Goodbye(wait.min(RECONNECT_WAIT_MAX));
                }
                // A ping; later versions may say more.
                Some(_) | None => {}
            }
        }
    }
}

/// Of this node nothing can be held by a connection: it is older than that, or has as many as it takes.
pub(super) fn is_not_offered(error: &Error) -> bool {
    matches!(error.code(), Some("unknown_route" | "overloaded")) || matches!(error, Error::Foreign { .. })
}
