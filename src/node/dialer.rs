//! The dialer: the one way in which probes open connections. A registry dials where strangers tell it to, so each address is held against
//! rules first: a name is resolved once, every address that it has is looked at, and exactly one of these is dialled.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
#[cfg(target_os = "linux")]
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::cidr::Cidr;
use crate::clock::Clock;

/// How many of a name's addresses are dialled at the most.
const DIALLED_MAX: usize = 4;
/// So many names are looked up at once. A lookup takes a thread for as long as the name server is silent, whoever still waits for it; one
/// more is not begun, and its probe tried later.
const LOOKUPS_MAX: usize = 32;
/// A connection whose other end is silent for so long is closed by the system, though all of it has long been let go of here.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(20);

/// Where clouds keep secrets for whoever asks from the machine, beside the link-local ones: Alibaba, Oracle, and Azure's wire server.
const METADATA_V4: [Ipv4Addr; 3] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];
/// Of Google and Oracle. All that begins as [`METADATA_OF_AWS`] is too.
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)];
const METADATA_OF_AWS: [u16; 2] = [0xfd00, 0xec2];

/// Where probes may go.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// This node listens on loopback: so may what it looks at.
    pub loopback: bool,
    /// Only there; empty: everywhere.
    pub allow: Vec<Cidr>,
    /// Never there.
    pub deny: Vec<Cidr>,
}

impl Guard {
    /// Whether this address may be dialled.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn check(&self, ip: IpAddr) -> Result<(), &'static str> {
        for ip in faces(ip) {
            self.check_face(ip)?;
        }
        Ok(())
    }

    fn check_face(&self, ip: IpAddr) -> Result<(), &'static str> {
        let is_in = |ranges: &[Cidr]| ranges.iter().any(|range| range.contains(ip));
        let is_broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
        let (is_machines_own, is_nowhere) = match ip {
            IpAddr::V4(ip) => (ip.is_link_local() || METADATA_V4.contains(&ip), ip.octets()[0] == 0),
            IpAddr::V6(ip) => {
                let is_metadata = METADATA_V6.contains(&ip) || ip.segments()[..2] == METADATA_OF_AWS;
                (ip.is_unicast_link_local() || is_metadata, ip.is_unspecified())
            }
        };
        if is_machines_own {
            Err("link-local and metadata addresses are not probed")
        } else if is_translated(ip) {
            Err("the address is a translator's, and may stand for any other")
        } else if ip.is_multicast() || is_broadcast || is_nowhere {
            Err("the address is no single host's")
        } else if is_in(&self.deny) {
            Err("probes.deny holds the address")
        } else if ip.is_loopback() && !self.loopback {
            Err("loopback: this node does not listen there itself")
        } else if !self.allow.is_empty() && !is_in(&self.allow) {
            Err("probes.allow does not hold the address")
        } else {
            Ok(())
        }
    }
}

/// What a translator near by makes of it is not known here: SIIT's `::ffff:0:0:0/96`, and `64:ff9b:1::/48`, which each site divides as it likes.
fn is_translated(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.segments()[..6] == [0, 0, 0, 0, 0xffff, 0] || ip.segments()[..3] == [0x64, 0xff9b, 1],
    }
}

/// An address, or what it says in other clothes: the IPv4 address within an IPv6 one is what is reached in the end.
fn faces(ip: IpAddr) -> impl Iterator<Item = IpAddr> {
    let canonical = ip.to_canonical();
    let within = match canonical {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => {
            let [a, b, c, _, _, _, high, low] = ip.segments();
            let is_compatible = ip.octets()[..12] == [0; 12] && u128::from(ip) > 1;
            let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
            match a {
                // NAT64 and 6to4.
                0x64 if b == 0xff9b => Some(v4(high, low)),
                0x2002 => Some(v4(b, c)),
                _ if is_compatible => Some(v4(high, low)),
                _ => None,
            }
        }
    };
    std::iter::once(canonical).chain(within)
}

/// Finds the addresses of a name, and takes its time: never called but on a thread of its own.
pub(super) type Resolver = Arc<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// Opens connections for probes.
#[derive(Clone)]
pub(super) struct Dialer {
    guard: Arc<Guard>,
    resolver: Resolver,
    lookups: Arc<Semaphore>,
    budget: Arc<Budget>,
}

