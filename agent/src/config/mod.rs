//! `agent.toml`: typed, every mistake with its place and the fix.
//!
//! [`Config::load`] reads, [`file`](self) is what may be written, and the checks here turn it into plain values.

mod applications;
mod checks;
mod file;
mod mistake;

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use model::{ClusterAddress, Protocol, StackName};
use toml::Spanned;
use tracing::level_filters::LevelFilter;
use transport::private::Access;

use crate::control_socket::Rules;
pub use mistake::{ConfigError, Mistake};

/// What few others use: CNI's port mapping has it for packets whose source is to be translated, as these are.
const CONTAINER_MARK: u32 = 0x2000;

/// Longer than clients wait as a rule, and servers think.
const UNANSWERED_S: u32 = 30;

/// A whole, valid configuration of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[node]`
    pub node: Node,
    /// `[cluster]`
    pub cluster: Cluster,
    /// `[[routing_stack]]`, never empty, no name twice.
    pub routing_stacks: Vec<RoutingStack>,
    /// The Unix socket of the admin API.
    pub admin_socket: PathBuf,
    /// Where metrics alone are served over TCP, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// The Unix socket on which metrics alone are served, and who may read them, if there is one.
    pub metrics_socket: Option<(PathBuf, Access)>,
    /// `[applications]`
    pub applications: Applications,
    /// `[bpf]`
    pub bpf: Bpf,
    /// `[[container]]`
    pub containers: Vec<Container>,
    /// `[[check]]`
    pub checks: Vec<crate::checks::Check>,
    /// How often all sockets are looked at again and every DVIPA's address is checked.
    pub repair: Duration,
    /// A server fails when it answered none of its clients for so long, while some wait; none: that is no failure.
    pub unanswered: Option<Duration>,
    /// Where this host keeps what it must not forget as a witness.
    pub witness: PathBuf,
    /// What is logged: `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: LevelFilter,
}

/// Who this host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The stack's name, as in its certificate.
    pub name: StackName,
    /// Where forwarders send its packets.
    pub cluster_address: ClusterAddress,
    /// The interfaces that forwarded packets arrive at and answers leave by. The first one leads to the routing stacks.
    pub interfaces: Vec<String>,
    /// The largest IP packet, outer header included, that the fabric carries, in bytes; by default the smallest MTU of
    /// the interfaces.
    pub fabric_mtu: Option<u16>,
}

/// The sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster's certificate authority, PEM.
    pub ca: PathBuf,
    /// This stack's certificate, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// A sign of life is sent this often.
    pub heartbeat: Duration,
    /// A routing stack that was not heard for this long is lost.
    pub lost_after: Duration,
}

/// A routing stack to report to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutingStack {
    /// Its name, as in its certificate.
    pub name: StackName,
    /// Where its `batond` accepts sessions.
    pub control: SocketAddr,
    /// The networks whose addresses it may list as DVIPAs; all if not given.
    pub dvipas: Option<Vec<IpNet>>,
}

/// The control socket of applications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applications {
    /// Its path.
    pub socket: PathBuf,
    /// The mode of its file: who may write connects.
    pub mode: u32,
    /// The group of its file, by number; as it comes if not given.
    pub group: Option<u32>,
    /// The users that are let in, by number; all that the mode lets in if not given.
    pub users: Option<Vec<u32>>,
    /// `[[application]]`: who of them may register for what.
    pub rules: Rules,
}

/// A port that the host's DNAT sends on to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Container {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port of the DVIPAs.
    pub port: u16,
    /// The only DVIPA whose port it is, if not that of all.
    pub dvipa: Option<IpAddr>,
    /// Where DNAT sends it: the container's own address and port.
    pub address: SocketAddr,
}

/// The BPF programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bpf {
    /// The directory on a BPF file system that holds the maps and links; this stack uses `PIN/NAME`.
    pub pin: PathBuf,
    /// The root of cgroup v2; found if not given.
    pub cgroup: Option<PathBuf>,
    /// The bit of packets' marks by which containers' packets to DVIPAs leave; 0 if they are not to.
    pub container_mark: u32,
}

impl Config {
    /// Where transfers are noted: beside the admin API's socket, which is in memory and gone when the host restarts.
    pub fn notes(&self) -> PathBuf {
        let run = self.admin_socket.parent().unwrap_or(Path::new("/run/baton"));
        run.join("transfers").join(self.node.name.as_str())
    }

    /// Where the dumps of connections are kept whose bytes the kernel is still to be given: beside the notes.
    pub fn dumps(&self) -> PathBuf {
        self.notes().with_file_name(format!("{}.dumps", self.node.name))
    }

    /// What this host must not forget as a witness.
    pub fn witness_file(&self) -> PathBuf {
        self.witness.join(format!("{}.witness", self.node.name))
    }

