//! What was sent and not acknowledged is sent again at once when a connection comes to a host.
//!
//! The kernel would do it when its timer expires: after three seconds, because a restored connection has no round-trip time
//! (RFC 6298 5.7). The client discards what it has and acknowledges everything, from which the kernel learns the rest.
//!
//! If there is nothing of that kind and bytes wait for a window, the client is asked for it: what it said during the move may be
//! lost. The kernel asks too, with an empty segment; but clients answer those only twice a second (Linux's
//! `tcp_invalid_ratelimit`), and the kernel asks only on established connections.

use std::os::fd::AsFd;

use libc::IPPROTO_TCP;
use model::ConnectionState;
use model::connection_state::Phase;

use super::calls;
use super::segment::{Flags, Segment};

/// Segments that are sent at once, as at the begin of a connection (RFC 6928).
const SEGMENTS: usize = 10;
/// What fits into every path with room for encapsulation (RFC 8200 5 wants 1280 bytes a packet).
const MOST_SEGMENT_BYTES: usize = 1200;

/// Sends what the client has not acknowledged, before the socket leaves repair mode. Best effort: the kernel's timer is still
/// there.
pub(super) fn send_again(socket: impl AsFd, state: &ConnectionState) {
    let (sent, unsent) = state.send.split();
    let fin = state.phase.fin_queued() && state.phase != Phase::FinWait2 && unsent.is_empty();
    let asks = sent.is_empty() && !unsent.is_empty();
    if sent.is_empty() && !fin && !asks {
        return;
    }
    let now = state.timestamp.and_then(|_| calls::get(&socket, IPPROTO_TCP, libc::TCP_TIMESTAMP).ok());
    // What is left of the window that was offered: its right edge stays where it is (RFC 9293 3.8.6.2.1).
    let taken = state.receive_next().wrapping_sub(state.windows.rcv_wup);
    let window = state.windows.rcv_wnd.saturating_sub(taken) >> state.scales.map_or(0, |s| s.receive);
    let mut segment = Segment {
        from: state.connection.dvipa,
        to: state.connection.client,
        sequence: state.send.first,
        acknowledgment: state.receive_next(),
        flags: Flags::ACK,
        window: u16::try_from(window).unwrap_or(u16::MAX),
        timestamps: now,
    };
    let bytes = usize::from(state.mss).saturating_sub(segment.option_bytes()).clamp(1, MOST_SEGMENT_BYTES);
    let mut chunks = sent.chunks(bytes).take(SEGMENTS).peekable();
    let whole = sent.len() <= bytes.saturating_mul(SEGMENTS);
    if asks {
        // An octet that the client has acknowledged and does not look at, as of a keep-alive (RFC 9293 3.8.4).
        segment.sequence = segment.sequence.wrapping_sub(1);
        let _ = segment.send(&[0]);
    } else if sent.is_empty() {
        segment.flags = Flags::FIN_ACK;
        let _ = segment.send(&[]);
    }
    while let Some(chunk) = chunks.next() {
        if fin && whole && chunks.peek().is_none() {
            segment.flags = Flags::FIN_ACK;
        }
        if segment.send(chunk).is_err() {
            return;
        }
        segment.sequence = segment.sequence.wrapping_add(u32::try_from(chunk.len()).unwrap_or(0));
    }
}
