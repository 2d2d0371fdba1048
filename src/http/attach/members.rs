//! Members: the body of an attachment, one instance or several; everything that is wrong with any of them is told at once.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use crate::config::LeasesConfig;
use crate::http::fault::{Fault, FaultCode, Faults};
use crate::http::problem::Problem;
use crate::http::provide::to_register;
use crate::http::said::{self, Bounded, Fields, Said, Text};
use crate::http::write::Write;
use crate::model::{InstanceKey, ServiceKey};
use crate::registry::Register;

/// How many instances one connection may hold; one more refuses all.
const MEMBERS_MAX: usize = 10_000;

/// Where several stand.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Several {
    instances: Bounded<Said, MEMBERS_MAX>,
}

/// Reads the members, in their order. What is wrong is left out and told.
///
/// # Errors
/// A [`Problem`] when the body is no JSON at all.
pub(super) fn read(
    body: &[u8],
    leases: &LeasesConfig,
    takeover: bool,
    write: Write,
    faults: &mut Faults,
) -> Result<Vec<Register>, Problem> {
    let members = read_all(body, faults)?;
    let mut keys = BTreeSet::new();
    let mut registers = Vec::with_capacity(members.len());
    for (at, said) in members {
        if faults.is_full() {
            break;
        }
        let Some(register) = to_member(said, &at, leases, takeover, write, faults) else { continue };
        if !keys.insert(register.key.clone()) {
            faults.push(Fault::pointer(&at, FaultCode::InvalidValue, "stands twice: one connection holds an instance once"));
        }
        registers.push(register);
    }
    Ok(registers)
}

/// Each with its place in the body: in one pass when all is well, else field by field.
fn read_all(body: &[u8], faults: &mut Faults) -> Result<Vec<(String, Said)>, Problem> {
    let place = |index: usize| format!("/instances/{index}");
    if let Ok(Several { instances: Bounded(instances) }) = serde_json::from_slice::<Several>(body)
        && !instances.is_empty()
        && instances.iter().all(|said| said.is_within(Fields::MEMBER))
    {
        return Ok(instances.into_iter().enumerate().map(|(index, said)| (place(index), said)).collect());
    }
    let tree = if body.is_empty() { Value::Null } else { said::tree(body)? };
    let Some(instances) = tree.get("instances") else {
        return Ok(vec![(String::new(), Said::read(body, Fields::MEMBER, faults)?)]);
    };
    let strays = tree.as_object().into_iter().flatten().filter(|(name, _)| *name != "instances");
    faults.extend(strays.map(|(name, _)| {
        Fault::pointer(format!("/{name}"), FaultCode::UnknownField, "stands beside `instances`, where nothing else may stand")
    }));
    let Some(instances) = instances.as_array().filter(|instances| !instances.is_empty()) else {
        faults.push(Fault::pointer("/instances", FaultCode::InvalidValue, "`instances` must be an array of at least one instance"));
        return Ok(Vec::new());
    };
    if instances.len() > MEMBERS_MAX {
        let detail = format!("`instances` may have at most {MEMBERS_MAX} entries");
        faults.push(Fault::pointer("/instances", FaultCode::InvalidValue, detail));
        return Ok(Vec::new());
    }
    let mut members = Vec::new();
    for (index, tree) in instances.iter().enumerate() {
        if faults.is_full() {
            break;
        }
        let at = place(index);
        let said = Said::diagnose(tree, Fields::MEMBER, &at, faults);
        members.push((at, said));
    }
    Ok(members)
}

fn to_member(mut said: Said, at: &str, leases: &LeasesConfig, takeover: bool, write: Write, faults: &mut Faults) -> Option<Register> {
    let namespace = said.namespace.take().map(|Text(namespace)| namespace).unwrap_or_default();
    let service = said::needed(said.service.take(), "service", at, faults);
    let id = said::needed(said.id.take(), "id", at, faults);
    let registration = said.take_registration(leases, at, faults);
    let (Text(service), Text(id)) = service.zip(id)?;
    let registration = registration?;
    if registration.ttl().is_none() {
        let detail = "`ttl` is `none`: nobody needs to hold a fixed address; register it with PUT";
        faults.push(Fault::pointer(format!("{at}/ttl"), FaultCode::InvalidValue, detail));
        return None;
    }
    let key = InstanceKey { service: ServiceKey { namespace, service }, id };
    Some(to_register(key, registration, &said, takeover, write))
}
