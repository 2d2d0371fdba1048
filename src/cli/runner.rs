//! The command of `watch --exec`: one run at a time; what changes meanwhile is gathered into the next.

use std::collections::BTreeMap;
use std::process::Stdio;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use super::output;
use crate::client::Held;
use crate::model::Namespace;

/// Runs a command for services that changed.
pub(super) struct Runner {
    command: String,
    namespace: Namespace,
    running: Option<Child>,
    /// The newest list of each service that changed and was not run for yet: bounded by the services that are followed.
    waiting: BTreeMap<String, Vec<u8>>,
}

impl Runner {
    pub(super) fn new(command: String, namespace: Namespace) -> Self {
        Self { command, namespace, running: None, waiting: BTreeMap::new() }
    }

    /// Runs for this service now, or when the present run has ended.
    pub(super) fn offer(&mut self, service: &str, held: &Held) {
        let list = json!({"namespace": self.namespace.as_str(), "service": service, "revision": held.revision,
            "complete": held.trust.complete, "stale": held.trust.stale, "preserved": held.trust.preserved,
            "instances": held.instances.values().collect::<Vec<_>>()});
        self.waiting.insert(service.to_owned(), list.to_string().into_bytes());
        self.run_next();
    }

    /// Ends when the present run has ended; without one, never.
    pub(super) async fn ended(runner: Option<&mut Self>) {
        let Some(runner) = runner else { return std::future::pending().await };
        let Some(child) = &mut runner.running else { return std::future::pending().await };
        match child.wait().await {
            Ok(status) if status.success() => {}
            Ok(status) => output::remark(&format!("`{}` ended with {status}", runner.command)),
            Err(error) => output::remark(&format!("`{}` cannot be waited for: {error}", runner.command)),
        }
        runner.running = None;
        runner.run_next();
    }

    fn run_next(&mut self) {
        if self.running.is_some() {
            return;
        }
        let Some((service, list)) = self.waiting.pop_first() else { return };
        let mut command = Command::new("sh");
        command.arg("-c").arg(&self.command).env("MUSTER_SERVICE", &service).env("MUSTER_NAMESPACE", self.namespace.as_str());
        match command.stdin(Stdio::piped()).kill_on_drop(true).spawn() {
            Ok(mut child) => {
                if let Some(mut stdin) = child.stdin.take() {
                    // A command that does not read its list is none the worse for it.
                    tokio::spawn(async move { drop(stdin.write_all(&list).await) });
                }
                self.running = Some(child);
            }
            Err(error) => output::remark(&format!("`{}` cannot be run: {error}", self.command)),
        }
    }
}
