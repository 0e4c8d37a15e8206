//! Frames of the cluster's messages: what decodes, encodes to something that decodes to the same.

use model::codec::{
    CodecError, HEADER_BYTES, Header, MAX_BODY_BYTES, Received, Side, decode_body, decode_header, encode,
};
use model::message::{FromStack, ToStack};

/// Runs one input: a kind and a body. Half of the inputs are read as whole frames instead.
pub fn run(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    let (header, body) = match (kind & 0x80 != 0, data.split_first_chunk::<HEADER_BYTES>()) {
        (true, Some((head, body))) => match decode_header(*head) {
            Ok(header) => (header, body.get(..header.body_bytes).unwrap_or(body)),
            Err(CodecError::Length(_)) => return,
            Err(other) => panic!("a header has no body that could be wrong: {other}"),
        },
        _ => (Header { body_bytes: body.len(), version: 1, kind: u16::from(*kind % 8) }, body),
    };
    assert!(header.body_bytes <= MAX_BODY_BYTES);
    again::<ToStack>(header, body);
    again::<FromStack>(header, body);
}

fn again<M: Side + PartialEq + std::fmt::Debug>(header: Header, body: &[u8]) {
    let frame = match decode_body::<M>(header, body) {
        Ok(Received::Message(message)) => encode(&message),
        Ok(Received::Pulse(pulse)) => encode(&pulse),
        Ok(Received::Misdirected(_) | Received::Unknown { .. }) | Err(_) => return,
    };
    let frame = frame.expect("what was read fits into a frame");
    let (head, written) = frame.split_first_chunk().expect("a frame has a header");
    let header_again = decode_header(*head).expect("its own");
    let read = |header, body| decode_body::<M>(header, body).expect("what was written is read");
    assert_eq!(read(header_again, written), read(header, body));
}
