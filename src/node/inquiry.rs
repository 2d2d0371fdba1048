//! Inquiries: asking a silent peer directly, past the bus, whether it lives.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::HeaderValue;

use super::dialer::{Dialer, NotDialled};
use crate::model::{Epoch, NodeName};
use crate::registry::PeerAnswer;
use crate::tls;

/// A peer that takes longer does not live as its peers need it to.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Every answer of a node's HTTP names it.
const NODE_HEADER: &str = "muster-node";
/// `/livez` says which life of the node answers: 16 hex digits.
const EPOCH_HEADER: &str = "muster-epoch";

/// Asks peers over HTTP.
#[derive(Clone)]
pub(super) struct Inquiry {
    /// Dials nothing that a probe may not dial: peers name their addresses themselves.
    http: reqwest::Client,
    dialer: Dialer,
    /// Peers speak as this node does.
    scheme: &'static str,
    /// This node's own name: it proves nothing to reach itself at a peer's address.
    own: NodeName,
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
    pub(super) fn new(own: NodeName, is_secure: bool, witness: Option<String>, dialer: Dialer) -> Self {
        let built = |builder: reqwest::ClientBuilder| {
            builder.build().expect("unreachable: a client with a TLS configuration of its own needs nothing from the system")
        };
        let http = built(client().dns_resolver(Arc::new(Permitted(dialer.clone()))));
        let witness = witness.map(|witness| (built(client()), witness));
        Self { http, dialer, scheme: if is_secure { "https" } else { "http" }, own, witness }
    }

    /// Whether the node at this address answers under its own name, and in this life where one is asked for: with a wrong address, this node
    /// might ask itself.
    pub(super) async fn ask(&self, node: &NodeName, epoch: Option<Epoch>, address: &str, needs_witness: bool) -> PeerAnswer {
        let url = reqwest::Url::parse(&format!("{}://{address}/livez", self.scheme));
        // No address at all, or more than one: nothing is asked.
        let Some(url) = url.ok().filter(is_plain) else { return PeerAnswer::Unsure };
        match self.permit(&url).await {
            Err(NotDialled::Forbidden(why)) => {
                tracing::warn!(%node, address, why, "a node cannot be asked whether it lives: no probe may go to the address that it named");
                return PeerAnswer::Unsure;
            }
            Err(NotDialled::TooOften) => return PeerAnswer::Unsure,
            Err(NotDialled::Refused | NotDialled::Unreachable(_)) | Ok(()) => {}
        }
        let seen = match self.http.get(url).send().await {
            // Another life of that name proves nothing.
            Ok(answer) if epoch.is_some_and(|epoch| !is_of(&answer, epoch)) => PeerAnswer::Unsure,
            Ok(answer) => match self.judge_name(node, answer.headers().get(NODE_HEADER).map(HeaderValue::as_bytes)) {
                // One that says itself that its task does not turn (503) answers as a process, and does not live as a node.
                PeerAnswer::Alive if !answer.status().is_success() => PeerAnswer::Silent,
                seen => seen,
            },
            Err(error) if error.is_builder() => return PeerAnswer::Unsure,
            Err(error) if is_refused(&error) => PeerAnswer::Refused,
            Err(_) => PeerAnswer::Silent,
        };
        if seen == PeerAnswer::Alive {
            return seen;
        }
        match &self.witness {
            Some((http, witness)) if needs_witness && http.get(witness).send().await.is_err() => PeerAnswer::Unsure,
            Some(_) | None => seen,
        }
    }

    /// Holds an address against the rules: the client's resolver sees names alone.
    async fn permit(&self, url: &reqwest::Url) -> Result<(), NotDialled> {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        self.dialer.permitted(host).await.map(|_: Vec<IpAddr>| ())
    }

    /// What it says of a node that one of this name answers at its address: none is a proxy's answer, or another program's.
    fn judge_name(&self, node: &NodeName, name: Option<&[u8]>) -> PeerAnswer {
        match name {
            Some(name) if name == node.as_str().as_bytes() => PeerAnswer::Alive,
            Some(name) if name != self.own.as_str().as_bytes() => PeerAnswer::Refused,
            Some(_) | None => PeerAnswer::Silent,
        }
    }
}

/// Whether the answer is of this life of the node.
fn is_of(answer: &reqwest::Response, epoch: Epoch) -> bool {
    answer.headers().get(EPOCH_HEADER).is_some_and(|named| named.as_bytes() == epoch.to_string().as_bytes())
}

fn client() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls::of_any_certificate())
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(ANSWER_TIMEOUT)
        // A question is seldom: no connection is kept for the next.
        .pool_max_idle_per_host(0)
}

/// It has a host and a port, and asks for what this node asks for: an address with a path, a query or a user in it is none.
fn is_plain(url: &reqwest::Url) -> bool {
    url.host_str().is_some() && url.path() == "/livez" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty()
}

