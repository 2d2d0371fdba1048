//! Inbound: what came on a subject, checked, and given to the node.

use std::sync::Arc;

use super::subject::{Subject, Topic};
use crate::metrics::Metrics;
use crate::model::{Cluster, Life, NodeName};
use crate::node::{FromBus, ToNode};
use crate::wire::{Codec, Heard, LeftOut, Rejected};

/// One node's ear. Cheap to clone: each reader has its own.
#[derive(Clone)]
pub(super) struct Ear {
    codec: Codec,
    cluster: Cluster,
    me: NodeName,
    to_node: ToNode,
    metrics: Arc<Metrics>,
}

impl Ear {
    pub(super) fn new(cluster: &Cluster, me: &NodeName, to_node: ToNode, metrics: Arc<Metrics>) -> Self {
        Self { codec: Codec::new(cluster), cluster: cluster.clone(), me: me.clone(), to_node, metrics }
    }

    /// Takes a frame. Invalid bytes change a counter and nothing else. False: the node has stopped.
    pub(super) async fn hear(&self, subject: &str, frame: &[u8]) -> bool {
        match self.check(subject, frame) {
            Ok((topic, Heard { envelope, left_out })) => {
                self.metrics.frame_received(topic.as_str(), frame.len());
                self.note(&envelope.from, &left_out);
                self.to_node.send(FromBus::Received(envelope)).await
            }
            Err(rejected) => {
                self.metrics.frame_bad(rejected.label());
                tracing::debug!(subject, bytes = frame.len(), %rejected, "a frame was refused");
                true
            }
        }
    }

    /// Tells the node how the bus is. False: the node has stopped.
    pub(super) async fn tell(&self, what: FromBus) -> bool {
        self.to_node.send(what).await
    }

    fn check(&self, subject: &str, frame: &[u8]) -> Result<(Topic, Heard), Rejected> {
        let Subject { topic, node } = Subject::parse(subject, &self.cluster).ok_or(Rejected::Origin)?;
        if !topic.is_to_all() && node != self.me {
            return Err(Rejected::Origin);
        }
        let heard = self.codec.hear(frame, topic.is_to_all().then_some(&node))?;
        // A change on a subject that anybody may write to would pass by the check of its origin.
        if Topic::of(&heard.envelope.message) == topic { Ok((topic, heard)) } else { Err(Rejected::Origin) }
    }

    /// Records that break a rule here: this node lacks them, and its digest will say so.
    fn note(&self, from: &Life, left_out: &[LeftOut]) {
        for _ in left_out {
            self.metrics.frame_bad("record");
        }
        if let Some(LeftOut { seq, what }) = left_out.first() {
            let records = left_out.len();
            tracing::warn!(peer = %from, records, first = seq, invalid = what, "records were not taken: they break a rule of this node's");
        }
    }
}
