//! Watching: services followed over one stream, which is opened again wherever it can be, from where it ended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff};
use futures_util::stream::{BoxStream, StreamExt};
use serde::de::DeserializeOwned;
use sse_stream::{Sse, SseByteStream};

use super::connect::{Call, Connection, backoff};
use super::exclusive::Exclusive;
use super::{Change, Error, Query, Replica};
use crate::api::consume::{Delta, Goodbye, Notice, Snapshot, Unchanged};
use crate::model::{Namespace, ServiceName};

/// The largest event that is read: a service of a hundred thousand instances is about a tenth of it.
const EVENT_BYTES_MAX: usize = 256 << 20;

/// What is sent as an address at most: proxies read no longer ones.
const ADDRESS_BYTES_MAX: usize = 8 * 1024;
/// What a node reads of an address.
const ADDRESS_BYTES_READ: usize = 60 * 1024;
/// What a node reads of a body's values.
const PAIRS_MAX: usize = 4000;

/// How long a node that leaves may have us wait; another one is there meanwhile.
pub(super) const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(10);

/// Which services of a namespace are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Followed {
    /// These, whether anybody has registered them or not.
    Named(Vec<ServiceName>),
    /// All there are and will be.
    All,
    /// All whose names begin so.
    Prefix(String),
}

/// Services followed; dropping it ends that.
pub struct Watch {
    connection: Arc<Connection>,
    namespace: Namespace,
    followed: Followed,
    query: Query,
    replicas: BTreeMap<String, Replica>,
    stream: Option<Opened>,
    /// The id of the last event, where it says what is held of all services together.
    last_id: Option<String>,
    /// A node, or what stands before it, takes streams from addresses alone.
    is_post_refused: bool,
    /// What the last event meant and has not been asked for yet.
    pending: VecDeque<WatchEvent>,
    waits: Exclusive<ExponentialBackoff>,
    /// Before the next attempt to open a stream.
    wait: Duration,
}

/// What happened to what is followed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum WatchEvent {
    /// A stream is open at this server.
    Opened(String),
    /// An instance of this service changed.
    Changed(String, Box<Change>),
    /// What is held of this service is what the registry holds; comes after its changes.
    Current(String),
    /// Every service that was asked for has been sent.
    Synced,
    /// The node does not hear its bus: its view may be old; or hears it again.
    Stale(bool),
    /// The stream is over, for this reason; another is being opened. What is held is kept.
    Lost(String),
}

/// A stream of events, as they come.
pub(super) struct Opened {
    events: Exclusive<BoxStream<'static, Result<Sse, sse_stream::Error>>>,
    /// Bytes since the last event.
    unread: Arc<AtomicUsize>,
}

impl Watch {
    pub(super) fn new(connection: Arc<Connection>, namespace: Namespace, followed: Followed, query: Query) -> Self {
        let (replicas, pending, wait) = (BTreeMap::new(), VecDeque::new(), Duration::ZERO);
        Self {
            connection,
            namespace,
            followed,
            query,
            replicas,
            stream: None,
            last_id: None,
            is_post_refused: false,
            pending,
            waits: endless(),
            wait,
        }
    }

    /// What is held of a service.
    #[must_use]
    pub fn replica(&self, service: &str) -> Option<&Replica> {
        self.replicas.get(service)
    }

