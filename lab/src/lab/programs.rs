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
use crate::guest::{self, Guest, Places};
use crate::process::Process;
use crate::spec::{self, RoutingNode, Web};

/// How often a virtual machine is booted until it has started.
const BOOTS: u32 = 3;

/// The name of the program that is a host's virtual machine.
fn guest_of(host: &str) -> String {
    format!("guest-{host}")
}

impl Lab {
    /// Starts `batond`, the agents and the nginx servers.
    ///
    /// # Errors
    /// The first program that can't be started.
    pub fn start_programs(&self) -> Result<()> {
        self.boot()?;
        for (host, _) in spec::ETCD.into_iter().filter(|_| self.spec.etcd) {
            self.start_etcd(host)?;
        }
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
        self.boot()?;
        self.start_batond_of(RoutingNode::First)
    }

    /// Starts the `batond` of this routing node.
    ///
    /// # Errors
    /// [`LabError::Start`].
    pub fn start_batond_of(&self, node: RoutingNode) -> Result<()> {
        let (host, name) = (node.name(), node.batond());
        let mut command = self.program_in(host, "batond")?;
        command.env("BATON_HALT", self.halt(name));
        command.arg("--config").arg(self.files().join(format!("{name}.toml")));
        self.start_on_host(host, name, &mut command)?;
        if !self.spec.is_guest(host) {
            return Ok(());
        }
        self.in_guest_of(
            host,
            &format!(
                "for turn in $(seq 1000); do
                 [ ! -S {socket} ] || exit 0
                 kill -0 $(cat /run/{name}.pid) || break
                 sleep 0.1
             done
             cat {log}
             exit 1",
                log = self.files().join(format!("{name}.log")).display(),
                socket = self.socket_of(node).display(),
            ),
        )
        .map(drop)
    }

    /// Boots the virtual machines that do not run yet, all at the same time, and waits until they have started. A kernel that
    /// stands still while it starts, as can happen under emulation, is booted again.
    fn boot(&self) -> Result<()> {
        let new: Vec<&str> = self.spec.guests().filter(|host| !self.guests().contains_key(*host)).collect();
        for host in &new {
            self.start_guest(host)?;
        }
        for host in new {
            let mut attempt = 1;
            let guest = loop {
                match Guest::wait(self.places(host), || self.check()) {
                    Err(error) if attempt < BOOTS => eprintln!("attempt {attempt} to boot {host}: {error}"),
                    outcome => break outcome?,
                }
                self.programs().remove(&guest_of(host));
                self.start_guest(host)?;
                attempt += 1;
            };
            self.guests().insert(host.to_owned(), guest);
        }
        Ok(())
    }

    fn start_guest(&self, host: &str) -> Result<()> {
        let mut command = guest::command(self.host(host), &self.binaries, &self.spec, self.places(host))?;
        self.start_program(&guest_of(host), &mut command)
    }

