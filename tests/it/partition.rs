//! A real partition: three hosts with a node and a nats-server each, of which one is cut off while both sides go on; then it is joined again.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::support::agreement::Said;
use crate::support::netns::{self, Net};
use crate::support::node::{READY_TIMEOUT, muster};
use crate::support::wait::same;
use crate::support::{Nats, Node, eventually};

const HOSTS: usize = 3;
/// The host that is cut off.
const ALONE: usize = 2;
/// Of each kind, at each node.
const EACH: usize = 4;
const SPLIT: Duration = Duration::from_secs(12);
/// For a side to see that the other is silent.
const NOTICED: Duration = Duration::from_secs(15);
/// From the moment the net is whole again.
const CONVERGENCE: Duration = Duration::from_secs(10);

/// A host: what runs there, and how it is asked. From outside none of it can be reached.
struct Host {
    namespace: String,
    node: Node,
    _nats: Nats,
}

impl Host {
    async fn start(net: &Net, number: usize) -> Self {
        let namespace = net.host(number);
        let routes: Vec<String> = (0..HOSTS).map(|host| format!("nats://{}:6222", netns::address(host))).collect();
        // A line that is dead is to be noticed by what is sent on it, not by TCP in its own time.
        let text = format!(
            "listen: 127.0.0.1:4222\nping_interval: 1s\nping_max: 2\ncluster {{ name: split, listen: {}:6222, routes: [{}] }}",
            netns::address(number),
            routes.join(", ")
        );
        let nats = Nats::start_at(&namespace, &text).await;
        let listen = format!("{}:0", netns::address(number));
        let name = format!("n{}", number + 1);
        let args = ["serve", "--name", &name, "--cluster", "split", "--listen", &listen, "--nats", "nats://127.0.0.1:4222"];
        let node = Node::start_at(&namespace, &name, &args).await;
        Self { namespace, node, _nats: nats }
    }

    /// What a verb of the command line answers here: its exit code, what it printed, and what it remarked beside it.
    fn ask(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let url = self.node.url();
        let args = [args, &["-s", &url]].concat();
        let mut command = netns::at(&self.namespace, &muster(&args));
        let output = command.stdin(Stdio::null()).output().expect("muster");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    fn must(&self, args: &[&str]) -> String {
        let (code, said, remarks) = self.ask(args);
        assert_eq!(code, Some(0), "{args:?} at {}: {said}{remarks}", self.node.name);
        said
    }

    fn register(&self, id: &str, port: &str) {
        self.must(&["register", "--service", "user", "--id", id, "--address", "10.0.0.7", "--port", port, "--ttl", "none"]);
    }

    /// How the cluster looks from here; `Err` when `nodes` does not exit with this code.
    fn cluster(&self, code: i32) -> Result<Value, String> {
        match self.ask(&["nodes", "-o", "json"]) {
            (Some(got), said, _) if got == code => serde_json::from_str(&said).map_err(|error| format!("{error}: {said}")),
            (got, said, remarks) => Err(format!("{} exits {got:?}: {said}{remarks}", self.node.name)),
        }
    }

    fn ids(&self) -> Vec<String> {
        self.must(&["instances", "user", "-o", "name"]).lines().map(str::to_owned).collect()
    }
}

/// All hosts come to say the same, and to list exactly these.
async fn all_list(hosts: &[Host], ids: &[String], limit: Duration) {
    eventually("all agree", limit, async || {
        let first = Said::of(&hosts[0].cluster(0)?);
        for host in hosts {
            same(&Said::of(&host.cluster(0)?), &first).map_err(|why| format!("{}: {why}", host.node.name))?;
            same(&host.ids(), &ids.to_vec()).map_err(|why| format!("{}: {why}", host.node.name))?;
        }
        Ok(())
    })
    .await;
}

fn named(when: &str) -> Vec<String> {
    (0..HOSTS).flat_map(|host| (0..EACH).map(move |count| format!("{when}-{host}-{count}"))).collect()
}

/// Registers some of its own at each host.
fn register_at_each(hosts: &[Host], when: &str) {
    for (host, id) in hosts.iter().flat_map(|host| std::iter::repeat_n(host, EACH)).zip(named(when)) {
        host.register(&id, "8080");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_of_a_split_go_on_and_become_one_again() {
    let net = match Net::lay(HOSTS) {
        Ok(net) => net,
        // Written past the harness, which keeps to itself what a test that passes prints.
        Err(why) => return writeln!(std::io::stderr(), "SKIPPED: partition: no network namespaces here: {why}").expect("stderr"),
    };
    let mut hosts = Vec::new();
    for number in 0..HOSTS {
        hosts.push(Host::start(&net, number).await);
    }
    all_list(&hosts, &[], READY_TIMEOUT).await;
    register_at_each(&hosts, "before");
    all_list(&hosts, &named("before"), CONVERGENCE).await;

    net.cut(ALONE).expect("a net that is laid");
    for host in &hosts {
        eventually("each side sees that the other is silent", NOTICED, async || host.cluster(4)).await;
    }
    register_at_each(&hosts, "during");
    // Each side takes away what the other owns, and both say something else of one.
    hosts[0].must(&["deregister", "user", "before-2-0"]);
    hosts[ALONE].must(&["deregister", "user", "before-0-0"]);
    hosts[1].register("before-1-1", "8081");
    hosts[ALONE].register("before-1-1", "8082");
    tokio::time::sleep(SPLIT).await;
    assert!(!hosts[0].ids().contains(&"during-2-0".to_owned()), "the net was never split");

    net.join(ALONE).expect("a net that is laid");
    let mut ids = [named("before"), named("during")].concat();
    ids.retain(|id| !["before-2-0", "before-0-0"].contains(&id.as_str()));
    all_list(&hosts, &ids, CONVERGENCE).await;
    // For as long as a node could still pass on what it held of those that are gone.
    tokio::time::sleep(Duration::from_secs(5)).await;
    all_list(&hosts, &ids, CONVERGENCE).await;
}
