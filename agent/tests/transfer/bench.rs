//! A client and two hosts that have the same DVIPAs, with the agent's programs in force.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use baton_agent::repair::{self, Refused, Restored};
use baton_agent::system::interfaces::Interface;
use baton_agent::system::netns_cookie;
use baton_agent::system::programs::{Programs, Settings};
use lab::Namespace;
use lab::fabric::Fabric;
use lab::registry::Record;
use lab::spec::{self, DVIPA, Spec};
use model::{ClusterAddress, Connection, ConnectionState, Dvipa};
use transfer::host::{Away, DEPARTED};

/// How long a connection may be frozen here.
const FROZEN: Duration = Duration::from_secs(10);

/// Packets with RST, as pcap-filter(7) has it: `tcp[…]` is for IPv4 only.
pub(crate) const RESET: &str = "(tcp[tcpflags] & tcp-rst != 0) or (ip6[6] = 6 and ip6[53] & 4 != 0)";

/// One of the two hosts.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) namespace: Namespace,
    pub(crate) programs: Programs,
    number: u8,
}

/// The hosts and the client. Dropping it removes everything.
pub(crate) struct Bench {
    pub(crate) client: Namespace,
    pub(crate) hosts: [Host; 2],
    /// Clears up when it is dropped, last.
    pub(crate) record: Record,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with_mtu(1500)
    }

    pub(crate) fn with_mtu(fabric_mtu: u16) -> Self {
        Self::build(fabric_mtu, "true")
    }

    /// With a shell script that each host runs before the programs start.
    pub(crate) fn prepared_by(script: &str) -> Self {
        Self::build(1500, script)
    }

    fn build(fabric_mtu: u16, script: &str) -> Self {
        let record = Record::open().unwrap();
        let spec = Spec { targets: 2, fabric_mtu, ..Spec::default() };
        let fabric = Fabric::build(&spec, &record).unwrap();
        let hosts = [1, 2].map(|index| {
            let namespace = fabric.host(&format!("t{index}")).clone();
            let add =
                format!("ip address add {}/32 dev lo; ip address add {}/128 dev lo nodad", DVIPA.0, DVIPA.1);
            namespace.sh(&add).unwrap();
            namespace.sh(script).unwrap();
            let number = spec::target(index);
            let pin = record.directory().join(format!("bpf{index}"));
            record.note("mount", &pin.display().to_string()).unwrap();
            let programs = namespace.enter(|| start(number, &pin.join("pins")));
            Host { namespace, programs, number }
        });
        let bench = Self { client: fabric.host("client").clone(), hosts, record };
        bench.route_to(0);
        bench
    }

    /// What the switch of a CRT entry is to the client's packets.
    pub(crate) fn route_to(&self, host: usize) {
        let (v4, v6) = spec::host(self.hosts[host].number);
        let script =
            format!("ip route replace {}/32 via {v4}; ip -6 route replace {}/128 via {v6}", DVIPA.0, DVIPA.1);
        self.client.sh(&script).unwrap();
    }

    /// A connection of the client with host 0: the client's end and the server's.
    pub(crate) fn connect(&self, dvipa: IpAddr, bind: &str) -> (TcpStream, OwnedFd) {
        self.route_to(0);
        let listener = self.hosts[0].namespace.enter(|| TcpListener::bind(bind).unwrap());
        let to = SocketAddr::new(dvipa, listener.local_addr().unwrap().port());
        let client = self.client.enter(|| TcpStream::connect(to).unwrap());
        let (server, _) = listener.accept().unwrap();
        (client, server.into())
    }

    /// Moves a connection as the cluster does, and returns its socket there.
    pub(crate) fn transfer(&self, socket: OwnedFd, from: usize, to: usize) -> OwnedFd {
        let (restored, old) = self.prepare(socket, from, to);
        self.commit(restored, old, from, to)
    }

    /// Freezes and dumps on the one host, restores on the other.
    pub(crate) fn prepare(&self, socket: OwnedFd, from: usize, to: usize) -> (Restored, OwnedFd) {
        let state = self.hosts[from].dump(&socket).unwrap();
        let state = ConnectionState::decode(&state.encode()).unwrap();
        (self.hosts[to].restore(state), socket)
    }

    /// Switches the route, activates, discards.
    pub(crate) fn commit(&self, restored: Restored, old: OwnedFd, from: usize, to: usize) -> OwnedFd {
        let connection = restored.state().connection;
        self.route_to(to);
        self.hosts[to].programs.maps.freezes.let_flow(&connection).unwrap();
        let socket = self.hosts[to].namespace.enter(|| restored.activate()).unwrap();
        self.hosts[from].keep_away(&connection, Away::Departed);
        repair::discard(old).unwrap();
        socket
    }
}

impl Host {
    /// Freezes a connection and reads its state; on refusal it goes on.
    pub(crate) fn dump(&self, socket: &OwnedFd) -> Result<ConnectionState, Refused> {
        let connection = connection_of(socket);
        self.keep_away(&connection, Away::Frozen);
        let state = self.namespace.enter(|| repair::dump(socket.as_fd()));
        if state.is_err() {
            self.programs.maps.freezes.let_flow(&connection).unwrap();
        }
        state
    }

    pub(crate) fn restore(&self, state: ConnectionState) -> Restored {
        self.keep_away(&state.connection, Away::Frozen);
        self.namespace.enter(|| repair::restore(state)).unwrap()
    }

    pub(crate) fn keep_away(&self, connection: &Connection, standing: Away) {
        let at_most = if standing == Away::Frozen { FROZEN } else { DEPARTED };
        self.programs.maps.freezes.keep_away(connection, standing, at_most).unwrap();
    }

    /// A counter of the programs.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let index = baton_agent::counters::COUNTERS.iter().position(|c| c.name == name).unwrap();
        self.programs.maps.counters().unwrap()[index]
    }
}

/// The connection of a server's socket.
pub(crate) fn connection_of(socket: impl AsFd) -> Connection {
    let socket = TcpStream::from(socket.as_fd().try_clone_to_owned().unwrap());
    let (client, dvipa) = (socket.peer_addr().unwrap(), socket.local_addr().unwrap());
    Connection::new(model::Protocol::Tcp, client, dvipa).unwrap()
}

fn start(number: u8, pin: &std::path::Path) -> Programs {
    let (v4, v6) = spec::host(number);
    let settings = Settings {
        pin: pin.to_path_buf(),
        cgroup: None,
        cluster_address: ClusterAddress { v4: Some(v4), v6: Some(v6) },
        interfaces: vec![interface("eth0")],
        fabric_mtu: 1500,
        own_v4: Some(v4),
        own_v6: Some(v6),
        container_mark: 0,
        netns_cookie: netns_cookie().unwrap(),
        has_containers: false,
    };
    let programs = Programs::start(&settings).unwrap();
    for dvipa in [DVIPA.0.into(), DVIPA.1.into()] {
        programs.maps.add_dvipa(Dvipa::new(dvipa), None).unwrap();
    }
    programs
}

fn interface(name: &str) -> Interface {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        baton_agent::system::interfaces::find(&handle, name).await.unwrap()
    })
}
