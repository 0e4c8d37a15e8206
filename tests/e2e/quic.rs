//! QUIC: clients that change their address stay with the server that their connection ID names. The servers are those of `examples/quic/`,
//! the clients quinn's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use lab::spec::{self, CLIENT, DVIPA, RoutingNode};
use lab::{Lab, Spec};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, TokioRuntime, TransportConfig, VarInt};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tempfile::NamedTempFile;
use tokio::runtime::Runtime;

use crate::fixture::{SOON, dvipa4, lab};
use crate::takeover::{backup, wait_for_owner};

const PORT: u16 = 4433;
const TARGETS: [&str; 3] = ["t1", "t2", "t3"];
/// Of which each target's servers use one: rotation bits, bytes of server IDs and nonces, whether they are encrypted. The second is
/// encrypted as one block, the third in four passes.
const WAYS: [(u8, u8, u8, bool); 3] = [(0, 4, 6, false), (3, 5, 11, true), (6, 4, 6, true)];
/// The client's second addresses.
const SECOND: (Ipv4Addr, Ipv6Addr) = spec::host(99);
/// A connection of which nothing is heard for so long is given up.
const GIVEN_UP: Duration = Duration::from_secs(4);

/// A cluster whose targets serve QUIC.
struct Cluster {
    lab: Lab,
    key: NamedTempFile,
    runtime: Runtime,
}

/// One connection and its endpoint, which may get another socket.
struct Client<'c> {
    cluster: &'c Cluster,
    endpoint: Endpoint,
    connection: Connection,
}

fn both(port: u16) -> [SocketAddr; 2] {
    [dvipa4(port), SocketAddr::new(DVIPA.1.into(), port)]
}

fn tables(ways: &[(u8, u8, u8, bool)], key: &NamedTempFile) -> String {
    let way = |(rotation, server_id, nonce, encrypted): &(u8, u8, u8, bool)| {
        let key = if *encrypted { format!("key = \"{}\"\n", key.path().display()) } else { String::new() };
        format!(
            "[[vipadynamic.vipadistribute.quic]]\nrotation = {rotation}\nserver_id_bytes = {server_id}\nnonce_bytes = {nonce}\nlength_in_first_octet = {}\n{key}",
            *rotation == 6
        )
    };
    let ways: String = ways.iter().map(way).collect();
    spec::both_families(&format!("ports = [{PORT}]\nprotocol = \"udp\"\ndestip = \"all\"\n{ways}"))
}

impl Cluster {
    /// With a server on each target. `follows`: `batond` is told how they make connection IDs.
    fn new(follows: bool) -> Self {
        Self::of(Spec::default(), follows)
    }

    fn of(spec: Spec, follows: bool) -> Self {
        let key = NamedTempFile::new().expect("a file");
        std::fs::write(key.path(), "8f95f09245765f80256934e50c66207f\n").expect("it is written");
        std::fs::set_permissions(key.path(), Permissions::from_mode(0o600)).expect("its mode");
        let lab = lab(spec.vipadynamic(tables(&WAYS, &key)).web([]));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let mut cluster = Self { lab, key, runtime: runtime.expect("a runtime") };
        cluster.lab.issue("quic").expect("a certificate");
        for (target, way) in TARGETS.into_iter().zip(WAYS) {
            cluster.serve(target, way);
        }
        if !follows {
            let without = tables(&[], &cluster.key);
            cluster.lab.set_vipadynamic(without).expect("it is written");
            cluster.lab.baton(&["reload"]).expect("it reloads");
        }
        let (v4, v6) = SECOND;
        let add = format!("ip addr add {v4}/16 dev eth0; ip addr add {v6}/64 dev eth0 nodad");
        cluster.lab.client().sh(&add).expect("second addresses");
        cluster.wait_for_targets(&TARGETS);
        cluster
    }

    /// Starts a target's server with the server ID that `baton dpt` shows.
    fn serve(&self, target: &str, (rotation, _, nonce, encrypted): (u8, u8, u8, bool)) {
        let id = self.lab.wait_for("the target's server IDs", SOON, || {
            let rows = self.lab.dpt().map_err(|e| e.to_string())?;
            let of_it = rows.iter().flat_map(|row| &row.targets).find(|row| row.target == target);
            let id = of_it.and_then(|row| row.server_ids.iter().find(|of| of.rotation == rotation));
            id.map(|of| of.id.clone()).ok_or(format!("{rows:#?}"))
        });
        let file = |name: &str| self.lab.files().join("pki").join(name).display().to_string();
        let program = self.lab.example("quic").expect("it is built").display().to_string();
        let (certificate, key, ids_key) =
            (file("quic.pem"), file("quic.key"), self.key.path().display().to_string());
        let (at, rotation, nonce) = (format!("[::]:{PORT}"), rotation.to_string(), nonce.to_string());
        let id = id.unwrap_or_else(|e| panic!("{e}"));
        let mut words = vec![&*program, target, &at, &certificate, &key, &rotation, &id, &nonce];
        words.extend(encrypted.then_some(&*ids_key));
        self.lab.start_on(target, &format!("quic-{target}"), &words).expect("it starts");
    }

