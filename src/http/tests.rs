//! The door from outside, over a real node: what each call answers, and that nothing hurts it.

mod attach;
mod consume;
mod delivery;
mod events;
mod http1;
mod operate;
mod overrides;
mod preserved;
mod provide;
mod tls;
mod watch;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;

use super::{App, Edge};
use crate::clock::Clock;
use crate::config::{BusConfig, ClusterConfig, Config, HttpConfig, LeasesConfig, LogConfig, NodeConfig, ProbesConfig, WatchConfig};
use crate::model::{Epoch, NodeName};
use crate::node::{self, BusPort};
use crate::registry::{Limits, Settings};
use crate::shutdown::Shutdown;

/// A node without a bus, and its door.
struct Door {
    app: App,
    edge: Edge,
}

/// What was answered, read whole.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    bytes: Vec<u8>,
}

impl Door {
    fn open(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    fn with(name: &str, change: impl FnOnce(&mut Config)) -> Self {
        Self::of(name, false, change).0
    }

    /// A node with a bus, which whoever holds the other end plays.
    fn on_a_bus(name: &str) -> (Self, BusPort) {
        Self::of(name, true, |_| {})
    }

    fn of(name: &str, has_bus: bool, change: impl FnOnce(&mut Config)) -> (Self, BusPort) {
        let name = NodeName::parse(name).unwrap();
        let mut config = Config {
            node: NodeConfig { name: name.clone(), leave_timeout_ms: 1000, ..NodeConfig::default() },
            cluster: ClusterConfig::default(),
            bus: BusConfig::default(),
            http: HttpConfig { listen: ([127, 0, 0, 1], 0).into(), ..HttpConfig::default() },
            leases: LeasesConfig::default(),
            probes: ProbesConfig::default(),
            watch: WatchConfig::default(),
            limits: Limits::default(),
            log: LogConfig::default(),
        };
        change(&mut config);
        let shutdown = Shutdown::new();
        let expect_empty = config.cluster.settle_ms.is_none();
        let settle_ms = config.settle_ms();
        let limits = config.limits;
        let settings = Settings { has_bus, bootstrap_wait_ms: 0, settle_ms, expect_empty, limits, ..Settings::new(name, Epoch(7)) };
        let (handle, port) = node::spawn(settings, Clock::start(), &shutdown);
        let app = App::new(handle, Arc::new(config), shutdown);
        (Self { edge: Edge::new(app.clone()), app }, port)
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let (head, body) = self.edge.answer(request).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: head.status, headers: head.headers, bytes }
    }

    async fn ask(&self, method: Method, path: &str, body: &str) -> Answer {
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, "").await
    }

    async fn put(&self, path: &str, body: &str) -> Answer {
        self.ask(Method::PUT, path, body).await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask(Method::POST, path, body).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path, "").await
    }
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Holds the answer against what every refusal must be, and gives its body.
    #[track_caller]
    fn problem(&self, status: u16, code: &str) -> Value {
        let problem = self.json();
        assert_eq!((self.status.as_u16(), problem["code"].as_str().unwrap()), (status, code), "{problem}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:muster:problem:{code}"));
        assert_eq!(problem["instance"].as_str().unwrap(), self.header("x-request-id"));
        assert!(!problem["title"].as_str().unwrap().is_empty() && !problem["detail"].as_str().unwrap().is_empty());
        problem
    }

    /// The places and codes of a refusal's faults.
    #[track_caller]
    fn faults(&self) -> Vec<(String, String)> {
        let problem = self.problem(400, "invalid_request");
        let place = |fault: &Value| fault["pointer"].as_str().or(fault["parameter"].as_str()).unwrap().to_owned();
        problem["errors"].as_array().unwrap().iter().map(|fault| (place(fault), fault["code"].as_str().unwrap().to_owned())).collect()
    }
}
