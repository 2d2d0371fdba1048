//! Registering: a lease on an instance, kept by heartbeats and won back after any loss.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use backon::BackoffBuilder;

use super::connect::{ANSWER_TIMEOUT, Call, Connection, backoff};
use super::{Client, Error, Query, instance_path};
use crate::api::Hex;
use crate::api::provide::{Heartbeat, Registered, Registration, Renewed};
use crate::clock::Clock;
use crate::model::InstanceKey;
use crate::random::jittered;

/// A node that is merely busy gets this long to answer a heartbeat, however short the ttl.
const ANSWER_TIMEOUT_MIN: Duration = Duration::from_millis(500);

/// An instance that is listed as long as this is held, and taken away by [`Lease::close`].
#[derive(Debug)]
pub struct Lease {
    connection: Arc<Connection>,
    key: InstanceKey,
    registration: Registration,
    incarnation: u64,
    digest: Hex,
    owner: String,
    /// `None`: a fixed address, which sends no heartbeats.
    renew_every: Option<Duration>,
}

/// What happened to a lease.
#[derive(Debug, Clone)]
pub enum HeldEvent {
    /// A heartbeat was answered.
    Renewed,
    /// The registry did not know it any more; it is registered again.
    RegisteredAgain,
    /// No heartbeat could be delivered; the next try is under way.
    Missed(Error),
}

impl Client {
    /// Registers an instance. Without an incarnation its life begins now; where a later life of it is known, it takes over from that.
    ///
    /// # Errors
    /// [`Error`]; nothing was changed.
    pub async fn register(&self, key: InstanceKey, mut registration: Registration) -> Result<Lease, Error> {
        let connection = Arc::clone(&self.connection);
        let chosen = registration.incarnation;
        registration.incarnation = Some(chosen.unwrap_or_else(|| Clock::start().wall()));
        let registered = match put(&connection, &key, &registration, false, ANSWER_TIMEOUT).await {
            // Another host's clock was ahead when the former life began; this one is later all the same.
            Err(error) if chosen.is_none() && error.code() == Some("superseded") => {
                put(&connection, &key, &registration, true, ANSWER_TIMEOUT).await
            }
            other => other,
        }?;
        registration.incarnation = Some(registered.incarnation);
        Ok(Lease {
            connection,
            key,
            registration,
            incarnation: registered.incarnation,
            digest: registered.digest,
            owner: registered.owner.into_owned(),
            renew_every: registered.lease.renew_every_ms.map(to_pause),
        })
    }
}

impl Lease {
    /// Whose it is.
    #[must_use]
    pub fn key(&self) -> &InstanceKey {
        &self.key
    }

    /// Which life of it.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The node that holds it, as last heard.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// How often a heartbeat is sent; `None`: never. It stays listed until it is deregistered, held or not.
    #[must_use]
    pub fn renew_every(&self) -> Option<Duration> {
        self.renew_every
    }

    /// Sends heartbeats for ever, telling each one's fate; ends only when holding on makes no sense. A fixed address sends none: this waits.
    ///
    /// # Errors
    /// A newer life of the instance was registered, or the registry refuses this one for good. The lease is lost.
    pub async fn hold(&mut self, mut tell: impl FnMut(HeldEvent)) -> Error {
        let mut waits = backoff().without_max_times().build();
        let mut missed = None;
        while let Some(every) = self.renew_every {
            tokio::time::sleep(missed.take().unwrap_or_else(|| until_next(every))).await;
            match self.beat().await {
                Ok(event) => {
                    waits = backoff().without_max_times().build();
                    tell(event);
                }
                Err(error) if is_final(&error) => return error,
                Err(error) => {
                    // Never less often than heartbeats are due, so that the first chance is taken.
                    missed = Some(waits.next().unwrap_or(every).min(every));
                    tell(HeldEvent::Missed(error));
                }
            }
        }
        std::future::pending().await
    }

    /// One heartbeat; registers again when the registry asks for that.
    async fn beat(&mut self) -> Result<HeldEvent, Error> {
        match self.renew().await {
            Ok(renewed) => {
                self.owner = renewed.owner.into_owned();
                self.renew_every = renewed.renew_every_ms.map(to_pause);
                Ok(HeldEvent::Renewed)
            }
            Err(error) if error.code() == Some("unknown_lease") => {
                let registered = put(&self.connection, &self.key, &self.registration, false, self.answer_timeout()).await?;
                self.digest = registered.digest;
                self.owner = registered.owner.into_owned();
                Ok(HeldEvent::RegisteredAgain)
            }
            Err(error) => Err(error),
        }
    }

    async fn renew(&self) -> Result<Renewed<'static>, Error> {
        let heartbeat = Heartbeat { incarnation: Some(self.incarnation), digest: Some(self.digest.to_string()), status: None };
        let [v1, services, service, instances, id] = instance_path(&self.key);
        let path = [v1, services, service, instances, id, "heartbeat"];
        let query = Query::of_namespace(&self.key.service.namespace);
        let call = Call::post(&path, query, to_json(&heartbeat)).within(self.answer_timeout());
        let reply = self.connection.send(&call).await?;
        Ok(reply.into_answer::<Renewed<'static>>()?.value)
    }

    /// A node that hangs must be noticed while there is time to ask another within the ttl.
    fn answer_timeout(&self) -> Duration {
        self.renew_every.map_or(ANSWER_TIMEOUT, |every| (every / 2).max(ANSWER_TIMEOUT_MIN))
    }

    /// Takes the instance away, unless a newer life of it is registered.
    ///
    /// # Errors
    /// [`Error`]; it stays listed until its lease is over.
    pub async fn close(self) -> Result<(), Error> {
        Client { connection: self.connection }.deregister(&self.key, Some(self.incarnation)).await
    }
}

/// What the registry asked for, or up to a tenth less: instances that began together do not stay together.
fn until_next(every: Duration) -> Duration {
    every * 4 / 5 + jittered(every / 5)
}

fn to_pause(ms: u64) -> Duration {
    Duration::from_millis(ms.max(1))
}

async fn put(
    connection: &Connection,
    key: &InstanceKey,
    registration: &Registration,
    takeover: bool,
    timeout: Duration,
) -> Result<Registered<'static>, Error> {
    let mut query = Query::of_namespace(&key.service.namespace);
    let mut registration = Cow::Borrowed(registration);
    if takeover {
        query = query.with("takeover", "true");
        registration.to_mut().incarnation = None;
    }
    let path = instance_path(key);
    let call = Call::put(&path, query, to_json(&*registration)).within(timeout);
    let reply = connection.send(&call).await?;
    Ok(reply.into_answer::<Registered<'static>>()?.value)
}

pub(super) fn to_json(body: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("unreachable: the API's shapes have text keys and no failing parts")
}

/// What will be answered the same way next time: a newer life, no permission, a registration against the rules.
fn is_final(error: &Error) -> bool {
    match error {
        Error::Refused { problem, .. } => matches!(problem.status, 400 | 401 | 403 | 409 | 413 | 415),
        Error::Unreachable(_) | Error::Foreign { .. } => false,
    }
}
