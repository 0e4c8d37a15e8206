//! What a live connection has, and what of it is there after a move. Here the test itself is router and target, with the
//! library that applications use, so that it holds the sockets in its hand.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use app::{
    Error, Refusal, Registration, RoutingApplication, Target, TargetApplication, Terms, Unacknowledged,
};
use lab::spec::DVIPA;
use lab::{Lab, Namespace, Spec};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::fixture::{SOON, lab};
use crate::transfer::{Watch, assert_one_calm_connection};

const JOB: &str = "state";
/// Nothing of the client's host is heard, and it hears nothing.
const DEAF: &str = "nft 'add table inet deaf
    add chain inet deaf in { type filter hook input priority 0; }
    add rule inet deaf in tcp sport 80 drop'";
const NOT_DEAF: &str = "nft delete table inet deaf";

/// Router and targets of one DVIPA.
struct Applications {
    router: RoutingApplication,
    targets: [(&'static str, TargetApplication); 2],
}

impl Applications {
    fn register(lab: &Lab, dvipa: IpAddr) -> Self {
        let registration = |job: &str, stack: &str| {
            Registration::new(job, dvipa, &[80]).expect("a job's name").socket(lab.applications(stack))
        };
        let router = RoutingApplication::register(&registration("router", "rt1")).expect("it is registered");
        let targets = ["t1", "t2"].map(|stack| {
            let target = TargetApplication::register(&registration(JOB, stack)).expect("it is registered");
            (stack, target)
        });
        let all = Self { router, targets };
        for (stack, _) in &all.targets {
            let wanted = named(stack);
            let offered = lab.wait_for("the router to know its targets", SOON, || {
                let targets = all.router.targets(80).map_err(|e| e.to_string())?;
                if targets.contains(&wanted) { Ok(()) } else { Err(format!("{targets:?}")) }
            });
            offered.unwrap_or_else(|e| panic!("{e}"));
        }
        all
    }

    /// Moves a connection from the router to the first target, with whatever is on its way.
    fn route(&self, socket: TcpStream) -> Result<TcpStream, (Error, TcpStream)> {
        self.to_target(0, |to, terms| {
            self.router.transfer(socket, to, terms).map_err(|e| (e.error, e.stream))
        })
    }

    /// Moves it on to the second one.
    fn move_on(&self, socket: TcpStream) -> Result<TcpStream, (Error, TcpStream)> {
        let from = &self.targets[0].1;
        self.to_target(1, |to, terms| from.transfer(socket, to, terms).map_err(|e| (e.error, e.stream)))
    }

    fn to_target(
        &self,
        index: usize,
        transfer: impl FnOnce(&Target, &Terms<'_>) -> Result<(), (Error, TcpStream)> + Send,
    ) -> Result<TcpStream, (Error, TcpStream)> {
        let (stack, target) = &self.targets[index];
        thread::scope(|scope| {
            let terms = Terms::new().unacknowledged(Unacknowledged::Carry);
            let to = named(stack);
            let moved = scope.spawn(move || transfer(&to, &terms));
            let mut connection = None;
            while connection.is_none() && !moved.is_finished() {
                let offer = target.next_offer(Some(Duration::from_millis(20))).expect("the agent lives");
                // One that can't be moved after all is void when it is accepted.
                connection = offer.and_then(|offer| offer.accept().ok());
            }
            moved.join().expect("no panic")?;
            Ok(connection.expect("it is offered and passed").stream)
        })
    }
}

fn named(stack: &str) -> Target {
    format!("{JOB}@{stack}").parse().expect("JOB@STACK")
}

fn connect(lab: &Lab, listener: &TcpListener, dvipa: IpAddr) -> (TcpStream, TcpStream) {
    let to = SocketAddr::new(dvipa, 80);
    let client = lab.client().enter(|| TcpStream::connect_timeout(&to, SOON)).expect("it connects");
    let (server, _) = listener.accept().expect("it is accepted");
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(SOON)).expect("a time-out");
    }
    (client, server)
}

/// Listens on the routing node, until the DVIPA's port is offered.
fn listen(lab: &Lab, at: &str, dvipa: IpAddr) -> TcpListener {
    let listener = lab.host("rt1").enter(|| TcpListener::bind(at)).expect("it listens");
    wait_until_offered(lab, dvipa);
    listener
}

fn wait_until_offered(lab: &Lab, dvipa: IpAddr) {
    lab.wait_for("the port to be offered", SOON, || {
        let rows = lab.dpt().map_err(|e| e.to_string())?;
        let row = rows.iter().find(|row| row.port == 80 && row.dvipa == dvipa.to_string());
        if row.is_some_and(|row| row.selectable() == ["rt1"]) { Ok(()) } else { Err(format!("{rows:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// Sets everything that an application may set, to what no socket has by itself.
fn set_options(socket: &TcpStream) {
    let socket = SockRef::from(socket);
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(77)).with_interval(Duration::from_secs(13));
    let set = || {
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&keepalive.with_retries(5))?;
        socket.set_tcp_user_timeout(Some(Duration::from_millis(54_321)))?;
        socket.set_tcp_congestion(b"reno")?;
        socket.set_linger(Some(Duration::from_secs(9)))?;
        socket.set_send_buffer_size(70_000)?;
        socket.set_recv_buffer_size(80_000)?;
        socket.set_mark(0x42)?;
        match socket.domain()? {
            Domain::IPV4 => socket.set_tos_v4(0x28),
            _ => socket.set_tclass_v6(0x28),
        }
    };
    set().expect("the kernel takes it");
}

fn options(socket: &TcpStream) -> Vec<String> {
    let s = SockRef::from(socket);
    let domain = s.domain().expect("a domain");
    let tos = if domain == Domain::IPV4 { s.tos_v4() } else { s.tclass_v6() };
    vec![
        format!("domain {domain:?}"),
        format!("nodelay {:?}", s.tcp_nodelay()),
        format!(
            "keepalive {:?} {:?} {:?}",
            s.keepalive(),
            s.tcp_keepalive_time(),
            s.tcp_keepalive_interval()
        ),
        format!("retries {:?}", s.tcp_keepalive_retries()),
        format!("user time-out {:?}", s.tcp_user_timeout()),
        format!("congestion control {:?}", s.tcp_congestion().map(|name| name[..4].to_vec())),
        format!("linger {:?}", s.linger()),
        format!("buffers {:?} {:?}", s.send_buffer_size(), s.recv_buffer_size()),
        format!("mark {:?}, TOS {tos:?}", s.mark()),
        format!("MSS {:?}", s.tcp_mss()),
        format!(
            "{:?} from {:?}",
            s.local_addr().map(|a| a.as_socket()),
            s.peer_addr().map(|a| a.as_socket())
        ),
    ]
}

/// What the handshake has agreed on, as `ss` shows it on a host.
fn agreed(host: &Namespace, client: &TcpStream) -> Vec<String> {
    let port = client.local_addr().expect("an address").port();
    let shown = host.sh(&format!("ss -Htion dport = :{port}")).expect("ss runs");
    let is_agreed = |word: &&str| {
        matches!(*word, "ts" | "sack" | "reno") || word.starts_with("wscale:") || word.starts_with("mss:")
    };
    let mut words: Vec<String> = shown.split_whitespace().filter(is_agreed).map(str::to_owned).collect();
    words.sort();
    words
}

fn read_exactly(mut socket: &TcpStream, wanted: &[u8]) {
    let mut got = vec![0; wanted.len()];
    socket.read_exact(&mut got).expect("the bytes come");
    assert!(got == wanted, "other bytes than those that were sent");
}

fn at_end(mut socket: &TcpStream) {
    assert_eq!(socket.read(&mut [0]).expect("the end comes"), 0);
}

/// C6: options, windows, timestamps and numbers go on, bytes wait at the target as they waited at the source, unread ones and
/// unacknowledged ones, and a half that is closed stays closed; of IPv4, IPv6 and IPv4-mapped sockets.
#[test]
#[ignore = "needs root"]
fn all_that_a_connection_has_moves_with_it() {
    let lab = lab(Spec { targets: 2, ..Spec::content_routed() });
    let [v4, v6] = [DVIPA.0.into(), DVIPA.1.into()].map(|dvipa| Applications::register(&lab, dvipa));
    all_moves(&lab, &v4, "198.18.9.1:80", DVIPA.0.into());
    // IPv6 sockets accept clients of IPv4 too.
    all_moves(&lab, &v4, "[::]:80", DVIPA.0.into());
    all_moves(&lab, &v6, "[::]:80", DVIPA.1.into());
}

fn all_moves(lab: &Lab, applications: &Applications, at: &str, dvipa: IpAddr) {
    let listener = listen(lab, at, dvipa);
    let at_client = Watch::begin(lab);
    let (client, server) = connect(lab, &listener, dvipa);
    set_options(&server);
    let (unread, unacknowledged) = (vec![b'u'; 3000], vec![b'd'; 5000]);
    (&client).write_all(&unread).expect("it is sent");
    let hosts = ["rt1", "t1", "t2"].map(|name| lab.host(name));
    lab.wait_for("the bytes to wait", SOON, || {
        let mut bytes = [0; 4000];
        if server.peek(&mut bytes).is_ok_and(|n| n == unread.len()) { Ok(()) } else { Err(String::new()) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    lab.client().sh(DEAF).expect("nft takes the rules");
    (&server).write_all(&unacknowledged).expect("it is sent");
    let (before, agreement) = (options(&server), agreed(hosts[0], &client));
    assert!(agreement.len() == 5, "{agreement:?}");

    // They are sent again by the target, or else after a time-out, and not before.
    lab.client().sh(NOT_DEAF).expect("nft takes the rules");
    let first = applications.route(server).expect("it moves");
    assert_eq!(options(&first), before);
    read_exactly(&client, &unacknowledged);
    assert_eq!(agreed(hosts[1], &client), agreement);
    first.set_read_timeout(Some(SOON)).expect("a time-out");
    read_exactly(&first, &unread);

    client.shutdown(Shutdown::Write).expect("it ends its half");
    at_end(&first);
    let second = applications.move_on(first).expect("it moves on");
    assert_eq!(options(&second), before);
    at_end(&second);
    (&second).write_all(&unacknowledged).expect("it is sent");
    read_exactly(&client, &unacknowledged);
    assert_eq!(agreed(hosts[2], &client), agreement);
    // Nobody shall wait for a client that is gone.
    SockRef::from(&second).set_linger(None).expect("the kernel takes it");
    drop(second);
    at_end(&client);
    let captured = at_client.end();
    assert_one_calm_connection(&captured);
    assert_numbers_go_on(&captured.packets("src port 80").expect("it is read"));
}

/// Timestamps of the server never go back, and no number leaps.
fn assert_numbers_go_on(packets: &[String]) {
    let number = |line: &String, after: &str| -> Option<u32> {
        let rest = line.split_once(after)?.1;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    let stamps: Vec<u32> = packets.iter().filter_map(|line| number(line, "TS val ")).collect();
    assert!(stamps.len() > 5 && stamps.is_sorted(), "{packets:#?}");
    // tcpdump counts from the SYN's number.
    let ends =
        packets.iter().skip(1).filter_map(|line| number(line.split_once(" seq ").map(|_| line)?, " seq "));
    assert!(ends.clone().count() > 3 && ends.clone().all(|seq| seq <= 10_001), "{packets:#?}");
}

/// C6, C9: a connection that has what can't be moved is refused with the reason, goes on where it is, and moves once it no
/// longer has it.
#[test]
#[ignore = "needs root"]
fn what_can_not_be_moved_is_refused_and_goes_on() {
    let lab = lab(Spec { targets: 2, ..Spec::content_routed() });
    for dvipa in [DVIPA.0.into(), DVIPA.1.into()] {
        let applications = Applications::register(&lab, dvipa);
        let listener = listen(&lab, "[::]:80", dvipa);
        let (client, server) = connect(&lab, &listener, dvipa);
        SockRef::from(&client).send_out_of_band(b"!").expect("it is sent");
        // No call says that it has come but the one that takes it.
        thread::sleep(Duration::from_millis(100));
        let (refused, server) = applications.route(server).expect_err("urgent data is pending");
        assert_eq!(refused.refusal(), Some(Refusal::NotNow), "{refused}");
        assert!(refused.to_string().contains("Urgent data"), "{refused}");
        SockRef::from(&server).recv_out_of_band(&mut [std::mem::MaybeUninit::uninit()]).expect("it is read");
        (&client).write_all(b"?").expect("it is sent");
        read_exactly(&server, b"?");
        let moved = applications.route(server).expect("it moves");
        (&moved).write_all(b"!").expect("it is sent");
        read_exactly(&client, b"!");
    }
}

/// C6, C9: Multipath TCP, whose subflows can't move one by one, is refused with the reason.
#[test]
#[ignore = "needs root"]
fn multipath_tcp_is_refused_and_goes_on() {
    let lab = lab(Spec { targets: 2, ..Spec::content_routed() });
    let dvipa = SocketAddr::from((DVIPA.0, 80));
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP));
    let listener = lab.host("rt1").enter(|| {
        let listener = socket()?;
        listener.bind(&dvipa.into())?;
        listener.listen(1)?;
        Ok::<_, std::io::Error>(listener)
    });
    let listener = match listener {
        Ok(listener) => listener,
        Err(e) if matches!(e.kind(), ErrorKind::Unsupported) || e.raw_os_error() == Some(93) => return,
        Err(e) => panic!("{e}"),
    };
    let applications = Applications::register(&lab, dvipa.ip());
    wait_until_offered(&lab, dvipa.ip());
    let client = lab.client().enter(socket).expect("a socket");
    client.connect(&dvipa.into()).expect("it connects");
    let server = TcpStream::from(listener.accept().expect("it is accepted").0);
    let (refused, server) = applications.route(server).expect_err("it can't move");
    assert!(refused.to_string().contains("Multipath"), "{refused}");
    (&server).write_all(b"!").expect("it is sent");
    read_exactly(&TcpStream::from(client), b"!");
}
