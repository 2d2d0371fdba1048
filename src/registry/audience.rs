//! The audience: who follows which services at which node. Each node says in its beacons whether it has changed, and peers ask for it then:
//! so that of a node which does not answer it is known who was there.

use std::collections::BTreeMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::io::Output;
use super::message::{Beacon, Message, To};
use super::record::Canonical;
use super::time::{Mono, Now};
use super::{Outbox, Registry};
use crate::model::{Epoch, Life, Namespace, NodeName, ServiceKey, ServiceName, Subscriber};

/// How many of a node's subscribers others are told of; there may be more, and then answers say that they are not complete.
pub const WATCHERS_MAX: usize = 16_384;
/// How many services one interest names.
pub const INTEREST_SERVICES_MAX: usize = 1000;
/// How many prefixes one interest names, as many as a watch may give; one with more would be told as one in everything.
pub const INTEREST_PREFIXES_MAX: usize = 16;
/// How many subscribers one answer tells of, and about how many bytes of them: well below a frame.
pub const PAGE_MAX: usize = 1024;
const PAGE_BYTES_MAX: usize = 160 * 1024;
/// A question that was not answered is asked again after this long.
const AGAIN_MS: Mono = 1000;
/// Of whom more than one answer's worth is held is asked anew no sooner than this: whoever comes or goes changes the digest, and all is told
/// again. A drain names silent nodes by what is held, and that may be so old.
const ANEW_MS: Mono = 5000;

/// Which services somebody follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interest {
    /// In which namespace.
    pub namespace: Namespace,
    /// A hash of the name of each, in order: enough to tell whether a service is among them.
    pub services: Vec<u64>,
    /// Those whose names begin so.
    pub prefixes: Vec<Arc<str>>,
}

/// A subscriber and what it follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watcher {
    /// Who.
    pub subscriber: Subscriber,
    /// What.
    pub interest: Arc<Interest>,
}

/// How a node's audience is, as it says in its beacons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AudienceAt {
    /// How many there are.
    pub count: u64,
    /// Of those that others are told of.
    pub digest: u64,
}

/// A part of a node's audience.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudiencePage {
    /// Of the whole.
    pub digest: u64,
    /// At most [`PAGE_MAX`].
    pub watchers: Vec<Watcher>,
    /// There are more.
    pub more: bool,
}

/// The subscribers of other nodes, as this one knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    nodes: BTreeMap<NodeName, Arc<[Watcher]>>,
    /// Of every node that is heard all are known.
    pub complete: bool,
}

#[derive(Default)]
pub(super) struct Audience {
    own: Arc<[Watcher]>,
    at: AudienceAt,
    known: BTreeMap<NodeName, Known>,
}

struct Known {
    epoch: Epoch,
    said: AudienceAt,
    /// What is known, and its digest.
    held: Arc<[Watcher]>,
    held_digest: u64,
    /// What has come of a newer one.
    coming: Vec<Watcher>,
    coming_digest: u64,
    ticket: u64,
    ask_at: Mono,
}

impl Interest {
    /// In these services of a namespace, and those whose names begin so.
    #[must_use]
    pub fn new<'a>(namespace: Namespace, services: impl Iterator<Item = &'a ServiceName>, prefixes: &[String]) -> Self {
        let mut services: Vec<u64> = services.map(hash_of).collect();
        services.sort_unstable();
        services.dedup();
        let is_wide = services.len() > INTEREST_SERVICES_MAX || prefixes.len() > INTEREST_PREFIXES_MAX;
        let prefixes = if is_wide { vec!["".into()] } else { prefixes.iter().map(|prefix| prefix.as_str().into()).collect() };
        services.truncate(INTEREST_SERVICES_MAX);
        Self { namespace, services, prefixes }
    }

    /// It is in this service.
    #[must_use]
    pub fn includes(&self, service: &ServiceKey) -> bool {
        self.namespace == service.namespace
            && (self.services.binary_search(&hash_of(&service.service)).is_ok()
                || self.prefixes.iter().any(|prefix| service.service.as_str().starts_with(&**prefix)))
    }
}

fn hash_of(service: &ServiceName) -> u64 {
    xxh3_64(service.as_str().as_bytes())
}

impl Watcher {
    fn digest(&self) -> u64 {
        let mut hash = Canonical::default();
        hash.text(self.subscriber.name.as_deref().unwrap_or_default());
        hash.text(&self.subscriber.address.to_string());
        hash.number(self.subscriber.since);
        hash.text(self.interest.namespace.as_str());
        self.interest.services.iter().for_each(|service| hash.number(*service));
        self.interest.prefixes.iter().for_each(|prefix| hash.text(prefix));
        hash.finish() as u64
    }

