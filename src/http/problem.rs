//! Problems: how a handler says no. The edge turns them into `application/problem+json`, with the request's id in them.

use std::borrow::Cow;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

pub use super::fault::{Fault, FaultCode};

use super::fault::{FAULTS_MAX, Faults};
use crate::api;
use crate::model::{Incarnation, InstanceKey};
use crate::node::Refused;
use crate::registry::Refusal;

/// How soon it is worth asking a node again that is warming, leaving or overloaded.
const RETRY_AFTER_S: u32 = 1;

/// A refusal in the making. As a response it is empty and carries itself along, for the edge to finish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem(Box<Told>);

/// What a problem tells. Behind a pointer, so that what goes well need not make room for it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    code: Code,
    detail: Cow<'static, str>,
    errors: Vec<Fault>,
    incarnation: Option<Incarnation>,
    key: Option<&'static str>,
    header: Option<(HeaderName, HeaderValue)>,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $word:literal, $status:ident, $title:literal;)*) => {
        /// What programs decide by.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $code,)* }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$code,)*];

            /// The word of the API.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$code => $word,)* }
            }

            /// Its HTTP status.
            #[must_use]
            pub fn status(self) -> StatusCode {
                match self { $(Self::$code => StatusCode::$status,)* }
            }

            /// In words, the same every time.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$code => $title,)* }
            }
        }
    };
}

codes! {
    /// The body is no JSON.
    InvalidJson = "invalid_json", BAD_REQUEST, "Invalid JSON";
    /// The path, the query, a header or a field breaks a rule.
    InvalidRequest = "invalid_request", BAD_REQUEST, "Invalid request";
    /// A web page of another origin wanted to write.
    ForeignOrigin = "foreign_origin", FORBIDDEN, "Foreign origin";
    /// There is no such path.
    UnknownRoute = "unknown_route", NOT_FOUND, "Unknown route";
    /// No such instance is listed.
    UnknownInstance = "unknown_instance", NOT_FOUND, "Unknown instance";
    /// There is no such lease: register (again).
    UnknownLease = "unknown_lease", NOT_FOUND, "Unknown lease";
    /// There is no such override.
    UnknownOverride = "unknown_override", NOT_FOUND, "Unknown override";
    /// No such node is known.
    UnknownNode = "unknown_node", NOT_FOUND, "Unknown node";
    /// The path is known, but not with this method.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "Method not allowed";
    /// The body did not arrive in time.
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, "Request timeout";
    /// A later life of the instance is known.
    Superseded = "superseded", CONFLICT, "Superseded";
    /// The node is heard, and cannot be forgotten.
    NodeAlive = "node_alive", CONFLICT, "Node alive";
    /// The body is larger than is taken.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, "Body too large";
    /// The address is longer than is read.
    UriTooLong = "uri_too_long", URI_TOO_LONG, "Address too long";
    /// The request's head is larger than is read.
    HeadTooLarge = "head_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, "Head too large";
    /// The body is not said to be JSON.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "Unsupported media type";
    /// The node does not know enough yet.
    Warming = "warming", SERVICE_UNAVAILABLE, "Warming";
    /// The node stops: ask another.
    Leaving = "leaving", SERVICE_UNAVAILABLE, "Leaving";
    /// The node has more to do than it can.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "Overloaded";
    /// The node's task does not turn: ask another.
    Stalled = "stalled", SERVICE_UNAVAILABLE, "Stalled";
    /// Another node, which has to be asked, does not answer in time.
    UnreachableNode = "unreachable_node", GATEWAY_TIMEOUT, "Unreachable node";
    /// A bound is reached.
    LimitReached = "limit_reached", INSUFFICIENT_STORAGE, "Limit reached";
    /// The node has a defect.
    Internal = "internal", INTERNAL_SERVER_ERROR, "Internal error";
}

