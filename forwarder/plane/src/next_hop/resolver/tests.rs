use super::*;

const T1: StackIndex = StackIndex(1);
const OLD: Mac = Mac([2, 0, 0, 0, 0, 1]);
const NEW: Mac = Mac([2, 0, 0, 0, 0, 2]);
const HOST: &str = "198.18.0.21";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(mac: Mac) -> Seen {
    Seen::At { mac, trust: Trust::Fresh }
}

fn ways(mac: Option<Mac>, mtu: Option<u16>, silent: &[StackIndex]) -> Action {
    let mut neighbours = Neighbours::new();
    if let Some(mac) = mac {
        neighbours.set(T1, Family::V4, mac);
    }
    if let Some(mtu) = mtu {
        neighbours.set_mtu(T1, Family::V4, mtu);
    }
    Action::Publish(Known { neighbours, silent: silent.to_vec() })
}

fn table(mac: Mac) -> Action {
    ways(Some(mac), None, &[])
}

/// A resolver and the moment that it starts at; `say` returns what it does about an event.
struct Bench(Resolver, Instant);

impl Bench {
    fn wanting(address: &str) -> Self {
        let mut bench = Bench(Resolver::default(), Instant::now());
        assert_eq!(bench.want(address, StackState::Up), [Action::LookUp(ip(address))]);
        bench
    }

    fn resolved() -> Self {
        let mut bench = Self::wanting(HOST);
        bench.route(HOST, Some(HOST));
        assert_eq!(bench.say(Event::Seen(ip(HOST), at(OLD))), [table(OLD)]);
        bench
    }

    fn want(&mut self, address: &str, state: StackState) -> Vec<Action> {
        self.say(Event::Wanted(vec![Wanted { stack: T1, address: ip(address), state }]))
    }

    fn say(&mut self, event: Event) -> Vec<Action> {
        self.0.handle(event, self.1);
        std::iter::from_fn(|| self.0.poll()).collect()
    }

