//! Frames: the bytes nodes say things in stay what they are, and no bytes do harm.

#![expect(clippy::unwrap_used, reason = "the values are known to be good, and where one is not the test is to fail")]

#[path = "../common/arbitrary.rs"]
mod arbitrary;
mod bombs;
mod golden;
mod hostile;
mod known;
mod laws;
mod warm;

use muster::model::Cluster;
use muster::wire::Codec;

/// The codec of the cluster `test`.
fn codec() -> Codec {
    Codec::new(&Cluster::parse("test").unwrap())
}
