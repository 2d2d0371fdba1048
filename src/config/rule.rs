//! From `Raw` to [`Config`]: every value read, every rule between values held.

use super::given::host_name;
use super::key::{self, KEYS};
use super::raw::Raw;
use super::{Config, Fault, Origin};

/// A rule between values: the keys it is about, and what is wrong where it is broken.
struct Rule {
    keys: &'static [&'static str],
    broken: fn(&Config) -> Option<String>,
}

const RULES: &[Rule] = &[
    Rule {
        keys: &["leases.ttl", "leases.ttl_min"],
        broken: |config| said(config.leases.ttl_ms < config.leases.ttl_min_ms, "leases.ttl must be at least leases.ttl_min"),
    },
    Rule {
        keys: &["leases.ttl", "leases.ttl_max"],
        broken: |config| said(config.leases.ttl_ms > config.leases.ttl_max_ms, "leases.ttl must be at most leases.ttl_max"),
    },
    Rule {
        keys: &["node.stall_exit", "node.stall_timeout"],
        broken: |config| {
            let is_short = config.node.stall_exit_ms.is_some_and(|exit_ms| exit_ms <= config.node.stall_timeout_ms);
            said(is_short, "node.stall_exit must be longer than node.stall_timeout, or \"off\"")
        },
    },
    Rule {
        keys: &["http.batch_body_bytes_max", "http.body_bytes_max"],
        broken: |config| {
            let fits = config.http.batch_body_bytes_max >= config.http.body_bytes_max;
            said(!fits, "http.batch_body_bytes_max must be at least http.body_bytes_max")
        },
    },
    Rule {
        keys: &["http.bodies_bytes_max", "http.batch_body_bytes_max"],
        broken: |config| {
            let fits = config.http.bodies_bytes_max >= config.http.batch_body_bytes_max;
            said(!fits, "http.bodies_bytes_max must be at least http.batch_body_bytes_max")
        },
    },
    Rule {
        keys: &["bus.credentials_file", "bus.nkey_file"],
        broken: |config| {
            let both = config.bus.credentials_file.is_some() && config.bus.nkey_file.is_some();
            said(both, "only one of bus.credentials_file and bus.nkey_file can be used")
        },
    },
    Rule {
        keys: &["bus.credentials_file", "bus.nkey_file", "bus.url"],
        broken: |config| {
            let given = config.bus.credentials_file.is_some() || config.bus.nkey_file.is_some();
            said(given && config.bus.url.is_empty(), "credentials need servers: set bus.url (--nats) too")
        },
    },
    Rule { keys: &["http.tls.cert_file", "http.tls.key_file"], broken: |config| config.http.tls.broken() },
    Rule { keys: &["bus.tls.cert_file", "bus.tls.key_file"], broken: |config| config.bus.tls.identity.broken() },
    Rule {
        keys: &["bus.tls.ca_file", "bus.tls.cert_file", "bus.tls.key_file", "bus.url"],
        broken: |config| said(config.bus.tls.is_given() && config.bus.url.is_empty(), "TLS needs servers: set bus.url (--nats) too"),
    },
];

fn said(is_broken: bool, rule: &str) -> Option<String> {
    is_broken.then(|| rule.to_owned())
}

/// Reads everything that was given. A value that is wrong leaves its default in place, so that all the others are still looked at;
/// rules about it are not, for they would blame the default.
pub(super) fn to_config(raw: &Raw) -> (Config, Vec<Fault>) {
    let mut config = Config::default();
    let mut faults = Vec::new();
    let mut wrong = Vec::new();
    for key in KEYS {
        let Some((given, origin)) = raw.values.get(key.path) else { continue };
        if let Err(rule) = (key.set)(&mut config, given) {
            let what = if key.secret { key.path.to_owned() } else { format!("{} = {}", key.path, given.shown()) };
            faults.push(Fault { what, origin: origin.clone(), rule });
            wrong.push(key.path);
        }
    }
    faults.extend(nameless(raw));
    let whole = RULES.iter().filter(|rule| !rule.keys.iter().any(|key| wrong.contains(key)));
    faults.extend(whole.filter_map(|rule| (rule.broken)(&config).map(|text| to_fault(rule, text, &config, raw))));
    (config, faults)
}

/// The default of a node's name is its host's, which may be no name for a node.
fn nameless(raw: &Raw) -> Option<Fault> {
    let missing = !raw.values.contains_key("node.name") && host_name().is_none();
    let rule = "must be given (--name): this machine's host name cannot be a node name".to_owned();
    missing.then(|| Fault { what: "node.name".to_owned(), origin: Origin::Default, rule })
}

/// Tells each value that takes part and where it came from.
fn to_fault(rule: &Rule, text: String, config: &Config, raw: &Raw) -> Fault {
    let told = rule.keys.iter().filter_map(|path| {
        let value = key::find(path).and_then(|key| (key.show)(config))?;
        let origin = raw.values.get(path).map_or("default".to_owned(), |(_, origin)| origin.to_string());
        Some(format!("{path} = {value:?} ({origin})"))
    });
    Fault { what: told.collect::<Vec<_>>().join(", "), origin: Origin::Default, rule: text }
}
