//! The bus on NATS: three connections, so that bulk silences neither changes nor beacons; and what they owe the node.
//!
//! Core NATS and its client lose messages in ways that nobody is told of: `publish` and `flush` answer Ok for what never arrives, and
//! `Connected` comes before the subscriptions are there again. So nothing here is taken for proof. While a connection is not there nothing
//! is given to it, for it would be sent, stale, when it is back; peers pull what they miss. Hearing itself is the node's own test: echo
//! stays on, and when the node finds itself deaf it has all connections made anew.
//!
//! Answers travel as plain frames to the asker's own subject, with the ticket of the question: one mechanism here, in memory and in
//! the simulator, no reply inboxes to grant, and none of the client's request map, which keeps an entry for each that timed out.

mod access;
mod link;
mod telling;
mod watchman;

use std::path::PathBuf;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::inbound::Ear;
use super::outbound::{Queues, Voice};
use super::subject::Lane;
use crate::config::{BusConfig, masked};
use crate::metrics;
use crate::model::{Cluster, Life};
use crate::node::BusPort;
use crate::shutdown::Shutdown;
use crate::wire::Codec;
use access::Access;
use link::Link;
use telling::Teller;
use watchman::Watchman;

/// Why a node cannot even try to reach its bus. That no server answers is no such reason: it goes on trying.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A server's address cannot be read. It is not shown, for it may hold a password.
    #[error("a NATS server's URL cannot be read: {0}")]
    Server(String),
    /// One connection has one identity, whichever server it is made to.
    #[error("the URLs of the NATS servers name different users or tokens; all must name the same, or none")]
    Users,
    /// A file with credentials is not there, or not what it should be.
    #[error("cannot use {file}: {source}", file = file.display())]
    Credentials {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// The client refused to begin.
    #[error("the NATS client does not start: {0}")]
    Client(String),
}

/// What is logged of the client where nobody asks for more: nothing. It says several lines for each attempt to connect, some at `error`;
/// the bus says once what they mean.
pub const LOG_FILTER: &str = "async_nats=off";

/// Events of the connections that may wait to be looked at; the states they tell of are also looked at every second.
const EVENTS_MAX: usize = 64;

/// Puts a node on NATS. Returns at once, whether or not a server can be reached; the node hears how the bus is.
///
/// # Errors
/// [`StartError`]; nothing was started.
pub async fn start(port: BusPort, life: Life, cluster: &Cluster, config: &BusConfig, shutdown: &Shutdown) -> Result<(), StartError> {
    // The client takes the process's cryptography. Where another program has chosen that already, it holds.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let BusPort { to_node, beacons, changes, direct, bulk, reconnect, history } = port;
    let numbers = metrics::of(life.node.as_str());
    let ear = Ear::new(cluster, &life.node, to_node, numbers.clone());
    let (events_tx, events) = mpsc::channel(EVENTS_MAX);
    let servers = config.url.iter().map(|url| masked(url)).collect::<Vec<_>>().join(", ");
    let link = Link::open(&Access::load(config)?, &life, cluster, &events_tx, &numbers).await?;

    let mut readers = Vec::new();
    for topic in Lane::ALL.into_iter().flat_map(Lane::topics) {
        let filter = topic.to_filter(cluster, &life.node);
        readers.push(link.client(topic.lane()).subscribe(filter).await.map_err(|error| StartError::Client(error.to_string()))?);
    }
    let voice = Voice::new(Codec::new(cluster), life.node, link.clone(), numbers.clone());
    let ended = voice.start(Queues { beacons, changes, direct, bulk }, shutdown);
    for reader in readers {
        shutdown.spawn("bus reader", read(reader, ear.clone(), ended.clone()));
    }
    let teller = Teller::new(link.clone(), cluster.clone(), history, numbers.clone());
    shutdown.spawn("bus events", teller.tell(ended.clone()));
    shutdown.spawn("bus", Watchman::new(link, ear, numbers, servers).watch(events, reconnect, ended));
    Ok(())
}

/// Hands over what a subscription brings. While the node's queue is full this waits, and the client drops what no longer fits:
/// beacons will show the gap.
async fn read(mut subscription: async_nats::Subscriber, ear: Ear, ended: CancellationToken) {
    let heard = async {
        while let Some(message) = subscription.next().await {
            if !ear.hear(&message.subject, &message.payload).await {
                break;
            }
        }
    };
    ended.run_until_cancelled(heard).await;
}
