//! Knowledge: what a node answers about what it does not know. An empty list is an answer too, and has to be true.

use crate::clock::shown;
use crate::config::masked;
use crate::http::App;
use crate::http::problem::{Code, Problem};
use crate::model::ServiceKey;
use crate::node::Condition;
use crate::registry::{Knowledge, View};

/// The node knows no instance of this service, and cannot tell whether there is one.
pub(in crate::http) fn is_unknown(condition: &Condition, view: &View) -> bool {
    view.instances().is_empty() && !condition.knowledge.is_enough()
}

/// A service of which nothing is known is not an empty one.
///
/// # Errors
/// A [`Problem`] that says what is waited for, and until when.
pub(in crate::http) fn check_known(app: &App, condition: &Condition, service: &ServiceKey, view: &View) -> Result<(), Problem> {
    if is_unknown(condition, view) {
        return Err(problem(app, &format!("Nothing is known of service `{}` yet", service.service)));
    }
    Ok(())
}

/// That something is not known yet: what is waited for, and until when.
pub(in crate::http) fn problem(app: &App, what: &str) -> Problem {
    let clock = app.node.clock();
    let why = match app.node.condition().knowledge {
        Knowledge::Enough => "ask again".to_owned(),
        Knowledge::Joining => {
            let wait_ms = app.config.cluster.bootstrap_wait_ms;
            format!("the node has not joined: it waits for a copy of what a ready node holds, or {wait_ms} ms for one to be heard")
        }
        Knowledge::NameTaken => {
            let name = app.node.name();
            format!(
                "another node runs under the name `{name}`, and this one waits until that is gone: give each a name of its own (--name)"
            )
        }
        Knowledge::Unreached => {
            let servers: Vec<_> = app.config.bus.url.iter().map(|url| masked(url)).collect();
            format!("the bus ({}) was never reached, and other nodes may know more: the node waits until it reaches it", servers.join(", "))
        }
        Knowledge::Settling { until } => {
            let left_ms = until.saturating_sub(clock.mono());
            if left_ms == 0 {
                "the node waits until it hears its bus and has compared what it holds with the nodes it hears".to_owned()
            } else {
                let until = shown(clock.wall() + left_ms);
                let left = left_ms.div_ceil(1000);
                format!("the node started without knowledge: it waits until {until} ({left} s more), so that every provider has its turn")
            }
        }
    };
    Problem::new(Code::Warming, format!("{what}: {why}. Ask again, or ask another."))
}
