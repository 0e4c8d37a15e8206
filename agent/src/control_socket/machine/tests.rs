use std::fs::File;
use std::net::IpAddr;
use std::time::Duration;

use model::codec::{Address, WireConnection};
use model::control_socket::notification::{self, By, Claimed};
use model::control_socket::request::{
    Accept, Choose, Claim, Consent, Register, Reject, Role, Subscribe, Taken, TakesOffers, Transfer,
    Unacknowledged, View,
};
use model::control_socket::{JobName, MAX_CHOICE, MAX_PORTS, OfferId, TargetState, TargetView, WeightFrom};
use model::{Dvipa, Protocol};

use super::*;
use crate::control_socket::event::Answer;
use crate::control_socket::limits::{MAX_OFFERS, MAX_REGISTRATIONS, MAX_TRANSFERS, PASS_WITHIN, TAKE_WITHIN};

mod offers;

const PEER: Peer = Peer { pid: 7, uid: 1000, gid: 1000 };

/// A machine, and what it has done since the last look.
struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    fn silent() -> Self {
        let now = Instant::now();
        let mut bench = Self { machine: Machine::new(PEER, StackName::new("t1").expect("a name"), now), now };
        assert!(matches!(bench.told()[..], [Notification::Welcome(_)]));
        bench
    }

    /// Registered for ports 80 and 81, as request 1.
    fn registered() -> Self {
        let mut bench = Self::silent();
        bench.ask(register(1));
        assert!(matches!(bench.reported()[..], [event::Event::Register(RequestId(1), _, None)]));
        bench.command(Command::Registered(RequestId(1)));
        assert!(matches!(bench.told()[..], [Notification::Registered(_)]));
        bench
    }

    fn handle(&mut self, event: Event) {
        self.machine.handle(event, self.now);
    }

    fn ask(&mut self, request: impl Into<Request>) {
        self.handle(Event::Received(request.into(), Ok(Enclosed::default())));
    }

    fn command(&mut self, command: Command) {
        self.handle(Event::Command(command));
    }

    fn transfer(&mut self, request: u32, client_port: u16, port: u16) {
        let held = Held { socket: socket(), connection: connection(client_port, port) };
        let enclosed = Enclosed { connection: Some(held), ..Enclosed::default() };
        self.handle(Event::Received(transfer(request).into(), Ok(enclosed)));
    }

    fn offer(&mut self, offer: u64) {
        let (connection, job) = (connection(40_000, 80), job());
        self.command(Command::Offer { offer: OfferId(offer), connection, job, giver: None, state: None });
    }

    /// A connection that the application is not asked about.
    fn give(&mut self, offer: u64) {
        let held = Held { socket: socket(), connection: connection(40_000, 80) };
        self.command(Command::Give { offer: OfferId(offer), held, giver: None, state: None });
    }

    fn claim(&mut self, request: u32, given: bool) {
        let held = Held { socket: socket(), connection: connection(40_000, 80) };
        let enclosed = Enclosed { connection: Some(held), ..Enclosed::default() };
        let claim = Claim { request: RequestId(request), given };
        self.handle(Event::Received(claim.into(), Ok(enclosed)));
    }

    /// A silent connection is on its way, and then it is there.
    fn passes(&mut self, by: By) {
        let offer = match by {
            By::Offer(offer) | By::Given(offer) => offer,
            By::Claim(_) => panic!("not passed"),
        };
        match &self.actions()[..] {
            [Action::Tell(Notification::Arriving(told), Beside::Arriving(of, ..))] => {
                assert_eq!((told.by, *of), (by, offer));
            }
            other => panic!("not passed: {other:?}"),
        }
        self.handle(Event::Sent(offer));
        assert!(matches!(self.reported()[..], [event::Event::Passed(of)] if of == offer));
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.machine.poll()).collect()
    }

    /// What the application was told, which is all that was done.
    fn told(&mut self) -> Vec<Notification> {
        let told = |action| match action {
            Action::Tell(notification, _) => notification,
            Action::Report(_) | Action::Close => panic!("not told: {action:?}"),
        };
        self.actions().into_iter().map(told).collect()
    }

    /// What the agent was told, which is all that was done.
    fn reported(&mut self) -> Vec<event::Event> {
        let reported = |action| match action {
            Action::Report(event) => event,
            Action::Tell(..) | Action::Close => panic!("not reported: {action:?}"),
        };
        self.actions().into_iter().map(reported).collect()
    }

    fn refused(&mut self) -> (RequestId, Refusal) {
        match &self.told()[..] {
            [Notification::Failed(failed)] => (failed.request, failed.why),
            other => panic!("not refused: {other:?}"),
        }
    }

    /// It has told why, reported the end, and closed.
    fn over(&mut self) -> Option<Refusal> {
        let actions = self.actions();
        let (why, rest) = match &actions[..] {
            [Action::Tell(Notification::Goodbye(goodbye), _), rest @ ..] => (Some(goodbye.why), rest),
            rest => (None, rest),
        };
        assert!(matches!(rest, [Action::Report(event::Event::Ended), Action::Close]), "{rest:?}");
        self.ask(register(99));
        self.handle(Event::Closed);
        assert!(self.actions().is_empty(), "nothing comes after the end");
        why
    }
}

