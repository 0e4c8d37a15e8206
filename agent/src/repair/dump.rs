//! Takes a connection out of this kernel: its state is read, its socket is silent until its fate is known.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libc::IPPROTO_TCP;
use model::ConnectionState;
use model::connection_state::{MAX_QUEUED_BYTES, Phase, ReceiveQueue, SendQueue, SocketOption, Windows};
use rustix::net::RecvFlags;

use super::calls::{self, Count};
use super::inspect::{self, Info};
use super::layout::RepairWindow;
use super::mode::{self, Leave, Queue};
use super::options;
use super::refused::{Refused, system};

/// How often a connection is read that changes meanwhile: packets that were on their way when it was frozen.
const ATTEMPTS: usize = 16;
/// The most bytes of one packet in a send queue.
const MOST_IN_A_PACKET: usize = 1 << 16;
/// Since Linux 6.7 the lowest bit of `TCP_TIMESTAMP` is not of the timestamp, so the one given may lie a tick before the last one
/// sent.
const TIMESTAMP_STEP: u32 = 2;
/// While a connection's packets are kept away its kernel would take its client for gone, and abort it: these are off until it is
/// thawed.
const TIME_OUTS: [SocketOption; 2] = [SocketOption::KeepAlive, SocketOption::UserTimeout];

/// Reads the state of a connection and leaves its socket in repair mode. Its packets must be kept away from this host
/// before (the freeze map): repair mode does not.
///
/// While it lasts, the application's own calls on the socket fail with `EPERM`. It ends with [`thaw`] or [`discard`]. If
/// the last descriptor is closed before, the connection is gone without a packet.
///
/// # Errors
/// [`Refused`]: the connection is as it was.
pub fn dump(socket: BorrowedFd<'_>) -> Result<ConnectionState, Refused> {
    let (connection, family) = inspect::identify(socket)?;
    Info::of(socket)?.phase()?;
    let options = options::read(socket, family);
    let urgent_inline = options.contains(&(SocketOption::OobInline, 1));
    inspect::check(socket, &connection, urgent_inline)?;
    let state = ConnectionState {
        connection,
        family,
        phase: Phase::Established,
        send: SendQueue::default(),
        receive: ReceiveQueue::default(),
        windows: Windows::default(),
        mss: 0,
        scales: None,
        sack: false,
        timestamp: None,
        ecn: false,
        options,
        congestion_control: congestion_control(socket)?,
    };
    mode::enter(socket).map_err(system("enter repair mode"))?;
    for option in TIME_OUTS {
        options::write(socket, option, 0);
    }
    read_standing(socket, state.clone()).inspect_err(|_| {
        // The reason for the refusal is worth more than one why the way back failed.
        let _ = thaw(socket, &state);
    })
}

/// The connection goes on here: the socket leaves repair mode, and the client is asked what it has.
///
/// # Errors
/// What the system says.
pub fn thaw(socket: BorrowedFd<'_>, state: &ConnectionState) -> io::Result<()> {
    mode::leave(socket, Leave::Probing)?;
    for option in [SocketOption::ReuseAddress].into_iter().chain(TIME_OUTS) {
        if let Some(value) = state.option(option) {
            options::write(socket, option, value);
        }
    }
    Ok(())
}

/// Nobody wants the connection: its client is told (RST), and every holder of a descriptor of it. Nothing if it is over already.
///
/// # Errors
/// What the system says.
pub fn reset(socket: OwnedFd) -> io::Result<()> {
    Ok(rustix::net::connect_unspec(&socket)?)
}

/// The connection is elsewhere: this socket is disconnected without a packet. An application that has a descriptor of it
/// reads `ECONNABORTED` from it once, and may close it.
///
/// # Errors
/// What the system says.
pub fn discard(socket: OwnedFd) -> io::Result<()> {
    rustix::net::connect_unspec(&socket)?;
    mode::leave(&socket, Leave::Silently)
}

fn congestion_control(socket: impl AsFd) -> Result<String, Refused> {
    let name: [u8; 16] = calls::get(socket, IPPROTO_TCP, libc::TCP_CONGESTION)
        .map_err(system("tell the congestion control"))?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// Fills in what is read in repair mode, when nothing has changed meanwhile.
fn read_standing(socket: BorrowedFd<'_>, mut state: ConnectionState) -> Result<ConnectionState, Refused> {
    for _ in 0..ATTEMPTS {
        let lengths = Lengths::of(socket)?;
        if lengths.read_queues(socket, &mut state)? && Lengths::of(socket)? == lengths {
            lengths.info.tell(socket, &mut state)?;
            state.check().map_err(|_| Refused::Moving)?;
            return Ok(state);
        }
    }
    Err(Refused::Moving)
}

/// What changes with every packet that a connection takes or sends: bytes, FINs and acknowledgments of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lengths {
    info: Info,
    unread: u32,
    unacknowledged: u32,
    unsent: u32,
}

impl Lengths {
    fn of(socket: BorrowedFd<'_>) -> Result<Self, Refused> {
        let count = |which| calls::count(socket, which).map_err(system("count queued bytes"));
        Ok(Self {
            info: Info::of(socket)?,
            unread: count(Count::Unread)?,
            unacknowledged: count(Count::Unacknowledged)?,
            unsent: count(Count::Unsent)?,
        })
    }

