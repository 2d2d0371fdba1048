//! What the tests stand on: real processes, a plain HTTP client, a subscriber that keeps what it is told, and waiting with a deadline.

pub(crate) mod http;
pub(crate) mod nats;
pub(crate) mod node;
pub(crate) mod provider;
pub(crate) mod subscriber;
pub(crate) mod wait;

pub(crate) use http::{Api, Connection, Request};
pub(crate) use nats::Nats;
pub(crate) use node::Node;
pub(crate) use provider::Provider;
pub(crate) use subscriber::{Held, Subscriber};
pub(crate) use wait::eventually;
