//! A target host with an agent, and the segment it is on.
//!
//! Two namespaces joined by a veth pair: the host, and its peer, which has the addresses of a routing node and a client.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use baton_agent::Config;
use baton_agent::admin;
use baton_agent::runtime::{Agent, clean_up};
use lab::Namespace;
use transport::pki;

use crate::routing_stack::RoutingStack;
use crate::scapy::Scapy;

pub(crate) const HOST_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 21);
pub(crate) const HOST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x21);
pub(crate) const ROUTING_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);
pub(crate) const ROUTING_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
pub(crate) const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
pub(crate) const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
pub(crate) const DVIPA_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 9, 1));
pub(crate) const DVIPA_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1));

/// How long anything may take that happens in the end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Names the configuration for the process that [`agent_process`] becomes.
const CONFIG: &str = "BATON_TEST_AGENT_CONFIG";
/// What that process is to do instead of running an agent.
const CLEANUP: &str = "BATON_TEST_AGENT_CLEANUP";

/// The host, its peer and its agent. Dropping it removes everything.
pub(crate) struct Host {
    pub(crate) host: Namespace,
    pub(crate) peer: Namespace,
    pub(crate) routing_stack: RoutingStack,
    scapy: OnceLock<Scapy>,
    directory: tempfile::TempDir,
    agent: Option<Child>,
}

impl Host {
    /// A host whose agent runs and has a session with the routing stack, which has sent no list yet.
    pub(crate) fn new() -> Self {
        let mut host = Self::without_agent();
        host.start_agent();
        host
    }

    /// The same without an agent.
    pub(crate) fn without_agent() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let id = format!("bt-ag{:x}{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let (host, peer) = (Namespace::named(format!("{id}-h")), Namespace::named(format!("{id}-p")));
        for namespace in [&host, &peer] {
            succeed(Command::new("ip").args(["netns", "add", namespace.name()]));
        }
        let (h, p) = (host.name(), peer.name());
        succeed(
            Command::new("ip")
                .args(["-n", h, "link", "add", "eth0", "type", "veth", "peer", "eth0", "netns", p]),
        );
        let offloads = "ethtool -K eth0 tx off gso off tso off gro off rx off >/dev/null";
        let up = format!("ip link set lo up; {offloads}; ip link set eth0 up");
        host.sh(&format!("{up}; {}", addresses(&[HOST_V4.into(), HOST_V6.into()]))).unwrap();
        let of_peer = [ROUTING_V4.into(), CLIENT_V4.into(), ROUTING_V6.into(), CLIENT_V6.into()];
        peer.sh(&format!("{up}; {}", addresses(&of_peer))).unwrap();

        let directory = tempfile::Builder::new().prefix("bt-agent").tempdir().unwrap();
        let pki = directory.path().join("pki");
        pki::init(&pki).unwrap();
        for name in ["t1", "rt1"] {
            pki::issue(&pki, &name.parse().unwrap(), 1).unwrap();
        }
        fs::write(directory.path().join("agent.toml"), CONFIGURATION).unwrap();
        let routing_stack = RoutingStack::start(&peer, &pki);
        Self { host, peer, routing_stack, scapy: OnceLock::new(), directory, agent: None }
    }

    /// Starts the agent in a process of its own, and waits for its session.
    pub(crate) fn start_agent(&mut self) {
        let mut command = self.agent_command();
        self.agent = Some(self.host.enter(|| command.spawn().unwrap()));
        self.routing_stack.wait("a session", |heard| heard.session);
    }

    /// Ends the agent as if the power went out for it alone.
    pub(crate) fn kill_agent(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
        self.routing_stack.wait("the end of the session", |heard| !heard.session);
    }

    /// Ends the agent as the service manager does.
    pub(crate) fn stop_agent(&mut self) {
        let mut agent = self.agent.take().unwrap();
        succeed(Command::new("kill").args(["-TERM", &agent.id().to_string()]));
        assert!(agent.wait().unwrap().success(), "the agent ends well");
    }

    /// Runs `baton-agent --cleanup`; whether it has removed everything.
    pub(crate) fn clean_up(&self) -> bool {
        let mut command = self.agent_command();
        command.env(CLEANUP, "1").stderr(Stdio::null());
        self.host.enter(|| command.status().unwrap()).success()
    }

    /// Takes the BPF file system with all pins away.
    pub(crate) fn unmount_pins(&self) {
        succeed(Command::new("umount").arg(self.directory.path().join("bpf")));
    }

