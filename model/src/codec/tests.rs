use proptest::prelude::*;

use super::*;
use crate::Epoch;
use crate::control_socket::JobName;
use crate::control_socket::request::Role;
use crate::message::{
    After, Application, Applications, Asked, Failing, FromStack, Heard, Heartbeat, Hello, Listen, Looked,
    Move, Newconn, OrderId, Srvstat, Stalled, Stays, Targets, ToStack, Told,
};
use crate::transfer::{Reason, Why};

fn decode<M: Side>(frame: &[u8]) -> Result<Received<M>, CodecError> {
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

/// What a stack says.
fn said() -> impl Strategy<Value = FromStack> {
    let listen = (any::<bool>(), any::<u16>(), any::<bool>()).prop_map(|(tcp, port, listening)| Listen {
        protocol: if tcp { Protocol::Tcp } else { Protocol::Udp },
        port,
        listening,
    });
    let srvstat = (address(), any::<u64>(), any::<bool>(), prop::collection::vec(listen, 0..9)).prop_map(
        |(dvipa, epoch, complete, listens)| {
            FromStack::Srvstat(Srvstat { dvipa, epoch: Epoch(epoch), complete, listens })
        },
    );
    let newconn = (any::<bool>(), any::<bool>(), prop::collection::vec(connection(), 0..50))
        .prop_map(|(first, last, connections)| FromStack::Newconn(Newconn { first, last, connections }));
    let job = "[a-z]{1,9}".prop_map(|job| JobName::new(job).unwrap());
    let application = (any::<u16>(), any::<bool>(), job).prop_map(|(port, routing, job)| Application {
        port,
        role: if routing { Role::Routing } else { Role::Target },
        job,
    });
    let applications = (address(), any::<u64>(), prop::collection::vec(application, 0..9)).prop_map(
        |(dvipa, epoch, applications)| {
            FromStack::Applications(Applications { dvipa, epoch: Epoch(epoch), applications })
        },
    );
    let stays = (connection(), any::<u64>(), ".{0,70}").prop_map(|(connection, order, said)| {
        let why = Why::new(Reason::NotIdle, &said);
        FromStack::Stays(Stays { connection, epoch: Epoch(1), order: OrderId(order), why })
    });
    let told = (any::<u64>(), prop::option::of(any::<u64>()))
        .prop_map(|(number, since)| FromStack::Told(Told { number, since }));
    let after = any::<u64>().prop_map(|number| FromStack::After(After { number }));
    let looked =
        (any::<u64>(), any::<bool>()).prop_map(|(number, anew)| FromStack::Looked(Looked { number, anew }));
    let failing = (any::<bool>(), any::<u16>(), ".{0,70}").prop_map(|(tcp, port, why)| Failing {
        protocol: if tcp { Protocol::Tcp } else { Protocol::Udp },
        port,
        why,
    });
    let failing = prop::option::of(prop::collection::vec(failing, 0..9));
    let stalled = (address(), any::<u64>(), prop::collection::vec(any::<u16>(), 0..9), failing).prop_map(
        |(dvipa, epoch, ports, failing)| {
            FromStack::Stalled(Stalled { dvipa, epoch: Epoch(epoch), ports, failing })
        },
    );
    prop_oneof![srvstat, newconn, applications, stays, told, after, looked, stalled]
}

/// What a stack is told.
fn told() -> impl Strategy<Value = ToStack> {
    let targets = (address(), any::<u16>(), prop::collection::vec("[a-z]{1,9}@[a-z]{1,9}", 0..9)).prop_map(
        |(dvipa, port, t)| {
            let targets = t.iter().map(|t| t.parse().unwrap()).collect();
            ToStack::Targets(Targets { dvipa, epoch: Epoch(1), port, targets })
        },
    );
    let number = || prop::option::of(any::<u32>());
    let order =
        (connection(), any::<bool>(), number(), number()).prop_map(|(connection, any, order, quiet_ms)| {
            let (job, order) = ((!any).then(JobName::listener), order.map(|order| OrderId(order.into())));
            let target = StackName::new("web1").unwrap();
            ToStack::Move(Move { connection, epoch: Epoch(1), target, job, order, quiet_ms, next: quiet_ms })
        });
    let heard = any::<u64>().prop_map(|number| ToStack::Heard(Heard { number }));
    let asked = any::<u64>().prop_map(|number| ToStack::Asked(Asked { number }));
    prop_oneof![targets, order, heard, asked]
}

fn hello() -> impl Strategy<Value = Pulse> {
    (".{0,70}", prop::collection::vec(address(), 0..3), any::<u64>()).prop_map(
        |(stack, cluster_addresses, incarnation)| {
            let version = "1".into();
            Pulse::Hello(Hello { stack, cluster_addresses, incarnation, version, ..Hello::default() })
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(said in said(), told in told(), hello in hello()) {
        prop_assert_eq!(decode(&encode(&said).unwrap()).unwrap(), Received::Message(said));
        prop_assert_eq!(decode(&encode(&told).unwrap()).unwrap(), Received::Message(told));
        prop_assert_eq!(decode::<ToStack>(&encode(&hello).unwrap()).unwrap(), Received::Pulse(hello));
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error_and_never_a_panic(kind in 0u16..16, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_body::<ToStack>(Header { body_bytes: body.len(), version: VERSION, kind }, &body);
        let _ = decode_body::<FromStack>(Header { body_bytes: body.len(), version: VERSION, kind }, &body);
    }

    #[test]
    fn a_damaged_frame_never_panics(m in said(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut frame = encode(&m).unwrap();
        let body = &mut frame[HEADER_BYTES..];
        let i = at.index(body.len());
        body[i] ^= 1 << bit;
        let _ = decode::<FromStack>(&frame);
    }
}

#[test]
fn a_message_of_the_other_direction_is_not_read() {
    let mut frame = encode(&ToStack::VipaList(crate::message::VipaList::default())).unwrap();
    frame.truncate(HEADER_BYTES);
    frame[3] = 4;
    assert_eq!(decode::<FromStack>(&frame).unwrap(), Received::Misdirected("a VIPA list"));
    assert!(matches!(decode::<ToStack>(&frame), Err(CodecError::Body { kind: 2, .. })));
}

#[test]
fn an_unknown_kind_or_version_is_ignored_and_not_an_error() {
    let mut frame = encode(&Pulse::Heartbeat(Heartbeat { sequence: 7 })).unwrap();
    frame[7] = 200;
    assert_eq!(decode::<ToStack>(&frame).unwrap(), Received::Unknown { version: VERSION, kind: 200 });
    frame[4] = 9;
    assert_eq!(decode::<ToStack>(&frame).unwrap(), Received::Unknown { version: 9, kind: 200 });
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
    let expected = Received::<ToStack>::Pulse(Pulse::Heartbeat(Heartbeat { sequence: 3 }));
    assert_eq!(decode_body(header, &body).unwrap(), expected);
}

#[test]
fn a_lying_length_ends_the_session() {
    assert!(matches!(decode_header([0, 0, 0, 3, 1, 0, 0, 1]), Err(CodecError::Length(3))));
    assert!(matches!(decode_header([0xff; 8]), Err(CodecError::Length(u32::MAX))));
}

/// A message with a body of this length.
struct Long(usize);

impl Direction for Long {
    fn encode(&self, frame: &mut Vec<u8>) -> u16 {
        frame.resize(HEADER_BYTES + self.0, 0);
        9
    }

    fn decode(_: u16, _: &[u8]) -> Option<Result<Self, CborError>> {
        None
    }

    fn word_of(_: u16) -> Option<&'static str> {
        None
    }
}

#[test]
fn the_longest_body_is_written_and_read_and_a_longer_one_neither() {
    let frame = encode(&Long(MAX_BODY_BYTES)).unwrap();
    let header = decode_header(*frame.first_chunk().unwrap()).unwrap();
    assert_eq!(header, Header { body_bytes: MAX_BODY_BYTES, version: VERSION, kind: 9 });
    let rest = u32::try_from(MAX_BODY_BYTES).unwrap() + 5;
    assert!(matches!(encode(&Long(MAX_BODY_BYTES + 1)), Err(CodecError::Length(said)) if said == rest));
    let [l0, l1, l2, l3] = rest.to_be_bytes();
    assert!(matches!(decode_header([l0, l1, l2, l3, 1, 0, 0, 1]), Err(CodecError::Length(_))));
    assert_eq!(decode_header([0, 0, 0, 4, 1, 0, 0, 1]).unwrap().body_bytes, 0);
}
