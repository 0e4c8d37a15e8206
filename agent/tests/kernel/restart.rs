//! What lives on when the agent does not, and what the next one makes of it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use libbpf_rs::query::ProgInfoIter;
use model::Connection;
use model::Protocol::Tcp;

use crate::ask::{ONLY_IF, ask};
use crate::host::{CLIENT_V4, DVIPA_V4, HOST_V4, Host, PATIENCE, ROUTING_V4, pins};
use crate::routing_stack::to_all;

fn reach_directly(host: &Host) {
    host.peer.sh("ip route replace 198.18.9.1 via 198.18.0.21").unwrap();
}

/// Whether an encapsulated echo request to the DVIPA is answered.
fn decapsulates(host: &Host) -> bool {
    let inner = format!("IP(src='{CLIENT_V4}', dst='{DVIPA_V4}')/ICMP()");
    let packet = format!("Ether(dst=host_mac)/IP(src='{ROUTING_V4}', dst='{HOST_V4}')/{inner}");
    let script = format!(
        "sniffer = AsyncSniffer(iface='eth0', lfilter=lambda p: ICMP in p and p[ICMP].type == 0, count=1, timeout=2)\n\
         sniffer.start()\nimport time\ntime.sleep(0.3)\nsendp({packet}, iface='eth0')\nsniffer.join()\n\
         print(len(sniffer.results))"
    );
    host.scapy(&script).trim() == "1"
}

