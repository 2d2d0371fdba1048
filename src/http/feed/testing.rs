//! Small views for the tests of this folder.

use std::sync::Arc;

use super::delivery::{Delivery, Receipt};
use crate::model::{
    Address, Cause, InstanceId, Listed, Namespace, Port, Registration, RegistrationDraft, ServiceKey, ServiceName, Status, Subscriber, Ttl,
    Zone,
};
use crate::registry::View;

pub(in crate::http) fn service(name: &str) -> ServiceKey {
    ServiceKey { namespace: Namespace::default(), service: ServiceName::parse(name).unwrap() }
}

pub(in crate::http) fn listed(id: &str, status: Status, weight: u16, zone: &str) -> Listed {
    let mut draft = RegistrationDraft::new(Address::parse("10.0.0.1").unwrap(), Port::new(80).unwrap(), Ttl::from_ms(15_000).unwrap());
    draft.zone = Some(Zone::parse(zone).unwrap());
    let registration = Arc::new(Registration::new(draft).unwrap());
    Listed { id: InstanceId::parse(id).unwrap(), registration, status, weight, cause: Cause::Registered }
}

/// A view of these instances, each with a weight, all up.
pub(in crate::http) fn view(instances: &[(&str, u16)]) -> Arc<View> {
    let mut view = View::default();
    for (id, weight) in instances {
        let listed = listed(id, Status::Up, *weight, "a");
        view.set(&listed.id.clone(), Some(listed), Cause::Registered);
    }
    Arc::new(view)
}

/// A delivery that one subscriber owes a receipt to.
pub(in crate::http) fn delivery_to_one() -> (Delivery, Receipt) {
    Delivery::to_one(Subscriber { name: None, address: ([127, 0, 0, 1], 1).into(), since: 0 })
}
