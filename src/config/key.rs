//! The table of keys: how each is named, read, shown and explained. Parsing, the environment's names, suggestions, `muster check`
//! and the reference file all come from it.

use std::path::PathBuf;

use super::given::{Given, masked};
use super::{Config, Origin};
use crate::tls;
use crate::units::{show_bytes, show_ms};

/// One key of the configuration.
pub(super) struct Key {
    /// `section.key`.
    pub(super) path: &'static str,
    /// The flag of its own, where it has one.
    pub(super) flag: Option<&'static str>,
    /// What it means, its range, and how it stands to others.
    pub(super) help: &'static str,
    /// A value given for it may hold a secret: it is never shown as it was given.
    pub(super) secret: bool,
    /// Reads a value into its place; else says the rule and changes nothing.
    pub(super) set: fn(&mut Config, &Given) -> Result<(), String>,
    /// The value that holds, as it could be given again; `None`: absent.
    pub(super) show: fn(&Config) -> Option<String>,
}

/// A key with the value that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// `section.key`.
    pub key: &'static str,
    /// Secrets masked; `None`: absent.
    pub value: Option<String>,
    /// Where it came from.
    pub origin: Origin,
}

const DAY_MS: u64 = 24 * 3_600_000;

/// Every key there is, section by section.
pub(super) const KEYS: &[Key] = &[
    Key {
        flag: Some("--name"),
        set: |config, given| put(&mut config.node.name, given.parsed()),
        show: |config| Some(config.node.name.to_string()),
        ..key("node.name", "What this node is called; no other node of the cluster may be called so. Default: the host name's first label.")
    },
    Key {
        flag: Some("--data-dir"),
        set: |config, given| put(&mut config.node.data_dir, given.path().map(Some)),
        show: |config| path(config.node.data_dir.as_ref()),
        ..key(
            "node.data_dir",
            "Where this node keeps the file it starts from; no other process may use that folder. Absent: nothing on disk.",
        )
    },
    Key {
        set: |config, given| put(&mut config.node.region, given.parsed().map(Some)),
        show: |config| config.node.region.as_ref().map(ToString::to_string),
        ..key("node.region", "Where this node stands.")
    },
    Key {
        set: |config, given| put(&mut config.node.zone, given.parsed().map(Some)),
        show: |config| config.node.zone.as_ref().map(ToString::to_string),
        ..key("node.zone", "Where in its region this node stands.")
    },
    Key {
        set: |config, given| put(&mut config.node.leave_timeout_ms, given.duration_ms(0..=600_000)),
        show: |config| Some(show_ms(config.node.leave_timeout_ms)),
        ..key(
            "node.leave_timeout",
            "How long a stop may take, handing leases over and the end of streams together; a second signal ends it at once. 0 to 10m.",
        )
    },
    Key {
        flag: Some("--cluster"),
        set: |config, given| put(&mut config.cluster.name, given.parsed()),
        show: |config| Some(config.cluster.name.to_string()),
        ..key("cluster.name", "The nodes with this name, on one bus, are one cluster.")
    },
    Key {
        set: |config, given| put(&mut config.cluster.dead_after_ms, given.duration_ms(1000..=86_400_000)),
        show: |config| Some(show_ms(config.cluster.dead_after_ms)),
        ..key(
            "cluster.dead_after",
            "After this long a silent node whose address refuses all who know it counts no more for a majority; 1s to 1d. One that does not \
             answer at all may be behind a partition, and counts for a day or until `muster nodes forget NAME`.",
        )
    },
    Key {
        set: |config, given| put(&mut config.cluster.bootstrap_wait_ms, given.duration_ms(0..=60_000)),
        show: |config| Some(show_ms(config.cluster.bootstrap_wait_ms)),
        ..key("cluster.bootstrap_wait", "How long a starting node that hears no ready peer waits for one; 0 to 1m. `dev` takes 200ms.")
    },
    Key {
        set: |config, given| put(&mut config.cluster.settle_ms, given.duration_ms(0..=3_600_000).map(Some)),
        show: |config| Some(show_ms(config.settle_ms())),
        ..key(
            "cluster.settle",
            "How long a node that starts without knowledge waits until every provider had its turn, before it says that there is nothing; \
             0 to 1h. Default: leases.ttl and its grace, 20s.",
        )
    },
    Key {
        flag: Some("--expect-empty"),
        set: |config, given| put(&mut config.cluster.expect_empty, given.either("false", "true")),
        show: |config| Some(config.cluster.expect_empty.to_string()),
        ..key(
            "cluster.expect_empty",
            "Nothing was registered before: a node that starts without knowledge does not settle. `dev` says so by itself.",
        )
    },
    Key {
        set: |config, given| put(&mut config.cluster.witness, given.http_url().map(Some)),
        show: |config| config.cluster.witness.clone(),
        ..key(
            "cluster.witness",
            "A URL that a node which is not cut off reaches. Asked in a cluster of two before the other node is held for dead.",
        )
    },
    Key {
        flag: Some("--nats"),
        secret: true,
        set: |config, given| put(&mut config.bus.url, given.nats_servers()),
        show: |config| list(&config.bus.url.iter().map(|url| masked(url)).collect::<Vec<_>>()),
        ..key("bus.url", "The NATS servers that carry changes between nodes. Absent: this node is alone.")
    },
    Key {
        set: |config, given| put(&mut config.bus.credentials_file, given.readable_file().map(Some)),
        show: |config| path(config.bus.credentials_file.as_ref()),
        ..key("bus.credentials_file", "A NATS credentials file (JWT and seed).")
    },
    Key {
        set: |config, given| put(&mut config.bus.nkey_file, given.readable_file().map(Some)),
        show: |config| path(config.bus.nkey_file.as_ref()),
        ..key("bus.nkey_file", "A file with an nkey seed; instead of bus.credentials_file.")
    },
    Key {
        set: |config, given| put(&mut config.bus.tls.ca_file, given.pem_file(tls::authorities).map(Some)),
        show: |config| path(config.bus.tls.ca_file.as_ref()),
        ..key("bus.tls.ca_file", "The authorities (PEM) that sign the NATS servers' certificates. Absent: the system's.")
    },
    Key {
        set: |config, given| put(&mut config.bus.tls.identity.cert_file, given.pem_file(tls::certificates).map(Some)),
        show: |config| path(config.bus.tls.identity.cert_file.as_ref()),
        ..key("bus.tls.cert_file", "The certificate chain (PEM) that this node shows the NATS servers; with bus.tls.key_file.")
    },
    Key {
        set: |config, given| put(&mut config.bus.tls.identity.key_file, given.pem_file(tls::private_key).map(Some)),
        show: |config| path(config.bus.tls.identity.key_file.as_ref()),
        ..key("bus.tls.key_file", "The key (PEM) to bus.tls.cert_file.")
    },
    Key {
        flag: Some("--listen"),
        set: |config, given| put(&mut config.http.listen, given.socket()),
        show: |config| Some(config.http.listen.to_string()),
        ..key("http.listen", "Where HTTP listens; port 0 takes a free one.")
    },
    Key {
        set: |config, given| put(&mut config.http.advertise, given.host_and_port().map(Some)),
        show: |config| config.http.advertise.clone(),
        ..key(
            "http.advertise",
            "Where others reach this node's HTTP, host:port. Absent: as it listens; where that is every address, the host name.",
        )
    },
    Key {
        set: |config, given| put(&mut config.http.cors_origins, given.origins()),
        show: |config| list(&config.http.cors_origins),
        ..key("http.cors_origins", "Origins whose pages may read and write here, besides this node's own.")
    },
    Key {
        set: |config, given| put(&mut config.http.tls.cert_file, given.pem_file(tls::certificates).map(Some)),
        show: |config| path(config.http.tls.cert_file.as_ref()),
        ..key(
            "http.tls.cert_file",
            "The certificate chain (PEM) that this node shows; with http.tls.key_file it speaks HTTPS alone. Read again when it changes.",
        )
    },
    Key {
        set: |config, given| put(&mut config.http.tls.key_file, given.pem_file(tls::private_key).map(Some)),
        show: |config| path(config.http.tls.key_file.as_ref()),
        ..key("http.tls.key_file", "The key (PEM) to http.tls.cert_file. Read again when it changes.")
    },
    Key {
        set: |config, given| put(&mut config.http.body_bytes_max, given.bytes(1024..=64 << 20)),
        show: |config| Some(show_bytes(config.http.body_bytes_max as u64)),
        ..key("http.body_bytes_max", "The largest body of a request, 1KiB to 64MiB; past it 413.")
    },
    Key {
        set: |config, given| put(&mut config.http.batch_body_bytes_max, given.bytes(1024..=256 << 20)),
        show: |config| Some(show_bytes(config.http.batch_body_bytes_max as u64)),
        ..key("http.batch_body_bytes_max", "The largest body of a batch, 1KiB to 256MiB; at least http.body_bytes_max.")
    },
    Key {
        set: |config, given| put(&mut config.http.bodies_bytes_max, given.bytes(1 << 20..=64 << 30)),
        show: |config| Some(show_bytes(config.http.bodies_bytes_max as u64)),
        ..key(
            "http.bodies_bytes_max",
            "Memory for the bodies that are on their way, all together, 1MiB to 64GiB; past it 503. An eighth more is kept for bodies up to 16KiB, \
             such as heartbeats. At least http.batch_body_bytes_max.",
        )
    },
    Key {
        set: |config, given| put(&mut config.http.connections_max, given.count(1..=10_000_000).map(|count| count as usize)),
        show: |config| Some(config.http.connections_max.to_string()),
        ..key(
            "http.connections_max",
            "Connections open at once; further ones get 503. At most what the system's limit of open files leaves, which is raised as far as it may be.",
        )
    },
    Key {
        set: |config, given| put(&mut config.http.connections_per_address, given.count(1..=10_000_000).map(|count| Some(count as usize))),
        show: |config| config.http.connections_per_address.map(|count| count.to_string()),
        ..key(
            "http.connections_per_address",
            "Of these, connections from one address (of IPv6, one /64), but for this machine's own; further ones get 503. Absent: half. Behind a \
             balancer all come from its addresses: set it to http.connections_max.",
        )
    },
    Key {
        set: |config, given| put(&mut config.http.header_timeout_ms, given.duration_ms(100..=300_000)),
        show: |config| Some(show_ms(config.http.header_timeout_ms)),
        ..key("http.header_timeout", "How long the head of a request may take to arrive, 100ms to 5m.")
    },
    Key {
        set: |config, given| put(&mut config.http.body_timeout_ms, given.duration_ms(100..=600_000)),
        show: |config| Some(show_ms(config.http.body_timeout_ms)),
        ..key("http.body_timeout", "How long the body of a request may take to arrive, 100ms to 10m; past it 408.")
    },
    Key {
        set: |config, given| put(&mut config.http.idle_timeout_ms, given.duration_ms(100..=3_600_000)),
        show: |config| Some(show_ms(config.http.idle_timeout_ms)),
        ..key(
            "http.idle_timeout",
            "How long a connection may wait for its next request, 100ms to 1h. Longer than clients keep one, so that it is they who close it.",
        )
    },
    Key {
        set: |config, given| put(&mut config.leases.ttl_ms, given.duration_ms(1..=3_600_000)),
        show: |config| Some(show_ms(config.leases.ttl_ms)),
        ..key(
            "leases.ttl",
            "How long an instance whose registration names no ttl may be silent before it is suspect; leases.ttl_min to leases.ttl_max.",
        )
    },
    Key {
        set: |config, given| put(&mut config.leases.ttl_min_ms, given.duration_ms(100..=3_600_000)),
        show: |config| Some(show_ms(config.leases.ttl_min_ms)),
        ..key("leases.ttl_min", "The shortest ttl that may be asked for, 100ms to 1h.")
    },
    Key {
        set: |config, given| put(&mut config.leases.ttl_max_ms, given.duration_ms(100..=3_600_000)),
        show: |config| Some(show_ms(config.leases.ttl_max_ms)),
        ..key("leases.ttl_max", "The longest ttl that may be asked for, 100ms to 1h.")
    },
    Key {
        set: |config, given| put(&mut config.leases.evict_after_ms, given.duration_ms(0..=DAY_MS)),
        show: |config| Some(show_ms(config.leases.evict_after_ms)),
        ..key("leases.evict_after", "How long an instance that is down stays listed, where its registration does not say; 0 to 24h.")
    },
    Key {
        set: |config, given| put(&mut config.leases.detach_grace_ms, given.duration_ms(0..=DAY_MS)),
        show: |config| Some(show_ms(config.leases.detach_grace_ms)),
        ..key(
            "leases.detach_grace",
            "How long an instance whose connection closed stays listed once it is down, in place of evict_after; 0 to 24h.",
        )
    },
    Key {
        set: |config, given| put(&mut config.leases.attachments_max, given.count(1..=10_000_000).map(|count| count as usize)),
        show: |config| Some(config.leases.attachments_max.to_string()),
        ..key("leases.attachments_max", "Connections that hold leases at once; past it 503. Keep it below http.connections_max.")
    },
    Key {
        set: |config, given| put(&mut config.leases.revive_for_ms, given.duration_ms(0..=DAY_MS)),
        show: |config| Some(show_ms(config.leases.revive_for_ms)),
        ..key("leases.revive_for", "How long a late heartbeat can bring back an instance that silence took away; 0 to 24h.")
    },
    Key {
        set: |config, given| put(&mut config.leases.preserve_percent, given.number(1..=100)),
        show: |config| Some(config.leases.preserve_percent.to_string()),
        ..key(
            "leases.preserve_percent",
            "When more than so many of a hundred of a node's, or of a service's, instances fall silent together (three at least), \
             none of them is taken away. 1 to 100; 100 turns this off.",
        )
    },
    Key {
        set: |config, given| put(&mut config.leases.preserve_max_ms, given.duration_ms(0..=DAY_MS)),
        show: |config| Some(show_ms(config.leases.preserve_max_ms)),
        ..key("leases.preserve_max", "How long instances that fell silent together stay listed for it, at the most; 0 to 24h.")
    },
    Key {
        set: |config, given| put(&mut config.probes.allow, given.ranges()),
        show: |config| list(&config.probes.allow.iter().map(ToString::to_string).collect::<Vec<_>>()),
        ..key(
            "probes.allow",
            "Ranges of IP addresses: instances are looked at there alone, and silent peers are asked there alone. Absent: everywhere. Loopback is looked at only where this node \
             listens there itself, link-local, multicast and metadata addresses never.",
        )
    },
    Key {
        set: |config, given| put(&mut config.probes.deny, given.ranges()),
        show: |config| list(&config.probes.deny.iter().map(ToString::to_string).collect::<Vec<_>>()),
        ..key("probes.deny", "Ranges of IP addresses where nothing is looked at and no peer is asked, whatever probes.allow says.")
    },
    Key {
        set: |config, given| put(&mut config.probes.per_second, given.count(1..=1_000_000)),
        show: |config| Some(config.probes.per_second.to_string()),
        ..key(
            "probes.per_second",
            "How many looks at instances this node takes a second, from four on a quarter for silent ones and a quarter for the others; past it they wait for their turns.",
        )
    },
    Key {
        set: |config, given| put(&mut config.probes.in_flight, given.count(1..=65_536)),
        show: |config| Some(config.probes.in_flight.to_string()),
        ..key(
            "probes.in_flight",
            "How many instances are looked at at once; each is an open connection. From four on a quarter is kept for silent ones, and a quarter for the others.",
        )
    },
    Key {
        set: |config, given| put(&mut config.probes.per_target, given.count(1..=1_000_000)),
        show: |config| Some(config.probes.per_target.to_string()),
        ..key("probes.per_target", "How many looks a second go to one IP address, however many instances are registered there.")
    },
    Key {
        set: |config, given| put(&mut config.watch.coalesce_ms, given.duration_ms(1..=10_000)),
        show: |config| Some(show_ms(config.watch.coalesce_ms)),
        ..key("watch.coalesce", "How often a service's changes leave for its subscribers once watch.burst is used up; 1ms to 10s.")
    },
    Key {
        set: |config, given| put(&mut config.watch.burst, given.count(1..=10_000)),
        show: |config| Some(config.watch.burst.to_string()),
        ..key("watch.burst", "How many changes of a service may leave at once, each for itself; one comes back every watch.coalesce.")
    },
    Key {
        set: |config, given| put(&mut config.watch.views_kept, given.count(1..=4096).map(|count| count as usize)),
        show: |config| Some(config.watch.views_kept.to_string()),
        ..key("watch.views_kept", "Former views kept of each watched service: a subscriber that comes back with one gets a delta.")
    },
    Key {
        set: |config, given| put(&mut config.watch.streams_max, given.count(1..=10_000_000).map(|count| count as usize)),
        show: |config| Some(config.watch.streams_max.to_string()),
        ..key(
            "watch.streams_max",
            "Subscriptions and streams of events open and polls held at once; past it 503. Keep it below http.connections_max.",
        )
    },
    Key {
        set: |config, given| put(&mut config.limits.instances, given.number(1..=100_000_000)),
        show: |config| Some(config.limits.instances.to_string()),
        ..key(
            "limits.instances",
            "Live instances in all; past it new registrations are refused with 507, renewals never are. Of peers' records twice as many are taken.",
        )
    },
    Key {
        set: |config, given| put(&mut config.limits.instances_per_service, given.number(1..=10_000_000)),
        show: |config| Some(config.limits.instances_per_service.to_string()),
        ..key("limits.instances_per_service", "Live instances of one service.")
    },
    Key {
        set: |config, given| put(&mut config.limits.services, given.number(1..=10_000_000)),
        show: |config| Some(config.limits.services.to_string()),
        ..key("limits.services", "Services with a visible instance.")
    },
    Key {
        set: |config, given| put(&mut config.limits.record_bytes, given.bytes(1024..=64 << 10).map(|bytes| bytes as u64)),
        show: |config| Some(show_bytes(config.limits.record_bytes)),
        ..key("limits.record_bytes", "One registration, whole; 1KiB to 64KiB.")
    },
    Key {
        set: |config, given| put(&mut config.limits.withdrawn, given.number(1..=100_000_000)),
        show: |config| Some(config.limits.withdrawn.to_string()),
        ..key(
            "limits.withdrawn",
            "Records of instances that are gone, kept so that nothing old brings them back; past it the oldest are forgotten.",
        )
    },
    Key {
        set: |config, given| put(&mut config.limits.overrides, given.number(1..=10_000)),
        show: |config| Some(config.limits.overrides.to_string()),
        ..key(
            "limits.overrides",
            "Operators' overrides in all; past it new ones are refused with 507, known ones can still be replaced. Of peers' twice as many are taken.",
        )
    },
    Key {
        set: |config, given| put(&mut config.log.filter, given.log_filter()),
        show: |config| Some(config.log.filter.clone()),
        ..key("log.filter", "What is logged, like \"info\" or \"warn,muster=debug\".")
    },
    Key {
        set: |config, given| put(&mut config.log.json, given.either("pretty", "json")),
        show: |config| Some(if config.log.json { "json" } else { "pretty" }.to_owned()),
        ..key("log.format", "\"pretty\", or \"json\": one object a line.")
    },
];

