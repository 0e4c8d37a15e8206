//! MQTT 3.1, 3.1.1 and 5: the CONNECT packet (section 3.1 of each).

use crate::cursor::Cursor;
use crate::request::Request;
use crate::{Explained, Framing, Pin, Refusal, Routes};

/// The longest CONNECT packet that is read, in bytes.
const MAX_PACKET: usize = 65_535;
const CONNECT: u8 = 0x10;
const HAS_WILL: u8 = 0x04;
const HAS_USER: u8 = 0x80;

pub(crate) fn read(routes: &Routes, bytes: &[u8]) -> Explained {
    let body = match packet(bytes) {
        Ok(body) => body,
        Err(explained) => return explained,
    };
    match connect(body) {
        Ok(request) => routes.decide(&request, Framing::Pinned(Pin::Connection)),
        Err(refusal) => Explained::refused(refusal),
    }
}

/// Whether the packet is one of MQTT 5, so that it is answered so.
pub(crate) fn is_version_5(bytes: &[u8]) -> bool {
    let mut body = Cursor(bytes);
    let len = body.u8().filter(|kind| *kind == CONNECT).and_then(|_| variable(&mut body));
    len.and_then(|_| body.string16()).is_some_and(|name| name == b"MQTT") && body.u8() == Some(5)
}

/// What follows the fixed header, if it is whole.
fn packet(bytes: &[u8]) -> Result<Cursor<'_>, Explained> {
    let mut rest = Cursor(bytes);
    match rest.u8() {
        None => return Err(Explained::NEEDS_MORE),
        Some(CONNECT) => {}
        Some(_) => return Err(Explained::refused(Refusal::BadRequest)),
    }
    match variable(&mut rest) {
        Some(len) if len > MAX_PACKET => Err(Explained::refused(Refusal::TooLarge)),
        Some(len) => rest.take(len).map(Cursor).ok_or(Explained::NEEDS_MORE),
        // Fewer than the four bytes that a number can have.
        None if bytes.len() < 5 => Err(Explained::NEEDS_MORE),
        None => Err(Explained::refused(Refusal::BadRequest)),
    }
}

/// A number of up to four bytes of seven bits, the lowest first (1.5.5).
fn variable(bytes: &mut Cursor<'_>) -> Option<usize> {
    let mut number = 0_usize;
    for shift in [0_u32, 7, 14, 21] {
        let byte = bytes.u8()?;
        number |= usize::from(byte & 0x7f).wrapping_shl(shift);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn connect(mut body: Cursor<'_>) -> Result<Request<'_>, Refusal> {
    let name = body.string16().ok_or(Refusal::BadRequest)?;
    let level = body.u8().ok_or(Refusal::BadRequest)?;
    match (name, level & 0x7f) {
        (b"MQIsdp", 3) | (b"MQTT", 4 | 5) => {}
        (b"MQTT" | b"MQIsdp", _) => return Err(Refusal::Version),
        _ => return Err(Refusal::BadRequest),
    }
    payload(body, level == 5).ok_or(Refusal::BadRequest)
}

/// What follows the version: flags, keep-alive, properties of MQTT 5, client identifier, will, user.
fn payload(mut body: Cursor<'_>, version_5: bool) -> Option<Request<'_>> {
    let flags = body.u8()?;
    let _keep_alive = body.u16()?;
    let properties = |body: &mut Cursor<'_>| {
        if version_5 { variable(body).and_then(|len| body.take(len)).map(drop) } else { Some(()) }
    };
    properties(&mut body)?;
    let client = body.string16()?;
    if flags & HAS_WILL != 0 {
        properties(&mut body)?;
        body.string16()?;
        body.string16()?;
    }
    let user = if flags & HAS_USER != 0 { Some(body.string16()?) } else { None };
    // 3.1.2.3: the lowest flag is reserved.
    (flags & 1 == 0).then_some(Request { subject: Some(client), user, ..Request::default() })
}
