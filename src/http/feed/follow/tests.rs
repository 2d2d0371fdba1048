//! Invariant 9: whatever happens, a client that applies what it is sent holds what the view at that revision has.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

use super::super::testing::{listed, service};
use super::*;
use crate::model::{Cause, InstanceId, Status};

const TRUST: Trust = Trust { complete: true, stale: false, stale_ms: None, preserved: false };

/// A consumer that knows nothing but the contract.
#[derive(Default)]
struct Client {
    revision: Option<String>,
    instances: BTreeMap<String, Value>,
}

impl Client {
    fn take(&mut self, event: &Event) {
        let data: Value = serde_json::from_slice(event.data().strip_prefix(b"data: ").unwrap()).unwrap();
        let text = |field: &str| data[field].as_str().unwrap().to_owned();
        match event.name() {
            "snapshot" => {
                self.instances.clear();
                self.upsert(&data["instances"]);
            }
            "delta" => {
                assert_eq!(self.revision.as_ref(), Some(&text("from")), "the chain must not break");
                self.upsert(&data["upsert"]);
                for removed in data["remove"].as_array().unwrap() {
                    assert!(removed["cause"].is_string());
                    let was_there = self.instances.remove(removed["id"].as_str().unwrap());
                    assert!(was_there.is_some(), "only what was sent can be taken away");
                }
            }
            "unchanged" => assert_eq!(self.revision.as_ref(), Some(&text("revision"))),
            other => panic!("{other}"),
        }
        self.revision = Some(text("revision"));
    }

    fn upsert(&mut self, instances: &Value) {
        for instance in instances.as_array().unwrap() {
            self.instances.insert(instance["id"].as_str().unwrap().to_owned(), instance.clone());
        }
    }

    fn holds(&self, view: &View, selection: &Selection) {
        assert_eq!(self.revision, Some(Hex(view.revision()).to_string()));
        self.holds_instances(view, selection);
    }

    fn holds_instances(&self, view: &View, selection: &Selection) {
        let selected = view.select(selection).into_iter();
        let expected: BTreeMap<_, _> =
            selected.map(|listed| (listed.id.to_string(), serde_json::to_value(Instance::from(&**listed)).unwrap())).collect();
        assert_eq!(self.instances, expected);
    }
}

/// A stream at its node: what it follows, and its client.
struct Stream {
    mailbox: Arc<Mailbox>,
    following: Following,
    client: Client,
}

impl Stream {
    fn open(feed: &Arc<Feed>, mut client: Client) -> Self {
        let mailbox = Arc::new(Mailbox::default());
        let holds = client.revision.as_deref().and_then(Hex::parse).map(|hex| hex.0);
        let (following, event) = feed.join(&mailbox, 0, holds, TRUST);
        client.take(&event);
        Self { mailbox, following, client }
    }

    /// The socket has room; says whether there was something to send.
    fn read(&mut self) -> bool {
        let Some(event) = self.mailbox.take().and_then(|_| self.following.next()) else { return false };
        self.client.take(&event);
        true
    }
}

#[derive(Debug, Clone)]
enum Act {
    /// An instance changes, comes or goes.
    Set(usize, Option<(Status, u16, &'static str)>),
    /// The feed's task gets its turn.
    Tell,
    /// A stream's socket has room.
    Read(usize),
    /// A stream breaks, and its client comes back.
    Reconnect(usize),
    /// A new client comes.
    Join,
}

const IDS: [&str; 4] = ["a", "b", "c", "d"];
const SELECTIONS: [&str; 6] = ["", "status=up", "zone=x", "usable=true", "near_zone=x", "usable=true&near_zone=x&status=up,suspect"];

fn act() -> impl Strategy<Value = Act> {
    let state = (select(&Status::ALL[..]), select(&[0u16, 100][..]), select(&["x", "y"][..]));
    prop_oneof![
        4 => (0..IDS.len(), proptest::option::weighted(0.7, state)).prop_map(|(id, state)| Act::Set(id, state)),
        3 => Just(Act::Tell),
        4 => (0..4usize).prop_map(Act::Read),
        1 => (0..4usize).prop_map(Act::Reconnect),
        1 => Just(Act::Join),
    ]
}

fn selection(query: &str) -> Selection {
    Selection::parse(query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap())).unwrap()
}

/// One node: its cell, and the one feed on it.
struct Node {
    view: View,
    cell: watch::Sender<Arc<View>>,
    feed: Arc<Feed>,
    selection: Selection,
}

impl Node {
    fn new(query: &str, views_kept: usize) -> Self {
        let (cell, receiver) = watch::channel(Arc::default());
        let (alive, _) = oneshot::channel();
        let history = Arc::new(Mutex::new(History::new(views_kept)));
        let selection = selection(query);
        let feed = Arc::new(Feed::new(service("user"), selection.clone(), receiver, history, alive));
        Self { view: View::default(), cell, feed, selection }
    }

