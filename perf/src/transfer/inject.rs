//! Connections a second that an unmodified nginx accepts and answers, from handoff packets and from clients.
//!
//! Both kinds come from the same sender, which speaks TCP by hand and keeps as many connections open at a time: a fresh
//! connection is SYN, then the request with the last packet of the handshake; an injected one is a single packet in GUE
//! with the handoff option, prepared for a connection that nobody had. Each is answered by nginx and then reset, in GUE too
//! if it was injected. nginx and its host's softirqs (RPS) have a core of their own.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use agent::machine::Takes;
use agent::system::interfaces;
use agent::system::netns_cookie;
use agent::system::programs::{Programs, Settings};
use lab::fabric::Fabric;
use lab::process::Process;
use lab::registry::Record;
use lab::spec::{self, CLIENT, DVIPA, Spec};
use lab::{Namespace, cpu};
use model::handoff::{HandoffOption, Token};
use model::{ClusterAddress, Connection, Dvipa, Protocol};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

use super::apart;
use super::samples::median;
use super::segment::{ACK, MSS, PSH, RST, SYN, Segment};
use super::{Failure, Size};
use crate::rows::Rows;

pub(super) const ROWS: [&str; 2] = ["transfer_inject_rate_ratio", "moves_inject_per_s"];

const ROUNDS: usize = 7;
/// Connections at a time.
const WINDOW: u32 = 64;
/// The clients' addresses: 198.18.64.0 and on; nobody has them.
const CLIENTS: u32 = u32::from_be_bytes([198, 18, 64, 0]);
const CLIENTS_NET: &str = "198.18.64.0/18";
/// Ports of each that are used.
const PORTS: u32 = 60_000;
/// What is not answered in this time never is.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";
/// Where every connection begins, in the client's numbers.
const START: u32 = 1_000_000;
/// GUE's port, and IPv4 in it.
const GUE_PORT: u16 = 6080;
const IPV4_IN_GUE: u8 = 4;

/// Connections that are begun without a stop: fewer than the target's map of admissions holds.
const ADMITTED: u32 = 60_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Fresh,
    Injected,
}

pub(super) fn measure(rows: &mut Rows, size: Size) -> Result<(), Failure> {
    let mut bed = Bed::start()?;
    let (mut fresh, mut injected) = (Vec::new(), Vec::new());
    let mut share = [Vec::new(), Vec::new()];
    let rounds = if size == Size::Tiny { 1 } else { ROUNDS };
    for _ in 0..rounds {
        for (kind, rates, share) in [Kind::Fresh, Kind::Injected]
            .into_iter()
            .zip([&mut fresh, &mut injected])
            .zip(&mut share)
            .map(|((kind, rates), share)| (kind, rates, share))
        {
            let (rate, of_core) = bed.rate(kind, size.seconds(1))?;
            rates.push(rate);
            share.push(of_core);
        }
    }
    let (fresh, injected) = (median(fresh), median(injected));
    let [of_fresh, of_injected] = share.map(|share| median(share) * 100.0);
    let note = format!(
        "{injected:.0} connections/s injected, {fresh:.0} fresh; nginx ran {of_injected:.0} % and {of_fresh:.0} % of the time"
    );
    let [ratio, per_second] = ROWS;
    rows.add(ratio, "x", injected / fresh, note);
    rows.add(per_second, "/s", injected, "prepared by a generator, answered by one nginx on one core");
    Ok(())
}

/// A client's host and a target with the agent's programs in force and nginx.
struct Bed {
    sender: Sender,
    nginx: Process,
    // In force while they are held.
    programs: Programs,
    // Clears up when it is dropped, last.
    _record: Record,
}

impl Bed {
    fn start() -> Result<Self, Failure> {
        let record = Record::open()?;
        let fabric = Fabric::build(&Spec { targets: 1, ..Spec::default() }, &record)?;
        let (client, target) = (fabric.host("client"), fabric.host("t1"));
        let own = spec::host(spec::target(1));
        target.sh(&format!(
            "ip address add {}/32 dev lo; ip route add {CLIENTS_NET} via {}",
            DVIPA.0, CLIENT.0
        ))?;
        client.sh(&format!("ip route add {}/32 via {}", DVIPA.0, own.0))?;
        let (ours, its) = (0, std::thread::available_parallelism()?.get() - 1);
        apart::receive_on(ours, client, "eth0")?;
        apart::receive_on(its, target, "eth0")?;
        let pins = record.directory().join("bpf");
        record.note("mount", &pins.display().to_string())?;
        let programs = target.enter(|| in_force(own, pins.join("pins")))?;
        programs.injection.as_ref().map_err(|cause| cause.to_string())?;
        let forwarder = (IpAddr::from(CLIENT.0), Dvipa::new(DVIPA.0.into()));
        programs.maps.set_forwarders(&[(forwarder, Takes::All)].into())?;
        let nginx = nginx(target, &record, its)?;
        let sender = client.enter(|| Sender::new(own.0))?;
        Ok(Self { sender, nginx, programs, _record: record })
    }