fn socket() -> OwnedFd {
    File::open("/dev/null").expect("opened").into()
}

fn job() -> JobName {
    JobName::new("job").expect("a name")
}

fn dvipa() -> IpAddr {
    "198.18.9.1".parse().expect("an address")
}

fn connection(client_port: u16, port: u16) -> Connection {
    let client = ("198.18.0.2".parse::<IpAddr>().expect("an address"), client_port);
    Connection::new(Protocol::Tcp, client.into(), (dvipa(), port).into()).expect("one family")
}

fn service(port: u16) -> Service {
    Service { dvipa: Dvipa::new(dvipa()), port, protocol: Protocol::Tcp }
}

fn register(request: u32) -> Register {
    Register {
        request: RequestId(request),
        role: Role::Target,
        job: job(),
        dvipa: Address(dvipa()),
        ports: vec![80, 81],
        hold_accepts: false,
        takes_offers: None,
    }
}

fn transfer(request: u32) -> Transfer {
    Transfer {
        request: RequestId(request),
        to: None,
        consent: Consent::Asked,
        unacknowledged: Unacknowledged::Refuse,
        given_back: None,
    }
}

fn subscribe(request: u32, port: u16) -> Subscribe {
    Subscribe { request: RequestId(request), dvipa: Address(dvipa()), port }
}

fn targets(names: &[&str]) -> Vec<Target> {
    names.iter().map(|name| format!("{name}@t1").parse().expect("a target")).collect()
}

#[test]
fn a_silent_socket_is_closed_when_its_time_is_over_and_not_before() {
    let mut bench = Bench::silent();
    let (at, timer) = bench.machine.next_deadline().expect("a deadline");
    assert_eq!((at, timer), (bench.now + REGISTER_WITHIN, Timer::Register));
    bench.handle(Event::TimePassed);
    bench.now -= Duration::from_secs(1);
    bench.handle(Event::TimePassed);
    assert!(bench.actions().is_empty());
    bench.now = at;
    bench.handle(Event::TimePassed);
    assert_eq!(bench.over(), Some(Refusal::Silent));
}

#[test]
fn a_known_application_may_be_silent() {
    let mut bench = Bench::registered();
    assert!(bench.machine.next_deadline().is_none());
    bench.now += REGISTER_WITHIN * 2;
    bench.handle(Event::TimePassed);
    assert!(bench.actions().is_empty());
}

#[test]
fn each_end_is_reported_once_with_its_reason() {
    type Row = (fn() -> Bench, Event, Option<Refusal>);
    let rows: [Row; 8] = [
        (Bench::silent, Event::Closed, None),
        (Bench::silent, Event::Malformed, Some(Refusal::Invalid)),
        (Bench::silent, Event::Overflow, Some(Refusal::Stuck)),
        (Bench::silent, Event::Stop, Some(Refusal::Ending)),
        (Bench::registered, Event::Closed, None),
        (Bench::registered, Event::Malformed, Some(Refusal::Invalid)),
        (Bench::registered, Event::Overflow, Some(Refusal::Stuck)),
        (Bench::registered, Event::Stop, Some(Refusal::Ending)),
    ];
    for (begin, event, why) in rows {
        let (mut bench, name) = (begin(), format!("{event:?}"));
        bench.handle(event);
        assert_eq!(bench.over(), why, "{name}");
    }
}

#[test]
fn before_it_is_registered_an_application_may_do_nothing() {
    for register_first in [false, true] {
        let mut bench = Bench::silent();
        if register_first {
            // Asked, and not answered by the agent.
            bench.ask(register(1));
            bench.actions();
        }
        bench.ask(subscribe(2, 80));
        assert_eq!(bench.refused(), (RequestId(2), Refusal::NotRegistered));
        bench.transfer(3, 40_000, 80);
        assert_eq!(bench.refused(), (RequestId(3), Refusal::NotRegistered));
    }
}

