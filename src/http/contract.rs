//! The contract's closed sets and bounds, written into `/v1/openapi.json` from the constants by which the code itself decides.
//!
//! The shapes say which fields there are. What a field may be is said here once, by its name; with its schema where a name means several things.

use serde_json::{Map, Value, json};

use super::batch::OPS_MAX;
use super::consume::page::LIMIT_MAX;
use super::fault::FaultCode;
use super::problem::Code;
use super::said::{CheckWord, DIGEST_BYTES_MAX, OpWord};
use crate::model::{
    ADDRESS_BYTES_MAX, AUTHOR_BYTES_MAX, CHECK_COUNT_MAX, Cause, INCARNATION_NAMED_MAX, INSTANCE_PATTERN, Imposed, LABEL_PATTERN,
    METADATA_KEY_BYTES_MAX, METADATA_KEYS_MAX, METADATA_VALUE_BYTES_MAX, PATH_BYTES_MAX, PORT_NAME_BYTES_MAX, PORTS_MAX, REASON_BYTES_MAX,
    Reported, SERVICE_PATTERN, SUBSCRIBER_BYTES_MAX, Status, TAGS_MAX,
};
use crate::registry::{BusHealth, NODE_STATES};
use crate::units::DURATION_PATTERN;

/// Those of requests whose answers have to keep the bounds of requests.
const TAKEN: [&str; 6] = ["Registration", "Member", "Op", "Heartbeat", "Check", "SetOverride"];

/// Writes what is closed and what is bounded into a description.
pub(super) fn write_bounds(document: &mut Value) {
    if let Some(schemas) = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut) {
        for (name, schema) in schemas {
            write_schema(name, schema);
        }
    }
    for (path, item) in document["paths"].as_object_mut().into_iter().flatten() {
        let operations = item.as_object_mut().into_iter().flatten().map(|(_, operation)| operation);
        for parameter in operations.flat_map(|operation| parts_mut(operation, "parameters")) {
            let name = parameter["name"].as_str().unwrap_or_default().to_owned();
            if let Some(bounds) = of_parameter(path, &name) {
                merge(&mut parameter["schema"], bounds);
            }
        }
    }
}

/// The parts of a list that may be there. An index would put it there.
fn parts_mut<'a>(whole: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    whole.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

fn write_schema(name: &str, schema: &mut Value) {
    for part in parts_mut(schema, "allOf") {
        write_schema(name, part);
    }
    if name == "Span" {
        for part in parts_mut(schema, "oneOf").filter(|part| part["type"] == "string") {
            merge(part, json!({"pattern": format!("^(none|{DURATION_PATTERN})$")}));
        }
    }
    for (field, property) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        if let Some(bounds) = of_field(name, field) {
            merge(property, bounds);
        }
    }
}

/// What a field of a schema may be; `None`: anything of its type.
fn of_field(schema: &str, field: &str) -> Option<Value> {
    of_word(schema, field).or_else(|| of_name(schema, field)).or_else(|| of_content(schema, field))
}

/// Closed sets.
fn of_word(schema: &str, field: &str) -> Option<Value> {
    Some(match (schema, field) {
        ("Registration" | "Member" | "Op" | "Heartbeat", "status") | ("StatusDetail", "reported") => {
            one_of(Reported::ALL.map(Reported::as_str))
        }
        ("SetOverride" | "Override", "status") => one_of(Imposed::ALL.map(Imposed::as_str)),
        ("Instance" | "Renewed" | "OverriddenDetail" | "Removed", "status")
        | ("StatusDetail", "effective" | "seen")
        | ("Event", "from" | "to") => one_of(Status::ALL.map(Status::as_str)),
        ("Event" | "Detail" | "Removed" | "Notice", "cause") => one_of(Cause::ALL.map(Cause::as_str)),
        ("Check" | "CheckDetail", "kind") => one_of(CheckWord::ALL.map(|(word, _)| word)),
        ("Op", "op") => one_of(OpWord::ALL.map(|(word, _)| word)),
        ("Problem" | "OpResult", "code") => one_of(Code::ALL.iter().map(|code| code.as_str())),
        ("Fault", "code") => one_of(FaultCode::ALL.map(FaultCode::as_str)),
        ("Cluster", "bus") => one_of(BusHealth::ALL.map(BusHealth::as_str)),
        ("Cluster" | "Node" | "Leaving", "state") => one_of(NODE_STATES),
        ("Ack", "asked") => one_of(["peer", "all"]),
        ("Problem" | "OpResult", "status") => json!({"minimum": 100, "maximum": 599}),
        _ => return None,
    })
}

