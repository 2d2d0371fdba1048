//! muster: a service registry that anyone can run.
//!
//! Every node is a master and holds the whole set in memory; each change goes out on a NATS subject and every peer applies it;
//! consumers hear it over server-sent events. `ARCHITECTURE.md` has the map.

pub mod api;
pub mod clock;
pub mod model;
pub mod nearest;
#[cfg(feature = "server")]
pub mod open_files;
pub mod random;
pub mod units;

#[cfg(feature = "server")]
pub mod bus;
#[cfg(feature = "server")]
pub mod cidr;
#[cfg(all(feature = "cli", feature = "server"))]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod log;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
pub mod node;
#[cfg(feature = "server")]
pub mod registry;
#[cfg(feature = "server")]
pub mod shutdown;
#[cfg(any(feature = "client", feature = "server"))]
pub mod tls;
#[cfg(feature = "server")]
pub mod wire;
