//! `register`: an instance held by a connection, or by heartbeats, until somebody asks to end; a fixed address needs none, and is left registered.

use std::time::Duration;

use clap::Args;

use super::failure::{Code, Failure};
use super::options::{Reach, Within};
use super::output;
use super::provide::Told;
use super::signal::Asked;
use crate::client::{HeldEvent, Lease};
use crate::model::{InstanceKey, Namespace, ServiceKey};
use crate::units::show_ms;

/// What `register` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  muster register --service user --port 8080
  muster register --service user --port 8080 --port grpc=9090 --zone eu-a --tag canary --meta version=1.4.2 --ttl 10s
  muster register --service db --address 10.0.0.9 --port 5432 --ttl none   # a fixed address: no heartbeats, and it stays
  muster register -f instance.json -s http://node-1:6878,http://node-2:6878")]
pub(super) struct Arguments {
    #[command(flatten)]
    told: Told,
    /// Hold it by heartbeats, also where the registry offers to hold it by an open connection
    #[arg(long)]
    heartbeats: bool,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    reach: Reach,
}

pub(super) async fn run(arguments: Arguments) -> Result<Code, Failure> {
    let mut asked = Asked::listen()?;
    let (key, registration) = arguments.told.to_registration(&arguments.within.namespace, &arguments.reach)?;
    let place = format!("{}:{}", registration.address, registration.port);
    let client = arguments.reach.client()?;
    let mut lease = if arguments.heartbeats {
        client.register_for_heartbeats(key, registration).await?
    } else {
        client.register(key, registration).await?
    };
    match lease.renew_every() {
        _ if lease.is_attached() => output::say(&told(&lease, &place, "held by this connection")),
        Some(every) => output::say(&told(&lease, &place, &in_words(every))),
        None => {
            output::say(&told_fixed(&lease, &place));
            return Ok(Code::Ok);
        }
    }

    let mut missing = false;
    let lost = tokio::select! {
        () = asked.end() => None,
        error = lease.hold(|event| tell(&event, &mut missing)) => Some(error),
    };
    if let Some(error) = lost {
        return Err(error.into());
    }
    let name = format!("{} {}", lease.key().service.service, lease.key().id);
    // A second signal ends the waiting; the lease will then end by itself.
    tokio::select! {
        closed = lease.close() => closed?,
        () = asked.end() => return Err(Failure::new(Code::Failed, format!("{name} was not deregistered; its lease runs out"))),
    }
    output::say(&format!("deregistered {name}"));
    Ok(Code::Ok)
}

fn in_words(every: Duration) -> String {
    format!("a heartbeat every {}", show_ms(u64::try_from(every.as_millis()).unwrap_or(u64::MAX)))
}

fn told(lease: &Lease, place: &str, how: &str) -> String {
    let key = lease.key();
    let (service, owner) = (&key.service.service, lease.owner());
    format!("registered {service} {} at {place} (node {owner}, {how}); Ctrl-C deregisters it", key.id)
}

fn told_fixed(lease: &Lease, place: &str) -> String {
    let InstanceKey { service: ServiceKey { namespace, service }, id } = lease.key();
    let within = if *namespace == Namespace::default() { String::new() } else { format!(" -n {namespace}") };
    let owner = lease.owner();
    format!("registered {service} {id} at {place} (node {owner}, no heartbeats); it stays until `muster deregister {service} {id}{within}`")
}

/// Says when holding it begins to fail and when it succeeds again; not each heartbeat.
fn tell(event: &HeldEvent, missing: &mut bool) {
    match event {
        HeldEvent::Renewed if *missing => output::remark("heartbeats are answered again"),
        HeldEvent::Attached => output::remark("held by a new connection"),
        HeldEvent::RegisteredAgain => output::remark("the registry asked for it anew; registered again"),
        HeldEvent::Missed(error) if !*missing => output::remark(&format!("it could not be renewed, trying on: {error}")),
        HeldEvent::Renewed | HeldEvent::Missed(_) => {}
    }
    *missing = matches!(event, HeldEvent::Missed(_));
}
