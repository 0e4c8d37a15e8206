use channel::Peer;
use model::control_socket::JobName;

use super::*;
use crate::control_socket::{Named, Rule};

const FIRST: ApplicationId = ApplicationId(1);
const SECOND: ApplicationId = ApplicationId(2);
const REQUEST: RequestId = RequestId(1);

fn dvipa() -> Dvipa {
    Dvipa::new("198.18.9.1".parse().unwrap())
}

fn stack(name: &str) -> StackName {
    name.parse().unwrap()
}

fn registration(role: Role, job: &str) -> Registration {
    let peer = Peer { pid: 1, uid: 0, gid: 0 };
    let job = JobName::new(job).unwrap();
    Registration {
        peer,
        role,
        job,
        dvipa: dvipa(),
        ports: vec![80],
        hold_accepts: false,
        listener: None,
        takes_offers: true,
    }
}

fn service() -> Service {
    Service { dvipa: dvipa(), port: 80, protocol: Protocol::Tcp }
}

fn directory(own: &str) -> Directory {
    Directory::new(stack(own), Rules { own: 0, rules: Vec::new() }, Left::new(), Instant::now())
}

fn owned_by(name: &str) -> BTreeMap<Dvipa, StackName> {
    [(dvipa(), stack(name))].into()
}

#[test]
fn a_routing_application_waits_until_its_stack_owns_the_dvipa_and_again_when_it_does_not() {
    let mut directory = directory("rt2");
    directory.owned(owned_by("rt1"));
    let answer = directory.register(FIRST, REQUEST, registration(Role::Routing, "router"));
    assert!(matches!(answer, Command::Waiting(REQUEST)));
    assert!(directory.owned(owned_by("rt1")).is_empty());
    assert!(matches!(directory.owned(owned_by("rt2"))[..], [(FIRST, Command::Registered(REQUEST))]));
    assert!(matches!(directory.owned(owned_by("rt1"))[..], [(FIRST, Command::Waiting(REQUEST))]));
}

#[test]
fn a_connection_without_a_job_is_for_the_routing_application_in_force() {
    let mut directory = directory("rt1");
    directory.register(FIRST, REQUEST, registration(Role::Routing, "router"));
    directory.register(SECOND, REQUEST, registration(Role::Target, "worker"));
    let found = |directory: &mut Directory, job| directory.find(service(), job).map(|(who, _)| who);
    assert_eq!(found(&mut directory, None), Some(SECOND), "the router waits");
    directory.owned(owned_by("rt1"));
    assert_eq!(found(&mut directory, None), Some(FIRST));
    assert_eq!(found(&mut directory, Some("worker")), Some(SECOND));
    assert_eq!(found(&mut directory, Some("none")), None);
    directory.ended(SECOND);
    assert_eq!(found(&mut directory, Some("worker")), None);
}

#[test]
fn a_subscriber_is_told_the_owners_list_or_after_a_while_that_there_is_none() {
    let now = Instant::now();
    let mut directory = directory("t1");
    directory.owned(owned_by("rt1"));
    assert!(directory.subscribe(FIRST, REQUEST, service(), now).is_none());
    assert!(directory.time_passed(now).is_empty());
    let due = directory.next_deadline().unwrap();
    assert!(
        matches!(&directory.time_passed(due)[..], [(FIRST, Command::Targets(_, none))] if none.is_empty())
    );
    let list = || Targets {
        dvipa: Address(dvipa().address()),
        epoch: Epoch(1),
        port: 80,
        targets: vec!["worker@t2".parse().unwrap()],
    };
    assert!(directory.hear(&stack("rt2"), list()).is_empty(), "it does not own the DVIPA");
    assert!(
        matches!(&directory.hear(&stack("rt1"), list())[..], [(FIRST, Command::Targets(_, all))] if all.len() == 1)
    );
    assert!(directory.subscribe(SECOND, REQUEST, service(), now).is_some(), "known by now");
}

