//! Bytes of no known protocol: how they begin.

use crate::request::Request;
use crate::{Explained, Framing, Pin, Routes};

pub(crate) fn read(routes: &Routes, bytes: &[u8]) -> Explained {
    if bytes.is_empty() || is_beginning(&routes.prefixes, bytes) {
        return Explained::NEEDS_MORE;
    }
    let request = Request { subject: Some(bytes), ..Request::default() };
    routes.decide(&request, Framing::Pinned(Pin::Connection))
}

/// Whether a longer prefix begins with these bytes, so that the next ones decide.
fn is_beginning(prefixes: &[Box<[u8]>], bytes: &[u8]) -> bool {
    let after = prefixes.partition_point(|prefix| **prefix <= *bytes);
    prefixes.get(after).is_some_and(|prefix| prefix.starts_with(bytes))
}