#[test]
#[ignore = "needs root"]
fn a_killed_agent_leaves_the_data_path_in_force_and_the_next_one_reports_everything() {
    let mut host = Host::new();
    host.routing_stack.list(&[to_all(Tcp, &[80, 81, 82])]);
    reach_directly(&host);
    let staying = host.host.enter(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let going = host.host.enter(|| TcpListener::bind("0.0.0.0:81").unwrap());
    let connect = || host.peer.enter(|| TcpStream::connect((DVIPA_V4, 80)).unwrap());
    let (old, ending) = (connect(), connect());
    let _served = staying.accept().unwrap();
    drop(staying.accept().unwrap());
    let of = |c: &TcpStream| Connection::new(Tcp, c.local_addr().unwrap(), (DVIPA_V4, 80).into()).unwrap();
    let (old, ending_connection) = (of(&old), of(&ending));
    host.routing_stack.wait("the connection", |h| h.connections.contains(&old));

    host.kill_agent();
    assert!(decapsulates(&host), "without an agent");
    drop(going);
    drop(ending);
    let _coming = host.host.enter(|| TcpListener::bind("0.0.0.0:82").unwrap());
    let new = host.peer.enter(|| TcpStream::connect((DVIPA_V4, 80)).unwrap());

    host.start_agent();
    assert!(decapsulates(&host), "before the first list");
    host.routing_stack.list(&[to_all(Tcp, &[80, 81, 82])]);
    let heard = host.routing_stack.heard();
    assert!(heard.serves(DVIPA_V4, Tcp, 80) && heard.serves(DVIPA_V4, Tcp, 82), "{heard:?}");
    assert!(!heard.serves(DVIPA_V4, Tcp, 81), "it ended while no agent ran");
    assert!(heard.connections.contains(&old), "it is still there");
    assert!(!heard.connections.contains(&ending_connection), "it ended while no agent ran");
    let new_connection = of(&new);
    assert!(heard.connections.contains(&new_connection), "it began while no agent ran");
    drop(new);
    drop(staying);
    host.routing_stack.wait("the end of port 80", |h| !h.serves(DVIPA_V4, Tcp, 80));
}

#[test]
#[ignore = "needs root"]
fn an_agent_that_is_stopped_withdraws_and_leaves_the_data_path() {
    let mut host = Host::new();
    host.routing_stack.list(&[to_all(Tcp, &[80])]);
    let _listener = host.host.enter(|| TcpListener::bind("0.0.0.0:80").unwrap());
    host.routing_stack.wait("port 80", |h| h.serves(DVIPA_V4, Tcp, 80));
    assert!(!host.clean_up(), "a running agent's programs are not removed");
    assert!(decapsulates(&host));
    host.stop_agent();
    host.routing_stack.wait("the withdrawal", |h| !h.session);
    assert!(host.loopback().contains("198.18.9.1/32"));
    assert!(decapsulates(&host));

    assert!(host.clean_up());
    assert!(!host.loopback().contains("198.18.9.1"), "{}", host.loopback());
    assert!(!host.loopback().contains("2001:db8:9::1"), "{}", host.loopback());
    assert_eq!(pins(&host), Vec::<std::path::PathBuf>::new());
    let filters = host
        .host
        .sh("tc filter show dev eth0 ingress; tc filter show dev eth0 egress; tc filter show dev lo egress")
        .unwrap();
    assert!(!filters.contains("baton"), "{filters}");
}

#[test]
#[ignore = "needs root"]
fn a_dvipa_that_is_no_longer_listed_is_removed() {
    let host = Host::new();
    host.routing_stack.list(&[to_all(Tcp, &[80])]);
    assert!(host.loopback().contains("198.18.9.1/32") && host.loopback().contains("2001:db8:9::1/128"));
    host.routing_stack.send_list(model::message::VipaList::default());
    assert!(!host.loopback().contains("198.18.9.1"), "{}", host.loopback());
    assert!(!decapsulates(&host));
}

#[test]
#[ignore = "needs root"]
fn what_others_undo_is_repaired() {
    let host = Host::new();
    host.routing_stack.list(&[to_all(Tcp, &[80])]);
    host.host.sh("ip address del 198.18.9.1/32 dev lo; tc qdisc del dev eth0 clsact").unwrap();
    let until = Instant::now() + PATIENCE;
    while !(host.loopback().contains("198.18.9.1/32") && decapsulates(&host)) {
        assert!(Instant::now() < until, "{}", host.loopback());
    }
    let _listener = host.host.enter(|| TcpListener::bind(SocketAddr::new(DVIPA_V4, 80)).unwrap());
    host.routing_stack.wait("port 80", |h| h.serves(DVIPA_V4, Tcp, 80));
}

#[test]
#[ignore = "needs root"]
fn without_its_pins_an_agent_goes_on_and_pins_everything_again_for_the_next_one() {
    let mut host = Host::new();
    host.routing_stack.list(&[to_all(Tcp, &[80])]);
    reach_directly(&host);
    let listener = host.host.enter(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let client = host.peer.enter(|| TcpStream::connect((DVIPA_V4, 80)).unwrap());
    let _server = listener.accept().unwrap();
    let pinned = pins(&host);
    host.unmount_pins();
    ask(&host, (DVIPA_V4, 80).into(), client.local_addr().unwrap(), ONLY_IF);
    host.wait_for_counter("asked_claimed", 1);
    let until = Instant::now() + PATIENCE;
    while pins(&host) != pinned {
        assert!(Instant::now() < until, "{:?} of {pinned:?}", pins(&host));
    }
    host.kill_agent();
    host.start_agent();
    assert!(decapsulates(&host), "before the first list");
}

#[test]
#[ignore = "needs root"]
fn programs_are_loaded_anew_only_for_what_they_are_told() {
    let host = Host::new();
    host.routing_stack.list(&[to_all(Tcp, &[80])]);
    let put_right = |subject: &str| host.status()["environment"]["put_right"][subject].as_u64().unwrap_or(0);
    let wait_for = |subject: &str| {
        let until = Instant::now() + PATIENCE;
        while put_right(subject) == 0 {
            assert!(Instant::now() < until, "{}", host.status()["environment"]);
        }
    };
    // The cluster addresses are sources before any other address.
    host.host.sh("ip address add 2001:db8::99/64 dev eth0 nodad").unwrap();
    host.host.sh("tc filter del dev eth0 ingress").unwrap();
    wait_for("program");
    assert_eq!(put_right("interface"), 0, "looked at together with the programs, and of no concern to them");
    host.host.sh("ip link set eth0 mtu 1400").unwrap();
    wait_for("interface");
    assert!(decapsulates(&host));
}

/// A restart of the agent waits until the kernel has checked its programs: a microsecond an instruction that the check follows, several
/// times over where loops branch.
#[test]
#[ignore = "needs root"]
fn the_kernel_has_little_to_check_when_an_agent_starts() {
    const MOST: u32 = 50_000;
    let _host = Host::new();
    let ours = ProgInfoIter::default().filter(|program| program.name.to_string_lossy().starts_with("baton_"));
    let checked: Vec<_> = ours.map(|program| (program.verified_insns, program.name)).collect();
    assert!(!checked.is_empty() && checked.iter().all(|(count, _)| *count > 0), "{checked:?}");
    assert!(checked.iter().all(|(count, _)| *count < MOST), "{checked:?}");
}
