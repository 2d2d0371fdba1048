//! A value as it was given, and the ways to read it; each says the rule when the value breaks it.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use super::pem;
use crate::cidr::Cidr;
use crate::model::{Address, NodeName};
use crate::tls::Unfit;
use crate::units::{DURATION_RULE, SIZE_RULE, parse_bytes, parse_ms, show_bytes, show_ms};

/// What somebody gave for a key, not yet understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Given {
    /// From a flag, the environment, or a plain value of the file.
    Text(String),
    /// From a list of the file.
    List(Vec<String>),
}

impl Given {
    /// As its giver would recognise it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::List(items) => items.join(","),
        }
    }

    /// The parts of a list: what stands between commas, or the items of the file's list.
    pub(super) fn items(&self) -> Vec<String> {
        let trimmed = |text: &str| text.trim().to_owned();
        match self {
            Self::Text(text) => text.split(',').map(trimmed).filter(|item| !item.is_empty()).collect(),
            Self::List(items) => items.iter().map(|item| trimmed(item)).collect(),
        }
    }

    pub(super) fn text(&self) -> Result<&str, String> {
        match self {
            Self::Text(text) => Ok(text.as_str()),
            Self::List(_) => Err("must be one value, not a list".to_owned()),
        }
    }

    /// A name, or anything else that knows its own rule.
    pub(super) fn parsed<T: FromStr<Err: std::fmt::Display>>(&self) -> Result<T, String> {
        self.text()?.parse().map_err(|error: T::Err| error.to_string())
    }

    pub(super) fn duration_ms(&self, range: RangeInclusive<u64>) -> Result<u64, String> {
        let ms = parse_ms(self.text()?).ok_or_else(|| format!("must be {DURATION_RULE}"))?;
        within(ms, range, show_ms)
    }

    pub(super) fn bytes(&self, range: RangeInclusive<u64>) -> Result<usize, String> {
        let bytes = parse_bytes(self.text()?).ok_or_else(|| format!("must be {SIZE_RULE}"))?;
        within(bytes, range, show_bytes).and_then(|bytes| usize::try_from(bytes).map_err(|error| error.to_string()))
    }

    pub(super) fn number(&self, range: RangeInclusive<u64>) -> Result<u64, String> {
        let number = self.text()?.replace('_', "").parse().map_err(|_| "must be a whole number".to_owned())?;
        within(number, range, |number| number.to_string())
    }

    pub(super) fn count(&self, range: RangeInclusive<u32>) -> Result<u32, String> {
        let number = self.number(u64::from(*range.start())..=u64::from(*range.end()))?;
        u32::try_from(number).map_err(|error| error.to_string())
    }

    pub(super) fn path(&self) -> Result<PathBuf, String> {
        match self.text()? {
            "" => Err("must be a path".to_owned()),
            text => Ok(PathBuf::from(text)),
        }
    }

    /// A file that is there and can be read: better found out before the start than after.
    pub(super) fn readable_file(&self) -> Result<PathBuf, String> {
        let path = self.path()?;
        match std::fs::read(&path) {
            Ok(content) if content.is_empty() => Err("the file is empty".to_owned()),
            Ok(_) => Ok(path),
            Err(error) => Err(format!("the file cannot be read: {error}")),
        }
    }

    /// A file of PEM in which `look` finds what it looks for.
    pub(super) fn pem_file<T>(&self, look: fn(&[u8]) -> Result<T, Unfit>) -> Result<PathBuf, String> {
        pem::holding(self.path()?, look)
    }

    pub(super) fn socket(&self) -> Result<SocketAddr, String> {
        let text = self.text()?;
        let local =
            text.strip_prefix("localhost:").and_then(|port| port.parse().ok()).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        local.or_else(|| text.parse().ok()).ok_or_else(|| "must be an IP address and a port, like 127.0.0.1:6878 or [::]:6878".to_owned())
    }

    /// `host:port` under which others reach us.
    pub(super) fn host_and_port(&self) -> Result<String, String> {
        match self.text()? {
            text if is_host_and_port(text) => Ok(text.to_owned()),
            _ => Err("must be a host name or an IP address, and a port, like node-1.example:6878".to_owned()),
        }
    }

    /// A URL to ask something of: `http://` or `https://`, a host, perhaps more.
    pub(super) fn http_url(&self) -> Result<String, String> {
        let text = self.text()?;
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let is_url =
            rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', ':']) && rest.bytes().all(|byte| byte.is_ascii_graphic()));
        if is_url { Ok(text.to_owned()) } else { Err("must be a URL like http://10.0.0.1/healthz".to_owned()) }
    }

    /// NATS servers: `nats://` or `tls://` or nothing, perhaps `user:password@`, a host, perhaps a port.
    pub(super) fn nats_servers(&self) -> Result<Vec<String>, String> {
        let wrong = |number: usize| format!("server {number} of the list must be like nats://127.0.0.1:4222 or tls://nats.example:4222");
        let servers = self.items().into_iter().enumerate();
        servers.map(|(at, server)| if is_nats_server(&server) { Ok(server) } else { Err(wrong(at + 1)) }).collect()
    }

    /// Ranges of IP addresses.
    pub(super) fn ranges(&self) -> Result<Vec<Cidr>, String> {
        self.items().into_iter().map(|item| item.parse::<Cidr>().map_err(|rule| format!("`{item}` {rule}"))).collect()
    }

    /// Origins of browsers: scheme, host, perhaps a port; nothing after.
    pub(super) fn origins(&self) -> Result<Vec<String>, String> {
        let is_origin = |text: &str| {
            let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
            rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '?', '#', '@', '*', ' ']))
        };
        let wrong = |item: &str| format!("`{item}` is not an origin: must be like https://console.example or http://localhost:3000");
        self.items().into_iter().map(|item| if is_origin(&item) { Ok(item) } else { Err(wrong(&item)) }).collect()
    }

    /// Directives for the log, checked by the parser that will use them.
    pub(super) fn log_filter(&self) -> Result<String, String> {
        let text = self.text()?;
        match tracing_subscriber::EnvFilter::try_new(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(format!("must be like \"info\" or \"warn,muster=debug\": {error}")),
        }
    }

    /// One of two words, as a flag that says whether it is the second.
    pub(super) fn either(&self, first: &str, second: &str) -> Result<bool, String> {
        match self.text()? {
            text if text == first => Ok(false),
            text if text == second => Ok(true),
            _ => Err(format!("must be \"{first}\" or \"{second}\"")),
        }
    }
}