#[test]
fn a_routing_stack_is_told_once_and_at_each_change_and_again_in_a_new_session() {
    let mut directory = directory("t1");
    let rt1 = stack("rt1");
    let listing = || [(&rt1, dvipa(), Epoch(1))].into_iter();
    let told = |news: Vec<(StackName, FromStack)>| match &news[..] {
        [] => None,
        [(_, FromStack::Applications(m))] => Some(m.applications.len()),
        other => panic!("{other:?}"),
    };
    let (none, held) = (BTreeSet::new(), BTreeSet::from([(dvipa(), 80)]));
    assert_eq!(told(directory.news(listing(), &none)), None, "there is nothing to say");
    directory.register(FIRST, REQUEST, registration(Role::Target, "worker"));
    assert_eq!(told(directory.news(listing(), &none)), Some(1));
    assert_eq!(told(directory.news(listing(), &none)), None);
    assert_eq!(told(directory.news(std::iter::empty(), &none)), None);
    assert_eq!(told(directory.news(listing(), &none)), Some(1), "a new session");
    assert_eq!(told(directory.news(listing(), &held)), Some(2), "a listener holds accepts back");
    directory.register(SECOND, REQUEST, registration(Role::Routing, "waits"));
    assert_eq!(told(directory.news(listing(), &held)), None, "nobody's target");
    directory.ended(FIRST);
    assert_eq!(told(directory.news(listing(), &none)), Some(0));
}

#[test]
fn routing_applications_that_share_a_port_are_given_its_connections_back_in_turn() {
    let mut directory = directory("rt1");
    directory.owned(owned_by("rt1"));
    for (who, job) in [(FIRST, "router"), (SECOND, "other")] {
        let answer = directory.register(who, REQUEST, registration(Role::Routing, job));
        assert!(matches!(answer, Command::Registered(REQUEST)));
    }
    let mut found = |job| directory.find(service(), job).map(|(who, _)| who).expect("one");
    let turns: Vec<_> = (0..4).map(|_| found(None)).collect();
    assert!(turns == [FIRST, SECOND, FIRST, SECOND] || turns == [SECOND, FIRST, SECOND, FIRST], "{turns:?}");
    assert_eq!([found(Some("other")), found(Some("other"))], [SECOND, SECOND]);
}

#[test]
fn the_name_of_servers_without_a_control_socket_is_no_applications() {
    let answer = directory("t1").register(FIRST, REQUEST, registration(Role::Target, "listener"));
    assert!(matches!(answer, Command::Failed { why: Refusal::Invalid, detail: Some(_), .. }));
}

fn naming(role: Role, job: &str, cookie: u64) -> Registration {
    let named = Named { cookie: Cookie(cookie), bound: "0.0.0.0:80".parse().unwrap(), v6_only: false };
    Registration { ports: vec![80, 443], listener: Some(named), ..registration(role, job) }
}

/// The open sockets of a port, and whether others hold; `None`: all take clients.
fn takers(directory: &Directory, port: u16) -> Option<(Vec<u64>, bool)> {
    let takers = directory.takers();
    let of = takers.get(&(dvipa(), port))?;
    Some((of.open.iter().map(|cookie| cookie.0).collect(), of.holds))
}

#[test]
fn a_target_that_holds_accepts_back_closes_the_socket_that_it_names_or_else_its_port() {
    let mut directory = directory("t1");
    directory.register(FIRST, REQUEST, registration(Role::Target, "worker"));
    assert_eq!(takers(&directory, 80), None);
    let holding = Registration { hold_accepts: true, ..registration(Role::Target, "holding") };
    directory.register(SECOND, REQUEST, holding);
    assert_eq!(takers(&directory, 80), Some((vec![], true)));
    directory.ended(SECOND);
    let holding = Registration { hold_accepts: true, ..naming(Role::Target, "holding", 7) };
    directory.register(SECOND, REQUEST, holding);
    directory.register(ApplicationId(3), REQUEST, naming(Role::Target, "open", 8));
    assert_eq!(takers(&directory, 80), Some((vec![8], true)));
    assert_eq!(takers(&directory, 443), Some((vec![], true)), "all of its ports are held");
    directory.ended(SECOND);
    assert_eq!(takers(&directory, 80), Some((vec![8], false)));
    assert_eq!(takers(&directory, 443), None);
}