    fn size_bytes(&self) -> usize {
        let prefixes: usize = self.interest.prefixes.iter().map(|prefix| prefix.len() + 4).sum();
        160 + prefixes + 9 * self.interest.services.len()
    }
}

/// The same in whatever order they come; 0 where there are none.
fn digest_of(watchers: &[Watcher]) -> u64 {
    watchers.iter().map(Watcher::digest).fold(0, u64::wrapping_add)
}

/// Where nobody else is known nothing is missing.
impl Default for Elsewhere {
    fn default() -> Self {
        Self { nodes: BTreeMap::new(), complete: true }
    }
}

impl Elsewhere {
    /// Who follows this service at other nodes.
    pub fn of<'a>(&'a self, service: &'a ServiceKey) -> impl Iterator<Item = (&'a NodeName, &'a Subscriber)> {
        let of_node = move |(node, watchers): (&'a NodeName, &'a Arc<[Watcher]>)| {
            watchers.iter().filter(|watcher| watcher.interest.includes(service)).map(move |watcher| (node, &watcher.subscriber))
        };
        self.nodes.iter().flat_map(of_node)
    }
}

impl Audience {
    /// As the beacon says it.
    pub(super) fn to_said(&self) -> AudienceAt {
        self.at
    }

    fn page(&self, from: usize) -> AudiencePage {
        let mut bytes = 0;
        let fits = |watcher: &&Watcher| {
            bytes += watcher.size_bytes();
            bytes <= PAGE_BYTES_MAX
        };
        let rest = self.own.get(from..).unwrap_or_default();
        let watchers: Vec<Watcher> = rest.iter().take(PAGE_MAX).take_while(fits).cloned().collect();
        AudiencePage { digest: self.at.digest, more: watchers.len() < rest.len(), watchers }
    }

    /// Who follows this service here, as the shell said last.
    pub(super) fn own<'a>(&'a self, service: &'a ServiceKey) -> impl Iterator<Item = &'a Subscriber> {
        self.own.iter().filter(|watcher| watcher.interest.includes(service)).map(|watcher| &watcher.subscriber)
    }

    /// Who followed this service at that node, as far as that is known.
    pub(super) fn at<'a>(&'a self, node: &NodeName, service: &'a ServiceKey) -> impl Iterator<Item = &'a Subscriber> {
        let held = self.known.get(node).map(|known| &*known.held).unwrap_or_default();
        held.iter().filter(|watcher| watcher.interest.includes(service)).map(|watcher| &watcher.subscriber)
    }
}

impl Registry {
    /// The shell says who is here now, and how many, where that are more.
    pub(super) fn handle_audience(&mut self, mut watchers: Vec<Watcher>, count: u64) {
        watchers.truncate(WATCHERS_MAX);
        self.audience.at = AudienceAt { count, digest: digest_of(&watchers) };
        self.audience.own = watchers.into();
    }

    /// A present life has said how its audience is.
    pub(super) fn compare_audience(&mut self, from: &Life, beacon: &Beacon, now: Mono, out: &mut Outbox) {
        let said = beacon.audience;
        let is_known = self.audience.known.get(&from.node).is_some_and(|known| known.epoch == from.epoch);
        if !is_known {
            self.forget_audience(&from.node, out);
            if said == AudienceAt::default() {
                return;
            }
            let known = Known {
                epoch: from.epoch,
                said,
                held: Arc::default(),
                held_digest: 0,
                coming: Vec::new(),
                coming_digest: 0,
                ticket: 0,
                ask_at: now,
            };
            self.audience.known.insert(from.node.clone(), known);
        }
        let Some(known) = self.audience.known.get_mut(&from.node) else { return };
        if known.said != said {
            known.said = said;
            out.push(Output::AudienceChanged);
        }
        if known.held_digest != said.digest && now >= known.ask_at {
            known.coming.clear();
            known.coming_digest = said.digest;
            self.ask_audience(&from.node, now, out);
        }
    }

    fn ask_audience(&mut self, node: &NodeName, now: Mono, out: &mut Outbox) {
        let Some(known) = self.audience.known.get_mut(node) else { return };
        known.ticket = self.rng.next();
        known.ask_at = now + AGAIN_MS;
        let message = Message::AskAudience { ticket: known.ticket, from: known.coming.len() as u32 };
        out.push(Output::Send(To::Node(node.clone()), message));
    }

