//! The programs under test: each a process of its own, its output kept in a file, its CPU time asked of the kernel, killed when dropped.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::http::Connection;
use crate::requests::get;

/// For a process to answer: two seconds for a node that waits for peers, and a slow machine.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Of the counters in `/proc/PID/stat`; Linux has shown user space this rate on every architecture for decades.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running server.
pub(crate) struct Process {
    child: Child,
    /// Where it listens.
    pub(crate) host: SocketAddr,
    log: PathBuf,
}

impl Process {
    /// Starts `muster serve` with this name, alone or on a bus, and waits until it is ready.
    pub(crate) async fn muster(name: &str, nats: Option<&str>, dir: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
        for (variable, _) in std::env::vars_os().filter(|(variable, _)| variable.to_string_lossy().starts_with("MUSTER_")) {
            command.env_remove(variable);
        }
        let host = free_address();
        command.args(["serve", "--expect-empty", "--name", name, "--listen", &host.to_string()]);
        command.args(nats.iter().flat_map(|url| ["--nats", url]));
        Self::start(command, host, "/readyz", dir.join(format!("{name}.log"))).await
    }

    /// Starts this program again, as the bare server that sends what `samples` holds.
    pub(crate) async fn floor(samples: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program's own file"));
        let host = free_address();
        command.args(["floor", &host.to_string()]).arg(samples);
        Self::start(command, host, "/readyz", samples.join("floor.log")).await
    }

    /// Starts a nats-server.
    pub(crate) async fn nats(dir: &Path) -> Self {
        let mut command = Command::new(nats_binary());
        let host = free_address();
        command.args(["--addr", "127.0.0.1", "--port", &host.port().to_string()]);
        let mut process = Self::spawn(command, host, dir.join("nats.log"));
        process.until("takes connections", async || tokio::net::TcpStream::connect(host).await.is_ok()).await;
        process
    }

    async fn start(command: Command, host: SocketAddr, path: &str, log: PathBuf) -> Self {
        let mut process = Self::spawn(command, host, log);
        process.until(path, async || is_ok(host, path).await).await;
        process
    }

    fn spawn(mut command: Command, host: SocketAddr, log: PathBuf) -> Self {
        let output = File::create(&log).expect("a file for the output");
        let errors = output.try_clone().expect("a second handle");
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        Self { child: child.unwrap_or_else(|error| panic!("{command:?}: {error}")), host, log }
    }

    async fn until(&mut self, what: &str, is_so: impl AsyncFn() -> bool) {
        let start = Instant::now();
        while !is_so().await {
            let ended = self.child.try_wait().expect("a child that can be asked");
            assert!(ended.is_none() && start.elapsed() < START_TIMEOUT, "not {what}; ended: {ended:?}; it said:\n{}", self.said());
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_else(|error| error.to_string())
    }

    /// Microseconds that its threads have spent on a CPU since it began, in user space and in the kernel.
    pub(crate) fn cpu_us(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("a process that runs");
        // The second field is the program's name in brackets, with whatever is in it; the 14th and 15th are the ticks.
        let (_, after_name) = stat.rsplit_once(')').expect("a name in brackets");
        let ticks: f64 = after_name.split_ascii_whitespace().skip(11).take(2).map(|field| field.parse().unwrap_or(0.0)).sum();
        ticks / TICKS_PER_SECOND * 1e6
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = self.said();
            let tail = said.lines().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
            eprintln!("--- the last lines of {} ---\n{tail}", self.log.display());
        }
    }
}

/// An address that was free a moment ago.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound address")
}

async fn is_ok(host: SocketAddr, path: &str) -> bool {
    let Ok(mut connection) = Connection::open(host).await else { return false };
    connection.send(&get(path)).await.is_ok_and(|answer| answer.status == 200)
}

/// The nats-server that the environment names, else the one on PATH, else the one that `tests/run` fetched.
pub(crate) fn nats_binary() -> PathBuf {
    if let Some(named) = std::env::var_os("MUSTER_TEST_NATS") {
        return named.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("nats-server")).find(|file| file.is_file());
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/nats/bin/nats-server");
    on_path.or_else(|| fetched.is_file().then_some(fetched)).expect("a nats-server: run `tests/run it` once, which fetches one")
}
