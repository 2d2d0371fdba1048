//! Encoded lists: a service's instances as bytes, made once for each revision and selection, and sent to all who ask.

use std::sync::Arc;

use axum::http::HeaderValue;
use bytes::Bytes;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use xxhash_rust::xxh3::xxh3_128;

use crate::api::Hex;
use crate::api::consume::{Instance, Instances, Trust};
use crate::model::{InstanceId, Listed, Selection, ServiceKey};
use crate::registry::{View, listed_digest};

/// What the kept bodies may take in all; past it the one that was asked for longest ago goes, and is made again when it is asked for.
const BYTES_MAX: u64 = 64 << 20;

/// The bodies that were asked for lately.
pub(in crate::http) struct Lists(Cache<Key, Encoded, foldhash::fast::RandomState>);

/// What a list was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    /// Of which service.
    pub(super) service: ServiceKey,
    /// Which of its instances.
    pub(super) selection: Selection,
    /// At most so many; `None`: all.
    pub(super) limit: Option<usize>,
    /// From the one after this on.
    pub(super) after: Option<InstanceId>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    question: Question,
    revision: u128,
    trust: Trust,
}

/// A list as it is sent. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Encoded {
    /// Strong, and the same on every node.
    pub(super) etag: HeaderValue,
    /// The JSON.
    pub(super) body: Bytes,
}

impl Lists {
    /// No bodies yet.
    pub(in crate::http) fn new() -> Self {
        let size = |_: &Key, list: &Encoded| u32::try_from(list.body.len() + 512).unwrap_or(u32::MAX);
        let cache = Cache::builder().max_capacity(BYTES_MAX).weigher(size).eviction_policy(EvictionPolicy::lru());
        Self(cache.build_with_hasher(foldhash::fast::RandomState::default()))
    }

    /// The answer to a question from this view.
    pub(super) fn answer(&self, question: &Question, view: &View, trust: Trust) -> Encoded {
        let key = Key { question: question.clone(), revision: view.revision(), trust };
        if let Some(known) = self.0.get(&key) {
            return known;
        }
        let encoded = encode(question, view, trust);
        self.0.insert(key, encoded.clone());
        encoded
    }
}

fn encode(question: &Question, view: &View, trust: Trust) -> Encoded {
    let selected = view.select(&question.selection);
    let (page, next) = page(&selected, question);
    let instances = Instances {
        namespace: question.service.namespace.as_str().into(),
        service: question.service.service.as_str().into(),
        revision: Hex(view.revision()),
        trust,
        instances: page.iter().map(|listed| Instance::from(&***listed)).collect(),
        next: next.map(|id| id.as_str().into()),
    };
    let body = serde_json::to_vec(&instances).expect("unreachable: the shapes have only string keys");
    Encoded { etag: etag(digest(page, next), trust), body: body.into() }
}

/// The part of a selection that was asked for, and the last id of it where there are more.
fn page<'a, 'b>(selected: &'b [&'a Arc<Listed>], question: &Question) -> (&'b [&'a Arc<Listed>], Option<&'a InstanceId>) {
    let begin = question.after.as_ref().map_or(0, |after| selected.partition_point(|listed| listed.id <= *after));
    let rest = &selected[begin..];
    match question.limit {
        Some(limit) if limit < rest.len() => (&rest[..limit], Some(&rest[limit - 1].id)),
        Some(_) | None => (rest, None),
    }
}

/// Of a whole service this is its revision. That there is more is a part of what a page says.
fn digest(page: &[&Arc<Listed>], next: Option<&InstanceId>) -> u128 {
    let more = next.map_or(0, |id| xxh3_128(id.as_str().as_bytes()));
    page.iter().map(|listed| listed_digest(listed)).fold(more, u128::wrapping_add)
}

fn etag(digest: u128, trust: Trust) -> HeaderValue {
    let flags = [(!trust.complete, 'i'), (trust.stale, 's'), (trust.preserved, 'p')];
    let mut suffix: String = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, letter)| *letter).collect();
    if !suffix.is_empty() {
        suffix.insert(0, '-');
    }
    HeaderValue::try_from(format!("\"{}{suffix}\"", Hex(digest))).expect("unreachable: digits and letters")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::feed::testing::{service, view};

    const TRUST: Trust = Trust { complete: true, stale: false, stale_ms: None, preserved: false };

    fn question() -> Question {
        Question { service: service("user"), selection: Selection::default(), limit: None, after: None }
    }

    fn ids(encoded: &Encoded) -> (Vec<String>, Option<String>) {
        let read: Instances<'_> = serde_json::from_slice(&encoded.body).unwrap();
        (read.instances.iter().map(|instance| instance.id.to_string()).collect(), read.next.map(|next| next.to_string()))
    }

    #[test]
    fn a_list_is_spelled_as_the_api_says() {
        let view = view(&[("a", 100)]);
        let encoded = encode(&question(), &view, TRUST);
        let revision = Hex(view.revision());
        let expected = format!(
            r#"{{"namespace":"default","service":"user","revision":"{revision}","complete":true,"stale":false,"preserved":false,"instances":[{{"id":"a","address":"10.0.0.1","port":80,"status":"up","weight":100,"zone":"a"}}]}}"#
        );
        assert_eq!(encoded.body, expected);
        assert_eq!(encoded.etag, format!("\"{revision}\""), "of a whole service the etag is the revision");
    }

    #[test]
    fn the_etag_says_when_an_answer_is_not_to_be_relied_on() {
        let view = view(&[("a", 100)]);
        let tag = |trust| encode(&question(), &view, trust).etag.to_str().unwrap().to_owned();
        let (whole, digest) = (tag(TRUST), Hex(view.revision()));
        let unsure = Trust { complete: false, stale: true, stale_ms: Some(1000), ..TRUST };
        assert_eq!(tag(unsure), format!("\"{digest}-is\""));
        assert_eq!(tag(Trust { stale: true, stale_ms: Some(1000), ..TRUST }), tag(Trust { stale: true, stale_ms: Some(2000), ..TRUST }));
        assert_ne!(tag(Trust { stale: true, stale_ms: Some(0), ..TRUST }), whole);
    }

    #[test]
    fn pages_join_to_the_whole() {
        let view = view(&[("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5)]);
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let question = Question { limit: Some(2), after: after.clone(), ..question() };
            let (ids, next) = ids(&encode(&question, &view, TRUST));
            found.extend(ids);
            let Some(next) = next else { break };
            after = Some(InstanceId::parse(&next).unwrap());
        }
        assert_eq!(found, ["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn a_page_after_which_there_is_more_has_another_etag() {
        let limited = Question { limit: Some(1), ..question() };
        let (one, two) = (view(&[("a", 1)]), view(&[("a", 1), ("b", 2)]));
        assert_ne!(encode(&limited, &one, TRUST).etag, encode(&limited, &two, TRUST).etag);
    }

    #[test]
    fn a_body_is_made_once_for_each_revision() {
        let lists = Lists::new();
        let (one, two) = (view(&[("a", 1)]), view(&[("a", 2)]));
        let first = lists.answer(&question(), &one, TRUST);
        let again = lists.answer(&question(), &one, TRUST);
        assert_eq!(first.body.as_ptr(), again.body.as_ptr());
        assert_ne!(lists.answer(&question(), &two, TRUST).etag, first.etag);
    }
}
