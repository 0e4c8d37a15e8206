use std::net::SocketAddr;

use proptest::prelude::*;

use super::notification::{By, Failed, Offer, Targets, Welcome};
use super::request::{Consent, Milliseconds, Register, Role, Transfer, Unacknowledged};
use super::*;
use crate::codec::{Address, WireConnection};
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
        Offer { offer: OfferId(u64::MAX), connection: connection(), job: JobName::new("a").expect("a name") }
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

#[test]
fn a_full_part_of_a_list_of_targets_fits_a_message() {
    let longest = "x".repeat(63);
    let targets = vec![target(&format!("{longest}@{longest}")); TARGETS_A_MESSAGE];
    let part = Targets { request: Some(RequestId(u32::MAX)), added: targets, ..Targets::default() };
    assert!(Notification::from(part).encode().is_ok());
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
    fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u16..12) {
        let mut datagram = vec![VERSION, 0];
        datagram.extend_from_slice(&kind.to_be_bytes());
        datagram.extend_from_slice(&bytes);
        drop(Request::decode(&datagram));
        drop(Notification::decode(&datagram));
        drop(Request::decode(&bytes));
    }
}