impl Key {
    /// The name of its variable: `MUSTER_` and the path, but for the keys with a flag of their own, which are named after that.
    pub(super) fn variable(&self) -> String {
        let name = self.flag.map_or(self.path, |flag| flag.trim_start_matches('-'));
        format!("MUSTER_{}", name.to_ascii_uppercase().replace(['.', '-'], "_"))
    }

    /// Every name of a variable that is taken for this key.
    pub(super) fn variables(&self) -> impl Iterator<Item = String> {
        let by_path = format!("MUSTER_{}", self.path.to_ascii_uppercase().replace('.', "_"));
        let own = self.variable();
        std::iter::once(own.clone()).chain((own != by_path).then_some(by_path))
    }

    pub(super) fn section(&self) -> &'static str {
        self.path.split_once('.').map_or(self.path, |(section, _)| section)
    }

    pub(super) fn name(&self) -> &'static str {
        self.path.split_once('.').map_or(self.path, |(_, name)| name)
    }

    pub(super) fn to_setting(&self, config: &Config, origin: Origin) -> Setting {
        Setting { key: self.path, value: (self.show)(config), origin }
    }
}

/// The key of this path, if there is one.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The sections, in the order of the table.
pub(super) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = KEYS.iter().map(Key::section).collect();
    sections.dedup();
    sections
}

