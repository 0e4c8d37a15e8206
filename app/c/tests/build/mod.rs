//! Builds C programs against the header and the library, as they are installed, and runs them.

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

/// `make install` with the libraries that these tests were built with, below `directory`.
pub(crate) fn install(directory: &Path) -> Installed {
    let output = Command::new("make")
        .args(["-C", "app/c", "install"])
        .arg(format!("BUILT={}", libraries().display()))
        .arg(format!("PREFIX={}", directory.display()))
        .current_dir(root())
        .output()
        .expect("make runs");
    assert!(output.status.success(), "{}", said(&output));
    Installed { libraries: directory.join("lib") }
}

/// An installed tree.
pub(crate) struct Installed {
    pub(crate) libraries: PathBuf,
}

impl Installed {
    /// A command that finds it with pkg-config.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("PKG_CONFIG_PATH", self.libraries.join("pkgconfig"));
        command
    }

    /// What pkg-config says.
    pub(crate) fn flags(&self, arguments: &[&str]) -> Vec<String> {
        let output = self.command("pkg-config").args(arguments).arg("baton").output();
        let output = output.unwrap_or_else(|e| panic!("pkg-config: {e}"));
        assert!(output.status.success(), "{}", said(&output));
        said(&output).split_whitespace().map(ToOwned::to_owned).collect()
    }

    /// How a linker has programs find it, which is in no place of the system's.
    pub(crate) fn rpath(&self) -> String {
        format!("-Wl,-rpath,{}", self.libraries.display())
    }

    /// Compiles with every warning an error.
    pub(crate) fn compile(&self, compiler: &str, arguments: &[&str], source: &Path, program: &Path) {
        let found = self.flags(&["--cflags", "--libs"]);
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        link(compiler, arguments, source, program, &[&found[..], &[&self.rpath()]].concat());
    }
}

/// Compiles and links with every warning an error.
pub(crate) fn link(compiler: &str, arguments: &[&str], source: &Path, program: &Path, libraries: &[&str]) {
    let output = Command::new(compiler)
        .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g"])
        .args(arguments)
        .arg(source)
        .arg("-o")
        .arg(program)
        .args(libraries)
        .arg("-pthread")
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
