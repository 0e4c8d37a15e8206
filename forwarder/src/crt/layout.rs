//! Where everything is in the mapping: the head, the accounts, the lines of each part.

use std::fs::File;
use std::io;
use std::sync::Arc;

use super::Config;
use super::ages::Ages;
use super::atomic::{AtomicU32, AtomicU64};
use super::hash::{Secret, checksum};
use super::key::Exact;
use super::ledger::{COUNTERS, STACK_WORDS};
use super::line::Line;
use super::memory::{Array, HUGE, Mapping};
use super::record::{self, Record};
use super::{FragmentKeyV4, FragmentKeyV6, KeyV4, KeyV6};

const MAGIC: [u8; 8] = *b"batonCRT";
/// Counts the changes of the layout and of the lines' protocol.
pub(super) const VERSION: u64 = 5;
/// Parts that consist of lines: the main table, half-open connections, fragments, each IPv4 and IPv6.
const PARTS: usize = 6;
/// Slots in a hundred that the connections asked for fill. The main table takes more than 93 (four slots a line) and 82 (two).
const FILL_V4: usize = 76;
const FILL_V6: usize = 68;
/// The same of UDP flows, for which no long search makes room.
const FILL_FLOWS: usize = 50;

/// Why a file's contents are no table that this process can go on with.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Nothing is in the file.
    #[error("the file is new")]
    Empty,
    /// The file holds something else, or a table that was not finished.
    #[error("the file holds no connection table")]
    NoTable,
    /// Another version of this software made it.
    #[error("the connection table in the file has layout {found}, this batond has layout {}", VERSION)]
    Version {
        /// The layout's number in the file.
        found: u64,
    },
    /// The table has other sizes than those asked for.
    #[error("the connection table in the file was made for other sizes")]
    Sizes,
    /// Ages in the table are counted in other units.
    #[error("the connection table in the file was made for other lifetimes")]
    Lifetimes,
    /// Keys were placed with instructions that this processor lacks.
    #[error("the connection table in the file was made for a processor with AES instructions")]
    Processor,
    /// Its head, or the record of numbers, is not what was written.
    #[error("the connection table in the file is damaged: {0}")]
    Damaged(&'static str),
    /// The file can't be mapped.
    #[error("the file can't be mapped")]
    System(#[from] io::Error),
}

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
    /// Of all that is before.
    checksum: u64,
}

impl Head {
    fn new(config: &Config, secret: Secret) -> Self {
        let (lines, tcp_lines) = (lines_of(config), tcp_lines_of(config));
        let head = Self {
            magic: MAGIC,
            version: VERSION,
            lines,
            tcp_lines,
            tick_ms: ticks_of(config),
            secret,
            checksum: 0,
        };
        Self { checksum: head.sum(), ..head }
    }

    fn sum(&self) -> u64 {
        let first = [u64::from_ne_bytes(self.magic), self.version];
        let sizes = self.lines.into_iter().chain(self.tcp_lines).chain(self.tick_ms);
        checksum(first.into_iter().chain(sizes).chain(self.secret.words()))
    }

    /// Whether a process with this configuration can go on with the table.
    fn check(&self, config: &Config) -> Result<(), Unusable> {
        if self.magic != MAGIC {
            return Err(Unusable::NoTable);
        }
        // Before the checksum: another layout may have another head.
        if self.version != VERSION {
            return Err(Unusable::Version { found: self.version });
        }
        if self.checksum != self.sum() {
            return Err(Unusable::Damaged("its head is not what was written"));
        }
        if (self.lines, self.tcp_lines) != (lines_of(config), tcp_lines_of(config)) {
            return Err(Unusable::Sizes);
        }
        if self.tick_ms != ticks_of(config) {
            return Err(Unusable::Lifetimes);
        }
        if self.secret.fits_this_processor() { Ok(()) } else { Err(Unusable::Processor) }
    }
}

/// Bytes that the head has for itself.
const HEAD: usize = 4096;
const _: () = assert!(size_of::<Head>() <= HEAD);

