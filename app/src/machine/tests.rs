use std::fs::File;
use std::os::fd::AsFd;

use channel::Channel;
use model::codec::WireConnection;
use model::control_socket::notification::{
    self, Arriving, Claimed, Failed, Goodbye, Offer, Registered, Transferred, Waiting, Withdrawn,
};
use model::{Dvipa, Protocol};

use super::*;

fn socket() -> Vec<OwnedFd> {
    vec![File::open("/dev/null").expect("opened").into()]
}

/// A descriptor to pass, and whether it is held still.
fn probe() -> (Vec<OwnedFd>, impl Fn() -> bool) {
    let (passed, other) = Channel::pair().expect("a pair");
    let passed = passed.as_fd().try_clone_to_owned().expect("another descriptor");
    let is_held = move || {
        let received = other.receive(&mut [0]);
        matches!(received, Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
    };
    (vec![passed], is_held)
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

fn machine(role: Role) -> Machine {
    let registration = Registration::new("job", "198.18.9.1".parse().expect("an address"), &[80]);
    Machine::new(role, registration.expect("a name"), Instant::now())
}

fn registration(request: &Request) -> RequestId {
    let Request::Register(register) = request else { panic!("not registered: {request:?}") };
    register.request
}

/// Connects and is known.
fn connect(machine: &mut Machine) {
    let request = registration(&machine.connected(Instant::now()));
    machine.handle(Registered { request }.into(), vec![]);
}

fn known() -> Machine {
    let mut machine = machine(Role::Target);
    connect(&mut machine);
    machine
}

/// The agent ends.
fn close(machine: &mut Machine) {
    machine.closed(Instant::now());
}

fn transfer(machine: &mut Machine) -> RequestId {
    machine.transfer(None, Consent::Asked, &Terms::new()).0
}

fn failed(request: RequestId) -> Notification {
    Failed { request, why: Refusal::Rejected, detail: Some("full".into()) }.into()
}

fn offer(offer: u64) -> Notification {
    let job = JobName::new("job").expect("a name");
    Offer { offer: OfferId(offer), connection: connection(), job, giver: None }.into()
}

/// An offer that comes and is accepted.
fn accept(machine: &mut Machine, number: u64) -> OfferKey {
    machine.handle(offer(number), vec![]);
    let key = machine.next_offer().expect("an offer").key;
    assert!(matches!(machine.accept(key), Some(Request::Accept(accept)) if accept.offer == OfferId(number)));
    key
}

fn arriving(by: By) -> Notification {
    Arriving { by, connection: connection(), giver: None }.into()
}

fn here(by: By) -> Notification {
    notification::Connection { by, connection: connection() }.into()
}

/// The only claim that is to be sent.
fn claim(machine: &mut Machine) -> (RequestId, bool) {
    match (machine.next_unsent(), machine.next_unsent()) {
        (Some((Request::Claim(claim), Some(_))), None) => (claim.request, claim.given),
        other => panic!("not one claim: {other:?}"),
    }
}

#[test]
fn each_request_has_its_own_answer_once() {
    let mut machine = known();
    let (a, b) = (transfer(&mut machine), transfer(&mut machine));
    assert_ne!(a, b);
    machine.handle(failed(b), vec![]);
    assert!(machine.outcome(a).is_none());
    machine.handle(Transferred { request: a }.into(), vec![]);
    assert!(matches!(machine.outcome(a), Some(Outcome::Answered(Ok(())))));
    let rejected = machine.outcome(b);
    assert!(matches!(rejected, Some(Outcome::Answered(Err(Error::Refused { why: Refusal::Rejected, .. })))));
    assert!(machine.outcome(a).is_none() && machine.outcome(b).is_none());
    machine.handle(Transferred { request: a }.into(), vec![]);
    assert!(machine.outcome(a).is_none(), "nobody asked");
}

#[test]
fn a_transfer_whose_agent_ends_is_lost_and_can_be_asked_about() {
    let mut machine = known();
    let (lost, answered) = (transfer(&mut machine), transfer(&mut machine));
    machine.handle(Transferred { request: answered }.into(), vec![]);
    close(&mut machine);
    assert!(matches!(machine.outcome(answered), Some(Outcome::Answered(Ok(())))), "it was answered before");
    assert!(matches!(machine.outcome(lost), Some(Outcome::Lost)));
    connect(&mut machine);
    let (resume, _) = machine.resume();
    machine.handle(failed(resume), vec![]);
    assert!(matches!(machine.outcome(resume), Some(Outcome::Answered(Err(_)))));
}

#[test]
fn a_waiting_registration_is_known_and_not_in_force() {
    let mut machine = machine(Role::Routing);
    let request = registration(&machine.connected(Instant::now()));
    assert!(!machine.is_known() && machine.away_since().is_some());
    machine.handle(Waiting { request }.into(), vec![]);
    assert!(machine.is_known() && !machine.is_in_force() && machine.away_since().is_none());
    machine.handle(Registered { request }.into(), vec![]);
    assert!(machine.is_in_force());
    machine.handle(Waiting { request }.into(), vec![]);
    assert!(machine.is_known() && !machine.is_in_force());
}

#[test]
fn an_agent_that_ends_again_and_again_has_been_away_since_the_first_time() {
    let mut machine = known();
    let first = Instant::now();
    machine.closed(first);
    for _ in 0..2 {
        machine.connected(Instant::now());
        close(&mut machine);
    }
    assert_eq!(machine.away_since(), Some(first));
}

#[test]
fn a_refused_application_is_tried_again_by_the_call_after_the_one_that_was_told() {
    let refusals: [fn(RequestId) -> Notification; 2] =
        [failed, |_| Goodbye { why: Refusal::NotAllowed }.into()];
    for refuse in refusals {
        let mut machine = known();
        close(&mut machine);
        let request = registration(&machine.connected(Instant::now()));
        machine.handle(refuse(request), vec![]);
        close(&mut machine);
        assert!(machine.is_refused() && machine.is_ready(), "who waits in an event loop is to call");
        assert!(!machine.try_again(Instant::now()), "nobody was told");
        assert!(matches!(machine.refused(), Some(Error::Refused { .. })));
        assert!(machine.try_again(Instant::now()));
        assert!(machine.refused().is_none() && !machine.is_ready());
    }
}

#[test]
fn an_agent_that_ends_or_closes_does_not_refuse() {
    for why in [Refusal::Ending, Refusal::Stuck] {
        let mut machine = known();
        machine.handle(Goodbye { why }.into(), vec![]);
        close(&mut machine);
        assert!(!machine.is_refused() && machine.away_since().is_some());
    }
    let mut ending = machine(Role::Target);
    ending.connected(Instant::now());
    ending.handle(Goodbye { why: Refusal::Ending }.into(), vec![]);
    assert!(!ending.is_refused());
}

#[test]
fn targets_are_shown_when_what_was_said_holds_together() {
    let mut machine = known();
    let Some(Request::Subscribe(subscribe)) = machine.subscribe_once(service()) else {
        panic!("not subscribed")
    };
    assert!(machine.subscribe_once(service()).is_none(), "once is enough");
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
    assert!(machine.subscribe_once(service()).is_some(), "it may be tried again");
}

#[test]
fn the_next_agent_is_asked_for_targets_without_a_call() {
    let mut machine = known();
    machine.subscribe_once(service());
    close(&mut machine);
    assert!(machine.targets_of(service()).is_none(), "nobody knows now");
    assert!(machine.subscribe_once(service()).is_none(), "the next agent is asked when it knows who asks");
    connect(&mut machine);
    let Some((Request::Subscribe(subscribe), None)) = machine.next_unsent() else { panic!("not subscribed") };
    let (request, added) = (Some(subscribe.request), targets(&["a"]));
    let said = notification::Targets { request, first: true, last: true, added, removed: vec![] };
    machine.handle(said.into(), vec![]);
    assert_eq!(machine.targets_of(service()).expect("known").expect("no error"), targets(&["a"]));
}

#[test]
fn a_withdrawn_offer_is_not_shown_and_cannot_be_had() {
    let mut machine = known();
    machine.handle(offer(1), vec![]);
    machine.handle(offer(2), vec![]);
    machine.handle(Withdrawn { offer: OfferId(1), why: Refusal::Aborted }.into(), vec![]);
    let key = machine.next_offer().expect("the other one").key;
    assert_eq!(key.offer, OfferId(2));
    assert!(machine.next_offer().is_none() && !machine.is_ready());
    machine.accept(key);
    assert!(machine.accepted(key).is_none());
    machine.handle(Withdrawn { offer: OfferId(2), why: Refusal::Aborted }.into(), vec![]);
    assert!(matches!(machine.accepted(key), Some(Err(_))));
}

#[test]
fn an_offer_is_void_when_its_agent_ends_and_another_ones_is_not_taken_for_it() {
    let mut machine = known();
    machine.handle(offer(1), vec![]);
    let (old, accepted) = (machine.next_offer().expect("an offer").key, accept(&mut machine, 2));
    machine.handle(offer(3), vec![]);
    close(&mut machine);
    assert!(machine.next_offer().is_none() && !machine.is_ready());
    assert!(matches!(machine.accepted(accepted), Some(Err(Error::Closed))));
    connect(&mut machine);
    machine.handle(offer(1), vec![]);
    assert!(machine.accept(old).is_none() && machine.reject(old, "no").is_none());
    assert!(matches!(machine.accepted(old), Some(Err(Error::Closed))));
    let new = machine.next_offer().expect("the next agent's").key;
    assert!(machine.accept(new).is_some());
}

#[test]
fn a_connection_is_the_applications_when_the_agent_says_so_and_not_before() {
    let mut machine = known();
    let key = accept(&mut machine, 1);
    let by = By::Offer(OfferId(1));
    machine.handle(arriving(by), vec![]);
    machine.handle(arriving(by), socket());
    assert!(machine.accepted(key).is_none());
    machine.handle(here(by), socket());
    assert!(matches!(machine.accepted(key), Some(Ok(_))));

    let key = accept(&mut machine, 2);
    let (passed, is_held) = probe();
    machine.handle(arriving(By::Offer(OfferId(2))), passed);
    machine.handle(Withdrawn { offer: OfferId(2), why: Refusal::Aborted }.into(), vec![]);
    assert!(matches!(machine.accepted(key), Some(Err(_))));
    assert!(!is_held(), "it is elsewhere");
}

#[test]
fn agents_that_pass_a_connection_only_when_it_is_decided_are_understood() {
    let mut machine = known();
    let key = accept(&mut machine, 1);
    machine.handle(here(By::Offer(OfferId(1))), socket());
    assert!(matches!(machine.accepted(key), Some(Ok(_))));
}

#[test]
fn a_connection_that_has_arrived_is_claimed_at_the_next_agent() {
    for is_its in [true, false] {
        let mut machine = known();
        let key = accept(&mut machine, 1);
        let (passed, is_held) = probe();
        machine.handle(arriving(By::Offer(OfferId(1))), passed);
        // The second agent ends before it has answered.
        close(&mut machine);
        connect(&mut machine);
        assert!(!claim(&mut machine).1);
        close(&mut machine);
        connect(&mut machine);
        let (request, _) = claim(&mut machine);
        assert!(machine.accepted(key).is_none(), "nobody knows yet");
        let answer = if is_its { Claimed { request }.into() } else { failed(request) };
        machine.handle(answer, vec![]);
        let accepted = machine.accepted(key).expect("it is decided");
        assert_eq!(accepted.is_ok(), is_its);
        assert_eq!(is_held(), is_its);
        drop(accepted);
    }
}

#[test]
fn a_connection_that_nobody_waits_for_any_longer_is_closed() {
    let mut machine = known();
    for forgotten_first in [true, false] {
        let key = accept(&mut machine, 1);
        let (passed, is_held) = probe();
        if forgotten_first {
            machine.forget(key);
        }
        machine.handle(arriving(By::Offer(OfferId(1))), passed);
        machine.forget(key);
        assert!(!is_held());
        machine.handle(here(By::Offer(OfferId(1))), socket());
        assert!(machine.accepted(key).is_none());
    }
}

#[test]
fn given_connections_are_there_before_anybody_asks() {
    let mut machine = known();
    for offer in [1, 2] {
        let by = By::Given(OfferId(offer));
        machine.handle(arriving(by), socket());
        assert_eq!(machine.is_ready(), offer == 2, "it is not decided yet");
        machine.handle(here(by), socket());
        assert!(machine.is_ready());
    }
    for offer in [1, 2] {
        assert!(machine.is_ready());
        let (_, taken) = machine.take().expect("given");
        let told = machine.is_taken(taken);
        assert!(matches!(told, Some(Request::Taken(taken)) if taken.by == By::Given(OfferId(offer))));
    }
    assert!(machine.take().is_none() && !machine.is_ready());
}

#[test]
fn a_given_connection_that_is_not_taken_in_time_is_closed() {
    let mut machine = known();
    let by = By::Given(OfferId(1));
    let (passed, is_held) = probe();
    machine.handle(arriving(by), passed);
    machine.handle(here(by), socket());
    machine.handle(Withdrawn { offer: OfferId(1), why: Refusal::NotTaken }.into(), vec![]);
    assert!(!is_held() && machine.take().is_none() && !machine.is_ready());
}

#[test]
fn given_connections_wait_at_the_next_agent_too() {
    let mut machine = known();
    let by = By::Given(OfferId(1));
    let (passed, is_held) = probe();
    machine.handle(arriving(by), passed);
    machine.handle(here(by), socket());
    close(&mut machine);
    assert!(!machine.is_ready() && machine.take().is_none(), "the next agent may have closed it");
    connect(&mut machine);
    let (request, given) = claim(&mut machine);
    assert!(given);
    machine.handle(Claimed { request }.into(), vec![]);
    assert!(machine.is_ready() && is_held());
    // Its time is over there.
    machine.handle(Failed { request, why: Refusal::NotTaken, detail: None }.into(), vec![]);
    assert!(!machine.is_ready() && !is_held());
}

#[test]
fn an_agent_that_has_ended_is_not_told_that_a_connection_was_taken() {
    let mut machine = known();
    let by = By::Given(OfferId(1));
    machine.handle(arriving(by), socket());
    machine.handle(here(by), socket());
    let (_, taken) = machine.take().expect("given");
    close(&mut machine);
    connect(&mut machine);
    assert!(machine.is_taken(taken).is_none(), "it may be the number of another one there");
}

#[test]
fn a_routing_application_takes_offers_once_somebody_has_looked_for_them() {
    let takes = |request: &Request| match request {
        Request::Register(register) => register.takes_offers,
        other => panic!("not registered: {other:?}"),
    };
    assert_eq!(takes(&machine(Role::Target).connected(Instant::now())), Some(true));
    let mut machine = machine(Role::Routing);
    assert_eq!(takes(&machine.connected(Instant::now())), Some(false));
    close(&mut machine);
    connect(&mut machine);
    assert!(matches!(machine.takes_offers(), Some(Request::TakesOffers(_))));
    assert!(machine.takes_offers().is_none(), "once is enough");
    close(&mut machine);
    assert_eq!(takes(&machine.connected(Instant::now())), Some(true));
}

#[test]
fn an_agent_that_is_registered_at_is_told_of_offers_behind_the_registration() {
    let mut machine = machine(Role::Routing);
    machine.connected(Instant::now());
    assert!(machine.takes_offers().is_none());
    assert!(matches!(machine.next_unsent(), Some((Request::TakesOffers(_), None))));
}

#[test]
fn messages_are_kept_once_the_application_has_asked_for_them() {
    let mut machine = known();
    let heard = || {
        let from = "router@rt1".parse().expect("a target");
        notification::Heard { from, port: 80, about: None, bytes: vec![7] }.into()
    };
    machine.handle(heard(), vec![]);
    assert!(!machine.is_ready(), "it never asks");
    assert_eq!(machine.hear(), None);
    machine.handle(heard(), vec![]);
    assert!(machine.is_ready());
    assert_eq!(machine.hear().map(|heard| heard.bytes), Some(vec![7]));
    assert!(!machine.is_ready());
    for _ in 0..=MAX_HEARD {
        machine.handle(heard(), vec![]);
    }
    assert_eq!(machine.heard.len(), MAX_HEARD);
}