fn is_host(text: &str) -> bool {
    Address::parse_recorded(text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text)).is_ok()
}

fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_nats_server(text: &str) -> bool {
    let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = host.strip_suffix('/').unwrap_or(host);
    matches!(scheme, "nats" | "tls") && (is_host(host) || is_host_and_port(host))
}

fn within(number: u64, range: RangeInclusive<u64>, show: fn(u64) -> String) -> Result<u64, String> {
    if range.contains(&number) {
        return Ok(number);
    }
    Err(format!("must be {} to {}", show(*range.start()), show(*range.end())))
}

/// A URL with what stands before its `@` made unreadable.
#[must_use]
pub fn masked(url: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    let Some(at) = url[start..].rfind('@') else { return url.to_owned() };
    let (secret, host) = url[start..].split_at(at);
    let user = secret.split_once(':').map_or("", |(user, _)| user);
    let shown = if user.is_empty() { "***".to_owned() } else { format!("{user}:***") };
    format!("{}{shown}{host}", &url[..start])
}

/// The host name's first label as a node's name; `None` where it cannot be one.
pub(super) fn host_name() -> Option<NodeName> {
    let host = gethostname::gethostname().to_string_lossy().to_ascii_lowercase();
    NodeName::parse(host.split('.').next().unwrap_or_default()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Given {
        Given::Text(text.to_owned())
    }

    #[test]
    fn what_stands_before_the_at_sign_is_never_shown() {
        assert_eq!(masked("nats://user:pa@ss@host:4222"), "nats://user:***@host:4222");
        assert_eq!(masked("nats://token@host"), "nats://***@host");
        assert_eq!(masked("user:secret@host:4222"), "user:***@host:4222");
        assert_eq!(masked("nats://u:pa/ss@host"), "nats://u:***@host");
        assert_eq!(masked("nats://host:4222"), "nats://host:4222");
    }

    #[test]
    fn addresses_are_read() {
        assert!(text("localhost:0").socket().is_ok());
        assert!(text("[::1]:80").socket().is_ok());
        assert!(text("example:80").socket().is_err());
        assert!(text("node-1.example:6878").host_and_port().is_ok());
        assert!(text("[::1]:6878").host_and_port().is_ok());
        for bad in ["node-1", "node-1:0", ":80", "a b:80", "node:99999"] {
            assert!(text(bad).host_and_port().is_err(), "{bad}");
        }
    }

    #[test]
    fn nats_servers_are_a_list() {
        assert_eq!(text("nats://a:4222, b:4223,tls://u:p@[::1]:4222/").nats_servers().unwrap().len(), 3);
        for bad in ["http://a", "nats://", "nats://a,ws://b", "nats://a:port", "a/b", "nats://u:p@"] {
            assert!(text(bad).nats_servers().is_err(), "{bad}");
        }
    }
}
