//! The package as a user has it, and Python programs that import it.

pub(crate) mod documented;

use std::env;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use agent::control_socket::fake::FakeStack;
use tempfile::TempDir;

/// Debian's own Python.
const PYTHON: &str = "/usr/bin/python3";

/// A stack, and a directory with the package.
pub(crate) struct Host {
    pub(crate) stack: FakeStack,
    directory: TempDir,
}

impl Host {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let test = env::current_exe().expect("this test has a path");
        let library = test.parent().expect("in a directory").join("libbaton_python.so");
        let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("install");
        let status = Command::new(install).arg(directory.path()).arg(library).stdout(Stdio::null()).status();
        assert!(status.expect("app/python/install runs").success());
        let stack = FakeStack::start(&directory.path().join("applications.sock")).expect("a stack");
        Self { stack, directory }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A command that runs a program.
    pub(crate) fn python(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(PYTHON);
        command.arg(program).args(arguments).stdin(Stdio::null());
        command.env("PYTHONPATH", self.path()).env("BATON_CONTROL_SOCKET", self.stack.path());
        command
    }

    /// Runs a program to its end.
    pub(crate) fn run(&self, program: &Path, arguments: &[&str]) -> Output {
        self.python(program, arguments).output().expect("Python runs")
    }

    /// Starts a program.
    pub(crate) fn spawn(&self, program: &Path, arguments: &[&str]) -> Running {
        Running::of(&mut self.python(program, arguments))
    }

    /// Whether Python finds a module; if not, says that what needs it is skipped.
    pub(crate) fn has(&self, module: &str) -> bool {
        let found = Command::new(PYTHON).args(["-c", &format!("import {module}")]).output();
        let found = found.expect("Python runs").status.success();
        if !found {
            eprintln!("skipped: {PYTHON} has no {module}: install Debian's (scripts/packages)");
        }
        found
    }
}

/// A program that is killed when it is no longer needed.
pub(crate) struct Running(Child);

impl Running {
    /// Starts it.
    pub(crate) fn of(command: &mut Command) -> Self {
        Self(command.spawn().expect("it starts"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
