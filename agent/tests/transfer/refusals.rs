//! What can't move is refused with the reason, and goes on where it is.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use baton_agent::repair::{self, Refused};
use lab::spec::DVIPA;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::bench::Bench;
use crate::stream::{Way, bytes};

/// Bytes go both ways.
fn goes_on(mut client: &TcpStream, server: OwnedFd) {
    let mut server = TcpStream::from(server);
    let mut buffer = [0; 1000];
    for socket in [client, &server] {
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    }
    client.write_all(&bytes(Way::Up, 0, 1000)).unwrap();
    server.read_exact(&mut buffer).unwrap();
    assert_eq!(buffer[..], bytes(Way::Up, 0, 1000)[..]);
    server.write_all(&bytes(Way::Down, 0, 1000)).unwrap();
    client.read_exact(&mut buffer).unwrap();
    assert_eq!(buffer[..], bytes(Way::Down, 0, 1000)[..]);
}

#[test]
#[ignore = "needs root"]
fn urgent_data_is_to_be_read_before_a_move() {
    let bench = Bench::new();
    for inline in [false, true] {
        let (client, server) = bench.connect(DVIPA.0.into(), "0.0.0.0:0");
        SockRef::from(&server).set_out_of_band_inline(inline).unwrap();
        SockRef::from(&client).send_out_of_band(b"!").unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let refused = bench.hosts[0].dump(&server).unwrap_err();
        assert!(matches!(refused, Refused::UrgentData), "{refused}");
        let mut byte = [std::mem::MaybeUninit::uninit(); 1];
        let socket = SockRef::from(&server);
        let read = if inline { socket.recv(&mut byte) } else { socket.recv_out_of_band(&mut byte) };
        assert_eq!(read.unwrap(), 1);
        if !inline {
            // Its place in the stream is passed by reading on.
            (&client).write_all(b"?").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            assert_eq!(socket.recv(&mut byte).unwrap(), 1);
        }
        goes_on(&client, bench.transfer(server, 0, 1));
    }
}

#[test]
#[ignore = "needs root"]
fn multipath_tcp_is_refused() {
    let bench = Bench::new();
    let (client, server) = bench.hosts[0].namespace.enter(|| {
        let socket = |protocol| Socket::new(Domain::IPV4, Type::STREAM, Some(protocol)).unwrap();
        let listener = socket(Protocol::MPTCP);
        listener.bind(&std::net::SocketAddr::new(DVIPA.0.into(), 0).into()).unwrap();
        listener.listen(1).unwrap();
        let client = socket(Protocol::MPTCP);
        client.connect(&listener.local_addr().unwrap()).unwrap();
        (TcpStream::from(client), OwnedFd::from(listener.accept().unwrap().0))
    });
    let refused = bench.hosts[0].dump(&server).unwrap_err();
    assert!(matches!(refused, Refused::Multipath), "{refused}");
    goes_on(&client, server);
}

#[test]
#[ignore = "needs root"]
fn a_connection_with_signed_segments_is_refused() {
    let bench = Bench::new();
    // No library sets a key, so Python does: struct tcp_md5sig of linux/tcp.h.
    let script = "
import socket, struct, sys, time
def key(s, address):
    s.setsockopt(6, 14, struct.pack('=HH4s120xBBHI80s', 2, 0, socket.inet_aton(address), 0, 0, 4, 0, b'seal'))
if sys.argv[1] == 'listen':
    s = socket.socket(); key(s, '198.18.0.2'); s.bind(('198.18.9.1', 179)); s.listen()
    print(flush=True); c, _ = s.accept()
else:
    c = socket.socket(); key(c, '198.18.9.1'); c.connect(('198.18.9.1', 179)); print(flush=True)
c.settimeout(20); sys.stdin.read(); c.sendall(b'alive'); assert c.recv(5) == b'alive'
";
    let start = |namespace: &lab::Namespace, role: &str| {
        let mut command = namespace.command("/usr/bin/python3");
        command.args(["-c", script, role]);
        let piped = std::process::Stdio::piped;
        let mut child = command.stdin(piped()).stdout(piped()).spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 1]).unwrap();
        child
    };
    let host = &bench.hosts[0];
    let mut server = start(&host.namespace, "listen");
    let mut client = start(&bench.client, "connect");
    let port = bench.client.sh("ss -Htn dport = :179 | awk '{print $4}' | sed 's/.*://'").unwrap();
    let from = std::net::SocketAddr::new(lab::spec::CLIENT.0.into(), port.trim().parse().unwrap());
    let connection = model::Connection::new(model::Protocol::Tcp, from, (DVIPA.0, 179).into()).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let socket = host.namespace.enter(|| repair::find(&connection, Some(server.id()))).unwrap();
    let refused = host.dump(&socket).unwrap_err();
    assert!(matches!(refused, Refused::Signed), "{refused}");
    drop(socket);
    drop((server.stdin.take(), client.stdin.take()));
    assert!(server.wait().unwrap().success() && client.wait().unwrap().success());
}

#[test]
#[ignore = "needs root"]
fn what_is_no_connection_is_refused() {
    let bench = Bench::new();
    let dump = |socket: &dyn AsFd| {
        let socket = socket.as_fd();
        bench.hosts[0].namespace.enter(|| repair::dump(socket))
    };
    let (listener, datagrams) = bench.hosts[0]
        .namespace
        .enter(|| (TcpListener::bind("0.0.0.0:0").unwrap(), UdpSocket::bind("0.0.0.0:0").unwrap()));
    assert!(matches!(dump(&listener), Err(Refused::NotEstablished(_))));
    assert!(matches!(dump(&datagrams), Err(Refused::NotTcp)));
    assert!(matches!(dump(&std::fs::File::open("/dev/null").unwrap()), Err(Refused::NotTcp)));
    let (client, server) = bench.connect(DVIPA.0.into(), "0.0.0.0:0");
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    std::thread::sleep(Duration::from_millis(50));
    assert!(matches!(dump(&server), Err(Refused::NotEstablished(_))), "it was reset");
}

#[test]
#[ignore = "needs root"]
fn a_connection_whose_agent_died_while_it_was_frozen_is_rescued() {
    let bench = Bench::new();
    let host = &bench.hosts[0];
    let mut command = host.namespace.command("/usr/bin/python3");
    let script = "
import socket, time
s = socket.create_server(('198.18.9.1', 8080)); print(flush=True); c, _ = s.accept()
while True:
    try: data = c.recv(100)
    except PermissionError: time.sleep(0.01)
    else: break
c.sendall(b'rescued ' + data)
";
    let mut server = command.args(["-c", script]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    server.stdout.as_mut().unwrap().read_exact(&mut [0; 1]).unwrap();
    let mut client = bench.client.enter(|| TcpStream::connect((DVIPA.0, 8080)).unwrap());
    let connection = model::Connection::new(
        model::Protocol::Tcp,
        client.local_addr().unwrap(),
        client.peer_addr().unwrap(),
    );
    let connection = connection.unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let rescue = || host.namespace.enter(|| repair::rescue(&connection)).unwrap();
    assert!(!rescue(), "it needs no rescue");
    let socket = host.namespace.enter(|| repair::find(&connection, None)).unwrap();
    host.dump(&socket).unwrap();
    drop(socket);

    client.write_all(b"me").unwrap();
    assert!(rescue());
    host.programs.maps.freezes.let_flow(&connection).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "rescued me");
    assert!(server.wait().unwrap().success());
    assert!(!rescue(), "nobody has it any more");
}
