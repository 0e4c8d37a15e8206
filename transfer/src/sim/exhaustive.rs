//! Everything that can happen, for small bounds: the model checker visits every state that the [`World`] can reach, in
//! whatever order things happen, and asks each the same as the walks do.

use std::hash::{DefaultHasher, Hash, Hasher};

use model::transfer::Consent;
use stateright::{Checker, HasDiscoveries, Model, Property};

use super::process::Noted;
use super::world::{Choice, World};
use super::{Fault, Settings};
use crate::taking::Standing;

/// A state, known by the hash of all but the hour.
#[derive(Clone, Debug)]
struct State {
    world: World,
    fingerprint: u64,
}

impl From<World> for State {
    fn from(world: World) -> Self {
        let mut hasher = DefaultHasher::new();
        world.hash(&mut hasher);
        Self { world, fingerprint: hasher.finish() }
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fingerprint.hash(state);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

const ONE_OWNER: &str = "one owner, and nothing that a client could notice";
const SETTLES: &str = "from here everything settles";
const MOVES: &str = "the connection moves";

/// What is said of a world in which no connection ever moves.
const NOTHING_MOVES: &str = "nothing moves";

/// What can come of this world.
struct Bounded(World);

impl Model for Bounded {
    type State = State;
    type Action = Choice;

    fn init_states(&self) -> Vec<State> {
        vec![self.0.clone().into()]
    }

    fn actions(&self, State { world, .. }: &State, choices: &mut Vec<Choice>) {
        if world.wrong.is_none() {
            choices.extend(world.choices());
        }
    }

    fn next_state(&self, State { world, .. }: &State, choice: Choice) -> Option<State> {
        let mut next = world.clone();
        next.apply(&choice);
        Some(next.into())
    }

    /// A source that never hears why its request failed asks for ever: twice is often enough, and where a process dies, once
    /// of each routing stack.
    fn within_boundary(&self, State { world, .. }: &State) -> bool {
        let often = if self.0.settings.kills == 0 { 2 } else { 1 };
        world.node.as_ref().is_none_or(|node| node.machine.begun() <= often)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_OWNER, |_, State { world, .. }: &State| world.wrong.is_none()),
            Property::always(SETTLES, |_, State { world, .. }: &State| world.settle().is_ok()),
            Property::sometimes(MOVES, |_, State { world, .. }: &State| {
                world.hosts[1].kernel.slots[0].owns() && world.hosts[1].is_quiet(world.now)
            }),
        ]
    }
}

/// One connection, two hosts, one transfer.
fn bounds() -> Settings {
    Settings {
        hosts: 2,
        flows: 1,
        bytes: 1,
        packets: 0,
        asks: 1,
        copies: false,
        consent: Consent::Asked,
        state: true,
        answers: true,
        quits: false,
        gives_last: false,
        kills: 0,
        mortal: None,
        outlives: false,
        hosts_crash: false,
        breaks: false,
        cancels: false,
        impatient: false,
        listeners: &[],
        room: None,
        shut_room: None,
        slow: false,
        waits: false,
        unread: false,
        fault: None,
    }
}

/// The target's agent dies, and what was said to it reaches its next run. Nobody is asked, which leaves fewer orders.
fn late_words() -> Settings {
    let (kills, mortal) = (1, Some(Some(1)));
    Settings {
        kills,
        mortal,
        outlives: true,
        cancels: true,
        consent: Consent::Presumed,
        state: false,
        ..bounds()
    }
}

/// The target has no control socket, and the client is silent: it has sent all that it will.
fn injection() -> Settings {
    Settings { listeners: &[1], unread: true, ..bounds() }
}

/// Visits everything, or until something is wrong. What is wrong, if anything: the shortest way there.
fn visit(settings: Settings) -> Result<usize, String> {
    visit_from(World::new(settings))
}