    fn set(&mut self, id: &str, state: Option<(Status, u16, &str)>) {
        let listed = state.map(|(status, weight, zone)| listed(id, status, weight, zone));
        self.view.set(&InstanceId::parse(id).unwrap(), listed, Cause::Deregistered);
        self.cell.send_replace(Arc::new(self.view.clone()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_client_always_holds_what_it_was_told(
        query in select(&SELECTIONS[..]),
        views_kept in select(&[0usize, 2, 64][..]),
        acts in vec(act(), 1..60),
    ) {
        let mut node = Node::new(query, views_kept);
        let mut streams = vec![Stream::open(&node.feed, Client::default())];
        for act in acts {
            match act {
                Act::Set(id, state) => node.set(IDS[id], state),
                Act::Tell => { node.feed.tell(); }
                Act::Join => streams.push(Stream::open(&node.feed, Client::default())),
                Act::Read(index) => if let Some(stream) = streams.get_mut(index) { stream.read(); },
                Act::Reconnect(index) => if index < streams.len() {
                    let client = streams.swap_remove(index).client;
                    let stream = Stream::open(&node.feed, client);
                    stream.client.holds(&node.view, &node.selection);
                    streams.push(stream);
                },
            }
            for stream in &streams {
                stream.client.holds_instances(&stream.following.told.view, &node.selection);
            }
        }
        // At rest each holds the newest selection, and a revision under which any node gives it the same.
        node.feed.tell();
        for stream in &mut streams {
            while stream.read() {}
            stream.client.holds_instances(&node.view, &node.selection);
            prop_assert!(!stream.read());
        }
    }
}

#[test]
fn a_change_outside_the_selection_sends_nothing_and_breaks_no_chain() {
    let mut node = Node::new("zone=x", 64);
    node.set("a", Some((Status::Up, 100, "x")));
    node.feed.tell();
    let mut stream = Stream::open(&node.feed, Client::default());
    let told = stream.client.revision.clone();
    node.set("b", Some((Status::Up, 100, "y")));
    assert!(!node.feed.tell());
    assert!(!stream.read());
    node.set("c", Some((Status::Up, 100, "x")));
    assert!(node.feed.tell());
    assert!(stream.read());
    assert_ne!(stream.client.revision, told);
    stream.client.holds(&node.view, &node.selection);
}

/// Found by the property above: the newcomer was never told.
#[test]
fn whoever_came_before_a_change_was_told_hears_that_it_is_undone() {
    let mut node = Node::new("", 64);
    node.set("a", Some((Status::Up, 100, "x")));
    let mut newcomer = Stream::open(&node.feed, Client::default());
    node.set("a", None);
    node.feed.tell();
    assert!(newcomer.read());
    newcomer.client.holds(&node.view, &node.selection);
}

#[test]
fn what_leaves_the_selection_but_stays_says_its_status() {
    let mut node = Node::new("status=up", 64);
    node.set("a", Some((Status::Up, 100, "x")));
    node.set("b", Some((Status::Up, 100, "x")));
    let mut stream = Stream::open(&node.feed, Client::default());
    node.set("a", Some((Status::Suspect, 100, "x")));
    node.set("b", None);
    node.feed.tell();
    stream.mailbox.take().unwrap();
    let event = stream.following.next().unwrap();
    let data: Value = serde_json::from_slice(event.data().strip_prefix(b"data: ").unwrap()).unwrap();
    let expected = serde_json::json!([
        {"id": "a", "cause": "registered", "status": "suspect"},
        {"id": "b", "cause": "deregistered"},
    ]);
    assert_eq!(data["remove"], expected);
}

#[test]
fn a_slow_stream_skips_steps_and_streams_at_one_place_share_bytes() {
    let mut node = Node::new("", 64);
    let mut slow = Stream::open(&node.feed, Client::default());
    for weight in 1..50 {
        node.set("a", Some((Status::Up, weight, "x")));
        node.feed.tell();
    }
    let mut twin = Stream {
        mailbox: Arc::clone(&slow.mailbox),
        following: Stream::open(&node.feed, Client::default()).following,
        client: Client::default(),
    };
    twin.following.told = slow.following.told.clone();
    let (one, other) = (slow.following.next().unwrap(), twin.following.next().unwrap());
    assert_eq!(one.whole().as_ptr(), other.whole().as_ptr());
    slow.client.take(&one);
    slow.client.holds(&node.view, &node.selection);
    assert!(slow.following.next().is_none());
}

#[test]
fn whoever_comes_back_gets_nothing_or_one_delta_or_a_snapshot() {
    let mut node = Node::new("", 64);
    node.set("a", Some((Status::Up, 100, "x")));
    let mailbox = Arc::new(Mailbox::default());
    let known = node.view.revision();
    let name = |holds| node.feed.join(&mailbox, 0, holds, TRUST).1.name();
    assert_eq!(name(Some(known)), "unchanged");
    assert_eq!(name(Some(7)), "snapshot");
    assert_eq!(name(None), "snapshot");
    node.feed.tell();
    node.set("b", Some((Status::Up, 100, "x")));
    node.feed.tell();
    let name = |holds| node.feed.join(&mailbox, 0, holds, TRUST).1.name();
    assert_eq!(name(Some(known)), "delta");
    assert_eq!(name(Some(0)), "snapshot", "whoever holds nothing needs everything");
}

#[test]
fn whoever_follows_no_more_is_forgotten() {
    let node = Node::new("", 64);
    let stream = Stream::open(&node.feed, Client::default());
    assert_eq!(node.feed.followers.lock().marks.len(), 1);
    drop(stream);
    assert_eq!(node.feed.followers.lock().marks.len(), 0);
    assert_eq!(Arc::strong_count(&node.feed), 1);
}
