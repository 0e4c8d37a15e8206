//! `batond` on PCI NICs with their ordinary poll-mode drivers, in a virtual machine: real clients reach real servers through
//! it. `scripts/test nic` makes what is booted and runs these tests.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lab::client::{self, HttpConnection, ask_often};
use lab::fabric::mac;
use lab::spec::{self, DVIPA, Local, Machine, Model, Nic, RT1, Web};
use lab::{Lab, Server, Spec};
use model::dpt::Encapsulation;

use crate::fixture::{counts_of_workers, dvipa4, lab, web4, web6};

/// How long something may take that happens at once, in a guest without a processor of its own.
const SOON: Duration = Duration::from_secs(30);
/// The service over UDP.
const ECHO: u16 = 5300;
/// The port of which a routing application of the routing node has each client first.
const ROUTED: u16 = 81;
const TARGETS: [&str; 3] = ["t1", "t2", "t3"];

/// R1, F1: e1000e, bound to uio_pci_generic; its link is lost and comes back.
#[test]
#[ignore = "needs root and a guest"]
fn e1000e_carries_every_kind_of_traffic_and_outlives_its_link() {
    let lab = routing_node(on(Machine::new(Model::E1000e)));
    carries(&lab);
    let mut connection = HttpConnection::open(lab.client(), web4()).expect("the client connects");
    let target = connection.target().expect("a target answers");
    let capture = lab.capture("client", "eth0", "arp").expect("a capture");
    lab.set_guest_link(false).expect("the monitor answers");
    wait_for_link(&lab, false);
    lab.set_guest_link(true).expect("the monitor answers");
    wait_for_link(&lab, true);
    assert_eq!(connection.target().expect("it goes on"), target);
    // Sender and target protocol address are the DVIPA (RFC 5227 section 3).
    let gratuitous = capture.stop().expect("the capture ends");
    let gratuitous =
        gratuitous.packets("arp[14:4] == 0xc6120901 and arp[24:4] == 0xc6120901").expect("it is read");
    assert!(gratuitous.iter().any(|p| p.starts_with(&mac(10))), "announced again: {gratuitous:#?}");
}

/// R1, F1: igb, bound to vfio-pci, with jumbo frames; both workers receive (RSS), and the NIC verifies checksums.
#[test]
#[ignore = "needs root and a guest"]
fn igb_carries_every_kind_of_traffic_in_jumbo_frames_to_two_workers() {
    let lab =
        routing_node(Spec { fabric_mtu: 9000, ..on(Machine { vfio: true, ..Machine::new(Model::Igb) }) });
    carries(&lab);
    for address in [IpAddr::from(RT1.0), IpAddr::from(RT1.1)] {
        let payload = if address.is_ipv4() { "8972" } else { "8952" };
        let ping =
            ["ping", "-M", "do", "-c", "3", "-i", "0.2", "-W", "5", "-s", payload, &address.to_string()];
        lab.client().run(&ping).expect("9000 bytes are answered");
    }
    let log = std::fs::read_to_string(lab.files().join("batond.log")).expect("its log");
    let verify = |line: &str| line.contains("port runs") && line.contains("ipv4_checksums=\"device\"");
    assert_eq!(log.lines().filter(|line| verify(line)).count(), 1, "the NIC, and not the veth:\n{log}");
    both_workers_receive(&lab);
}

/// R1, F1: virtio-net with two queue pairs, and a TAP as local port; both workers receive.
#[test]
#[ignore = "needs root and a guest"]
fn virtio_net_carries_every_kind_of_traffic_to_two_workers() {
    let lab = routing_node(on(Machine { local: Local::Tap, ..Machine::new(Model::VirtioNet) }));
    carries(&lab);
    both_workers_receive(&lab);
}

