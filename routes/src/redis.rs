//! Redis: the key of the first command (RESP arrays of bulk strings, and inline commands).

use crate::cursor::{Cursor, Stop};
use crate::request::Request;
use crate::{Explained, Framing, Pin, Refusal, Routes};

/// The longest key that is read, and the longest argument before it, in bytes.
const MAX_ARGUMENT: usize = 4096;
/// The most arguments of a command (the server's own limit).
const MAX_ARGUMENTS: usize = 1_048_576;
/// The most arguments that are looked through for the key.
const MAX_SEARCHED: usize = 64;

/// Commands without a key.
const KEYLESS: [&str; 38] = [
    "ACL",
    "ASKING",
    "AUTH",
    "BGREWRITEAOF",
    "BGSAVE",
    "CLIENT",
    "CLUSTER",
    "COMMAND",
    "CONFIG",
    "DBSIZE",
    "DEBUG",
    "DISCARD",
    "ECHO",
    "EXEC",
    "FAILOVER",
    "FLUSHALL",
    "FLUSHDB",
    "FUNCTION",
    "HELLO",
    "INFO",
    "KEYS",
    "LASTSAVE",
    "LATENCY",
    "LOLWUT",
    "MODULE",
    "MONITOR",
    "MULTI",
    "PING",
    "PSUBSCRIBE",
    "PUBLISH",
    "PUBSUB",
    "QUIT",
    "RANDOMKEY",
    "READONLY",
    "SCAN",
    "SELECT",
    "SUBSCRIBE",
    "WAIT",
];
/// Commands whose second argument is the key: after a subcommand, an operation or a number of keys.
const SECOND: [&str; 13] = [
    "BITOP",
    "BLMPOP",
    "BZMPOP",
    "LMPOP",
    "MEMORY",
    "OBJECT",
    "SINTERCARD",
    "XGROUP",
    "XINFO",
    "ZDIFF",
    "ZINTER",
    "ZMPOP",
    "ZUNION",
];
/// Commands whose third argument is the key: after a script and a number of keys.
const THIRD: [&str; 6] = ["EVAL", "EVALSHA", "EVALSHA_RO", "EVAL_RO", "FCALL", "FCALL_RO"];
/// Commands whose key follows the word STREAMS.
const STREAMS: [&str; 2] = ["XREAD", "XREADGROUP"];

pub(crate) fn read(routes: &Routes, bytes: &[u8]) -> Explained {
    match key(bytes) {
        Ok(key) => {
            let request = Request { subject: key, slot: key.map(slot), ..Request::default() };
            routes.decide(&request, Framing::Pinned(Pin::Connection))
        }
        Err(Wrong::Stop(Stop::NeedsMore)) => Explained::NEEDS_MORE,
        Err(Wrong::Stop(Stop::Bad)) => Explained::refused(Refusal::BadRequest),
        Err(Wrong::TooLarge) => Explained::refused(Refusal::TooLarge),
    }
}

enum Wrong {
    Stop(Stop),
    TooLarge,
}

impl From<Stop> for Wrong {
    fn from(stop: Stop) -> Self {
        Wrong::Stop(stop)
    }
}

/// Where the key is.
enum At {
    Nowhere,
    Argument(usize),
    AfterStreams,
}

fn place(command: &[u8]) -> At {
    let is = |names: &[&str]| names.iter().any(|name| command.eq_ignore_ascii_case(name.as_bytes()));
    match () {
        () if is(&KEYLESS) => At::Nowhere,
        () if is(&SECOND) => At::Argument(2),
        () if is(&THIRD) => At::Argument(3),
        () if is(&STREAMS) => At::AfterStreams,
        () => At::Argument(1),
    }
}