    fn wait_for_targets(&self, targets: &[&str]) {
        let wait =
            self.lab.wait_for(&format!("the targets to be {targets:?}"), Duration::from_secs(30), || {
                self.lab.check().map_err(|e| e.to_string())?;
                let rows = self.lab.dpt().map_err(|e| e.to_string())?;
                let good = rows.len() == 2 && rows.iter().all(|row| row.selectable() == targets);
                if good { Ok(()) } else { Err(format!("{rows:#?}")) }
            });
        wait.unwrap_or_else(|e| panic!("{e}"));
    }

    /// A socket of the client's host, at its first or second address.
    fn socket(&self, to: SocketAddr, second: bool) -> UdpSocket {
        let (v4, v6) = if second { SECOND } else { CLIENT };
        let own = if to.is_ipv4() { IpAddr::from(v4) } else { IpAddr::from(v6) };
        self.lab.client().enter(|| UdpSocket::bind((own, 0))).expect("a socket")
    }

    fn connect(&self, to: SocketAddr) -> Result<Client<'_>, String> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(self.lab.files().join("pki/ca.pem")).expect("a certificate");
        roots.add(ca).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut config =
            ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("a cipher suite")));
        let mut transport = TransportConfig::default();
        transport.max_idle_timeout(Some(GIVEN_UP.try_into().expect("it is not so long")));
        transport.keep_alive_interval(Some(GIVEN_UP / 4));
        config.transport_config(Arc::new(transport));
        let socket = self.socket(to, false);
        self.runtime.block_on(async {
            let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime));
            let endpoint = endpoint.expect("an endpoint");
            let connecting = endpoint.connect_with(config, to, "quic").map_err(|e| e.to_string())?;
            let connection = connecting.await.map_err(|e| e.to_string())?;
            Ok(Client { cluster: self, endpoint, connection })
        })
    }

    /// A connection to each target.
    fn connect_to_all(&self, to: SocketAddr) -> BTreeMap<String, Client<'_>> {
        let mut clients = BTreeMap::new();
        for _ in 0..12 {
            let client = self.connect(to).unwrap_or_else(|e| panic!("{to}: {e}"));
            clients.insert(client.ask(10).expect("an answer"), client);
        }
        assert_eq!(clients.keys().collect::<Vec<_>>(), TARGETS);
        clients
    }

    fn counter(&self, name: &str) -> u64 {
        self.lab.counter(name).expect("baton stats answers")
    }
}

impl Client<'_> {
    /// Sends so many bytes and gets as many; returns who answers.
    fn ask(&self, bytes: usize) -> Result<String, String> {
        self.cluster.runtime.block_on(self.asking(bytes))
    }

    async fn asking(&self, bytes: usize) -> Result<String, String> {
        let (mut ask, mut answer) = self.connection.open_bi().await.map_err(|e| e.to_string())?;
        let send = async {
            ask.write_all(&vec![b'a'; bytes]).await.map_err(|e| e.to_string())?;
            ask.finish().map_err(|e| e.to_string())
        };
        let (sent, answer) = tokio::join!(send, answer.read_to_end(bytes + 64));
        sent?;
        let answer = answer.map_err(|e| e.to_string())?;
        let end = answer.iter().position(|byte| *byte == b'\n').ok_or("no line")?;
        let line = String::from_utf8_lossy(&answer[..end]);
        let (name, count) = line.split_once(' ').ok_or("no count")?;
        assert_eq!((count.parse(), answer.len() - end - 1), (Ok(bytes), bytes), "{line}");
        Ok(name.to_owned())
    }

    /// Goes on from another port, or from another address too.
    fn moves(&self, second: bool) {
        let socket = self.cluster.socket(self.connection.remote_address(), second);
        let _inside = self.cluster.runtime.enter();
        self.endpoint.rebind(socket).expect("another socket");
    }

    /// Where its flow's entry says that its server is.
    fn entry(&self) -> Result<String, String> {
        let client = self.endpoint.local_addr().expect("an address").to_string();
        let rows = self.cluster.lab.crt(&["--client", &client]).map_err(|e| e.to_string())?;
        let row = rows.iter().find(|row| row.client == client && row.state == "established");
        row.map(|row| row.stack.clone()).ok_or(format!("{client} is not in {rows:#?}"))
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        self.connection.close(VarInt::from_u32(0), b"");
    }
}

