//! Registering: a lease on an instance, kept by a connection or by heartbeats, and won back after any loss.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use backon::BackoffBuilder;

use super::attach::{self, Attached, Attachment, Ended};
use super::connect::{ANSWER_TIMEOUT, Call, Connection, backoff};
use super::{Client, Error, Query, instance_path};
use crate::api::Hex;
use crate::api::provide::{Heartbeat, Registered, Registration, Renewed, Span};
use crate::clock::Clock;
use crate::model::InstanceKey;
use crate::random::jittered;

/// How long whoever follows the service of an instance that leaves may take to be told so.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// A node that is merely busy gets this long to answer a heartbeat, however short the ttl.
const ANSWER_TIMEOUT_MIN: Duration = Duration::from_millis(500);
/// Those whose node died come back within this time, not all at once.
const COME_BACK_WITHIN: Duration = Duration::from_millis(300);
/// No longer between two tries to be held again: the ttl runs.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// An instance that is listed as long as this is held, and taken away by [`Lease::close`].
#[derive(Debug)]
pub struct Lease {
    connection: Arc<Connection>,
    key: InstanceKey,
    registration: Registration,
    incarnation: u64,
    /// Of the content that holds, which is another than `registration` where somebody registered one in this life since; `None`: that one's.
    digest: Option<Hex>,
    owner: String,
    /// `None`: a fixed address, which sends no heartbeats, or nothing was said of it.
    renew_every: Option<Duration>,
    /// It is to be held by a connection: where one ends, another is opened.
    attaches: bool,
    /// The one that is open.
    attachment: Option<Attachment>,
}

/// What happened to a lease.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum HeldEvent {
    /// A heartbeat was answered.
    Renewed,
    /// A new connection holds it, in the place of one that ended.
    Attached,
    /// The registry did not know it any more; it is registered again.
    RegisteredAgain,
    /// No heartbeat could be delivered, or no connection opened; the next try is under way.
    Missed(Error),
}

impl Client {
    /// Registers an instance. Without an incarnation its life begins now; where a later life of it is known, it takes over from that.
    ///
    /// It is held by an open connection where the node offers that, else by heartbeats: see [`Lease::hold`].
    ///
    /// # Errors
    /// [`Error`]; nothing was changed.
    pub async fn register(&self, key: InstanceKey, registration: Registration) -> Result<Lease, Error> {
        if is_fixed(&registration) {
            return self.register_for_heartbeats(key, registration).await;
        }
        let mut begun = registration.clone();
        begun.incarnation = Some(registration.incarnation.unwrap_or_else(|| Clock::start().wall()));
        match attach(&self.connection, &key, &begun, registration.incarnation.is_none()).await {
            Ok(Attached { attachment, incarnation, digest, owner }) => {
                begun.incarnation = Some(incarnation);
                let connection = Arc::clone(&self.connection);
                let (registration, attachment, digest) = (begun, Some(attachment), Some(digest));
                Ok(Lease { connection, key, registration, incarnation, digest, owner, renew_every: None, attaches: true, attachment })
            }
            Err(error) if is_final(&error) => Err(error),
            // Nobody answers, or nobody can now, or it is not offered: the plain way says which.
            Err(_) => self.register_for_heartbeats(key, registration).await,
        }
    }

    /// The same for an instance that is held by heartbeats alone: where something on the way cuts connections that stay open.
    ///
    /// # Errors
    /// [`Error`]; nothing was changed.
    pub async fn register_for_heartbeats(&self, key: InstanceKey, mut registration: Registration) -> Result<Lease, Error> {
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
            digest: Some(registered.digest),
            owner: registered.owner.into_owned(),
            renew_every: registered.lease.renew_every_ms.map(to_pause),
            attaches: false,
            attachment: None,
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

    /// An open connection holds it, and no heartbeats are sent.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.attaches
    }

    /// How often a heartbeat is sent; `None`: never. Unless a connection holds it, it then stays listed until it is deregistered.
    #[must_use]
    pub fn renew_every(&self) -> Option<Duration> {
        self.renew_every
    }

