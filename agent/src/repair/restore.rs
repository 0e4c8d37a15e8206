//! Puts a connection into this kernel: a socket in the state that another kernel's had, silent until it is activated.

use std::ffi::c_int;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use libc::IPPROTO_TCP;
use model::ConnectionState;
use model::connection_state::{Phase, SocketFamily, SocketOption, WindowScales, Windows};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, Shutdown, SocketFlags, SocketType};

use super::again::send_again;
use super::calls;
use super::inspect::Info;
use super::layout::{RepairOption, RepairWindow, option_kind};
use super::mode::{self, Leave, Queue};
use super::options;
use super::segment::{Flags, Segment};
use crate::system::diag;

/// Bytes that are given to a queue at a time: what the kernel finds memory for in one piece.
const CHUNK_BYTES: usize = 32 << 10;
/// What the kernel may need for a byte in a queue, with its administration.
const BYTES_PER_BYTE: i64 = 4;
const LEAST_BUFFER_BYTES: i64 = 256 << 10;
/// Options that come last, when all bytes are in the queues: the buffers are larger until then, repair mode has its own
/// `SO_REUSEADDR`, and the kernel shall not give up a client whose packets are still kept away.
const LAST: [SocketOption; 7] = [
    SocketOption::SendBuffer,
    SocketOption::ReceiveBuffer,
    SocketOption::BufferLock,
    SocketOption::NotSentLowWater,
    SocketOption::ReuseAddress,
    SocketOption::KeepAlive,
    SocketOption::UserTimeout,
];
/// How long the kernel may take to find memory for bytes that only this process has any more.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a segment to this host's own socket may take: kernels mostly deliver it within the call that sends it.
const LOOPBACK_PATIENCE: Duration = Duration::from_millis(5);

/// Why a connection could not be put into this kernel. Nothing is left of it here, and nobody was sent a packet.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// This host has a connection with the same addresses and ports.
    #[error("this host has the connection {0} already")]
    AlreadyHere(model::Connection),
    /// A system call.
    #[error("the kernel did not {what}: {cause}")]
    System {
        /// What it was asked.
        what: &'static str,
        /// What it says.
        cause: io::Error,
    },
}

fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> RestoreError {
    move |cause| RestoreError::System { what, cause: cause.into() }
}

/// A socket in repair mode with a connection's state. Dropped, it is gone without a packet.
#[derive(Debug)]
pub struct Restored {
    socket: OwnedFd,
    state: ConnectionState,
    not_taken: Vec<SocketOption>,
}

impl AsFd for Restored {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Makes a socket with this state in this process's network namespace. It is in repair mode, and the connection's packets
/// must be kept away from this host until [`Restored::activate`]: repair mode does not.
///
/// The state is possible ([`ConnectionState::decode`]), but whether its local address is a DVIPA of this host that the sender
/// may speak for is the caller's to check.
///
/// # Errors
/// [`RestoreError`].
pub fn restore(state: ConnectionState) -> Result<Restored, RestoreError> {
    let v6 = state.family != SocketFamily::V4;
    let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(system("make a socket"))?;
    mode::enter(&socket).map_err(system("enter repair mode"))?;
    if state.family == SocketFamily::MappedV4 {
        rustix::net::sockopt::set_ipv6_v6only(&socket, false).map_err(system("take IPv4 on IPv6"))?;
    }
    let mut restored = Restored { socket, state, not_taken: Vec::new() };
    restored.set_options();
    restored.connect()?;
    restored.agree()?;
    restored.fill()?;
    restored.close_halves()?;
    mode::select(&restored.socket, Queue::None).map_err(system("choose no queue"))?;
    Ok(restored)
}

impl Restored {
    /// Another descriptor of it.
    ///
    /// # Errors
    /// What the system says.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// The state that it was made from.
    pub fn state(&self) -> &ConnectionState {
        &self.state
    }

    /// Socket options that this kernel did not take; the connection works without them.
    pub fn not_taken(&self) -> &[SocketOption] {
        &self.not_taken
    }

    /// The connection is here: sends again what the client has not acknowledged, sends what was never sent, and asks the
    /// client what it has. The socket is a blocking one.
    ///
    /// # Errors
    /// What the system says. The socket is lost then, and with it the connection: nobody else has it any more.
    pub fn activate(self) -> io::Result<OwnedFd> {
        let Self { socket, state, .. } = self;
        send_again(&socket, &state);
        mode::leave(&socket, Leave::Probing)?;
        finish(&socket, &state, 0)?;
        Ok(socket)
    }

    /// The connection is elsewhere after all: the socket is gone without a packet.
    ///
    /// # Errors
    /// What the system says.
    pub fn discard(self) -> io::Result<()> {
        super::dump::discard(self.socket)
    }

