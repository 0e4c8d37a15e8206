//! `batond.toml`: any text is a configuration or a list of mistakes that can be shown.

use std::path::Path;

use control::config::Config;

/// Runs one input.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(mistakes) = Config::parse("batond.toml", text, Path::new("/etc/baton")) {
        assert!(mistakes.iter().next().is_some(), "refused without a reason");
        assert!(!mistakes.report(false).is_empty());
    }
}