/// R1, F1: vmxnet3, and virtio-user as local port. A second `batond` ends before it touches a port, and names the first.
#[test]
#[ignore = "needs root and a guest"]
fn vmxnet3_carries_every_kind_of_traffic_and_has_one_batond() {
    let lab = routing_node(on(Machine { local: Local::VirtioUser, ..Machine::new(Model::Vmxnet3) }));
    carries(&lab);
    let files = lab.files().display().to_string();
    let batond = lab.program("batond").expect("it is built");
    let second = lab.in_guest(&format!(
        "sed 's/rt1.sock/other.sock/; s/7440/7441/; s/9440/9441/' {files}/batond.toml >{files}/second.toml
         cd {files} && ! {} --config {files}/second.toml",
        batond.display()
    ));
    let second = second.expect("it ends with an error");
    let first = lab.in_guest("pidof batond").expect("one runs");
    assert!(second.contains(&format!("another batond, process {}", first.trim())), "{second}");
    assert_eq!(ask_often(lab.client(), web4(), 3).len(), 3, "the first goes on");
}

/// R1, F1: e1000, the oldest. It stands in where QEMU has no igb.
#[test]
#[ignore = "needs root and a guest"]
fn e1000_carries_every_kind_of_traffic() {
    carries(&routing_node(on(Machine::new(Model::E1000))));
}

/// While `batond` stands still, its ring gets more packets of a client than it holds, and then one of each kind that is steered.
/// Says how many were lost.
const OVERFLOW: &str = r#"
import socket, struct, subprocess
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("tap1", 0))
router, client = bytes.fromhex("02000000000a"), bytes.fromhex("020000000002")
v4, v6 = lambda a: socket.inet_pton(socket.AF_INET, a), lambda a: socket.inet_pton(socket.AF_INET6, a)
def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xffff) + (total >> 16)
    return ~(total + (total >> 16)) & 0xffff
def datagram(to, port):
    head = lambda sum: struct.pack("!BBHHHBBH4s4s", 0x45, 0, 46, 0, 0, 64, 17, sum, v4("198.18.0.2"), v4(to))
    return router + client + b"\x08\x00" + head(checksum(head(0))) + struct.pack("!4H", 4000, port, 26, 0) + bytes(18)
def request(dvipa):
    return b"\xff" * 6 + client + struct.pack("!5H", 0x0806, 1, 0x0800, 0x0604, 1) + client + v4("198.18.0.2") + bytes(6) + v4(dvipa)
def solicitation(dvipa):
    ends = v6("2001:db8::2") + v6("ff02::1:ff00:1")
    body = lambda sum: struct.pack("!BBHI", 135, 0, sum, 0) + v6(dvipa) + b"\x01\x01" + client
    whole = body(checksum(ends + struct.pack("!II", 32, 58) + body(0)))
    return bytes.fromhex("3333ff000001") + client + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, 32, 58, 255) + ends + whole
dropped = lambda: int(open("/sys/class/net/tap1/statistics/tx_dropped").read())
before = dropped()
batond = subprocess.check_output(["pidof", "batond"], text=True).strip()
subprocess.check_call(["kill", "-STOP", batond])
for frame in [datagram("198.18.9.1", 9)] * 3000 + [request("198.18.9.1"), solicitation("2001:db8:9::1"), datagram("198.18.0.10", 7440)]:
    wire.send(frame)
subprocess.check_call(["kill", "-CONT", batond])
print(dropped() - before)
"#;

