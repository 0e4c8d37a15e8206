use channel::Peer;
use model::control_socket::JobName;

use super::*;

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
    Registration { peer, role, job, dvipa: dvipa(), ports: vec![80], hold_accepts: false, takes_offers: true }
}

fn service() -> Service {
    Service { dvipa: dvipa(), port: 80, protocol: Protocol::Tcp }
}

fn connection() -> Connection {
    Connection::new(Protocol::Tcp, "198.18.0.2:4000".parse().unwrap(), "198.18.9.1:80".parse().unwrap())
        .unwrap()
}

fn owned_by(name: &str) -> BTreeMap<Dvipa, StackName> {
    [(dvipa(), stack(name))].into()
}

#[test]
fn a_routing_application_waits_until_its_stack_owns_the_dvipa_and_again_when_it_does_not() {
    let mut directory = Directory::new(stack("rt2"));
    directory.owned(owned_by("rt1"));
    let answer = directory.register(FIRST, REQUEST, registration(Role::Routing, "router"));
    assert!(matches!(answer, Command::Waiting(REQUEST)));
    let answer = directory.register(SECOND, REQUEST, registration(Role::Routing, "other"));
    assert!(matches!(answer, Command::Failed { why: Refusal::Taken, .. }));
    assert!(directory.owned(owned_by("rt1")).is_empty());
    assert!(matches!(directory.owned(owned_by("rt2"))[..], [(FIRST, Command::Registered(REQUEST))]));
    assert!(matches!(directory.owned(owned_by("rt1"))[..], [(FIRST, Command::Waiting(REQUEST))]));
}

#[test]
fn a_connection_without_a_job_is_for_the_routing_application_in_force() {
    let mut directory = Directory::new(stack("rt1"));
    directory.register(FIRST, REQUEST, registration(Role::Routing, "router"));
    directory.register(SECOND, REQUEST, registration(Role::Target, "worker"));
    let found = |directory: &Directory, job| directory.find(&connection(), job).map(|(who, _)| who);
    assert_eq!(found(&directory, None), Some(SECOND), "the router waits");
    directory.owned(owned_by("rt1"));
    assert_eq!(found(&directory, None), Some(FIRST));
    assert_eq!(found(&directory, Some("worker")), Some(SECOND));
    assert_eq!(found(&directory, Some("none")), None);
    directory.ended(SECOND);
    assert_eq!(found(&directory, Some("worker")), None);
}

#[test]
fn a_subscriber_is_told_the_owners_list_or_after_a_while_that_there_is_none() {
    let now = Instant::now();
    let mut directory = Directory::new(stack("t1"));
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
    let mut directory = Directory::new(stack("t1"));
    let rt1 = stack("rt1");
    let listing = || [(&rt1, dvipa(), Epoch(1))].into_iter();
    let told = |news: Vec<(StackName, Message)>| match &news[..] {
        [] => None,
        [(_, Message::Applications(m))] => Some(m.applications.len()),
        other => panic!("{other:?}"),
    };
    assert_eq!(told(directory.news(listing())), None, "there is nothing to say");
    directory.register(FIRST, REQUEST, registration(Role::Target, "worker"));
    assert_eq!(told(directory.news(listing())), Some(1));
    assert_eq!(told(directory.news(listing())), None);
    assert_eq!(told(directory.news(std::iter::empty())), None);
    assert_eq!(told(directory.news(listing())), Some(1), "a new session");
    directory.ended(FIRST);
    assert_eq!(told(directory.news(listing())), Some(0));
}

#[test]
fn ports_whose_accepts_are_held_are_those_of_targets_that_say_so() {
    let mut directory = Directory::new(stack("t1"));
    directory.register(FIRST, REQUEST, registration(Role::Target, "worker"));
    assert!(directory.held().is_empty());
    let holding = Registration { hold_accepts: true, ..registration(Role::Target, "holding") };
    directory.register(SECOND, REQUEST, holding);
    assert_eq!(directory.held(), [(dvipa(), 80)].into());
}

#[test]
fn a_connection_is_for_an_application_that_takes_offers_if_there_is_one() {
    let mut directory = Directory::new(stack("rt1"));
    directory.owned(owned_by("rt1"));
    let silent = Registration { takes_offers: false, ..registration(Role::Routing, "router") };
    directory.register(FIRST, REQUEST, silent);
    let takes = |directory: &Directory| {
        let (application, registration) = directory.find(&connection(), None).expect("one");
        (application, registration.takes_offers)
    };
    assert_eq!(takes(&directory), (FIRST, false), "so that whoever asks is told why not");
    directory.register(SECOND, REQUEST, registration(Role::Target, "pages"));
    assert_eq!(takes(&directory), (SECOND, true));
    directory.takes_offers(FIRST, REQUEST);
    assert_eq!(takes(&directory), (FIRST, true));
}
