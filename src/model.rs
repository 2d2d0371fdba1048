//! The nouns: names, instances, statuses, causes, versions, selections.
//!
//! Everything here is parsed once, at a door, and is bounded and valid from then on: inside nobody checks again.

mod address;
mod cause;
mod instance;
mod name;
mod overrides;
mod selection;
mod status;
mod subscriber;
mod text;
mod version;

pub use address::{ADDRESS_BYTES_MAX, Address};
pub use cause::Cause;
pub use instance::{
    CHECK_COUNT_MAX, Check, CheckKind, Listed, METADATA_KEY_BYTES_MAX, METADATA_KEYS_MAX, METADATA_VALUE_BYTES_MAX, PATH_BYTES_MAX,
    PORT_NAME_BYTES_MAX, PORTS_MAX, Port, RECORD_BYTES_HARD_MAX, Registration, RegistrationDraft, TAGS_MAX, Ttl, Violation, WEIGHT_DEFAULT,
};
pub use name::{
    Cluster, INSTANCE_PATTERN, InstanceId, InstanceKey, LABEL_PATTERN, NameError, Namespace, NodeName, OverrideName, Region,
    SERVICE_PATTERN, ServiceKey, ServiceName, Zone, odd_character,
};
pub use overrides::{
    AUTHOR_BYTES_MAX, Breadth, EXPIRES_IN_MS_MAX, Imposed, OVERRIDE_BYTES_MAX, Override, OverrideDraft, OverrideKey, REASON_BYTES_MAX,
};
pub use selection::{SELECTION_TERMS_MAX, Selection, SelectionDraft, SelectionError};
pub use status::{Reported, Status};
pub use subscriber::{SUBSCRIBER_BYTES_MAX, Subscriber, subscriber_name};
pub use version::{Epoch, INCARNATION_MAX, INCARNATION_NAMED_MAX, Incarnation, Life, Seq, Version};
