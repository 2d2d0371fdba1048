//! What muster really sends, taken from it before the load, so that the floor sends the same bytes.

use std::net::SocketAddr;
use std::path::Path;

use crate::http::{Connection, position};
use crate::requests::{ID_DIGITS, Kind, heartbeat, look_up, registration, watch};
use crate::told::Events;

/// A service used for samples only.
const SERVICE: usize = 99_999;

/// Bodies of answers, and one event.
pub(crate) struct Samples {
    pub(crate) registered: Vec<u8>,
    pub(crate) renewed: Vec<u8>,
    pub(crate) ten: Vec<u8>,
    pub(crate) hundred: Vec<u8>,
    pub(crate) delta: Vec<u8>,
}

impl Samples {
    /// Asks a muster that has the services to look up; registers two instances.
    pub(crate) async fn take(host: SocketAddr) -> Self {
        let mut connection = Connection::open(host).await.expect("a server that takes connections");
        let mut body = async |request: &[u8]| connection.send(request).await.expect("an answer").body.to_vec();
        let service = Kind::Registered.service(SERVICE);
        let registered = body(&registration(&service, 0)).await;
        let renewed = body(&heartbeat(&service, 0)).await;
        let ten = body(&look_up(&Kind::Ten.service(0), None)).await;
        let hundred = body(&look_up(&Kind::Hundred.service(0), None)).await;
        Self { registered, renewed, ten, hundred, delta: delta(host).await }
    }

    pub(crate) fn write(&self, dir: &Path) {
        for (name, bytes) in self.files() {
            std::fs::write(dir.join(name), bytes).expect("a file for a sample");
        }
    }

    pub(crate) fn read(dir: &Path) -> Self {
        let read = |name: &str| std::fs::read(dir.join(name)).expect("a sample");
        Self { registered: read("registered"), renewed: read("renewed"), ten: read("ten"), hundred: read("hundred"), delta: read("delta") }
    }

    fn files(&self) -> [(&'static str, &[u8]); 5] {
        [
            ("registered", &self.registered),
            ("renewed", &self.renewed),
            ("ten", &self.ten),
            ("hundred", &self.hundred),
            ("delta", &self.delta),
        ]
    }

    /// Where in the event the number of the instance stands.
    pub(crate) fn number_in_delta(&self) -> std::ops::Range<usize> {
        let key = br#""id":"host-"#;
        let start = position(&self.delta, key).expect("a delta names an instance") + key.len();
        start..start + ID_DIGITS
    }
}

/// The event that tells a subscriber of a service with one instance of a second one.
async fn delta(host: SocketAddr) -> Vec<u8> {
    let service = Kind::Watched.service(SERVICE);
    let mut writer = Connection::open(host).await.expect("a server that takes connections");
    let mut register = async |number| assert_eq!(writer.send(&registration(&service, number)).await.expect("an answer").status, 201);
    register(0).await;
    let connection = Connection::open(host).await.expect("a server that takes connections");
    let mut events = Events::new(connection.into_stream(&watch(&service)).await.expect("a stream"));
    events.until(b"event: synced").await;
    register(1).await;
    without_framing(&events.until(b"event: delta").await)
}

/// The event without what stands before it: the end of the chunk before and the size of its own.
fn without_framing(block: &[u8]) -> Vec<u8> {
    let line_end = block.windows(2).rposition(|pair| pair == b"\r\n");
    block[line_end.map_or(0, |at| at + 2)..].to_vec()
}