    /// Reads and checks a file. Relative paths in it are relative to its directory.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake, its place and the fix.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::unreadable(path, &cause))?;
        Self::parse(path, &text)
    }

    /// The first key of `next` that differs and that a running agent can't change: only certificates, routing stacks,
    /// `[[application]]`s, `[[check]]`s, `[watch]`, the log level and `[[container]]`s beside others can.
    pub fn needs_restart(&self, next: &Self) -> Option<&'static str> {
        let times = |c: &Cluster| (c.heartbeat, c.lost_after);
        let admin =
            |config: &Self| (config.admin_socket.clone(), config.metrics, config.metrics_socket.clone());
        let differ = [
            ("[node]", self.node != next.node),
            ("[cluster] heartbeat_ms or lost_after_ms", times(&self.cluster) != times(&next.cluster)),
            ("[admin]", admin(self) != admin(next)),
            ("[applications]", self.applications.socket_differs(&next.applications)),
            ("[bpf]", self.bpf != next.bpf),
            ("[witness]", self.witness != next.witness),
            ("[[container]]", self.containers.is_empty() != next.containers.is_empty()),
        ];
        differ.into_iter().find_map(|(key, differs)| differs.then_some(key))
    }

    /// Checks the text of a file.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake, its place and the fix.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let file = toml::from_str::<file::File>(text)
            .map_err(|e| ConfigError::new(path, text, vec![Mistake::of_syntax(&e)]))?;
        let base = path.parent().unwrap_or(Path::new("."));
        let mut check = Check { base, mistakes: Vec::new() };
        let config = check.file(file);
        match config {
            Some(config) if check.mistakes.is_empty() => Ok(config),
            _ => Err(ConfigError::new(path, text, check.mistakes)),
        }
    }
}

/// Collects mistakes while a file becomes a [`Config`].
struct Check<'a> {
    base: &'a Path,
    mistakes: Vec<Mistake>,
}

