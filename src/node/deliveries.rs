//! Deliveries: what the node and its door tell each other of subscribers.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::task::Command;
use super::{AskedDelivery, Handle};
use crate::registry::{DeliveryReport, Elsewhere, Watcher};

/// How many questions about deliveries may wait for the door; one more is not asked, and its drain ends at its deadline.
const DELIVERIES_MAX: usize = 4096;

impl Handle {
    /// Takes the questions who has been sent something, from now on; `None`: somebody does already.
    #[must_use]
    pub fn serve_deliveries(&self) -> Option<mpsc::Receiver<AskedDelivery>> {
        let (to_door, asked) = mpsc::channel(DELIVERIES_MAX);
        self.shared.deliveries.set(to_door).is_ok().then_some(asked)
    }

    /// Answers such a question.
    pub async fn tell_delivered(&self, question: u64, report: DeliveryReport) {
        // A node that has stopped has nobody to tell.
        let _ = self.commands.send(Command::Delivered(question, report)).await;
    }

    /// Tells who holds streams and polls here, and how many that are, where these are not all.
    pub async fn tell_audience(&self, watchers: Vec<Watcher>, count: u64) {
        // A node that has stopped has nobody to tell.
        let _ = self.commands.send(Command::Audience(watchers, count)).await;
    }

    /// The subscribers of other nodes, as they are known here.
    #[must_use]
    pub fn audience_elsewhere(&self) -> Arc<Elsewhere> {
        self.shared.elsewhere.load_full()
    }
}
