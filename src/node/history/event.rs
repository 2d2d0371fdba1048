//! An event: one visible change of an instance, with who and why.
//!
//! It holds names and words only, no registration: tens of thousands are kept, and what was once registered must not live as long as they.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::api::events as api;
use crate::model::{Cause, Epoch, InstanceId, InstanceKey, NodeName, Seq, ServiceKey, Status};
use crate::registry::{Changed, NOTE_BYTES_MAX, Record};

/// One visible change of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Of which instance.
    pub key: InstanceKey,
    /// The node that wrote the change: the owner since.
    pub node: NodeName,
    /// In which of its lives.
    pub epoch: Epoch,
    /// The change in that life's log.
    pub seq: Seq,
    /// When, on that node's wall clock, in ms since 1970.
    pub at: u64,
    /// Why.
    pub cause: Cause,
    /// The effective status before; `None`: it was not visible.
    pub from: Option<Status>,
    /// The effective status since; `None`: it is not visible.
    pub to: Option<Status>,
    /// Who asked for it, where somebody did.
    pub actor: Option<Arc<str>>,
    /// More about the cause, in words.
    pub detail: Option<Arc<str>>,
    /// As in [`Record::last_heartbeat_ms`].
    pub last_heartbeat_ms: Option<u32>,
    /// This node wrote the change, in this process.
    pub is_own: bool,
}

/// What names an event: `n1-8123`; with the epoch behind it, `n1-8123-00c0ffee00c0ffee`, it is the only one of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventId {
    node: NodeName,
    seq: Seq,
    epoch: Option<Epoch>,
}

impl Event {
    /// The event of a change; `None`: nobody who looks sees a difference.
    #[must_use]
    pub fn of(changed: &Changed) -> Option<Self> {
        let Changed { record, from, to, own, is_visible, .. } = changed;
        is_visible.then(|| Self { from: *from, is_own: *own, ..Self::of_record(record, *to) })
    }

    /// The last that is known of an instance whose history is not kept here: what was before it nobody knows.
    #[must_use]
    pub fn of_record(record: &Record, to: Option<Status>) -> Self {
        Self {
            key: record.key.clone(),
            node: record.version.owner.node.clone(),
            epoch: record.version.owner.epoch,
            seq: record.version.seq,
            at: record.changed_at,
            cause: record.cause,
            from: None,
            to,
            actor: record.actor.clone(),
            detail: record.detail.clone(),
            last_heartbeat_ms: record.last_heartbeat_ms,
            is_own: false,
        }
    }

    /// As the API shows it.
    #[must_use]
    pub fn to_shape(&self) -> api::Event<'_> {
        api::Event {
            id: self.id().into(),
            at: to_time(self.at),
            node: self.node.as_str().into(),
            epoch: self.epoch.to_string(),
            namespace: self.key.service.namespace.as_str().into(),
            service: self.key.service.service.as_str().into(),
            instance: self.key.id.as_str().into(),
            cause: self.cause.as_str().into(),
            from: self.from.map(|status| status.as_str().into()),
            to: self.to.map(|status| status.as_str().into()),
            actor: self.actor.as_deref().map(Into::into),
            last_heartbeat_ms: self.last_heartbeat_ms,
            detail: self.detail.as_deref().map(Into::into),
        }
    }

    /// Its name for people.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}-{}", self.node, self.seq)
    }

    /// The object that the API and the bus's subject carry.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.to_shape()).expect("unreachable: the shape has only string keys")
    }

    /// Reads what [`Event::to_json`] wrote; `None`: it breaks a rule.
    pub(super) fn from_json(bytes: &[u8]) -> Option<Self> {
        let shape: api::Event<'_> = serde_json::from_slice(bytes).ok()?;
        let id: EventId = shape.id.parse().ok()?;
        let status = |word: Option<&str>| word.map(str::parse::<Status>).transpose().ok();
        let note = |text: Option<&str>| match text {
            Some(text) if text.len() > NOTE_BYTES_MAX || text.chars().any(char::is_control) => None,
            text => Some(text.map(Arc::from)),
        };
        Some(Self {
            key: InstanceKey {
                service: ServiceKey { namespace: shape.namespace.parse().ok()?, service: shape.service.parse().ok()? },
                id: InstanceId::parse(&shape.instance).ok()?,
            },
            node: id.node,
            epoch: to_epoch(&shape.epoch)?,
            seq: id.seq,
            at: u64::try_from(shape.at.parse::<Timestamp>().ok()?.as_millisecond()).ok()?,
            cause: shape.cause.parse().ok()?,
            from: status(shape.from.as_deref())?,
            to: status(shape.to.as_deref())?,
            actor: note(shape.actor.as_deref())?,
            detail: note(shape.detail.as_deref())?,
            last_heartbeat_ms: shape.last_heartbeat_ms,
            is_own: false,
        })
    }
}

