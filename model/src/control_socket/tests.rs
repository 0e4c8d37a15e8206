use std::net::SocketAddr;

use proptest::prelude::*;

use super::notification::{By, Failed, Offer, Targets, Views, Welcome};
use super::request::{Choose, Consent, Milliseconds, Register, Role, Transfer, Unacknowledged};
use super::*;
use crate::codec::{Address, WireConnection};
use crate::message::Load;
use crate::{Connection, Protocol, StackName};

fn target(text: &str) -> Target {
    text.parse().expect("a target")
}

fn connection() -> WireConnection {
    let ends: [SocketAddr; 2] = ["198.18.0.2:40000", "198.18.9.1:80"].map(|a| a.parse().expect("an address"));
    WireConnection(Connection::new(Protocol::Tcp, ends[0], ends[1]).expect("one family"))
}

#[test]
fn messages_come_back_as_they_were_sent() {
    let register = Register {
        request: RequestId(1),
        role: Role::Target,
        job: JobName::new("counter").expect("a name"),
        dvipa: Address("2001:db8:9::1".parse().expect("an address")),
        ports: vec![80, 443],
        hold_accepts: true,
        takes_offers: Some(false),
    };
    let transfer = |to, unacknowledged| {
        Request::Transfer(Transfer {
            request: RequestId(2),
            to,
            consent: Consent::Presumed,
            unacknowledged,
            given_back: Some(b"GET /".to_vec()),
        })
    };
    for request in [
        Request::Register(register),
        transfer(None, Unacknowledged::Refuse),
        transfer(Some(target("counter@t1")), Unacknowledged::Carry),
        transfer(Some(target("counter@t1")), Unacknowledged::Wait(Milliseconds(250))),
    ] {
        let bytes = request.encode().expect("short enough");
        assert_eq!(Request::decode(&bytes).expect("a message"), Some(request));
    }
    for notification in [
        Notification::from(Welcome { stack: StackName::new("t1").expect("a name"), version: "1".into() }),
        Offer {
            offer: OfferId(u64::MAX),
            connection: connection(),
            job: JobName::new("a").expect("a name"),
            giver: None,
        }
        .into(),
        notification::Connection { by: By::Offer(OfferId(3)), connection: connection() }.into(),
        Targets { added: vec![target("counter@t1")], ..Targets::default() }.into(),
        Failed { request: RequestId(9), why: Refusal::Rejected, detail: Some("full".into()) }.into(),
    ] {
        let bytes = notification.encode().expect("short enough");
        assert_eq!(Notification::decode(&bytes).expect("a message"), Some(notification));
    }
}

#[test]
fn unknown_versions_kinds_and_fields_are_ignored() {
    assert_eq!(Request::decode(&[VERSION + 1, 0, 0, 1, 0x80]).expect("ignored"), None);
    assert_eq!(Request::decode(&[VERSION, 0, 0xff, 0xff, 0x80]).expect("ignored"), None);
    // Resume { request: 7 } with a second field that no version has yet.
    let newer = [VERSION, 0, 0, 7, 0x82, 0x07, 0x63, b'n', b'e', b'w'];
    assert_eq!(
        Request::decode(&newer).expect("a message"),
        Some(Request::Resume(request::Resume { request: RequestId(7) }))
    );
    // Register as versions before `takes_offers` wrote it.
    let dvipa = [0x44, 198, 18, 9, 1];
    let older =
        [&[VERSION, 0, 0, 1, 0x86, 0x01, 0x00, 0x61, b'a'][..], &dvipa, &[0x81, 0x18, 80, 0xf4]].concat();
    let Ok(Some(Request::Register(older))) = Request::decode(&older) else { panic!("not read") };
    assert_eq!((older.ports, older.takes_offers), (vec![80], None));
    assert_eq!(Refusal::from_number(999), Refusal::Other(999));
}

#[test]
fn what_is_no_message_is_an_error() {
    assert!(matches!(Request::decode(&[]), Err(MessageError::Short(0))));
    assert!(matches!(Request::decode(&[VERSION, 0, 0]), Err(MessageError::Short(3))));
    assert!(matches!(Request::decode(&[VERSION, 0, 0, 1]), Err(MessageError::Body { kind: 1, .. })));
}

/// A message of this length.
struct Long(usize);

impl Message for Long {
    fn write(&self) -> Vec<u8> {
        vec![0; self.0]
    }

    fn read(_: u16, _: &[u8]) -> Option<Result<Self, minicbor::decode::Error>> {
        None
    }
}