    /// The next thing that happens. Streams that end are opened again, here or at another server, for as long as it takes.
    ///
    /// # Errors
    /// A node refuses to give such a stream for good; what is held stays.
    pub async fn next(&mut self) -> Result<WatchEvent, Error> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(event);
            }
            match &mut self.stream {
                None => self.open().await?,
                Some(stream) => match stream.next().await {
                    Ok(sse) => self.take(&sse),
                    Err(why) => self.lose(why),
                },
            }
        }
    }

    async fn open(&mut self) -> Result<(), Error> {
        tokio::time::sleep(self.wait).await;
        let call = self.to_call();
        match self.connection.stream(&call).await {
            Ok((server, response)) => {
                self.stream = Some(Opened::new(response));
                // Whatever the former stream said of the lists it sent: this one says so again where it still holds.
                self.replicas.values_mut().for_each(Replica::apply_opened);
                self.pending.push_back(WatchEvent::Opened(server));
            }
            Err(error) => match error.lasting() {
                // An older node, or a proxy: what fits into an address is asked for so.
                Some(404 | 405 | 413 | 415) if call.has_body() && !self.is_post_refused => {
                    self.is_post_refused = true;
                    self.wait = Duration::ZERO;
                }
                Some(_) => return Err(error),
                None => self.lose(error.to_string()),
            },
        }
        Ok(())
    }

    /// How the stream is asked for: where an address is long enough for it, by that; else by a body; and where that is refused, without
    /// what is held of each service.
    fn to_call(&self) -> Call<'static> {
        const PATH: &[&str] = &["v1", "watch"];
        let whole = self.to_query(true);
        if whole.encoded_bytes() <= ADDRESS_BYTES_MAX {
            return Call::get(PATH, whole);
        }
        let (is_whole, query) =
            if !self.is_post_refused && whole.len() <= PAIRS_MAX { (true, whole) } else { (false, self.to_query(false)) };
        let call = if is_whole || query.encoded_bytes() > ADDRESS_BYTES_READ {
            Call::post(PATH, Query::default(), query.to_body())
        } else {
            Call::get(PATH, query)
        };
        match &self.last_id {
            Some(id) if !is_whole => call.with_header("last-event-id", id),
            _ => call,
        }
    }

    /// What is followed, and where each service ended.
    fn to_query(&self, with_revisions: bool) -> Query {
        let mut query = self.query.clone().with("namespace", self.namespace.as_str());
        let ended = |service: &str| self.replicas.get(service).filter(|_| with_revisions).and_then(Replica::resume_at);
        match &self.followed {
            Followed::Named(services) => {
                for service in services {
                    let at = ended(service.as_str()).map_or(String::new(), |revision| format!("@{revision}"));
                    query = query.with("service", format!("{service}{at}"));
                }
                return query;
            }
            Followed::All => query = query.with("service", "*"),
            Followed::Prefix(prefix) => query = query.with("prefix", prefix),
        }
        let known = self.replicas.keys().filter_map(|service| Some((service, ended(service)?)));
        known.fold(query, |query, (service, revision)| query.with("at", format!("{service}@{revision}")))
    }

    fn lose(&mut self, why: String) {
        if self.stream.take().is_some() {
            self.connection.turn_to_next();
        }
        self.wait = self.waits.get_mut().next().unwrap_or(Duration::from_secs(5));
        self.pending.push_back(WatchEvent::Lost(why));
    }

    fn take(&mut self, sse: &Sse) {
        let data = sse.data.as_deref().unwrap_or_default();
        if matches!(sse.event.as_deref(), Some("snapshot" | "delta" | "synced")) {
            // While the services are sent first there is none: what is held is not yet what an id says.
            self.last_id.clone_from(&sse.id);
        }
        let taken = match sse.event.as_deref() {
            Some("snapshot") => read(data).map(|snapshot| self.take_snapshot(snapshot)),
            Some("delta") => read(data).map(|delta| self.take_delta(delta)),
            Some("unchanged") => read(data).map(|unchanged| self.take_unchanged(unchanged)),
            Some("synced") => {
                self.pending.push_back(WatchEvent::Synced);
                Ok(())
            }
            Some("notice") => read(data).map(|notice| self.take_notice(&notice)),
            Some("goodbye") => read(data).map(|goodbye| self.take_goodbye(goodbye)),
            // Later versions may say more; what is not understood changes nothing.
            Some(_) | None => Ok(()),
        };
        match taken {
            Ok(()) => self.waits = endless(),
            Err(why) => {
                self.last_id = None;
                self.replicas.values_mut().for_each(Replica::distrust);
                self.lose(why);
            }
        }
    }

    fn take_snapshot(&mut self, snapshot: Snapshot<'static>) {
        let service = snapshot.service.to_string();
        let changes = self.replicas.entry(service.clone()).or_default().apply_snapshot(snapshot);
        self.tell(service, changes);
    }

    fn take_delta(&mut self, delta: Delta<'static>) {
        let service = delta.service.to_string();
        let replica = self.replicas.entry(service.clone()).or_default();
        if let Some(changes) = replica.apply_delta(delta) {
            return self.tell(service, changes);
        }
        replica.distrust();
        self.last_id = None;
        self.lose(format!("a step of {service} does not follow on what is held; asking for the whole"));
    }

    fn take_unchanged(&mut self, unchanged: Unchanged<'static>) {
        match unchanged.service {
            Some(service) => self.pending.push_back(WatchEvent::Current(service.into_owned())),
            None => self.pending.extend(self.replicas.keys().cloned().map(WatchEvent::Current)),
        }
    }

    fn take_notice(&mut self, notice: &Notice) {
        if let (Some(preserved), Some(service)) = (notice.preserved, &notice.service)
            && let Some(replica) = self.replicas.get_mut(service)
        {
            replica.apply_preserved(preserved);
        }
        if let Some(stale) = notice.stale {
            self.replicas.values_mut().for_each(|replica| replica.apply_stale(stale));
            self.pending.push_back(WatchEvent::Stale(stale));
        }
    }

    fn take_goodbye(&mut self, goodbye: Goodbye) {
        self.lose("the node is leaving".to_owned());
        // Already at random, so that not all come back at once; a node that says "in an hour" is not believed.
        self.wait = Duration::from_millis(goodbye.reconnect_ms).min(RECONNECT_WAIT_MAX);
    }

    fn tell(&mut self, service: String, changes: Vec<Change>) {
        self.pending.extend(changes.into_iter().map(|change| WatchEvent::Changed(service.clone(), Box::new(change))));
        self.pending.push_back(WatchEvent::Current(service));
    }
}

