//! TLS: the ClientHello (RFC 8446 4.1.2), over as many records as it has. Of an encrypted one (ECH) the outer server name is read.

use crate::cursor::Stop;
use crate::host::{Host, MAX_HOST};
use crate::request::{Alpn, Request};
use crate::{Explained, Framing, Pin, Refusal, Routes};

/// The content type of handshake records, and the type of a ClientHello.
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// The longest record without protection (RFC 8446 5.1), in bytes.
const MAX_RECORD: u16 = 16_384;
/// The longest ClientHello that is read, in bytes.
const MAX_HELLO: u32 = 65_535;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

pub(crate) fn read(routes: &Routes, bytes: &[u8]) -> Explained {
    let mut hello = Hello { rest: bytes, in_record: 0 };
    match hello.parse(&routes.alpn) {
        Ok(offer) => {
            let host = offer.server_name.as_ref().and_then(Host::get);
            let request = Request { host, alpn: offer.alpn, ..Request::default() };
            routes.decide(&request, Framing::Pinned(Pin::Connection))
        }
        Err(Stop::NeedsMore) => Explained::NEEDS_MORE,
        Err(Stop::Bad) => Explained::refused(Refusal::BadRequest),
    }
}

/// What a ClientHello says that routes ask for.
struct Offer {
    server_name: Option<Host>,
    alpn: u64,
}

/// A place in the handshake's bytes, which go on from record to record.
struct Hello<'a> {
    rest: &'a [u8],
    /// How many bytes of the record are left.
    in_record: usize,
}

impl<'a> Hello<'a> {
    fn parse(&mut self, known: &Alpn) -> Result<Offer, Stop> {
        let kind = self.u8()?;
        let len = u32::from_be_bytes([0, self.u8()?, self.u8()?, self.u8()?]);
        if kind != CLIENT_HELLO || len > MAX_HELLO {
            return Err(Stop::Bad);
        }
        let mut left = Left(len);
        left.less(2 + 32)?;
        self.skip(2 + 32)?; // version, random
        let session = left.u8(self)?;
        if session > 32 {
            return Err(Stop::Bad);
        }
        left.less(session.into())?;
        self.skip(session.into())?;
        let ciphers = left.u16(self)?;
        left.less(ciphers.into())?;
        self.skip(ciphers.into())?;
        let compression = left.u8(self)?;
        left.less(compression.into())?;
        self.skip(compression.into())?;
        let mut offer = Offer { server_name: None, alpn: 0 };
        if left.0 == 0 {
            return Ok(offer);
        }
        let extensions = left.u16(self)?;
        if u32::from(extensions) != left.0 {
            return Err(Stop::Bad);
        }
        let mut seen_alpn = false;
        while left.0 > 0 {
            let kind = left.u16(self)?;
            let len = left.u16(self)?;
            left.less(len.into())?;
            match kind {
                SERVER_NAME if offer.server_name.is_some() => return Err(Stop::Bad),
                SERVER_NAME => offer.server_name = Some(self.server_name(len)?),
                ALPN if seen_alpn => return Err(Stop::Bad),
                ALPN => {
                    seen_alpn = true;
                    offer.alpn = self.protocols(len, known)?;
                }
                _ => self.skip(len.into())?,
            }
        }
        Ok(offer)
    }

    /// The one host name of a `server_name` extension (RFC 6066 3).
    fn server_name(&mut self, len: u16) -> Result<Host, Stop> {
        let mut left = Left(len.into());
        let list = left.u16(self)?;
        let kind = left.u8(self)?;
        let name = left.u16(self)?;
        left.less(name.into())?;
        if left.0 != 0 || u32::from(list).checked_add(2) != Some(len.into()) || kind != 0 {
            return Err(Stop::Bad);
        }
        let mut bytes = [0; MAX_HOST + 1];
        let bytes = bytes.get_mut(..name.into()).ok_or(Stop::Bad)?;
        self.copy(bytes)?;
        Host::new(bytes).filter(|host| host.get().is_some()).ok_or(Stop::Bad)
    }

    /// The application protocols that a client offers (RFC 7301 3.1).
    fn protocols(&mut self, len: u16, known: &Alpn) -> Result<u64, Stop> {
        let mut left = Left(len.into());
        let list = left.u16(self)?;
        if u32::from(list) != left.0 {
            return Err(Stop::Bad);
        }
        let mut offered = 0;
        let mut bytes = [0; 255];
        while left.0 > 0 {
            let name = left.u8(self)?;
            left.less(name.into())?;
            let bytes = bytes.get_mut(..name.into()).filter(|name| !name.is_empty()).ok_or(Stop::Bad)?;
            self.copy(bytes)?;
            offered |= known.bit(bytes);
        }
        Ok(offered)
    }

    /// The next bytes that are in one record: at most so many, at least one.
    fn piece(&mut self, len: usize) -> Result<&'a [u8], Stop> {
        while self.in_record == 0 {
            self.next_record()?;
        }
        let here = self.rest.len().min(self.in_record).min(len);
        let (piece, rest) = self.rest.split_at_checked(here).ok_or(Stop::NeedsMore)?;
        if piece.is_empty() {
            return Err(Stop::NeedsMore);
        }
        self.rest = rest;
        self.in_record = self.in_record.saturating_sub(here);
        Ok(piece)
    }

    fn next_record(&mut self) -> Result<(), Stop> {
        let header = |at: usize| self.rest.get(at).copied().ok_or(Stop::NeedsMore);
        if header(0)? != HANDSHAKE || header(1)? != 3 {
            return Err(Stop::Bad);
        }
        let _minor = header(2)?;
        let len = u16::from_be_bytes([header(3)?, header(4)?]);
        // RFC 8446 5.1: records of a handshake are not empty.
        if len == 0 || len > MAX_RECORD {
            return Err(Stop::Bad);
        }
        self.rest = self.rest.get(5..).unwrap_or_default();
        self.in_record = len.into();
        Ok(())
    }

    fn skip(&mut self, len: usize) -> Result<(), Stop> {
        let mut left = len;
        while left > 0 {
            left = left.saturating_sub(self.piece(left)?.len());
        }
        Ok(())
    }

    fn copy(&mut self, mut to: &mut [u8]) -> Result<(), Stop> {
        while !to.is_empty() {
            let piece = self.piece(to.len())?;
            let (here, behind) = to.split_at_mut_checked(piece.len()).ok_or(Stop::Bad)?;
            here.copy_from_slice(piece);
            to = behind;
        }
        Ok(())
    }

    fn u8(&mut self) -> Result<u8, Stop> {
        self.piece(1)?.first().copied().ok_or(Stop::NeedsMore)
    }
}

/// How many bytes of something are left: what lies in it may not be longer.
struct Left(u32);

impl Left {
    fn less(&mut self, len: u32) -> Result<(), Stop> {
        self.0 = self.0.checked_sub(len).ok_or(Stop::Bad)?;
        Ok(())
    }

    fn u8(&mut self, from: &mut Hello<'_>) -> Result<u8, Stop> {
        self.less(1)?;
        from.u8()
    }

    fn u16(&mut self, from: &mut Hello<'_>) -> Result<u16, Stop> {
        self.less(2)?;
        Ok(u16::from_be_bytes([from.u8()?, from.u8()?]))
    }
}
