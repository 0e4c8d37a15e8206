//! Plain heads of HTTP requests, read in one look at the bytes: those that nearly all clients write.
//!
//! A head is plain if it has nothing but printable ASCII and CRLF, a method of capital letters, a path, HTTP/1.1, header names of letters,
//! digits and `-`, and one host that is a name. It is read here as [`http`](crate::http) reads it, in a fifth of the instructions; a test
//! and the fuzzer compare. Whatever is not plain is left to that reader, which alone refuses: nothing here decides what is malformed.

use crate::framing::Framed;
use crate::host::{MAX_HOST, MAX_LABELS};
use crate::http::MAX_HEADERS;
use crate::request::Request;
use crate::{Explained, Routes};

/// Bytes that are looked at together.
const BLOCK: usize = 64;
/// The end of a request line.
const VERSION: &[u8] = b" HTTP/1.1";

/// What becomes of a request; `None` if its head is not plain, or not whole.
pub(crate) fn read(routes: &Routes, bytes: &[u8]) -> Option<Explained> {
    let mut lines = Lines::new(bytes);
    let (begin, end) = lines.next()?;
    let (method, target) = request_line(bytes.get(begin..end)?)?;
    let (path, query) = path_and_query(target)?;
    let first = lines.at;
    let mut framed = Framed::plain(method);
    let (mut host, mut count) = (None, 0_usize);
    loop {
        let (begin, end) = lines.next()?;
        if begin == end {
            break;
        }
        count = count.wrapping_add(1);
        let len = run_of(bytes, begin, sixteen::names);
        let mut at = begin.wrapping_add(len);
        if bytes.get(at) != Some(&b':') {
            return None;
        }
        at = at.wrapping_add(1);
        // Most headers are none of those that matter.
        if !matches!(len, 4 | 6 | 7 | 10 | 14 | 17) {
            if len == 0 {
                return None;
            }
            continue;
        }
        let name = bytes.get(begin..begin.wrapping_add(len))?;
        while bytes.get(at) == Some(&b' ') {
            at = at.wrapping_add(1);
        }
        let value = bytes.get(at..end)?.trim_ascii_end();
        if len == 4 {
            let is_second =
                name.eq_ignore_ascii_case(b"host") && host.replace(host_of(bytes, at, value)?).is_some();
            if is_second {
                return None;
            }
        } else {
            framed.header(name, value).ok()?;
        }
    }
    if count > MAX_HEADERS {
        return None;
    }
    let (head, subject) = (lines.at, Some(path));
    let request = Request {
        host: Some(host?),
        subject,
        method,
        lines: bytes.get(first..head)?,
        query,
        ..Request::default()
    };
    framed.head_bytes(head);
    Some(routes.decide(&request, framed.finish()))
}

/// Of a target that is nothing but printable ASCII.
fn path_and_query(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let Some(at) = memchr::memchr3(b'?', b' ', b'#', target) else { return Some((target, b"")) };
    let (path, query) = target.split_at_checked(at)?;
    let query = query.strip_prefix(b"?")?;
    memchr::memchr2(b' ', b'#', query).is_none().then_some((path, query))
}

/// The host of `host[:port]` at this place, if it is a name in lower case.
fn host_of<'a>(bytes: &[u8], at: usize, value: &'a [u8]) -> Option<&'a [u8]> {
    let (host, port) = value.split_at_checked(run_of(bytes, at, sixteen::hosts))?;
    let good_port = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let few_labels = host.len() < MAX_LABELS || memchr::memchr_iter(b'.', host).count() < MAX_LABELS;
    let is_name = (1..=MAX_HOST).contains(&host.len()) && !host.ends_with(b".");
    (good_port && few_labels && is_name).then_some(host)
}

/// How many bytes from here on are of a class.
#[inline(always)]
fn run_of(bytes: &[u8], at: usize, class: impl Fn(&[u8; 16]) -> u16) -> usize {
    let mut rest = bytes.get(at..).unwrap_or_default();
    let mut run = 0_usize;
    loop {
        let found = match rest.split_first_chunk() {
            Some((chunk, behind)) => {
                rest = behind;
                class(chunk).trailing_ones()
            }
            None => {
                let mut chunk = [0; 16];
                chunk.iter_mut().zip(std::mem::take(&mut rest)).for_each(|(to, from)| *to = *from);
                class(&chunk).trailing_ones()
            }
        };
        run = run.wrapping_add(found as usize);
        if found < 16 {
            return run;
        }
    }
}

/// Method and target, which begins with `/`.
fn request_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.strip_suffix(VERSION)?;
    let (method, target) = line.split_at_checked(line.iter().position(|byte| !byte.is_ascii_uppercase())?)?;
    let target = target.strip_prefix(b" ")?;
    let is_plain = !method.is_empty() && method != b"CONNECT" && target.first() == Some(&b'/');
    is_plain.then_some((method, target))
}

