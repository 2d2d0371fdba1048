//! Real nats-servers: one, or several routed to each other; stopped and started again on the same ports, killed when dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::{eventually, netns};

/// For a server to start, and for its routes.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// One cluster of nats-servers.
pub(crate) struct Nats {
    dir: TempDir,
    servers: Vec<Server>,
}

struct Server {
    child: Option<Child>,
    client_port: u16,
    route_port: u16,
}

impl Nats {
    /// Starts `count` servers, each on ports of the system's choice.
    pub(crate) async fn start(count: usize) -> Self {
        let mut nats = Self { dir: TempDir::new().expect("a temporary folder"), servers: Vec::new() };
        for _ in 0..count {
            let server = nats.join(-1, -1).await;
            nats.servers.push(server);
        }
        nats
    }

    /// Starts one server with this configuration, which must leave the ports to the system.
    pub(crate) async fn start_configured(text: &str, env: &[(String, String)]) -> Self {
        Self::start_as(text, |mut command| {
            command.envs(env.iter().cloned());
            command
        })
        .await
    }

    /// Starts one server with this configuration in a network namespace, where every port is free.
    pub(crate) async fn start_at(namespace: &str, text: &str) -> Self {
        Self::start_as(text, |command| netns::at(namespace, &command)).await
    }

    async fn start_as(text: &str, run_as: impl FnOnce(Command) -> Command) -> Self {
        let mut nats = Self { dir: TempDir::new().expect("a temporary folder"), servers: Vec::new() };
        let file = nats.dir.path().join("nats.conf");
        std::fs::write(&file, text).expect("a file");
        let mut command = Command::new(binary());
        command.arg("-c").arg(file);
        let server = nats.launch(run_as(command)).await;
        nats.servers.push(server);
        nats
    }

    /// As `MUSTER_NATS` takes it.
    pub(crate) fn urls(&self) -> String {
        self.servers.iter().map(Server::url).collect::<Vec<_>>().join(",")
    }

    /// A plain client of this cluster, that knows nothing of muster.
    pub(crate) async fn client(&self) -> async_nats::Client {
        async_nats::connect(self.servers[0].url()).await.expect("a nats-server that runs")
    }

    /// As `MUSTER_NATS` takes it, beginning with this server.
    pub(crate) fn urls_from(&self, first: usize) -> String {
        let mut urls: Vec<String> = self.servers.iter().map(Server::url).collect();
        urls.rotate_left(first);
        urls.join(",")
    }

    /// Sends one server a signal, by name: `STOP`, `CONT`.
    pub(crate) fn signal(&self, index: usize, signal: &str) {
        let child = self.servers[index].child.as_ref().expect("a server that runs");
        let status = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
        assert!(status.expect("kill(1)").success(), "kill -{signal} nats-server {index}");
    }

    /// Kills one server.
    pub(crate) fn kill(&mut self, index: usize) {
        self.servers[index].kill();
    }

    /// Starts one server again where it was.
    pub(crate) async fn restart(&mut self, index: usize) {
        let Server { client_port, route_port, .. } = self.servers[index];
        self.servers[index].kill();
        self.servers[index] = self.join(client_port.into(), route_port.into()).await;
    }

    /// Kills every server.
    pub(crate) fn stop(&mut self) {
        for server in &mut self.servers {
            server.kill();
        }
    }

    /// Starts every server again where it was.
    pub(crate) async fn start_again(&mut self) {
        for index in 0..self.servers.len() {
            self.restart(index).await;
        }
    }

    /// One more server of the cluster, on these ports or, where they are -1, on ones of the system's choice.
    async fn join(&self, client_port: i32, route_port: i32) -> Server {
        let mut command = Command::new(binary());
        command.args(["--addr", "127.0.0.1", "--port", &client_port.to_string()]);
        command.args(["--cluster_name", "it", "--cluster", &format!("nats://127.0.0.1:{route_port}")]);
        if !self.servers.is_empty() {
            let routes = self.servers.iter().map(|server| format!("nats://127.0.0.1:{}", server.route_port)).collect::<Vec<_>>();
            command.args(["--routes", &routes.join(",")]);
        }
        self.launch(command).await
    }

    async fn launch(&self, mut command: Command) -> Server {
        let ports = TempDir::new_in(self.dir.path()).expect("a temporary folder");
        command.arg("--ports_file_dir").arg(ports.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Server { child: Some(command.spawn().expect("a nats-server that starts")), client_port: 0, route_port: 0 };
        let told = eventually("nats-server tells its ports", START_TIMEOUT, async || read_ports(ports.path())).await;
        server.client_port = port_of(&told["nats"][0]);
        server.route_port = port_of(&told["cluster"][0]);
        server
    }
}

impl Server {
    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.client_port)
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read_ports(dir: &Path) -> Result<Value, String> {
    let file = std::fs::read_dir(dir).map_err(|error| error.to_string())?.flatten().next().ok_or("no ports file")?;
    let text = std::fs::read_to_string(file.path()).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

fn port_of(url: &Value) -> u16 {
    let url = url.as_str().expect("a url in the ports file");
    url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port at the url's end")
}

/// The server that `tests/run` found, else the one on PATH, else the one `tests/run` fetched before.
fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("MUSTER_TEST_NATS") {
        return named.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("nats-server")).find(|file| file.is_file());
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/nats/bin/nats-server");
    on_path.or_else(|| fetched.is_file().then_some(fetched)).expect("a nats-server: run `tests/run it`, which fetches one")
}
