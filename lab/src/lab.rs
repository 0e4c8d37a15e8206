//! A lab while it runs.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::capture::Capture;
use crate::error::{LabError, Result, WithPath};
use crate::fabric::Fabric;
use crate::files;
use crate::guest::{self, Guest};
use crate::impair::{Impairment, Link};
use crate::namespace::{Namespace, output_of};
use crate::process::{Process, tail};
use crate::registry::{self, Record};
use crate::spec::{RoutingNode, Spec};

mod programs;
mod wait;

/// Lines of each log that are shown when a test fails.
const TAIL_LINES: usize = 15;

/// A lab: hosts, links, files, and the programs that run in it. Dropping it removes everything that it made; if the
/// thread is panicking, its logs and captures stay and their whereabouts are printed.
#[derive(Debug)]
pub struct Lab {
    // Dropped in this order: programs, then links, then the namespaces with whatever else is in them.
    guests: Mutex<BTreeMap<String, Guest>>,
    programs: Mutex<BTreeMap<String, Process>>,
    links: Mutex<BTreeMap<String, Link>>,
    record: Record,
    fabric: Fabric,
    spec: Spec,
    binaries: PathBuf,
}

impl Lab {
    /// Builds the lab, starts all its programs, and returns when the DPT shows every nginx.
    ///
    /// # Errors
    /// What could not be made or started, or what is missing after half a minute.
    pub fn start(spec: Spec) -> Result<Self> {
        let lab = Self::build(spec)?;
        match lab.start_programs().and_then(|()| lab.wait_until_ready()) {
            Ok(()) => Ok(lab),
            Err(e) => {
                lab.explain_failure();
                Err(e)
            }
        }
    }