/// Names and places.
fn of_name(schema: &str, field: &str) -> Option<Value> {
    Some(match (schema, field) {
        ("Override" | "Node", "name") | (_, "namespace" | "node" | "owner" | "with" | "zone" | "region" | "by" | "cluster") => {
            json!({"pattern": LABEL_PATTERN})
        }
        (_, "service") => json!({"pattern": SERVICE_PATTERN}),
        ("Event", "instance") => json!({"pattern": INSTANCE_PATTERN}),
        (_, "id") if schema != "Event" => json!({"pattern": INSTANCE_PATTERN}),
        ("Registration" | "Member" | "Op" | "Instance", "address") => json!({"minLength": 1, "maxLength": ADDRESS_BYTES_MAX}),
        (_, "port") => json!({"minimum": 1, "maximum": u16::MAX}),
        (_, "ports") => json!({
            "maxProperties": PORTS_MAX,
            "propertyNames": {"minLength": 1, "maxLength": PORT_NAME_BYTES_MAX},
            "additionalProperties": {"minimum": 1, "maximum": u16::MAX},
        }),
        (_, "subscriber") => json!({"maxLength": SUBSCRIBER_BYTES_MAX}),
        _ => return None,
    })
}

/// Numbers, texts and digests.
fn of_content(schema: &str, field: &str) -> Option<Value> {
    let is_taken = TAKEN.contains(&schema);
    Some(match (schema, field) {
        (_, "weight") => json!({"minimum": 0, "maximum": u16::MAX}),
        (_, "incarnation") => json!({"minimum": 1, "maximum": INCARNATION_NAMED_MAX}),
        (_, "tags") => json!({"maxItems": TAGS_MAX, "items": {"minLength": 1, "maxLength": METADATA_KEY_BYTES_MAX, "pattern": "^[^,]*$"}}),
        (_, "metadata") => json!({
            "maxProperties": METADATA_KEYS_MAX,
            "propertyNames": {"minLength": 1, "maxLength": METADATA_KEY_BYTES_MAX},
            "additionalProperties": {"maxLength": METADATA_VALUE_BYTES_MAX},
        }),
        ("Check", "failures" | "successes") => json!({"minimum": 1, "maximum": CHECK_COUNT_MAX}),
        ("Check", "path") => json!({"pattern": "^/", "maxLength": PATH_BYTES_MAX}),
        ("Batch", "ops") => json!({"maxItems": OPS_MAX}),
        ("Attach", "instances") => json!({"minItems": 1, "maxItems": OPS_MAX}),
        (_, "digest") if is_taken => json!({"maxLength": DIGEST_BYTES_MAX}),
        (_, "digest" | "revision" | "view_digest" | "with_revision") => json!({"pattern": "^[0-9a-f]{32}$"}),
        (_, "epoch") => json!({"pattern": "^[0-9a-f]{16}$"}),
        (_, "at" | "changed_at" | "created_at" | "since") => json!({"format": "date-time"}),
        (_, "reason") => json!({"minLength": 1, "maxLength": REASON_BYTES_MAX}),
        (_, "author") => json!({"minLength": 1, "maxLength": AUTHOR_BYTES_MAX}),
        _ => return None,
    })
}

