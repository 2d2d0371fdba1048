//! A subscriber that trusts nothing: it keeps what a stream tells it, checks each step against the one before, and remembers what it saw.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;

use super::http::Chunks;
use super::{Api, Connection, Request, eventually};

/// Before it turns to the next node.
const RESUME_AFTER: Duration = Duration::from_millis(100);

/// One event of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
}

/// What a subscriber holds of one service.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct HeldService {
    pub(crate) revision: String,
    pub(crate) instances: BTreeMap<String, Value>,
}

/// What a subscriber holds, and how it came to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    pub(crate) services: BTreeMap<String, HeldService>,
    pub(crate) events: Vec<Event>,
    pub(crate) last_id: Option<String>,
    /// The body has ended.
    pub(crate) ended: bool,
    /// Steps that did not follow from what was held. Always empty, if the stream is exact.
    pub(crate) breaks: Vec<String>,
    /// Instances that left a list that was not said to be incomplete, with the event that took them.
    pub(crate) left: Vec<String>,
}

impl Held {
    /// What a resuming subscriber starts from: the content, without the events that led to it.
    pub(crate) fn content(&self) -> Self {
        let Self { services, last_id, breaks, left, .. } = self.clone();
        Self { services, last_id, breaks, left, ..Self::default() }
    }

    /// Names of the events that said something of a service, in order.
    pub(crate) fn steps(&self) -> Vec<&str> {
        let of_service = |event: &&Event| matches!(event.name.as_str(), "snapshot" | "delta" | "unchanged");
        self.events.iter().filter(of_service).map(|event| event.name.as_str()).collect()
    }

    /// Ports by instance id, of one service.
    pub(crate) fn ports(&self, service: &str) -> BTreeMap<String, u16> {
        let instances = self.services.get(service).into_iter().flat_map(|service| &service.instances);
        instances.map(|(id, instance)| (id.clone(), instance["port"].as_u64().expect("a port") as u16)).collect()
    }

    /// Everything that was ever said of an instance, as (status, cause): a listing has a status, a removal a cause.
    pub(crate) fn story(&self, id: &str) -> Vec<String> {
        let mut story: Vec<String> = Vec::new();
        let mut add = |word: &Value| {
            let word = word.as_str().unwrap_or("?").to_owned();
            if story.last() != Some(&word) {
                story.push(word);
            }
        };
        for event in &self.events {
            let of = |list: &str| event.data[list].as_array().cloned().unwrap_or_default().into_iter().filter(|told| told["id"] == id);
            of("instances").chain(of("upsert")).for_each(|told| add(&told["status"]));
            of("remove").for_each(|told| add(&Value::from(format!("gone: {}", told["cause"].as_str().unwrap_or("?")))));
        }
        story
    }

    fn take(&mut self, event: Event) {
        if let Some(id) = &event.id {
            self.last_id = Some(id.clone());
        }
        let data = &event.data;
        let service = data["service"].as_str().unwrap_or_default().to_owned();
        let revision = data["revision"].as_str().unwrap_or_default().to_owned();
        match event.name.as_str() {
            "snapshot" => {
                let instances = list(data, "instances").map(|instance| (id_of(instance), instance.clone())).collect();
                let before = self.services.insert(service, HeldService { revision, instances });
                if data["complete"] != false {
                    let now = &self.services[data["service"].as_str().unwrap_or_default()].instances;
                    let held = before.into_iter().flat_map(|before| before.instances.into_keys());
                    self.left.extend(held.filter(|id| !now.contains_key(id)).map(|id| format!("{id} is in no snapshot")));
                }
            }
            "delta" => self.take_delta(&service, revision, data),
            "unchanged" if data.get("service").is_some() && self.services.get(&service).is_none_or(|held| held.revision != revision) => {
                self.breaks.push(format!("unchanged, but it is not what is held: {data}"));
            }
            _ => {}
        }
        self.events.push(event);
    }

    fn take_delta(&mut self, service: &str, revision: String, data: &Value) {
        let Some(held) = self.services.get_mut(service).filter(|held| data["from"] == held.revision.as_str()) else {
            self.breaks.push(format!("a delta from what is not held: {data}"));
            return;
        };
        for gone in list(data, "remove") {
            self.left.push(gone.to_string());
            if held.instances.remove(&id_of(gone)).is_none() {
                self.breaks.push(format!("removed, but it was not held: {data}"));
            }
        }
        held.instances.extend(list(data, "upsert").map(|instance| (id_of(instance), instance.clone())));
        held.revision = revision;
    }
}

