//! Starting, stopping and killing a lab's programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::{MutexGuard, PoisonError};

use nix::sys::signal::Signal;

use super::Lab;
use crate::error::{LabError, Result, WithPath};
use crate::files;
use crate::guest::{self, Guest};
use crate::process::Process;
use crate::spec::{Machine, RoutingNode, Web};

/// How often a virtual machine is booted until it has started.
const BOOTS: u32 = 3;

impl Lab {
    /// Starts `batond`, the agents and the nginx servers.
    ///
    /// # Errors
    /// The first program that can't be started.
    pub fn start_programs(&self) -> Result<()> {
        for node in self.spec.routing_nodes() {
            self.start_batond_of(*node)?;
        }
        for stack in self.spec.agents() {
            self.start_agent(&stack)?;
        }
        for web in &self.spec.web {
            self.start_web(&web.stack)?;
        }
        Ok(())
    }

    /// Starts the `batond` of `rt1`.
    ///
    /// # Errors
    /// [`LabError::Start`].
    pub fn start_batond(&self) -> Result<()> {
        self.start_batond_of(RoutingNode::First)
    }

    fn start_batond_of(&self, node: RoutingNode) -> Result<()> {
        if let Some(machine) = self.spec.machine() {
            return self.start_batond_in(machine, node);
        }
        let mut command = self.program_in(node.name(), "batond")?;
        command.env("BATON_HALT", self.halt(node.batond()));
        command.arg("--config").arg(self.files().join(format!("{}.toml", node.batond())));
        self.start_program(node.batond(), &mut command)
    }

    /// Boots the virtual machine that a routing node is, if it does not run, and starts its `batond` there.
    fn start_batond_in(&self, machine: Machine, node: RoutingNode) -> Result<()> {
        let (files, run) = (self.files(), self.record.directory());
        if self.id_of("guest").is_none() {
            let guest = self.boot(machine, node)?;
            *self.guest.lock().unwrap_or_else(PoisonError::into_inner) = Some(guest);
        }
        let level = std::env::var("BATON_LAB_LOG").unwrap_or_else(|_| "info".into());
        self.in_guest(&format!(
            "cd /
             BATON_LOG={level} setsid {batond} --config {config} >>{log} 2>&1 &
             for turn in $(seq 1000); do
                 [ ! -S {socket} ] || exit 0
                 kill -0 $! || break
                 sleep 0.1
             done
             cat {log}
             exit 1",
            batond = self.program("batond")?.display(),
            config = files.join(format!("{}.toml", node.batond())).display(),
            log = files.join(format!("{}.log", node.batond())).display(),
            socket = run.join(format!("{}.sock", node.name())).display(),
        ))
        .map(drop)
    }

    /// Boots the virtual machine. A kernel that stands still while it starts, as can happen under emulation, is booted again.
    fn boot(&self, machine: Machine, node: RoutingNode) -> Result<Guest> {
        let (files, run) = (self.files(), self.record.directory());
        let directory = guest::directory(&self.binaries)?;
        let network = guest::network(machine.local, self.spec.fabric_mtu, node.addresses());
        let mut attempt = 1;
        loop {
            let host = self.host(node.name());
            let mut command = guest::command(host, &directory, machine, (files, run), &network)?;
            self.start_program("guest", &mut command)?;
            match Guest::wait(files, run, || self.check()) {
                Err(error) if attempt < BOOTS => eprintln!("attempt {attempt} to boot: {error}"),
                outcome => return outcome,
            }
            self.programs().remove("guest");
            attempt += 1;
        }
    }

    /// Runs a shell script in the virtual machine that the routing node is, and returns what it wrote.
    ///
    /// # Errors
    /// [`LabError::GuestIsDown`] if it has not started, and as [`Guest::sh`].
    pub fn in_guest(&self, script: &str) -> Result<String> {
        let mut guest = self.guest.lock().unwrap_or_else(PoisonError::into_inner);
        guest.as_mut().ok_or_else(|| LabError::GuestIsDown(self.id().to_owned()))?.sh(script)
    }