    /// A peer asks who is here.
    pub(super) fn handle_ask_audience(&mut self, from: &Life, ticket: u64, first: u32, now: Now, out: &mut Outbox) {
        let page = self.audience.page(first as usize);
        // A node that has just come asks before its own beacon is here.
        if !self.admits_reply(from, page.watchers.iter().map(Watcher::size_bytes).sum(), now) {
            return;
        }
        out.push(Output::Send(To::Node(from.node.clone()), Message::ToldAudience { ticket, page }));
    }

    /// A peer has told who is there, or a part.
    pub(super) fn handle_told_audience(&mut self, from: &Life, ticket: u64, page: AudiencePage, now: Now, out: &mut Outbox) {
        let Some(known) = self.audience.known.get_mut(&from.node) else { return };
        if known.epoch != from.epoch || known.ticket != ticket {
            return;
        }
        if known.coming.is_empty() {
            known.coming_digest = page.digest;
        }
        let fits = known.coming.len() + page.watchers.len() <= WATCHERS_MAX;
        if known.coming_digest != page.digest || !fits || (page.more && page.watchers.is_empty()) {
            // It has changed meanwhile: the next beacon begins anew.
            known.coming.clear();
            known.ticket = 0;
            return;
        }
        known.coming.extend(page.watchers);
        if page.more {
            self.ask_audience(&from.node, now.mono, out);
            return;
        }
        known.ticket = 0;
        let came = std::mem::take(&mut known.coming);
        if digest_of(&came) == page.digest {
            known.held_digest = page.digest;
            known.held = came.into();
            if known.held.len() > PAGE_MAX {
                known.ask_at = now.mono + ANEW_MS;
            }
            out.push(Output::AudienceChanged);
        }
    }

    /// A node's streams have ended with it.
    pub(super) fn forget_audience(&mut self, node: &NodeName, out: &mut Outbox) {
        if self.audience.known.remove(node).is_some() {
            out.push(Output::AudienceChanged);
        }
    }

    /// Forgets the audiences of nodes that are dead or gone.
    pub(super) fn keep_audiences(&mut self, now: Mono, out: &mut Outbox) {
        let is_over = |node: &NodeName| self.peers.get(node).is_none_or(|peer| peer.is_dead || peer.is_gone(now));
        let over: Vec<NodeName> = self.audience.known.keys().filter(|node| is_over(node)).cloned().collect();
        for node in over {
            self.forget_audience(&node, out);
        }
    }