    fn see(&mut self, seen: Seen) -> Vec<Action> {
        self.say(Event::Seen(ip(HOST), seen))
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
    bench.see(at(OLD));
    bench.want(HOST, StackState::Up);
    assert_eq!(bench.route(HOST, Some(HOST)), [table(OLD)]);
}

#[test]
fn the_old_address_stays_in_force_while_it_is_confirmed() {
    let mut bench = Bench::resolved();
    assert_eq!(bench.see(Seen::At { mac: OLD, trust: Trust::Stale }), [Action::Probe(ip(HOST))]);
    assert_eq!(bench.see(Seen::Resolving), []);
    assert_eq!(bench.see(at(NEW)), [table(NEW)]);
}

#[test]
fn a_neighbour_that_does_not_answer_keeps_its_address_and_is_probed_until_it_does() {
    let mut bench = Bench::resolved();
    assert_eq!(bench.see(Seen::Silent), [], "a loaded host may not answer in time, and serve");
    bench.wait();
    assert_eq!(bench.wait(), [Action::Probe(ip(HOST))]);
    assert_eq!(bench.wait(), [Action::Probe(ip(HOST))]);
    assert_eq!(bench.see(at(NEW)), [table(NEW)]);
    bench.wait();
    assert_eq!(bench.wait(), []);
}

#[test]
fn a_neighbour_that_the_kernel_forgets_keeps_its_address_and_is_probed() {
    let mut bench = Bench::resolved();
    assert_eq!(bench.see(Seen::Gone), [Action::Probe(ip(HOST))]);
    bench.say(Event::Wanted(vec![]));
    bench.see(Seen::Gone);
    bench.want(HOST, StackState::Up);
    assert_eq!(bench.route(HOST, Some(HOST)), [Action::Probe(ip(HOST))], "unless nobody uses it");
}

#[test]
fn the_host_of_a_lost_stack_is_asked_and_is_silent_once_it_does_not_answer() {
    let mut bench = Bench::resolved();
    assert_eq!(bench.want(HOST, StackState::Lost), [Action::Confirm(ip(HOST))]);
    assert_eq!(bench.want(HOST, StackState::Lost), [], "once");
    let asked_again: Vec<Action> = (0..5).flat_map(|_| bench.wait()).collect();
    assert_eq!(asked_again, [Action::Confirm(ip(HOST))], "it may die later");
    assert_eq!(bench.see(Seen::Silent), [ways(Some(OLD), None, &[T1])]);
    assert_eq!(bench.want(HOST, StackState::Dead), [ways(None, None, &[T1])], "nothing is sent to the dead");
    assert_eq!(bench.see(at(OLD)), [table(OLD)], "it is back");
    bench.want(HOST, StackState::Up);
    assert_eq!(bench.0.wanted[0].state, StackState::Up);
}

#[test]
fn the_silence_of_a_router_or_of_a_written_down_neighbour_proves_nothing() {
    let mut bench = Bench::wanting("192.0.2.1");
    let gateway = ip("198.18.0.254");
    bench.route("192.0.2.1", Some("198.18.0.254"));
    bench.say(Event::Seen(gateway, at(OLD)));
    assert_eq!(bench.want("192.0.2.1", StackState::Lost), []);
    assert_eq!(bench.say(Event::Seen(gateway, Seen::Silent)), []);
    let mut bench = Bench::resolved();
    bench.see(Seen::At { mac: OLD, trust: Trust::Fixed });
    assert_eq!(bench.want(HOST, StackState::Lost), []);
}

#[test]
fn a_path_mtu_is_believed_for_a_while_and_only_of_stacks() {
    let mut bench = Bench::resolved();
    let too_big = |address, mtu| Event::TooBig { destination: ip(address), mtu, owner: Some(T1) };
    assert_eq!(bench.say(too_big("198.18.0.99", 1400)), []);
    assert_eq!(bench.say(too_big(HOST, 1400)), [ways(Some(OLD), Some(1400), &[])]);
    assert_eq!(bench.say(too_big(HOST, 1450)), [], "the least counts");
    assert_eq!(bench.say(too_big(HOST, 68)), [ways(Some(OLD), Some(LEAST_MTU), &[])]);
    bench.1 += MTU_LIFE;
    assert_eq!(bench.say(Event::Tick), [table(OLD)]);
    assert_eq!(bench.0.next_deadline(), None);
}

#[test]
fn a_message_about_no_packet_of_the_stacks_makes_packets_little_smaller() {
    let mut bench = Bench::resolved();
    let too_big = |mtu, owner| Event::TooBig { destination: ip(HOST), mtu, owner };
    let other = StackIndex(T1.0 + 1);
    for owner in [None, Some(other)] {
        bench.say(too_big(68, owner));
        assert_eq!(bench.0.mtus.get(&ip(HOST)).map(|known| known.0), Some(LEAST_UNPROVEN_MTU));
    }
    bench.say(too_big(1300, Some(T1)));
    bench.1 += MTU_LIFE / 2;
    bench.say(too_big(68, None));
    bench.1 += MTU_LIFE / 2;
    bench.say(Event::Tick);
    assert!(bench.0.mtus.is_empty(), "nor does it prolong what is known");
}

#[test]
fn without_a_route_there_is_no_way_and_it_is_looked_up_again() {
    let mut bench = Bench::wanting(HOST);
    assert_eq!(bench.route(HOST, None), []);
    assert_eq!(bench.wait(), [Action::LookUp(ip(HOST))]);
}

#[test]
fn a_changed_route_moves_the_stack_to_another_next_hop() {
    let mut bench = Bench::resolved();
    bench.say(Event::Seen(ip("198.18.0.254"), at(NEW)));
    assert_eq!(bench.say(Event::RoutesChanged), [Action::LookUp(ip(HOST))]);
    assert_eq!(bench.route(HOST, Some("198.18.0.254")), [table(NEW)]);
}

#[test]
fn what_nobody_wants_is_forgotten_and_late_answers_change_nothing() {
    let mut bench = Bench::resolved();
    assert_eq!(bench.say(Event::Wanted(vec![])), [Action::Publish(Known::default())]);
    assert_eq!(bench.route(HOST, Some(HOST)), []);
}
