//! A `muster serve` process: started on a port of the system's choice, its log kept and shown when the test fails, killed when dropped.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::ops::Deref;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Api, eventually, netns};

/// For a process to say where it listens.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(15);

/// For a node to become ready: two seconds alone, a copy when joining, and a slow machine.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// Of a node's log, when a test fails.
const LOG_LINES_SHOWN: usize = 30;

/// A running node; its HTTP is reached through it.
pub(crate) struct Node {
    pub(crate) name: String,
    /// The network namespace it runs in, where that is not the tests' own.
    namespace: Option<String>,
    args: Vec<String>,
    child: Child,
    api: Api,
    log: Log,
}

/// What the process has said so far.
type Log = Arc<Mutex<String>>;

impl Deref for Node {
    type Target = Api;
    fn deref(&self) -> &Api {
        &self.api
    }
}

/// `muster` with these arguments, and nothing of the caller's environment that could change what it does.
pub(crate) fn muster(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MUSTER_")) {
        command.env_remove(name);
    }
    // The clusters that tests start are new: nothing was registered before. Who tests that says otherwise.
    command.env("MUSTER_EXPECT_EMPTY", "true");
    command.env("NO_COLOR", "1").args(args).stdin(Stdio::null());
    command
}

impl Node {
    /// Starts a node of the cluster `cluster` and waits until it listens; it need not be ready.
    pub(crate) async fn start(name: &str, cluster: &str, nats: &str, more: &[&str]) -> Self {
        let mut args = vec!["serve", "--name", name, "--cluster", cluster, "--listen", "127.0.0.1:0", "--nats", nats];
        args.extend(more);
        Self::launch(None, name, &args).await
    }

    /// Starts a node in a network namespace: its HTTP is reached from there alone.
    pub(crate) async fn start_at(namespace: &str, name: &str, args: &[&str]) -> Self {
        Self::launch(Some(namespace), name, args).await
    }

    /// Starts nodes `n1`, `n2`, … at the same moment and waits until each is ready.
    pub(crate) async fn start_cluster(count: usize, cluster: &str, nats: &str, more: &[&str]) -> Vec<Self> {
        let names: Vec<String> = (1..=count).map(|number| format!("n{number}")).collect();
        let nodes = futures_util::future::join_all(names.iter().map(|name| Self::start(name, cluster, nats, more))).await;
        for node in &nodes {
            node.ready().await;
        }
        for node in &nodes {
            node.hears_peers(count).await;
        }
        nodes
    }

    /// Starts a node without a bus.
    pub(crate) async fn start_alone(name: &str) -> Self {
        Self::start_alone_as(name, &[]).await
    }

    /// The same, with more arguments.
    pub(crate) async fn start_alone_as(name: &str, more: &[&str]) -> Self {
        let mut args = vec!["serve", "--name", name, "--listen", "127.0.0.1:0"];
        args.extend(more);
        Self::launch(None, name, &args).await
    }

    /// Starts a node without a bus that keeps its files in a folder.
    pub(crate) async fn start_alone_in(name: &str, folder: &std::path::Path) -> Self {
        Self::start_alone_with(name, folder, &[]).await
    }

    /// The same, with more arguments.
    pub(crate) async fn start_alone_with(name: &str, folder: &std::path::Path, more: &[&str]) -> Self {
        let folder = folder.to_str().expect("a path");
        Self::start_alone_as(name, &[&["--data-dir", folder], more].concat()).await
    }

    async fn launch(namespace: Option<&str>, name: &str, args: &[&str]) -> Self {
        let log = Log::default();
        let unbound = SocketAddr::from(([127, 0, 0, 1], 0));
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let child = spawn(namespace, &args, &log);
        let mut node = Self { name: name.into(), namespace: namespace.map(str::to_owned), child, args, api: Api { host: unbound }, log };
        let host = eventually("the node says where it listens", LISTEN_TIMEOUT, async || node.listening_on()).await;
        node.api = Api { host };
        node
    }

