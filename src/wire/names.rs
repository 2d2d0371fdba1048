//! Names out of a frame: parsed by the model's own parsers, and one copy of those that come again and again.

use std::borrow::Borrow;
use std::str::FromStr;

use super::Rejected;
use crate::model::{NameError, Namespace, NodeName, Region, ServiceName, Zone};

/// The names a frame's records share: neighbours in a frame mostly are of one service and one owner, and then hold one allocation together.
pub(super) struct Names {
    pub(super) namespace: Recent<Namespace>,
    pub(super) service: Recent<ServiceName>,
    pub(super) node: Recent<NodeName>,
    pub(super) region: Recent<Region>,
    pub(super) zone: Recent<Zone>,
}

impl Names {
    /// `origin` is the node that most will be about.
    pub(super) fn new(origin: &NodeName) -> Self {
        Self {
            namespace: Recent(None),
            service: Recent(None),
            node: Recent(Some(origin.clone())),
            region: Recent(None),
            zone: Recent(None),
        }
    }
}

/// Remembers the last name it parsed.
pub(super) struct Recent<T>(Option<T>);

impl<T: Clone + Borrow<str> + FromStr<Err = NameError>> Recent<T> {
    pub(super) fn parse(&mut self, text: &str) -> Result<T, Rejected> {
        if let Some(known) = self.0.as_ref().filter(|known| (*known).borrow() == text) {
            return Ok(known.clone());
        }
        let name = parse::<T>(text)?;
        self.0 = Some(name.clone());
        Ok(name)
    }
}

/// A name that is not likely to come again.
pub(super) fn parse<T: FromStr<Err = NameError>>(text: &str) -> Result<T, Rejected> {
    text.parse::<T>().map_err(|error| Rejected::Invalid(error.what))
}
