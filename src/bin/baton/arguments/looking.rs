//! What is asked about packets.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use control::runtime::api::ClientFilter;
use control::runtime::looking::{SegmentKind, TRACE_A_SECOND, TRACE_S};

/// A packet that is asked about.
#[derive(Debug, Args)]
pub(crate) struct WhyArguments {
    /// The client: ADDRESS:PORT or [IPV6]:PORT.
    pub(crate) client: SocketAddr,
    /// The DVIPA and its port.
    pub(crate) dvipa: SocketAddr,
    /// Ask about a datagram of UDP.
    #[arg(long)]
    pub(crate) udp: bool,
    /// Ask about this segment of TCP [ack if the CRT has the connection, otherwise syn].
    #[arg(long, conflicts_with = "udp", value_enum)]
    pub(crate) segment: Option<Segment>,
    /// How long the packet is, from its IP header on [as short as it can be].
    #[arg(long, value_name = "BYTES")]
    pub(crate) length: Option<u16>,
    /// Its TTL or hop limit when it arrives here [64].
    #[arg(long)]
    pub(crate) ttl: Option<u8>,
    /// What the client asks for, where the service has routes: as for `baton route explain`.
    #[arg(long, value_name = "REQUEST")]
    pub(crate) request: Option<String>,
    /// A header of an HTTP request; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", requires = "request")]
    pub(crate) headers: Vec<String>,
    /// An application protocol that a TLS client offers; may be repeated.
    #[arg(long, value_name = "NAME", requires = "request")]
    pub(crate) alpn: Vec<String>,
}

/// A segment of TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Segment {
    /// One that opens a connection.
    Syn,
    /// One in the middle of a connection.
    Ack,
    /// One that ends a connection at once.
    Rst,
}

impl From<Segment> for SegmentKind {
    fn from(segment: Segment) -> Self {
        match segment {
            Segment::Syn => Self::Syn,
            Segment::Ack => Self::Ack,
            Segment::Rst => Self::Rst,
        }
    }
}

/// Which packets are looked at, and for how long.
#[derive(Debug, Args)]
pub(crate) struct TraceArguments {
    /// Only packets of this client: ADDRESS, ADDRESS:PORT or [IPV6]:PORT.
    #[arg(long, value_name = "CLIENT")]
    pub(crate) client: Option<ClientFilter>,
    /// Only packets of this service: the DVIPA, or the DVIPA and a port.
    #[arg(long, value_name = "DVIPA")]
    pub(crate) service: Option<ClientFilter>,
    /// End after so many packets.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) count: Option<u64>,
    /// End after so many seconds.
    #[arg(long = "for", value_name = "SECONDS", default_value_t = TRACE_S,
        value_parser = clap::value_parser!(u64).range(1..=control::runtime::looking::TRACE_S_MAX))]
    pub(crate) seconds: u64,
    /// So many packets a second at most; the others are counted.
    #[arg(long, value_name = "NUMBER", default_value_t = TRACE_A_SECOND)]
    pub(crate) rate: u32,
}

/// Where packets are written to, and which.
#[derive(Debug, Args)]
pub(crate) struct CaptureArguments {
    /// The file to write, or - for standard output.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) trace: TraceArguments,
}