/// What a query key, a header or a part of a path may be.
fn of_parameter(path: &str, name: &str) -> Option<Value> {
    Some(match (path, name) {
        (_, "service") if path == "/v1/watch" => {
            let name = bare(SERVICE_PATTERN);
            json!({"items": {"pattern": format!("^(\\*|{name}(@[0-9a-f]{{32}})?)$")}})
        }
        (_, "service") => json!({"pattern": SERVICE_PATTERN}),
        (_, "id" | "instance") => json!({"pattern": INSTANCE_PATTERN}),
        ("/v1/watch" | "/v1/events" | "/v1/instances" | "/v1/services" | "/v1/overrides", "namespace") => {
            json!({"pattern": format!("^(\\*|{})$", bare(LABEL_PATTERN))})
        }
        (_, "namespace" | "name" | "with") => json!({"pattern": LABEL_PATTERN}),
        (_, "ack") => one_of(["local", "peer", "all"]),
        (_, "wait") if path.ends_with("/drain") => return None,
        (_, "ack_timeout" | "deadline" | "wait" | "since") => json!({"pattern": format!("^{DURATION_PATTERN}$")}),
        (_, "status") => json!({"pattern": any_of(&Status::ALL.map(Status::as_str))}),
        (_, "cause") => json!({"pattern": any_of(&Cause::ALL.map(Cause::as_str))}),
        ("/v1/watch", "detail") => one_of(["instances", "counts"]),
        ("/v1/instances", "detail") => one_of(["listed", "registration"]),
        (_, "limit") => json!({"minimum": 1, "maximum": LIMIT_MAX}),
        (_, "incarnation") => json!({"minimum": 1, "maximum": INCARNATION_NAMED_MAX}),
        (_, "client") => json!({"maxLength": SUBSCRIBER_BYTES_MAX}),
        _ => return None,
    })
}

fn one_of(words: impl IntoIterator<Item = &'static str>) -> Value {
    json!({"enum": words.into_iter().collect::<Vec<_>>()})
}

/// Words with commas between them.
fn any_of(words: &[&str]) -> String {
    let word = words.join("|");
    format!("^({word})(,({word}))*$")
}

/// A pattern, to be put into another.
fn bare(pattern: &str) -> &str {
    pattern.trim_start_matches('^').trim_end_matches('$')
}

/// Lays bounds over a schema. A set says more than a pattern, and a field that may be null may be that too.
fn merge(schema: &mut Value, bounds: Value) {
    let (Some(fields), Value::Object(bounds)) = (schema.as_object_mut(), bounds) else { return };
    for (key, bound) in bounds {
        match (key.as_str(), bound) {
            ("enum", Value::Array(mut words)) => {
                if is_nullable(fields) {
                    words.push(Value::Null);
                }
                fields.remove("pattern");
                fields.insert(key, Value::Array(words));
            }
            (_, bound @ Value::Object(_)) => merge(fields.entry(key).or_insert_with(|| json!({})), bound),
            (_, bound) => {
                fields.insert(key, bound);
            }
        }
    }
}

