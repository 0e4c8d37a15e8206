use super::*;
use crate::Protocol;
use crate::codec::{self, Direction, HEADER_BYTES, Received, Side, decode_body, decode_header};
use crate::control_socket::JobName;
use crate::message::{FromStack, ToStack};

fn one_of_each() -> (Vec<ToHost>, Vec<FromHost>) {
    let client = "198.18.0.2:40000".parse().unwrap();
    let connection = Connection::new(Protocol::Tcp, client, "198.18.9.1:80".parse().unwrap()).unwrap();
    let (connection, epoch) = (WireConnection(connection), Epoch(7));
    let about = About { connection, transfer: TransferId { incarnation: u64::MAX, number: 3 }, epoch };
    let request = Request { incarnation: 5, number: 6 };
    let stack = StackName::new("t1").unwrap();
    let why = Why::new(Reason::Rejected, "mailbox is full");
    let (ledger, way) = (Ledger(9), Way::Inject);
    let token = Token::new(u64::MAX).unwrap();
    let part = Part { about, index: 0, of: 1, socket_bytes: 2, bytes: vec![1, 2, 3] };
    let state = Part { about, index: 1, of: 2, socket_bytes: 0, bytes: vec![4, 5] };
    let offer = Offer {
        giver: None,
        about,
        source: stack.clone(),
        way,
        consent: Consent::Asked,
        ledger,
        job: None,
        application_bytes: 17,
        incarnation: 4,
    };
    let prepare = Prepare {
        giver: Some(JobName::new("router").unwrap()),
        connection,
        epoch,
        request,
        target: stack.clone(),
        consent: Consent::Presumed,
        application_bytes: 17,
        job: Some("imap".into()),
    };
    let to_source = [
        ToSource::Refuse(Refuse { connection, epoch, request, why: why.clone() }),
        ToSource::Consult(Consult { about, request }),
        ToSource::Freeze(Freeze { about, request, way, ledger }),
        ToSource::Aborted(Aborted { about, why: why.clone(), request: Some(request) }),
        ToSource::Released(Released { about }),
        ToSource::Lost(Lost { about }),
    ];
    let to_target = [
        ToTarget::Offer(offer),
        ToTarget::State(state.clone()),
        ToTarget::Part(part.clone()),
        ToTarget::Commit(Commit { about }),
        ToTarget::Abort(Abort { about, why: why.clone() }),
        ToTarget::Settled(Settled { about }),
    ];
    let from_source = [
        FromSource::Prepare(prepare),
        FromSource::State(state),
        FromSource::Part(part),
        FromSource::Abandon(Abandon { about, why: Reason::NotDumped.into() }),
        FromSource::Doubt(Doubt { about, target: stack.clone(), ledger, way }),
        FromSource::Done(Done { about, held: Held::Gone }),
    ];
    let from_target = [
        FromTarget::Agreed(Agreed { about }),
        FromTarget::Prepared(Prepared { about, token }),
        FromTarget::Void(Void { about, ledger, why }),
        FromTarget::Active(Active { about, source: stack, way }),
    ];
    let abilities = Abilities { ledger, restores: true, injects: false, incarnation: 4 };
    (
        to_source.map(ToHost::Source).into_iter().chain(to_target.map(ToHost::Target)).collect(),
        [FromHost::Abilities(abilities)]
            .into_iter()
            .chain(from_source.map(FromHost::Source))
            .chain(from_target.map(FromHost::Target))
            .collect(),
    )
}

fn read<M: Side>(frame: &[u8]) -> Received<M> {
    let (header, body) = frame.split_first_chunk::<HEADER_BYTES>().unwrap();
    decode_body(decode_header(*header).unwrap(), body).unwrap()
}

/// To its reader it is what was written; the other side's reader takes it as its own, or refuses it by its name.
fn is_read_one_way<M: Side + std::fmt::Debug + PartialEq>(word: &str, message: M)
where
    M::Other: std::fmt::Debug,
{
    let frame = codec::encode(&message).unwrap();
    assert_eq!(read(&frame), Received::Message(message));
    let both_ways = matches!(word, "Part" | "State");
    match read::<M::Other>(&frame) {
        Received::Misdirected(said) if said == word && !both_ways => {}
        Received::Message(_) if both_ways => {}
        other => panic!("{word}: {other:?}"),
    }
}

#[test]
fn every_kind_is_read_as_it_was_written_and_in_its_direction_only() {
    let (to, from) = one_of_each();
    to.into_iter().for_each(|message| is_read_one_way(message.word(), ToStack::Transfer(message)));
    from.into_iter().for_each(|message| is_read_one_way(message.word(), FromStack::Transfer(message)));
}

#[test]
fn the_numbers_of_kinds_stay() {
    let all = (0..100).filter_map(|kind| Some((kind, ToStack::word_of(kind).or(FromStack::word_of(kind))?)));
    let words: Vec<_> = all.filter(|(kind, _)| *kind >= 16).map(|(_, word)| word).collect();
    let since_16 = "Abilities Prepare Refuse Freeze Part Abandon Doubt Offer Prepared Commit Abort Void Active \
                    Aborted Released Lost Done Settled Agreed Consult State Choose View Chosen Views PortsHeld PortsGranted \
                    TokensWanted TokensGiven Declined Asked Looked Ranges Bound Activate \
                    Claims Renew Granted Unleased Stalled";
    assert_eq!(words.join(" "), since_16);
}

#[test]
fn a_damaged_frame_is_another_message_or_an_error_and_never_a_panic() {
    let (to, from) = one_of_each();
    let frames = to.iter().map(|m| codec::encode(m).unwrap());
    for frame in frames.chain(from.iter().map(|m| codec::encode(m).unwrap())) {
        let (header, body) = frame.split_first_chunk::<HEADER_BYTES>().unwrap();
        let header = decode_header(*header).unwrap();
        for bit in 0..body.len() * 8 {
            let mut damaged = body.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let _ = decode_body::<ToStack>(header, &damaged);
            let _ = decode_body::<FromStack>(header, &damaged);
        }
    }
}

#[test]
fn the_largest_part_fits_into_a_frame() {
    let (_, from) = one_of_each();
    let about = from.iter().find_map(|m| if let FromHost::Target(m) = m { Some(m.about()) } else { None });
    let about = *about.unwrap();
    let part =
        Part { about, index: MAX_PARTS - 1, of: MAX_PARTS, socket_bytes: 0, bytes: vec![0; PART_BYTES] };
    assert!(codec::encode(&ToTarget::Part(part)).is_ok());
}

#[test]
fn each_message_says_which_transfer_it_is_about() {
    let (to, from) = one_of_each();
    let subject = to[0].subject();
    assert_eq!(subject.1, Epoch(7));
    assert!(to.iter().all(|message| message.subject() == subject));
    let about = About {
        connection: WireConnection(subject.0),
        transfer: TransferId { incarnation: u64::MAX, number: 3 },
        epoch: subject.1,
    };
    assert_eq!(about.dvipa(), subject.0.service().dvipa);
    for message in &from {
        match message {
            FromHost::Source(message) => {
                let asks = matches!(message, FromSource::Prepare(_));
                assert_eq!(message.about(), (!asks).then_some(&about));
                assert_eq!(message.subject(), subject);
            }
            FromHost::Target(message) => {
                assert_eq!((message.about(), message.subject()), (&about, subject));
            }
            FromHost::Abilities(_) => {}
        }
    }
}
