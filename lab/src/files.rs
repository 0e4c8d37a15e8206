//! The configuration files of a lab's programs.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::fabric::mac;
use crate::guest;
use crate::spec::{self, Local, Machine, Nic, RoutingNode, Spec, Web};

/// Milliseconds between heartbeats, and until a silent stack is lost.
const TIMES: &str = "heartbeat_ms = 100\nlost_after_ms = 1500\n";

/// What orders from the routing nodes' web pages need.
pub const WEB_TOKEN: &str = "a-token-of-a-lab-0123456789abcdef";

/// The targets, and a lease that a machine with other work does not let lapse.
const WITNESSES: &str = "witnesses = [\"t1\", \"t2\", \"t3\"]\nlease_ms = 2000\n";

/// A lease that a machine with other work does not let lapse, as etcd grants it.
const ETCD_LEASE_MS: u32 = 5000;

/// Where a member of etcd answers clients (2379) and the other members (2380).
pub fn etcd_url(number: u8, port: u16) -> String {
    format!("http://{}:{port}", spec::host(number).0)
}

fn etcd() -> String {
    let endpoints: Vec<String> = spec::ETCD.iter().map(|(_, number)| etcd_url(*number, 2379)).collect();
    format!("lease_ms = {ETCD_LEASE_MS}\n\n[cluster.etcd]\nendpoints = {endpoints:?}\n")
}

/// `batond.toml` of a routing node. `run` is the directory of its socket, `workers` are their cores.
pub fn batond(spec: &Spec, node: RoutingNode, run: &Path, workers: &[usize]) -> String {
    let (name, (v4, v6)) = (node.name(), node.addresses());
    let workers = spec.machine().map_or(workers, |machine| machine.workers());
    let (nic, local) = devices(spec, workers.len());
    let eal = if spec.machine().is_some() { "[]" } else { "[\"--no-huge\", \"-m\", \"512\"]" };
    let mut text = format!(
        "[node]\nname = \"{name}\"\ncluster_address = [\"{v4}\", \"{v6}\"]\n\n\
         [cluster]\nlisten = \"{v4}:7440\"\ndirectory = \"{state}\"\n{certificates}{TIMES}{witnesses}\n\
         [admin]\nsocket = \"{socket}\"\nmetrics = \"127.0.0.1:9440\"\n\
         web = \"127.0.0.1:9480\"\nweb_token = \"web.token\"\n\n\
         [forwarder]\nworkers = {workers:?}\nidle = \"{idle}\"\neal = {eal}\n\
         encapsulation = \"{encapsulation}\"\nfabric_mtu = {mtu}\n\
         connections_v4 = {connections}\nconnections_v6 = 50000\nrx_descriptors = 512\ntx_descriptors = 512\nflows_udp = 16384\nhalf_open = 16384\n{forwarder}\n\
         [[forwarder.port]]\nrole = \"nic\"\ndevice = \"{nic}\"\n\n\
         [[forwarder.port]]\nrole = \"local\"\ndevice = \"{local}\"\ninterface = \"loc0\"\n\n{announce}",
        announce = spec.announce,
        connections = spec.connections,
        state = run.join("epochs").display(),
        certificates = certificates(name),
        socket = run.join(format!("{name}.sock")).display(),
        encapsulation = spec.encapsulation,
        idle = if spec.tireless { "pure" } else { "backoff" },
        mtu = spec.fabric_mtu,
        witnesses = match () {
            () if spec.etcd => etcd(),
            () if spec.witnessed => WITNESSES.to_owned(),
            () => String::new(),
        },
        forwarder = spec.forwarder,
    );
    for (name, encapsulation) in &spec.encapsulation_of {
        let _ = write!(text, "[[stack]]\nname = \"{name}\"\nencapsulation = \"{encapsulation}\"\n\n");
    }
    for other in spec.routing_nodes().iter().filter(|other| **other != node) {
        let (name, (v4, _)) = (other.name(), other.addresses());
        let _ = write!(text, "[[routing_stack]]\nname = \"{name}\"\naddress = \"{v4}:7441\"\n\n");
    }
    text + spec.tables_of(node)
}

/// The devices of both ports, with this many queue pairs where they are the lab's own.
fn devices(spec: &Spec, queues: usize) -> (String, String) {
    let veth = format!("net_af_packet1,iface=loc1,qpairs={queues}");
    // What comes while the core of a worker does other work has to wait somewhere: 32 MiB hold it for 50 ms at 300 000 a second.
    let ring = if spec.tireless { ",framecnt=16384" } else { "" };
    match spec.nic {
        Nic::AfPacket => (format!("net_af_packet0,iface=eth0,qpairs={queues}{ring}"), veth),
        Nic::AfXdp => (format!("net_af_xdp0,iface=eth0,queue_count={queues}"), veth),
        Nic::Pcap => {
            let each = |interface| format!("rx_iface_in={interface},tx_iface=eth0");
            (format!("net_pcap0,{},{}", each("eth0"), each("eth1")), veth)
        }
        Nic::Pci(Machine { local, tap, .. }) => {
            let local = match local {
                Local::Veth => veth,
                Local::Tap => "net_tap0,iface=loc0".to_owned(),
                Local::VirtioUser => {
                    format!("net_virtio_user0,path=/dev/vhost-net,iface=loc0,queues={queues}")
                }
            };
            let mac = mac(RoutingNode::First.number());
            let before = format!("net_tap1,iface={},mac={mac}", Machine::TAP);
            (if tap { before } else { guest::NIC.to_owned() }, local)
        }
    }
}

