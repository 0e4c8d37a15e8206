//! Builds C programs against the header and the library, and runs them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where cargo has put the library that these tests were built with.
pub(crate) fn libraries() -> PathBuf {
    let test = env::current_exe().expect("this test has a path");
    test.parent().expect("in a directory").to_path_buf()
}

/// Compiles with every warning an error.
pub(crate) fn compile(compiler: &str, arguments: &[&str], source: &Path, program: &Path) {
    let output = Command::new(compiler)
        .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g"])
        .args(arguments)
        .arg(format!("-I{}", root().join("app/c/include").display()))
        .arg(source)
        .arg("-o")
        .arg(program)
        .arg(format!("-L{}", libraries().display()))
        .arg(format!("-Wl,-rpath,{}", libraries().display()))
        .args(["-lbaton_c", "-pthread"])
        .output()
        .unwrap_or_else(|e| panic!("{compiler}: {e}"));
    assert!(output.status.success(), "{}", said(&output));
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// A compiled program, which finds the library that it was linked with. Cargo's own search path may have an older one.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_remove("LD_LIBRARY_PATH");
    command
}

/// A program that is killed when it is no longer needed.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(program: &Path, arguments: &[&str], socket: &Path) -> Self {
        let child = command(program)
            .args(arguments)
            .env("BATON_CONTROL_SOCKET", socket)
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        Self(child)
    }

    pub(crate) fn kill(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("ended");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