fn is_nullable(schema: &Map<String, Value>) -> bool {
    schema.get("type").and_then(Value::as_array).is_some_and(|types| types.iter().any(|name| name == "null"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Value {
        let mut document = serde_json::to_value(crate::http::openapi()).unwrap();
        write_bounds(&mut document);
        document
    }

    /// Every field of every schema, with the parts of those that are put together.
    fn fields(document: &Value) -> Vec<(String, String, Value)> {
        fn gather(name: &str, schema: &Value, into: &mut Vec<(String, String, Value)>) {
            schema["allOf"].as_array().into_iter().flatten().for_each(|part| gather(name, part, into));
            let properties = schema["properties"].as_object().into_iter().flatten();
            into.extend(properties.map(|(field, property)| (name.to_owned(), field.clone(), property.clone())));
        }
        let mut found = Vec::new();
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            gather(name, schema, &mut found);
        }
        found
    }

    #[test]
    fn closed_sets_are_enums_everywhere() {
        let document = document();
        for (schema, field, property) in fields(&document) {
            let name = format!("{schema}.{field}");
            let names = ["status", "cause", "kind", "code", "state", "bus", "op", "asked", "effective", "reported", "seen"];
            let is_text = property["type"] == "string" || property["type"] == json!(["string", "null"]);
            if is_text && names.contains(&field.as_str()) {
                assert!(property["enum"].is_array(), "{name} is open: {property}");
            }
        }
        let codes = &document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"];
        assert_eq!(codes.as_array().unwrap().len(), Code::ALL.len());
        let status = &document["components"]["schemas"]["Heartbeat"]["properties"]["status"];
        assert_eq!(status["enum"], json!(["starting", "up", null]), "{status}");
        assert!(status["pattern"].is_null());
    }

    #[test]
    fn nothing_is_added_but_bounds() {
        let (mut before, after) = (serde_json::to_value(crate::http::openapi()).unwrap(), document());
        assert!(!after.to_string().contains(":null"), "a list that is null is no OpenAPI");
        write_bounds(&mut before);
        write_bounds(&mut before);
        assert_eq!(before, after);
    }

    #[test]
    fn bounds_are_those_of_the_code() {
        let document = document();
        let schemas = &document["components"]["schemas"];
        let registration = &schemas["Registration"]["properties"];
        for (pointer, bound) in [
            ("/port/maximum", json!(65535)),
            ("/weight/maximum", json!(65535)),
            ("/metadata/maxProperties", json!(METADATA_KEYS_MAX)),
            ("/metadata/additionalProperties/maxLength", json!(METADATA_VALUE_BYTES_MAX)),
            ("/tags/items/maxLength", json!(METADATA_KEY_BYTES_MAX)),
            ("/ports/additionalProperties/minimum", json!(1)),
            ("/incarnation/maximum", json!(INCARNATION_NAMED_MAX)),
        ] {
            assert_eq!(registration.pointer(pointer), Some(&bound), "{pointer}");
        }
        assert_eq!(schemas["Batch"]["properties"]["ops"]["maxItems"], OPS_MAX);
        for (path, operation, parameter) in document["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
            let operations = item.as_object().unwrap().iter();
            operations.flat_map(move |(method, operation)| {
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                parameters.map(move |parameter| (path, method, parameter))
            })
        }) {
            if parameter["name"] == "limit" {
                assert_eq!(parameter["schema"]["maximum"], LIMIT_MAX, "{operation} {path}");
            }
        }
    }

    #[test]
    fn every_event_of_a_stream_is_described() {
        let document = document();
        let shapes = |schema: &str| -> Vec<String> {
            let any = document["components"]["schemas"][schema]["oneOf"].as_array().cloned().unwrap_or_default();
            let shapes = any.iter().map(|one| one["$ref"].as_str().unwrap_or_default().rsplit('/').next().unwrap().to_owned());
            shapes.filter(|shape| document["components"]["schemas"][shape].is_object()).collect()
        };
        assert_eq!(shapes("WatchEvent"), ["Snapshot", "Delta", "Unchanged", "Synced", "Notice", "Goodbye", "ServiceCounts"]);
        assert_eq!(shapes("AttachEvent"), ["Attached", "Held", "Goodbye", "Ping"]);
        assert_eq!(shapes("StreamEvent"), ["Event", "Gap", "Goodbye"]);
        for (path, method) in [("/v1/watch", "get"), ("/v1/watch", "post")] {
            let content = &document["paths"][path][method]["responses"]["200"]["content"];
            assert_eq!(content["text/event-stream"]["schema"]["$ref"], "#/components/schemas/WatchEvent", "{method}");
        }
    }

    #[test]
    fn events_and_history_are_described_as_json_and_as_a_stream() {
        let document = document();
        for path in ["/v1/events", "/v1/services/{service}/instances/{id}/history"] {
            let content = &document["paths"][path]["get"]["responses"]["200"]["content"];
            assert_eq!(content["application/json"]["schema"]["$ref"], "#/components/schemas/Events", "{path}");
            assert_eq!(content["text/event-stream"]["schema"]["$ref"], "#/components/schemas/StreamEvent", "{path}");
        }
    }
}