fn visit_from(world: World) -> Result<usize, String> {
    let settings = world.settings;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker =
        Bounded(world).checker().threads(threads).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    for promise in [ONE_OWNER, SETTLES] {
        if let Some(path) = checker.discovery(promise) {
            let end = &path.last_state().world;
            let wrong = end.wrong.clone().or_else(|| end.settle().err()).unwrap_or_default();
            let steps: Vec<_> = path.into_actions().iter().map(|step| format!("  {step:?}")).collect();
            return Err(format!("{settings:?}\n{promise}: {wrong}\n{}", steps.join("\n")));
        }
    }
    checker.discovery(MOVES).ok_or(NOTHING_MOVES)?;
    Ok(checker.unique_state_count())
}

fn every_order_ends_well(settings: Settings) {
    match visit(settings) {
        Ok(states) => println!("{states} states"),
        Err(wrong) => panic!("{wrong}"),
    }
}

#[test]
fn a_transfer_ends_well_in_whatever_order_messages_arrive_or_are_lost() {
    every_order_ends_well(bounds());
}

#[test]
fn a_transfer_without_state_ends_well() {
    every_order_ends_well(Settings { state: false, ..bounds() });
}

#[test]
fn an_application_that_ends_while_it_thinks_costs_nothing() {
    every_order_ends_well(Settings { quits: true, state: false, ..bounds() });
}

#[test]
fn an_application_that_thinks_for_ever_stalls_nothing() {
    let thinks = Settings { answers: false, cancels: true, state: false, ..bounds() };
    match visit(thinks) {
        Err(wrong) => assert_eq!(wrong, NOTHING_MOVES),
        Ok(_) => panic!("it moves without an answer"),
    }
}

#[test]
fn a_transfer_without_state_ends_well_when_the_target_agent_dies() {
    every_order_ends_well(Settings { kills: 1, mortal: Some(Some(1)), state: false, ..bounds() });
}

#[test]
fn a_transfer_whose_application_is_not_asked_ends_well_when_the_target_agent_dies() {
    every_order_ends_well(Settings {
        kills: 1,
        mortal: Some(Some(1)),
        consent: Consent::Presumed,
        ..bounds()
    });
}

#[test]
fn an_injection_ends_well_in_whatever_order_messages_and_packets_arrive_or_are_lost() {
    every_order_ends_well(Settings { listeners: &[1], packets: 1, ..bounds() });
}

#[test]
fn an_injection_ends_well_when_the_target_agent_dies_at_any_step() {
    every_order_ends_well(Settings { kills: 1, mortal: Some(Some(1)), ..injection() });
}

#[test]
fn a_transfer_ends_well_when_the_routing_stack_dies_at_any_step() {
    every_order_ends_well(Settings { kills: 1, mortal: Some(None), ..bounds() });
}

#[test]
fn a_transfer_ends_well_when_the_source_agent_dies_at_any_step() {
    every_order_ends_well(Settings { kills: 1, mortal: Some(Some(0)), ..bounds() });
}

#[test]
fn a_transfer_ends_well_when_the_target_agent_dies_at_any_step() {
    every_order_ends_well(Settings { kills: 1, mortal: Some(Some(1)), ..bounds() });
}

#[test]
fn bytes_that_a_target_does_not_pass_on_are_missed() {
    let wrong = visit(Settings { fault: Some(Fault::NothingGiven), ..injection() });
    assert!(wrong.is_err_and(|wrong| wrong.contains("does not settle: connection 0")));
}

#[test]
fn words_that_outlive_the_run_that_they_were_meant_for_permit_nothing() {
    every_order_ends_well(late_words());
}

#[test]
fn a_permission_that_outlives_the_run_that_was_given_it_is_found() {
    let wrong = visit(Settings { fault: Some(Fault::RunsAlike), ..late_words() });
    assert!(wrong.is_err_and(|wrong| wrong.contains("connection 0 is at t1 and at t2")));
}

#[test]
fn an_offer_that_outlives_the_run_that_it_was_made_to_is_found() {
    let asked = Settings { consent: Consent::Asked, ..late_words() };
    let wrong = visit(Settings { fault: Some(Fault::RunsAlike), ..asked });
    assert!(wrong.is_err_and(|wrong| wrong.contains("an application thinks about 501-1, frozen at")));
}

