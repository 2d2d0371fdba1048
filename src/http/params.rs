//! What stands in many paths and queries, described once for `/v1/openapi.json`: with the same rules that the parsers hold.

use utoipa::IntoParams;

/// The service in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it is only described; `extract::PathNames` reads it")]
pub(super) struct ServicePath {
    /// The service's name.
    #[param(pattern = r"^[A-Za-z0-9]([A-Za-z0-9._:@-]{0,126}[A-Za-z0-9])?$", example = "user")]
    service: String,
}

/// The instance in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it is only described; `extract::PathNames` reads it")]
pub(super) struct InstancePath {
    /// The instance's id; a `/` in it is written `%2F`.
    #[param(pattern = r"^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}$", example = "user-1")]
    id: String,
}

/// The override in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it is only described; `extract::PathNames` reads it")]
pub(super) struct OverridePath {
    /// The override's name.
    #[param(pattern = r"^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$", example = "deploy-42")]
    name: String,
}

/// The namespace in a query.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described; `query::Query` reads it")]
pub(super) struct NamespaceKey {
    /// Default `default`.
    #[param(pattern = r"^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$", example = "default")]
    namespace: Option<String>,
}

/// Who must have applied a write.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described; `write::Write` reads it")]
pub(super) struct AckKeys {
    /// Who must have applied it before the answer: this node (default), one other node, or every alive one.
    #[param(pattern = r"^(local|peer|all)$", example = "local")]
    ack: Option<String>,
    /// How long to wait for that, at most 5m; default 2s. Past it the answer is 202 and says who has it.
    #[param(pattern = r"^[1-9][0-9]{0,4}(ms)?$|^[1-9][0-9]?s$|^[1-5]m$", example = "2s")]
    ack_timeout: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern_of(params: Vec<utoipa::openapi::path::Parameter>, name: &str) -> String {
        let param = params.into_iter().find(|param| param.name == name).unwrap();
        serde_json::to_value(param.schema).unwrap()["pattern"].as_str().unwrap().to_owned()
    }

    /// The patterns are words to readers and machines; that they are the parsers' own rules is held by their examples and ends.
    #[test]
    fn every_parameter_says_its_rule() {
        let nothing = || None;
        assert!(pattern_of(ServicePath::into_params(nothing), "service").contains("{0,126}"));
        assert!(pattern_of(InstancePath::into_params(nothing), "id").contains("{0,127}"));
        assert!(pattern_of(OverridePath::into_params(nothing), "name").contains("{0,61}"));
        assert!(pattern_of(NamespaceKey::into_params(nothing), "namespace").contains("{0,61}"));
    }
}
