//! Eyes: what a node sees past the bus: peers that are silent, asked over HTTP, and instances, looked at where they are registered. Nothing
//! of it holds up the node's task.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::inquiry::Inquiry;
use super::probe::Prober;
use crate::metrics::Metrics;
use crate::model::{Epoch, NodeName};
use crate::registry::{Input, PeerAnswer, Probe, ProbeOutcome, Ticket};

/// How many answers one round takes at the most.
const SEEN_MAX: usize = 1024;

/// Asks and looks, and gives what came of it.
pub(super) struct Eyes {
    inquiry: Inquiry,
    /// Peers that are being asked; each is asked once at a time.
    inquiries: JoinSet<(Ticket, PeerAnswer)>,
    prober: Prober,
    /// Instances that are being looked at; at most as many as the registry lets be at once.
    probes: JoinSet<(Ticket, ProbeOutcome)>,
    metrics: Arc<Metrics>,
}

impl Eyes {
    pub(super) fn new(inquiry: Inquiry, prober: Prober, metrics: Arc<Metrics>) -> Self {
        Self { inquiry, inquiries: JoinSet::new(), prober, probes: JoinSet::new(), metrics }
    }

    /// Asks a peer, or one life of it, whether it lives.
    pub(super) fn ask_peer(&mut self, ticket: Ticket, (node, epoch): (NodeName, Option<Epoch>), http: String, needs_witness: bool) {
        let inquiry = self.inquiry.clone();
        self.inquiries.spawn(async move { (ticket, inquiry.ask(&node, epoch, &http, needs_witness).await) });
    }

    /// Looks at an instance; whose turn it is the registry says.
    pub(super) fn look_at(&mut self, ticket: Ticket, probe: Probe) {
        let prober = self.prober.clone();
        self.probes.spawn(async move { (ticket, prober.look(&probe).await) });
    }

    /// What was seen, at least one thing; pending while nothing is looked at. Dropped, it takes nothing with it.
    pub(super) async fn next(&mut self) -> Vec<Input> {
        let first = tokio::select! {
            Some(Ok((ticket, answer))) = self.inquiries.join_next() => Input::PeerChecked { ticket, answer },
            Some(Ok((ticket, outcome))) = self.probes.join_next() => self.probed(ticket, outcome),
            else => std::future::pending().await,
        };
        let mut seen = vec![first];
        while seen.len() < SEEN_MAX
            && let Some(Ok((ticket, outcome))) = self.probes.try_join_next()
        {
            seen.push(self.probed(ticket, outcome));
        }
        seen
    }

    /// Sets the gauge of what is being looked at.
    pub(super) fn measure(&self) {
        self.metrics.probes_in_flight.set(self.probes.len() as f64);
    }

    fn probed(&self, ticket: Ticket, outcome: ProbeOutcome) -> Input {
        self.metrics.probed(outcome.as_str());
        Input::Probed { ticket, outcome }
    }
}
