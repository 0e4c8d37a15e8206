use crate::codec::{self, HEADER_BYTES, Received, WireConnection, decode_body, decode_header};
use crate::handoff::Token;
use crate::message::Message;
use crate::transfer::*;
use crate::{Connection, Epoch, Protocol, StackName};

fn one_of_each() -> Vec<TransferMessage> {
    let client = "198.18.0.2:40000".parse().unwrap();
    let connection = Connection::new(Protocol::Tcp, client, "198.18.9.1:80".parse().unwrap()).unwrap();
    let (connection, epoch) = (WireConnection(connection), Epoch(7));
    let about = About { connection, transfer: TransferId { incarnation: u64::MAX, number: 3 }, epoch };
    let request = Request { incarnation: 5, number: 6 };
    let stack = StackName::new("t1").unwrap();
    let why = Why::new(Reason::Rejected, "mailbox is full");
    let (ledger, way) = (Ledger(9), Way::Inject);
    let token = Token::new(u64::MAX).unwrap();
    vec![
        TransferMessage::Abilities(Abilities { ledger, restores: true, injects: false, incarnation: 4 }),
        TransferMessage::Prepare(Prepare {
            connection,
            epoch,
            request,
            target: stack.clone(),
            consent: Consent::Presumed,
            application_bytes: 17,
            job: Some("imap".into()),
        }),
        TransferMessage::Refuse(Refuse { connection, epoch, request, why: why.clone() }),
        TransferMessage::Consult(Consult { about, request }),
        TransferMessage::State(Part { about, index: 1, of: 2, socket_bytes: 0, bytes: vec![4, 5] }),
        TransferMessage::Freeze(Freeze { about, request, way, ledger }),
        TransferMessage::Part(Part { about, index: 0, of: 1, socket_bytes: 2, bytes: vec![1, 2, 3] }),
        TransferMessage::Abandon(Abandon { about, why: Reason::NotDumped.into() }),
        TransferMessage::Doubt(Doubt { about, target: stack.clone(), ledger, way }),
        TransferMessage::Offer(Offer {
            about,
            source: stack.clone(),
            way,
            consent: Consent::Asked,
            ledger,
            job: None,
            application_bytes: 17,
            incarnation: 4,
        }),
        TransferMessage::Agreed(Agreed { about }),
        TransferMessage::Prepared(Prepared { about, token }),
        TransferMessage::Commit(Commit { about }),
        TransferMessage::Abort(Abort { about, why: why.clone() }),
        TransferMessage::Void(Void { about, ledger, why: why.clone() }),
        TransferMessage::Active(Active { about, source: stack, way }),
        TransferMessage::Aborted(Aborted { about, why, request: Some(request) }),
        TransferMessage::Released(Released { about }),
        TransferMessage::Lost(Lost { about }),
        TransferMessage::Done(Done { about, held: Held::Gone }),
        TransferMessage::Settled(Settled { about }),
    ]
}

fn read(frame: &[u8]) -> Received {
    let (header, body) = frame.split_first_chunk::<HEADER_BYTES>().unwrap();
    decode_body(decode_header(*header).unwrap(), body).unwrap()
}

#[test]
fn every_kind_is_read_as_it_was_written() {
    for message in one_of_each() {
        let message = Message::Transfer(message);
        assert_eq!(read(&codec::encode(&message).unwrap()), Received::Message(message));
    }
}

#[test]
fn a_damaged_frame_is_another_message_or_an_error_and_never_a_panic() {
    for message in one_of_each() {
        let frame = codec::encode(&Message::Transfer(message)).unwrap();
        let (header, body) = frame.split_first_chunk::<HEADER_BYTES>().unwrap();
        let header = decode_header(*header).unwrap();
        for bit in 0..body.len() * 8 {
            let mut damaged = body.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let _ = decode_body(header, &damaged);
        }
    }
}

#[test]
fn the_largest_part_fits_into_a_frame() {
    let about = *one_of_each()
        .iter()
        .find_map(|m| if let TransferMessage::Settled(s) = m { Some(&s.about) } else { None })
        .unwrap();
    let part =
        Part { about, index: MAX_PARTS - 1, of: MAX_PARTS, socket_bytes: 0, bytes: vec![0; PART_BYTES] };
    assert!(codec::encode(&Message::Transfer(TransferMessage::Part(part))).is_ok());
}
