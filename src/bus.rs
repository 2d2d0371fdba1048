//! The bus: what nodes say goes out on NATS subjects, or through memory where all nodes live in one process; what peers say comes in.
//!
//! A bus is a hint, never the truth: it may lose, repeat and reorder, and whatever it cannot carry now it drops and counts.
//! Beacons, digests and pulls make up for it; what a bus owes its node is to be quick, bounded, and plain about being cut off.
//! Its queues are small on purpose: what waits in one is stale by the time it leaves.

pub mod memory;
pub mod nats;

mod inbound;
mod outbound;
mod subject;