    /// Connections that are answered a second, and nginx's share of the time.
    fn rate(&mut self, kind: Kind, time: Duration) -> Result<(f64, f64), Failure> {
        let (admissions, token) = (&self.programs.maps.admissions, token()?);
        // As an agent does when it hears of a transfer; not measured here.
        let admitted = match kind {
            Kind::Fresh => Vec::new(),
            Kind::Injected => self.sender.following(ADMITTED)?,
        };
        admitted.iter().try_for_each(|connection| admissions.admit(connection, token))?;
        let before = cpu::of_process(self.nginx.id())?;
        let begun = Instant::now();
        let answered = self.sender.drive(kind, time)?;
        let took = begun.elapsed().as_secs_f64();
        let used = cpu::of_process(self.nginx.id())? - before;
        admitted.iter().try_for_each(|connection| admissions.forget(connection))?;
        Ok((f64::from(answered) / took, used.as_secs_f64() / took))
    }
}

fn in_force(own: (Ipv4Addr, std::net::Ipv6Addr), pin: std::path::PathBuf) -> Result<Programs, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let interface = runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok::<_, Failure>(interfaces::find(&handle, "eth0").await?)
    })?;
    let settings = Settings {
        pin,
        cgroup: None,
        cluster_address: ClusterAddress { v4: Some(own.0), v6: Some(own.1) },
        interfaces: vec![interface],
        fabric_mtu: 1500,
        own_v4: Some(own.0),
        own_v6: Some(own.1),
        container_mark: 0,
        netns_cookie: netns_cookie()?,
        has_containers: false,
    };
    let programs = Programs::start(&settings)?;
    programs.maps.add_dvipa(Dvipa::new(DVIPA.0.into()), None)?;
    Ok(programs)
}