#[test]
fn the_longest_message_is_written_and_a_longer_one_is_not() {
    assert_eq!(Long(MAX_MESSAGE_BYTES).encode().expect("short enough").len(), MAX_MESSAGE_BYTES);
    let longer = MAX_MESSAGE_BYTES + 1;
    assert!(matches!(Long(longer).encode(), Err(MessageError::Long(said)) if said == longer));
}

#[test]
fn a_full_part_of_a_list_of_targets_fits_a_message() {
    let longest = "x".repeat(63);
    let targets = vec![target(&format!("{longest}@{longest}")); TARGETS_A_MESSAGE];
    let part = Targets { request: Some(RequestId(u32::MAX)), added: targets, ..Targets::default() };
    assert!(Notification::from(part).encode().is_ok());
}

fn view(name: &str) -> TargetView {
    TargetView {
        target: target(name),
        state: TargetState::WeightZero,
        weight: u16::MAX,
        weight_from: WeightFrom::Controller,
        connections: u64::MAX,
        load: Some(Load {
            cpu_permille: 1000,
            accept_queue_permille: 1000,
            memory_pressure_permille: 1000,
            ..Load::default()
        }),
        holds_accepts: true,
    }
}

#[test]
fn the_longest_choice_and_the_longest_part_of_views_fit_a_message() {
    let longest = "x".repeat(63);
    let name = format!("{longest}@{longest}");
    let jobs = vec![JobName::new(&longest).expect("a name"); MAX_CHOICE];
    let besides = vec![target(&name); MAX_CHOICE];
    let choose = Choose { request: RequestId(u32::MAX), connection: connection(), jobs, besides };
    let bytes = Request::from(choose.clone()).encode().expect("short enough");
    assert_eq!(Request::decode(&bytes).expect("a message"), Some(choose.into()));
    let views = vec![view(&name); TARGETS_A_MESSAGE];
    let part = Notification::from(Views { request: RequestId(u32::MAX), last: true, views });
    let bytes = part.encode().expect("short enough");
    assert_eq!(Notification::decode(&bytes).expect("a message"), Some(part));
}

#[test]
fn words_of_the_future_are_read_as_other_and_the_rest_of_a_view_stays() {
    let mut bytes = minicbor::to_vec(view("counter@t1")).expect("encoded");
    // Array of seven, the name, and then the state.
    let at =
        bytes.windows(2).position(|pair| pair == [TargetState::WeightZero.number(), 0x19]).expect("a state");
    bytes[at] = 23;
    let read: TargetView = minicbor::decode(&bytes).expect("a view");
    assert_eq!(read, TargetView { state: TargetState::Other, ..view("counter@t1") });
    for state in TargetState::ALL {
        let bytes = minicbor::to_vec(state).expect("encoded");
        assert_eq!(minicbor::decode::<TargetState>(&bytes).expect("a state"), *state);
    }
}

#[test]
fn each_refusal_has_its_own_number_name_and_advice() {
    let mut numbers: Vec<u16> = Refusal::ALL.iter().map(|r| r.number()).collect();
    let mut names: Vec<&str> = Refusal::ALL.iter().map(|r| r.name()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    names.sort_unstable();
    names.dedup();
    assert_eq!((numbers.len(), names.len()), (Refusal::ALL.len(), Refusal::ALL.len()));
    for refusal in Refusal::ALL {
        let sentence = refusal.sentence();
        assert!(sentence.contains(": ") && sentence.ends_with('.'), "`{sentence}` does not say what to do");
        assert_eq!(Refusal::from_number(refusal.number()), *refusal);
    }
    for reason in crate::transfer::Reason::ALL {
        let refusal = Refusal::Transfer(*reason);
        assert_eq!(Refusal::from_number(refusal.number()), refusal);
        assert_eq!((refusal.name(), refusal.number() >= 1000), (reason.name(), true));
    }
}

#[test]
fn targets_are_written_job_at_stack() {
    assert_eq!(target("http.1@t-2").to_string(), "http.1@t-2");
    for bad in ["", "t1", "@t1", "job@", "a b@t1", "job@T1"] {
        assert!(bad.parse::<Target>().is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u16..18) {
        let mut datagram = vec![VERSION, 0];
        datagram.extend_from_slice(&kind.to_be_bytes());
        datagram.extend_from_slice(&bytes);
        drop(Request::decode(&datagram));
        drop(Notification::decode(&datagram));
        drop(Request::decode(&bytes));
    }
}