    /// Takes the cable out of the guest's NIC, or puts it in.
    ///
    /// # Errors
    /// As [`guest::set_link`].
    pub fn set_guest_link(&self, up: bool) -> Result<()> {
        guest::set_link(self.record.directory(), up)
    }

    /// Starts a stack's agent.
    ///
    /// # Errors
    /// [`LabError::Start`].
    pub fn start_agent(&self, stack: &str) -> Result<()> {
        let mut command = self.program_in(stack, "baton-agent")?;
        command.env("BATON_HALT", self.halt(&format!("agent-{stack}")));
        command.arg("--config").arg(self.files().join(format!("{stack}.toml")));
        self.start_program(&format!("agent-{stack}"), &mut command)
    }

    /// Starts an application on a stack, to be known by `name`, with the control socket of that stack's agent. A program
    /// without a path is one of the project's examples.
    ///
    /// # Errors
    /// [`LabError::Start`], [`LabError::NoProgram`].
    pub fn start_application(&self, stack: &str, name: &str, words: &[&str]) -> Result<()> {
        let program = words.first().copied().unwrap_or_default();
        let path = if program.contains('/') { PathBuf::from(program) } else { self.example(program)? };
        let mut command = self.host(stack).command(&path.to_string_lossy());
        command.args(words.iter().skip(1)).env("BATON_CONTROL_SOCKET", self.applications(stack));
        self.start_program(name, &mut command)
    }

    /// Where one of the project's examples is.
    ///
    /// # Errors
    /// [`LabError::NoProgram`] if it is not built.
    pub fn example(&self, name: &str) -> Result<PathBuf> {
        self.program(&format!("examples/{name}"))
    }

    /// Starts a target's nginx as the specification says, or with the default listens if it has none.
    ///
    /// # Errors
    /// [`LabError::Start`], [`LabError::File`].
    pub fn start_web(&self, target: &str) -> Result<()> {
        let given = self.spec.web.iter().find(|w| w.stack == target).cloned();
        self.start_web_as(&given.unwrap_or_else(|| Web::wildcard(target)))
    }

    /// Starts an nginx with these listens.
    ///
    /// # Errors
    /// [`LabError::Start`], [`LabError::File`].
    pub fn start_web_as(&self, web: &Web) -> Result<()> {
        let own = self.files().join(format!("nginx-{}", web.stack));
        fs::create_dir_all(own.join("www")).with_path("create", &own)?;
        let big = own.join("www/big");
        fs::write(&big, vec![b'b'; 8 << 20]).with_path("write", big)?;
        let file =
            self.write(&format!("nginx-{}/nginx.conf", web.stack), &files::nginx(web, self.files()))?;
        let mut command = self.host(&web.stack).command("nginx");
        command.arg("-e").arg(own.join("error.log")).arg("-c").arg(file);
        self.start_program(&format!("nginx-{}", web.stack), &mut command)
    }

    /// Starts any program on a host, to be known by `name`, with its output in a log of that name.
    ///
    /// # Errors
    /// [`LabError::Start`].
    pub fn start_on(&self, host: &str, name: &str, words: &[&str]) -> Result<()> {
        let mut command = self.host(host).command(words.first().copied().unwrap_or("true"));
        command.args(words.iter().skip(1));
        self.start_program(name, &mut command)
    }

    /// Stops a program (`batond`, `agent-t1`, `nginx-t1`, …) with this signal and waits for its end.
    ///
    /// # Errors
    /// [`LabError::Timeout`] if it does not end.
    ///
    /// # Panics
    /// If no such program runs.
    pub fn stop(&self, name: &str, signal: Signal) -> Result<ExitStatus> {
        let process = self.programs().remove(name);
        process.unwrap_or_else(|| panic!("no `{name}` runs in lab {}", self.id())).stop(signal)
    }

    /// Kills a program with SIGKILL and waits for its end.
    ///
    /// # Errors
    /// [`LabError::Timeout`] if it does not end.
    ///
    /// # Panics
    /// If no such program runs.
    pub fn kill(&self, name: &str) -> Result<ExitStatus> {
        self.stop(name, Signal::SIGKILL)
    }