fn list<'a>(data: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    data[name].as_array().into_iter().flatten()
}

fn id_of(instance: &Value) -> String {
    instance["id"].as_str().unwrap_or_default().to_owned()
}

/// An open stream and what it has told so far.
pub(crate) struct Subscriber {
    held: Arc<Mutex<Held>>,
    task: JoinHandle<()>,
}

impl Subscriber {
    /// Subscribes; `target` is the whole path with its query.
    pub(crate) async fn open(api: Api, target: &str) -> Self {
        Self::begin(api, Request::new("GET", target), Held::default()).await
    }

    /// Subscribes with what was held when another stream ended.
    pub(crate) async fn resume(api: Api, target: &str, held: &Held) -> Self {
        let last_id = held.last_id.clone().expect("an id was sent");
        Self::begin(api, Request::new("GET", target).header("last-event-id", &last_id), held.content()).await
    }

    async fn begin(api: Api, request: Request, held: Held) -> Self {
        let chunks = ask(api, request).await.expect("a node that listens").expect("a stream");
        let held = Arc::new(Mutex::new(held));
        let task = tokio::spawn(follow(chunks, Arc::clone(&held)));
        Self { held, task }
    }

    /// Subscribes at the first of `nodes`, and goes on at the next, from where it was, whenever a stream ends or is refused.
    pub(crate) fn steadfast(nodes: Vec<Api>, target: &str) -> Self {
        let held = Arc::new(Mutex::new(Held::default()));
        let task = tokio::spawn(stand_fast(nodes, target.to_owned(), Arc::clone(&held)));
        Self { held, task }
    }

    /// What is held just now.
    pub(crate) fn held(&self) -> Held {
        self.held.lock().expect("what is held").clone()
    }

    /// Waits until what is held is as `check` wants it.
    pub(crate) async fn until(&self, what: &str, limit: Duration, check: impl Fn(&Held) -> Result<(), String>) -> Held {
        eventually(what, limit, async || {
            let held = self.held();
            check(&held).map(|()| held)
        })
        .await
    }

    /// Waits for an event of this name.
    pub(crate) async fn until_event(&self, name: &str, limit: Duration) -> Held {
        self.until(&format!("`{name}` is sent"), limit, |held| {
            let seen: Vec<&str> = held.events.iter().map(|event| event.name.as_str()).collect();
            if seen.contains(&name) { Ok(()) } else { Err(format!("only {seen:?}")) }
        })
        .await
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Asks for a stream; `None`: it was refused.
async fn ask(api: Api, request: Request) -> io::Result<Option<Chunks>> {
    let connection = Connection::open(api.host).await?;
    let (head, chunks) = connection.into_stream(&request.header("accept", "text/event-stream")).await?;
    let is_stream = (head.status, head.header("content-type")) == (200, Some("text/event-stream"));
    Ok(is_stream.then_some(chunks))
}

async fn stand_fast(mut nodes: Vec<Api>, target: String, held: Arc<Mutex<Held>>) {
    loop {
        let content = held.lock().expect("what is held").content();
        let mut request = Request::new("GET", &target);
        if let Some(last_id) = &content.last_id {
            request = request.header("last-event-id", last_id);
        }
        if let Ok(Some(chunks)) = ask(nodes[0], request).await {
            *held.lock().expect("what is held") = content;
            follow(chunks, Arc::clone(&held)).await;
        }
        nodes.rotate_left(1);
        tokio::time::sleep(RESUME_AFTER).await;
    }
}

async fn follow(mut chunks: Chunks, held: Arc<Mutex<Held>>) {
    let mut text = String::new();
    while let Some(chunk) = chunks.next().await {
        text.push_str(&String::from_utf8(chunk).expect("a stream is UTF-8"));
        while let Some(end) = text.find("\n\n") {
            let block: String = text.drain(..end + 2).collect();
            if let Some(event) = parse(&block) {
                held.lock().expect("what is held").take(event);
            }
        }
    }
    held.lock().expect("what is held").ended = true;
}

/// An event from its lines; `None` for comments and `retry`. Each event has exactly one line of data.
fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| {
        let mut values = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim_start);
        let value = values.next();
        assert!(values.next().is_none(), "two lines of `{name}` in {block:?}");
        value
    };
    let name = field("event")?.to_owned();
    let data = field("data").unwrap_or_else(|| panic!("an event without data: {block:?}"));
    let data = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error} in {block:?}"));
    Some(Event { name, id: field("id").map(str::to_owned), data })
}
