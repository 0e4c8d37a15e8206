use std::fs::File;

use model::codec::WireConnection;
use model::control_socket::notification::{
    self, Failed, Goodbye, Offer, Registered, Transferred, Waiting, Withdrawn,
};
use model::{Dvipa, Protocol};

use super::*;

fn socket() -> Vec<OwnedFd> {
    vec![File::open("/dev/null").expect("opened").into()]
}

fn connection() -> WireConnection {
    let client = "198.18.0.2:40000".parse().expect("an address");
    let dvipa = "198.18.9.1:80".parse().expect("an address");
    WireConnection(Connection::new(Protocol::Tcp, client, dvipa).expect("one family"))
}

fn service() -> Service {
    Service {
        dvipa: Dvipa::new("198.18.9.1".parse().expect("an address")),
        port: 80,
        protocol: Protocol::Tcp,
    }
}

fn targets(names: &[&str]) -> Vec<Target> {
    names.iter().map(|name| format!("{name}@t1").parse().expect("a target")).collect()
}

fn transfer(machine: &mut Machine) -> RequestId {
    machine.transfer(None, Consent::Asked, &Terms::new()).0
}

fn failed(request: RequestId) -> Notification {
    Failed { request, why: Refusal::Rejected, detail: Some("full".into()) }.into()
}

#[test]
fn each_request_has_its_own_answer_once() {
    let mut machine = Machine::default();
    let (a, b) = (transfer(&mut machine), transfer(&mut machine));
    assert_ne!(a, b);
    machine.handle(failed(b), vec![]);
    assert!(machine.outcome(a).is_none());
    machine.handle(Transferred { request: a }.into(), vec![]);
    assert!(matches!(machine.outcome(a), Some(Ok(()))));
    assert!(matches!(machine.outcome(b), Some(Err(Error::Refused { why: Refusal::Rejected, .. }))));
    assert!(machine.outcome(a).is_none() && machine.outcome(b).is_none());
    machine.handle(Transferred { request: a }.into(), vec![]);
    assert!(machine.outcome(a).is_none(), "nobody asked");
}

#[test]
fn a_waiting_registration_is_known_and_not_in_force() {
    let mut machine = Machine::default();
    let registration = Registration::new("job", "198.18.9.1".parse().expect("an address"), &[80]);
    let (request, _) = machine.register(Role::Routing, &registration.expect("a name"));
    machine.handle(Waiting { request }.into(), vec![]);
    assert!(machine.outcome(request).is_none());
    assert!(matches!(machine.is_known(request), Some(Ok(()))));
    machine.handle(Registered { request }.into(), vec![]);
    assert!(matches!(machine.outcome(request), Some(Ok(()))));
}

#[test]
fn targets_are_shown_when_what_was_said_holds_together() {
    let mut machine = Machine::default();
    let Some(Request::Subscribe(subscribe)) = machine.subscribe(service()) else { panic!("not subscribed") };
    assert!(machine.subscribe(service()).is_none(), "once is enough");
    let mut say = |first, last, added: &[&str], removed: &[&str]| {
        let (added, removed) = (targets(added), targets(removed));
        let said = notification::Targets { request: Some(subscribe.request), first, last, added, removed };
        machine.handle(said.into(), vec![]);
        machine.targets_of(service()).map(|known| known.expect("no error"))
    };
    assert_eq!(say(true, false, &["b"], &[]), None);
    assert_eq!(say(false, true, &["a"], &[]), Some(targets(&["a", "b"])));
    assert_eq!(say(false, false, &[], &["a"]), Some(targets(&["a", "b"])));
    assert_eq!(say(false, true, &["c"], &[]), Some(targets(&["b", "c"])));
    assert_eq!(say(true, true, &["d"], &[]), Some(targets(&["d"])));
    machine.handle(failed(subscribe.request), vec![]);
    assert!(matches!(machine.targets_of(service()), Some(Err(_))));
    assert!(machine.subscribe(service()).is_some(), "it may be tried again");
}

#[test]
fn a_withdrawn_offer_is_not_shown_and_cannot_be_had() {
    let mut machine = Machine::default();
    let offer = |n| {
        let job = JobName::new("job").expect("a name");
        Notification::from(Offer { offer: OfferId(n), connection: connection(), job })
    };
    machine.handle(offer(1), vec![]);
    machine.handle(offer(2), vec![]);
    machine.handle(Withdrawn { offer: OfferId(1), why: Refusal::Aborted }.into(), vec![]);
    assert_eq!(machine.next_offer().map(|offered| offered.offer), Some(OfferId(2)));
    assert!(machine.next_offer().is_none());
    machine.accept(OfferId(2));
    assert!(machine.accepted(OfferId(2)).is_none());
    machine.handle(Withdrawn { offer: OfferId(2), why: Refusal::Aborted }.into(), vec![]);
    assert!(matches!(machine.accepted(OfferId(2)), Some(Err(_))));
}

#[test]
fn a_connection_without_a_descriptor_is_none() {
    let mut machine = Machine::default();
    machine.accept(OfferId(1));
    let said = notification::Connection { by: By::Offer(OfferId(1)), connection: connection() };
    machine.handle(said.clone().into(), vec![]);
    assert!(machine.accepted(OfferId(1)).is_none());
    machine.handle(said.into(), socket());
    assert!(matches!(machine.accepted(OfferId(1)), Some(Ok(_))));
}

#[test]
fn a_connection_that_nobody_waits_for_any_longer_is_closed() {
    let mut machine = Machine::default();
    machine.accept(OfferId(1));
    machine.forget(OfferId(1));
    let said = notification::Connection { by: By::Offer(OfferId(1)), connection: connection() };
    let (ours, other) = channel::Channel::pair().expect("a pair");
    let passed = std::os::fd::AsFd::as_fd(&ours).try_clone_to_owned().expect("another descriptor");
    drop(ours);
    machine.handle(said.into(), vec![passed]);
    assert!(other.receive(&mut [0]).expect("received").is_none(), "it is still held");
}

#[test]
fn a_take_that_was_given_up_serves_the_next_taker() {
    let mut machine = Machine::default();
    let Some(Request::Take(first)) = machine.begin_take() else { panic!("not asked") };
    machine.end_take();
    assert!(machine.begin_take().is_none(), "the first is still under way");
    let Some(Request::Take(second)) = machine.begin_take() else { panic!("two wait, one was asked") };
    for take in [first, second] {
        let said = notification::Connection { by: By::Take(take.request), connection: connection() };
        machine.handle(said.into(), socket());
    }
    assert!(machine.taken().is_some() && machine.taken().is_some() && machine.taken().is_none());
}

#[test]
fn the_first_reason_for_the_end_stays() {
    let mut machine = Machine::default();
    assert!(machine.closed().is_none());
    machine.handle(Goodbye { why: Refusal::Stuck }.into(), vec![]);
    machine.close(None);
    assert!(matches!(machine.closed(), Some(Error::Closed { why: Some(Refusal::Stuck) })));
}