impl Check<'_> {
    fn mistake<T>(&mut self, at: Range<usize>, what: impl Into<String>, fix: impl Into<String>) -> Option<T> {
        self.mistakes.push(Mistake::new(at, what, fix));
        None
    }

    fn file(&mut self, file: file::File) -> Option<Config> {
        let node = self.node(file.node);
        let cluster = self.cluster(file.cluster);
        let routing_stacks = self.routing_stacks(file.routing_stack);
        let file::Bpf { pin, cgroup, container_mark } = file.bpf.unwrap_or_default();
        let bpf = Bpf {
            container_mark: self.container_mark(container_mark),
            pin: self.base.join(pin.unwrap_or_else(|| PathBuf::from("/sys/fs/bpf/baton"))),
            cgroup: cgroup.map(|c| self.base.join(c)),
        };
        let admin = file.admin.unwrap_or_default();
        let socket = admin.socket.clone().unwrap_or_else(|| "/run/baton/agent.sock".into());
        let metrics = admin.metrics;
        let metrics_socket = self.metrics_socket(admin);
        let rules = self.rules(file.application.unwrap_or_default());
        let applications = self.applications(file.applications.unwrap_or_default(), rules);
        let containers = self.containers(file.container.unwrap_or_default());
        let checks = self.checks(file.check.unwrap_or_default());
        let (repair_s, unanswered_s) = file.watch.map_or((None, None), |w| (w.repair_s, w.unanswered_s));
        let repair = self.repair(repair_s);
        let unanswered = unanswered_s.unwrap_or(UNANSWERED_S);
        let witness = file.witness.and_then(|w| w.directory).unwrap_or_else(|| "/var/lib/baton".into());
        let log_level = self.log_level(file.log.and_then(|l| l.level));
        Some(Config {
            node: node?,
            cluster: cluster?,
            routing_stacks,
            admin_socket: self.base.join(socket),
            metrics,
            metrics_socket,
            applications,
            bpf,
            containers,
            checks,
            repair,
            unanswered: (unanswered > 0).then(|| Duration::from_secs(unanswered.into())),
            witness: self.base.join(witness),
            log_level,
        })
    }

    fn node(&mut self, node: file::Node) -> Option<Node> {
        let name = self.name(&node.name);
        let at = node.cluster_address.span();
        let addresses: Vec<IpAddr> = node.cluster_address.into_inner();
        let cluster_address = ClusterAddress::from_addresses(&addresses).or_else(|| {
            let what = "needs one address, or one IPv4 and one IPv6 address";
            self.mistake(at, what, "write for example cluster_address = [\"198.18.0.21\", \"2001:db8::21\"]")
        });
        let at = node.interface.span();
        let interfaces = node.interface.into_inner().into_vec();
        if interfaces.is_empty() || interfaces.iter().any(|i| i.is_empty() || i.len() > 15) {
            let fix = "name the interface that forwarded packets arrive at, as `ip link` shows it";
            self.mistake::<()>(at, "an interface's name has 1 to 15 characters", fix);
        }
        let fabric_mtu = node.fabric_mtu.and_then(|mtu| match mtu.get_ref() {
            1280.. => Some(*mtu.get_ref()),
            _ => self.mistake(
                mtu.span(),
                "IPv6 needs an MTU of at least 1280 (RFC 8200 5)",
                "write 1280 or more",
            ),
        });
        Some(Node { name: name?, cluster_address: cluster_address?, interfaces, fabric_mtu })
    }

    fn cluster(&mut self, cluster: file::Cluster) -> Option<Cluster> {
        let file::Cluster { ca, certificate, key, heartbeat_ms, lost_after_ms } = cluster;
        let heartbeat = heartbeat_ms.as_ref().map_or(200, |ms| *ms.get_ref());
        let lost_after = lost_after_ms.as_ref().map_or(1500, |ms| *ms.get_ref());
        let at = |ms: Option<Spanned<u32>>| ms.map_or(0..0, |ms| ms.span());
        if heartbeat == 0 {
            self.mistake::<()>(at(heartbeat_ms), "a heartbeat every 0 ms is none", "write 200");
        } else if lost_after < heartbeat.saturating_mul(3) {
            let fix = format!("write {} or more, or a smaller heartbeat_ms", heartbeat.saturating_mul(3));
            let at = at(lost_after_ms.or(heartbeat_ms));
            self.mistake::<()>(
                at,
                "lost_after_ms is less than three heartbeats: one late packet would end a session",
                fix,
            );
        }
        let [ca, certificate, key] = [ca, certificate, key].map(|path| self.base.join(path));
        let [heartbeat, lost_after] = [heartbeat, lost_after].map(|ms| Duration::from_millis(ms.into()));
        Some(Cluster { ca, certificate, key, heartbeat, lost_after })
    }

    fn routing_stacks(&mut self, stacks: Spanned<Vec<file::RoutingStack>>) -> Vec<RoutingStack> {
        let at = stacks.span();
        let mut all: Vec<RoutingStack> = Vec::new();
        for stack in stacks.into_inner() {
            let Some(name) = self.name(&stack.name) else { continue };
            if all.iter().any(|other| other.name == name) {
                self.mistake::<()>(
                    stack.name.span(),
                    format!("`{name}` is here twice"),
                    "remove one of them",
                );
            }
            all.push(RoutingStack { name, control: stack.control, dvipas: stack.dvipas });
        }
        if all.is_empty() && self.mistakes.is_empty() {
            let fix = "add [[routing_stack]] with name = \"rt1\" and control = \"ADDRESS:PORT\"";
            self.mistake::<()>(at, "there is no routing stack to report to", fix);
        }
        all
    }

    fn containers(&mut self, containers: Vec<file::Container>) -> Vec<Container> {
        let mut all: Vec<Container> = Vec::new();
        for container in containers {
            let at = container.port.span();
            let file::Container { protocol, port, dvipa, address } = container;
            let port = port.into_inner();
            if dvipa.is_some_and(|dvipa| dvipa.is_ipv4() != address.is_ipv4()) {
                self.mistake::<()>(
                    at.clone(),
                    "DVIPA and container are of different families",
                    "write a container's address of the DVIPA's family",
                );
            }
            let protocol = protocol.map_or(Protocol::Tcp, Protocol::from);
            let same = |other: &Container| {
                let of = |c: &Container| (c.protocol, c.port, c.dvipa, c.address.is_ipv4());
                of(other) == (protocol, port, dvipa, address.is_ipv4())
            };
            if port == 0 || address.port() == 0 {
                self.mistake::<()>(at, "port 0 is none", "write the port of the DNAT rule");
            } else if all.iter().any(same) {
                self.mistake::<()>(at, "this port is here twice", "remove one of the [[container]] tables");
            }
            all.push(Container { protocol, port, dvipa, address });
        }
        all
    }

    fn container_mark(&mut self, mark: Option<Spanned<u32>>) -> u32 {
        let Some(mark) = mark else { return CONTAINER_MARK };
        if mark.get_ref().count_ones() > 1 {
            let fix = format!(
                "write {CONTAINER_MARK:#x}, another bit, or 0 if containers' packets are not to leave"
            );
            self.mistake::<()>(
                mark.span(),
                "the mark is one bit, because the others are other programs'",
                fix,
            );
        }
        *mark.get_ref()
    }

    fn repair(&mut self, seconds: Option<Spanned<u32>>) -> Duration {
        let Some(seconds) = seconds else { return Duration::from_secs(10) };
        if *seconds.get_ref() == 0 {
            self.mistake::<()>(seconds.span(), "0 s would look at all sockets all the time", "write 10");
        }
        Duration::from_secs((*seconds.get_ref()).into())
    }

    fn log_level(&mut self, level: Option<Spanned<String>>) -> LevelFilter {
        let Some(level) = level else { return LevelFilter::INFO };
        match level.get_ref().as_str() {
            "error" => LevelFilter::ERROR,
            "warn" => LevelFilter::WARN,
            "info" => LevelFilter::INFO,
            "debug" => LevelFilter::DEBUG,
            "trace" => LevelFilter::TRACE,
            other => {
                let what = format!("`{other}` is no level");
                self.mistake::<()>(level.span(), what, "write error, warn, info, debug or trace");
                LevelFilter::INFO
            }
        }
    }

    fn name(&mut self, name: &Spanned<String>) -> Option<StackName> {
        let bad = |e: model::stack::BadStackName| {
            self.mistake(name.span(), e.to_string(), "write the name that is in the stack's certificate")
        };
        StackName::new(name.get_ref().clone()).map_or_else(bad, Some)
    }
}

#[cfg(test)]
mod tests;
