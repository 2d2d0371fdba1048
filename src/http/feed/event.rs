//! Events: server-sent events as bytes, made once and shared by every stream that sends them.

use bytes::Bytes;
use serde::Serialize;

use crate::api::Hex;

/// One event that carries an id: `event:`, `id:` and one `data:` line.
#[derive(Debug, Clone)]
pub(in crate::http) struct Event {
    whole: Bytes,
    name: &'static str,
    data_at: usize,
}

impl Event {
    /// Encodes an event whose id is a service's revision.
    pub(in crate::http) fn new(name: &'static str, revision: u128, data: &impl Serialize) -> Self {
        let head = head(name, revision);
        let data_at = head.len();
        Self { whole: with_data(head, data), name, data_at }
    }

    /// The event's name.
    pub(in crate::http) fn name(&self) -> &'static str {
        self.name
    }

    /// All of it, its id the revision: for a stream of one service.
    pub(in crate::http) fn whole(&self) -> Bytes {
        self.whole.clone()
    }

    /// Its first lines, with another id or none: for a stream of several services. The data follow.
    pub(in crate::http) fn head(&self, id: Option<u128>) -> Bytes {
        id.map_or_else(|| format!("event: {}\n", self.name).into_bytes(), |id| head(self.name, id)).into()
    }

    /// Its last lines, shared.
    pub(in crate::http) fn data(&self) -> Bytes {
        self.whole.slice(self.data_at..)
    }
}

/// An event that belongs to one stream only.
pub(in crate::http) fn plain(name: &str, id: Option<u128>, data: &impl Serialize) -> Bytes {
    let head = id.map_or_else(|| format!("event: {name}\n").into_bytes(), |id| head(name, id));
    with_data(head, data)
}

fn head(name: &str, id: u128) -> Vec<u8> {
    format!("event: {name}\nid: {}\n", Hex(id)).into_bytes()
}

/// JSON has no line breaks of its own: its strings escape them.
fn with_data(mut bytes: Vec<u8>, data: &impl Serialize) -> Bytes {
    bytes.extend_from_slice(b"data: ");
    serde_json::to_writer(&mut bytes, data).expect("unreachable: the shapes have only string keys, and a Vec takes every byte");
    bytes.extend_from_slice(b"\n\n");
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_data_line_whatever_id_it_goes_out_with() {
        let event = Event::new("delta", 1, &"a\nb");
        let digits = "0".repeat(31);
        assert_eq!(event.whole(), format!("event: delta\nid: {digits}1\ndata: \"a\\nb\"\n\n"));
        let recomposed = [event.head(Some(2)), event.data()].concat();
        assert_eq!(recomposed, format!("event: delta\nid: {digits}2\ndata: \"a\\nb\"\n\n").into_bytes());
        assert_eq!([event.head(None), event.data()].concat(), b"event: delta\ndata: \"a\\nb\"\n\n");
    }
}