/// The lines of a head: where each begins, and where its end begins. Ends for good at what is not plain.
struct Lines<'a> {
    bytes: &'a [u8],
    /// Where the next line begins.
    at: usize,
    /// Where the block begins whose bits these are.
    block: usize,
    /// The LFs of the block that were not taken.
    ends: u64,
    /// The bytes of the block that a plain head does not have.
    wrong: u64,
    /// 1: the block before ends with a CR.
    carry: u64,
}

impl<'a> Lines<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let mut lines = Self { bytes, at: 0, block: 0, ends: 0, wrong: 0, carry: 0 };
        lines.look();
        lines
    }

    /// Looks at the block.
    #[inline(always)]
    fn look(&mut self) {
        let rest = self.bytes.get(self.block..).unwrap_or_default();
        let sixteen::Seen { plain, cr, lf } = match (rest.first_chunk(), self.bytes.last_chunk()) {
            (Some(block), _) => sixteen::look(block),
            // Those of the last block that were not seen yet. What is missing behind them is not plain.
            (None, Some(last)) => sixteen::look(last).behind(BLOCK.wrapping_sub(rest.len()) as u32),
            (None, None) => {
                let mut block = [0; BLOCK];
                block.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
                sixteen::look(&block)
            }
        };
        // Each LF has a CR before it, and no CR is without.
        self.wrong = !(plain | cr | lf) | (lf ^ (cr << 1 | self.carry));
        self.ends = lf;
        self.carry = cr >> 63;
    }

    /// The next line.
    #[inline(always)]
    fn next(&mut self) -> Option<(usize, usize)> {
        while self.ends == 0 {
            if self.wrong != 0 {
                return None;
            }
            self.block = self.block.wrapping_add(BLOCK);
            if self.block >= self.bytes.len() {
                return None;
            }
            self.look();
        }
        let place = self.ends.trailing_zeros();
        let until = self.ends ^ self.ends.wrapping_sub(1);
        self.ends &= !until;
        if self.wrong & until != 0 {
            return None;
        }
        let (begin, lf) = (self.at, self.block.wrapping_add(place as usize));
        self.at = lf.wrapping_add(1);
        Some((begin, lf.wrapping_sub(1)))
    }
}

/// Sixteen bytes at once.
mod sixteen {
    use wide::u8x16;

    use super::BLOCK;

    /// A bit for each byte of a block.
    #[derive(Clone, Copy, Default)]
    pub(super) struct Seen {
        /// Printable, or a space.
        pub(super) plain: u64,
        pub(super) cr: u64,
        pub(super) lf: u64,
    }

    impl Seen {
        /// Without the first ones.
        #[inline(always)]
        pub(super) fn behind(self, first: u32) -> Self {
            let [plain, cr, lf] = [self.plain, self.cr, self.lf].map(|bits| bits.unbounded_shr(first));
            Self { plain, cr, lf }
        }
    }

    /// Which are between two bytes, these included.
    #[inline(always)]
    #[allow(clippy::arithmetic_side_effects, reason = "the lanes wrap")]
    fn within(bytes: u8x16, first: u8, last: u8) -> u8x16 {
        let from = bytes - u8x16::splat(first);
        from.min(u8x16::splat(last.wrapping_sub(first))).simd_eq(from)
    }

    /// What the bytes of a block are.
    #[inline(always)]
    pub(super) fn look(block: &[u8; BLOCK]) -> Seen {
        let (chunks, _) = block.as_chunks::<16>();
        chunks.iter().rev().fold(Seen::default(), |seen, chunk| {
            let bytes = u8x16::new(*chunk);
            let with = |bits: u64, is: u8x16| bits << 16 | u64::from(is.to_bitmask());
            Seen {
                plain: with(seen.plain, within(bytes, b' ', b'~')),
                cr: with(seen.cr, bytes.simd_eq(u8x16::splat(b'\r'))),
                lf: with(seen.lf, bytes.simd_eq(u8x16::splat(b'\n'))),
            }
        })
    }

    /// Letters, digits, `-`.
    #[inline(always)]
    pub(super) fn names(chunk: &[u8; 16]) -> u16 {
        let bytes = u8x16::new(*chunk);
        let letters = within(bytes | u8x16::splat(0x20), b'a', b'z');
        (letters | within(bytes, b'0', b'9') | bytes.simd_eq(u8x16::splat(b'-'))).to_bitmask() as u16
    }

    /// Small letters, digits, `-`, `.`.
    #[inline(always)]
    pub(super) fn hosts(chunk: &[u8; 16]) -> u16 {
        let bytes = u8x16::new(*chunk);
        (within(bytes, b'a', b'z') | within(bytes, b'0', b'9') | within(bytes, b'-', b'.')).to_bitmask()
            as u16
    }
}
