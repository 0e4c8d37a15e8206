//! A CRT's file that is not what a process left in it.
//!
//! Input: pieces of 13 bytes. Each puts eight bytes at a place of a small table's file: one byte chooses the kind of place, four the place.
//! A piece of the last kind cuts the file there.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use forwarder::Now;
use forwarder::crt::{Config, Crt, KeyV4, KeyV6, Named};
use model::numbering::Numbering;
use model::{DvipaIndex, Protocol, StackIndex};

const STACKS: u16 = 4;
const KEYS: u16 = 300;
/// Bytes of the head, the accounts, and what is before the lines.
const BEFORE_LINES: u64 = 144 << 10;

fn config() -> Config {
    let few = 128;
    Config {
        connections_v4: few,
        connections_v6: few,
        flows: few,
        half_open: few,
        fragments: few,
        ..Config::default()
    }
}

fn v4(n: u16) -> KeyV4 {
    let protocol = if n % 4 == 3 { Protocol::Udp } else { Protocol::Tcp };
    KeyV4::new(Ipv4Addr::new(198, 18, 0, 2), n, DvipaIndex(n % 2), 80, protocol)
}

fn v6(n: u16) -> KeyV6 {
    KeyV6::new(Ipv6Addr::LOCALHOST, n, DvipaIndex(n % 2), 80, Protocol::Tcp)
}

/// A file in memory that nobody else sees.
fn memory() -> File {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = format!("/dev/shm/baton-fuzz-{}-{number}", std::process::id());
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
    let file = file.unwrap_or_else(|error| panic!("{path}: {error}"));
    std::fs::remove_file(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    file
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let file = memory();
    let crt = Crt::create_in(&config(), &file).unwrap_or_else(|error| panic!("a table: {error}"));
    use_it(&crt, 0);
    assert!(crt.record(b"what its numbers mean"));
    drop(crt);
    for piece in data.chunks_exact(13).take(200) {
        let Some((kind, rest)) = piece.split_first() else { continue };
        let (Some(place), Some(bytes)) = (rest.first_chunk::<4>(), rest.last_chunk::<8>()) else { continue };
        let length = file.metadata().map_or(0, |data| data.len()).max(8);
        let place = u64::from(u32::from_le_bytes(*place));
        let lines = (length - 8).saturating_sub(BEFORE_LINES).max(1);
        let at = match kind % 8 {
            0 => place % 4096,
            1 => place % BEFORE_LINES.min(length - 7),
            2 => place % (length - 7),
            3 if kind / 8 == 31 => {
                file.set_len(place % length).unwrap_or_else(|error| panic!("it is cut: {error}"));
                continue;
            }
            _ => BEFORE_LINES + place % lines,
        };
        // Words are where words are in most cases.
        let at = if *kind < 200 { at & !7 } else { at };
        file.write_all_at(bytes, at).unwrap_or_else(|error| panic!("it is written: {error}"));
    }
    let Ok(left) = Crt::find_in(&config(), &file) else { return };
    let _ = left.record().map(|bytes| Numbering::decode(&bytes).is_ok());
    let _ = left.clock(1);
    let named = Named::new((0..STACKS).map(StackIndex), (0..2).map(DvipaIndex));
    let (crt, _) = left.attach(&named);
    let entries = look(&crt);
    let stats = crt.stats();
    let counted = stats.v4.entries + stats.v6.entries + stats.flows_v4.entries + stats.flows_v6.entries;
    assert_eq!(entries, counted + stats.half_open_v4.entries + stats.half_open_v6.entries, "{stats:?}");
    use_it(&crt, 1000);
    look(&crt);
}

/// Counts the entries; each is one of a stack that means something.
fn look(crt: &Crt) -> u64 {
    let (mut cursor, mut entries) = (Some(Default::default()), 0);
    while let Some(from) = cursor {
        cursor = crt.scan(from, 64, Now { ms: 5000 }, |row| {
            assert!(row.entry.owner.0 < STACKS && row.key.dvipa.0 < 2, "{row:?}");
            entries += 1;
        });
    }
    entries
}

/// What workers and the control thread do, which ends.
fn use_it(crt: &Crt, begin_ms: u64) {
    let now = |ms| Now { ms: begin_ms + ms };
    for n in 0..KEYS {
        let owner = StackIndex(n % STACKS);
        let _ = crt.insert_half_open(v6(n), owner, now(0));
        let _ = crt.newconn(v4(n), owner, now(1));
        let _ = crt.newconn(v6(n / 2), owner, now(2));
        let _ = crt.insert_flow(v4(n | 3), owner, None, now(3));
        let _ = crt.get(v4(n), now(4));
        if n % 5 == 0 {
            let _ = crt.terminate(v4(n), owner, now(5));
        }
    }
    if begin_ms > 0 {
        for round in 0..9 {
            let _ = crt.age(now(10_000 + round), usize::MAX);
        }
    }
}
