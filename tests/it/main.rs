//! The program from outside: real `muster` processes, real nats-servers, real HTTP, real signals.

mod acceptance;
mod acknowledgement;
mod all_killed;
mod attached;
mod bad_bus;
mod bad_http;
mod bus_cost;
#[path = "../common/certificates.rs"]
mod certificates;
mod configuration;
mod cut_off;
mod dead_owner;
mod drain;
mod expiry;
mod fake_nats;
mod ghosts;
mod happening;
mod mixed_versions;
mod namesake;
mod nats_faults;
mod outage;
mod partition;
mod paused;
mod permissions;
mod probes;
mod restarted;
mod reused_address;
mod rolling_restart;
mod round_robin;
mod settling;
mod shutdown;
mod support;
mod tls;
mod turmoil;
mod warm;
mod warm_damage;