impl Problem {
    /// A problem with nothing more to it than a sentence.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let header = match code {
            Code::Warming | Code::Leaving | Code::Overloaded | Code::Stalled => {
                Some((header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S)))
            }
            _ => None,
        };
        Self(Box::new(Told { code, detail: detail.into(), errors: Vec::new(), incarnation: None, key: None, header }))
    }

    /// Everything that is wrong with a request, at once.
    #[must_use]
    pub fn invalid(errors: Vec<Fault>) -> Self {
        let what = if errors.iter().all(|fault| fault.parameter.is_some()) { "parameters" } else { "fields" };
        let detail = match errors.as_slice() {
            [one] => format!("{}; nothing was changed.", one.detail),
            many if many.len() >= FAULTS_MAX => format!("{} {what} or more are wrong; nothing was changed.", many.len()),
            many => format!("{} {what} are wrong; nothing was changed.", many.len()),
        };
        let mut problem = Self::new(Code::InvalidRequest, detail);
        problem.0.errors = errors;
        problem
    }

    /// Nothing, or the refusal that tells everything that was found wrong.
    ///
    /// # Errors
    /// A [`Problem`] when anything was.
    pub fn unless_empty(faults: Faults) -> Result<(), Self> {
        if faults.is_empty() { Ok(()) } else { Err(Self::invalid(faults.into())) }
    }

    /// A defect of ours: something could not be read, and nothing says why.
    pub(super) fn unexplained() -> Self {
        Self::new(Code::Internal, "The request could not be read, and nothing says why; nothing was changed.")
    }

    /// With the incarnation that is known.
    #[must_use]
    pub fn with_incarnation(mut self, incarnation: Incarnation) -> Self {
        self.0.incarnation = Some(incarnation);
        self
    }

    /// With the configuration key that sets the bound.
    #[must_use]
    pub fn with_key(mut self, key: &'static str) -> Self {
        self.0.key = Some(key);
        self
    }

    /// Of which of several instances it is told.
    fn about(mut self, key: &InstanceKey) -> Self {
        self.0.detail = format!("`{}` of service `{}`: {}", key.id, key.service, self.0.detail).into();
        self
    }

    /// What programs decide by.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What went wrong this time.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// Each thing that is wrong.
    #[must_use]
    pub fn errors(&self) -> &[Fault] {
        &self.0.errors
    }

    /// The incarnation that is known.
    #[must_use]
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.0.incarnation
    }

    /// The shape that is sent, about the request of this id.
    #[must_use]
    pub fn into_body(self, request_id: &str) -> api::problem::Problem {
        api::problem::Problem {
            kind: format!("urn:muster:problem:{}", self.0.code.as_str()),
            title: self.0.code.title().to_owned(),
            status: self.0.code.status().as_u16(),
            code: self.0.code.as_str().to_owned(),
            detail: self.0.detail.into_owned(),
            instance: request_id.to_owned(),
            errors: self.0.errors,
            incarnation: self.0.incarnation.map(Incarnation::get),
            key: self.0.key.map(str::to_owned),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        let mut response = self.0.code.status().into_response();
        response.headers_mut().extend(self.0.header.take());
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::ByRegistry(refusal) => refusal.into(),
            Refused::Member(key, refusal) => Self::from(refusal).about(&key),
            Refused::Overloaded => Self::new(Code::Overloaded, "The node has more to do than it can; nothing was changed."),
            Refused::Stopped => Self::new(Code::Leaving, "The node has stopped; nothing was changed. Ask another."),
            Refused::Stalled => Self::new(Code::Stalled, "The node's task does not turn; nothing was changed. Ask another."),
            Refused::Unanswered => Self::new(
                Code::Stalled,
                "The node's task does not turn: this may still be done once it does, or never. Ask again, at another.",
            ),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownLease => Self::new(Code::UnknownLease, "No such instance is registered, or it must say again what it is: register."),
            Refusal::UnknownInstance => Self::new(Code::UnknownInstance, "No such instance is listed; nothing was changed."),
            Refusal::UnknownOverride => Self::new(Code::UnknownOverride, "No override of this name holds; nothing was changed."),
            Refusal::Superseded { incarnation } => Self::new(
                Code::Superseded,
                format!("Incarnation {incarnation} is known, or was deregistered by name; nothing was changed. Use a higher one, or takeover=true."),
            )
            .with_incarnation(incarnation),
            Refusal::Warming => Self::new(Code::Warming, "The node does not know enough yet; nothing was changed. Ask again, or ask another."),
            Refusal::Leaving => Self::new(Code::Leaving, "The node is stopping; nothing was changed. Ask another."),
            Refusal::NameTaken => Self::new(
                Code::Leaving,
                "Another node runs under this node's name, so this one takes no writes; nothing was changed. \
                 Ask another, and give each node a name of its own (--name).",
            ),
            Refusal::UnknownNode(node) => Self::new(Code::UnknownNode, format!("No node `{node}` is known here; `/v1/cluster` lists those that are.")),
            Refusal::UnreachableNode(node) => Self::new(Code::UnreachableNode, format!("Node `{node}` did not answer in time.")),
            Refusal::NodeAlive(node) => Self::new(
                Code::NodeAlive,
                format!("Node `{node}` is heard; nothing was changed. Stop it first, or let it leave (`POST /v1/cluster/leave`)."),
            ),
            Refusal::Busy => Self::new(Code::Overloaded, "As many of these as a node takes are under way. Ask again in a moment."),
            Refusal::LimitReached { key, max } => {
                Self::new(Code::LimitReached, format!("`{key}` is {max} and is reached; nothing was changed. Renewals go on.")).with_key(key)
            }
        }
    }
}

/// As much of a text from outside as an answer may carry back.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    const SHOWN_CHARS_MAX: usize = 64;
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}
