//! Origins: a page that a browser loaded from elsewhere may read what the configuration lets it, and writes nothing else.
//!
//! A browser says in `Origin` where the page that asks came from. That it equals `Host` proves little when the host is a name: an attacker's
//! own name may lead to this machine (DNS rebinding). So a name counts as this node's only when the configuration says so.

use std::net::IpAddr;

use axum::body::Body;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Method, Request, Response, header};

use crate::config::HttpConfig;

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, PUT, POST, DELETE");
const REQUEST_HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, content-type, if-none-match, last-event-id, muster-client, x-request-id");
const RESPONSE_HEADERS: HeaderValue = HeaderValue::from_static("etag, location, muster-node, retry-after, x-request-id");
const MAX_AGE_S: HeaderValue = HeaderValue::from_static("600");

/// Who may write, and read from elsewhere.
pub(super) struct Origins {
    any: bool,
    allowed: Vec<String>,
    /// Host names that are this node's.
    own_hosts: Vec<String>,
}

/// What is to be done with a request, by where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may go on.
    Pass,
    /// A browser asks whether a page may ask, and it may.
    Preflight,
    /// A foreign page wants to write.
    Foreign,
}

impl Origins {
    pub(super) fn new(config: &HttpConfig) -> Self {
        let advertised = config.advertise.iter().map(|authority| host_of(authority).to_ascii_lowercase());
        Self {
            any: config.cors_origins.iter().any(|origin| origin == "*"),
            allowed: config
                .cors_origins
                .iter()
                .map(|origin| without_default_port(&origin.trim_end_matches('/').to_ascii_lowercase()).to_owned())
                .collect(),
            own_hosts: advertised.chain(["localhost".to_owned()]).collect(),
        }
    }

    pub(super) fn judge<B>(&self, request: &Request<B>) -> Verdict {
        let (method, headers) = (request.method(), request.headers());
        let Some(origin) = headers.get(header::ORIGIN) else { return Verdict::Pass };
        if method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) && self.allows(origin) {
            return Verdict::Preflight;
        }
        if method.is_safe() || self.allows(origin) || self.is_own(origin, request) { Verdict::Pass } else { Verdict::Foreign }
    }

    /// Lets the page read the answer, where it may.
    pub(super) fn sign(&self, origin: &HeaderValue, response: &mut Response<Body>) {
        if !self.allows(origin) {
            return;
        }
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_HEADERS);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_S);
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        let is_listed = |origin: &str| self.allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(without_default_port(origin)));
        self.any || origin.to_str().is_ok_and(is_listed)
    }

    fn is_own<B>(&self, origin: &HeaderValue, request: &Request<B>) -> bool {
        let (Ok(origin), Some(host)) = (origin.to_str(), asked_host(request)) else { return false };
        let Some((scheme, authority)) = without_default_port(origin).split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
            return false;
        };
        let host = host.strip_suffix(default_port(scheme)).unwrap_or(host);
        authority.eq_ignore_ascii_case(host) && self.is_own_host(host_of(authority))
    }

    fn is_own_host(&self, host: &str) -> bool {
        host.parse::<IpAddr>().is_ok() || self.own_hosts.iter().any(|own| own.eq_ignore_ascii_case(host))
    }
}

fn is_scheme(scheme: &str) -> bool {
    matches!(scheme, "http" | "https")
}

/// The port that a browser leaves out of an origin.
fn default_port(scheme: &str) -> &'static str {
    if scheme == "https" { ":443" } else { ":80" }
}

/// An origin as browsers send it.
fn without_default_port(origin: &str) -> &str {
    let scheme = origin.split_once("://").map_or("", |(scheme, _)| scheme);
    if is_scheme(scheme) { origin.strip_suffix(default_port(scheme)).unwrap_or(origin) } else { origin }
}

/// Whom the client wanted to reach: HTTP/1 says so in a header, HTTP/2 in the target.
fn asked_host<B>(request: &Request<B>) -> Option<&str> {
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    header.or_else(|| request.uri().authority().map(Authority::as_str))
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::request as http;

    use super::*;

    fn origins() -> Origins {
        Origins {
            any: false,
            allowed: vec!["https://console.example".to_owned()],
            own_hosts: vec!["registry.example".to_owned(), "localhost".to_owned()],
        }
    }

    fn judge(method: &Method, host: &str, origin: Option<&str>) -> Verdict {
        let asked = |request: http::Builder| {
            let request = request.method(method).header(header::ACCESS_CONTROL_REQUEST_METHOD, "PUT");
            let request = origin.into_iter().fold(request, |request, origin| request.header(header::ORIGIN, origin));
            origins().judge(&request.body(()).unwrap())
        };
        let http1 = asked(Request::builder().uri("/").header(header::HOST, host));
        let http2 = asked(Request::builder().uri(format!("http://{host}/")));
        assert_eq!(http1, http2);
        http1
    }

    #[test]
    fn a_foreign_page_writes_nothing() {
        for (host, origin) in [
            ("127.0.0.1:6878", "http://evil.example"),
            ("127.0.0.1:6878", "null"),
            ("127.0.0.1:6878", "http://127.0.0.1:9999"),
            ("127.0.0.1:6878", "http://127.0.0.1:6878.evil.example"),
            ("evil.example:6878", "http://evil.example:6878"),
            ("127.0.0.1:6878", ""),
            ("127.0.0.1:443", "http://127.0.0.1"),
            ("127.0.0.1", "http://127.0.0.1:443"),
            ("127.0.0.1:6878", "https://console.example:80"),
        ] {
            assert_eq!(judge(&Method::PUT, host, Some(origin)), Verdict::Foreign, "{host} {origin}");
            assert_eq!(judge(&Method::GET, host, Some(origin)), Verdict::Pass, "{host} {origin}");
        }
    }

    #[test]
    fn own_pages_configured_ones_and_programs_write() {
        for (host, origin) in [
            ("127.0.0.1:6878", None),
            ("127.0.0.1:6878", Some("http://127.0.0.1:6878")),
            ("[::1]:6878", Some("http://[::1]:6878")),
            ("localhost:6878", Some("http://localhost:6878")),
            ("registry.example", Some("https://registry.example")),
            ("registry.example:443", Some("https://registry.example")),
            ("registry.example:80", Some("http://registry.example")),
            ("registry.example", Some("http://registry.example:80")),
            ("[::1]:80", Some("http://[::1]")),
            ("127.0.0.1:6878", Some("https://console.example:443")),
            ("127.0.0.1:6878", Some("https://console.example")),
        ] {
            assert_eq!(judge(&Method::DELETE, host, origin), Verdict::Pass, "{host} {origin:?}");
        }
    }

    #[test]
    fn an_origin_that_is_configured_with_its_default_port_is_the_one_that_browsers_send() {
        let config = HttpConfig { cors_origins: vec!["https://Console.example:443/".to_owned()], ..HttpConfig::default() };
        assert!(Origins::new(&config).allows(&HeaderValue::from_static("https://console.example")));
    }

    #[test]
    fn only_configured_origins_pass_a_preflight() {
        assert_eq!(judge(&Method::OPTIONS, "127.0.0.1", Some("https://console.example")), Verdict::Preflight);
        assert_eq!(judge(&Method::OPTIONS, "127.0.0.1", Some("https://evil.example")), Verdict::Pass);
    }
}