#[test]
fn a_registration_waits_and_comes_into_force_and_waits_again() {
    let mut bench = Bench::silent();
    bench.ask(register(1));
    bench.actions();
    for _ in 0..2 {
        bench.command(Command::Waiting(RequestId(1)));
        assert!(matches!(bench.told()[..], [Notification::Waiting(_)]));
        bench.command(Command::Registered(RequestId(1)));
        assert!(matches!(bench.told()[..], [Notification::Registered(_)]));
    }
    bench.command(Command::Failed { request: RequestId(1), why: Refusal::JobTaken, detail: None });
    assert_eq!(bench.refused(), (RequestId(1), Refusal::JobTaken));
    bench.transfer(2, 40_000, 80);
    assert_eq!(bench.refused(), (RequestId(2), Refusal::NotRegistered));
}

#[test]
fn impossible_ports_are_refused() {
    for ports in [vec![], vec![80, 0], vec![80; MAX_PORTS + 1]] {
        let mut bench = Bench::silent();
        bench.ask(Register { ports, ..register(1) });
        assert_eq!(bench.refused(), (RequestId(1), Refusal::Invalid));
    }
}

#[test]
fn a_number_that_is_open_ends_the_socket() {
    let mut bench = Bench::registered();
    bench.ask(register(1));
    assert_eq!(bench.over(), Some(Refusal::Invalid));
    let mut bench = Bench::registered();
    bench.transfer(2, 40_000, 80);
    bench.actions();
    bench.claim(2, false);
    assert_eq!(bench.over(), Some(Refusal::Invalid));
    let mut bench = Bench::registered();
    bench.claim(3, true);
    bench.command(Command::Claimed(RequestId(3), socket()));
    bench.actions();
    bench.claim(3, true);
    assert_eq!(bench.over(), Some(Refusal::Invalid), "a connection that waits has this number");
}

#[test]
fn a_transfer_is_reported_and_answered_once() {
    let mut bench = Bench::registered();
    bench.transfer(2, 40_000, 80);
    assert!(matches!(bench.reported()[..], [event::Event::Transfer(RequestId(2), _)]));
    bench.command(Command::Transferred(RequestId(2)));
    assert!(matches!(bench.told()[..], [Notification::Transferred(_)]));
    bench.command(Command::Transferred(RequestId(2)));
    bench.command(Command::Failed { request: RequestId(2), why: Refusal::Aborted, detail: None });
    assert!(bench.actions().is_empty(), "it was answered");
}

#[test]
fn a_transfer_needs_a_connection_of_a_registered_service_that_does_not_move() {
    let mut bench = Bench::registered();
    bench.ask(transfer(2));
    assert_eq!(bench.refused(), (RequestId(2), Refusal::NoConnection));
    bench.handle(Event::Received(transfer(3).into(), Err(Refusal::StateNotSealed)));
    assert_eq!(bench.refused(), (RequestId(3), Refusal::StateNotSealed));
    bench.transfer(4, 40_000, 82);
    assert_eq!(bench.refused(), (RequestId(4), Refusal::NotRegistered));
    bench.transfer(5, 40_000, 81);
    bench.actions();
    bench.transfer(6, 40_000, 81);
    assert_eq!(bench.refused(), (RequestId(6), Refusal::AlreadyMoving));
    bench.command(Command::Failed { request: RequestId(5), why: Refusal::Aborted, detail: None });
    bench.actions();
    bench.transfer(7, 40_000, 81);
    assert_eq!(bench.reported().len(), 1);
}

#[test]
fn targets_are_told_whole_once_and_then_what_changes() {
    let mut bench = Bench::registered();
    bench.ask(subscribe(2, 80));
    assert!(matches!(bench.reported()[..], [event::Event::Subscribe(RequestId(2), s)] if s == service(80)));
    let mut tell = |names: &[&str]| {
        bench.command(Command::Targets(RequestId(2), targets(names)));
        bench.told()
    };
    let told = |first, added: &[&str], removed: &[&str]| {
        Notification::Targets(notification::Targets {
            request: Some(RequestId(2)),
            first,
            last: true,
            added: targets(added),
            removed: targets(removed),
        })
    };
    assert_eq!(tell(&[]), [told(true, &[], &[])]);
    assert_eq!(tell(&[]), []);
    assert_eq!(tell(&["a", "b"]), [told(false, &["a", "b"], &[])]);
    let Notification::Targets(part) = told(false, &["c"], &[]) else { unreachable!("made above") };
    let gone = notification::Targets { added: vec![], removed: targets(&["a"]), last: false, ..part.clone() };
    assert_eq!(tell(&["b", "c"]), [gone.into(), part.into()]);
}