impl EventId {
    /// The one that no other event has.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        Self { node: event.node.clone(), seq: event.seq, epoch: Some(event.epoch) }
    }

    pub(super) fn is_of(&self, event: &Event) -> bool {
        event.seq == self.seq && event.node == self.node && self.epoch.is_none_or(|epoch| epoch == event.epoch)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.node, self.seq)?;
        self.epoch.map_or(Ok(()), |epoch| write!(f, "-{epoch}"))
    }
}

impl FromStr for EventId {
    type Err = ();
    /// A node's name may have hyphens and digits of its own: it is what stands before the last number.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (rest, last) = text.rsplit_once('-').ok_or(())?;
        if let (Some(epoch), Some((node, seq))) = (to_epoch(last), rest.rsplit_once('-'))
            && let (Ok(node), Some(seq)) = (NodeName::parse(node), to_seq(seq))
        {
            return Ok(Self { node, seq, epoch: Some(epoch) });
        }
        Ok(Self { node: NodeName::parse(rest).map_err(|_| ())?, seq: to_seq(last).ok_or(())?, epoch: None })
    }
}

fn to_seq(text: &str) -> Option<Seq> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn to_epoch(text: &str) -> Option<Epoch> {
    let is_hex = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex { u64::from_str_radix(text, 16).ok().map(Epoch) } else { None }
}

/// RFC 3339, to the millisecond. A clock beyond what can be written is shown as the beginning of time.
fn to_time(ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", at.unwrap_or(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::super::testing::event;
    use super::*;

    #[test]
    fn it_is_spelled_as_the_contract_spells_it_and_read_back() {
        let event = Event { actor: Some("token:deploy".into()), ..event("user-3", 8123) };
        let json = String::from_utf8(event.to_json()).unwrap();
        let expected = r#"{"id":"n1-8123","at":"2025-11-20T09:14:03.120Z","node":"n1","epoch":"0000000000000001","namespace":"default","service":"user","instance":"user-3","cause":"expired","from":"up","to":"suspect","actor":"token:deploy","last_heartbeat_ms":15230,"detail":"no heartbeat for 15.2 s"}"#;
        assert_eq!(json, expected);
        assert_eq!(Event::from_json(json.as_bytes()), Some(event.clone()));
        let gone = Event { from: None, to: None, actor: None, detail: None, last_heartbeat_ms: None, ..event };
        assert_eq!(Event::from_json(&gone.to_json()), Some(gone));
    }

    #[test]
    fn what_breaks_a_rule_is_not_read() {
        let whole = String::from_utf8(event("a", 1).to_json()).unwrap();
        for (good, bad) in [
            ("n1-1", "n1"),
            ("n1-1", "N1-1"),
            ("expired", "eaten"),
            ("\"up\"", "\"upp\""),
            ("no heartbeat", "no\\nheartbeat"),
            ("0000000000000001", "1"),
            ("2025-", "0025-"),
        ] {
            assert!(whole.contains(good));
            assert_eq!(Event::from_json(whole.replacen(good, bad, 1).as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn an_id_is_read_as_it_is_written_whatever_the_nodes_name_is() {
        for name in ["n1", "eu-west-1", "a-00c0ffee00c0ffee"] {
            let event = Event { node: NodeName::parse(name).unwrap(), ..event("a", 8123) };
            let short: EventId = event.id().parse().unwrap();
            assert!(short.is_of(&event), "{name}");
            let whole = EventId::of(&event).to_string();
            assert_eq!(whole.parse(), Ok(EventId::of(&event)), "{whole}");
            assert!(!short.is_of(&Event { seq: 1, ..event }));
        }
        for bad in ["", "n1", "-1", "n1-", "n1-x", "n1-+1", "n1-99999999999999999999999", "N1-1"] {
            assert_eq!(bad.parse::<EventId>(), Err(()), "{bad:?}");
        }
    }
}