/// Why no connection was opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotDialled {
    /// A rule forbids it; nothing was sent.
    Forbidden(&'static str),
    /// This target was asked too often in this second, or too many names are being looked up; nothing was sent.
    TooOften,
    /// Nobody listens there.
    Refused,
    /// Nothing is reached.
    Unreachable(String),
}

impl Dialer {
    pub(super) fn new(guard: Guard, per_target: u32, clock: Clock) -> Self {
        let resolver: Resolver = Arc::new(|host| Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect()));
        Self::with(guard, resolver, per_target, clock)
    }

    fn with(guard: Guard, resolver: Resolver, per_target: u32, clock: Clock) -> Self {
        let lookups = Arc::new(Semaphore::new(LOOKUPS_MAX));
        Self { guard: Arc::new(guard), resolver, lookups, budget: Arc::new(Budget::new(per_target, clock)) }
    }

    /// The addresses of a name. Whoever waits may go: the lookup keeps its place until its thread is free again.
    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, NotDialled> {
        let place = Arc::clone(&self.lookups).try_acquire_owned().map_err(|_| NotDialled::TooOften)?;
        let (resolver, host) = (Arc::clone(&self.resolver), host.to_owned());
        let lookup = tokio::task::spawn_blocking(move || {
            let _place = place;
            resolver(&host)
        });
        let found = lookup.await.map_err(io::Error::other).flatten();
        found.map_err(|_| NotDialled::Unreachable("the name is not known".to_owned()))
    }

    /// The addresses of a host, each of which may be dialled: of a name that also stands for what is forbidden none is.
    pub(super) async fn permitted(&self, host: &str) -> Result<Vec<IpAddr>, NotDialled> {
        let ips = match host.parse::<IpAddr>() {
            Ok(ip) => vec![ip.to_canonical()],
            Err(_) => self.resolve(host).await?,
        };
        for ip in &ips {
            self.guard.check(*ip).map_err(NotDialled::Forbidden)?;
        }
        Ok(ips)
    }

    /// Connects to an address or a name.
    pub(super) async fn dial(&self, host: &str, port: u16) -> Result<TcpStream, NotDialled> {
        let ips = self.permitted(host).await?;
        let mut why = NotDialled::Unreachable("the name has no address".to_owned());
        for ip in ips.into_iter().take(DIALLED_MAX) {
            if !self.budget.take(ip) {
                return Err(NotDialled::TooOften);
            }
            match TcpStream::connect(SocketAddr::new(ip, port)).await {
                Ok(stream) => {
                    #[cfg(target_os = "linux")]
                    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX));
                    return Ok(stream);
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => why = NotDialled::Refused,
                Err(error) => return Err(NotDialled::Unreachable(error.kind().to_string())),
            }
        }
        Err(why)
    }
}

/// How often each target may be dialled within one second of the clock.
struct Budget {
    per_target: u32,
    clock: Clock,
    /// The second, and how often each was dialled in it: no more than all probes of a second.
    spent: Mutex<(u64, HashMap<IpAddr, u32, RandomState>)>,
}

impl Budget {
    fn new(per_target: u32, clock: Clock) -> Self {
        Self { per_target, clock, spent: Mutex::default() }
    }

