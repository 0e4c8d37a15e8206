//! A live TCP connection, taken out of one kernel to be put into another (row C6).
//!
//! The encoding is CBOR (RFC 8949): the [`VERSION`], then the fields, numbered as those of messages. A reader skips fields
//! and socket options that it does not know, and refuses another version. Everything that [`ConnectionState::decode`] gives has
//! been checked; the bytes may come from a peer that is mistaken or hostile.

use minicbor::{Decode, Decoder, Encode};

use crate::{Connection, Protocol};

/// The version that this software writes and reads.
pub const VERSION: u8 = 1;
/// The most bytes of both queues together. The queues of a socket can be larger: such a connection does not move.
pub const MAX_QUEUED_BYTES: usize = (8 << 20) - (64 << 10);
/// The most socket options that are read.
const MAX_OPTIONS: u64 = 64;
/// `TCP_CA_NAME_MAX` with its zero.
const MAX_CONGESTION_CONTROL_BYTES: usize = 15;
/// RFC 7323 2.3.
const MAX_WINDOW_SCALE: u8 = 14;

/// The kind of socket that an application holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SocketFamily {
    /// `AF_INET`.
    #[n(0)]
    V4,
    /// `AF_INET6`.
    #[n(1)]
    V6,
    /// `AF_INET6` with a connection over IPv4 (RFC 4291 2.5.5.2).
    #[n(2)]
    MappedV4,
}

/// How far the connection is (RFC 9293 3.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Phase {
    /// Both sides may send.
    #[n(0)]
    Established,
    /// The client's FIN was received.
    #[n(1)]
    CloseWait,
    /// A FIN is queued or was sent, and the client has not acknowledged it.
    #[n(2)]
    FinWait1,
    /// The client has acknowledged the FIN.
    #[n(3)]
    FinWait2,
    /// As [`Phase::FinWait1`], and then the client's FIN was received.
    #[n(4)]
    Closing,
    /// The client's FIN was received, then one was queued or sent.
    #[n(5)]
    LastAck,
}

impl Phase {
    /// Whether the client's FIN was received.
    pub fn fin_received(self) -> bool {
        matches!(self, Phase::CloseWait | Phase::Closing | Phase::LastAck)
    }

    /// Whether the application has said that it will send no more.
    pub fn fin_queued(self) -> bool {
        matches!(self, Phase::FinWait1 | Phase::FinWait2 | Phase::Closing | Phase::LastAck)
    }
}

/// What the client has not acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct SendQueue {
    /// The sequence number of the first of `bytes`: SND.UNA, but that a FIN that was acknowledged does not count.
    #[n(0)]
    pub first: u32,
    /// The bytes, sent ones first; without the FIN.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
    /// How many of `bytes`, the last ones, were never sent.
    #[n(2)]
    pub unsent_bytes: u32,
}

impl SendQueue {
    /// The bytes that were sent, and those that were not.
    pub fn split(&self) -> (&[u8], &[u8]) {
        let unsent = usize::try_from(self.unsent_bytes).unwrap_or(usize::MAX);
        self.bytes.split_at(self.bytes.len().saturating_sub(unsent))
    }
}

/// What the client sent and the application has not read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ReceiveQueue {
    /// The sequence number of the first of `bytes`.
    #[n(0)]
    pub first: u32,
    /// The bytes, all of them acknowledged; without the FIN.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

impl ReceiveQueue {
    /// Puts back what the application has read: the last bytes before the queue's first one.
    pub fn give_back(&mut self, bytes: &[u8]) {
        self.first = self.first.wrapping_sub(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.bytes.splice(..0, bytes.iter().copied());
    }
}

/// Both windows, in bytes and sequence numbers (`struct tcp_repair_window` of linux/tcp.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Windows {
    /// SND.WL1: the sequence number of the segment that last changed the send window.
    #[n(0)]
    pub snd_wl1: u32,
    /// SND.WND: what the client takes.
    #[n(1)]
    pub snd_wnd: u32,
    /// The largest window that the client has offered.
    #[n(2)]
    pub max_window: u32,
    /// RCV.WND: what was offered to the client, from `rcv_wup` on.
    #[n(3)]
    pub rcv_wnd: u32,
    /// RCV.NXT when the window was offered last.
    #[n(4)]
    pub rcv_wup: u32,
}

/// Window scales (RFC 7323 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct WindowScales {
    /// Of windows that the client offers.
    #[n(0)]
    pub send: u8,
    /// Of windows that are offered to the client.
    #[n(1)]
    pub receive: u8,
}

