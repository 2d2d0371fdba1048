//! Places: how many connections are open, of all and from one address, so that no one address takes them all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::HttpConfig;

/// Who has one IPv6 address has its whole network: so many bits name it.
const IPV6_NETWORK_BITS: u32 = 64;

/// Places for connections.
pub(super) struct Places {
    all: Arc<Semaphore>,
    max: u32,
    by_address: Arc<ByAddress>,
}

/// How many are open from each address that has one open.
struct ByAddress {
    max: u32,
    open: Mutex<HashMap<IpAddr, u32>>,
}

/// A connection's place; free again when it is dropped.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    /// `None`: its address is not counted.
    counted: Option<(IpAddr, Arc<ByAddress>)>,
}

/// Why there is no place; the key that bounds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    All,
    Address,
}

impl Places {
    pub(super) fn new(config: &HttpConfig) -> Self {
        let max = u32::try_from(config.connections_max).unwrap_or(u32::MAX).min(Semaphore::MAX_PERMITS as u32);
        let of_one = config.connections_per_address.map_or(max.div_ceil(2), |of_one| u32::try_from(of_one).unwrap_or(u32::MAX));
        let by_address = Arc::new(ByAddress { max: of_one, open: Mutex::default() });
        Self { all: Arc::new(Semaphore::new(max as usize)), max, by_address }
    }

    /// A place for a connection from there. This machine's own programs are bounded by the number of all alone.
    ///
    /// # Errors
    /// [`Full`] when there is none.
    pub(super) fn take(&self, address: IpAddr) -> Result<Place, Full> {
        let permit = Arc::clone(&self.all).try_acquire_owned().map_err(|_| Full::All)?;
        let Some(network) = to_network(address) else { return Ok(Place { _permit: permit, counted: None }) };
        let mut open = self.by_address.open.lock();
        let count = open.entry(network).or_default();
        if *count >= self.by_address.max {
            return Err(Full::Address);
        }
        *count += 1;
        drop(open);
        Ok(Place { _permit: permit, counted: Some((network, Arc::clone(&self.by_address))) })
    }

    /// Waits until none is open.
    pub(super) async fn all_free(&self) {
        // Never closed: who waits has all of them at the end.
        let _ = self.all.acquire_many(self.max).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((network, by_address)) = self.counted.take() else { return };
        let mut open = by_address.open.lock();
        if let Some(count) = open.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                open.remove(&network);
            }
        }
    }
}

/// As what an address is counted; `None`: not at all.
fn to_network(address: IpAddr) -> Option<IpAddr> {
    let address = address.to_canonical();
    if address.is_loopback() {
        return None;
    }
    Some(match address {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> IPV6_NETWORK_BITS << IPV6_NETWORK_BITS).into(),
        IpAddr::V4(_) => address,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(all: usize, of_one: Option<usize>) -> Places {
        Places::new(&HttpConfig { connections_max: all, connections_per_address: of_one, ..HttpConfig::default() })
    }

    #[test]
    fn one_address_takes_half_of_all_places_and_leaves_the_others() {
        let places = places(4, None);
        let take = |address: &str| places.take(address.parse().unwrap());
        let held = [take("10.0.0.1"), take("::ffff:10.0.0.1")].map(Result::ok);
        assert_eq!(take("10.0.0.1").err(), Some(Full::Address));
        let others = [take("10.0.0.2"), take("127.0.0.1")].map(Result::ok);
        assert_eq!(take("10.0.0.3").err(), Some(Full::All));
        drop(held);
        assert!(others.iter().all(Option::is_some) && take("10.0.0.1").is_ok());
        drop(others);
        assert!(places.by_address.open.lock().is_empty(), "nothing is kept of who is gone");
    }

    #[test]
    fn a_network_counts_as_one_and_this_machine_not_at_all() {
        let places = places(10, Some(1));
        let take = |address: &str| places.take(address.parse().unwrap());
        let _held = take("2001:db8::1").ok();
        assert_eq!(take("2001:db8::ffff:2").err(), Some(Full::Address));
        assert!(take("2001:db8:0:1::1").is_ok());
        let own = [take("::1"), take("127.0.0.1"), take("127.0.0.1"), take("::ffff:127.0.0.1")];
        assert!(own.iter().all(Result::is_ok));
    }
}