#[test]
fn a_connection_that_stands_still_because_an_application_thinks_is_found() {
    let frozen = [(Fault::HeldWhileAsked, "the routing stack"), (Fault::FrozenWhileAsked, "t1")];
    for (fault, place) in frozen {
        let wrong = visit(Settings { fault: Some(fault), ..bounds() });
        let said = format!("an application thinks about 501-1, frozen at {place}");
        assert!(wrong.is_err_and(|wrong| wrong.contains(&said)), "{fault:?}");
    }
}

#[test]
fn a_source_that_thaws_without_asking_is_found() {
    let wrong = visit(Settings { fault: Some(Fault::ThawOnTimeOut), ..bounds() });
    assert!(wrong.is_err_and(|wrong| wrong.contains("connection 0 is at t1 and at t2")));
}

/// The packet of a first hand-over is late: its application has taken the request back, and the idle connection goes on at the
/// source. A second one is asked for.
fn after_a_hand_over(fault: Option<Fault>) -> World {
    let mut world = World::new(Settings { asks: 2, cancels: true, unread: false, fault, ..injection() });
    for choice in
        [Choice::Ask { flow: 0, from: 0, to: 1, gives_last: false }, Choice::Cancel { flow: 0, host: 0 }]
    {
        world.apply(&choice);
        world.run_deeds();
        while let Some(mail) = world.mail.first().cloned() {
            world.apply(&Choice::Deliver(mail));
            world.run_deeds();
        }
    }
    assert!(
        world.packets.len() == 1
            && world.hosts[0].kernel.slots[0].owns()
            && world.hosts[0].is_quiet(world.now)
    );
    world
}

#[test]
fn a_late_packet_of_a_former_hand_over_makes_nothing() {
    match visit_from(after_a_hand_over(None)) {
        Ok(states) => println!("{states} states"),
        Err(wrong) => panic!("{wrong}"),
    }
}

#[test]
fn an_option_that_says_nothing_of_its_hand_over_is_found() {
    let wrong = visit_from(after_a_hand_over(Some(Fault::OldOption)));
    assert!(wrong.is_err_and(|wrong| wrong.contains("connection 0 is at t1 and at t2")));
}

/// One processor tells the agent that no packet makes the connection, another makes it.
#[test]
fn a_claim_in_two_steps_is_found() {
    let wrong = visit(Settings { impatient: true, fault: Some(Fault::TornClaim), ..injection() });
    assert!(wrong.is_err_and(|wrong| wrong.contains("connection 0 is at t1 and at t2")));
}

/// The target is active, and the source's agent is restarted again and again while nobody tells it: until the target's ledger has
/// forgotten, and a while longer.
fn doubts_for_long(fault: Option<Fault>, kills: usize) -> Result<(), String> {
    let mut world = World::new(Settings { consent: Consent::Presumed, kills, fault, ..bounds() });
    moves(&mut world, 0, 1, false);
    for _ in 0..kills {
        world.apply(&Choice::Wait);
        world.run_deeds();
        world.mail.clear();
        world.apply(&Choice::KillAgent(0));
        world.apply(&Choice::StartAgent(0));
    }
    world.apply(&Choice::Wait);
    world.run_deeds();
    world.mail.clear();
    world.settle()
}

#[test]
fn a_doubt_ends_before_the_target_forgets_however_often_the_source_agent_is_restarted() {
    for kills in 0..4 {
        assert_eq!(doubts_for_long(None, kills), Ok(()), "{kills} restarts");
    }
}

#[test]
fn a_doubt_that_begins_anew_with_each_restart_is_found() {
    let wrong = doubts_for_long(Some(Fault::DoubtAnew), 3);
    assert!(wrong.clone().is_err_and(|wrong| wrong.contains("connection 0 is at t1 and at t2")), "{wrong:?}");
}

#[test]
fn a_ledger_that_forgets_before_the_doubt_ends_is_found() {
    let wrong = doubts_for_long(Some(Fault::ShortMemory), 0);
    assert!(wrong.clone().is_err_and(|wrong| wrong.contains("connection 0 is at t1 and at t2")), "{wrong:?}");
}

/// A request of its application moves the connection, and everything is delivered that is said until the target has it.
fn moves(world: &mut World, from: usize, to: usize, gives_last: bool) {
    world.apply(&Choice::Ask { flow: 0, from, to, gives_last });
    world.run_deeds();
    while !world.hosts[to].kernel.slots[0].owns() {
        let mail = world.mail.pop_first().expect("it moves");
        world.apply(&Choice::Deliver(mail));
        world.run_deeds();
    }
}