/// B8: a QUIC connection stays with its server however often its client changes its port and its address, also in the middle of a
/// transfer, in both families, whether connection IDs are plain, one encrypted block, or mixed in four passes, all at once; the CRT has the
/// new flows, and what was not changed is as before.
#[test]
#[ignore = "needs root"]
fn a_client_that_changes_its_address_stays_with_its_server() {
    let cluster = Cluster::new(true);
    for to in both(PORT) {
        let clients = cluster.connect_to_all(to);
        assert_eq!(cluster.counter("quic_unknown") + cluster.counter("quic_gone"), 0);
        let followed = cluster.counter("quic_followed");
        for turn in 0..6 {
            for (target, client) in &clients {
                client.moves(turn % 2 == 0);
                assert_eq!(client.ask(100_000).as_ref(), Ok(target), "turn {turn} to {to}");
                assert_eq!(client.entry().as_ref(), Ok(target), "turn {turn} to {to}");
            }
        }
        assert!(cluster.counter("quic_followed") >= followed + 18, "each comes from a new address");
        for (target, client) in &clients {
            let moving = async {
                for turn in 0..5 {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    client.moves(turn % 2 == 0);
                }
            };
            let (answer, ()) =
                cluster.runtime.block_on(async { tokio::join!(client.asking(8 << 20), moving) });
            assert_eq!(answer.as_ref(), Ok(target));
            assert!(client.connection.close_reason().is_none());
        }
    }
    let shown = cluster.lab.baton(&["dpt"]).expect("baton dpt answers");
    assert!(shown.contains("SERVER ID") && shown.contains("0:628b49d9"), "{shown}");
}

/// B8: without the `quic` tables the next packet from another address goes to another host, and the connection is lost; with them, as soon
/// as they are in force, it is not.
#[test]
#[ignore = "needs root"]
fn without_connection_ids_a_client_that_changes_its_address_loses_its_server() {
    let mut cluster = Cluster::new(false);
    for to in both(PORT) {
        let client = cluster.connect(to).unwrap_or_else(|e| panic!("{to}: {e}"));
        client.ask(1000).expect("an answer");
        // Round robin: the next flow goes to the next target.
        client.moves(false);
        client.ask(1000).expect_err("another server has no such connection");
    }
    assert_eq!(cluster.counter("quic_followed"), 0);
    cluster.lab.set_vipadynamic(tables(&WAYS, &cluster.key)).expect("it is written");
    cluster.lab.baton(&["reload"]).expect("it reloads");
    for to in both(PORT) {
        let client = cluster.connect(to).unwrap_or_else(|e| panic!("{to}: {e}"));
        let target = client.ask(1000).expect("an answer");
        client.moves(false);
        assert_eq!(client.ask(1000), Ok(target));
    }
}

/// B8: the next owner of the DVIPA, which has neither the definition nor the key of its own, follows connection IDs too: of clients that go
/// on from where they were, and of those that change their address meanwhile.
#[test]
#[ignore = "needs root"]
fn clients_that_change_their_address_stay_over_a_takeover() {
    let cluster = Cluster::of(Spec::default().second(backup()), true);
    wait_for_owner(&cluster.lab, RoutingNode::First, &[RoutingNode::Second]);
    let [v4, v6] = both(PORT).map(|to| cluster.connect_to_all(to));
    let clients = || v4.iter().chain(&v6);
    for (target, client) in clients() {
        client.moves(true);
        assert_eq!(client.ask(1000).as_ref(), Ok(target));
    }
    cluster.lab.kill("batond").expect("it dies");
    wait_for_owner(&cluster.lab, RoutingNode::Second, &[]);
    for (target, client) in clients() {
        assert_eq!(client.ask(1000).as_ref(), Ok(target), "from where it was");
        client.moves(false);
        assert_eq!(client.ask(1000).as_ref(), Ok(target), "from another address");
    }
    let counted = cluster.lab.counters_at(RoutingNode::Second).expect("baton stats answers");
    assert!(counted["quic_followed"] >= 6 && counted["quic_unknown"] == 0, "{counted:#?}");
}

/// B8: a drained host keeps its connections when their clients change their address, and gets no new one; nor does a host that has died.
#[test]
#[ignore = "needs root"]
fn a_drained_host_keeps_its_connections_and_a_dead_one_gets_no_new_ones() {
    let cluster = Cluster::new(true);
    let [to, _] = both(PORT);
    let clients = cluster.connect_to_all(to);
    cluster.lab.baton(&["drain", "t2"]).expect("it drains");
    cluster.wait_for_targets(&["t1", "t3"]);
    let drained = &clients["t2"];
    for turn in 0..4 {
        drained.moves(turn % 2 == 0);
        assert_eq!(drained.ask(1000).as_deref(), Ok("t2"));
    }
    let served = |cluster: &Cluster| -> BTreeSet<String> {
        let client = || cluster.connect(to).and_then(|client| client.ask(10));
        (0..6).map(|_| client().unwrap_or_else(|e| panic!("{e}"))).collect()
    };
    assert_eq!(served(&cluster), ["t1", "t3"].map(str::to_owned).into());
    cluster.lab.baton(&["resume", "t2"]).expect("it resumes");
    cluster.wait_for_targets(&TARGETS);
    // Its link is cut in the switch.
    cluster.lab.switch().sh("ip link set t2 nomaster").expect("it dies");
    cluster.wait_for_targets(&["t1", "t3"]);
    assert_eq!(served(&cluster), ["t1", "t3"].map(str::to_owned).into());
    for target in ["t1", "t3"] {
        clients[target].moves(true);
        assert_eq!(clients[target].ask(1000).as_deref(), Ok(target), "others are not disturbed");
    }
}
