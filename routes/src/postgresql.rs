//! PostgreSQL: the StartupMessage (frontend/backend protocol 3, message formats).

use crate::cursor::Cursor;
use crate::request::Request;
use crate::{Explained, Framing, Pin, Read, Refusal, Routes};

/// The longest first message, in bytes: the server's MAX_STARTUP_PACKET_LENGTH.
const MAX_MESSAGE: u32 = 10_000;
const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSSAPI: u32 = 80_877_104;

pub(crate) fn read(routes: &Routes, bytes: &[u8]) -> Explained {
    let mut message = Cursor(bytes);
    let Some(len) = message.u32() else { return Explained::NEEDS_MORE };
    if len < 8 {
        return Explained::refused(Refusal::BadRequest);
    }
    if len > MAX_MESSAGE {
        return Explained::refused(Refusal::TooLarge);
    }
    let Some(mut message) = bytes.get(4..len as usize).map(Cursor) else { return Explained::NEEDS_MORE };
    match message.u32() {
        Some(SSL | GSSAPI | CANCEL) => unreadable(routes),
        Some(version) if version >> 16 == 3 => match startup(message) {
            Some(request) => routes.decide(&request, Framing::Pinned(Pin::Connection)),
            None => Explained::refused(Refusal::BadRequest),
        },
        _ => Explained::refused(Refusal::Version),
    }
}

/// Nothing can be read of what follows: it is for a route without conditions.
fn unreadable(routes: &Routes) -> Explained {
    let explained = routes.decide(&Request::default(), Framing::Pinned(Pin::Unreadable));
    match explained.read {
        Read::Whole(_) => explained,
        Read::NeedsMore | Read::Refused(_) => Explained::refused(Refusal::Unreadable),
    }
}

/// User and database; who names no database has the one of the user's name.
fn startup(mut message: Cursor<'_>) -> Option<Request<'_>> {
    let (mut user, mut database) = (None, None);
    loop {
        let name = message.until_zero()?;
        if name.is_empty() {
            break;
        }
        let value = message.until_zero()?;
        let twice = match name {
            b"user" => user.replace(value),
            b"database" => database.replace(value),
            _ => None,
        };
        if twice.is_some() {
            return None;
        }
    }
    let user = user.filter(|user| !user.is_empty())?;
    let database = database.filter(|database| !database.is_empty()).unwrap_or(user);
    message.is_empty().then_some(Request { subject: Some(database), user: Some(user), ..Request::default() })
}