    /// Starts it again, as it was and where it was; what still runs of it is killed.
    pub(crate) async fn start_again(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let at = self.args.iter().position(|arg| arg == "--listen").expect("it was told where to listen");
        self.args[at + 1] = self.host.to_string();
        self.log = Log::default();
        self.child = spawn(self.namespace.as_deref(), &self.args, &self.log);
        eventually("the node listens again", LISTEN_TIMEOUT, async || self.listening_on().map(|_| ())).await;
    }

    fn listening_on(&self) -> Result<SocketAddr, String> {
        let log = self.log();
        let (_, after) = log.split_once("listening on http://").ok_or("it did not")?;
        let (host, _) = after.split_once(|char: char| char.is_whitespace() || char == '/').ok_or("only half a line")?;
        host.parse().map_err(|error| format!("{host}: {error}"))
    }

    /// Everything the process has said so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("a log").clone()
    }

    /// Its address as the command line takes it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.host)
    }

    /// Waits until it calls itself ready.
    pub(crate) async fn ready(&self) {
        eventually(&format!("{} is ready", self.name), READY_TIMEOUT, async || {
            match self.try_send(&super::Request::new("GET", "/readyz")).await {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(answer.text()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
    }

    /// Waits until it hears a cluster of `count` ready (perhaps preserving) nodes, itself among them, and all agree.
    pub(crate) async fn hears_peers(&self, count: usize) {
        eventually(&format!("{} agrees with its peers", self.name), READY_TIMEOUT, async || {
            let cluster = self.cluster().await;
            let ready = cluster["nodes"].as_array().into_iter().flatten().filter(|node| is_ready(node)).count();
            // What is on its way is no divergence, but whoever asks here wants to see it arrive.
            let digest = |node: &serde_json::Value| node["digest"].clone();
            let nodes = cluster["nodes"].as_array().cloned().unwrap_or_default();
            let is_same = nodes.iter().all(|node| digest(node) == digest(&nodes[0]) || !is_ready(node));
            if ready == count && cluster["converged"] == true && is_same { Ok(()) } else { Err(cluster.to_string()) }
        })
        .await;
    }

    /// Sends it a signal, by name: `TERM`, `KILL`, `CONT`.
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status();
        assert!(status.expect("kill(1)").success(), "kill -{signal} {}", self.name);
    }

    /// Stops it in the middle of what it does, as `CONT` undoes; returns when every thread of it stands still, which on a busy machine
    /// is a while after the signal was sent.
    pub(crate) async fn pause(&self) {
        self.signal("STOP");
        eventually(&format!("{} stands still", self.name), Duration::from_secs(10), async || {
            let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).map_err(|error| error.to_string())?;
            let states = threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("status")).ok());
            let still = |status: &String| status.lines().any(|line| line.starts_with("State:\tT"));
            if states.collect::<Vec<_>>().iter().all(still) { Ok(()) } else { Err("a thread runs".into()) }
        })
        .await;
    }

    /// Waits until the process has ended.
    pub(crate) async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let child = &mut self.child;
        eventually("the node ends", limit, async || child.try_wait().map_err(|error| error.to_string())?.ok_or_else(|| "it runs".into()))
            .await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log.lock().map_or_else(|_| String::new(), |log| log.clone());
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
            eprintln!("--- the last of what {} said ---\n{last}\n---", self.name);
        }
    }
}

fn spawn(namespace: Option<&str>, args: &[String], log: &Log) -> Child {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let plain = muster(&args);
    let mut command = if let Some(namespace) = namespace { netns::at(namespace, &plain) } else { plain };
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a muster that starts");
    keep(child.stdout.take(), log);
    keep(child.stderr.take(), log);
    child
}

/// Keeps what a process writes, until it ends.
fn keep(pipe: Option<impl Read + Send + 'static>, log: &Log) {
    let (pipe, log) = (pipe.expect("it was piped"), Arc::clone(log));
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut log = log.lock().expect("a log");
            log.push_str(&line);
            log.push('\n');
        }
    });
}

/// A node that keeps who fell silent with many others is ready all the same.
fn is_ready(node: &serde_json::Value) -> bool {
    node["state"] == "ready" || node["state"] == "preserving"
}