/// The arrays of a table.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) secret: Secret,
    pub(super) counters: Array<AtomicU64>,
    pub(super) stacks: Array<AtomicU32>,
    pub(super) lines: [Array<Line>; PARTS],
    /// Of the main tables' lines, those of TCP.
    pub(super) tcp_lines: [usize; 2],
    /// TCP connections that the main tables were made for.
    pub(super) room: [u64; 2],
    /// UDP flows that they were made for.
    pub(super) flow_room: [u64; 2],
    /// What the numbers in entries mean; none: the table is this process's own.
    pub(super) record: Option<Record>,
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
        // A line's number is compared as a signed one of 32 bits ([`super::hash`]).
        end = i32::try_from(lines)
            .ok()
            .and_then(|lines| usize::try_from(lines).ok())?
            .checked_mul(size_of::<Line>())?
            .checked_add(end)?;
    }
    Some((starts, end))
}
const COUNTERS_AT: usize = HEAD;
const STACKS_AT: usize = 2 * HEAD;
const _: () = assert!(COUNTERS * 8 <= HEAD);

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The length of a table in a process's own memory.
pub(super) fn bytes(config: &Config) -> Option<usize> {
    offsets(lines_of(config)).map(|(_, end)| end.next_multiple_of(HUGE))
}

/// A new, empty table's parts: in `file`, which is given the length, or in this process's own memory.
pub(super) fn create(config: &Config, file: Option<&File>) -> io::Result<Parts> {
    let head = Head::new(config, Secret::random()?);
    let (starts, end) =
        offsets(head.lines).ok_or_else(|| invalid("the table is too large for the address space"))?;
    let Some(file) = file else {
        let mut mapping = Mapping::anonymous(end)?;
        mapping.write_head(head);
        return Ok(parts(mapping, &head, starts, None));
    };
    file.set_len(0)?;
    file.set_len(file_length(end) as u64)?;
    let mut mapping = Mapping::file(file, file_length(end))?;
    // Last of all: until it is there, this is no table.
    mapping.write_head(head);
    Ok(parts(mapping, &head, starts, Some(record_at(end))))
}

/// The parts of a table that another process left in `file`.
pub(super) fn find(config: &Config, file: &File) -> Result<Parts, Unusable> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Err(Unusable::Empty);
    }
    if length < HUGE as u64 {
        return Err(Unusable::NoTable);
    }
    let head: Head = Mapping::file(file, HEAD)?.read_head();
    head.check(config)?;
    let (starts, end) = offsets(head.lines).ok_or(Unusable::Damaged("its sizes are impossible"))?;
    if length != file_length(end) as u64 {
        return Err(Unusable::Damaged("the file has another length than the table"));
    }
    let mapping = Mapping::file(file, file_length(end))?;
    Ok(parts(mapping, &head, starts, Some(record_at(end))))
}

/// Where the record of numbers is, in a table that ends there.
fn record_at(end: usize) -> usize {
    end.next_multiple_of(HEAD)
}

fn file_length(end: usize) -> usize {
    (record_at(end) + record::BYTES).next_multiple_of(HUGE)
}

fn parts(mapping: Mapping, head: &Head, starts: [usize; PARTS], record_at: Option<usize>) -> Parts {
    let [tcp_v4, tcp_v6] = head.tcp_lines;
    let [main_v4, main_v6, ..] = head.lines;
    let bytes = mapping.bytes();
    let mapping = Arc::new(mapping);
    let mut lens = head.lines.into_iter();
    let lines = starts.map(|start| Array::new(&mapping, start, lens.next().unwrap_or_default() as usize));
    Parts {
        secret: head.secret,
        counters: Array::new(&mapping, COUNTERS_AT, COUNTERS),
        stacks: Array::new(&mapping, STACKS_AT, STACK_WORDS),
        lines,
        tcp_lines: head.tcp_lines.map(|lines| lines as usize),
        room: [room_in::<KeyV4>(tcp_v4, FILL_V4), room_in::<KeyV6>(tcp_v6, FILL_V6)],
        flow_room: [
            room_in::<KeyV4>(main_v4.saturating_sub(tcp_v4), FILL_FLOWS),
            room_in::<KeyV6>(main_v6.saturating_sub(tcp_v6), FILL_FLOWS),
        ],
        record: record_at.map(|at| Record::new(Array::new(&mapping, at, record::WORDS))),
        bytes,
    }
}
