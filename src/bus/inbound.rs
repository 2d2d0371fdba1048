//! Inbound: what came on a subject, checked, and given to the node.

use std::sync::Arc;

use super::subject::{Subject, Topic};
use crate::metrics::Metrics;
use crate::model::{Cluster, NodeName};
use crate::node::{FromBus, ToNode};
use crate::registry::Envelope;
use crate::wire::{Codec, Rejected};

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
            Ok((topic, envelope)) => {
                self.metrics.frame_received(topic.as_str(), frame.len());
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

    fn check(&self, subject: &str, frame: &[u8]) -> Result<(Topic, Envelope), Rejected> {
        let Subject { topic, node } = Subject::parse(subject, &self.cluster).ok_or(Rejected::Origin)?;
        let envelope = if topic.is_to_all() {
            self.codec.decode_from(frame, &node)?
        } else if node == self.me {
            self.codec.decode(frame)?
        } else {
            return Err(Rejected::Origin);
        };
        // A change on a subject that anybody may write to would pass by the check of its origin.
        if Topic::of(&envelope.message) == topic { Ok((topic, envelope)) } else { Err(Rejected::Origin) }
    }
}
