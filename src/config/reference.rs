//! The reference: a file with every key, its default and what it means, all commented out.

use super::Config;
use super::key::{KEYS, sections};

/// Every key, commented out, with its default and what it means.
pub(super) fn reference() -> String {
    let defaults = Config::default();
    let mut lines = vec!["# Every key of muster's configuration, with its default.".to_owned()];
    for section in sections() {
        lines.extend([String::new(), format!("[{section}]")]);
        for key in KEYS.iter().filter(|key| key.section() == section) {
            let flag = key.flag.map_or(String::new(), |flag| format!(", {flag}"));
            // The default of a name is this machine's: no part of a file that is the same everywhere.
            let default = (key.show)(&defaults).filter(|_| key.path != "node.name");
            lines.push(format!("# {} ({}{flag})", key.help, key.variable()));
            lines.push(format!("# {} = {}", key.name(), to_toml(default.as_deref())));
        }
    }
    lines.join("\n") + "\n"
}

fn to_toml(value: Option<&str>) -> String {
    match value {
        None => "…".to_owned(),
        Some(text) if text.parse::<u64>().is_ok() || matches!(text, "true" | "false") => text.to_owned(),
        Some(text) => format!("{text:?}"),
    }
}
