//! Subjects: `muster.<cluster>.<topic>.<node>`, and what travels on which.

use crate::model::{Cluster, NodeName};
use crate::registry::{Message, To};

/// What a subject is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    /// Records a node wrote, to all.
    Change,
    /// How a node is, to all.
    Beacon,
    /// Pulls and their answers, to one.
    Pull,
    /// Relayed heartbeats and their answers, to one.
    Relay,
    /// Small questions and their answers, and overrides, to one.
    Ask,
}

/// Frames that may hold each other up; lanes do not. Bulk must not silence what is said at once, and neither what says that a node lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Beacons.
    Beacons,
    /// Changes, relays and questions.
    Direct,
    /// Pulls.
    Bulk,
}

/// Where a frame goes, or came: of a topic that goes to all, whose it is; of another, whom it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) topic: Topic,
    pub(super) node: NodeName,
}

impl Topic {
    pub(super) const ALL: [Self; 5] = [Self::Change, Self::Beacon, Self::Pull, Self::Relay, Self::Ask];

    /// Its token in a subject, and its word for counters.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Beacon => "beacon",
            Self::Pull => "pull",
            Self::Relay => "relay",
            Self::Ask => "ask",
        }
    }

    /// The one topic a message may travel on. Answers travel as their questions do, to the asker's own subject, with the question's ticket.
    pub(super) fn of(message: &Message) -> Self {
        match message {
            Message::Change(_) => Self::Change,
            Message::Beacon(_) => Self::Beacon,
            Message::Pull { .. }
            | Message::PullSized { .. }
            | Message::Pulled { .. }
            | Message::AskAudience { .. }
            | Message::ToldAudience { .. } => Self::Pull,
            Message::Relay { .. } | Message::Relayed { .. } => Self::Relay,
            Message::Applied { .. }
            | Message::AskLease { .. }
            | Message::ToldLease { .. }
            | Message::AskProbe { .. }
            | Message::ToldProbe { .. }
            | Message::AskRecords { .. }
            | Message::ToldRecords { .. }
            | Message::AskDelivery { .. }
            | Message::ToldDelivery { .. }
            | Message::HandOver { .. }
            | Message::TookOver { .. }
            | Message::Overrides(_) => Self::Ask,
        }
    }

    /// It goes to all, on a subject that only its sender may write to.
    pub(super) fn is_to_all(self) -> bool {
        match self {
            Self::Change | Self::Beacon => true,
            Self::Pull | Self::Relay | Self::Ask => false,
        }
    }

    pub(super) fn lane(self) -> Lane {
        match self {
            Self::Beacon => Lane::Beacons,
            Self::Change | Self::Relay | Self::Ask => Lane::Direct,
            Self::Pull => Lane::Bulk,
        }
    }

    /// What `node` subscribes to for it.
    pub(super) fn to_filter(self, cluster: &Cluster, node: &NodeName) -> String {
        let last = if self.is_to_all() { "*" } else { node.as_str() };
        format!("muster.{cluster}.{}.{last}", self.as_str())
    }
}

impl Lane {
    pub(super) const ALL: [Self; 3] = [Self::Beacons, Self::Direct, Self::Bulk];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Beacons => "beacons",
            Self::Direct => "direct",
            Self::Bulk => "bulk",
        }
    }

    /// The topics that travel on it.
    pub(super) fn topics(self) -> impl Iterator<Item = Topic> {
        Topic::ALL.into_iter().filter(move |topic| topic.lane() == self)
    }
}

impl Subject {
    /// Where `me` sends a message for `to`; `None` when no subject carries this to them: a beacon is for all, an answer for one.
    pub(super) fn of(message: &Message, me: &NodeName, to: &To) -> Option<Self> {
        let topic = Topic::of(message);
        match to {
            To::All => topic.is_to_all().then(|| Self { topic, node: me.clone() }),
            To::Node(node) => (!topic.is_to_all()).then(|| Self { topic, node: node.clone() }),
        }
    }

    /// As NATS spells it. Node and cluster names are single tokens by their grammar.
    pub(super) fn to_text(&self, cluster: &Cluster) -> String {
        format!("muster.{cluster}.{}.{}", self.topic.as_str(), self.node)
    }

    /// Reads a subject of this cluster; `None` when it is none.
    pub(super) fn parse(text: &str, cluster: &Cluster) -> Option<Self> {
        let rest = text.strip_prefix("muster.")?.strip_prefix(cluster.as_str())?.strip_prefix('.')?;
        let (topic, node) = rest.split_once('.')?;
        let topic = Topic::ALL.into_iter().find(|known| known.as_str() == topic)?;
        Some(Self { topic, node: NodeName::parse(node).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Epoch;

    fn cluster() -> Cluster {
        Cluster::parse("prod-eu").unwrap()
    }

    fn node(name: &str) -> NodeName {
        NodeName::parse(name).unwrap()
    }

    #[test]
    fn a_subject_is_read_as_it_was_written() {
        for topic in Topic::ALL {
            let subject = Subject { topic, node: node("n-1") };
            assert_eq!(Subject::parse(&subject.to_text(&cluster()), &cluster()), Some(subject));
        }
        let subject = Subject { topic: Topic::Change, node: node("n-1") };
        assert_eq!(subject.to_text(&cluster()), "muster.prod-eu.change.n-1");
    }

    #[test]
    fn what_is_no_subject_of_this_cluster_is_not_read() {
        for text in [
            "",
            "muster",
            "muster.prod-eu",
            "muster.prod-eu.change",
            "muster.prod-eu.change.",
            "muster.prod-eu.change.*",
            "muster.prod-eu.change.n1.x",
            "muster.prod-eu.changes.n1",
            "muster.prod-eu2.change.n1",
            "muster.prod.change.n1",
            "other.prod-eu.change.n1",
            "muster.prod-eu.change.N1",
        ] {
            assert_eq!(Subject::parse(text, &cluster()), None, "{text}");
        }
    }

    #[test]
    fn each_message_goes_only_where_it_belongs() {
        let applied = Message::Applied { epoch: Epoch(1), seq: 1 };
        let to_one = To::Node(node("n2"));
        assert_eq!(Subject::of(&applied, &node("n1"), &to_one), Some(Subject { topic: Topic::Ask, node: node("n2") }));
        assert_eq!(Subject::of(&applied, &node("n1"), &To::All), None);
    }

    #[test]
    fn a_node_listens_to_all_that_is_for_all_and_to_what_is_for_it() {
        assert_eq!(Topic::Beacon.to_filter(&cluster(), &node("n1")), "muster.prod-eu.beacon.*");
        assert_eq!(Topic::Pull.to_filter(&cluster(), &node("n1")), "muster.prod-eu.pull.n1");
    }

    #[test]
    fn every_topic_has_one_lane() {
        let on_lanes: usize = Lane::ALL.into_iter().map(|lane| lane.topics().count()).sum();
        assert_eq!(on_lanes, Topic::ALL.len());
    }
}