/// Delivers everything that is said, but for what is said to a host whose agent is about to die.
fn delivers(world: &mut World, dies: Option<usize>) {
    world.run_deeds();
    while let Some(mail) = world.mail.pop_first() {
        if dies.is_none_or(|host| world.hosts[host].name != mail.to) {
            world.apply(&Choice::Deliver(mail));
            world.run_deeds();
        }
    }
}

/// A connection leaves with its last descriptor, comes back and leaves again; the source's agent is killed both times before it
/// hears that the target has it.
fn leaves_twice(fault: Option<Fault>) -> Result<(), String> {
    let (consent, gives_last) = (Consent::Presumed, true);
    let settings = Settings { consent, gives_last, state: false, asks: 3, kills: 2, fault, ..bounds() };
    let mut world = World::new(settings);
    for gives_last in [true, false] {
        moves(&mut world, 0, 1, gives_last);
        delivers(&mut world, Some(0));
        for choice in [Choice::KillAgent(0), Choice::StartAgent(0), Choice::Session(0)] {
            world.apply(&choice);
        }
        delivers(&mut world, None);
        if gives_last {
            moves(&mut world, 1, 0, false);
            delivers(&mut world, None);
        }
    }
    world.wrong.clone().map_or_else(|| world.settle(), Err)
}

#[test]
fn a_connection_that_leaves_twice_has_one_owner_though_agents_are_killed() {
    assert_eq!(leaves_twice(None), Ok(()));
}

#[test]
fn a_note_that_stays_beside_a_later_one_is_found() {
    let wrong = leaves_twice(Some(Fault::NotesStay));
    assert!(wrong.clone().is_err_and(|wrong| wrong.contains("connection 0 is at t1 and at t2")), "{wrong:?}");
}

/// The target's agent dies when it has noted that the connection is here, and before or after it has told the application so,
/// which has read nothing of that yet.
fn dies_while_a_descriptor_is_in_flight(told: bool, fault: Option<Fault>) -> Result<(), String> {
    let consent = Consent::Presumed;
    let mut world = World::new(Settings { consent, kills: 1, slow: true, fault, ..bounds() });
    world.apply(&Choice::Ask { flow: 0, from: 0, to: 1, gives_last: false });
    let is_there = |world: &World| {
        let kernel = &world.hosts[1].kernel;
        let is_noted = kernel.noted.values().any(|(_, noted)| *noted == Noted::Stands(Standing::Active));
        is_noted && kernel.applications[0].is_some_and(|application| application.untold != told)
    };
    loop {
        for calls in 1..=world.hosts[1].calls(world.now) {
            let mut dies = world.clone();
            dies.apply(&Choice::ActAndDie(1, calls));
            if is_there(&dies) {
                assert!(dies.hosts[1].kernel.slots[0].socket.is_some_and(|socket| socket.in_flight));
                // The next agent finds it there.
                dies.apply(&Choice::StartAgent(1));
                return dies.wrong.clone().map_or_else(|| dies.settle(), Err);
            }
        }
        if let Some(host) = world.hosts.iter().position(|host| host.is_busy(world.now)) {
            world.apply(&Choice::Act(host));
        } else if world.node.as_ref().is_some_and(|node| !node.pending.is_empty()) {
            world.apply(&Choice::NodeActs);
        } else {
            let mail = world.mail.pop_first().expect("it moves");
            world.apply(&Choice::Deliver(mail));
        }
    }
}

#[test]
fn a_descriptor_in_flight_is_waited_for_whether_or_not_its_application_asks() {
    for told in [false, true] {
        assert_eq!(dies_while_a_descriptor_is_in_flight(told, None), Ok(()), "told: {told}");
    }
}

#[test]
fn a_descriptor_in_flight_that_is_not_seen_is_found() {
    let wrong = dies_while_a_descriptor_is_in_flight(false, Some(Fault::InFlightUnseen));
    assert!(wrong.clone().is_err_and(|wrong| wrong.contains("answers a packet with RST")), "{wrong:?}");
}