impl Opened {
    pub(super) fn new(response: reqwest::Response) -> Self {
        let unread = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&unread);
        let bytes = response.bytes_stream().inspect(move |chunk| {
            counter.fetch_add(chunk.as_ref().map_or(0, bytes::Bytes::len), Ordering::Relaxed);
        });
        let bounded = Arc::clone(&unread);
        let bytes = bytes.take_while(move |_| std::future::ready(bounded.load(Ordering::Relaxed) <= EVENT_BYTES_MAX));
        Self { events: Exclusive::new(SseByteStream::new(Box::pin(bytes)).boxed()), unread }
    }

    /// The next event, or why there is none.
    pub(super) async fn next(&mut self) -> Result<Sse, String> {
        let event = match self.events.get_mut().next().await {
            Some(Ok(sse)) => Ok(sse),
            Some(Err(error)) => Err(format!("the stream broke: {error}")),
            None => Err("the stream ended".to_owned()),
        };
        self.unread.store(0, Ordering::Relaxed);
        event
    }
}

pub(super) fn endless() -> Exclusive<ExponentialBackoff> {
    Exclusive::new(backoff().without_max_times().build())
}

fn read<T: DeserializeOwned>(data: &str) -> Result<T, String> {
    serde_json::from_str(data).map_err(|error| format!("an event cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;

    fn watch(followed: Followed) -> Watch {
        let client = Client::builder().servers(["http://127.0.0.1:1", "http://127.0.0.1:2"]).build().unwrap();
        client.watch(Namespace::default(), followed, Query::default().with("usable", "true"))
    }

    fn event(name: &str, data: &serde_json::Value) -> Sse {
        Sse::default().event(name).data(data.to_string())
    }

    fn snapshot(service: &str, revision: u128) -> Sse {
        let instance = serde_json::json!({"id": "a", "address": "10.0.0.7", "port": 80, "status": "up", "weight": 100});
        let revision = crate::api::Hex(revision);
        event(
            "snapshot",
            &serde_json::json!({"namespace": "default", "service": service, "revision": revision,
            "complete": true, "stale": false, "preserved": false, "instances": [instance]}),
        )
    }

    fn pairs(watch: &Watch) -> String {
        watch.to_query(true).iter().map(|(key, value)| [key, "=", value, " "].concat()).collect()
    }

    #[test]
    fn what_is_held_is_named_when_a_stream_is_opened_again() {
        let user: ServiceName = "user".parse().unwrap();
        let mut named = watch(Followed::Named(vec![user, "cart".parse().unwrap()]));
        assert_eq!(pairs(&named), "usable=true namespace=default service=user service=cart ");
        named.take(&snapshot("user", 1));
        assert_eq!(pairs(&named), format!("usable=true namespace=default service=user@{:032x} service=cart ", 1));

        let mut all = watch(Followed::All);
        all.take(&snapshot("user", 2));
        assert_eq!(pairs(&all), format!("usable=true namespace=default service=* at=user@{:032x} ", 2));
    }

    #[test]
    fn what_is_too_long_for_an_address_is_sent_as_a_body_and_else_goes_without_revisions() {
        let mut watch = watch(Followed::All);
        for number in 0..1200 {
            watch.take(&snapshot(&format!("service-{number}"), number + 1));
        }
        assert!(watch.to_call().has_body());
        watch.is_post_refused = true;
        assert_eq!(watch.to_call().header("last-event-id"), None, "no id says what is held");
        let id = "0".repeat(32);
        watch.take(&event("synced", &serde_json::json!({"services": 1200})).id(id.clone()));
        let call = watch.to_call();
        assert!(!call.has_body() && call.header("last-event-id") == Some(&*id));
        watch.take(&event("snapshot", &serde_json::json!({"x": 1})));
        assert_eq!(watch.to_call().header("last-event-id"), None, "what is held is doubted");
    }

    #[test]
    fn a_step_that_does_not_follow_ends_the_stream_and_asks_for_the_whole() {
        let mut watch = watch(Followed::All);
        watch.take(&snapshot("user", 1));
        let (from, revision) = (crate::api::Hex(7), crate::api::Hex(8));
        let delta = serde_json::json!({"namespace": "default", "service": "user", "from": from, "revision": revision,
            "upsert": [], "remove": [{"id": "a", "cause": "expired"}]});
        watch.take(&event("delta", &delta));
        assert!(matches!(watch.pending.back(), Some(WatchEvent::Lost(_))), "{:?}", watch.pending);
        assert_eq!(watch.replica("user").and_then(Replica::held).unwrap().instances.len(), 1, "what is held is kept");
        assert_eq!(pairs(&watch), "usable=true namespace=default service=* ");
    }

    #[test]
    fn what_cannot_be_read_ends_the_stream_and_what_is_unknown_does_not() {
        let mut watch = watch(Followed::All);
        watch.take(&event("later", &serde_json::json!({"x": 1})));
        assert!(watch.pending.is_empty());
        watch.take(&event("snapshot", &serde_json::json!({"x": 1})));
        assert!(matches!(watch.pending.back(), Some(WatchEvent::Lost(_))));
    }

    #[test]
    fn a_node_that_leaves_is_left() {
        let mut watch = watch(Followed::All);
        watch.take(&event("goodbye", &serde_json::json!({"reconnect_ms": 1200})));
        assert_eq!(watch.wait, Duration::from_millis(1200));
        watch.take(&event("goodbye", &serde_json::json!({"reconnect_ms": 3_600_000})));
        assert_eq!(watch.wait, RECONNECT_WAIT_MAX);
    }
}
