//! What the tests stand on: real processes, a plain HTTP client, a subscriber that keeps what it is told, and waiting with a deadline.

pub(crate) mod agreement;
pub(crate) mod auditor;
pub(crate) mod http;
pub(crate) mod load;
pub(crate) mod nats;
pub(crate) mod netns;
pub(crate) mod node;
pub(crate) mod provider;
pub(crate) mod slow_line;
pub(crate) mod subscriber;
pub(crate) mod wait;
pub(crate) mod warm_file;

pub(crate) use agreement::all_agree;
pub(crate) use auditor::Auditor;
pub(crate) use http::{Api, Chunks, Connection, Request};
pub(crate) use load::Load;
pub(crate) use nats::Nats;
pub(crate) use node::Node;
pub(crate) use provider::Provider;
pub(crate) use subscriber::{Held, Subscriber};
pub(crate) use wait::eventually;
