//! The client: registers instances and follows services from another program, at whichever node answers.
//!
//! It needs the nouns and the API's shapes alone: with the feature `client` by itself no server code is built. Every future is `Send` and
//! every handle `Sync`: a [`Client`] is cloned, a [`Lease`] or a [`Watch`] moved into a task of its own.
//!
//! Register an instance, and keep it listed until the program ends:
//!
//! ```no_run
//! use muster::api::provide::Registration;
//! use muster::client::Client;
//! use muster::model::{InstanceId, InstanceKey, Namespace, ServiceKey, ServiceName};
//!
//! # async fn provide() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder().servers(["http://10.0.0.1:6878", "http://10.0.0.2:6878"]).name("cart/1.4").build()?;
//! let service = ServiceKey { namespace: Namespace::default(), service: ServiceName::parse("cart")? };
//! let key = InstanceKey { service, id: InstanceId::parse("cart-1")? };
//! let registration = Registration { address: "10.0.0.7".to_owned(), port: 8080, ..Registration::default() };
//! let mut lease = client.register(key, registration).await?;
//! tokio::select! {
//!     error = lease.hold(|event| println!("{event:?}")) => return Err(error.into()), // a newer life of it is registered
//!     () = std::future::pending() => {} // the program's own work
//! }
//! lease.close().await?; // drains it, then takes it away
//! # Ok(())
//! # }
//! ```
//!
//! Follow a service, and always have its instances at hand:
//!
//! ```no_run
//! use muster::client::{Client, Followed, Query, Replica, WatchEvent};
//! use muster::model::{Namespace, ServiceName};
//!
//! # async fn consume() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder().servers(["http://10.0.0.1:6878"]).build()?;
//! let followed = Followed::Named(vec![ServiceName::parse("user")?]);
//! let mut watch = client.watch(Namespace::default(), followed, Query::default().with("usable", "true"));
//! tokio::spawn(async move {
//!     while let Ok(event) = watch.next().await {
//!         match event {
//!             WatchEvent::Changed(service, change) => println!("{service}: {change:?}"),
//!             WatchEvent::Lost(why) => eprintln!("{why}; what is held is kept"),
//!             _ => {} // opened, synced, …; later versions may have more
//!         }
//!         let held = watch.replica("user").and_then(Replica::held);
//!         println!("{} usable", held.map_or(0, |held| held.instances.len()));
//!     }
//! });
//! # Ok(())
//! # }
//! ```
//!
//! Ask once, and tell what went wrong:
//!
//! ```no_run
//! use muster::client::{Client, Error, Query};
//! use muster::model::ServiceName;
//!
//! # async fn ask() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder().servers(["127.0.0.1:6878"]).build()?;
//! match client.instances(&ServiceName::parse("user")?, Query::default().with("zone", "eu-a")).await {
//!     Ok(answer) => println!("{} instances", answer.value.instances.len()),
//!     Err(Error::Unreachable(attempts)) => eprintln!("{} servers did not answer", attempts.len()),
//!     Err(error) => eprintln!("{error}"), // refused, with `error.code()`; or no muster node
//! }
//! # Ok(())
//! # }
//! ```

mod attach;
mod connect;
mod error;
mod exclusive;
mod happening;
mod query;
mod register;
mod replica;
#[cfg(test)]
mod threads;
mod tls;
mod watch;

use std::sync::Arc;
use std::time::Duration;

pub use connect::{Builder, SERVER_DEFAULT};
pub use error::{Attempt, BuildError, Error};
pub use happening::{Happened, Happenings};
pub use query::Query;
pub use register::{HeldEvent, Lease};
pub use replica::{Change, Held, Replica};
pub use tls::Tls;
pub use watch::{Followed, Watch, WatchEvent};

use crate::api::consume::{Detail, FoundInstances, Instances, Services};
use crate::api::drain::{Drained, Subscribers};
use crate::api::events::Events;
use crate::api::operate::{Cluster, Diff};
use crate::api::overrides::{Override, Overrides, SetOverride};
use crate::api::provide::{Batch, BatchAnswer};
use crate::model::{InstanceKey, Namespace, NodeName, OverrideKey, ServiceName};

