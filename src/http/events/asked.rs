//! Asked: which events are wanted, and whether as a list or as a stream.

use std::collections::BTreeSet;

use axum::http::{HeaderMap, header};

use crate::http::App;
use crate::http::consume::page;
use crate::http::problem::{FaultCode, Problem};
use crate::http::query::Query;
use crate::http::watch::last_event_id;
use crate::model::{Cause, InstanceId, InstanceKey, Namespace, ServiceName};
use crate::node::{Event, EventId};

/// How far back `since` may reach: a year.
const SINCE_MS_MAX: u64 = 8760 * 3_600_000;
const LIMIT_DEFAULT: usize = 100;

/// Which events; each part `None`: all.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    namespace: Option<Namespace>,
    service: Option<ServiceName>,
    instance: Option<InstanceId>,
    causes: Option<BTreeSet<Cause>>,
    /// In ms since 1970.
    since: Option<u64>,
}

/// A list.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) wanted: Wanted,
    pub(super) limit: usize,
    pub(super) after: Option<EventId>,
}

/// Where a stream begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// With what happens from now on.
    Now,
    /// With all that is kept and wanted.
    Oldest,
    /// After this event.
    After(EventId),
    /// After one that nobody can find.
    Garbage,
}

#[derive(Debug)]
pub(super) enum Asked {
    Page(Page),
    Stream(Wanted, Begin),
}

impl Wanted {
    /// Of all instances.
    pub(super) fn read(query: &mut Query) -> Self {
        Self { namespace: page::namespaces(query), service: query.name("service"), instance: query.name("instance"), ..Self::default() }
    }

    /// Of one instance; `None`: the query holds why there is none.
    pub(super) fn of(key: Option<&InstanceKey>) -> Self {
        let Some(InstanceKey { service, id }) = key.cloned() else { return Self::default() };
        Self { namespace: Some(service.namespace), service: Some(service.service), instance: Some(id), ..Self::default() }
    }

    pub(super) fn wants(&self, event: &Event) -> bool {
        let service = &event.key.service;
        self.instance.as_ref().is_none_or(|id| *id == event.key.id)
            && self.service.as_ref().is_none_or(|name| *name == service.service)
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == service.namespace)
            && self.causes.as_ref().is_none_or(|causes| causes.contains(&event.cause))
            && self.since.is_none_or(|since| event.at >= since)
    }
}

impl Asked {
    /// Reads what lists and streams have in common, and what each has of its own.
    ///
    /// # Errors
    /// A [`Problem`] with everything that is wrong.
    pub(super) fn read(app: &App, headers: &HeaderMap, mut wanted: Wanted, mut query: Query) -> Result<Self, Problem> {
        wanted.causes = causes(&mut query);
        wanted.since = query.ms("since", 0..=SINCE_MS_MAX).map(|ms| app.node.clock().wall().saturating_sub(ms));
        if wants_stream(headers) {
            let begin = match last_event_id(&mut query, headers).map(|id| id.parse()) {
                Some(Ok(id)) => Begin::After(id),
                Some(Err(())) => Begin::Garbage,
                None if wanted.since.is_some() => Begin::Oldest,
                None => Begin::Now,
            };
            query.finish()?;
            return Ok(Self::Stream(wanted, begin));
        }
        let limit = query.number("limit", 1..=page::LIMIT_MAX).map_or(LIMIT_DEFAULT, |limit| limit as usize);
        let after = page::after(&mut query, |text| text.parse().ok());
        query.finish()?;
        Ok(Self::Page(Page { wanted, limit, after }))
    }
}

/// A comma means any of.
fn causes(query: &mut Query) -> Option<BTreeSet<Cause>> {
    let text = query.one("cause")?;
    let mut causes = BTreeSet::new();
    for word in text.split(',') {
        if let Ok(cause) = word.parse() {
            causes.insert(cause);
        } else {
            let known = Cause::ALL.map(Cause::as_str);
            let guess = crate::nearest::nearest(word, known).map_or_else(String::new, |guess| format!("; did you mean `{guess}`?"));
            let shown = crate::http::problem::shown(word).into_owned();
            query.fault("cause", FaultCode::InvalidValue, format!("may name {}, not `{shown}`{guess}", known.join(", ")));
        }
    }
    Some(causes)
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let kinds = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    kinds.map(|kind| kind.split(';').next().unwrap_or_default().trim()).any(|kind| kind.eq_ignore_ascii_case("text/event-stream"))
}
