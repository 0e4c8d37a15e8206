//! What a check finds.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde::Serialize;

/// Something that is in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// Which check.
    pub(super) check: &'static str,
    /// How much it matters.
    pub(super) severity: Severity,
    /// What was found.
    pub(super) what: String,
    /// Why it matters.
    pub(super) why: &'static str,
    /// The command that mends it, or what to do.
    pub(super) mend: String,
    /// What `--fix` does about it.
    #[serde(skip)]
    pub(super) fix: Option<Fix>,
}

impl Finding {
    /// Baton does not work so, or loses something.
    pub(super) fn error(
        check: &'static str,
        what: impl Into<String>,
        why: &'static str,
        mend: impl Into<String>,
    ) -> Self {
        Self { check, severity: Severity::Error, what: what.into(), why, mend: mend.into(), fix: None }
    }

    /// It works, and worse than it could, or not for long.
    pub(super) fn warning(
        check: &'static str,
        what: impl Into<String>,
        why: &'static str,
        mend: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(check, what, why, mend) }
    }

    /// The same, which `--fix` mends, with the command that does so.
    pub(super) fn fixed_by(self, fix: Fix) -> Self {
        Self { mend: fix.to_string(), fix: Some(fix), ..self }
    }
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    Error,
    Warning,
}

impl Severity {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
        }
    }
}

/// A mend that takes nothing away from anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fix {
    /// A setting below `/proc/sys/net` until the next start of the host.
    Setting(String, i64),
    /// A command.
    Run(Vec<&'static str>),
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting(path, value) => write!(f, "sysctl -w net/{path}={value}"),
            Self::Run(words) => f.write_str(&words.join(" ")),
        }
    }
}

impl Fix {
    /// Does it.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn apply(&self) -> Result<(), String> {
        match self {
            Self::Setting(path, value) => {
                let path = PathBuf::from("/proc/sys/net").join(path);
                fs::write(&path, value.to_string()).map_err(|cause| cause.to_string())
            }
            Self::Run(words) => {
                let [program, arguments @ ..] = words.as_slice() else { return Ok(()) };
                let output =
                    Command::new(program).args(arguments).output().map_err(|cause| cause.to_string())?;
                if output.status.success() {
                    Ok(())
                } else {
                    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
                }
            }
        }
    }
}