#[test]
fn a_waiting_routing_applications_socket_takes_no_client_until_its_stack_owns_the_dvipa() {
    let mut directory = directory("rt2");
    directory.register(FIRST, REQUEST, naming(Role::Routing, "router", 7));
    assert_eq!(takers(&directory, 80), Some((vec![], false)), "nobody is known to own it");
    directory.owned(owned_by("rt2"));
    assert_eq!(takers(&directory, 80), Some((vec![7], false)));
    directory.owned(BTreeMap::new());
    assert_eq!(takers(&directory, 80), Some((vec![7], false)), "as before, while nobody owns it");
    directory.owned(owned_by("rt1"));
    assert_eq!(takers(&directory, 80), Some((vec![], false)));
}

#[test]
fn what_took_clients_before_a_restart_does_so_until_its_application_is_back() {
    let (now, rules) = (Instant::now(), Rules { own: 0, rules: Vec::new() });
    let left = Left::from([((dvipa(), 80), BTreeSet::from([Cookie(7), Cookie(8)]))]);
    let mut directory = Directory::new(stack("rt1"), rules, left, now);
    assert_eq!(takers(&directory, 80), Some((vec![7, 8], false)));
    directory.register(FIRST, REQUEST, naming(Role::Routing, "router", 7));
    directory.register(SECOND, REQUEST, naming(Role::Routing, "new", 9));
    assert_eq!(takers(&directory, 80), Some((vec![7, 8], false)), "who owns the DVIPA is not known");
    directory.owned(owned_by("rt1"));
    assert_eq!(takers(&directory, 80), Some((vec![7, 8, 9], false)));
    directory.time_passed(directory.next_deadline().unwrap());
    assert_eq!(takers(&directory, 80), Some((vec![7, 9], false)), "8 did not come back");
}

#[test]
fn a_connection_is_for_an_application_that_takes_offers_if_there_is_one() {
    let mut directory = directory("rt1");
    directory.owned(owned_by("rt1"));
    let silent = Registration { takes_offers: false, ..registration(Role::Routing, "router") };
    directory.register(FIRST, REQUEST, silent);
    let takes = |directory: &mut Directory| {
        let (application, registration) = directory.find(service(), None).expect("one");
        (application, registration.takes_offers)
    };
    assert_eq!(takes(&mut directory), (FIRST, false), "so that the one that asks is told why not");
    directory.register(SECOND, REQUEST, registration(Role::Target, "pages"));
    assert_eq!(takes(&mut directory), (SECOND, true));
    directory.takes_offers(FIRST, REQUEST);
    assert_eq!(takes(&mut directory), (FIRST, true));
}

#[test]
fn two_processes_of_one_job_are_offered_connections_in_turn_and_another_user_none() {
    let mut directory = directory("t1");
    for who in [FIRST, SECOND] {
        let answer = directory.register(who, REQUEST, registration(Role::Target, "images"));
        assert!(matches!(answer, Command::Registered(REQUEST)));
    }
    let mut found = |job| directory.find(service(), job).map(|(who, _)| who).expect("one");
    let turns: Vec<_> = (0..4).map(|_| found(Some("images"))).collect();
    assert_eq!(turns, [FIRST, SECOND, FIRST, SECOND]);
    let turns: BTreeSet<_> = (0..2).map(|_| found(None)).collect();
    assert_eq!(turns, [FIRST, SECOND].into());
    let stranger =
        Registration { peer: Peer { pid: 2, uid: 1000, gid: 1000 }, ..registration(Role::Target, "images") };
    let answer = directory.register(ApplicationId(3), REQUEST, stranger.clone());
    assert!(matches!(answer, Command::Failed { why: Refusal::NotPermitted, detail: Some(_), .. }));
    let rule = Rule {
        users: [1000].into(),
        group: None,
        dvipas: None,
        ports: None,
        jobs: None,
        role: Role::Target,
        hold_accepts: false,
    };
    directory.rule(Rules { own: 0, rules: vec![rule] });
    let answer = directory.register(ApplicationId(3), REQUEST, stranger.clone());
    assert!(matches!(answer, Command::Failed { why: Refusal::JobTaken, .. }));
    directory.ended(FIRST);
    directory.ended(SECOND);
    let answer = directory.register(ApplicationId(3), REQUEST, stranger);
    assert!(matches!(answer, Command::Registered(REQUEST)), "it is nobody's any more");
}

