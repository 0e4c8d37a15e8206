use super::*;

const T1: StackIndex = StackIndex(1);
const OLD: Mac = Mac([2, 0, 0, 0, 0, 1]);
const NEW: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(mac: Mac) -> Seen {
    Seen::At { mac, stale: false }
}

fn table(mac: Mac) -> Action {
    let mut table = Neighbours::new();
    table.set(T1, Family::V4, mac);
    Action::Publish(table)
}

/// A resolver and the moment that it starts at; `say` returns what it does about an event.
struct Bench(Resolver, Instant);

impl Bench {
    fn wanting(address: &str) -> Self {
        let mut bench = Bench(Resolver::default(), Instant::now());
        assert_eq!(bench.say(Event::Wanted(vec![(T1, ip(address))])), [Action::LookUp(ip(address))]);
        bench
    }

    fn resolved() -> Self {
        let mut bench = Self::wanting("198.18.0.21");
        bench.route("198.18.0.21", Some("198.18.0.21"));
        assert_eq!(bench.say(Event::Seen(ip("198.18.0.21"), at(OLD))), [table(OLD)]);
        bench
    }

    fn say(&mut self, event: Event) -> Vec<Action> {
        self.0.handle(event, self.1);
        std::iter::from_fn(|| self.0.poll()).collect()
    }

    fn route(&mut self, destination: &str, next_hop: Option<&str>) -> Vec<Action> {
        self.say(Event::Routed { destination: ip(destination), next_hop: next_hop.map(ip) })
    }

    fn wait(&mut self) -> Vec<Action> {
        self.1 += RETRY;
        self.say(Event::Tick)
    }
}

#[test]
fn a_stack_behind_a_gateway_gets_the_gateways_address() {
    let mut bench = Bench::wanting("192.0.2.1");
    let gateway = ip("198.18.0.254");
    assert_eq!(bench.route("192.0.2.1", Some("198.18.0.254")), [Action::Probe(gateway)]);
    assert_eq!(bench.say(Event::Seen(gateway, Seen::Resolving)), []);
    assert_eq!(bench.say(Event::Seen(gateway, at(OLD))), [table(OLD)]);
    assert_eq!(bench.0.next_deadline().map(|_| bench.wait()), Some(vec![]));
    assert_eq!(bench.0.next_deadline(), None, "nothing is missing");
}

#[test]
fn a_neighbour_that_is_known_already_is_not_probed() {
    let mut bench = Bench(Resolver::default(), Instant::now());
    bench.say(Event::Seen(ip("198.18.0.21"), at(OLD)));
    bench.say(Event::Wanted(vec![(T1, ip("198.18.0.21"))]));
    assert_eq!(bench.route("198.18.0.21", Some("198.18.0.21")), [table(OLD)]);
}

#[test]
fn the_old_address_stays_in_force_while_it_is_confirmed() {
    let mut bench = Bench::resolved();
    let target = ip("198.18.0.21");
    let stale = Event::Seen(target, Seen::At { mac: OLD, stale: true });
    assert_eq!(bench.say(stale), [Action::Probe(target)]);
    assert_eq!(bench.say(Event::Seen(target, Seen::Resolving)), []);
    assert_eq!(bench.say(Event::Seen(target, at(NEW))), [table(NEW)]);
}

#[test]
fn a_neighbour_that_does_not_answer_is_withdrawn_and_probed_until_it_does() {
    let mut bench = Bench::resolved();
    let target = ip("198.18.0.21");
    assert_eq!(bench.say(Event::Seen(target, Seen::Gone)), [Action::Publish(Neighbours::new())]);
    bench.wait();
    assert_eq!(bench.wait(), [Action::Probe(target)]);
    assert_eq!(bench.wait(), [Action::Probe(target)]);
    assert_eq!(bench.say(Event::Seen(target, at(NEW))), [table(NEW)]);
}

#[test]
fn without_a_route_there_is_no_way_and_it_is_looked_up_again() {
    let mut bench = Bench::wanting("198.18.0.21");
    assert_eq!(bench.route("198.18.0.21", None), []);
    assert_eq!(bench.wait(), [Action::LookUp(ip("198.18.0.21"))]);
}

#[test]
fn a_changed_route_moves_the_stack_to_another_next_hop() {
    let mut bench = Bench::resolved();
    bench.say(Event::Seen(ip("198.18.0.254"), at(NEW)));
    assert_eq!(bench.say(Event::RoutesChanged), [Action::LookUp(ip("198.18.0.21"))]);
    assert_eq!(bench.route("198.18.0.21", Some("198.18.0.254")), [table(NEW)]);
}

#[test]
fn what_nobody_wants_is_forgotten_and_late_answers_change_nothing() {
    let mut bench = Bench::resolved();
    assert_eq!(bench.say(Event::Wanted(vec![])), [Action::Publish(Neighbours::new())]);
    assert_eq!(bench.route("198.18.0.21", Some("198.18.0.21")), []);
}
