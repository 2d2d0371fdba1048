//! Inquiries: asking a silent peer directly, past the bus, whether it lives.

use std::time::Duration;

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
    http: reqwest::Client,
    /// Peers speak as this node does.
    scheme: &'static str,
    witness: Option<String>,
}

impl Inquiry {
    /// `witness`: a URL that a node which is not cut off reaches.
    pub(super) fn new(is_secure: bool, witness: Option<String>) -> Self {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::of_any_certificate())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(ANSWER_TIMEOUT)
            .build()
            .expect("unreachable: a client with a TLS configuration of its own needs nothing from the system");
        Self { http, scheme: if is_secure { "https" } else { "http" }, witness }
    }

    /// Whether the node at this address answers under its own name: with a wrong address, this node might ask itself.
    pub(super) async fn ask(&self, node: &NodeName, address: &str, needs_witness: bool) -> PeerAnswer {
        if address.is_empty() {
            return PeerAnswer::Unsure;
        }
        let answer = self.http.get(format!("{}://{address}/livez", self.scheme)).send().await;
        match answer {
            // One that says itself that its task does not turn (503) answers as a process, and does not live as a node.
            Ok(answer) if answer.status().is_success() && is_of(&answer, node) => return PeerAnswer::Alive,
            // No address at all: nothing was asked.
            Err(error) if error.is_builder() => return PeerAnswer::Unsure,
            Ok(_) | Err(_) => {}
        }
        match &self.witness {
            Some(witness) if needs_witness && self.http.get(witness).send().await.is_err() => PeerAnswer::Unsure,
            Some(_) | None => PeerAnswer::Silent,
        }
    }
}

fn is_of(answer: &reqwest::Response, node: &NodeName) -> bool {
    answer.headers().get(NODE_HEADER).is_some_and(|name| name.as_bytes() == node.as_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn only_a_node_that_says_under_its_own_name_that_it_lives_does() {
        let node = NodeName::parse("n2").unwrap();
        let answers = [
            ("200 OK\r\nmuster-node: n2", PeerAnswer::Alive),
            ("503 Service Unavailable\r\nmuster-node: n2", PeerAnswer::Silent),
            ("200 OK\r\nmuster-node: n3", PeerAnswer::Silent),
            ("200 OK\r\nserver: nginx", PeerAnswer::Silent),
        ];
        for (head, expected) in answers {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let peer = tokio::spawn(async move {
                let mut stream = listener.accept().await.unwrap().0;
                let _ = stream.read(&mut [0; 1024]).await.unwrap();
                let answer = format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
            assert_eq!(Inquiry::new(false, None).ask(&node, &address, false).await, expected, "{head}");
            peer.await.unwrap();
        }
    }
}