    fn take(&self, ip: IpAddr) -> bool {
        let second = self.clock.mono() / 1000;
        let mut spent = self.spent.lock();
        if spent.0 != second {
            *spent = (second, HashMap::default());
        }
        let count = spent.1.entry(ip.to_canonical()).or_default();
        let is_left = *count < self.per_target;
        *count += u32::from(is_left);
        is_left
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A dialer for which every name stands for the addresses that `resolve` gives.
    pub(in crate::node) fn dialer(guard: Guard, per_target: u32, resolve: impl Fn() -> Vec<IpAddr> + Send + Sync + 'static) -> Dialer {
        let resolver: Resolver = Arc::new(move |_| Ok(resolve()));
        Dialer::with(guard, resolver, per_target, Clock::start())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;

    fn local() -> Guard {
        Guard { loopback: true, ..Guard::default() }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_no_instance_of_anybody_is_never_dialled() {
        let open = Guard { loopback: true, allow: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()], deny: Vec::new() };
        for forbidden in [
            "169.254.169.254",
            "169.254.1.1",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd00:ec2:1::1",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "::ffff:168.63.129.16",
            "64:ff9b::168.63.129.16",
            "::ffff:0:169.254.169.254",
            "::ffff:0:10.0.0.7",
            "64:ff9b:1::10.0.0.7",
            "64:ff9b:1:fffe:a9:fea9:fe00::",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "::ffff:0.0.0.0",
            "224.0.0.1",
            "::ffff:239.1.1.1",
            "ff02::1",
            "255.255.255.255",
        ] {
            assert!(open.check(ip(forbidden)).is_err(), "{forbidden}");
            assert!(local().check(ip(forbidden)).is_err(), "{forbidden}");
        }
        let neighbours = ["168.63.129.17", "fd00:ec1::254", "fd20:ce::253", "fd00:c1::1", "64:ff9b::10.0.0.7"];
        let usual = ["10.0.0.7", "127.0.0.1", "::1", "::ffff:127.0.0.1", "192.168.1.1", "2001:db8::1", "fd00::1"];
        for fine in neighbours.into_iter().chain(usual) {
            assert_eq!(open.check(ip(fine)), Ok(()), "{fine}");
        }
    }

    #[test]
    fn loopback_is_dialled_only_by_who_listens_there_and_lists_hold() {
        for own in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1"] {
            assert!(Guard::default().check(ip(own)).is_err(), "{own}");
            assert!(local().check(ip(own)).is_ok(), "{own}");
        }
        let listed = Guard { allow: vec!["10.0.0.0/8".parse().unwrap()], deny: vec!["10.9.0.0/16".parse().unwrap()], loopback: false };
        assert!(listed.check(ip("10.1.0.1")).is_ok() && listed.check(ip("::ffff:10.1.0.1")).is_ok());
        assert!(listed.check(ip("10.9.0.1")).is_err() && listed.check(ip("192.168.0.1")).is_err());
    }

    #[tokio::test]
    async fn a_name_is_resolved_once_and_what_it_stood_for_then_is_dialled() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        // The second answer would be another: whoever checks one and dials the next is led astray.
        let turns = move || if count.fetch_add(1, Ordering::SeqCst) == 0 { vec![ip("127.0.0.1")] } else { vec![ip("169.254.169.254")] };
        let dialer = testing::dialer(local(), 100, turns);
        let stream = dialer.dial("turns.example", port).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap().ip(), ip("127.0.0.1"));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert!(matches!(dialer.dial("turns.example", port).await, Err(NotDialled::Forbidden(_))));
    }

    #[tokio::test]
    async fn of_a_name_that_also_stands_for_what_is_forbidden_nothing_is_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dialer = testing::dialer(local(), 100, || vec![ip("127.0.0.1"), ip("::ffff:169.254.169.254")]);
        assert!(matches!(dialer.dial("both.example", port).await, Err(NotDialled::Forbidden(_))));
        let none = testing::dialer(local(), 100, Vec::new);
        assert!(matches!(none.dial("none.example", port).await, Err(NotDialled::Unreachable(_))));
    }

    #[tokio::test]
    async fn a_lookup_keeps_its_place_for_as_long_as_it_takes_and_one_too_many_is_not_begun() {
        let (answer, answered) = std::sync::mpsc::channel::<()>();
        let answered = Mutex::new(answered);
        // The name server is silent until the test is done with it.
        let silent = move || {
            let _ = answered.lock().recv();
            vec![ip("127.0.0.1")]
        };
        let dialer = testing::dialer(local(), 100, silent);
        for _ in 0..LOOKUPS_MAX {
            let mut waiting = Box::pin(dialer.dial("silent.example", 1));
            assert!(futures_util::poll!(&mut waiting).is_pending());
        }
        // Nobody waits for them any more.
        assert_eq!(dialer.dial("silent.example", 1).await.err(), Some(NotDialled::TooOften));
        drop(answer);
        let ended = dialer.lookups.acquire_many(LOOKUPS_MAX as u32);
        assert!(tokio::time::timeout(Duration::from_secs(30), ended).await.is_ok());
    }

    #[tokio::test]
    async fn nobody_is_dialled_more_often_than_may_be() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dialer = testing::dialer(local(), 0, Vec::new);
        assert_eq!(dialer.dial("127.0.0.1", port).await.err(), Some(NotDialled::TooOften));
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_refuses() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let dialer = testing::dialer(local(), 100, Vec::new);
        assert_eq!(dialer.dial("127.0.0.1", port).await.err(), Some(NotDialled::Refused));
    }
}