#[test]
fn a_claim_is_answered_once_and_one_of_a_given_connection_expires_too() {
    let mut bench = Bench::registered();
    for given in [false, true] {
        let request = if given { 3 } else { 2 };
        bench.claim(request, given);
        assert!(matches!(bench.reported()[..], [event::Event::Claim(RequestId(of), _)] if of == request));
        for _ in 0..2 {
            bench.command(Command::Claimed(RequestId(request), socket()));
        }
        assert_eq!(bench.told(), [Claimed { request: RequestId(request) }.into()]);
    }
    let (at, _) = bench.machine.next_deadline().expect("a deadline");
    bench.now = at;
    bench.handle(Event::TimePassed);
    match &bench.actions()[..] {
        [Action::Tell(Notification::Failed(failed), _), Action::Report(event::Event::NotTaken(_))] => {
            assert_eq!((failed.request, failed.why), (RequestId(3), Refusal::NotTaken));
        }
        other => panic!("not closed: {other:?}"),
    }
    bench.claim(4, false);
    bench.actions();
    bench.command(Command::Failed { request: RequestId(4), why: Refusal::Aborted, detail: None });
    assert_eq!(bench.refused(), (RequestId(4), Refusal::Aborted));
}

#[test]
fn a_claim_needs_a_connection_of_a_registered_service() {
    let mut bench = Bench::registered();
    bench.ask(Claim { request: RequestId(2), given: false });
    assert_eq!(bench.refused(), (RequestId(2), Refusal::NoConnection));
    let held = Held { socket: socket(), connection: connection(40_000, 82) };
    let enclosed = Enclosed { connection: Some(held), ..Enclosed::default() };
    bench.handle(Event::Received(Claim { request: RequestId(3), given: false }.into(), Ok(enclosed)));
    assert_eq!(bench.refused(), (RequestId(3), Refusal::NotRegistered));
}

#[test]
fn an_application_says_of_its_own_registration_that_it_takes_offers() {
    let mut bench = Bench::silent();
    bench.ask(Register { takes_offers: Some(false), ..register(1) });
    match &bench.reported()[..] {
        [event::Event::Register(_, registration, _)] => assert!(!registration.takes_offers),
        other => panic!("not registered: {other:?}"),
    }
    bench.ask(TakesOffers { request: RequestId(2) });
    assert!(bench.actions().is_empty(), "no registration");
    bench.ask(TakesOffers { request: RequestId(1) });
    assert!(matches!(bench.reported()[..], [event::Event::TakesOffers(RequestId(1))]));
}

#[test]
fn what_an_application_can_make_the_agent_hold_is_bounded() {
    let mut bench = Bench::registered();
    let many = |limit: usize| u32::try_from(limit).expect("small");
    for i in 1..many(MAX_REGISTRATIONS) {
        bench.ask(register(1000 + i));
    }
    bench.actions();
    bench.ask(register(2000));
    assert_eq!(bench.refused(), (RequestId(2000), Refusal::TooMany));

    for i in 0..many(MAX_TRANSFERS) {
        bench.transfer(3000 + i, 10_000 + u16::try_from(i).expect("small"), 80);
    }
    assert_eq!(bench.reported().len(), MAX_TRANSFERS);
    bench.transfer(4000, 9_999, 80);
    assert_eq!(bench.refused(), (RequestId(4000), Refusal::TooMany));

    for i in 0..MAX_OFFERS {
        bench.offer(i as u64);
    }
    assert_eq!(bench.told().len(), MAX_OFFERS);
    bench.claim(6000, true);
    assert_eq!(bench.refused(), (RequestId(6000), Refusal::TooMany));
    for one_more in [Bench::offer, Bench::give] {
        one_more(&mut bench, 7000);
        let reported = bench.reported();
        assert!(
            matches!(
                reported[..],
                [event::Event::Answer(OfferId(7000), Answer::Rejected { why: Refusal::TargetBusy, .. })]
            ),
            "{reported:?}"
        );
    }
}