/// The key of the command, as soon as it is there; the rest of the command need not be.
fn key(bytes: &[u8]) -> Result<Option<&[u8]>, Wrong> {
    let mut arguments = match bytes.first() {
        None => return Err(Stop::NeedsMore.into()),
        Some(b'*') => {
            let mut rest = Cursor(bytes);
            let count = number(&mut rest, b'*', MAX_ARGUMENTS)?;
            Arguments::Array { rest, left: count }
        }
        Some(_) => Arguments::inline(bytes)?,
    };
    let command = arguments.next()?.ok_or(Stop::Bad)?;
    match place(command) {
        At::Nowhere => Ok(None),
        At::Argument(at) => {
            for _ in 1..at {
                arguments.next()?;
            }
            arguments.next()
        }
        At::AfterStreams => {
            for _ in 0..MAX_SEARCHED {
                match arguments.next()? {
                    Some(word) if word.eq_ignore_ascii_case(b"STREAMS") => return arguments.next(),
                    Some(_) => {}
                    None => return Ok(None),
                }
            }
            Ok(None)
        }
    }
}

/// The arguments of a command that are not taken yet.
enum Arguments<'a> {
    Array { rest: Cursor<'a>, left: usize },
    Inline(&'a [u8]),
}

impl<'a> Arguments<'a> {
    /// A command that is one line of words. Quotes are not read: a line with one has no key.
    fn inline(bytes: &'a [u8]) -> Result<Self, Wrong> {
        match memchr::memchr(b'\n', bytes) {
            Some(end) => {
                let line = bytes.get(..end).unwrap_or_default();
                let is_text =
                    line.iter().all(|byte| !byte.is_ascii_control() || matches!(byte, b'\r' | b'\t'));
                if is_text { Ok(Arguments::Inline(line)) } else { Err(Stop::Bad.into()) }
            }
            None if bytes.len() > MAX_ARGUMENT => Err(Wrong::TooLarge),
            None => Err(Stop::NeedsMore.into()),
        }
    }

    fn next(&mut self) -> Result<Option<&'a [u8]>, Wrong> {
        match self {
            Arguments::Array { left: 0, .. } => Ok(None),
            Arguments::Array { rest, left } => {
                *left = left.saturating_sub(1);
                let len = number(rest, b'$', usize::MAX)?;
                if len > MAX_ARGUMENT {
                    return Err(Wrong::TooLarge);
                }
                let argument = rest.take(len).ok_or(Stop::NeedsMore)?;
                match rest.take(2) {
                    Some(b"\r\n") => Ok(Some(argument)),
                    Some(_) => Err(Stop::Bad.into()),
                    None => Err(Stop::NeedsMore.into()),
                }
            }
            Arguments::Inline(line) => {
                let rest = line.trim_ascii_start();
                let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
                let (word, rest) = rest.split_at_checked(end).unwrap_or((rest, b""));
                *line = rest;
                let quoted = word.iter().any(|byte| matches!(byte, b'"' | b'\''));
                Ok(Some(word).filter(|word| !word.is_empty() && !quoted))
            }
        }
    }
}

/// `*3\r\n` or `$3\r\n`: a number of at most seven digits.
fn number(bytes: &mut Cursor<'_>, kind: u8, most: usize) -> Result<usize, Wrong> {
    match bytes.u8() {
        None => return Err(Stop::NeedsMore.into()),
        Some(byte) if byte != kind => return Err(Stop::Bad.into()),
        Some(_) => {}
    }
    let mut number = 0_usize;
    for digits in 0..=9 {
        match bytes.u8() {
            None => return Err(Stop::NeedsMore.into()),
            Some(digit @ b'0'..=b'9') => {
                number = number.saturating_mul(10).saturating_add(usize::from(digit.wrapping_sub(b'0')));
            }
            Some(b'\r') if digits > 0 && number <= most => {
                return match bytes.u8() {
                    Some(b'\n') => Ok(number),
                    Some(_) => Err(Stop::Bad.into()),
                    None => Err(Stop::NeedsMore.into()),
                };
            }
            Some(_) => return Err(Stop::Bad.into()),
        }
    }
    Err(Stop::Bad.into())
}

/// The hash slot of a key: of what is between its first `{` and the next `}`, if that is not empty.
fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let inner = key.get(open.saturating_add(1)..)?;
        let close = inner.iter().position(|byte| *byte == b'}')?;
        inner.get(..close).filter(|tag| !tag.is_empty())
    });
    crc16(tag.unwrap_or(key)) & model::route::Slots::MAX
}

/// CRC-16/XMODEM, as Redis Cluster hashes keys.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0_u16, |mut crc, byte| {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 != 0 { crc << 1 ^ 0x1021 } else { crc << 1 };
        }
        crc
    })
}
