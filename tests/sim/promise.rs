//! Promises: what the protocol says and the registry does not do yet. A check that waits for one asks here; it holds from the day on which
//! its promise is kept.

/// Self-preservation: many do not expire at once, and a service's last instance does not while anything is unclear.
pub(crate) const PRESERVES: bool = false;
/// Adoption: the records of a node that is gone are another's, so nothing stays listed for want of an owner.
pub(crate) const ADOPTS: bool = false;