    /// The subscribers of other nodes, as this one knows them.
    #[must_use]
    pub fn audience_elsewhere(&self, now: Now) -> Elsewhere {
        let is_whole = |known: &Known| known.held_digest == known.said.digest && known.held.len() as u64 >= known.said.count;
        Elsewhere {
            nodes: self.audience.known.iter().map(|(node, known)| (node.clone(), Arc::clone(&known.held))).collect(),
            complete: self.peers.alive(now.mono).all(|(node, _)| self.audience.known.get(node).is_none_or(is_whole)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Envelope, Input, NodeState, Settings};

    const START: Now = Now { mono: 1_000_000, wall: 0 };

    fn life(name: &str) -> Life {
        Life { node: NodeName::parse(name).unwrap(), epoch: Epoch(2) }
    }

    fn node(name: &str) -> Registry {
        Registry::new(Settings { has_bus: false, expect_empty: true, ..Settings::new(life(name).node, Epoch(2)) }, 1, START)
    }

    fn key(service: &str) -> ServiceKey {
        ServiceKey { namespace: Namespace::default(), service: ServiceName::parse(service).unwrap() }
    }

    fn watcher(number: u16, services: &[&str]) -> Watcher {
        let names: Vec<ServiceName> = services.iter().map(|name| ServiceName::parse(name).unwrap()).collect();
        let subscriber = Subscriber { name: Some("cart/1.4".into()), address: ([10, 0, 0, 9], number).into(), since: 5 };
        Watcher { subscriber, interest: Arc::new(Interest::new(Namespace::default(), names.iter(), &[])) }
    }

    /// Gives `to` what `from` says, and `from` what `to` says of that, until both are silent.
    fn talk(from: &mut Registry, to: &mut Registry, message: Message, now: Now) {
        let mut messages = vec![(true, message)];
        while let Some((is_to, message)) = messages.pop() {
            let (speaker, hearer) = if is_to { (&*from, &mut *to) } else { (&*to, &mut *from) };
            let envelope = Envelope { from: speaker.life.clone(), message };
            let mut out = Outbox::new();
            hearer.handle(Input::Received(envelope), now, &mut out);
            let said =
                out.into_iter().filter_map(|output| if let Output::Send(To::Node(_), message) = output { Some(message) } else { None });
            messages.extend(said.map(|message| (!is_to, message)));
        }
    }

    fn beacon(registry: &Registry) -> Message {
        Message::Beacon(Beacon { audience: registry.audience.to_said(), ..Beacon::of(NodeState::Ready) })
    }

    #[test]
    fn an_interest_is_in_what_it_names_and_in_what_begins_so() {
        let names = [ServiceName::parse("user").unwrap(), ServiceName::parse("cart").unwrap()];
        let interest = Interest::new(Namespace::default(), names.iter(), &["db-".to_owned()]);
        assert!(["user", "cart", "db-1"].iter().all(|name| interest.includes(&key(name))));
        assert!(!interest.includes(&key("db")) && !interest.includes(&key("users")));
        let other = ServiceKey { namespace: Namespace::parse("test").unwrap(), ..key("user") };
        assert!(!interest.includes(&other));
    }

    #[test]
    fn a_peer_learns_who_is_there_in_as_many_parts_as_it_takes_and_of_changes_within_seconds() {
        let (mut there, mut here) = (node("n2"), node("n1"));
        let mut watchers: Vec<Watcher> = (0..3000).map(|number| watcher(number, &["user"])).collect();
        there.handle(Input::Audience { watchers: watchers.clone(), count: 3000 }, START, &mut Outbox::new());
        let said = beacon(&there);
        talk(&mut there, &mut here, said.clone(), START);
        let elsewhere = here.audience_elsewhere(START);
        assert_eq!((elsewhere.of(&key("user")).count(), elsewhere.of(&key("cart")).count(), elsewhere.complete), (3000, 0, true));
        watchers.pop();
        there.handle(Input::Audience { watchers, count: 2999 }, START, &mut Outbox::new());
        let said = beacon(&there);
        let soon = Now { mono: START.mono + ANEW_MS - 1, ..START };
        talk(&mut there, &mut here, said.clone(), soon);
        let elsewhere = here.audience_elsewhere(soon);
        assert_eq!((elsewhere.of(&key("user")).count(), elsewhere.complete), (3000, false), "all of it was told just now");
        let later = Now { mono: START.mono + ANEW_MS, ..START };
        talk(&mut there, &mut here, said, later);
        assert_eq!(here.audience_elsewhere(later).of(&key("user")).count(), 2999);
        assert_eq!(here.audience.at(&life("n2").node, &key("user")).count(), 2999);
    }

    #[test]
    fn where_few_are_held_whoever_comes_or_goes_is_learned_of_at_once() {
        let (mut there, mut here) = (node("n2"), node("n1"));
        // One comes, goes, and another comes: of each the peer hears in the next beacon in which it asks.
        for (ms, ports) in [(0, vec![1]), (AGAIN_MS, vec![]), (2 * AGAIN_MS, vec![2])] {
            let (now, count) = (Now { mono: START.mono + ms, ..START }, ports.len());
            let watchers = ports.into_iter().map(|port| watcher(port, &["user"])).collect();
            there.handle(Input::Audience { watchers, count: count as u64 }, now, &mut Outbox::new());
            let said = beacon(&there);
            talk(&mut there, &mut here, said, now);
            let elsewhere = here.audience_elsewhere(now);
            assert_eq!((elsewhere.of(&key("user")).count(), elsewhere.complete), (count, true), "after {ms} ms");
        }
    }

    #[test]
    fn the_audience_of_a_dead_node_goes_and_that_of_a_silent_one_stays() {
        let (mut there, mut here) = (node("n2"), node("n1"));
        there.handle(Input::Audience { watchers: vec![watcher(1, &["user"])], count: 1 }, START, &mut Outbox::new());
        let said = beacon(&there);
        talk(&mut there, &mut here, said, START);
        let later = Now { mono: START.mono + 10_000, ..START };
        here.keep_audiences(later.mono, &mut Outbox::new());
        assert_eq!(here.audience_elsewhere(later).of(&key("user")).count(), 1);
        here.peers.get_mut(&life("n2").node).unwrap().is_dead = true;
        here.keep_audiences(later.mono, &mut Outbox::new());
        assert_eq!(here.audience_elsewhere(later).of(&key("user")).count(), 0);
    }
}
