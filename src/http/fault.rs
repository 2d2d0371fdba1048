//! Faults: each thing that is wrong with a request, with its place; gathered so that all are told at once, up to a number worth telling.

pub use crate::api::problem::Fault;

use crate::model::{NameError, Violation};

/// How many faults one answer lists: enough to mend a request, too few to make looking for them an attack.
pub(super) const FAULTS_MAX: usize = 64;

/// What was found wrong so far. Once it is full, who looks for more may stop.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// One more; past the number worth telling it is let go.
    pub fn push(&mut self, fault: Fault) {
        if !self.is_full() {
            self.0.push(fault);
        }
    }

    /// No more will be told.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0.len() >= FAULTS_MAX
    }

    /// Nothing was found wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many were found, as far as they are told.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Something was found wrong at this place in the body.
    #[must_use]
    pub fn has(&self, pointer: &str) -> bool {
        self.0.iter().any(|fault| fault.pointer.as_deref() == Some(pointer))
    }
}

impl From<Faults> for Vec<Fault> {
    fn from(faults: Faults) -> Self {
        faults.0
    }
}

impl Extend<Fault> for Faults {
    fn extend<T: IntoIterator<Item = Fault>>(&mut self, faults: T) {
        let room = FAULTS_MAX - self.0.len();
        self.0.extend(faults.into_iter().take(room));
    }
}

impl IntoIterator for Faults {
    type Item = Fault;
    type IntoIter = std::vec::IntoIter<Fault>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Fault {
    /// Something is wrong with the path, the query or a header.
    #[must_use]
    pub fn parameter(parameter: impl Into<String>, code: FaultCode, detail: impl Into<String>) -> Self {
        Self { pointer: None, parameter: Some(parameter.into()), code: code.as_str().to_owned(), detail: detail.into() }
    }

    /// Something is wrong in the body, at this JSON pointer.
    #[must_use]
    pub fn pointer(pointer: impl Into<String>, code: FaultCode, detail: impl Into<String>) -> Self {
        Self { pointer: Some(pointer.into()), parameter: None, code: code.as_str().to_owned(), detail: detail.into() }
    }

    /// The same fault, where the body it was found in stands inside another one.
    #[must_use]
    pub fn under(mut self, at: &str) -> Self {
        if let Some(pointer) = &mut self.pointer {
            pointer.insert_str(0, at);
        }
        self
    }

    /// A name in the path or the query breaks its rule.
    #[must_use]
    pub fn name(parameter: &str, error: &NameError) -> Self {
        Self::parameter(parameter, FaultCode::InvalidValue, format!("`{parameter}`: {}", error.in_full()))
    }
}

impl From<Violation> for Fault {
    fn from(violation: Violation) -> Self {
        let detail = format!("`{}` {}", violation.pointer.trim_start_matches('/'), violation.rule);
        Self::pointer(violation.pointer, FaultCode::InvalidValue, detail)
    }
}

/// How a part of a request is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultCode {
    /// No such field.
    UnknownField,
    /// A field that is needed is not there.
    MissingField,
    /// No such query key.
    UnknownParameter,
    /// A query key stands more than once where only once makes sense.
    RepeatedParameter,
    /// The value breaks a rule.
    InvalidValue,
}

impl FaultCode {
    /// Every code.
    pub const ALL: [Self; 5] =
        [Self::UnknownField, Self::MissingField, Self::UnknownParameter, Self::RepeatedParameter, Self::InvalidValue];

    /// The word of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownField => "unknown_field",
            Self::MissingField => "missing_field",
            Self::UnknownParameter => "unknown_parameter",
            Self::RepeatedParameter => "repeated_parameter",
            Self::InvalidValue => "invalid_value",
        }
    }
}