/// An nginx as it comes from Debian, in one process on one core.
fn nginx(host: &Namespace, record: &Record, core: usize) -> Result<Process, Failure> {
    let at = record.files().display();
    let configuration = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log crit; user root;
         events {{ worker_connections 4096; multi_accept on; }}
         http {{ access_log off; client_body_temp_path {at}/body;
                server {{ listen 80 backlog=4096; location / {{ return 200 \"t1\\n\"; }} }} }}"
    );
    let file = record.files().join("nginx.conf");
    fs::write(&file, configuration)?;
    let mut command = host.command("taskset");
    command.args(["--cpu-list", &core.to_string(), "nginx", "-c"]).arg(&file);
    let process = Process::start("nginx", &mut command, &record.files().join("nginx.log"))?;
    for _ in 0..500 {
        if !host.sh("ss -Hltn sport = :80")?.is_empty() {
            return Ok(process);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err("nginx does not listen".into())
}

/// One for all: the map is compared all the same.
fn token() -> Result<Token, Failure> {
    Token::new(1).ok_or_else(|| "no token".into())
}

/// Speaks TCP by hand, as many clients.
struct Sender {
    /// Takes packets that arrive.
    arrivals: OwnedFd,
    /// Sends packets with their IP header.
    raw: OwnedFd,
    gue: UdpSocket,
    /// What stands before a packet in GUE, with the option and without.
    handoff: Vec<u8>,
    bare: Vec<u8>,
    /// The next client.
    next: u32,
}

impl Sender {
    /// Must be made in the client's namespace.
    fn new(target: Ipv4Addr) -> Result<Self, Failure> {
        let option = HandoffOption {
            token: token()?,
            start: START.wrapping_add(1),
            sent: 1,
            mss: MSS,
            scales: None,
            sack: false,
            timestamps: None,
            ecn: false,
        };
        let option = option.encode();
        let header = [option.len() as u8 / 4, IPV4_IN_GUE, 0, 0];
        let gue = UdpSocket::bind((CLIENT.0, 0))?;
        gue.connect((target, GUE_PORT))?;
        let flags = SocketFlags::CLOEXEC;
        let arrivals =
            socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, Some(rustix::net::eth::IP))?;
        // There is room for a whole window's answers many times over.
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&arrivals, 8 << 20)?;
        let raw = socket_with(AddressFamily::INET, SocketType::RAW, flags, Some(rustix::net::ipproto::RAW))?;
        let handoff = [&header[..], &option].concat();
        Ok(Self { arrivals, raw, gue, handoff, bare: vec![0, IPV4_IN_GUE, 0, 0], next: 0 })
    }

    /// The connections that this many clients will have next.
    fn following(&self, clients: u32) -> Result<Vec<Connection>, Failure> {
        let of = |number| Connection::new(Protocol::Tcp, client(number).into(), (DVIPA.0, 80).into());
        Ok((self.next..self.next + clients)
            .map(of)
            .collect::<Option<_>>()
            .ok_or("a client of another family")?)
    }

    /// Keeps a window of connections open for so long, or until all that may be admitted at once were begun; how many were
    /// answered.
    fn drive(&mut self, kind: Kind, time: Duration) -> Result<u32, Failure> {
        let (first, end) = (self.next, Instant::now() + time);
        let (mut answered, mut open, mut buffer) = (0, 0, [0; 2048]);
        loop {
            while open < WINDOW && self.next - first < ADMITTED && Instant::now() < end {
                self.begin(kind)?;
                open += 1;
            }
            match recv(&self.arrivals, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => {
                    let packet = buffer.get(..length).unwrap_or_default();
                    let segment =
                        Segment::read(packet).filter(|s| self.number(s.to).is_some_and(|n| n >= first));
                    if let Some(segment) = segment
                        && self.answer(kind, &segment)?
                    {
                        answered += 1;
                        open -= 1u32.min(open);
                    }
                }
                Err(rustix::io::Errno::AGAIN) => {
                    if open == 0 {
                        return Ok(answered);
                    }
                    let mut ready = [PollFd::new(&self.arrivals, PollFlags::IN)];
                    if poll(&mut ready, Some(&PATIENCE))? == 0 {
                        open = 0;
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Sends the first packet of the next client's connection.
    fn begin(&mut self, kind: Kind) -> Result<(), Failure> {
        let from = client(self.next);
        self.next += 1;
        let to = SocketAddrV4::new(DVIPA.0, 80);
        let segment = |sequence, acknowledgment, flags, payload| Segment {
            from,
            to,
            sequence,
            acknowledgment,
            flags,
            payload,
        };
        match kind {
            Kind::Fresh => self.send(kind, &segment(START, 0, SYN, &[])),
            Kind::Injected => {
                let packet = segment(START.wrapping_add(1), 1, PSH | ACK, REQUEST).packet();
                self.gue.send(&[&self.handoff[..], &packet].concat())?;
                Ok(())
            }
        }
    }

    /// Goes on with a connection; whether the server has answered its request.
    fn answer(&self, kind: Kind, segment: &Segment<'_>) -> Result<bool, Failure> {
        let begun = START.wrapping_add(1);
        let back = Segment {
            from: segment.to,
            to: segment.from,
            sequence: begun,
            acknowledgment: segment.sequence.wrapping_add(1),
            flags: PSH | ACK,
            payload: REQUEST,
        };
        if segment.flags & SYN != 0 {
            self.send(kind, &back)?;
        } else if !segment.payload.is_empty() {
            let sequence = begun.wrapping_add(REQUEST.len() as u32);
            self.send(kind, &Segment { sequence, flags: RST, payload: &[], ..back })?;
            return Ok(true);
        }
        Ok(false)
    }

    fn send(&self, kind: Kind, segment: &Segment<'_>) -> Result<(), Failure> {
        let packet = segment.packet();
        match kind {
            Kind::Fresh => {
                sendto(
                    &self.raw,
                    &packet,
                    SendFlags::empty(),
                    &std::net::SocketAddr::V4(SocketAddrV4::new(*segment.to.ip(), 0)),
                )?;
            }
            Kind::Injected => {
                self.gue.send(&[&self.bare[..], &packet].concat())?;
            }
        }
        Ok(())
    }

    /// Which client has this address and port.
    fn number(&self, end: SocketAddrV4) -> Option<u32> {
        let host = u32::from(*end.ip()).checked_sub(CLIENTS)?;
        let number = host.checked_mul(PORTS)?.checked_add(u32::from(end.port()).checked_sub(1024)?)?;
        (number < self.next).then_some(number)
    }
}

/// The address and port of a client.
fn client(number: u32) -> SocketAddrV4 {
    let port = u16::try_from(1024 + number % PORTS).unwrap_or(u16::MAX);
    SocketAddrV4::new(Ipv4Addr::from(CLIENTS + number / PORTS), port)
}
