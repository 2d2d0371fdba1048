//! The requests that are sent, as bytes made before the clock starts; the same ones to muster and to the floor.

use std::fmt::Write;

/// Instances a service has in the registration load.
const INSTANCES_PER_SERVICE: usize = 100;

/// Digits of a number in a service's name and in an instance's id: all names of a kind have one length.
pub(crate) const SERVICE_DIGITS: usize = 5;
pub(crate) const ID_DIGITS: usize = 8;

/// What a service is used for; its name begins with this letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Registered and renewed one by one.
    Registered,
    /// Looked up, with 10 instances.
    Ten,
    /// Looked up, with 100 instances.
    Hundred,
    /// Followed by a subscriber.
    Watched,
    /// Its providers are killed.
    Killed,
}

impl Kind {
    pub(crate) const fn letter(self) -> u8 {
        match self {
            Self::Registered => b'r',
            Self::Ten => b't',
            Self::Hundred => b'h',
            Self::Watched => b'w',
            Self::Killed => b'k',
        }
    }

    pub(crate) fn service(self, number: usize) -> String {
        format!("{}{number:0SERVICE_DIGITS$}", char::from(self.letter()))
    }
}

/// Requests one after another in one piece of memory.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Requests {
    /// The request with this number, beginning again after the last one.
    pub(crate) fn get(&self, number: usize) -> &[u8] {
        let index = number % self.ends.len();
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[index]]
    }
}

impl FromIterator<Vec<u8>> for Requests {
    fn from_iter<I: IntoIterator<Item = Vec<u8>>>(requests: I) -> Self {
        let mut all = Self::default();
        for request in requests {
            all.bytes.extend_from_slice(&request);
            all.ends.push(all.bytes.len());
        }
        all
    }
}

/// How many services of its kind `count` registrations are spread over.
pub(crate) fn services_of(count: usize) -> usize {
    count.div_ceil(INSTANCES_PER_SERVICE)
}

/// `count` registrations of distinct instances, each in another service than the one before.
pub(crate) fn registrations(kind: Kind, count: usize, services: usize) -> Requests {
    (0..count).map(|number| registration(&kind.service(number % services), number)).collect()
}

/// Heartbeats of the same instances.
pub(crate) fn heartbeats(kind: Kind, count: usize, services: usize) -> Requests {
    (0..count).map(|number| heartbeat(&kind.service(number % services), number)).collect()
}

/// Look-ups of `services` services, one after another.
pub(crate) fn look_ups(kind: Kind, services: usize) -> Requests {
    (0..services).map(|number| look_up(&kind.service(number), None)).collect()
}

pub(crate) fn registration(service: &str, number: usize) -> Vec<u8> {
    let body = format!(r#"{{"address":"{}","port":8080,"weight":100,"ttl":"1h"}}"#, address(number));
    request("PUT", &instance(service, number), "", &body)
}

/// An instance whose lease is short.
pub(crate) fn beating(service: &str, number: usize) -> Vec<u8> {
    let body = format!(r#"{{"address":"{}","port":8080,"weight":100,"ttl":"1s","check":{{"kind":"none"}}}}"#, address(number));
    request("PUT", &instance(service, number), "", &body)
}

/// An instance that is held by the connection.
pub(crate) fn attachment(service: &str, number: usize) -> Vec<u8> {
    let (id, address) = (id(number), address(number));
    let body = format!(r#"{{"service":"{service}","id":"{id}","address":"{address}","port":8080,"weight":100,"check":{{"kind":"none"}}}}"#);
    request("POST", "/v1/attach", "", &body)
}

pub(crate) fn deregistration(service: &str, number: usize) -> Vec<u8> {
    request("DELETE", &instance(service, number), "", "")
}

pub(crate) fn heartbeat(service: &str, number: usize) -> Vec<u8> {
    request("POST", &format!("{}/heartbeat", instance(service, number)), "", "")
}

pub(crate) fn look_up(service: &str, etag: Option<&str>) -> Vec<u8> {
    let header = etag.map(|etag| format!("if-none-match: {etag}\r\n")).unwrap_or_default();
    request("GET", &format!("/v1/services/{service}/instances"), &header, "")
}

pub(crate) fn watch(service: &str) -> Vec<u8> {
    request("GET", &format!("/v1/watch?service={service}"), "accept: text/event-stream\r\n", "")
}

pub(crate) fn get(path: &str) -> Vec<u8> {
    request("GET", path, "", "")
}

/// The id of an instance, by its number: as long as ids usually are.
pub(crate) fn id(number: usize) -> String {
    format!("host-{number:0ID_DIGITS$}")
}

fn instance(service: &str, number: usize) -> String {
    format!("/v1/services/{service}/instances/{}", id(number))
}

/// A distinct address of always the same length, for up to a million instances.
fn address(number: usize) -> String {
    let octet = |unit: usize| 100 + number / unit % 100;
    format!("10.{}.{}.{}", octet(10_000), octet(100), octet(1))
}

fn request(method: &str, target: &str, headers: &str, body: &str) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nhost: registry\r\n{headers}");
    if method != "GET" {
        let length = body.len();
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        write!(text, "{kind}content-length: {length}\r\n").expect("unreachable: text can be written to");
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}