    /// Reads both queues; `false` if they have not the lengths that they should have.
    fn read_queues(&self, socket: BorrowedFd<'_>, state: &mut ConnectionState) -> Result<bool, Refused> {
        let phase = self.info.phase()?;
        let fin = u32::from(phase.fin_queued());
        // A FIN that waits for its acknowledgment is the last thing in the queue, and is no byte.
        let unacknowledged = self.unacknowledged.saturating_sub(fin);
        let queued = (self.unread as usize).saturating_add(unacknowledged as usize);
        if queued > MAX_QUEUED_BYTES {
            return Err(Refused::QueuedTooMuch(queued));
        }
        state.phase = phase;
        state.send.unsent_bytes = self.unsent.saturating_sub(fin).min(unacknowledged);
        let end = mode::sequence(socket, Queue::Send).map_err(system("tell the last sequence number"))?;
        state.send.first = end.wrapping_sub(unacknowledged).wrapping_sub(fin);
        if !peek_unacknowledged(socket, unacknowledged, &mut state.send.bytes)? {
            return Ok(false);
        }
        // Last, because the kernel counts as sent what it would send while the other queue is selected.
        let next = mode::sequence(socket, Queue::Receive).map_err(system("tell RCV.NXT"))?;
        state.receive.first = next.wrapping_sub(self.unread).wrapping_sub(u32::from(phase.fin_received()));
        peek(socket, self.unread, &mut state.receive.bytes)
    }
}

impl Info {
    /// What was agreed on, and what the kernel tells with it.
    fn tell(&self, socket: BorrowedFd<'_>, state: &mut ConnectionState) -> Result<(), Refused> {
        // In repair mode this is what the client takes, and not what fits into a packet now.
        let mss: u32 =
            calls::get(socket, IPPROTO_TCP, libc::TCP_MAXSEG).map_err(system("tell the client's MSS"))?;
        state.mss = u16::try_from(mss).unwrap_or(u16::MAX);
        state.scales = self.scales;
        state.sack = self.sack;
        state.ecn = self.ecn;
        state.windows = calls::get::<RepairWindow>(socket, IPPROTO_TCP, libc::TCP_REPAIR_WINDOW)
            .map_err(system("tell the windows"))?
            .into();
        if self.timestamps {
            let now: u32 = calls::get(socket, IPPROTO_TCP, libc::TCP_TIMESTAMP)
                .map_err(system("tell the next timestamp"))?;
            state.timestamp = Some(next_timestamp(now, self.microseconds));
        }
        Ok(())
    }
}

/// The timestamp to go on with after the one that `TCP_TIMESTAMP` gives, its lowest bit the unit as kernels since 6.7 have it: in
/// an earlier one that bit is the timestamp's own, and a later kernel would go on in microseconds.
fn next_timestamp(given: u32, microseconds: bool) -> u32 {
    given.wrapping_add(TIMESTAMP_STEP) & !1 | u32::from(microseconds)
}

/// Reads the selected send queue, the last bytes of which are these unacknowledged ones; whether it has so many. It may
/// begin before them: the kernel keeps a packet whole until all of it is acknowledged (kernel `tcp_clean_rtx_queue`), and
/// gives it whole (`tcp_peek_sndq`). Clients acknowledge parts of packets that were cut anew after a move.
fn peek_unacknowledged(socket: BorrowedFd<'_>, bytes: u32, into: &mut Vec<u8>) -> Result<bool, Refused> {
    let wanted = bytes as usize;
    into.clear();
    if bytes == 0 {
        return Ok(true);
    }
    into.resize(wanted.saturating_add(MOST_IN_A_PACKET), 0);
    match rustix::net::recv(socket, into.as_mut_slice(), RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        // The kernel counts also what did not fit.
        Ok((_, there)) if there > into.len() => Ok(false),
        Ok((_, there)) => {
            let Some(acknowledged) = there.checked_sub(wanted) else { return Ok(false) };
            into.truncate(there);
            into.drain(..acknowledged);
            Ok(true)
        }
        Err(rustix::io::Errno::AGAIN) => Ok(false),
        Err(e) => Err(system("give unacknowledged bytes")(e.into())),
    }
}

/// Reads the selected queue, which should have so many bytes; whether it has.
fn peek(socket: BorrowedFd<'_>, bytes: u32, into: &mut Vec<u8>) -> Result<bool, Refused> {
    into.clear();
    if bytes == 0 {
        return Ok(true);
    }
    into.resize(bytes as usize, 0);
    match rustix::net::recv(socket, into.as_mut_slice(), RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((read, _)) => Ok(read == into.len()),
        Err(rustix::io::Errno::AGAIN) => Ok(false),
        Err(e) => Err(system("give queued bytes")(e.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_timestamp_of_an_earlier_kernel_is_no_microsecond() {
        for given in [1000, 1001, u32::MAX - 1, u32::MAX] {
            let next = next_timestamp(given, false);
            assert_eq!(next & 1, 0, "Linux 6.7 and later would count microseconds from {given} on");
            assert!((1..=2).contains(&next.wrapping_sub(given)), "{given} then {next}");
            assert_eq!(next_timestamp(given, true) & 1, 1);
        }
    }
}
