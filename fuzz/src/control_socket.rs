//! Messages of control sockets, both ways: what decodes, encodes to something that decodes to the same.

use model::control_socket::{MAX_MESSAGE_BYTES, Message, Notification, Request, VERSION};

/// Runs one input: a kind and a body, as a message of an application and as one of an agent. Half of the inputs are read
/// as whole datagrams instead.
pub fn run(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    let datagram = match kind & 0x80 != 0 {
        true => data.to_vec(),
        false => [&[VERSION, 0, 0, kind % 12], body].concat(),
    };
    again::<Request>(&datagram);
    again::<Notification>(&datagram);
}

fn again<M: Message + PartialEq + std::fmt::Debug>(datagram: &[u8]) {
    let Ok(Some(message)) = M::decode(datagram) else { return };
    // Short forms grow when they are written out, so what was read may be too long to be sent.
    let Ok(written) = message.encode() else {
        assert!(datagram.len() > MAX_MESSAGE_BYTES / 4, "a short message became too long");
        return;
    };
    let read = M::decode(&written).expect("what was written is read");
    assert_eq!(read, Some(message));
}
