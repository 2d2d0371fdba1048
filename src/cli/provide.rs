//! `deregister`, and the registration that `register` is told: on the command line, in a file, or both.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::failure::{Code, Failure};
use super::options::{Reach, Within};
use super::output;
use super::selection::pair;
use crate::api::provide::{Check, Registration, Span};
use crate::client::Error;
use crate::model::{InstanceId, InstanceKey, Namespace, ServiceKey, ServiceName};
use crate::units::{DURATION_RULE, parse_ms};

/// What `deregister` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 0 also where no such instance is registered; that is said on stderr.

Examples:
  muster deregister user user-1
  muster deregister user user-1 --incarnation 1763600000000   # only if no newer life of it is registered")]
pub(super) struct Deregister {
    /// The service it is a copy of
    service: ServiceName,
    /// Which copy
    id: InstanceId,
    /// The life that is meant: a newer one stays, and the one that is named may not register again
    #[arg(long, value_name = "NUMBER")]
    incarnation: Option<u64>,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    reach: Reach,
}

pub(super) async fn deregister(arguments: Deregister) -> Result<Code, Failure> {
    let Deregister { service, id, incarnation, within, reach } = arguments;
    let key = InstanceKey { service: ServiceKey { namespace: within.namespace, service }, id };
    let client = reach.client()?;
    // A node answers a deregistration of the unknown as any other: it is asked first, and only for the words.
    let was_listed = client.detail(&key).await;
    client.deregister(&key, incarnation).await?;
    if let Err(Error::Refused { problem, .. }) = was_listed
        && problem.status == 404
    {
        let ServiceKey { namespace, service } = &key.service;
        output::remark(&format!("{service} {} is not registered in namespace {namespace}: there was nothing to deregister", key.id));
        return Ok(Code::Ok);
    }
    output::line(&format!("deregistered {} {}", key.service.service, key.id))?;
    Ok(Code::Ok)
}

/// What an instance is told to be. Options hold over what the file says.
#[derive(Debug, Args)]
pub(super) struct Told {
    /// The service it is a copy of
    #[arg(long, value_name = "NAME", required_unless_present = "file")]
    service: Option<ServiceName>,
    /// The port it listens on; NAME=PORT for a further, named one
    #[arg(long, value_name = "[NAME=]PORT", value_parser = port)]
    port: Vec<(Option<String>, u16)>,
    /// Which copy; default: SERVICE-HOST-PORT
    #[arg(long)]
    id: Option<InstanceId>,
    /// Where it listens; default: the address from which the registry is reached
    #[arg(long, value_name = "IP or HOST")]
    address: Option<String>,
    /// How long it may be silent before it is suspect; default: the registry's, 15s. none: a fixed address, listed until it is deregistered
    #[arg(long, value_parser = ttl)]
    ttl: Option<Span>,
    /// Its share of traffic; default: 100
    #[arg(long, value_name = "NUMBER")]
    weight: Option<u16>,
    /// Its place
    #[arg(long)]
    region: Option<String>,
    /// Its place within the region
    #[arg(long)]
    zone: Option<String>,
    /// A free word; again for more
    #[arg(long)]
    tag: Vec<String>,
    /// A free key and value; again for more
    #[arg(long = "meta", value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// How the registry may look for itself: http:/healthz, http:8081/healthz, tcp, grpc:9090, none
    #[arg(long, value_name = "KIND[:PORT][/PATH]", value_parser = check)]
    check: Option<Check>,
    /// A registration as JSON, with `service` and `id` beside the API's fields; - reads stdin
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Told {
    /// The instance and what is said of it.
    pub(super) fn to_registration(&self, namespace: &Namespace, reach: &Reach) -> Result<(InstanceKey, Registration), Failure> {
        let mut file = self.file.as_ref().map(read_file).transpose()?.unwrap_or_default();
        let named = |file: &mut serde_json::Map<String, Value>, key: &str| match file.remove(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Failure::usage(format!("`{key}` of the file must be text"))),
        };
        let (service, id) = (named(&mut file, "service")?, named(&mut file, "id")?);
        let namespace = named(&mut file, "namespace")?.map_or(Ok(namespace.clone()), |text| text.parse().map_err(usage))?;
        let registration = self.overlay(file, reach)?;

        let service = match (&self.service, service) {
            (Some(service), _) => service.clone(),
            (None, Some(text)) => text.parse().map_err(usage)?,
            (None, None) => return Err(Failure::usage("which service? neither --service nor the file says")),
        };
        let id = match (&self.id, id) {
            (Some(id), _) => id.clone(),
            (None, Some(text)) => text.parse().map_err(usage)?,
            (None, None) => default_id(&service, registration.port)?,
        };
        Ok((InstanceKey { service: ServiceKey { namespace, service }, id }, registration))
    }