    /// Keeps its connection open, or sends heartbeats, for ever, telling each one's fate; ends only when holding on makes no sense. A fixed address sends none: this waits.
    ///
    /// # Errors
    /// A newer life of the instance was registered, or the registry refuses this one for good. The lease is lost.
    pub async fn hold(&mut self, mut tell: impl FnMut(HeldEvent)) -> Error {
        let mut waits = backoff().without_max_times().build();
        let mut missed = None;
        loop {
            if self.attaches {
                if let Err(error) = self.stay_attached(&mut tell).await {
                    return error;
                }
                missed = Some(Duration::ZERO);
            }
            let Some(every) = self.renew_every else { break };
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

    /// Waits for its connection to end, and opens the next, for as long as nodes offer that. Once none does it is to be held by heartbeats.
    ///
    /// # Errors
    /// What will be answered the same way next time.
    async fn stay_attached(&mut self, tell: &mut impl FnMut(HeldEvent)) -> Result<(), Error> {
        let mut waits = backoff().without_max_times().build();
        loop {
            // It stays where it is while it is waited for: whoever stops waiting holds it all the same.
            if let Some(attachment) = &mut self.attachment {
                let ended = attachment.ended().await;
                self.attachment = None;
                match ended {
                    Ended::Goodbye(wait) => {
                        self.connection.turn_to_next();
                        tokio::time::sleep(wait).await;
                    }
                    Ended::Deregistered => {}
                    Ended::Lost(_) => {
                        self.connection.turn_to_next();
                        // Whoever was held by that node comes back now.
                        tokio::time::sleep(jittered(COME_BACK_WITHIN)).await;
                    }
                }
            }
            match Attachment::open(&self.connection, &self.key, &self.registration, false, self.answer_timeout()).await {
                Ok(Attached { attachment, digest, owner, .. }) => {
                    (self.attachment, self.digest, self.owner) = (Some(attachment), Some(digest), owner);
                    waits = backoff().without_max_times().build();
                    tell(HeldEvent::Attached);
                }
                Err(error) if is_final(&error) => return Err(error),
                Err(error) if attach::is_not_offered(&error) => {
                    // A heartbeat, not a registration: what was registered in this life meanwhile is to hold.
                    if let Ok(event) = self.beat().await {
                        self.attaches = false;
                        tell(event);
                        return Ok(());
                    }
                    tokio::time::sleep(waits.next().unwrap_or(RETRY_MAX)).await;
                }
                Err(error) => {
                    tell(HeldEvent::Missed(error));
                    tokio::time::sleep(waits.next().unwrap_or(RETRY_MAX).min(RETRY_MAX)).await;
                }
            }
        }
    }

    /// One heartbeat; registers again when the registry asks for that.
    async fn beat(&mut self) -> Result<HeldEvent, Error> {
        match self.renew().await {
            Ok(renewed) => Ok(self.note_renewed(renewed)),
            Err(error) if error.code() == Some("unknown_lease") => {
                // Its life may go on with another content, which somebody registered meanwhile: that holds, and this life never had a later one.
                if self.digest.take().is_some()
                    && let Ok(renewed) = self.renew().await
                {
                    return Ok(self.note_renewed(renewed));
                }
                let registered = put(&self.connection, &self.key, &self.registration, false, self.answer_timeout()).await?;
                self.digest = Some(registered.digest);
                self.owner = registered.owner.into_owned();
                self.renew_every = registered.lease.renew_every_ms.map(to_pause);
                Ok(HeldEvent::RegisteredAgain)
            }
            Err(error) => Err(error),
        }
    }

    fn note_renewed(&mut self, renewed: Renewed<'static>) -> HeldEvent {
        self.owner = renewed.owner.into_owned();
        self.renew_every = renewed.renew_every_ms.map(to_pause);
        HeldEvent::Renewed
    }

    async fn renew(&self) -> Result<Renewed<'static>, Error> {
        let heartbeat =
            Heartbeat { incarnation: Some(self.incarnation), digest: self.digest.map(|digest| digest.to_string()), status: None };
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

    /// Takes the instance away, unless a newer life of it is registered: when whoever follows its service has been told that it leaves, or
    /// after 5 s.
    ///
    /// # Errors
    /// [`Error`]; it stays listed until its lease is over.
    pub async fn close(self) -> Result<(), Error> {
        let client = Client { connection: self.connection };
        // Where nobody can say who has been told, it goes all the same.
        let _ = client.drain_life(&self.key, Some(self.incarnation), TOLD_WITHIN, true, true).await;
        client.deregister(&self.key, Some(self.incarnation)).await
    }
}

/// Opens a connection that holds it; over a later life where none was chosen: another host's clock was ahead when that began.
async fn attach(connection: &Connection, key: &InstanceKey, registration: &Registration, may_take_over: bool) -> Result<Attached, Error> {
    match Attachment::open(connection, key, registration, false, ANSWER_TIMEOUT).await {
        Err(error) if may_take_over && error.code() == Some("superseded") => {
            Attachment::open(connection, key, registration, true, ANSWER_TIMEOUT).await
        }
        other => other,
    }
}

/// Its provider sends no heartbeats, and holds it by nothing.
fn is_fixed(registration: &Registration) -> bool {
    matches!(&registration.ttl, Some(Span::Text(text)) if text == "none")
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
