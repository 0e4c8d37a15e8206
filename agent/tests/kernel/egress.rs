//! What leaves with a DVIPA as its source: the MSS, and the first SYN of connections opened here (row W6).

use std::net::{IpAddr, SocketAddr, TcpListener};

use model::Protocol::Tcp;
use socket2::{Domain, Socket, Type};

use crate::host::{CLIENT_V4, CLIENT_V6, DVIPA_V4, DVIPA_V6, HOST_V4, HOST_V6, Host, ROUTING_V4};
use crate::routing_stack::to_all;

/// The MSS of the SYN-ACK to a forwarded SYN that offers `offered`.
fn answered_mss(host: &Host, inner: &str, offered: u16) -> u16 {
    let protocol: u8 = if inner.starts_with("IPv6") { 41 } else { 4 };
    let outer = format!("IP(src='{ROUTING_V4}', dst='{HOST_V4}', proto={protocol})");
    // A port of its own: the host repeats the SYN-ACKs of earlier calls.
    let port = 40_000 + u16::from(protocol);
    let syn = format!("TCP(sport={port}, dport=80, flags='S', options=[('MSS', {offered})])");
    let script = format!(
        "ours = lambda p: TCP in p and p[TCP].flags == 'SA' and p[TCP].dport == {port}\n\
         sniffer = AsyncSniffer(iface='eth0', lfilter=ours, count=1, timeout=5)\n\
         sniffer.start()\nimport time\ntime.sleep(0.3)\n\
         sendp(Ether(dst=host_mac)/{outer}/{inner}/{syn}, iface='eth0')\nsniffer.join()\n\
         answer = sniffer.results[0]\n\
         good = answer.__class__(bytes(answer)); sum = good[TCP].chksum; del good[TCP].chksum\n\
         assert answer.__class__(bytes(good))[TCP].chksum == sum, 'checksum'\n\
         print(dict(answer[TCP].options)['MSS'])"
    );
    host.scapy(&script).trim().parse().unwrap()
}

#[test]
#[ignore = "needs root"]
fn the_mss_of_a_syn_ack_leaves_room_for_encapsulation() {
    let host = Host::new();
    host.routing_stack.list(&[to_all(Tcp, &[80])]);
    let _listener = host.host.enter(|| TcpListener::bind("[::]:80").unwrap());
    let four = format!("IP(src='{CLIENT_V4}', dst='{DVIPA_V4}')");
    let six = format!("IPv6(src='{CLIENT_V6}', dst='{DVIPA_V6}')");
    assert_eq!(answered_mss(&host, &four, 1460), 1500 - 76 - 40);
    assert_eq!(answered_mss(&host, &six, 1440), 1500 - 76 - 60);
    assert!(host.counter("mss_clamped") >= 2);
}

fn open(host: &Host, from: IpAddr, to: IpAddr) {
    host.host.enter(|| {
        let domain = if from.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
        let _ = socket.connect(&SocketAddr::new(to, 7000).into());
        std::thread::sleep(std::time::Duration::from_millis(200));
    });
}

/// The first packet that `open` makes the host send, as scapy shows it.
fn first_packet(host: &Host, from: IpAddr, to: IpAddr, filter: &str) -> String {
    std::thread::scope(|scope| {
        let sniff = format!(
            "p = sniff(iface='eth0', lfilter=lambda p: {filter}, count=1, timeout=15)[0]\n\
             print(p.dst, p.summary(), bytes(p).hex())"
        );
        let sniffer = scope.spawn(move || host.scapy(&sniff));
        while !sniffer.is_finished() {
            open(host, from, to);
        }
        sniffer.join().unwrap()
    })
}

#[test]
#[ignore = "needs root"]
fn the_syn_of_a_connection_opened_with_a_dvipa_goes_encapsulated_to_the_routing_stack() {
    let host = Host::new();
    host.routing_stack.list(&[to_all(Tcp, &[80])]);
    for (from, to) in [(DVIPA_V4, IpAddr::V4(CLIENT_V4)), (DVIPA_V6, IpAddr::V6(CLIENT_V6))] {
        let seen = first_packet(&host, from, to, "UDP in p and p[UDP].dport == 6080");
        let packet = seen.split_whitespace().last().unwrap();
        let ip = if from.is_ipv4() { "IP" } else { "IPv6" };
        let check = format!(
            "p = Ether(bytes.fromhex('{packet}'))\n\
             assert p[IP].src == '{HOST_V4}' and p[IP].dst == '{ROUTING_V4}', p.show(dump=True)\n\
             q = Ether(bytes(p)); del q[IP].chksum\n\
             assert Ether(bytes(q))[IP].chksum == p[IP].chksum, 'outer checksum'\n\
             assert p[IP].len == len(p) - 14 and p[UDP].len == p[IP].len - 20, 'lengths'\n\
             inner = {ip}(bytes(p[UDP].payload)[4:])\n\
             assert inner.src == '{from}' and inner.dst == '{to}' and inner[TCP].flags == 'S', inner.show(dump=True)\n\
             again = {ip}(bytes(inner)); del again[TCP].chksum\n\
             assert {ip}(bytes(again))[TCP].chksum == inner[TCP].chksum, 'inner checksum'\n\
             print(dict(inner[TCP].options)['MSS'])"
        );
        let mss: u16 = host.scapy(&check).trim().parse().unwrap();
        assert_eq!(mss, if from.is_ipv4() { 1384 } else { 1364 });
    }
    assert!(host.counter("syn_encapsulated") >= 2);
}

#[test]
#[ignore = "needs root"]
fn other_sources_leave_as_they_are() {
    let host = Host::new();
    host.routing_stack.list(&[to_all(Tcp, &[80])]);
    for (from, to) in [(HOST_V4.into(), IpAddr::V4(CLIENT_V4)), (HOST_V6.into(), IpAddr::V6(CLIENT_V6))] {
        first_packet(&host, from, to, "TCP in p and p[TCP].flags == 'S'");
    }
    assert_eq!(host.counter("syn_encapsulated"), 0);
    assert_eq!(host.counter("mss_clamped"), 0);
}
