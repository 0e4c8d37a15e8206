//! Where everything is in the mapping: the head, the accounts, the lines of each part.

use std::io;
use std::sync::Arc;

use super::Config;
use super::ages::Ages;
use super::atomic::{AtomicU32, AtomicU64};
use super::hash::Secret;
use super::key::Exact;
use super::ledger::{COUNTERS, STACK_WORDS};
use super::line::Line;
use super::memory::{Array, Mapping};
use super::{FragmentKeyV4, FragmentKeyV6, KeyV4, KeyV6};

const MAGIC: [u8; 8] = *b"batonCRT";
/// Counts the changes of the layout and of the lines' protocol.
const VERSION: u64 = 3;
/// Parts that consist of lines: the main table, half-open connections, fragments, each IPv4 and IPv6.
const PARTS: usize = 6;
/// Slots in a hundred that the connections asked for fill. The main table takes more than 93 (four slots a line) and 82 (two).
const FILL_V4: usize = 76;
const FILL_V6: usize = 68;
/// The same of UDP flows, for which no long search makes room.
const FILL_FLOWS: usize = 50;

/// The mapping's first bytes. Written once; the rest of the mapping follows from it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Head {
    magic: [u8; 8],
    version: u64,
    lines: [u64; PARTS],
    /// Of the main tables' lines, those of TCP.
    tcp_lines: [u64; 2],
    /// The stamps' units must stay what they were.
    tick_ms: [u64; 4],
    secret: Secret,
}

/// Bytes that the head has for itself.
const HEAD: usize = 4096;
const _: () = assert!(size_of::<Head>() <= HEAD);

/// The arrays of a table.
pub(super) struct Parts {
    pub(super) secret: Secret,
    pub(super) counters: Array<AtomicU64>,
    pub(super) stacks: Array<AtomicU32>,
    pub(super) lines: [Array<Line>; PARTS],
    /// Of the main tables' lines, those of TCP.
    pub(super) tcp_lines: [usize; 2],
    /// TCP connections that the main tables were made for.
    pub(super) room: [u64; 2],
    pub(super) bytes: usize,
}

fn for_slots<K: Exact>(slots: usize) -> u64 {
    slots.div_ceil(super::line::slots_per_line::<K>()).max(2) as u64
}

fn filled(entries: usize, fill: usize) -> usize {
    entries.saturating_mul(100).div_ceil(fill)
}

fn tcp_lines_of(config: &Config) -> [u64; 2] {
    [
        for_slots::<KeyV4>(filled(config.connections_v4, FILL_V4)),
        for_slots::<KeyV6>(filled(config.connections_v6, FILL_V6)),
    ]
}

fn lines_of(config: &Config) -> [u64; PARTS] {
    let [tcp_v4, tcp_v6] = tcp_lines_of(config);
    let flows = filled(config.flows, FILL_FLOWS);
    [
        tcp_v4.saturating_add(for_slots::<KeyV4>(flows)),
        tcp_v6.saturating_add(for_slots::<KeyV6>(flows)),
        for_slots::<KeyV4>(config.half_open),
        for_slots::<KeyV6>(config.half_open),
        for_slots::<FragmentKeyV4>(config.fragments),
        for_slots::<FragmentKeyV6>(config.fragments),
    ]
}

fn ticks_of(config: &Config) -> [u64; 4] {
    let connections = [Ages::of_connections(config), Ages::of_flows(config)];
    let [tcp, udp] = connections.map(|ages| ages.tick_ms());
    [tcp, udp, Ages::of_half_open(config).tick_ms(), Ages::of_fragments(config).tick_ms()]
}

/// Connections that this many lines are made for.
fn room_in<K: Exact>(lines: u64, fill: usize) -> u64 {
    lines.saturating_mul((super::line::slots_per_line::<K>() * fill) as u64) / 100
}

/// Offsets of the counters, the stacks' accounts, the lines, and the length of it all.
fn offsets(lines: [u64; PARTS]) -> Option<([usize; PARTS], usize)> {
    let mut end = STACKS_AT.checked_add(STACK_WORDS.checked_mul(4)?)?.next_multiple_of(HEAD);
    let mut starts = [0; PARTS];
    for (start, lines) in starts.iter_mut().zip(lines) {
        *start = end;
        end = usize::try_from(lines).ok()?.checked_mul(size_of::<Line>())?.checked_add(end)?;
    }
    Some((starts, end))
}
const COUNTERS_AT: usize = HEAD;
const STACKS_AT: usize = 2 * HEAD;
const _: () = assert!(COUNTERS * 8 <= HEAD);

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A new, empty table's parts: in `file`, which is given the length, or in this process's own memory.
pub(super) fn create(config: &Config, file: Option<&std::fs::File>) -> io::Result<Parts> {
    let head = Head {
        magic: MAGIC,
        version: VERSION,
        lines: lines_of(config),
        tcp_lines: tcp_lines_of(config),
        tick_ms: ticks_of(config),
        secret: Secret::random()?,
    };
    let (_, bytes) =
        offsets(head.lines).ok_or_else(|| invalid("the table is too large for the address space"))?;
    let mut mapping = match file {
        None => Mapping::anonymous(bytes)?,
        Some(file) => {
            file.set_len(0)?;
            file.set_len(bytes.next_multiple_of(super::memory::HUGE) as u64)?;
            Mapping::file(file, bytes)?
        }
    };
    mapping.write_head(head);
    parts(mapping, &head)
}

/// The parts of a table that another process made in `file`.
pub(super) fn attach(config: &Config, file: &std::fs::File) -> io::Result<Parts> {
    let head: Head = Mapping::file(file, HEAD)?.read_head();
    if head.magic != MAGIC {
        return Err(invalid("the file holds no connection table"));
    }
    if head.version != VERSION {
        return Err(invalid("the connection table in the file has another version"));
    }
    if head.tick_ms != ticks_of(config) {
        return Err(invalid("the connection table in the file was made for other lifetimes"));
    }
    if !head.secret.fits_this_processor() {
        return Err(invalid(
            "the connection table in the file was made for a processor with AES instructions",
        ));
    }
    let (_, bytes) = offsets(head.lines).ok_or_else(|| invalid("the connection table's head is damaged"))?;
    parts(Mapping::file(file, bytes)?, &head)
}

fn parts(mapping: Mapping, head: &Head) -> io::Result<Parts> {
    let (starts, _) = offsets(head.lines).ok_or_else(|| invalid("the connection table's head is damaged"))?;
    let [tcp_v4, tcp_v6] = head.tcp_lines;
    let [main_v4, main_v6, ..] = head.lines;
    if head.lines.contains(&0) || tcp_v4 >= main_v4 || tcp_v6 >= main_v6 {
        return Err(invalid("the connection table's head is damaged"));
    }
    let bytes = mapping.bytes();
    let mapping = Arc::new(mapping);
    let mut part =
        starts.into_iter().zip(head.lines).map(|(start, len)| Array::new(&mapping, start, len as usize));
    let mut next = || part.next().ok_or_else(|| invalid("the connection table's head is damaged"));
    Ok(Parts {
        secret: head.secret,
        counters: Array::new(&mapping, COUNTERS_AT, COUNTERS),
        stacks: Array::new(&mapping, STACKS_AT, STACK_WORDS),
        lines: [next()?, next()?, next()?, next()?, next()?, next()?],
        tcp_lines: head.tcp_lines.map(|lines| lines as usize),
        room: [room_in::<KeyV4>(tcp_v4, FILL_V4), room_in::<KeyV6>(tcp_v6, FILL_V6)],
        bytes,
    })
}
