//! A host of a lab that is a whole Debian with a systemd of its own: a container of systemd-nspawn in the host's network namespace.

use std::path::{Path, PathBuf};
use std::process::Command;

use lab::Lab;

use crate::fixture::SOON;

/// Where scripts/test puts packages and the root of a fresh Debian: beside the programs under test.
pub(super) fn made(what: &str) -> PathBuf {
    let programs = Path::new(env!("CARGO_BIN_EXE_baton")).parent().and_then(Path::parent);
    let path = programs.expect("programs are in target/PROFILE").join("packages").join(what);
    assert!(path.exists(), "{} is not there: scripts/test packages makes it", path.display());
    path
}

/// A host that has started.
pub(super) struct Machine<'a> {
    lab: &'a Lab,
    host: &'a str,
    /// Its systemd, as this machine numbers it.
    init: u32,
}

impl<'a> Machine<'a> {
    /// Starts a Debian with nothing of baton on a host of the lab. What it writes is in memory and ends with it. The lab's files are in
    /// `/lab`, packages in `/packages`.
    pub(super) fn start(lab: &'a Lab, host: &'a str) -> Self {
        let (root, packages) = (made("root"), made(""));
        let script = format!(
            "cgroup=$(awk '$3 == \"cgroup2\" {{ print $2; exit }}' /proc/mounts)/{machine}
             mkdir -p $cgroup && echo $$ >$cgroup/cgroup.procs && mkdir -p /run/systemd
             export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_API_VFS_WRITABLE=1
             exec systemd-nspawn --quiet --boot --directory={root} --volatile=overlay --register=no --keep-unit --capability=all --system-call-filter='bpf perf_event_open' \
                 --machine={machine} --network-namespace-path=/run/netns/{netns} --resolv-conf=off --console=pipe \
                 --bind-ro={files}:/lab --bind-ro={packages}:/packages",
            machine = format!("bt-{}-{host}", lab.id()),
            netns = lab.host(host).name(),
            root = root.display(),
            files = lab.files().display(),
            packages = packages.display(),
        );
        let name = format!("machine-{host}");
        lab.start_on(host, &name, &["sh", "-c", &script]).unwrap_or_else(|e| panic!("{e}"));
        let outer = lab.id_of(&name).expect("it runs");
        let init = lab.wait_for(&format!("{name} to start"), 3 * SOON, || {
            let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"));
            let children = children.map_err(|e| e.to_string())?;
            let init =
                children.split_whitespace().next().and_then(|id| id.parse().ok()).ok_or("no child yet")?;
            let machine = Self { lab, host, init };
            machine.try_sh("systemctl is-active --quiet multi-user.target").map(|_| init)
        });
        Self { lab, host, init: init.unwrap_or_else(|e| panic!("{e}")) }
    }

    /// Runs a shell script there and returns what it wrote.
    pub(super) fn sh(&self, script: &str) -> String {
        self.try_sh(script).unwrap_or_else(|e| panic!("{}: {script}: {e}\n{}", self.host, self.journal()))
    }

    /// The same, which may fail.
    pub(super) fn try_sh(&self, script: &str) -> Result<String, String> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.init));
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]);
        command.args(["sh", "-e", "-c", script]).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let output = command.output().map_err(|e| e.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(text(&output.stdout) + &text(&output.stderr))
    }

    /// Waits until a script there succeeds.
    pub(super) fn until(&self, what: &str, script: &str) {
        let state = || self.try_sh(script);
        self.lab.wait_for(what, 3 * SOON, state).unwrap_or_else(|e| panic!("{e}\n{}", self.journal()));
    }

    /// The end of what its services have said.
    pub(super) fn journal(&self) -> String {
        self.try_sh("journalctl --no-pager -n 60 -o cat -u batond -u baton-agent").unwrap_or_else(|e| e)
    }
}
