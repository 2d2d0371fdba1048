//! A node, put together: its address taken, its task started, on a bus, its HTTP open; and taken apart again in order.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::failure::{Code, Failure};
use crate::bus::memory::Hub;
use crate::bus::nats;
use crate::clock::Clock;
use crate::config::{Config, ProbesConfig};
use crate::http::{App, Bound, Tls};
use crate::log;
use crate::model::{Address, Epoch};
use crate::node::store::{Restored, Store, StoreError};
use crate::node::{self, Asking, Condition, Guard, Handle, Probing, Watching};
use crate::random;
use crate::registry::{BusHealth, Knowledge, NodeState, ProbeLimits, Settings, Untaken};
use crate::shutdown::Shutdown;

/// Of `node.leave_timeout`, so much is kept for what follows the handing over: what is under way over HTTP may take 5 s of it, then the
/// node's file is written. Half of it where it is short.
const ENDING_MAX: Duration = Duration::from_secs(6);

/// A node that gives way names what nobody took within this time.
const UNTAKEN_WAIT: Duration = Duration::from_secs(1);
/// A node that has the name of one that starts answers its first beacon sooner than this.
const NAMESAKE_WAIT: Duration = Duration::from_millis(100);
/// A bus that is there is heard sooner than this.
const HEARING_WAIT: Duration = Duration::from_millis(500);

/// What carries messages to the other nodes.
pub(super) enum Bus<'a> {
    /// There are no others.
    None,
    /// As configured.
    Nats,
    /// They are in this process.
    Memory(&'a Hub),
}

/// A running node.
pub(super) struct Running {
    pub(super) config: Arc<Config>,
    pub(super) address: SocketAddr,
    pub(super) shutdown: Shutdown,
    /// Has the files of its certificate looked at; `None`: it has none.
    pub(super) certificate: Option<Arc<Notify>>,
    /// What it starts from says what was registered.
    pub(super) knew_enough: bool,
    handle: Handle,
}

/// Takes the address a node is to listen on.
pub(super) fn bind(listen: SocketAddr) -> Result<Bound, Failure> {
    let refused = |error: std::io::Error| {
        let (why, hint) = match error.kind() {
            ErrorKind::AddrInUse => ("another program has that port", "--listen 127.0.0.1:0, which takes a free one"),
            ErrorKind::PermissionDenied => ("ports below 1024 need a privilege", "--listen 127.0.0.1:6878"),
            ErrorKind::AddrNotAvailable => ("this machine has no such address", "--listen 0.0.0.0:6878, which takes all it has"),
            _ => ("the system refuses", "another address with --listen"),
        };
        Failure::new(Code::Failed, format!("cannot listen on {listen}: {why} ({error})")).hint(hint)
    };
    Bound::bind(listen).map_err(refused)
}

/// Starts a node on an address that was taken.
pub(super) async fn start(config: Config, bound: Bound, bus: Bus<'_>) -> Result<Running, Failure> {
    let tls = Tls::load(&config.http.tls).map_err(|error| Failure::new(Code::Configuration, format!("[http] tls: {error}")))?;
    let certificate = tls.as_ref().map(Tls::reload);
    let bound = bound.secured(tls);
    let shutdown = Shutdown::new();
    let address = bound.address();
    let settings = to_settings(&config, address, !matches!(bus, Bus::None));
    let life = settings.life();
    let asking = to_asking(&config, address);
    let clock = Clock::start();
    let disk = read_disk(&config, clock).await?;
    let knew_enough = disk.as_ref().is_some_and(|(_, restored)| restored.knew_enough);
    let (handle, port) = node::spawn_with(settings, disk, clock, &asking, &shutdown);
    handle.watch_over(to_watching(&config), &shutdown).map_err(|error| Failure::new(Code::Failed, format!("no watchdog: {error}")))?;
    match bus {
        Bus::None => drop(port),
        Bus::Memory(hub) => hub.attach(port, life, &shutdown),
        Bus::Nats => {
            let started = nats::start(port, life, &config.cluster.name, &config.bus, &shutdown).await;
            started.map_err(|error| Failure::new(Code::Configuration, format!("[bus]: {error}")))?;
        }
    }
    let config = Arc::new(config);
    bound.serve(App::new(handle.clone(), Arc::clone(&config), shutdown.clone()));
    Ok(Running { config, address, shutdown, certificate, knew_enough, handle })
}

/// A node whose task hangs for good is worth less than one that is started again.
fn to_watching(config: &Config) -> Watching {
    let Config { node, .. } = config;
    let end = || {
        log::flush();
        std::process::exit(i32::from(Code::Stalled as u8));
    };
    Watching { timeout: Duration::from_millis(node.stall_timeout_ms), exit: node.stall_exit_ms.map(Duration::from_millis), end }
}

