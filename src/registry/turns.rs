//! Turns: what waits to be probed is taken turn by turn: over the namespaces, over each one's services, and of a service in the order in
//! which it came. Whoever has very many instances waits for itself alone.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::model::{InstanceKey, Namespace, ServiceName};

/// What waits, each once: at most as many as are looked at.
#[derive(Default)]
pub(super) struct Turns {
    namespaces: BTreeMap<Namespace, Services>,
    /// Whose turn it was last.
    last: Option<Namespace>,
}

#[derive(Default)]
struct Services {
    waiting: BTreeMap<ServiceName, BTreeMap<u64, InstanceKey>>,
    last: Option<ServiceName>,
}

impl Turns {
    pub(super) fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }

    /// `place` is greater than that of whatever came before.
    pub(super) fn insert(&mut self, place: u64, key: InstanceKey) {
        let services = self.namespaces.entry(key.service.namespace.clone()).or_default();
        services.waiting.entry(key.service.service.clone()).or_default().insert(place, key);
    }

    pub(super) fn remove(&mut self, place: u64, key: &InstanceKey) {
        self.take(&key.service.namespace, &key.service.service, Some(place));
    }

    /// Whoever's turn it is.
    pub(super) fn next(&mut self) -> Option<InstanceKey> {
        let namespace = following(&self.namespaces, self.last.as_ref())?;
        let services = self.namespaces.get_mut(&namespace)?;
        let service = following(&services.waiting, services.last.as_ref())?;
        services.last = Some(service.clone());
        self.last = Some(namespace.clone());
        self.take(&namespace, &service, None)
    }

    /// Takes what waits at that place, or first; what is empty then goes.
    fn take(&mut self, namespace: &Namespace, service: &ServiceName, place: Option<u64>) -> Option<InstanceKey> {
        let services = self.namespaces.get_mut(namespace)?;
        let waiting = services.waiting.get_mut(service)?;
        let taken = match place {
            Some(place) => waiting.remove(&place),
            None => waiting.pop_first().map(|(_, key)| key),
        };
        if waiting.is_empty() {
            services.waiting.remove(service);
        }
        if services.waiting.is_empty() {
            self.namespaces.remove(namespace);
        }
        taken
    }
}

/// The one behind `last`, or the first.
fn following<K: Ord + Clone, V>(map: &BTreeMap<K, V>, last: Option<&K>) -> Option<K> {
    let behind = last.and_then(|last| map.range((Bound::Excluded(last), Bound::Unbounded)).next());
    behind.or_else(|| map.first_key_value()).map(|(key, _)| key.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{InstanceId, ServiceKey};

    fn key(namespace: &str, service: &str, id: &str) -> InstanceKey {
        let service = ServiceKey { namespace: Namespace::parse(namespace).unwrap(), service: ServiceName::parse(service).unwrap() };
        InstanceKey { service, id: InstanceId::parse(id).unwrap() }
    }

    #[test]
    fn each_namespace_has_its_turn_then_each_service_then_whoever_came_first() {
        let mut turns = Turns::default();
        for (place, id) in ["9", "1", "5"].into_iter().enumerate() {
            turns.insert(place as u64, key("noisy", "a", id));
        }
        turns.insert(3, key("noisy", "b", "1"));
        turns.insert(4, key("quiet", "a", "1"));
        turns.insert(5, key("quiet", "a", "2"));
        turns.insert(6, key("quiet", "a", "3"));
        turns.remove(5, &key("quiet", "a", "2"));
        let taken: Vec<String> = std::iter::from_fn(|| turns.next()).map(|key| key.to_string()).collect();
        let expected =
            [("noisy", "a", "9"), ("quiet", "a", "1"), ("noisy", "b", "1"), ("quiet", "a", "3"), ("noisy", "a", "1"), ("noisy", "a", "5")];
        assert_eq!(taken, expected.map(|(namespace, service, id)| key(namespace, service, id).to_string()));
        assert!(turns.is_empty() && turns.next().is_none());
    }
}
