//! HTTP/1.0 and HTTP/1.1: a request's head (RFC 9112). What servers are known to read in different ways is refused, never guessed.

use std::mem::MaybeUninit;

use crate::framing::Framed;
use crate::host::{self, Host};
use crate::request::Request;
use crate::{Explained, Refusal, Routes, plain};

/// The most header lines of a request.
pub(crate) const MAX_HEADERS: usize = 100;

pub(crate) fn read(routes: &Routes, bytes: &[u8]) -> Explained {
    plain::read(routes, bytes).unwrap_or_else(|| read_any(routes, bytes))
}

/// [`read`], of any head.
#[inline(never)]
pub(crate) fn read_any(routes: &Routes, bytes: &[u8]) -> Explained {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let head = match parsed.parse_with_uninit_headers(bytes, &mut lines) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Explained::NEEDS_MORE,
        Err(httparse::Error::TooManyHeaders) => return Explained::refused(Refusal::TooLarge),
        Err(httparse::Error::Version) => return Explained::refused(Refusal::Version),
        Err(_) => return Explained::refused(Refusal::BadRequest),
    };
    let head = bytes.get(..head).unwrap_or(bytes);
    match decide(routes, head, &parsed) {
        Ok(explained) => explained,
        Err(refusal) => Explained::refused(refusal),
    }
}

fn decide(routes: &Routes, head: &[u8], parsed: &httparse::Request<'_, '_>) -> Result<Explained, Refusal> {
    let method = parsed.method.ok_or(Refusal::BadRequest)?;
    let target = Target::new(method, parsed.path.ok_or(Refusal::BadRequest)?.as_bytes())?;
    let version_10 = parsed.version == Some(0);
    if has_lone_ends(head) {
        return Err(Refusal::BadRequest);
    }
    let mut framed = Framed::new(head, method.as_bytes(), version_10);
    let mut line = None;
    for header in parsed.headers.iter() {
        if header.name.eq_ignore_ascii_case("host") && line.replace(header.value).is_some() {
            return Err(Refusal::BadRequest); // RFC 9112 3.2: more than one Host.
        }
        framed.header(header.name.as_bytes(), header.value)?;
    }
    // RFC 9112 3.2: HTTP/1.1 has a Host, and RFC 9110 7.2: it says what the target says. A server goes by either.
    let authority = match (line, target.authority) {
        (Some(line), Some(authority)) if !line.eq_ignore_ascii_case(authority) => {
            return Err(Refusal::BadRequest);
        }
        (None, _) if !version_10 => return Err(Refusal::BadRequest),
        (line, authority) => line.or(authority).unwrap_or_default(),
    };
    let host = host::without_port(authority).and_then(Host::new).ok_or(Refusal::BadRequest)?;
    let request = Request {
        host: host.get(),
        subject: Some(target.path),
        method: method.as_bytes(),
        lines: lines_of(head),
        query: target.query,
        ..Request::default()
    };
    Ok(routes.decide(&request, framed.finish()))
}

/// The header lines of a head: what follows the request line.
fn lines_of(head: &[u8]) -> &[u8] {
    let begin = head.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(0);
    let from_request = head.get(begin..).unwrap_or_default();
    memchr::memchr(b'\n', from_request).and_then(|end| from_request.get(end..)?.get(1..)).unwrap_or_default()
}

/// Whether a line ends with LF alone, which some take for the end of a line and others do not (RFC 9112 2.2).
fn has_lone_ends(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|at| at.checked_sub(1).and_then(|at| head.get(at)) != Some(&b'\r'))
}

/// A request's target (RFC 9112 3.2).
struct Target<'a> {
    authority: Option<&'a [u8]>,
    path: &'a [u8],
    query: &'a [u8],
}

impl<'a> Target<'a> {
    fn new(method: &str, target: &'a [u8]) -> Result<Self, Refusal> {
        if target.iter().any(|byte| !byte.is_ascii_graphic() || *byte == b'#') {
            return Err(Refusal::BadRequest);
        }
        if method == "CONNECT" {
            return Ok(Self { authority: Some(target), path: b"", query: b"" });
        }
        if target == b"*" && method == "OPTIONS" {
            return Ok(Self { authority: None, path: target, query: b"" });
        }
        let (authority, rest) = match target.first() {
            Some(b'/') => (None, target),
            _ => {
                let rest = without_scheme(target).ok_or(Refusal::BadRequest)?;
                let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
                let (authority, rest) = rest.split_at_checked(end).ok_or(Refusal::BadRequest)?;
                if authority.is_empty() || authority.contains(&b'@') {
                    return Err(Refusal::BadRequest);
                }
                (Some(authority), rest)
            }
        };
        let end = memchr::memchr(b'?', rest).unwrap_or(rest.len());
        let (path, query) = rest.split_at_checked(end).unwrap_or((rest, b""));
        let path = if path.is_empty() { b"/" } else { path };
        Ok(Self { authority, path, query: query.get(1..).unwrap_or_default() })
    }
}

/// What follows `http://` or `https://`.
fn without_scheme(target: &[u8]) -> Option<&[u8]> {
    [b"http://".as_slice(), b"https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}