#[test]
fn what_took_clients_before_a_restart_takes_none_once_its_application_has_come_back_and_ended() {
    let rules = Rules { own: 0, rules: Vec::new() };
    let left = Left::from([
        ((dvipa(), 80), BTreeSet::from([Cookie(7), Cookie(8)])),
        ((dvipa(), 443), BTreeSet::new()),
        ((dvipa(), 444), BTreeSet::from([Cookie(9)])),
    ]);
    let mut directory = Directory::new(stack("t1"), rules, left, Instant::now());
    directory.register(FIRST, REQUEST, naming(Role::Target, "worker", 7));
    assert_eq!(takers(&directory, 80), Some((vec![7, 8], false)));
    assert_eq!(takers(&directory, 443), None, "nobody holds it any longer");
    directory.ended(FIRST);
    assert_eq!(takers(&directory, 80), Some((vec![8], false)));
    directory.register(SECOND, REQUEST, naming(Role::Target, "worker", 8));
    directory.ended(SECOND);
    assert_eq!(takers(&directory, 80), None, "all of them take clients again");
    assert_eq!(takers(&directory, 444), Some((vec![9], false)), "of no concern to them");
}

#[test]
fn nothing_is_left_of_a_registration_that_could_not_be_kept() {
    let mut directory = directory("rt1");
    directory.owned(owned_by("rt1"));
    directory.register(FIRST, REQUEST, naming(Role::Routing, "router", 7));
    assert_eq!(takers(&directory, 80), Some((vec![7], false)));
    directory.unregister(FIRST, REQUEST);
    assert_eq!(takers(&directory, 80), None);
    assert_eq!(directory.registrations().count(), 0);
    directory.register(FIRST, REQUEST, naming(Role::Routing, "router", 7));
    directory.unregister(FIRST, RequestId(2));
    assert_eq!(directory.registrations().count(), 1, "another one");
}

#[test]
fn an_application_is_called_what_it_has_registered_as_and_is_in_force() {
    let mut directory = directory("rt1");
    directory.register(FIRST, REQUEST, registration(Role::Target, "worker"));
    directory.register(SECOND, REQUEST, registration(Role::Routing, "router"));
    let [worker, router] = ["worker", "router"].map(|name| JobName::new(name).unwrap());
    assert!(directory.is_called(FIRST, service(), &worker));
    assert!(!directory.is_called(FIRST, service(), &router));
    assert!(!directory.is_called(SECOND, service(), &worker));
    assert!(!directory.is_called(FIRST, Service { port: 81, ..service() }, &worker));
    assert!(!directory.is_called(SECOND, service(), &router), "it waits");
    directory.owned(owned_by("rt1"));
    assert!(directory.is_called(SECOND, service(), &router));
}

#[test]
fn processes_that_share_a_socket_are_let_in_one_after_the_other_after_a_restart() {
    let rules = Rules { own: 0, rules: Vec::new() };
    let left = Left::from([((dvipa(), 80), BTreeSet::from([Cookie(7), Cookie(8)]))]);
    let mut directory = Directory::new(stack("rt1"), rules, left, Instant::now());
    directory.register(FIRST, REQUEST, naming(Role::Routing, "router", 7));
    directory.register(SECOND, REQUEST, naming(Role::Routing, "router", 7));
    directory.ended(FIRST);
    assert_eq!(takers(&directory, 80), Some((vec![7, 8], false)), "the other one has it still");
    directory.ended(SECOND);
    assert_eq!(takers(&directory, 80), Some((vec![8], false)));
}