    /// The file's registration with the options over it.
    fn overlay(&self, mut file: serde_json::Map<String, Value>, reach: &Reach) -> Result<Registration, Failure> {
        let main_port = self.port.iter().find_map(|(name, port)| name.is_none().then_some(*port));
        if let Some(port) = main_port {
            file.insert("port".to_owned(), port.into());
        } else if !file.contains_key("port") {
            return Err(Failure::usage("which port? neither --port nor the file says"));
        }
        if let Some(address) = &self.address {
            file.insert("address".to_owned(), address.as_str().into());
        } else if !file.contains_key("address") {
            file.insert("address".to_owned(), local_address(reach)?.into());
        }
        let mut registration: Registration = serde_json::from_value(Value::Object(file))
            .map_err(|error| Failure::usage(format!("the registration cannot be read: {error}")))?;
        let named: BTreeMap<_, _> = self.port.iter().filter_map(|(name, port)| Some((name.clone()?, *port))).collect();
        registration.ports.extend(named);
        registration.tags.extend(self.tag.iter().cloned());
        registration.metadata.extend(self.metadata.iter().cloned());
        overwrite(&mut registration.ttl, self.ttl.as_ref());
        overwrite(&mut registration.weight, self.weight.as_ref());
        overwrite(&mut registration.region, self.region.as_ref());
        overwrite(&mut registration.zone, self.zone.as_ref());
        overwrite(&mut registration.check, self.check.as_ref());
        Ok(registration)
    }
}

fn overwrite<T: Clone>(place: &mut Option<T>, given: Option<&T>) {
    if given.is_some() {
        *place = given.cloned();
    }
}

fn usage(error: impl std::fmt::Display) -> Failure {
    Failure::usage(error.to_string())
}

fn read_file(path: &PathBuf) -> Result<serde_json::Map<String, Value>, Failure> {
    let text = if path.as_os_str() == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    let told = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", path.display()));
    let text = text.map_err(|error| told(&error))?;
    match serde_json::from_str(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text)) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(told(&"must be one JSON object")),
        Err(error) => Err(told(&error)),
    }
}

/// What some editors put in front of UTF-8.
pub(super) const BYTE_ORDER_MARK: &str = "\u{feff}";

fn default_id(service: &ServiceName, port: u16) -> Result<InstanceId, Failure> {
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    let label = host.split('.').next().unwrap_or_default();
    let id = InstanceId::parse(&format!("{service}-{label}-{port}"));
    id.map_err(|_| Failure::usage(format!("the host name `{host}` gives no instance id: say one with --id")))
}

/// The address of this machine that packets to the registry leave from: what others most likely reach it by. Nothing is sent.
fn local_address(reach: &Reach) -> Result<String, Failure> {
    let unknown = || Failure::usage("which address does it listen on? none could be found out").hint("--address IP");
    for server in &reach.servers {
        let host = server.rsplit_once("://").map_or(server.as_str(), |(_, host)| host).trim_end_matches('/');
        let Ok(targets) = std::net::ToSocketAddrs::to_socket_addrs(host) else { continue };
        if let Some(address) = targets.into_iter().find_map(local_towards) {
            return Ok(address.ip().to_string());
        }
    }
    Err(unknown())
}

fn local_towards(target: SocketAddr) -> Option<SocketAddr> {
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(target).ok()?;
    socket.local_addr().ok()
}

/// `8080` or `grpc=9090`.
fn port(text: &str) -> Result<(Option<String>, u16), String> {
    let (name, number) = text.split_once('=').map_or((None, text), |(name, number)| (Some(name.to_owned()), number));
    match number.parse() {
        Ok(port @ 1..) => Ok((name, port)),
        _ => Err("must be 1 to 65535, or NAME=PORT".to_owned()),
    }
}

/// `15s`, or `none`.
fn ttl(text: &str) -> Result<Span, String> {
    let known = text == "none" || parse_ms(text).is_some();
    if known { Ok(Span::Text(text.to_owned())) } else { Err(format!("must be {DURATION_RULE}, or none")) }
}

/// `http:/healthz`, `http:8081/healthz`, `tcp`, `tcp:9000`, `grpc`, `none`.
fn check(text: &str) -> Result<Check, String> {
    let rule = || "must be like http:/healthz, http:8081/healthz, tcp, tcp:9000, grpc, grpc:9090 or none".to_owned();
    let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
    let (port, path) = rest.find('/').map_or((rest, None), |at| (&rest[..at], Some(rest[at..].to_owned())));
    let port = if port.is_empty() { None } else { Some(port.parse().ok().filter(|port| *port > 0).ok_or_else(rule)?) };
    let fits = match kind {
        "http" => true,
        "tcp" | "grpc" => path.is_none(),
        "none" => path.is_none() && port.is_none(),
        _ => false,
    };
    if fits { Ok(Check { kind: kind.to_owned(), path, port, ..Check::default() }) } else { Err(rule()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_read() {
        let read = |text| check(text).map(|check| (check.kind, check.port, check.path)).ok();
        assert_eq!(read("http:/healthz"), Some(("http".to_owned(), None, Some("/healthz".to_owned()))));
        assert_eq!(read("http:8081/a:b"), Some(("http".to_owned(), Some(8081), Some("/a:b".to_owned()))));
        assert_eq!(read("tcp:9000"), Some(("tcp".to_owned(), Some(9000), None)));
        for bad in ["", "ftp", "tcp:/x", "http:0/x", "none:1", "grpc:x"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_may_have_names() {
        assert_eq!(port("8080"), Ok((None, 8080)));
        assert_eq!(port("grpc=9090"), Ok((Some("grpc".to_owned()), 9090)));
        assert!(port("0").is_err() && port("grpc=").is_err() && port("65536").is_err());
    }
}