#[test]
fn a_long_list_of_targets_comes_in_parts() {
    let mut bench = Bench::registered();
    bench.ask(subscribe(2, 80));
    bench.actions();
    let names: Vec<String> = (0..600).map(|i| format!("job{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    bench.command(Command::Targets(RequestId(2), targets(&names)));
    let parts: Vec<_> = bench
        .told()
        .into_iter()
        .map(|told| match told {
            Notification::Targets(part) => (part.first, part.last, part.added.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(parts, [(true, false, 256), (false, false, 256), (false, true, 88)]);
}

#[test]
fn a_named_socket_is_one_that_clients_of_the_dvipa_can_reach() {
    let rows = [
        ("0.0.0.0:80", false, "198.18.9.1", true),
        ("198.18.9.1:80", false, "198.18.9.1", true),
        ("[::]:80", false, "198.18.9.1", true),
        ("[::]:80", true, "198.18.9.1", false),
        ("198.18.9.2:80", false, "198.18.9.1", false),
        ("0.0.0.0:82", false, "198.18.9.1", false),
        ("[::]:80", false, "2001:db8::1", true),
        ("[::]:80", true, "2001:db8::1", true),
        ("[2001:db8::1]:80", true, "2001:db8::1", true),
        ("[2001:db8::2]:80", true, "2001:db8::1", false),
        ("0.0.0.0:80", false, "2001:db8::1", false),
    ];
    for (bound, v6_only, dvipa, is_right) in rows {
        let mut bench = Bench::silent();
        let bound = bound.parse().expect("an address");
        let named = event::Named { cookie: crate::machine::Cookie(7), bound, v6_only };
        let enclosed = Enclosed { listener: Some((socket(), named)), ..Enclosed::default() };
        let register = Register { dvipa: Address(dvipa.parse().expect("an address")), ..register(1) };
        bench.handle(Event::Received(register.into(), Ok(enclosed)));
        if is_right {
            assert!(
                matches!(bench.reported()[..], [event::Event::Register(_, _, Some(_))]),
                "{bound} {dvipa}"
            );
        } else {
            assert_eq!(bench.refused(), (RequestId(1), Refusal::NoListener), "{bound} {dvipa}");
        }
    }
}

fn choose(request: u32, port: u16) -> Choose {
    let connection = WireConnection(connection(1000, port));
    Choose { request: RequestId(request), connection, jobs: vec![job()], besides: Vec::new() }
}

fn view(request: u32, port: u16) -> View {
    View { request: RequestId(request), dvipa: Address(dvipa()), port }
}

#[test]
fn a_question_about_targets_needs_a_registration_and_is_answered_once() {
    let mut bench = Bench::registered();
    for (request, question) in [(2, Request::from(choose(2, 82))), (3, view(3, 82).into())] {
        bench.ask(question);
        assert_eq!(bench.refused(), (RequestId(request), Refusal::NotRegistered));
    }
    let besides = targets(&["a"; MAX_CHOICE + 1]);
    bench.ask(Choose { besides, ..choose(4, 80) });
    assert_eq!(bench.refused(), (RequestId(4), Refusal::Invalid));
    bench.ask(choose(5, 80));
    let asked = bench.reported();
    let [event::Event::Choose(RequestId(5), choice)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((choice.connection, &choice.jobs[..]), (connection(1000, 80), &[job()][..]));
    let [target] = &targets(&["job"])[..] else { panic!("one") };
    for _ in 0..2 {
        bench.command(Command::Chosen(RequestId(5), target.clone()));
    }
    let told = bench.told();
    assert!(matches!(&told[..], [Notification::Chosen(m)] if m.target == *target), "{told:?}");
    bench.ask(choose(6, 80));
    bench.actions();
    bench.command(Command::Failed { request: RequestId(6), why: Refusal::NoTarget, detail: None });
    assert_eq!(bench.refused(), (RequestId(6), Refusal::NoTarget));
    for request in 0..MAX_TRANSFERS as u32 {
        bench.ask(view(10 + request, 81));
    }
    assert_eq!(bench.reported().len(), MAX_TRANSFERS);
    bench.ask(choose(9, 80));
    assert_eq!(bench.refused(), (RequestId(9), Refusal::TooMany));
    bench.ask(view(10, 81));
    assert_eq!(bench.over(), Some(Refusal::Invalid), "a number that is open");
}

#[test]
fn views_of_many_targets_come_in_parts() {
    let shown = |target| TargetView {
        target,
        state: TargetState::Ready,
        weight: 1,
        weight_from: WeightFrom::Equal,
        connections: 0,
        load: None,
        holds_accepts: false,
    };
    for (count, expected) in [(0, vec![(true, 0)]), (300, vec![(false, 256), (true, 44)])] {
        let mut bench = Bench::registered();
        bench.ask(view(2, 80));
        bench.actions();
        let views: Vec<_> = targets(&vec!["a"; count]).into_iter().map(shown).collect();
        bench.command(Command::Views(RequestId(2), views));
        let part = |told| match told {
            Notification::Views(part) => (part.last, part.views.len()),
            other => panic!("{other:?}"),
        };
        assert_eq!(bench.told().into_iter().map(part).collect::<Vec<_>>(), expected);
    }
}