/// Talks to a cluster. Cheap to clone; every clone shares its connections.
#[derive(Debug, Clone)]
pub struct Client {
    connection: Arc<connect::Connection>,
}

/// An answer's body: what it means, and the bytes as they came.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// What it means.
    pub value: T,
    /// As the node wrote it.
    pub body: Vec<u8>,
    /// Which server answered.
    pub server: String,
}

impl Client {
    /// Says which cluster, before the first call.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// How the cluster looks from the node that answers.
    ///
    /// # Errors
    /// [`Error`]; nothing was changed.
    pub async fn cluster(&self) -> Result<Answer<Cluster>, Error> {
        self.get(&["v1", "cluster"], Query::default()).await
    }

    /// Says that a node will not come back: it counts no more when a majority is looked for.
    ///
    /// # Errors
    /// [`Error`], also when that node is heard or not known; nothing was changed.
    pub async fn forget_node(&self, node: &NodeName) -> Result<(), Error> {
        self.connection.send(&connect::Call::delete(&["v1", "cluster", "nodes", node.as_str()], Query::default())).await.map(drop)
    }

    /// In what the records of the node that answers differ from those of another.
    ///
    /// # Errors
    /// [`Error`]; nothing was changed.
    pub async fn diff(&self, with: &NodeName) -> Result<Answer<Diff>, Error> {
        self.get(&["v1", "cluster", "diff"], Query::default().with("with", with.as_str())).await
    }