/// `agent.toml` of a stack. `run` is the directory of its sockets, below which the lab's bpffs is mounted. A routing
/// node's agent hears what its kernel hears: the other end of the forwarder's local port.
pub fn agent(spec: &Spec, name: &str, run: &Path) -> String {
    let routing_node = spec.routing_nodes().iter().find(|node| node.name() == name);
    let (v4, v6) = spec::host(spec::number(name));
    let interface = if routing_node.is_some() { "loc0" } else { "eth0" };
    let only_v6 = spec.outer_v6 && routing_node.is_none();
    let each = |node: &RoutingNode| {
        let (name, control) = (node.name(), node.addresses().0);
        format!("[[routing_stack]]\nname = \"{name}\"\ncontrol = \"{control}:7440\"\n\n")
    };
    let routing_stacks: String = spec.routing_nodes().iter().map(each).collect();
    let addresses = if only_v6 { format!("\"{v6}\"") } else { format!("\"{v4}\", \"{v6}\"") };
    format!(
        "[node]\nname = \"{name}\"\ncluster_address = [{addresses}]\ninterface = \"{interface}\"\nfabric_mtu = {mtu}\n\n\
         [cluster]\n{certificates}{TIMES}\n\
         {routing_stacks}\
         [admin]\nsocket = \"{socket}\"\n\n\
         [applications]\nsocket = \"{applications}\"\n\n\
         [witness]\ndirectory = \"{run}\"\n\n\
         [bpf]\npin = \"{pin}\"\n",
        run = run.display(),
        certificates = certificates(name),
        mtu = spec.fabric_mtu,
        socket = agent_socket(run, name).display(),
        applications = applications(run, name).display(),
        pin = run.join("bpf").join(name).display(),
    )
}

/// The admin socket of a stack's agent.
pub fn agent_socket(run: &Path, name: &str) -> PathBuf {
    run.join(format!("agent-{name}.sock"))
}

/// The control socket of a stack's applications.
pub fn applications(run: &Path, name: &str) -> PathBuf {
    run.join(format!("applications-{name}.sock"))
}

fn certificates(name: &str) -> String {
    format!("ca = \"pki/ca.pem\"\ncertificate = \"pki/{name}.pem\"\nkey = \"pki/{name}.key\"\n")
}

/// The configuration of a target's nginx. It answers every request with its stack's name and has 8 MiB: `/big` as it is, `/sent`
/// with sendfile(2), `/slow` at 256 kB/s, `/slow-enough` at 2 MB/s, `/text` in chunks and compressed if the client takes that. What is in its `www` is under
/// `/files/`; what is PUT under `/put/` it keeps.
pub fn nginx(web: &Web, files: &Path) -> String {
    let name = &web.stack;
    let own = files.join(format!("nginx-{name}"));
    let listen: String = web.listen.iter().map(|l| format!("        listen {l};\n")).collect();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("    {kind}_temp_path {}/tmp;\n", own.display()))
        .collect();
    format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid {own}/pid;\nerror_log {own}/error.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n    access_log off;\n    keepalive_timeout 75;\n    keepalive_requests 1000000;\n    client_max_body_size 0;\n    large_client_header_buffers 4 32k;\n    ssl_certificate {files}/pki/{name}.pem;\n    ssl_certificate_key {files}/pki/{name}.key;\n{temporary}\
         \x20   server {{\n{listen}        root {own}/www;\n        add_header X-Target {name};\n\
         \x20       location / {{ return 200 \"{name}\\n\"; }}\n\
         \x20       location = /big {{ }}\n\
         \x20       location = /slow-enough {{ alias {own}/www/big; limit_rate 2m; }}\n\
         \x20       location = /slow {{ alias {own}/www/big; limit_rate 256k; }}\n\
         \x20       location /files/ {{ alias {own}/www/; }}\n\
         \x20       location = /sent {{ alias {own}/www/big; sendfile on; tcp_nopush on; }}\n\
         \x20       location = /text {{ alias {own}/www/big; types {{ }} default_type text/css; gzip on; gzip_types text/css; gzip_comp_level 1; }}\n\
         \x20       location /put/ {{ root {own}; dav_methods PUT; create_full_put_path on; }}\n\
         \x20   }}\n}}\n",
        own = own.display(),
        files = files.display(),
    )
}
