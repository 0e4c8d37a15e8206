//! scapy, an independent opinion on packets: one Python process that runs a script after the other.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Mutex;

use lab::Namespace;

pub(crate) struct Scapy {
    process: Child,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Scapy {
    pub(crate) fn start(namespace: &Namespace) -> Self {
        let mut command = namespace.command("/usr/bin/python3");
        command.args(["-c", include_str!("scapy.py")]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (stdin, stdout) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, pipes: Mutex::new((stdin, BufReader::new(stdout))) }
    }

    /// Runs a script and gives what it printed.
    pub(crate) fn run(&self, script: &str) -> String {
        let mut pipes = self.pipes.lock().unwrap();
        let (stdin, stdout) = &mut *pipes;
        writeln!(stdin, "{}", serde_json::Value::from(script)).unwrap();
        let mut answer = String::new();
        stdout.read_line(&mut answer).unwrap();
        let (printed, error): (String, Option<String>) = serde_json::from_str(&answer).unwrap();
        assert_eq!(error, None, "{script}\n{}", error.as_deref().unwrap_or_default());
        printed
    }
}

impl Drop for Scapy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