    /// A namespace's services with their counts; a page of them where `query` says so.
    ///
    /// # Errors
    /// [`Error`]; nothing was changed.
    pub async fn services(&self, query: Query) -> Result<Answer<Services<'static>>, Error> {
        self.get(&["v1", "services"], query).await
    }

    /// One service's instances; of an unknown service none.
    ///
    /// # Errors
    /// [`Error`]; nothing was changed.
    pub async fn instances(&self, service: &ServiceName, query: Query) -> Result<Answer<Instances<'static>>, Error> {
        self.get(&["v1", "services", service.as_str(), "instances"], query).await
    }

    /// The instances of all services that `query` selects.
    ///
    /// # Errors
    /// [`Error`]; nothing was changed.
    pub async fn search(&self, query: Query) -> Result<Answer<FoundInstances<'static>>, Error> {
        self.get(&["v1", "instances"], query).await
    }

    /// The overrides of a namespace, or of all where `query` says so.
    ///
    /// # Errors
    /// [`Error`]; nothing was changed.
    pub async fn overrides(&self, query: Query) -> Result<Answer<Overrides<'static>>, Error> {
        self.get(&["v1", "overrides"], query).await
    }

    /// Sets an override, in the place of one of this name.
    ///
    /// # Errors
    /// [`Error`]; nothing was changed.
    pub async fn set_override(&self, key: &OverrideKey, said: &SetOverride) -> Result<Answer<Override<'static>>, Error> {
        let query = Query::of_namespace(&key.namespace);
        let path = ["v1", "overrides", key.name.as_str()];
        self.connection.send(&connect::Call::put(&path, query, register::to_json(said))).await?.into_answer()
    }

    /// Ends an override.
    ///
    /// # Errors
    /// [`Error`], also when none of this name held; nothing was changed.
    pub async fn delete_override(&self, key: &OverrideKey) -> Result<(), Error> {
        let query = Query::of_namespace(&key.namespace);
        self.connection.send(&connect::Call::delete(&["v1", "overrides", key.name.as_str()], query)).await.map(drop)
    }

    /// Does up to 10,000 writes; each has its own result.
    ///
    /// # Errors
    /// [`Error`] when they could not be sent or were refused whole; where no answer came, some may be done.
    pub async fn batch(&self, batch: &Batch) -> Result<Answer<BatchAnswer<'static>>, Error> {
        let body = serde_json::to_vec(batch).expect("unreachable: the shapes have only string keys");
        self.connection.send(&connect::Call::post(&["v1", "batch"], Query::default(), body)).await?.into_answer()
    }

    /// Takes an instance away. Fine when it was gone already.
    ///
    /// # Errors
    /// [`Error`]; nothing was changed.
    pub async fn deregister(&self, key: &InstanceKey, incarnation: Option<u64>) -> Result<(), Error> {
        let mut query = Query::of_namespace(&key.service.namespace);
        if let Some(incarnation) = incarnation {
            query = query.with("incarnation", incarnation.to_string());
        }
        self.connection.send(&connect::Call::delete(&instance_path(key), query)).await.map(drop)
    }

    /// Drains an instance: it is listed as draining until everybody who follows its service has been sent that, or for so long; then it is
    /// taken away, if that is wanted. `None`: it was not waited for, and goes on.
    ///
    /// # Errors
    /// [`Error`]; where no answer came it may be under way.
    pub async fn drain(&self, key: &InstanceKey, deadline: Duration, wait: bool, deregister: bool) -> Result<Option<Drained>, Error> {
        self.drain_life(key, None, deadline, wait, deregister).await
    }

    /// The same for one life of it: a newer one stays as it is.
    async fn drain_life(
        &self,
        key: &InstanceKey,
        incarnation: Option<u64>,
        deadline: Duration,
        wait: bool,
        deregister: bool,
    ) -> Result<Option<Drained>, Error> {
        let mut query = Query::of_namespace(&key.service.namespace)
            .with("deadline", deadline.as_millis().to_string())
            .with("wait", wait.to_string())
            .with("deregister", deregister.to_string());
        if let Some(incarnation) = incarnation {
            query = query.with("incarnation", incarnation.to_string());
        }
        let [v1, services, service, instances, id] = instance_path(key);
        let path = [v1, services, service, instances, id, "drain"];
        let call = connect::Call::post(&path, query, Vec::new());
        if !wait {
            return self.connection.send(&call).await.map(|_| None);
        }
        let reply = self.connection.send(&call.within(deadline + connect::ANSWER_TIMEOUT)).await?;
        Ok(Some(reply.into_answer()?.value))
    }

    /// Who follows a service, on all nodes.
    ///
    /// # Errors
    /// [`Error`]; nothing was changed.
    pub async fn subscribers(&self, service: &ServiceName, query: Query) -> Result<Answer<Subscribers<'static>>, Error> {
        self.get(&["v1", "services", service.as_str(), "subscribers"], query).await
    }

    /// Everything known of one instance.
    ///
    /// # Errors
    /// [`Error`], also when no such instance is listed.
    pub async fn detail(&self, key: &InstanceKey) -> Result<Answer<Detail<'static>>, Error> {
        self.get(&instance_path(key), Query::of_namespace(&key.service.namespace)).await
    }

    /// What happened to instances and why, the newest first.
    ///
    /// # Errors
    /// [`Error`]; nothing was changed.
    pub async fn events(&self, query: Query) -> Result<Answer<Events<'static>>, Error> {
        self.get(&["v1", "events"], query).await
    }

    /// What happened to one instance and why, the newest first, also when it is gone; `query` narrows it.
    ///
    /// # Errors
    /// [`Error`], also when nothing is known of it.
    pub async fn history(&self, key: &InstanceKey, query: Query) -> Result<Answer<Events<'static>>, Error> {
        let [v1, services, service, instances, id] = instance_path(key);
        let query = query.with("namespace", key.service.namespace.as_str());
        self.get(&[v1, services, service, instances, id, "history"], query).await
    }

    /// Follows what happens to instances, as `query` narrows it, until it is dropped.
    #[must_use]
    pub fn follow_events(&self, query: Query) -> Happenings {
        Happenings::new(Arc::clone(&self.connection), query)
    }

    /// Follows services of one namespace, with what `query` selects of them, until it is dropped.
    #[must_use]
    pub fn watch(&self, namespace: Namespace, followed: Followed, query: Query) -> Watch {
        Watch::new(Arc::clone(&self.connection), namespace, followed, query)
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &[&str], query: Query) -> Result<Answer<T>, Error> {
        let reply = self.connection.send(&connect::Call::get(path, query)).await?;
        reply.into_answer()
    }
}

fn instance_path(key: &InstanceKey) -> [&str; 5] {
    ["v1", "services", key.service.service.as_str(), "instances", key.id.as_str()]
}
