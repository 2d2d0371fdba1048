//! The command line: one verb, its options, its exit code.

mod check;
mod consume;
mod dev;
mod diff;
mod drain;
mod events;
mod export;
mod failure;
mod holding;
mod import;
mod nodes;
mod options;
mod output;
mod overrides;
mod provide;
mod reload;
mod runner;
mod selection;
mod serve;
mod signal;
mod start;
mod wait;
mod watch;
mod why;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use failure::{Code, Failure};

use crate::log;

/// A service registry anyone can run: every node is a master, changes go out on NATS, consumers hear them over server-sent events.
#[derive(Debug, Parser)]
#[command(name = "muster", version, max_term_width = 120, after_help = EXAMPLES, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Try it, with nothing else installed:
  muster dev --nodes 3
  muster register --service user --port 8080
  muster watch user -s 127.0.0.1:6879

A node of a cluster:
  muster serve --name n1 --nats nats://127.0.0.1:4222

Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 not converged or unhealthy, 69 no node reachable, 70 a node stalled, 75 another node has its name, 77 refused, 78 bad configuration";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a node
    Serve(serve::Arguments),
    /// Run a whole cluster in one process, over an in-memory bus: to try muster, and to develop against it
    Dev(dev::Arguments),
    /// Check a configuration and show every value and where it came from; starts nothing
    Check(check::Arguments),
    /// Register an instance and keep it registered until Ctrl-C
    Register(holding::Arguments),
    /// Take an instance away
    Deregister(provide::Deregister),
    /// Take an instance away with notice: everyone who follows its service is told first
    Drain(drain::Drain),
    /// List services and how their instances are
    Services(consume::Services),
    /// List a service's instances, or search those of all services
    Instances(consume::Instances),
    /// List who follows a service, on all nodes
    Subscribers(drain::Subscribers),
    /// Follow services: a line for each instance that comes (+), changes (~) or goes (-)
    Watch(watch::Arguments),
    /// Wait until a service has so many instances to call
    Wait(wait::Arguments),
    /// List what happened to instances, or follow what happens
    Events(events::Arguments),
    /// Say how an instance is, how it came to be so, and who did it
    Why(why::Arguments),
    /// List the cluster's nodes: have they converged, and who lags?
    Nodes(nodes::Arguments),
    /// Say what instances are to be listed as, whatever their providers and the registry say
    Override(overrides::Arguments),
    /// Compare two nodes: in what do their records differ?
    Diff(diff::Arguments),
    /// Write registrations, one a line
    Export(export::Arguments),
    /// Register what `export` wrote
    Import(import::Arguments),
    /// Write completions for a shell
    Completion {
        /// Which
        shell: clap_complete::Shell,
    },
}

/// Runs the program on this process's arguments.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            // Help and version are messages too, and no failures.
            let code = if message.use_stderr() { Code::Usage } else { Code::Ok };
            return message.print().map_or(ExitCode::from(Code::Failed as u8), |()| ExitCode::from(code as u8));
        }
    };
    let code = match perform(arguments.verb) {
        Ok(code) => code,
        Err(failure) => failure.tell(),
    };
    log::flush();
    ExitCode::from(code as u8)
}

fn perform(verb: Verb) -> Result<Code, Failure> {
    match verb {
        Verb::Serve(arguments) => on_all_cores(serve::run(arguments)),
        Verb::Dev(arguments) => on_all_cores(dev::run(arguments)),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Register(arguments) => on_one_core(holding::run(arguments)),
        Verb::Deregister(arguments) => on_one_core(provide::deregister(arguments)),
        Verb::Drain(arguments) => on_one_core(drain::drain(arguments)),
        Verb::Subscribers(arguments) => on_one_core(drain::subscribers(arguments)),
        Verb::Services(arguments) => on_one_core(consume::services(arguments)),
        Verb::Instances(arguments) => on_one_core(consume::instances(arguments)),
        Verb::Watch(arguments) => on_one_core(watch::run(arguments)),
        Verb::Wait(arguments) => on_one_core(wait::run(arguments)),
        Verb::Events(arguments) => on_one_core(events::run(arguments)),
        Verb::Why(arguments) => on_one_core(why::run(arguments)),
        Verb::Nodes(arguments) => on_one_core(nodes::run(arguments)),
        Verb::Override(arguments) => on_one_core(overrides::run(arguments)),
        Verb::Diff(arguments) => on_one_core(diff::run(arguments)),
        Verb::Export(arguments) => on_one_core(export::run(arguments)),
        Verb::Import(arguments) => on_one_core(import::run(arguments)),
        Verb::Completion { shell } => complete(shell),
    }
}

fn on_all_cores(verb: impl Future<Output = Result<Code, Failure>>) -> Result<Code, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Code::Failed, format!("no runtime: {error}")))?;
    let ended = runtime.block_on(verb);
    // A thread that hangs on a disk keeps nobody: whoever waited for it has given it its time.
    runtime.shutdown_background();
    ended
}

fn on_one_core(verb: impl Future<Output = Result<Code, Failure>>) -> Result<Code, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(Code::Failed, format!("no runtime: {error}")))?.block_on(verb)
}

fn complete(shell: clap_complete::Shell) -> Result<Code, Failure> {
    // Into memory first: the generator panics when what it writes to is closed.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "muster", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(Code::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_sound() {
        Arguments::command().debug_assert();
    }
}