    /// Builds hosts, links, certificates and configuration files, and starts no program. Labs whose owner is dead are
    /// removed first.
    ///
    /// # Errors
    /// What could not be made.
    pub fn build(spec: Spec) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Err(LabError::NotRoot);
        }
        registry::sweep();
        let record = Record::open()?;
        // What agents note of transfers is in memory, as on a host whose /run is; and etcd writes as on a host that does nothing else.
        let etcd = spec.etcd.then_some(("tmpfs", "etcd"));
        for (kind, at) in [("bpf", "bpf"), ("tmpfs", "transfers")].into_iter().chain(etcd) {
            let at = record.directory().join(at);
            record.note("mount", &at.display().to_string())?;
            fs::create_dir_all(&at).with_path("create", &at)?;
            output_of(Command::new("mount").args(["-t", kind, kind]).arg(&at), &format!("mount -t {kind}"))?;
        }
        let fabric = Fabric::build(&spec, &record)?;
        let (guests, programs, links) = (Mutex::default(), Mutex::default(), Mutex::default());
        let lab = Self { guests, programs, links, record, fabric, spec, binaries: binaries()? };
        lab.write_files()?;
        Ok(lab)
    }

    /// The id that is part of all names the lab gave.
    pub fn id(&self) -> &str {
        self.record.id()
    }

    /// What it was built from.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Where its configuration files, logs and captures are.
    pub fn files(&self) -> &Path {
        self.record.files()
    }

    /// The client's namespace.
    pub fn client(&self) -> &Namespace {
        self.fabric.host("client")
    }

    /// Where the segment is, as [`Fabric::switch`].
    pub fn switch(&self) -> &Namespace {
        self.fabric.switch()
    }

    /// A host's namespace: `client`, `rt1`, `t1`, …
    ///
    /// # Panics
    /// If there is no such host.
    pub fn host(&self, name: &str) -> &Namespace {
        self.fabric.host(name)
    }

    /// All hosts' names and namespaces.
    pub fn hosts(&self) -> impl Iterator<Item = (&str, &Namespace)> {
        self.fabric.hosts()
    }

    /// Adds the host of one more target with its certificate and configuration, and starts its agent.
    ///
    /// # Errors
    /// What could not be made or started.
    pub fn join(&mut self) -> Result<String> {
        let name = self.add_target()?;
        self.issue(&name)?;
        self.start_agent(&name)?;
        Ok(name)
    }

    /// Adds the host of one more target with its configuration, which has no certificate.
    ///
    /// # Errors
    /// What could not be made.
    pub fn add_target(&mut self) -> Result<String> {
        self.spec.targets += 1;
        let (index, name) = (self.spec.targets, format!("t{}", self.spec.targets));
        self.fabric.add_target(&self.record, index, self.spec.fabric_mtu)?;
        self.write_agent(&name)?;
        Ok(name)
    }

    /// From now on a host's link misbehaves like this, in each direction. The seed counts when that begins.
    ///
    /// # Errors
    /// As [`Fabric::cut`].
    pub fn impair(&self, host: &str, impairment: Impairment, seed: u64) -> Result<()> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(host) {
            link.set(impairment);
        } else {
            let link = self.fabric.cut(host, self.spec.fabric_mtu, impairment, seed)?;
            links.insert(host.to_owned(), link);
        }
        Ok(())
    }

    /// From now on the segment loses all frames from any of these hosts to any of those, until [`Lab::mend`].
    ///
    /// # Errors
    /// As [`Fabric::lose`].
    pub fn lose(&self, from: &[&str], to: &[&str]) -> Result<()> {
        self.fabric.lose(from, to)
    }

    /// From now on the segment loses all frames of these hosts and for them, except those among themselves, until [`Lab::mend`].
    ///
    /// # Errors
    /// As [`Fabric::lose`].
    pub fn cut_off(&self, hosts: &[&str]) -> Result<()> {
        let others: Vec<&str> =
            self.hosts().map(|(name, _)| name).filter(|name| !hosts.contains(name)).collect();
        self.lose(hosts, &others)?;
        self.lose(&others, hosts)
    }

    /// The segment carries all frames again.
    ///
    /// # Errors
    /// As [`Fabric::mend`].
    pub fn mend(&self) -> Result<()> {
        self.fabric.mend()
    }

    /// Puts a router between a target and the segment, as [`Fabric::put_behind_router`]; the programs are not told.
    ///
    /// # Errors
    /// What the first failing command says.
    pub fn put_behind_router(&mut self, target: &str, mtu: u16) -> Result<()> {
        let index = target.strip_prefix('t').and_then(|digits| digits.parse().ok()).unwrap_or_default();
        let (address, _) = crate::spec::host(crate::spec::target(index));
        self.fabric.put_behind_router(&self.record, target, &address.to_string(), mtu)
    }

    /// Gives a host's link another MTU than the fabric has; the programs are not told.
    ///
    /// # Errors
    /// As [`Fabric::set_link_mtu`].
    pub fn set_link_mtu(&self, host: &str, mtu: u16) -> Result<()> {
        self.fabric.set_link_mtu(host, mtu)
    }

    /// What became of the frames of links that misbehave, for a person.
    pub fn tallies(&self) -> String {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.iter().map(|(host, link)| format!("{host}: {}\n", link.tally())).collect()
    }

    /// Starts a capture on an interface of a host.
    ///
    /// # Errors
    /// As [`Capture::start`].
    pub fn capture(&self, host: &str, interface: &str, filter: &str) -> Result<Capture> {
        let number = fs::read_dir(self.files()).map_or(0, |entries| entries.count());
        Capture::start(
            self.host(host),
            interface,
            filter,
            self.files(),
            &format!("{host}-{interface}-{number}"),
        )
    }

    /// Runs the operator's command line against the routing node and returns its output.
    ///
    /// # Errors
    /// [`LabError::Failed`] with everything it wrote.
    pub fn baton(&self, words: &[&str]) -> Result<String> {
        self.baton_at(RoutingNode::First, words)
    }

    /// As [`Lab::baton`] against this routing node.
    ///
    /// # Errors
    /// [`LabError::Failed`] with everything it wrote.
    pub fn baton_at(&self, node: RoutingNode, words: &[&str]) -> Result<String> {
        let mut command = Command::new(self.program("baton")?);
        command.arg("--socket").arg(self.socket_of(node)).args(words);
        self.output_on(node.name(), &mut command, &format!("baton {}", words.join(" ")))
    }

    /// What a command writes that needs the files of a host: those in a guest's memory are the guest's own.
    fn output_on(&self, host: &str, command: &mut Command, shown_as: &str) -> Result<String> {
        if self.spec.is_guest(host) {
            return self.in_guest_of(host, &guest::line(command));
        }
        output_of(command, shown_as)
    }

    /// The routing node's admin socket.
    pub fn socket(&self) -> PathBuf {
        self.socket_of(RoutingNode::First)
    }

    fn socket_of(&self, node: RoutingNode) -> PathBuf {
        self.record.directory().join(format!("{}.sock", node.name()))
    }

    /// The control socket of a stack's applications.
    pub fn applications(&self, stack: &str) -> PathBuf {
        files::applications(self.record.directory(), stack)
    }

    /// As [`Lab::baton`] with `--json`.
    ///
    /// # Errors
    /// [`LabError::Answer`] if the output is not JSON.
    pub fn baton_json(&self, words: &[&str]) -> Result<Value> {
        self.baton_json_at(RoutingNode::First, words)
    }

    /// As [`Lab::baton_json`] of this routing node.
    ///
    /// # Errors
    /// [`LabError::Answer`] if the output is not JSON.
    pub fn baton_json_at(&self, node: RoutingNode, words: &[&str]) -> Result<Value> {
        let words: Vec<&str> = std::iter::once("--json").chain(words.iter().copied()).collect();
        json(&words.join(" "), &self.baton_at(node, &words)?)
    }

    /// The state that a stack's agent shows.
    ///
    /// # Errors
    /// [`LabError::Failed`], [`LabError::Answer`].
    pub fn agent_status(&self, stack: &str) -> Result<Value> {
        let socket = files::agent_socket(self.record.directory(), stack);
        let mut command = Command::new(self.program("baton")?);
        command.args(["--json", "--socket"]).arg(socket).arg("status");
        let text = self.output_on(stack, &mut command, "baton status")?;
        json("status", &text)
    }

    /// What a stack's agent says of itself.
    ///
    /// # Errors
    /// [`LabError::Failed`] if it does not answer, [`LabError::Answer`] if its answer is not JSON.
    pub fn agent(&self, stack: &str) -> Result<Value> {
        let socket = files::agent_socket(self.record.directory(), stack);
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "5", "--unix-socket"]).arg(socket).arg("http://agent/v1/status");
        let (text, command) = (self.output_on(stack, &mut curl, "curl")?, format!("status of {stack}"));
        serde_json::from_str(&text).map_err(|e| LabError::Answer { command, what: format!("{e}: {text}") })
    }

    /// The names of the files with which a stack's agent remembers transfers (`….leaving`, `….active`).
    ///
    /// # Errors
    /// [`LabError::File`].
    pub fn notes(&self, stack: &str) -> Result<Vec<String>> {
        let at = self.record.directory().join("transfers").join(stack);
        let files = fs::read_dir(&at).with_path("read", &at)?.flatten();
        let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
        Ok(names.filter(|name| name.contains('.')).collect())
    }

    /// Replaces the `[[vipadynamic]]` tables in `batond.toml`; takes effect with `baton reload`.
    ///
    /// # Errors
    /// [`LabError::File`].
    pub fn set_vipadynamic(&mut self, tables: impl Into<String>) -> Result<()> {
        self.set_vipadynamic_of(RoutingNode::First, tables)
    }

    /// As [`Lab::set_vipadynamic`] for this routing node.
    ///
    /// # Errors
    /// [`LabError::File`].
    pub fn set_vipadynamic_of(&mut self, node: RoutingNode, tables: impl Into<String>) -> Result<()> {
        self.spec.set_tables_of(node, tables.into());
        self.write_batond(node).map(drop)
    }

    /// Leaves the lab and its programs up when its owner ends, until `baton-lab down`.
    pub fn keep(self) {
        self.record.keep();
        // The programs must not be killed by their handles.
        std::mem::forget(std::mem::take(&mut *self.programs()));
    }

    /// Prints what a person needs who has to find out why something failed, and lets the files outlive the lab.
    pub fn explain_failure(&self) {
        self.record.keep_files();
        eprintln!("{}", self.report());
    }

    /// Where the logs are and how they end, and what `baton` shows.
    fn report(&self) -> String {
        let mut text = format!(
            "lab {}: configuration, logs and captures are in {}\n",
            self.id(),
            self.files().display()
        );
        let mut logs: Vec<PathBuf> = fs::read_dir(self.files())
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "log"))
            .collect();
        logs.sort();
        for log in logs {
            let name = log.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            text += &format!("--- {name}\n{}\n", tail(&log, TAIL_LINES));
        }
        for words in [["status"], ["dpt"], ["crt"], ["stats"]] {
            let shown = self.baton(&words).unwrap_or_else(|e| e.to_string());
            text += &format!("--- baton {}\n{}\n", words.join(" "), shown.trim_end());
        }
        text
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.files().join(name);
        fs::write(&path, text).with_path("write", &path)?;
        Ok(path)
    }

    fn write_batond(&self, node: RoutingNode) -> Result<PathBuf> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let seed = self.id().bytes().fold(0usize, |a, b| a.wrapping_mul(31).wrapping_add(b.into()));
        // Labs that run at the same time take different cores where there are some.
        let first = seed.wrapping_add(node.number().into());
        let workers: Vec<usize> = (0..self.spec.workers().min(cores)).map(|n| (first + n) % cores).collect();
        let text = files::batond(&self.spec, node, self.record.directory(), &workers);
        self.write(&format!("{}.toml", node.batond()), &text)
    }

    fn write_files(&self) -> Result<()> {
        let nodes = self.spec.routing_nodes();
        nodes.iter().try_for_each(|node| self.write_batond(*node).map(drop))?;
        let token = self.write("web.token", files::WEB_TOKEN)?;
        fs::set_permissions(&token, Permissions::from_mode(0o600)).with_path("close to others", &token)?;
        let pki = self.files().join("pki");
        let mut init = Command::new(self.program("baton")?);
        output_of(init.args(["pki", "init"]).arg(&pki), "baton pki init")?;
        nodes.iter().try_for_each(|node| self.issue(node.name()))?;
        for index in 1..=self.spec.targets {
            self.issue(&format!("t{index}"))?;
        }
        self.spec.agents().iter().try_for_each(|name| self.write_agent(name))
    }

    fn write_agent(&self, name: &str) -> Result<()> {
        let text = files::agent(&self.spec, name, self.record.directory());
        self.write(&format!("{name}.toml"), &text).map(drop)
    }

    /// Makes a certificate for a stack.
    ///
    /// # Errors
    /// [`LabError::Failed`] with what `baton pki` says.
    pub fn issue(&self, name: &str) -> Result<()> {
        let mut issue = Command::new(self.program("baton")?);
        issue.args(["pki", "issue"]).arg(self.files().join("pki")).arg(name);
        output_of(&mut issue, &format!("baton pki issue {name}")).map(drop)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.explain_failure();
        }
    }
}

fn json(command: &str, text: &str) -> Result<Value> {
    let bad = |e| LabError::Answer { command: command.to_owned(), what: format!("{e}: {text}") };
    serde_json::from_str(text).map_err(bad)
}

/// The directory of the programs: `BATON_BIN`, or where this program is, or above it (tests are in `deps/`).
fn binaries() -> Result<PathBuf> {
    if let Some(directory) = std::env::var_os("BATON_BIN") {
        return Ok(directory.into());
    }
    let own = std::env::current_exe().with_path("find", "this program")?;
    let directory = own.ancestors().skip(1).take(2).find(|d| d.join("baton").exists());
    directory.map(Path::to_path_buf).ok_or_else(|| LabError::NoProgram("baton".into()))
}