/// Takes the node's folder, where it is to have one, and reads what is there.
async fn read_disk(config: &Config, clock: Clock) -> Result<Option<(Store, Restored)>, Failure> {
    let Some(folder) = config.node.data_dir.clone() else { return Ok(None) };
    let cluster = config.cluster.name.clone();
    let read = move || {
        let store = Store::open(&folder, &cluster)?;
        let restored = store.read(clock.wall());
        Ok((store, restored))
    };
    let refused = |error: StoreError| {
        let failure = Failure::new(Code::Configuration, format!("node.data_dir: {error}"));
        match error {
            StoreError::InUse(_) => failure.hint("a folder of its own for each node, with --data-dir"),
            StoreError::Io(..) => failure.hint("a folder that this user may write to, with --data-dir"),
        }
    };
    tokio::task::spawn_blocking(read)
        .await
        .map_err(|error| Failure::new(Code::Failed, format!("node.data_dir: {error}")))?
        .map(Some)
        .map_err(refused)
}

fn to_asking(config: &Config, address: SocketAddr) -> Asking {
    let ProbesConfig { allow, deny, per_target, .. } = config.probes.clone();
    let guard = Guard { loopback: address.ip().is_loopback(), allow, deny };
    Asking { is_secure: config.http.tls.pair().is_some(), witness: config.cluster.witness.clone(), probing: Probing { guard, per_target } }
}

fn to_settings(config: &Config, address: SocketAddr, has_bus: bool) -> Settings {
    let http = config.http.advertise.clone().unwrap_or_else(|| advertised(address, &gethostname::gethostname().to_string_lossy()));
    if has_bus && http.is_empty() {
        tracing::warn!("peers are told no address of this node, and cannot ask it whether it lives: set http.advertise");
    }
    Settings {
        http,
        has_bus,
        bootstrap_wait_ms: config.cluster.bootstrap_wait_ms,
        settle_ms: config.settle_ms(),
        expect_empty: config.cluster.expect_empty,
        dead_after_ms: config.cluster.dead_after_ms,
        evict_after_ms: config.leases.evict_after_ms,
        detach_grace_ms: config.leases.detach_grace_ms,
        revive_for_ms: config.leases.revive_for_ms,
        preserve_percent: config.leases.preserve_percent,
        preserve_max_ms: config.leases.preserve_max_ms,
        probes: ProbeLimits { in_flight: config.probes.in_flight, per_second: config.probes.per_second },
        limits: config.limits,
        ..Settings::new(config.node.name.clone(), Epoch(random::number()))
    }
}

/// What peers are told where nobody says: every address is none that they could ask, and a host that is none either is better left out.
fn advertised(address: SocketAddr, host: &str) -> String {
    if !address.ip().is_unspecified() {
        return address.to_string();
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => String::new(),
        Ok(ip) => SocketAddr::new(ip, address.port()).to_string(),
        Err(_) if Address::parse_recorded(host).is_ok() => format!("{host}:{}", address.port()),
        Err(_) => String::new(),
    }
}

/// How a node's end went.
pub(super) struct Stopped {
    /// All of it ended within `node.leave_timeout`.
    pub(super) in_time: bool,
    /// It gave way to another node of its name: what of its writes no other node holds.
    pub(super) untaken: Option<Untaken>,
}

