//! Tools: what tests use that cargo does not have, libraries and generators of PyPI and npm. `tests/run` fetches them.

use std::path::PathBuf;

/// The folder of these tools, where `has` finds what is needed in it.
pub(crate) fn fetched(kind: &str, needed: &str, has: impl Fn(&PathBuf) -> bool) -> PathBuf {
    let variable = format!("MUSTER_TEST_{}", kind.to_uppercase());
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tools").join(kind);
    let folder = std::env::var_os(&variable).map_or_else(default, PathBuf::from);
    assert!(
        has(&folder),
        "{needed} is missing in {}: run `tests/run` or `tests/run cli`, which fetch it from PyPI and npm (cargo alone does not), or name a \
         folder that has it in {variable}",
        folder.display()
    );
    folder
}
