//! The protocol: a registry is a value, and everything that happens to it is an [`Input`].
//!
//! No IO, no runtime, no clock, no lock, no log: the same inputs give the same outputs on every machine.

mod io;
mod message;
mod record;
mod settings;
mod time;
mod view;

pub use io::{
    Ack, AckReport, Answer, BusHealth, Changed, ClusterView, Deregister, Heartbeat, Input, Inspected, LeaseTerms, NodeView, Notice, Output,
    Purpose, Refusal, Register, Registered, Renewed, Ticket,
};
pub use message::{AppliedAt, Beacon, Change, Envelope, Have, LeaseTold, Message, NodeState, RELAY_MAX, Renewal, To, Verdict, Want};
pub use record::{Body, NOTE_BYTES_MAX, Record, Seen, content_digest, key_hash, listed_digest};
pub use settings::{Limits, Settings};
pub use time::{Mono, Now};
pub use view::{Catalog, View};

use crate::model::Seq;

/// What the registry wants done, in order; drained by the caller after every call.
pub type Outbox = Vec<Output>;

/// One node's registry.
pub struct Registry {
    settings: Settings,
    catalog: Catalog,
}

impl Registry {
    /// A registry that knows nothing yet. `seed` feeds every random choice.
    #[must_use]
    pub fn new(settings: Settings, seed: u64, now: Now) -> Self {
        let _ = (seed, now);
        Self { settings, catalog: Catalog::default() }
    }

    /// What this registry was given at its start.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes one thing that happened.
    pub fn handle(&mut self, input: Input, now: Now, out: &mut Outbox) {
        let _ = (input, now, out);
        todo!()
    }

    /// Does what has become due; to be called at [`Registry::next_deadline`] or later.
    pub fn advance(&mut self, now: Now, out: &mut Outbox) {
        let _ = (now, out);
        todo!()
    }

    /// When something becomes due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        todo!()
    }

    /// What is believed of every service.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The last seq of this life's log.
    #[must_use]
    pub fn head(&self) -> Seq {
        todo!()
    }

    /// What this life wrote after `after`, as batches of at most about `bytes_max` each and `batches_max` in all;
    /// `None` when the log no longer reaches back that far: peers will pull.
    #[must_use]
    pub fn changes_after(&self, after: Seq, bytes_max: usize, batches_max: usize) -> Option<Vec<Change>> {
        let _ = (after, bytes_max, batches_max);
        todo!()
    }

    /// This node's own state.
    #[must_use]
    pub fn state(&self) -> NodeState {
        todo!()
    }

    /// Nothing that could be known is missing; false when no peer could give a whole copy.
    #[must_use]
    pub fn complete(&self) -> bool {
        todo!()
    }

    /// How the bus is.
    #[must_use]
    pub fn bus(&self) -> BusHealth {
        todo!()
    }

    /// How long ago the bus was last heard; `None` without a bus, or while it is heard.
    #[must_use]
    pub fn stale_ms(&self, now: Now) -> Option<u64> {
        let _ = now;
        todo!()
    }

    /// How the cluster looks from here.
    #[must_use]
    pub fn cluster(&self, now: Now) -> ClusterView {
        let _ = now;
        todo!()
    }

    /// How many live records are held.
    #[must_use]
    pub fn record_count(&self) -> u64 {
        todo!()
    }

    /// The digest of all live records.
    #[must_use]
    pub fn digest(&self) -> u128 {
        todo!()
    }

    /// Every record held, withdrawn ones too, in the order of (bucket, key).
    pub fn records(&self) -> impl Iterator<Item = &std::sync::Arc<Record>> {
        std::iter::empty()
    }
}