macro_rules! socket_options {
    ($($(#[$doc:meta])+ $name:ident = $number:literal,)+) => {
        /// A socket option that goes with the connection. The numbers are the encoding.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum SocketOption {
            $($(#[$doc])+ $name = $number,)+
        }

        impl SocketOption {
            /// All of them.
            pub const ALL: &[SocketOption] = &[$(SocketOption::$name,)+];

            /// The option with this number.
            pub fn from_number(number: u16) -> Option<Self> {
                Self::ALL.iter().copied().find(|o| *o as u16 == number)
            }
        }
    };
}

socket_options! {
    /// `TCP_NODELAY`, 0 or 1.
    NoDelay = 0,
    /// `TCP_CORK`, 0 or 1.
    Cork = 1,
    /// `SO_KEEPALIVE`, 0 or 1.
    KeepAlive = 2,
    /// `TCP_KEEPIDLE`, seconds.
    KeepIdle = 3,
    /// `TCP_KEEPINTVL`, seconds.
    KeepInterval = 4,
    /// `TCP_KEEPCNT`, probes.
    KeepCount = 5,
    /// `TCP_USER_TIMEOUT`, milliseconds.
    UserTimeout = 6,
    /// `SO_LINGER`: seconds, or -1 for off.
    Linger = 7,
    /// `TCP_LINGER2`, seconds.
    Linger2 = 8,
    /// `SO_SNDBUF` as it is read, bytes.
    SendBuffer = 9,
    /// `SO_RCVBUF` as it is read, bytes.
    ReceiveBuffer = 10,
    /// `SO_BUF_LOCK`: which of the buffer sizes the application has set; the kernel tunes the others.
    BufferLock = 11,
    /// `IP_TOS`.
    Tos = 12,
    /// `IPV6_TCLASS`.
    TrafficClass = 13,
    /// `SO_MARK`.
    Mark = 14,
    /// `SO_PRIORITY`.
    Priority = 15,
    /// `SO_OOBINLINE`, 0 or 1.
    OobInline = 16,
    /// `TCP_NOTSENT_LOWAT`, bytes.
    NotSentLowWater = 17,
    /// `SO_RCVLOWAT`, bytes.
    ReceiveLowWater = 18,
    /// `SO_REUSEADDR`, 0 or 1.
    ReuseAddress = 19,
    /// `IP_TTL`.
    Ttl = 20,
    /// `IPV6_UNICAST_HOPS`.
    HopLimit = 21,
}

/// Options on the wire: an array of pairs of numbers. One that this software does not know is skipped.
mod wire_options {
    use minicbor::decode::Error;
    use minicbor::encode::Write;
    use minicbor::{Decoder, Encoder};

    use super::SocketOption;

    type Options = Vec<(SocketOption, i64)>;

    pub(super) fn encode<C, W: Write>(
        options: &Options,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(options.len() as u64)?;
        for (option, value) in options {
            e.array(2)?.u16(*option as u16)?.i64(*value)?;
        }
        Ok(())
    }

    pub(super) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Options, Error> {
        let count = d.array()?.filter(|n| *n <= super::MAX_OPTIONS);
        let count = count.ok_or_else(|| Error::message("too many socket options, or no count of them"))?;
        let mut options = Options::new();
        for _ in 0..count {
            if d.array()? != Some(2) {
                return Err(Error::message("a socket option is a pair"));
            }
            let (number, value) = (d.u16()?, d.i64()?);
            options.extend(SocketOption::from_number(number).map(|option| (option, value)));
        }
        Ok(options)
    }
}

/// The connection on the wire, as in messages.
mod wire_connection {
    use minicbor::encode::Write;
    use minicbor::{Decode, Decoder, Encode, Encoder};

    use crate::Connection;
    use crate::codec::WireConnection;

    pub(super) fn encode<C, W: Write>(
        connection: &Connection,
        e: &mut Encoder<W>,
        c: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        WireConnection(*connection).encode(e, c)
    }

    pub(super) fn decode<C>(d: &mut Decoder<'_>, c: &mut C) -> Result<Connection, minicbor::decode::Error> {
        Ok(WireConnection::decode(d, c)?.0)
    }
}

/// Everything that a kernel has to know to go on with a connection.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ConnectionState {
    /// Client and DVIPA; always TCP.
    #[cbor(n(0), with = "wire_connection")]
    pub connection: Connection,
    /// What the application's socket is.
    #[n(1)]
    pub family: SocketFamily,
    /// How far the connection is.
    #[n(2)]
    pub phase: Phase,
    /// Towards the client.
    #[n(3)]
    pub send: SendQueue,
    /// From the client.
    #[n(4)]
    pub receive: ReceiveQueue,
    /// Both windows.
    #[n(5)]
    pub windows: Windows,
    /// The largest segment that the client takes, in bytes (RFC 9293 3.7.1).
    #[n(6)]
    pub mss: u16,
    /// Window scales, if agreed on.
    #[n(7)]
    pub scales: Option<WindowScales>,
    /// Selective acknowledgments are agreed on (RFC 2018).
    #[n(8)]
    pub sack: bool,
    /// The next timestamp to send, if they are agreed on (RFC 7323 3), as `TCP_TIMESTAMP` gives it: with the lowest bit
    /// saying that its unit is a microsecond and not a millisecond.
    #[n(9)]
    pub timestamp: Option<u32>,
    /// Explicit congestion notification is agreed on (RFC 3168).
    #[n(10)]
    pub ecn: bool,
    /// Socket options that differ from nothing: each at most once.
    #[cbor(n(11), with = "wire_options")]
    pub options: Vec<(SocketOption, i64)>,
    /// The congestion control's name.
    #[n(12)]
    pub congestion_control: String,
}

/// Why bytes are not the state of a connection.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Not CBOR, or fields are missing or of another type.
    #[error("malformed state of a connection: {0}")]
    Malformed(#[from] minicbor::decode::Error),
    /// Written by other software.
    #[error("a connection's state of version {0}, this software reads version {VERSION}")]
    Version(u8),
    /// A field that no connection has.
    #[error("impossible state of a connection: {0}")]
    Impossible(&'static str),
}

impl ConnectionState {
    /// Writes it.
    pub fn encode(&self) -> Vec<u8> {
        // Writing into memory does not fail.
        minicbor::to_vec((VERSION, self)).unwrap_or_default()
    }

    /// Reads and checks it.
    ///
    /// # Errors
    /// [`StateError`]; what is impossible is never given to a kernel.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let mut decoder = Decoder::new(bytes);
        decoder.array()?;
        let version = decoder.u8()?;
        if version != VERSION {
            return Err(StateError::Version(version));
        }
        let state: Self = decoder.decode()?;
        state.check()?;
        Ok(state)
    }

    /// Whether a connection can be like this.
    ///
    /// # Errors
    /// [`StateError::Impossible`].
    pub fn check(&self) -> Result<(), StateError> {
        let require = |condition, what| if condition { Ok(()) } else { Err(StateError::Impossible(what)) };
        let Connection { protocol, client, dvipa } = self.connection;
        require(protocol == Protocol::Tcp, "it is not TCP")?;
        require(client.is_ipv4() != (self.family == SocketFamily::V6), "a socket of another family")?;
        require(client.port() != 0 && dvipa.port() != 0, "a port is 0")?;
        let queued = self.send.bytes.len().saturating_add(self.receive.bytes.len());
        require(queued <= MAX_QUEUED_BYTES, "its queues are too long")?;
        let unsent = usize::try_from(self.send.unsent_bytes).unwrap_or(usize::MAX);
        require(unsent <= self.send.bytes.len(), "more unsent bytes than there are")?;
        let acknowledged = self.phase != Phase::FinWait2 || self.send.bytes.is_empty();
        require(acknowledged, "bytes before an acknowledged FIN are unacknowledged")?;
        let Windows { snd_wnd, max_window, rcv_wnd, .. } = self.windows;
        require(max_window >= snd_wnd, "a window larger than the largest")?;
        let limit = u32::from(u16::MAX) << MAX_WINDOW_SCALE;
        require(max_window <= limit && rcv_wnd <= limit, "a window that no scale can say")?;
        require(self.mss != 0, "an MSS of 0")?;
        let scales = self.scales.unwrap_or(WindowScales { send: 0, receive: 0 });
        require(scales.send.max(scales.receive) <= MAX_WINDOW_SCALE, "a window scale above 14")?;
        let name = self.congestion_control.as_bytes();
        let printable = name.iter().all(u8::is_ascii_graphic) && name.len() <= MAX_CONGESTION_CONTROL_BYTES;
        require(printable, "the congestion control has no proper name")
    }

    /// The value of a socket option, if it was told.
    pub fn option(&self, option: SocketOption) -> Option<i64> {
        self.options.iter().find(|(o, _)| *o == option).map(|(_, value)| *value)
    }

    /// The sequence number that the client is to send next: RCV.NXT, with the FIN if it was received.
    pub fn receive_next(&self) -> u32 {
        let bytes = u32::try_from(self.receive.bytes.len()).unwrap_or(u32::MAX);
        self.receive.first.wrapping_add(bytes).wrapping_add(u32::from(self.phase.fin_received()))
    }

    /// The lowest sequence number that the client has not acknowledged: SND.UNA, with the FIN if it was.
    pub fn send_unacknowledged(&self) -> u32 {
        self.send.first.wrapping_add(u32::from(self.phase == Phase::FinWait2))
    }

    /// The sequence number after the last byte that was sent, without a FIN: SND.NXT of a connection that is established.
    pub fn send_next(&self) -> u32 {
        let sent = u32::try_from(self.send.split().0.len()).unwrap_or(u32::MAX);
        self.send.first.wrapping_add(sent)
    }
}

#[cfg(test)]
mod tests;
