//! How often the connection table writes down that a connection is in use: after how much time a use is stale. Found by
//! trying, so that the measurements follow the table, whatever its lives and ticks are.

use std::sync::OnceLock;

use forwarder::Now;
use forwarder::crt::{Config, Crt, Cursor, KeyV4};
use model::{DvipaIndex, Protocol, StackIndex};

/// The number of samples that tell a renewed stamp from one that was not: ages are shown in whole seconds.
const SAMPLES: u64 = 40;
const SAMPLE_MS: u64 = 97;

/// The least age, in milliseconds, at which a use of a connection is written down.
pub(crate) fn interval_ms(protocol: Protocol) -> u64 {
    static FOUND: [OnceLock<u64>; 2] = [OnceLock::new(), OnceLock::new()];
    let [tcp, udp] = &FOUND;
    let found = if protocol == Protocol::Udp { udp } else { tcp };
    *found.get_or_init(|| {
        let (mut not_yet, mut renewed) = (0, 32);
        while !is_renewed(protocol, renewed) {
            (not_yet, renewed) = (renewed, renewed * 2);
        }
        while renewed - not_yet > 1 {
            let middle = not_yet.midpoint(renewed);
            *(if is_renewed(protocol, middle) { &mut renewed } else { &mut not_yet }) = middle;
        }
        renewed
    })
}

/// When a clock starts.
pub(crate) fn start() -> Now {
    Now { ms: interval_ms(Protocol::Tcp).max(interval_ms(Protocol::Udp)) }
}

/// The last moment up to [`start`] at which the use of connection `n` was written down, if it is used all the time: any age up
/// to the interval is as likely as any other.
pub(crate) fn written(protocol: Protocol, n: u32) -> Now {
    let age = u64::from(n.wrapping_mul(0x9e37_79b1)) % interval_ms(protocol);
    Now { ms: start().ms - age }
}

/// Whether a use `at` so many milliseconds after the connection began makes it look younger afterwards.
fn is_renewed(protocol: Protocol, at: u64) -> bool {
    idle_s(protocol, at, true) < idle_s(protocol, at, false)
}

/// For how long a connection is shown as idle, in seconds, summed over samples.
fn idle_s(protocol: Protocol, at: u64, is_used: bool) -> u64 {
    // Small, because it is made and scanned a thousand times.
    let small = Config {
        connections_v4: 64,
        connections_v6: 0,
        flows: 64,
        half_open: 64,
        fragments: 64,
        ..Config::default()
    };
    let crt = Crt::new(&small).unwrap_or_else(|e| panic!("memory for a table of 64 connections: {e}"));
    let key = KeyV4::new([192, 0, 2, 1].into(), 4000, DvipaIndex(0), 443, protocol);
    let made = crt.newconn(key, StackIndex(1), Now::default());
    assert!(made.is_ok(), "an empty table takes a connection: {made:?}");
    if is_used {
        crt.get(key, Now { ms: at });
    }
    let mut sum = 0;
    for sample in 0..SAMPLES {
        let now = Now { ms: at + sample * SAMPLE_MS };
        crt.scan(Cursor::default(), usize::MAX, now, |row| sum += u64::from(row.idle_s));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_written_down_from_the_interval_on_and_not_before() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let ms = interval_ms(protocol);
            assert!(is_renewed(protocol, ms) && !is_renewed(protocol, ms - 1), "{protocol:?}: {ms} ms");
        }
    }
}
