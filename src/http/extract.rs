//! What stands in a request's head: the names in its path, and when it arrived.

use std::str::FromStr;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;

use super::App;
use super::problem::{Code, Fault, Problem};
use super::query::Query;
use crate::model::{InstanceId, InstanceKey, NameError, NodeName, OverrideKey, ServiceKey, ServiceName};
use crate::registry::Mono;

/// When the request's head had been read: before its body, so that a slow body does not lengthen a lease.
/// To be the first argument of a handler.
#[derive(Debug, Clone, Copy)]
pub struct Arrived(pub Mono);

impl FromRequestParts<App> for Arrived {
    type Rejection = std::convert::Infallible;
    async fn from_request_parts(_: &mut Parts, app: &App) -> Result<Self, Self::Rejection> {
        Ok(Self(app.node.clock().mono()))
    }
}

/// The names in the path, decoded but not yet held against their rules: that is done together with the query, so that all faults are told at once.
#[derive(Debug)]
pub struct PathNames(RawPathParams);

impl PathNames {
    /// The service of the path, in the query's namespace; `None`: the query now holds why not.
    pub fn service(&self, query: &mut Query) -> Option<ServiceKey> {
        let namespace = query.namespace();
        let service: Option<ServiceName> = self.name("service", query);
        Some(ServiceKey { namespace, service: service? })
    }

    /// The instance of the path, in the query's namespace; `None`: the query now holds why not.
    pub fn instance(&self, query: &mut Query) -> Option<InstanceKey> {
        let (service, id): (_, Option<InstanceId>) = (self.service(query), self.name("id", query));
        Some(InstanceKey { service: service?, id: id? })
    }

    /// The override of the path, in the query's namespace; `None`: the query now holds why not.
    pub fn override_key(&self, query: &mut Query) -> Option<OverrideKey> {
        let namespace = query.namespace();
        Some(OverrideKey { namespace, name: self.name("name", query)? })
    }

    /// The node of the path; `None`: the query now holds why not.
    pub fn node(&self, query: &mut Query) -> Option<NodeName> {
        self.name("name", query)
    }

    fn name<T: FromStr<Err = NameError>>(&self, parameter: &str, query: &mut Query) -> Option<T> {
        let (_, text) = self.0.iter().find(|(name, _)| *name == parameter)?;
        text.parse().map_err(|error| query.add([Fault::name(parameter, &error)])).ok()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PathNames {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        RawPathParams::from_request_parts(parts, state)
            .await
            .map(Self)
            .map_err(|_| Problem::new(Code::InvalidRequest, "A name in the path is not UTF-8 when decoded; nothing was changed."))
    }
}
