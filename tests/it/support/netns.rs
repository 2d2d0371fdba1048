//! Hosts of their own: network namespaces on a bridge, each of which can be cut off and joined again. Needs root and iproute2.

use std::process::Command;

/// Of every such net: nothing of it is seen outside.
const SUBNET: &str = "10.99.0";

/// A bridge and the hosts on it; dropped, all of it is gone.
pub(crate) struct Net {
    /// Of the namespace that the bridge is in; the hosts' own begin with it.
    name: String,
    hosts: usize,
}

impl Net {
    /// Lays a net of so many hosts.
    ///
    /// # Errors
    /// Why this machine does not allow it.
    pub(crate) fn lay(hosts: usize) -> Result<Self, String> {
        let net = Self { name: format!("muster-{}", std::process::id()), hosts };
        let hub = net.name.as_str();
        ip(&["netns", "add", hub])?;
        ip(&["-n", hub, "link", "add", "hub", "type", "bridge"])?;
        ip(&["-n", hub, "link", "set", "hub", "up"])?;
        for host in 0..hosts {
            let (own, port) = (net.host(host), port(host));
            ip(&["netns", "add", &own])?;
            ip(&["-n", &own, "link", "add", "up0", "type", "veth", "peer", "name", &port, "netns", hub])?;
            ip(&["-n", &own, "address", "add", &format!("{}/24", address(host)), "dev", "up0"])?;
            ip(&["-n", &own, "link", "set", "lo", "up"])?;
            ip(&["-n", &own, "link", "set", "up0", "up"])?;
            ip(&["-n", hub, "link", "set", &port, "up"])?;
            net.join(host)?;
        }
        Ok(net)
    }

    /// The name of a host's namespace.
    pub(crate) fn host(&self, host: usize) -> String {
        format!("{}-{host}", self.name)
    }

    /// Takes a host off the bridge: what it sends and what is sent to it is lost, and no connection is told so.
    pub(crate) fn cut(&self, host: usize) -> Result<(), String> {
        ip(&["-n", &self.name, "link", "set", &port(host), "nomaster"])
    }

    /// Puts a host on the bridge.
    pub(crate) fn join(&self, host: usize) -> Result<(), String> {
        ip(&["-n", &self.name, "link", "set", &port(host), "master", "hub"])
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // What was never laid cannot be taken away; nobody waits for it.
        for name in (0..self.hosts).map(|host| self.host(host)).chain([self.name.clone()]) {
            let _ = ip(&["netns", "delete", &name]);
        }
    }
}

/// Where a host is reached by the others.
pub(crate) fn address(host: usize) -> String {
    format!("{SUBNET}.{}", host + 1)
}

/// The command, as it is run at a host.
pub(crate) fn at(namespace: &str, command: &Command) -> Command {
    let mut within = Command::new("ip");
    within.args(["netns", "exec", namespace]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => within.env(name, value),
            None => within.env_remove(name),
        };
    }
    within
}

/// The host's end of its line, on the bridge's side.
fn port(host: usize) -> String {
    format!("host{host}")
}

fn ip(args: &[&str]) -> Result<(), String> {
    let told = |why: &str| format!("`ip {}`: {}", args.join(" "), why.trim());
    let output = Command::new("ip").args(args).output().map_err(|error| told(&error.to_string()))?;
    if output.status.success() { Ok(()) } else { Err(told(&String::from_utf8_lossy(&output.stderr))) }
}
