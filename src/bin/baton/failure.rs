//! What went wrong, and the exit code.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use control::runtime::api::Problem;

/// Why a command was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There is no such socket.
    NoSocket(PathBuf),
    /// The socket can't be used.
    Socket(PathBuf, io::Error),
    /// The conversation broke off.
    Talk(PathBuf, String),
    /// batond says no.
    Refused(Problem),
    /// The answer, which says that what was ordered was not done, or not wholly. It is printed as any answer.
    Shown(String),
    /// Anything else that a person can mend, in full.
    Text(String),
    /// Standard output can't be written.
    Output(io::Error),
}

impl Failure {
    /// What is printed, with a line end.
    pub(crate) fn text(&self) -> String {
        match self {
            Failure::NoSocket(path) => format!(
                "error: no admin socket {}\n  Is batond running on this host? Its socket is `admin.socket` in batond.toml; \
                 name another with --socket.\n",
                path.display()
            ),
            Failure::Socket(path, e) if e.kind() == io::ErrorKind::PermissionDenied => format!(
                "error: no permission to use {}\n  Run baton as root or as a member of the socket's group.\n",
                path.display()
            ),
            Failure::Socket(path, e) if e.kind() == io::ErrorKind::ConnectionRefused => format!(
                "error: no process listens on {}\n  batond has stopped without removing it; start it again, or name another \
                 with --socket.\n",
                path.display()
            ),
            Failure::Socket(path, e) => {
                format!("error: cannot use the admin socket {}: {e}\n", path.display())
            }
            Failure::Talk(path, e) => format!("error: no answer from {}: {e}\n", path.display()),
            Failure::Refused(problem) if problem.mistakes.is_empty() => format!("error: {}\n", problem.error),
            Failure::Refused(problem) => {
                let lines = problem
                    .mistakes
                    .iter()
                    .map(|m| format!("  {}:{}: {}; {}\n", m.line, m.column, m.what, m.fix));
                let count = problem.mistakes.len();
                let s = if count == 1 { "" } else { "s" };
                format!(
                    "error: the file has {count} mistake{s}, nothing changed\n{}",
                    lines.collect::<String>()
                )
            }
            Failure::Shown(text) => text.clone(),
            Failure::Text(text) => format!("{}\n", text.trim_end()),
            Failure::Output(e) => format!("error: cannot write the output: {e}\n"),
        }
    }

    /// What is printed with `--json`, with a line end.
    pub(crate) fn json(&self) -> String {
        let problem = match self {
            Failure::Refused(problem) => problem,
            other => &Problem { error: other.text().trim_end().to_owned(), mistakes: Vec::new() },
        };
        serde_json::to_string_pretty(problem).unwrap_or_else(|e| e.to_string()) + "\n"
    }

    /// The process's exit code: 1 refused, 3 no answer (2 is clap's, for wrong usage).
    pub(crate) fn code(&self) -> ExitCode {
        match self {
            Failure::NoSocket(_) | Failure::Socket(..) | Failure::Talk(..) => ExitCode::from(3),
            Failure::Refused(_) | Failure::Shown(_) | Failure::Text(_) | Failure::Output(_) => {
                ExitCode::from(1)
            }
        }
    }
}