    /// This test program, about to become [`agent_process`].
    fn agent_command(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "--nocapture", "host::agent_process"]);
        command.env(CONFIG, self.directory.path().join("agent.toml"));
        // What a test program says of itself is not a result of this one.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// What the agent shows.
    pub(crate) fn status(&self) -> serde_json::Value {
        let curl = ["curl", "-sS", "--unix-socket"];
        let socket = self.directory.path().join("agent.sock").display().to_string();
        let words: Vec<_> = curl.into_iter().chain([socket.as_str(), "http://agent/v1/status"]).collect();
        serde_json::from_str(&self.host.run(&words).unwrap()).unwrap()
    }

    /// The counters of the agent's programs.
    fn counters(&self) -> Vec<(String, u64)> {
        let status = self.status();
        let counters = status["counters"].as_array().unwrap().iter();
        counters.map(|c| (c["name"].as_str().unwrap().to_owned(), c["value"].as_u64().unwrap())).collect()
    }

    /// A counter of the agent's programs.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        self.counters().into_iter().find(|(n, _)| n == name).unwrap().1
    }

    /// Waits until a counter has at least this value.
    pub(crate) fn wait_for_counter(&self, name: &str, at_least: u64) {
        let until = Instant::now() + PATIENCE;
        while self.counter(name) < at_least {
            let counted = || self.counters().into_iter().filter(|(_, value)| *value > 0).collect::<Vec<_>>();
            assert!(Instant::now() < until, "{name} is not {at_least}: {:?}", counted());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs a Python script in the peer; `host_mac` and all of scapy are defined.
    pub(crate) fn scapy(&self, script: &str) -> String {
        let scapy = self.scapy.get_or_init(|| Scapy::start(&self.peer));
        scapy.run(&format!("host_mac = '{}'\n{script}", self.mac()))
    }

    /// The host's address on the segment.
    fn mac(&self) -> String {
        let links = self.host.run(&["ip", "-o", "link", "show", "eth0"]).unwrap();
        links.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_owned()
    }

    /// The addresses of `lo`, as `ip` shows them.
    pub(crate) fn loopback(&self) -> String {
        self.host.run(&["ip", "-o", "address", "show", "dev", "lo"]).unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        let _ = Command::new("umount").arg(self.directory.path().join("bpf")).stderr(Stdio::null()).status();
        drop(self.scapy.take());
        for namespace in [&self.host, &self.peer] {
            let _ = Command::new("ip").args(["netns", "del", namespace.name()]).status();
        }
    }
}

const CONFIGURATION: &str = r#"
[node]
name = "t1"
cluster_address = ["198.18.0.21", "2001:db8::21"]
interface = "eth0"
[cluster]
ca = "pki/ca.pem"
certificate = "pki/t1.pem"
key = "pki/t1.key"
lost_after_ms = 1000
[[routing_stack]]
name = "rt1"
control = "198.18.0.10:7440"
[admin]
socket = "agent.sock"
[applications]
socket = "applications.sock"
[bpf]
pin = "bpf"
[watch]
repair_s = 2
"#;

fn addresses(all: &[IpAddr]) -> String {
    let add = |a: &IpAddr| match a {
        IpAddr::V4(_) => format!("ip address add {a}/16 dev eth0"),
        IpAddr::V6(_) => format!("ip address add {a}/64 dev eth0 nodad"),
    };
    all.iter().map(add).collect::<Vec<_>>().join("; ")
}

fn succeed(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// What the agent left pinned.
pub(crate) fn pins(host: &Host) -> Vec<PathBuf> {
    let read = fs::read_dir(host.directory.path().join("bpf/t1"));
    let mut all: Vec<_> = read.into_iter().flatten().flatten().map(|e| e.path()).collect();
    all.sort();
    all
}

/// Both families' addresses with this port.
pub(crate) fn dvipas(port: u16) -> [SocketAddr; 2] {
    [SocketAddr::new(DVIPA_V4, port), SocketAddr::new(DVIPA_V6, port)]
}

/// No test: the process of an agent, so that one can be killed.
#[test]
#[ignore = "is started by the other tests"]
fn agent_process() {
    let Ok(path) = std::env::var(CONFIG) else { return };
    let config = Config::load(Path::new(&path)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if std::env::var_os(CLEANUP).is_some() {
            clean_up(&config).await.unwrap();
            return;
        }
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        let socket = admin::open(&config.admin_socket).await.unwrap();
        let agent = Agent::start(config).await.unwrap();
        tokio::spawn(admin::serve(socket, agent.questions()));
        agent.run(async move { terminate.recv().await.unwrap_or_default() }).await;
    });
}
