//! Inquiries: asking a silent peer directly, past the bus, whether it lives.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::dialer::{Dialer, NotDialled};
use crate::model::NodeName;
use crate::registry::PeerAnswer;
use crate::tls;

/// A peer that takes longer does not live as its peers need it to.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Every answer of a node's HTTP names it.
const NODE_HEADER: &str = "muster-node";

/// Asks peers over HTTP.
#[derive(Clone)]
pub(super) struct Inquiry {
    /// Dials nothing that a probe may not dial: peers name their addresses themselves.
    http: reqwest::Client,
    dialer: Dialer,
    /// Peers speak as this node does.
    scheme: &'static str,
    /// The operator names it.
    witness: Option<(reqwest::Client, String)>,
}

/// Resolves a peer's name, where all that it stands for may be dialled.
struct Permitted(Dialer);

impl Resolve for Permitted {
    fn resolve(&self, name: Name) -> Resolving {
        let dialer = self.0.clone();
        Box::pin(async move {
            let ips = dialer.permitted(name.as_str()).await.map_err(|why| format!("{why:?}"))?;
            Ok(Box::new(ips.into_iter().map(|ip| SocketAddr::new(ip, 0))) as Addrs)
        })
    }
}

impl Inquiry {
    /// `witness`: a URL that a node which is not cut off reaches.
    pub(super) fn new(is_secure: bool, witness: Option<String>, dialer: Dialer) -> Self {
        let built = |builder: reqwest::ClientBuilder| {
            builder.build().expect("unreachable: a client with a TLS configuration of its own needs nothing from the system")
        };
        let http = built(client().dns_resolver(Arc::new(Permitted(dialer.clone()))));
        let witness = witness.map(|witness| (built(client()), witness));
        Self { http, dialer, scheme: if is_secure { "https" } else { "http" }, witness }
    }

    /// Whether the node at this address answers under its own name: with a wrong address, this node might ask itself.
    pub(super) async fn ask(&self, node: &NodeName, address: &str, needs_witness: bool) -> PeerAnswer {
        let url = reqwest::Url::parse(&format!("{}://{address}/livez", self.scheme));
        // No address at all, or more than one: nothing is asked.
        let Some(url) = url.ok().filter(|url| is_plain(url)) else { return PeerAnswer::Unsure };
        match self.permit(&url).await {
            Err(NotDialled::Forbidden(why)) => {
                tracing::warn!(%node, address, why, "a silent peer cannot be asked whether it lives: no probe may go to the address that it named");
                return PeerAnswer::Unsure;
            }
            Err(NotDialled::TooOften) => return PeerAnswer::Unsure,
            Err(NotDialled::Refused | NotDialled::Unreachable(_)) | Ok(()) => {}
        }
        match self.http.get(url).send().await {
            Ok(answer) if answer.headers().get(NODE_HEADER).is_some_and(|name| name.as_bytes() == node.as_str().as_bytes()) => {
                return PeerAnswer::Alive;
            }
            Err(error) if error.is_builder() => return PeerAnswer::Unsure,
            Ok(_) | Err(_) => {}
        }
        match &self.witness {
            Some((http, witness)) if needs_witness && http.get(witness).send().await.is_err() => PeerAnswer::Unsure,
            Some(_) | None => PeerAnswer::Silent,
        }
    }

    /// Holds an address against the rules: the client's resolver sees names alone.
    async fn permit(&self, url: &reqwest::Url) -> Result<(), NotDialled> {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        self.dialer.permitted(host).await.map(|_: Vec<IpAddr>| ())
    }
}

fn client() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls::of_any_certificate())
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(ANSWER_TIMEOUT)
}

/// It has a host and a port, and asks for what this node asks for: an address with a path, a query or a user in it is none.
fn is_plain(url: &reqwest::Url) -> bool {
    url.host_str().is_some() && url.path() == "/livez" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::clock::Clock;
    use crate::node::dialer::{Guard, testing};

    /// A node of this name that answers one question.
    fn answering(name: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\nmuster-node: {name}\r\ncontent-length: 0\r\n\r\n").as_bytes());
        });
        address
    }

    async fn ask(guard: Guard, address: &str) -> PeerAnswer {
        let inquiry = Inquiry::new(false, None, Dialer::new(guard, 100, Clock::start()));
        inquiry.ask(&NodeName::parse("n2").unwrap(), address, false).await
    }

    fn local() -> Guard {
        Guard { loopback: true, ..Guard::default() }
    }

    #[tokio::test]
    async fn a_peer_is_asked_where_a_probe_may_go_and_nowhere_else() {
        assert_eq!(ask(local(), &answering("n2").to_string()).await, PeerAnswer::Alive);
        assert_eq!(ask(local(), &answering("n3").to_string()).await, PeerAnswer::Silent, "another answers there");
        assert_eq!(ask(Guard::default(), &answering("n2").to_string()).await, PeerAnswer::Unsure, "loopback");
        assert_eq!(ask(local(), &format!("localhost:{}", answering("n2").port())).await, PeerAnswer::Alive);
        let denied = Guard { deny: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()], ..local() };
        assert_eq!(ask(denied, &format!("localhost:{}", answering("n2").port())).await, PeerAnswer::Unsure);
        for address in
            ["169.254.169.254:80", "[::ffff:169.254.169.254]:80", "2852039166:80", "0xa9.0xfe.0xa9.0xfe", "[fd00:ec2::254]:80", "", "a/b?c"]
        {
            assert_eq!(ask(local(), address).await, PeerAnswer::Unsure, "{address}");
        }
    }

    #[tokio::test]
    async fn a_name_that_also_stands_for_what_is_forbidden_is_not_asked() {
        let address = answering("n2");
        let turns = || vec!["127.0.0.1".parse().unwrap(), "169.254.169.254".parse().unwrap()];
        let inquiry = Inquiry::new(false, None, testing::dialer(local(), 100, turns));
        let answer = inquiry.ask(&NodeName::parse("n2").unwrap(), &format!("n2.example:{}", address.port()), false).await;
        assert_eq!(answer, PeerAnswer::Unsure);
    }
}