    /// Before the connection, because mark and TOS choose its route and the buffers its windows.
    fn set_options(&mut self) {
        for (option, value) in self.state.options.clone() {
            let value = match option {
                SocketOption::ReceiveBuffer => value.max(room_for(&self.state.receive.bytes)),
                SocketOption::SendBuffer => value.max(room_for(&self.state.send.bytes)),
                _ if LAST.contains(&option) => continue,
                _ => value,
            };
            if !options::write(&self.socket, option, value) {
                self.not_taken.push(option);
            }
        }
        let name = self.state.congestion_control.as_bytes();
        // A kernel without it uses its own; the name is not one of the numbered options.
        let _ = calls::set_all(&self.socket, IPPROTO_TCP, libc::TCP_CONGESTION, name);
        // Or it would send segments of 536 bytes: it computes what fits into a packet when it connects, before it can be told
        // what the client takes, and not again (kernel `tcp_connect_init`).
        let _ = calls::set(&self.socket, IPPROTO_TCP, libc::TCP_MAXSEG, c_int::from(self.state.mss));
    }

    fn connect(&mut self) -> Result<(), RestoreError> {
        let model::Connection { client, dvipa, .. } = self.state.connection;
        mode::set_sequence(&self.socket, Queue::Receive, self.state.receive.first)
            .map_err(system("take RCV.NXT"))?;
        mode::set_sequence(&self.socket, Queue::Send, self.state.send.first)
            .map_err(system("take SND.NXT"))?;
        rustix::net::bind(&self.socket, &self.as_family(dvipa)).map_err(system("bind to the DVIPA"))?;
        match rustix::net::connect(&self.socket, &self.as_family(client)) {
            Err(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => {
                Err(RestoreError::AlreadyHere(self.state.connection))
            }
            result => result.map_err(system("connect to the client")),
        }
    }

    /// What the handshake had agreed on.
    fn agree(&self) -> Result<(), RestoreError> {
        let mut agreed = vec![RepairOption { code: option_kind::MSS, value: self.state.mss.into() }];
        // Without scaling too: told nothing, the kernel scales the windows that it offers by what it would have asked for.
        let WindowScales { send, receive } =
            self.state.scales.unwrap_or(WindowScales { send: 0, receive: 0 });
        let value = u32::from(send) | u32::from(receive) << 16;
        agreed.push(RepairOption { code: option_kind::WINDOW_SCALE, value });
        if self.state.sack {
            agreed.push(RepairOption { code: option_kind::SACK_PERMITTED, value: 0 });
        }
        if self.state.timestamp.is_some() {
            agreed.push(RepairOption { code: option_kind::TIMESTAMPS, value: 0 });
        }
        calls::set_all(&self.socket, IPPROTO_TCP, libc::TCP_REPAIR_OPTIONS, &agreed)
            .map_err(system("take what was agreed on"))?;
        if let Some(timestamp) = self.state.timestamp {
            calls::set(&self.socket, IPPROTO_TCP, libc::TCP_TIMESTAMP, timestamp)
                .map_err(system("take the timestamp"))?;
        }
        Ok(())
    }

    fn fill(&self) -> Result<(), RestoreError> {
        mode::select(&self.socket, Queue::Receive).map_err(system("choose a queue"))?;
        write_all(&self.socket, &self.state.receive.bytes, Duration::ZERO)
            .map_err(system("take the unread bytes"))?;
        // What is written in repair mode counts as sent; what never was is written when it is left.
        mode::select(&self.socket, Queue::Send).map_err(system("choose a queue"))?;
        let (sent, _) = self.state.send.split();
        write_all(&self.socket, sent, Duration::ZERO).map_err(system("take the unacknowledged bytes"))?;
        // A FIN that is still to be given to the kernel came within the window.
        let mut windows = self.state.windows;
        if self.state.phase.fin_received() && windows.rcv_wup == self.state.receive_next() {
            windows.rcv_wup = windows.rcv_wup.wrapping_sub(1);
            windows.rcv_wnd = windows.rcv_wnd.saturating_add(1);
        }
        self.set_windows(windows)
    }

    fn set_windows(&self, windows: Windows) -> Result<(), RestoreError> {
        let window = RepairWindow::from(windows);
        calls::set(&self.socket, IPPROTO_TCP, libc::TCP_REPAIR_WINDOW, window)
            .map_err(system("take the windows"))
    }

    /// A FIN to the client is queued as sent, one of the client is given to the kernel as a segment: there is no other way.
    fn close_halves(&self) -> Result<(), RestoreError> {
        let unsent = self.state.send.unsent_bytes != 0;
        // Behind bytes that were never sent the FIN was not either: it follows them.
        let shut = || match unsent {
            true => Ok(()),
            false => rustix::net::shutdown(&self.socket, Shutdown::Write)
                .map_err(system("close the half towards the client")),
        };
        match self.state.phase {
            Phase::Established => return Ok(()),
            Phase::FinWait1 => return shut(),
            Phase::FinWait2 => {
                shut()?;
                self.as_from_client(Flags::ACK)?;
            }
            Phase::CloseWait => self.as_from_client(Flags::FIN_ACK)?,
            Phase::Closing => {
                shut()?;
                self.as_from_client(Flags::FIN_ACK)?;
            }
            Phase::LastAck => {
                self.as_from_client(Flags::FIN_ACK)?;
                shut()?;
            }
        }
        self.set_windows(self.state.windows)
    }

    /// Gives the kernel a segment as from the client, over the loopback interface, and waits until it has had its effect.
    /// What the kernel answers is kept from the client by the freeze map, and would tell it nothing new.
    fn as_from_client(&self, flags: Flags) -> Result<(), RestoreError> {
        let before = self.info()?;
        let window = self.state.windows.snd_wnd >> self.state.scales.map_or(0, |s| s.send);
        let segment = Segment {
            from: self.state.connection.client,
            to: self.state.connection.dvipa,
            sequence: self.state.receive_next().wrapping_sub(u32::from(self.state.phase.fin_received())),
            acknowledgment: self.state.send_unacknowledged(),
            flags,
            window: u16::try_from(window).unwrap_or(u16::MAX),
            timestamps: None,
        };
        segment.send(&[]).map_err(system("take the client's FIN"))?;
        let until = Instant::now() + LOOPBACK_PATIENCE;
        while self.info()?.state == before.state {
            if Instant::now() > until {
                let cause = io::Error::from(io::ErrorKind::TimedOut);
                return Err(system(
                    "take the client's FIN, which a packet filter of this host may have dropped",
                )(cause));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    fn info(&self) -> Result<Info, RestoreError> {
        Info::of(&self.socket).map_err(|e| system("tell the connection's state")(io::Error::other(e)))
    }

    /// The address as the socket's family writes it.
    fn as_family(&self, address: SocketAddr) -> SocketAddr {
        match (self.state.family, address.ip()) {
            (SocketFamily::MappedV4, IpAddr::V4(a)) => (a.to_ipv6_mapped(), address.port()).into(),
            _ => address,
        }
    }
}

/// Activates a socket that another process has restored from this state, or goes on with that where the other process ended.
/// Nobody has used the socket meanwhile.
///
/// # Errors
/// What the system says.
pub fn activate_again(socket: BorrowedFd<'_>, state: &ConnectionState) -> io::Result<()> {
    if mode::is_on(socket)? {
        send_again(socket, state);
        mode::leave(socket, Leave::Probing)?;
        return finish(socket, state, 0);
    }
    let told = diag::ask(&state.connection)?.and_then(|told| told.carried);
    let acknowledged = told.map_or(0, |carried| carried.acknowledged);
    let given = acknowledged.saturating_add(calls::count(socket, calls::Count::Unacknowledged)?.into());
    let (sent, _) = state.send.split();
    let written = usize::try_from(given.saturating_sub(sent.len() as u64)).unwrap_or(usize::MAX);
    finish(socket, state, written)
}

/// What has to wait until a socket has left repair mode; so many of the unsent bytes were written before.
fn finish(socket: impl AsFd, state: &ConnectionState, written: usize) -> io::Result<()> {
    let (_, unsent) = state.send.split();
    write_all(&socket, unsent.get(written..).unwrap_or_default(), PATIENCE)?;
    if state.phase.fin_queued() && !unsent.is_empty() {
        rustix::net::shutdown(&socket, Shutdown::Write)?;
    }
    for option in LAST {
        if let Some(value) = state.option(option) {
            options::write(&socket, option, value);
        }
    }
    Ok(())
}

/// A buffer that takes these bytes in any pieces.
fn room_for(bytes: &[u8]) -> i64 {
    i64::try_from(bytes.len())
        .unwrap_or(i64::MAX)
        .saturating_mul(BYTES_PER_BYTE)
        .saturating_add(LEAST_BUFFER_BYTES)
}

/// Writes all bytes; if there is no room for some, waits so long for it.
fn write_all(socket: impl AsFd, bytes: &[u8], patience: Duration) -> io::Result<()> {
    let until = Instant::now() + patience;
    let mut rest = bytes;
    while !rest.is_empty() {
        let chunk = rest.get(..CHUNK_BYTES).unwrap_or(rest);
        match rustix::net::send(&socket, chunk, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
            Err(Errno::AGAIN | Errno::NOMEM) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
