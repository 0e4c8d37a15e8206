//! The worker's line over a source that ends: a capture file.

use ffi::RxQueue;
use forwarder::crt::Crt;
use forwarder::{Now, Port, Tables};

use super::Line;

/// How many receives in a row must be empty for a source to count as drained.
const EMPTY_RECEIVES: u32 = 3;

/// Lets everything that `queue` delivers pass as received from the port `from`, one burst after the other, until it
/// delivers no more, and then what is still held whose time is over. `clock` is asked once a burst and once at the end.
/// Returns how many packets there were.
pub fn replay(
    line: &mut Line,
    queue: &mut RxQueue,
    from: Port,
    tables: &Tables,
    crt: &Crt,
    mut clock: impl FnMut() -> Now,
) -> usize {
    let (mut packets, mut empty) = (0, 0);
    while empty < EMPTY_RECEIVES {
        let count = line.pass(queue, from.into(), (tables, crt, clock()), None);
        line.output.flush();
        packets += count;
        empty = if count == 0 { empty + 1 } else { 0 };
    }
    line.expire((tables, crt, clock()), None);
    line.output.flush();
    packets
}
