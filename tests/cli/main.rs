//! The command line from outside: what it says, on which stream, and the code it ends with.

mod canned;
#[path = "../common/certificates.rs"]
mod certificates;
mod cluster;
mod event_source;
mod generated;
mod happening;
mod many_services;
mod refusals;
mod seeing;
mod tls;
mod tools;
mod transfer;
mod usage;
mod waiting;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// For anything to happen on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// `muster` with these arguments, and nothing of the caller's environment that could change what it does.
fn muster(args: &[&str]) -> assert_cmd::Command {
    assert_cmd::Command::from_std(plain(args))
}

fn plain(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MUSTER_")) {
        command.env_remove(name);
    }
    // The nodes that tests start are new: nothing was registered before.
    command.env("MUSTER_EXPECT_EMPTY", "true");
    command.args(args).stdin(Stdio::null());
    command
}

/// A verb that runs until it is told to end; killed when dropped.
struct Running {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Running {
    fn start(args: &[&str]) -> Self {
        Self::spawn(plain(args))
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a program that starts");
        let said = Arc::new(Mutex::new(String::new()));
        let pipes: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("it was piped")), Box::new(child.stderr.take().expect("it was piped"))];
        for pipe in pipes {
            let said = Arc::clone(&said);
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    said.lock().expect("a thread that lives").push_str(&(line + "\n"));
                }
            });
        }
        Self { child, said }
    }

    fn said(&self) -> String {
        self.said.lock().expect("a thread that lives").clone()
    }

    /// Waits until it has said this.
    fn until(&self, words: &str) {
        eventually(&format!("it says `{words}`"), || if self.said().contains(words) { Ok(()) } else { Err(self.said()) });
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.expect("kill(1)").success());
    }

    fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("it ends", || child.try_wait().map_err(|error| error.to_string())?.ok_or_else(|| "it runs".to_owned()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tries until it succeeds; the last reason is told when it does not in time.
fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(why) if begun.elapsed() > LIMIT => panic!("{what}: not within {LIMIT:?}: {why}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
