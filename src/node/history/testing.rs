//! What the tests of this folder have in common.

use super::Event;
use crate::model::{Cause, Epoch, InstanceId, InstanceKey, Namespace, NodeName, Seq, ServiceKey, ServiceName, Status};

/// A change of `user`'s instance `id`, written by `n1`.
pub(super) fn event(id: &str, seq: Seq) -> Event {
    let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
    Event {
        key: InstanceKey { service, id: InstanceId::parse(id).unwrap() },
        node: NodeName::parse("n1").unwrap(),
        epoch: Epoch(1),
        seq,
        at: 1_763_630_043_120,
        cause: Cause::Expired,
        from: Some(Status::Up),
        to: Some(Status::Suspect),
        actor: None,
        detail: Some("no heartbeat for 15.2 s".into()),
        last_heartbeat_ms: Some(15_230),
        is_own: false,
    }
}