fn list(items: &[String]) -> Option<String> {
    (!items.is_empty()).then(|| items.join(","))
}

fn path(path: Option<&PathBuf>) -> Option<String> {
    path.map(|path| path.display().to_string())
}

fn put<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

/// What most keys have in common; the way to read and show it follows at its place in the table.
const fn key(path: &'static str, help: &'static str) -> Key {
    Key { path, flag: None, help, secret: false, set: |_, _| Ok(()), show: |_| None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_reads_back_what_it_shows() {
        let mut config = Config::default();
        for key in KEYS {
            let Some(shown) = (key.show)(&config) else { continue };
            (key.set)(&mut config, &Given::Text(shown.clone())).unwrap_or_else(|rule| panic!("{}: {rule}", key.path));
            assert_eq!((key.show)(&config), Some(shown), "{}", key.path);
        }
    }

    #[test]
    fn every_key_refuses_something_and_then_changes_nothing() {
        let before = Config::default();
        for key in KEYS {
            let mut config = before.clone();
            let nonsense = Given::List(vec!["\0 not a value".to_owned()]);
            assert!((key.set)(&mut config, &nonsense).is_err(), "{}", key.path);
            assert_eq!((key.show)(&config), (key.show)(&before), "{}", key.path);
        }
    }

    #[test]
    fn names_of_variables_are_different() {
        let mut names: Vec<_> = KEYS.iter().flat_map(Key::variables).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