/// Somebody is there and says that nobody listens: what no partition does that only loses what is sent.
fn is_refused(error: &reqwest::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused) {
            return true;
        }
        source = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::clock::Clock;
    use crate::node::dialer::{Guard, testing};

    fn inquiry(guard: Guard) -> Inquiry {
        Inquiry::new(name("n1"), false, None, Dialer::new(guard, 100, Clock::start()))
    }

    fn local() -> Guard {
        Guard { loopback: true, ..Guard::default() }
    }

    fn name(text: &str) -> NodeName {
        NodeName::parse(text).unwrap()
    }

    /// The address of a node of this name, which answers one question, or of a program that names none.
    async fn answering(answers_as: Option<&str>) -> std::net::SocketAddr {
        answering_with("200 OK", answers_as).await
    }

    async fn answering_with(status: &'static str, answers_as: Option<&str>) -> std::net::SocketAddr {
        answering_in(status, answers_as, None).await
    }

    async fn answering_in(status: &'static str, answers_as: Option<&str>, epoch: Option<&str>) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let name = answers_as.map_or(String::new(), |name| format!("muster-node: {name}\r\n"));
        let epoch = epoch.map_or(String::new(), |epoch| format!("muster-epoch: {epoch}\r\n"));
        let header = name + &epoch;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            stream.write_all(format!("HTTP/1.1 {status}\r\n{header}content-length: 0\r\n\r\n").as_bytes()).await.unwrap();
        });
        address
    }

    /// What `n1` makes of `n2`'s address, where that one answers.
    async fn seen(answers_as: Option<&str>) -> PeerAnswer {
        inquiry(local()).ask(&name("n2"), None, &answering(answers_as).await.to_string(), false).await
    }

    #[tokio::test]
    async fn who_answers_at_a_peers_address_says_whether_it_is_there() {
        assert_eq!(seen(Some("n2")).await, PeerAnswer::Alive);
        let stalled = answering_with("503 Service Unavailable", Some("n2")).await.to_string();
        assert_eq!(
            inquiry(local()).ask(&name("n2"), None, &stalled, false).await,
            PeerAnswer::Silent,
            "it says that its task does not turn"
        );
        assert_eq!(seen(Some("n3")).await, PeerAnswer::Refused, "its address is another node's now");
        assert_eq!(seen(Some("n1")).await, PeerAnswer::Silent, "this node reached itself");
        assert_eq!(seen(None).await, PeerAnswer::Silent, "a proxy that cannot reach it says nothing of it");
        let inquiry = inquiry(local());
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        assert_eq!(inquiry.ask(&name("n2"), None, &closed, false).await, PeerAnswer::Refused);
        assert_eq!(inquiry.ask(&name("n2"), None, "", false).await, PeerAnswer::Unsure);
    }

    #[tokio::test]
    async fn one_life_of_a_node_is_proven_by_that_life_alone() {
        let asked = async |answers_as: &str, epoch: Option<&str>| {
            let address = answering_in("200 OK", Some(answers_as), epoch).await.to_string();
            inquiry(local()).ask(&name("n1"), Some(Epoch(0x2a)), &address, false).await
        };
        assert_eq!(asked("n1", Some("000000000000002a")).await, PeerAnswer::Alive, "a namesake");
        assert_eq!(asked("n1", Some("000000000000002b")).await, PeerAnswer::Unsure, "another life");
        assert_eq!(asked("n1", None).await, PeerAnswer::Unsure, "a version that does not say");
        assert_eq!(asked("n3", Some("000000000000002a")).await, PeerAnswer::Refused, "another node");
        let stalled = answering_in("503 Service Unavailable", Some("n1"), Some("000000000000002a")).await.to_string();
        assert_eq!(inquiry(local()).ask(&name("n1"), Some(Epoch(0x2a)), &stalled, false).await, PeerAnswer::Silent);
        let metadata = inquiry(local()).ask(&name("n1"), Some(Epoch(0x2a)), "169.254.169.254:80", false).await;
        assert_eq!(metadata, PeerAnswer::Unsure, "no probe may go there");
    }

    #[tokio::test]
    async fn a_peer_is_asked_where_a_probe_may_go_and_nowhere_else() {
        let of_name = async |guard: Guard| {
            let address = format!("localhost:{}", answering(Some("n2")).await.port());
            inquiry(guard).ask(&name("n2"), None, &address, false).await
        };
        assert_eq!(of_name(local()).await, PeerAnswer::Alive);
        assert_eq!(of_name(Guard::default()).await, PeerAnswer::Unsure, "loopback");
        let denied = Guard { deny: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()], ..local() };
        assert_eq!(of_name(denied).await, PeerAnswer::Unsure);
        let forbidden =
            ["169.254.169.254:80", "[::ffff:169.254.169.254]:80", "2852039166:80", "0xa9.0xfe.0xa9.0xfe", "[fd00:ec2::254]:80", "a/b?c"];
        for address in forbidden {
            assert_eq!(inquiry(local()).ask(&name("n2"), None, address, false).await, PeerAnswer::Unsure, "{address}");
        }
    }

    #[tokio::test]
    async fn a_name_that_also_stands_for_what_is_forbidden_is_not_asked() {
        let address = answering(Some("n2")).await;
        let turns = || vec!["127.0.0.1".parse().unwrap(), "169.254.169.254".parse().unwrap()];
        let inquiry = Inquiry::new(name("n1"), false, None, testing::dialer(local(), 100, turns));
        let answer = inquiry.ask(&name("n2"), None, &format!("n2.example:{}", address.port()), false).await;
        assert_eq!(answer, PeerAnswer::Unsure);
    }
}
