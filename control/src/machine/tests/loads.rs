//! What stacks say of their connections, for services that are distributed by it.

use model::message::{FromStack, Load};

use super::super::Action;
use super::super::fixture::{Bench, WEB, lists};

/// A stack says this; what of it goes to the workers.
fn says(bench: &mut Bench, idle: Option<u32>, elsewhere: Option<u32>) -> Vec<(u32, u32)> {
    bench.message("t1", FromStack::Load(Load { idle, elsewhere, ..Load::default() })).unwrap();
    loaded(bench)
}

fn loaded(bench: &mut Bench) -> Vec<(u32, u32)> {
    let loaded = |action| match action {
        Action::Loaded { idle, elsewhere, .. } => Some((idle, elsewhere)),
        _ => None,
    };
    bench.actions().into_iter().filter_map(loaded).collect()
}

#[test]
fn what_a_stack_says_of_its_connections_goes_to_the_workers_when_it_changes() {
    let mut bench = Bench::new(WEB);
    bench.up("t1");
    assert_eq!(says(&mut bench, Some(3), Some(1)), [(3, 1)]);
    assert_eq!(says(&mut bench, Some(3), Some(1)), []);
    assert_eq!(says(&mut bench, Some(4), Some(1)), [(4, 1)]);
    assert_eq!(says(&mut bench, None, None), [(0, 0)], "it does not know any more");
    assert_eq!(says(&mut bench, Some(2), Some(0)), [(2, 0)]);
    bench.down("t1");
    assert_eq!(loaded(&mut bench), [(0, 0)], "what was said is void with the session");
    bench.up("t1");
    assert_eq!(says(&mut bench, Some(2), Some(0)), [(2, 0)]);
}

#[test]
fn stacks_are_asked_for_it_where_a_service_is_distributed_by_it() {
    let by_load = format!("{WEB}method = \"power-of-two\"\n");
    for (definitions, wanted) in [(WEB, false), (&*by_load, true)] {
        let mut bench = Bench::new(definitions);
        bench.up("t1");
        let lists = lists(&bench.actions());
        assert!(!lists.is_empty() && lists.iter().all(|(_, list)| list.wants_kept() == wanted), "{lists:?}");
    }
}
