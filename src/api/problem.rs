//! Problems: the shape of every answer that is not a success (RFC 9457).

use serde::{Deserialize, Serialize};

/// The media type of a [`Problem`].
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong, for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `urn:muster:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words, the same every time.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What programs decide by.
    pub code: String,
    /// What went wrong this time, and what it did to the state.
    pub detail: String,
    /// The request's id, as in `x-request-id`.
    pub instance: String,
    /// Each thing that is wrong with the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Fault>,
    /// With `superseded`: the known incarnation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u64>,
    /// With `limit_reached` and `body_too_large`: the configuration key to raise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Fault {
    /// Where in the body: a JSON pointer (RFC 6901).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// Which part of the path, or which query key or header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// What programs decide by: `unknown_field`, `missing_field`, `unknown_parameter`, `repeated_parameter`, `invalid_value`.
    pub code: String,
    /// What it must be.
    pub detail: String,
}
