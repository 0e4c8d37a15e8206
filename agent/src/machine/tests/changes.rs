//! Other routing stacks, and what the programs have to know of ports.

use super::*;

#[test]
fn the_owners_own_stack_has_its_dvipas_without_being_a_candidate() {
    for (name, has_it) in [("rt1", true), ("t9", false)] {
        let own = Own { name: stack(name), ..own() };
        let now = Instant::now();
        let mut bench = Bench { machine: Machine::new(own, Inherited::default(), now), now };
        bench.tell(Event::SessionUp(stack("rt1")));
        let actions = bench.tell(received("rt1", list(&[1], &["t1"])));
        assert_eq!(!in_place(&actions).is_empty(), has_it, "{name}: {actions:?}");
    }
}

#[test]
fn a_routing_stack_that_is_configured_no_longer_takes_its_dvipas_along() {
    let mut bench = Bench::reporting(list(&[1], &[]), &Picture::default());
    let actions = bench.tell(Event::RoutingStacks(BTreeSet::from([stack("rt2"), stack("rt3")])));
    assert_eq!(in_place(&actions), [&Action::RemoveDvipa(dvipa(1))]);
    let standings = bench.machine.view().standings;
    assert_eq!(standings.keys().collect::<Vec<_>>(), [&stack("rt2"), &stack("rt3")]);
    // What the former one still says changes nothing; a new one is heard.
    assert_eq!(in_place(&bench.tell(received("rt1", list(&[2], &[])))), Vec::<&Action>::new());
    bench.tell(Event::SessionUp(stack("rt3")));
    assert_eq!(in_place(&bench.tell(received("rt3", list(&[3], &[])))).len(), 1);
}
