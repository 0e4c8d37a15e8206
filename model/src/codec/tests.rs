use proptest::prelude::*;

use super::*;
use crate::Epoch;
use crate::control_socket::JobName;
use crate::control_socket::request::Role;
use crate::message::{Application, Listen, OrderId};
use crate::transfer::{Reason, Why};

fn decode(frame: &[u8]) -> Result<Received, CodecError> {
    let (header, body) = frame.split_first_chunk::<HEADER_BYTES>().expect("a whole header");
    let header = decode_header(*header)?;
    assert_eq!(header.body_bytes, body.len());
    decode_body(header, body)
}

fn address() -> impl Strategy<Value = Address> {
    any::<IpAddr>().prop_map(|a| Address(a.to_canonical()))
}

fn connection() -> impl Strategy<Value = WireConnection> {
    (any::<bool>(), any::<SocketAddr>(), any::<SocketAddr>()).prop_filter_map("one family", |(tcp, c, d)| {
        Connection::new(if tcp { Protocol::Tcp } else { Protocol::Udp }, c, d).map(WireConnection)
    })
}

fn message() -> impl Strategy<Value = Message> {
    let listen = (any::<bool>(), any::<u16>(), any::<bool>()).prop_map(|(tcp, port, listening)| Listen {
        protocol: if tcp { Protocol::Tcp } else { Protocol::Udp },
        port,
        listening,
    });
    let srvstat = (address(), any::<u64>(), any::<bool>(), prop::collection::vec(listen, 0..9)).prop_map(
        |(dvipa, epoch, complete, listens)| {
            Message::Srvstat(Srvstat { dvipa, epoch: Epoch(epoch), complete, listens })
        },
    );
    let newconn = (any::<bool>(), any::<bool>(), prop::collection::vec(connection(), 0..50))
        .prop_map(|(first, last, connections)| Message::Newconn(Newconn { first, last, connections }));
    let hello = (".{0,70}", prop::collection::vec(address(), 0..3), any::<u64>()).prop_map(
        |(stack, cluster_addresses, incarnation)| {
            Message::Hello(Hello {
                stack,
                cluster_addresses,
                incarnation,
                version: "1".into(),
                ..Hello::default()
            })
        },
    );
    let job = "[a-z]{1,9}".prop_map(|job| JobName::new(job).unwrap());
    let application = (any::<u16>(), any::<bool>(), job).prop_map(|(port, routing, job)| Application {
        port,
        role: if routing { Role::Routing } else { Role::Target },
        job,
    });
    let applications = (address(), any::<u64>(), prop::collection::vec(application, 0..9)).prop_map(
        |(dvipa, epoch, applications)| {
            Message::Applications(Applications { dvipa, epoch: Epoch(epoch), applications })
        },
    );
    let targets = (address(), any::<u16>(), prop::collection::vec("[a-z]{1,9}@[a-z]{1,9}", 0..9)).prop_map(
        |(dvipa, port, t)| {
            let targets = t.iter().map(|t| t.parse().unwrap()).collect();
            Message::Targets(Targets { dvipa, epoch: Epoch(1), port, targets })
        },
    );
    let number = || prop::option::of(any::<u32>());
    let order =
        (connection(), any::<bool>(), number(), number()).prop_map(|(connection, any, order, quiet_ms)| {
            let (job, order) = ((!any).then(JobName::listener), order.map(|order| OrderId(order.into())));
            let target = StackName::new("web1").unwrap();
            Message::Move(Move { connection, epoch: Epoch(1), target, job, order, quiet_ms })
        });
    let stays = (connection(), any::<u64>(), ".{0,70}").prop_map(|(connection, order, said)| {
        let why = Why::new(Reason::NotIdle, &said);
        Message::Stays(Stays { connection, epoch: Epoch(1), order: OrderId(order), why })
    });
    prop_oneof![srvstat, newconn, hello, applications, targets, order, stays]
}

proptest! {
    #[test]
    fn what_is_written_is_read(m in message()) {
        prop_assert_eq!(decode(&encode(&m).unwrap()).unwrap(), Received::Message(m));
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error_and_never_a_panic(kind in 0u16..13, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_body(Header { body_bytes: body.len(), version: VERSION, kind }, &body);
    }

    #[test]
    fn a_damaged_frame_never_panics(m in message(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut frame = encode(&m).unwrap();
        let body = &mut frame[HEADER_BYTES..];
        let i = at.index(body.len());
        body[i] ^= 1 << bit;
        let _ = decode(&frame);
    }
}

#[test]
fn an_unknown_kind_or_version_is_ignored_and_not_an_error() {
    let mut frame = encode(&Message::Heartbeat(Heartbeat { sequence: 7 })).unwrap();
    frame[7] = 200;
    assert_eq!(decode(&frame).unwrap(), Received::Unknown { version: VERSION, kind: 200 });
    frame[4] = 9;
    assert_eq!(decode(&frame).unwrap(), Received::Unknown { version: 9, kind: 200 });
}

#[test]
fn an_unknown_field_is_skipped() {
    #[derive(Encode)]
    struct HeartbeatOfTheFuture {
        #[n(0)]
        sequence: u64,
        #[n(7)]
        mood: String,
    }
    let body = minicbor::to_vec(HeartbeatOfTheFuture { sequence: 3, mood: "good".into() }).unwrap();
    let header = Header { body_bytes: body.len(), version: VERSION, kind: 7 };
    let expected = Received::Message(Message::Heartbeat(Heartbeat { sequence: 3 }));
    assert_eq!(decode_body(header, &body).unwrap(), expected);
}

#[test]
fn a_lying_length_ends_the_session() {
    assert!(matches!(decode_header([0, 0, 0, 3, 1, 0, 0, 1]), Err(CodecError::Length(3))));
    assert!(matches!(decode_header([0xff; 8]), Err(CodecError::Length(u32::MAX))));
}