    fn guests(&self) -> MutexGuard<'_, BTreeMap<String, Guest>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn places<'a>(&'a self, host: &'a str) -> Places<'a> {
        Places { host, files: self.files(), run: self.record.directory() }
    }

    /// Runs a shell script in the virtual machine that the routing node is, and returns what it wrote.
    ///
    /// # Errors
    /// As [`Lab::in_guest_of`].
    pub fn in_guest(&self, script: &str) -> Result<String> {
        self.in_guest_of(RoutingNode::First.name(), script)
    }

    /// Runs a shell script in the virtual machine that this host is, and returns what it wrote. The id of a program that was
    /// started there is in `/run/NAME.pid`.
    ///
    /// # Errors
    /// As [`Guest::sh`]; [`LabError::NotStarted`].
    pub fn in_guest_of(&self, host: &str, script: &str) -> Result<String> {
        self.guests().get_mut(host).ok_or_else(|| LabError::NotStarted(host.to_owned()))?.sh(script)
    }

    /// Runs a shell script on a host, in its virtual machine if it is one, and returns what it wrote.
    ///
    /// # Errors
    /// As [`Lab::in_guest_of`] and [`Namespace::sh`](crate::Namespace::sh).
    pub fn sh_on(&self, host: &str, script: &str) -> Result<String> {
        if self.spec.is_guest(host) { self.in_guest_of(host, script) } else { self.host(host).sh(script) }
    }

    /// Takes the cable out of the guest's NIC, or puts it in.
    ///
    /// # Errors
    /// As [`guest::set_link`].
    pub fn set_guest_link(&self, up: bool) -> Result<()> {
        guest::set_link(self.places(RoutingNode::First.name()), up)
    }

    /// Starts a stack's agent.
    ///
    /// # Errors
    /// [`LabError::Start`].
    pub fn start_agent(&self, stack: &str) -> Result<()> {
        let mut command = self.program_in(stack, "baton-agent")?;
        command.env("BATON_HALT", self.halt(&format!("agent-{stack}")));
        command.arg("--config").arg(self.files().join(format!("{stack}.toml")));
        self.start_on_host(stack, &format!("agent-{stack}"), &mut command)
    }

    /// Starts an application on a stack, to be known by `name`, with the control socket of that stack's agent. A program
    /// without a path is one of the project's examples.
    ///
    /// # Errors
    /// [`LabError::Start`], [`LabError::NoProgram`].
    pub fn start_application(&self, stack: &str, name: &str, words: &[&str]) -> Result<()> {
        let program = words.first().copied().unwrap_or_default();
        let path = if program.contains('/') { PathBuf::from(program) } else { self.example(program)? };
        let mut command = self.command_on(stack, &path.to_string_lossy());
        command.args(words.iter().skip(1)).env("BATON_CONTROL_SOCKET", self.applications(stack));
        self.start_on_host(stack, name, &mut command)
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
        let mut command = self.command_on(&web.stack, "nginx");
        command.arg("-e").arg(own.join("error.log")).arg("-c").arg(file);
        self.start_on_host(&web.stack, &format!("nginx-{}", web.stack), &mut command)
    }

    /// Starts the member of etcd on this host of [`spec::ETCD`], to be known as `etcd-HOST`, with the data that it has.
    ///
    /// # Errors
    /// [`LabError::Start`].
    pub fn start_etcd(&self, host: &str) -> Result<()> {
        let number = spec::ETCD.iter().find(|(name, _)| *name == host).map_or(0, |(_, number)| *number);
        let (client, peer) = (files::etcd_url(number, 2379), files::etcd_url(number, 2380));
        let each = |(name, number): &(&str, u8)| format!("{name}={}", files::etcd_url(*number, 2380));
        let all = spec::ETCD.iter().map(each).collect::<Vec<_>>().join(",");
        let data = self.record.directory().join("etcd").join(host).display().to_string();
        let mut words = vec!["etcd", "--name", host, "--data-dir", &data, "--initial-cluster", &all];
        words.extend(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        words.extend(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        self.start_on(host, &format!("etcd-{host}"), &words)
    }

    /// Starts BIRD on a host with this configuration, to be known as `bird-HOST`.
    ///
    /// # Errors
    /// [`LabError::Start`], [`LabError::File`].
    pub fn start_bird(&self, host: &str, configuration: &str) -> Result<()> {
        let file = self.write(&format!("bird-{host}.conf"), configuration)?.display().to_string();
        let socket = self.bird_socket(host);
        // It stays in the foreground and writes no file but its socket.
        self.start_on(host, &format!("bird-{host}"), &["bird", "-f", "-c", &file, "-s", &socket])
    }

    /// What the BIRD of a host answers to such a command.
    ///
    /// # Errors
    /// [`LabError::Failed`] with everything it wrote.
    pub fn birdc(&self, host: &str, words: &[&str]) -> Result<String> {
        let socket = self.bird_socket(host);
        self.host(host).run(&[&["birdc", "-s", &socket][..], words].concat())
    }

    fn bird_socket(&self, host: &str) -> String {
        self.record.directory().join(format!("bird-{host}.ctl")).display().to_string()
    }

    /// Starts any program on a host, to be known by `name`, with its output in a log of that name.
    ///
    /// # Errors
    /// [`LabError::Start`].
    pub fn start_on(&self, host: &str, name: &str, words: &[&str]) -> Result<()> {
        let mut command = self.command_on(host, words.first().copied().unwrap_or("true"));
        command.args(words.iter().skip(1));
        self.start_on_host(host, name, &mut command)
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

    /// Sends a signal to a program and does not wait: SIGSTOP and SIGCONT, or the begin of its end.
    ///
    /// # Panics
    /// If no such program runs.
    pub fn signal(&self, name: &str, signal: Signal) {
        let programs = self.programs();
        let process = programs.get(name).unwrap_or_else(|| panic!("no `{name}` runs in lab {}", self.id()));
        process.signal(signal);
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

    /// Lets what [`Lab::freeze_all`] stopped go on.
    ///
    /// # Errors
    /// [`LabError::Failed`].
    pub fn thaw_all(&self, host: &str, command: &str) -> Result<()> {
        self.signal_all(host, command, "CONT")
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

    /// A command in a host's namespace; or for a guest, where [`Self::start_on_host`] runs it.
    fn command_on(&self, host: &str, program: &str) -> Command {
        if self.spec.is_guest(host) { Command::new(program) } else { self.host(host).command(program) }
    }

    /// Starts what [`Self::command_on`] has made for this host. What runs in a guest ends with it.
    fn start_on_host(&self, host: &str, name: &str, command: &mut Command) -> Result<()> {
        if !self.spec.is_guest(host) {
            return self.start_program(name, command);
        }
        let (line, log) = (guest::line(command), self.files().join(format!("{name}.log")));
        let script = format!("cd /; setsid {line} >>{} 2>&1 & echo $! >/run/{name}.pid", log.display());
        self.in_guest_of(host, &script).map(drop)
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
        let mut command = self.command_on(host, &self.program(name)?.to_string_lossy());
        let level = std::env::var("BATON_LAB_LOG").unwrap_or_else(|_| "info".into());
        command.env("BATON_LOG", &level).env("RUST_LOG", &level).env("NO_COLOR", "1");
        Ok(command)
    }
}