impl Running {
    /// Where its HTTP is reached from here.
    pub(super) fn url(&self) -> String {
        let scheme = if self.is_secure() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// It speaks TLS alone.
    pub(super) fn is_secure(&self) -> bool {
        self.config.http.tls.pair().is_some()
    }

    /// How far its answers can be relied on.
    pub(super) fn condition(&self) -> Condition {
        self.handle.condition()
    }

    /// The moment this long from now, as people read it.
    pub(super) fn in_ms(&self, ms: u64) -> String {
        crate::clock::shown(self.handle.clock().wall() + ms)
    }

    /// Waits for a moment until the node hears its bus, so that what is said of it is how it is; says whether it does.
    pub(super) async fn hears_bus(&self) -> bool {
        let mut conditions = self.handle.follow_condition();
        let is_heard = |condition: &Condition| matches!(condition.bus, BusHealth::None | BusHealth::Up);
        let heard = tokio::time::timeout(HEARING_WAIT, conditions.wait_for(is_heard)).await;
        matches!(heard, Ok(Ok(_)))
    }

    /// Waits for a moment until a node of this one's name was heard, or none; says whether one has the name.
    pub(super) async fn name_is_taken(&self) -> bool {
        let mut conditions = self.handle.follow_condition();
        let is_clear = |condition: &Condition| condition.knowledge == Knowledge::NameTaken || condition.state == NodeState::Ready;
        let _ = tokio::time::timeout(NAMESAKE_WAIT, conditions.wait_for(is_clear)).await;
        self.condition().knowledge == Knowledge::NameTaken
    }

    /// Ends when another node runs under this one's name, and of the two this one is to end.
    pub(super) async fn gives_way(&self) {
        let mut conditions = self.handle.follow_condition();
        if conditions.wait_for(|condition| condition.gives_way).await.is_err() {
            // The node has ended: whoever waits for that sees it too.
            std::future::pending::<()>().await;
        }
    }

    /// Says goodbye to peers and subscribers, and ends.
    pub(super) async fn stop(&self) -> Stopped {
        let limit = Duration::from_millis(self.config.node.leave_timeout_ms);
        let clock = self.handle.clock();
        let began = clock.mono();
        // What hangs in the node is no reason to stay longer than was asked.
        let _ = tokio::time::timeout(limit.saturating_sub(ENDING_MAX.min(limit / 2)), self.handle.leave()).await;
        let asked = async { self.handle.untaken().await.ok() };
        let untaken = if self.condition().gives_way { tokio::time::timeout(UNTAKEN_WAIT, asked).await.ok().flatten() } else { None };
        self.shutdown.begin();
        let spent = Duration::from_millis(clock.mono().saturating_sub(began));
        Stopped { in_time: self.shutdown.ended(limit.saturating_sub(spent)).await, untaken }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        InstanceId, InstanceKey, Life, Namespace, NodeName, Port, Registration, RegistrationDraft, ServiceKey, ServiceName, Ttl,
    };
    use crate::node::FromBus;
    use crate::registry::{Beacon, Envelope, Message, NodeState, Register};

    fn warming() -> FromBus {
        let beacon = Beacon {
            head: 0,
            state: NodeState::Warming,
            records: 0,
            digest: 0,
            view_digest: 0,
            http: String::new(),
            applied: Vec::new(),
            withdrawn_digest: 0,
            overrides_digest: 0,
            takes_sized_pulls: false,
            complete: false,
            preserving: false,
            gives_way: false,
            members: Vec::new(),
            audience: crate::registry::AudienceAt::default(),
            stamp: 0,
            settling_ms: None,
        };
        let from = Life { node: NodeName::parse("n2").unwrap(), epoch: Epoch(2) };
        FromBus::Received(Envelope { from, message: Message::Beacon(beacon) })
    }

    #[test]
    fn where_every_address_is_listened_on_peers_are_told_a_host_they_can_ask_or_none() {
        let told = |listen: &str, host: &str| advertised(listen.parse().unwrap(), host);
        assert_eq!(told("10.0.0.7:6878", "n1"), "10.0.0.7:6878");
        assert_eq!(told("[::1]:6878", "n1"), "[::1]:6878");
        assert_eq!(told("0.0.0.0:6878", "n1.example"), "n1.example:6878");
        assert_eq!(told("[::]:6878", "10.0.0.7"), "10.0.0.7:6878");
        assert_eq!(told("0.0.0.0:6878", "fd00::7"), "[fd00::7]:6878");
        assert_eq!(told("0.0.0.0:6878", "[fd00::7]"), "[fd00::7]:6878");
        for odd in ["", "0.0.0.0", "::", "[::]", "[n1]", "a/b", "n1:80", "n 1", "n\u{fffd}1"] {
            assert_eq!(told("0.0.0.0:6878", odd), "", "{odd:?}");
        }
    }
    #[tokio::test]
    async fn handing_over_and_ending_have_one_limit_between_them() {
        let limit = Duration::from_secs(1);
        let mut config = Config::default();
        config.node.leave_timeout_ms = 1000;
        let shutdown = Shutdown::new();
        let settings = Settings { has_bus: false, expect_empty: true, ..Settings::new(NodeName::parse("n1").unwrap(), Epoch(1)) };
        let (handle, port) = node::spawn(settings, Clock::start(), &shutdown);
        let draft = RegistrationDraft::new(Address::parse("10.0.0.7").unwrap(), Port::new(80).unwrap(), Ttl::from_ms(15_000).unwrap());
        let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("user").unwrap() };
        let key = InstanceKey { service, id: InstanceId::parse("a").unwrap() };
        let registration = Arc::new(Registration::new(draft).unwrap());
        let register = Register::new(key, registration, 0);
        handle.register(register).await.unwrap();
        // The peer never becomes ready, so that what the node owns stays with it; and something does not end.
        assert!(port.to_node.send(warming()).await);
        while handle.cluster().await.unwrap().nodes.len() < 2 {
            tokio::task::yield_now().await;
        }
        shutdown.spawn("hangs", std::future::pending());
        let address = "127.0.0.1:1".parse().unwrap();
        let running = Running { config: Arc::new(config), address, shutdown, certificate: None, knew_enough: false, handle };
        let clock = running.handle.clock();
        let began = clock.mono();
        assert!(!running.stop().await.in_time, "not all has ended");
        let spent = Duration::from_millis(clock.mono() - began);
        assert!(spent >= limit * 9 / 10 && spent < limit * 3 / 2, "{spent:?}");
    }
}
