//! Packet captures with tcpdump: what was really on a link.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::error::{LabError, Result};
use crate::namespace::{Namespace, output_of};
use crate::process::{Process, tail};

/// A capture that is running.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
    log: PathBuf,
}

impl Capture {
    /// Starts to capture what matches `filter` (pcap-filter(7); empty for all) on an interface of a host, and returns
    /// when it is really listening. `directory` takes `name`.pcap and `name`.log.
    ///
    /// # Errors
    /// [`LabError::Timeout`] with tcpdump's words if it does not begin.
    pub fn start(
        ns: &Namespace,
        interface: &str,
        filter: &str,
        directory: &Path,
        name: &str,
    ) -> Result<Self> {
        let (file, log) = (directory.join(format!("{name}.pcap")), directory.join(format!("{name}.log")));
        let mut command = ns.command("tcpdump");
        command.args([
            "-i",
            interface,
            "-U",
            "--immediate-mode",
            "-n",
            "-s",
            "256",
            "-B",
            "16384",
            "-Z",
            "root",
            "-w",
        ]);
        command.arg(&file).arg(filter);
        let mut process = Process::start(&format!("capture {name}"), &mut command, &log)?;
        let begun = Instant::now();
        while !tail(&log, 5).contains("listening on") {
            process.check()?;
            if begun.elapsed() > Duration::from_secs(10) {
                let last = tail(&log, 5);
                return Err(LabError::Timeout { what: "tcpdump".into(), waited: begun.elapsed(), last });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Self { process, file, log })
    }

    /// Ends the capture and returns its packets. Packets of the last tenth of a second are waited for.
    ///
    /// # Errors
    /// [`LabError::Timeout`] if tcpdump does not end, [`LabError::Answer`] if it lost packets: what is not in such a capture may
    /// have been on the link.
    pub fn stop(self) -> Result<Captured> {
        std::thread::sleep(Duration::from_millis(100));
        self.process.stop(Signal::SIGINT)?;
        let last = tail(&self.log, 5);
        let lost = last.lines().find_map(|line| line.strip_suffix(" packets dropped by kernel"));
        match lost {
            Some("0") => Ok(Captured { file: self.file }),
            _ => Err(LabError::Answer {
                command: "tcpdump".into(),
                what: format!("not a whole capture: {last}"),
            }),
        }
    }
}

/// A finished capture.
#[derive(Debug)]
pub struct Captured {
    file: PathBuf,
}

impl Captured {
    /// The packets that match `filter`, one line each, as tcpdump shows them with Ethernet addresses.
    ///
    /// # Errors
    /// [`LabError::Failed`] if the filter is bad.
    pub fn packets(&self, filter: &str) -> Result<Vec<String>> {
        let mut command = Command::new("tcpdump");
        command.arg("-r").arg(&self.file).args(["-n", "-e", "-t", filter]);
        Ok(output_of(&mut command, &format!("tcpdump {filter}"))?.lines().map(str::to_owned).collect())
    }

    /// How many packets match `filter`.
    ///
    /// # Errors
    /// [`LabError::Failed`] if the filter is bad.
    pub fn count(&self, filter: &str) -> Result<usize> {
        Ok(self.packets(filter)?.len())
    }

    /// The capture file.
    pub fn file(&self) -> &Path {
        &self.file
    }
}