    /// Kills every process with this name on a host, with SIGKILL: a server with its workers.
    ///
    /// # Errors
    /// [`LabError::Failed`].
    pub fn kill_all(&self, host: &str, command: &str) -> Result<()> {
        self.signal_all(host, command, "KILL")?;
        self.programs().retain(|name, _| name != &format!("{command}-{host}"));
        Ok(())
    }

    /// Stops every process with this name on a host with SIGSTOP: it holds its sockets and does nothing.
    ///
    /// # Errors
    /// [`LabError::Failed`].
    pub fn freeze_all(&self, host: &str, command: &str) -> Result<()> {
        self.signal_all(host, command, "STOP")
    }

    fn signal_all(&self, host: &str, command: &str, signal: &str) -> Result<()> {
        let script = format!(
            "for p in $(ip netns pids {}); do
                 [ \"$(cat /proc/$p/comm 2>/dev/null)\" != {command} ] || kill -{signal} $p
             done",
            self.host(host).name()
        );
        self.host(host).sh(&script).map(drop)
    }

    /// Has `batond` or an agent stand still at the next such step of a transfer (`source.dump`, `routing.Commit`, …). Only a
    /// debug build does.
    ///
    /// # Errors
    /// [`LabError::File`].
    pub fn halt_at(&self, name: &str, step: &str) -> Result<()> {
        let file = self.halt(name);
        fs::write(&file, step).with_path("write", file)
    }

    /// Whether it stands there now.
    pub fn is_halted(&self, name: &str) -> bool {
        self.halt(name).with_extension("reached").exists()
    }

    /// Lets it go on, or never stand still.
    pub fn go_on(&self, name: &str) {
        let file = self.halt(name);
        // One of them is there, or none.
        let _ = fs::remove_file(file.with_extension("reached"));
        let _ = fs::remove_file(file);
    }

    fn halt(&self, name: &str) -> PathBuf {
        self.files().join(format!("halt-{name}"))
    }

    /// Waits for a program to end by itself.
    ///
    /// # Errors
    /// [`LabError::Timeout`] if it does not end in ten seconds.
    ///
    /// # Panics
    /// If no such program runs.
    pub fn wait_end(&self, name: &str) -> Result<ExitStatus> {
        let process = self.programs().remove(name);
        process.unwrap_or_else(|| panic!("no `{name}` runs in lab {}", self.id())).wait()
    }

    /// The process id of a program that was started and not stopped.
    pub fn id_of(&self, name: &str) -> Option<u32> {
        self.programs().get(name).map(Process::id)
    }

    /// Fails if a program of the lab has ended by itself.
    ///
    /// # Errors
    /// [`LabError::Ended`] with its log.
    pub fn check(&self) -> Result<()> {
        self.programs().values_mut().try_for_each(Process::check)
    }

    pub(super) fn programs(&self) -> MutexGuard<'_, BTreeMap<String, Process>> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_program(&self, name: &str, command: &mut Command) -> Result<()> {
        let process = Process::start(name, command, &self.files().join(format!("{name}.log")))?;
        self.programs().insert(name.to_owned(), process);
        Ok(())
    }

    /// Where one of the project's programs is. `BATON_LAB_BATOND` names another `batond`, built against another DPDK.
    ///
    /// # Errors
    /// [`LabError::NoProgram`] if it is not built.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let other = std::env::var_os("BATON_LAB_BATOND").filter(|_| name == "batond");
        let path = other.map_or_else(|| self.binaries.join(name), PathBuf::from);
        if path.exists() { Ok(path) } else { Err(LabError::NoProgram(name.to_owned())) }
    }

    fn program_in(&self, host: &str, name: &str) -> Result<Command> {
        let mut command = self.host(host).command(&self.program(name)?.to_string_lossy());
        let level = std::env::var("BATON_LAB_LOG").unwrap_or_else(|_| "info".into());
        command.env("BATON_LOG", &level).env("RUST_LOG", &level).env("NO_COLOR", "1");
        Ok(command)
    }
}
