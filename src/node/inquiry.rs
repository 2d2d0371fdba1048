//! Inquiries: asking a silent peer directly, past the bus, whether it lives.

use std::time::Duration;

use reqwest::header::HeaderValue;

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
    http: reqwest::Client,
    /// Peers speak as this node does.
    scheme: &'static str,
    /// This node's own name: it proves nothing to reach itself at a peer's address.
    own: NodeName,
    witness: Option<String>,
}

impl Inquiry {
    /// `witness`: a URL that a node which is not cut off reaches.
    pub(super) fn new(own: NodeName, is_secure: bool, witness: Option<String>) -> Self {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::of_any_certificate())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(ANSWER_TIMEOUT)
            .build()
            .expect("unreachable: a client with a TLS configuration of its own needs nothing from the system");
        Self { http, scheme: if is_secure { "https" } else { "http" }, own, witness }
    }

    /// Whether the node at this address answers under its own name, and in this life where one is asked for: with a wrong address, this node
    /// might ask itself.
    pub(super) async fn ask(&self, node: &NodeName, epoch: Option<Epoch>, address: &str, needs_witness: bool) -> PeerAnswer {
        if address.is_empty() {
            return PeerAnswer::Unsure;
        }
        let answer = self.http.get(format!("{}://{address}/livez", self.scheme)).send().await;
        let says = |answer: &reqwest::Response, epoch: Epoch| {
            answer.headers().get(EPOCH_HEADER).is_some_and(|said| said.as_bytes() == epoch.to_string().as_bytes())
        };
        let seen = match answer {
            // Another life of that name proves nothing.
            Ok(answer) if epoch.is_some_and(|epoch| !says(&answer, epoch)) => PeerAnswer::Unsure,
            Ok(answer) => self.judge_name(node, answer.headers().get(NODE_HEADER).map(HeaderValue::as_bytes)),
            // No address at all: nothing was asked.
            Err(error) if error.is_builder() => return PeerAnswer::Unsure,
            Err(error) if is_refused(&error) => PeerAnswer::Refused,
            Err(_) => PeerAnswer::Silent,
        };
        if seen == PeerAnswer::Alive {
            return seen;
        }
        match &self.witness {
            Some(witness) if needs_witness && self.http.get(witness).send().await.is_err() => PeerAnswer::Unsure,
            Some(_) | None => seen,
        }
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

    fn name(text: &str) -> NodeName {
        NodeName::parse(text).unwrap()
    }

    /// What `n1` makes of `n2`'s address, where a node of this name answers, or a program that names none.
    async fn seen(answers_as: Option<&str>) -> PeerAnswer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let header = answers_as.map_or(String::new(), |name| format!("muster-node: {name}\r\n"));
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{header}content-length: 0\r\n\r\n").as_bytes()).await.unwrap();
        });
        Inquiry::new(name("n1"), false, None).ask(&name("n2"), None, &address, false).await
    }

    #[tokio::test]
    async fn who_answers_at_a_peers_address_says_whether_it_is_there() {
        assert_eq!(seen(Some("n2")).await, PeerAnswer::Alive);
        assert_eq!(seen(Some("n3")).await, PeerAnswer::Refused, "its address is another node's now");
        assert_eq!(seen(Some("n1")).await, PeerAnswer::Silent, "this node reached itself");
        assert_eq!(seen(None).await, PeerAnswer::Silent, "a proxy that cannot reach it says nothing of it");
        let inquiry = Inquiry::new(name("n1"), false, None);
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        assert_eq!(inquiry.ask(&name("n2"), None, &closed, false).await, PeerAnswer::Refused);
        assert_eq!(inquiry.ask(&name("n2"), None, "", false).await, PeerAnswer::Unsure);
    }
}
