//! Reading a frame: names go through the model's own parsers, one copy serves those that come again and again, and what breaks a rule is noted.

use std::borrow::Borrow;
use std::str::FromStr;

use super::{Invalid, LeftOut};
use crate::model::{NameError, Namespace, NodeName, Region, Seq, ServiceName, Zone};

/// What is known while a frame is read. Neighbours in a frame mostly are of one service and one owner: they hold one allocation together.
pub(super) struct Reading {
    pub(super) namespace: Recent<Namespace>,
    pub(super) service: Recent<ServiceName>,
    pub(super) node: Recent<NodeName>,
    pub(super) region: Recent<Region>,
    pub(super) zone: Recent<Zone>,
    /// Records that broke a rule.
    pub(super) left_out: Vec<LeftOut>,
}

impl Reading {
    /// `origin` is the node that most will be about.
    pub(super) fn new(origin: &NodeName) -> Self {
        Self { node: Recent(Some(origin.clone())), ..Self::of_nobody() }
    }

    /// No node is likelier than another.
    pub(super) fn of_nobody() -> Self {
        Self {
            namespace: Recent(None),
            service: Recent(None),
            node: Recent(None),
            region: Recent(None),
            zone: Recent(None),
            left_out: Vec::new(),
        }
    }

    /// Takes those of many that keep the rules; of the others, each with its seq, only that they were there.
    pub(super) fn sound<T, U>(
        &mut self,
        items: impl IntoIterator<Item = (Seq, T)>,
        read: impl Fn(T, &mut Self) -> Result<U, Invalid>,
    ) -> Vec<U> {
        let mut sound = Vec::new();
        for (seq, item) in items {
            match read(item, self) {
                Ok(item) => sound.push(item),
                Err(Invalid(what)) => self.left_out.push(LeftOut { seq, what }),
            }
        }
        sound
    }
}

/// Remembers the last name it parsed.
pub(super) struct Recent<T>(Option<T>);

impl<T: Clone + Borrow<str> + FromStr<Err = NameError>> Recent<T> {
    pub(super) fn parse(&mut self, text: &str) -> Result<T, Invalid> {
        if let Some(known) = self.0.as_ref().filter(|known| (*known).borrow() == text) {
            return Ok(known.clone());
        }
        let name = parse::<T>(text)?;
        self.0 = Some(name.clone());
        Ok(name)
    }
}

/// A name that is not likely to come again.
pub(super) fn parse<T: FromStr<Err = NameError>>(text: &str) -> Result<T, Invalid> {
    text.parse::<T>().map_err(|error| Invalid(error.what))
}
