//! Happenings: what happens to instances and why, over one stream, which is opened again wherever it can be, from where it ended.

use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBackoff;

use super::connect::{Call, Connection};
use super::exclusive::Exclusive;
use super::watch::{Opened, RECONNECT_WAIT_MAX, endless};
use super::{Error, Query};
use crate::api::consume::Goodbye;
use crate::api::events::{Event, Gap};

/// Events followed; dropping it ends that.
pub struct Happenings {
    connection: Arc<Connection>,
    query: Query,
    /// The id of the last event that came.
    last: Option<String>,
    stream: Option<Opened>,
    waits: Exclusive<ExponentialBackoff>,
    /// Before the next attempt to open a stream.
    wait: Duration,
}

/// What a stream of events brings.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Happened {
    /// A stream is open at this server.
    Opened(String),
    /// An instance changed; and the event as the node wrote it.
    Changed(Box<Event<'static>>, String),
    /// Events are missing here; how many, where the node knows.
    Missed(Option<u64>),
    /// The stream is over, for this reason; another is being opened.
    Lost(String),
}

impl Happenings {
    pub(super) fn new(connection: Arc<Connection>, query: Query) -> Self {
        Self { connection, query, last: None, stream: None, waits: endless(), wait: Duration::ZERO }
    }

    /// The next thing that happens. Streams that end are opened again, here or at another server, for as long as it takes.
    ///
    /// # Errors
    /// A node refuses to give such a stream for good.
    pub async fn next(&mut self) -> Result<Happened, Error> {
        loop {
            let Some(stream) = &mut self.stream else { return self.open().await };
            let event = match stream.next().await {
                Ok(event) => event,
                Err(why) => return Ok(self.lose(why)),
            };
            let data = event.data.unwrap_or_default();
            let name = event.event.as_deref();
            match name {
                Some("change") => match serde_json::from_str(&data) {
                    Ok(change) => {
                        self.waits = endless();
                        self.last = event.id.or(self.last.take());
                        return Ok(Happened::Changed(Box::new(change), data));
                    }
                    Err(error) => return Ok(self.lose(format!("an event cannot be read: {error}"))),
                },
                Some("gap") => return Ok(Happened::Missed(serde_json::from_str::<Gap>(&data).unwrap_or_default().missed)),
                Some("goodbye") => {
                    let lost = self.lose("the node is leaving".to_owned());
                    let asked =
                        serde_json::from_str::<Goodbye>(&data).map_or(self.wait, |goodbye| Duration::from_millis(goodbye.reconnect_ms));
                    self.wait = asked.min(RECONNECT_WAIT_MAX);
                    return Ok(lost);
                }
                // Later versions may say more; what is not understood changes nothing.
                Some(_) | None => {}
            }
        }
    }

    async fn open(&mut self) -> Result<Happened, Error> {
        tokio::time::sleep(self.wait).await;
        let call = Call::get(&["v1", "events"], self.query.clone()).with_header("accept", "text/event-stream");
        let call = if let Some(last) = &self.last { call.with_header("last-event-id", last) } else { call };
        match self.connection.stream(&call).await {
            Ok((server, response)) => {
                self.stream = Some(Opened::new(response));
                Ok(Happened::Opened(server))
            }
            Err(error) if error.lasting().is_some() => Err(error),
            Err(error) => Ok(self.lose(error.to_string())),
        }
    }

    fn lose(&mut self, why: String) -> Happened {
        if self.stream.take().is_some() {
            self.connection.turn_to_next();
        }
        self.wait = self.waits.get_mut().next().unwrap_or(Duration::from_secs(5));
        Happened::Lost(why)
    }
}