/// R8: more comes than the worker receives, and is lost. What keeps the node in its cluster and on its segment is not, because the
/// NIC steers it to a receive queue of its own: ARP and neighbour discovery are answered, and packets of sessions arrive.
#[test]
#[ignore = "needs root and a guest"]
fn what_is_steered_outlives_a_full_receive_queue() {
    let lab = lab(on(Machine { tap: true, ..Machine::new(Model::VirtioNet) }));
    let seen = "nft 'add table netdev seen
             add chain netdev seen in { type filter hook ingress device loc0 priority 0; }
             add counter netdev seen session
             add rule netdev seen in udp sport 4000 udp dport 7440 counter name session'";
    lab.in_guest(seen).expect("a counter");
    let script = lab.files().join("overflow.py");
    std::fs::write(&script, OVERFLOW).expect("it is written");
    let counters = ["answered_arp", "answered_neighbour", "received_steered"];
    let count = || counters.map(|name| lab.counter(name).expect("baton stats answers"));
    let before = count();
    let lost = lab.in_guest(&format!("python3 {}", script.display())).expect("packets are sent");
    assert!(lost.trim().parse::<u32>().expect("a number") > 1000, "its ring is full: {lost}");
    lab.wait_for("what is steered to arrive", SOON, || {
        let session = lab.in_guest("nft list counter netdev seen session").map_err(|e| e.to_string())?;
        let more: [u64; 3] = {
            let after = count();
            std::array::from_fn(|i| after[i] - before[i])
        };
        let good = session.contains("packets 1 ") && more[0] >= 1 && more[1] >= 1 && more[2] >= 3;
        if good { Ok(()) } else { Err(format!("{lost} lost; {counters:?}: {more:?}; {session}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let status = lab.baton_json(&["status"]).expect("batond answers");
    let steered = ["ARP", "ND", "sessions over IPv4", "BGP over IPv4", "BGP over IPv6"];
    assert_eq!(status["ports"][0]["steered"], serde_json::json!(steered), "{status:#}");
}

/// A routing node that is a guest with this NIC.
fn on(machine: Machine) -> Spec {
    Spec { nic: Nic::Pci(machine), ..Spec::default() }
}

/// A cluster with such a routing node; each target has another encapsulation.
fn routing_node(spec: Spec) -> Lab {
    let encapsulation_of = [("t2", Encapsulation::Ipip), ("t3", Encapsulation::L2)];
    let web = "ports = [80]\ndestip = \"all\"\nmethod = \"round-robin\"";
    let echo = format!("ports = [{ECHO}]\nprotocol = \"udp\"\ndestip = \"all\"");
    let routed = format!("ports = [{ROUTED}]\ndestip = \"all\"\ncontent_routed = true");
    let tables = |address: IpAddr, mask| spec::dvipa(address, mask, &[web, &echo, &routed]);
    let mut servers = TARGETS.map(Web::wildcard);
    servers[0].listen.extend([format!("{ROUTED}"), format!("[::]:{ROUTED} ipv6only=on")]);
    lab(Spec {
        routing_agent: true,
        web: servers.into(),
        encapsulation_of: encapsulation_of.map(|(name, e)| (name.to_owned(), e)).into(),
        vipadynamic: format!("[[vipadynamic]]\n{}{}", tables(DVIPA.0.into(), 24), tables(DVIPA.1.into(), 64)),
        ..spec
    })
}

/// Clients of both families reach every target over TCP and UDP, the routing node answers ARP, neighbour solicitation and
/// echo, and its own kernel is there behind the local port.
fn carries(lab: &Lab) {
    for to in [web4(), web6()] {
        let answers = ask_often(lab.client(), to, 9);
        assert_eq!(answers.into_iter().collect::<Vec<_>>(), TARGETS.map(|t| (t.to_owned(), 3)));
        let mut connection = HttpConnection::open(lab.client(), to).expect("the client connects");
        assert_eq!(connection.get("/big").expect("8 MiB come").len(), 8 << 20);
    }
    let body = lab.files().join("body");
    std::fs::write(&body, vec![b'x'; 1 << 20]).expect("a file is written");
    let (data, url) = (format!("@{}", body.display()), format!("http://{}/", web4()));
    let sent = ["curl", "-sf", "--max-time", "60", "-w", "%{size_upload}", "--data-binary", &data, &url];
    let answer = lab.client().run(&sent).expect("1 MiB is taken");
    assert!(answer.ends_with(&(1 << 20).to_string()), "{answer}");
    let v6 = SocketAddr::new(DVIPA.1.into(), ECHO);
    let servers =
        TARGETS.into_iter().flat_map(|t| [dvipa4(ECHO), v6].map(|at| Server::udp(lab.host(t), at, t)));
    let _servers: Vec<Server> = servers.map(|server| server.expect("it listens")).collect();
    lab.wait_for("all three to serve UDP", SOON, || {
        let rows = lab.dpt().map_err(|e| e.to_string())?;
        let good = rows.iter().filter(|row| row.port == ECHO).all(|row| row.selectable() == TARGETS);
        if good { Ok(()) } else { Err(format!("{rows:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    for to in [dvipa4(ECHO), v6] {
        let mut seen: Vec<String> = (0..3).map(|_| datagram(lab, to)).collect();
        seen.sort();
        assert_eq!(seen, TARGETS.map(|target| format!("{target} 3")), "three clients, three targets");
    }
    for address in [DVIPA.0.into(), DVIPA.1.into(), IpAddr::from(RT1.0), IpAddr::from(RT1.1)] {
        let address = address.to_string();
        lab.client().sh("ip neigh flush all").expect("ip runs");
        lab.client().run(&["ping", "-c", "3", "-i", "0.2", "-W", "5", &address]).expect("it answers echo");
        let neighbour = lab.client().run(&["ip", "neigh", "show", "to", &address]).expect("ip runs");
        assert!(neighbour.contains(&mac(10)), "{address} is at rt1: {neighbour}");
    }
    routes_by_content(lab);
}

/// The guest's kernel answers clients of the routed port, through the local port; the routing application there reads what they
/// want, and their connections go to an unmodified server, or to an application with a control socket.
fn routes_by_content(lab: &Lab) {
    let (v4, v6, port) = (DVIPA.0.to_string(), DVIPA.1.to_string(), ROUTED.to_string());
    let target = ["http", "target", "files", &port, &v4, &v6];
    lab.start_application("t2", "files", &target).expect("the target starts");
    let router = ["http", "router", &port, &v4, &v6, "--", "listener@t1=path:/big", "files"];
    lab.start_application("rt1", "router", &router).expect("the router starts");
    lab.wait_for_targets(ROUTED, &["rt1"]).unwrap_or_else(|e| panic!("{e}"));
    let at_client = lab.capture("client", "eth0", &format!("tcp port {ROUTED}")).expect("a capture");
    for (dvipa, path) in
        [(DVIPA.0.into(), "/big"), (DVIPA.1.into(), "/big"), (DVIPA.0.into(), "/download/8388608")]
    {
        let url = format!("http://{}{path}", SocketAddr::new(dvipa, ROUTED));
        let curl = [
            "curl",
            "-sS",
            "--max-time",
            "60",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{size_download}",
            &url,
        ];
        assert_eq!(lab.client().run(&curl).expect("it is answered"), format!("200 {}", 8 << 20), "{url}");
    }
    let seen = at_client.stop().expect("the capture ends");
    let answered = format!("ether src {} and (tcp[13] == 18 or ip6[53] == 18)", mac(10));
    assert_eq!(seen.count(&answered).expect("it is read"), 3, "the routing node's kernel accepts");
    let whole =
        |number| seen.count(&format!("src port {ROUTED} and ether src {} and greater 1000", mac(number)));
    let of = [10, spec::target(1), spec::target(2)].map(|number| whole(number).expect("it is read") > 100);
    assert_eq!(of, [false, true, true], "the bytes come from the targets");
    let moved = lab.transfers().expect("they are counted");
    assert_eq!((moved["injected"], moved["restored"]), (2, 1), "{moved:?}");
}

/// A new client's datagram, and what a target answers.
fn datagram(lab: &Lab, to: SocketAddr) -> String {
    let socket = client::udp(lab.client(), to).expect("a socket");
    socket.send(b"who").expect("it is sent");
    let mut answer = [0; 64];
    let bytes = socket.recv(&mut answer).expect("an answer comes");
    String::from_utf8_lossy(&answer[..bytes]).into_owned()
}

fn wait_for_link(lab: &Lab, up: bool) {
    lab.wait_for("the link's state to be shown", SOON, || {
        let status = lab.baton_json(&["status"]).map_err(|e| e.to_string())?;
        let nic = &status["ports"][0];
        let good = nic["link"] == up && nic["lost"] == 1;
        if good { Ok(()) } else { Err(format!("{nic}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// Ends `batond`, which says what each worker has received.
fn both_workers_receive(lab: &Lab) {
    for port in 0..40 {
        let to = if port % 2 == 0 { web4() } else { web6() };
        client::ask(lab.client(), to).expect("a target answers");
    }
    lab.in_guest("kill $(pidof batond); while pidof batond; do sleep 0.1; done").expect("batond ends");
    let counts = counts_of_workers(lab);
    let received = counts.iter().filter(|counts| counts.get("received_nic").is_some_and(|count| *count > 20));
    assert_eq!(received.count(), 2, "{counts:#?}");
}
