//! Blocks of ports.

use std::time::Duration;

use model::Epoch;
use model::codec::Address;
use model::message::{FromStack, ToStack};
use model::ports::{BLOCKS, FIRST_BLOCK, PORTS_A_BLOCK, PortBlocks, PortsGranted, PortsHeld, block_of};

use super::super::fixture::{Bench, EPOCH, config, dvipa, name, tcp};
use super::super::{Action, Event, GONE_DVIPA, RefusalKind, SETTLES};

const VIP: &str = "198.18.9.1";
/// Enumerated ports, one of them in a block that would be the second to be granted.
const ENUMERATED: u16 = 1024 + PORTS_A_BLOCK;
const DEFINITION: &str = r#"
[[vipadynamic]]
[[vipadynamic.vipadefine]]
address = "198.18.9.1"
mask = 24
[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
ports = [80, 1088]
destip = "all"
"#;

/// With these stacks, and settled.
fn bench(stacks: &[&str]) -> Bench {
    let mut bench = Bench::new(DEFINITION);
    stacks.iter().for_each(|stack| bench.up(stack));
    bench.wait(SETTLES);
    bench.actions();
    bench
}

fn held(read: u64, held: &PortBlocks, wanted: u16) -> FromStack {
    let dvipa = Address(dvipa(VIP).address());
    FromStack::PortsHeld(PortsHeld { dvipa, epoch: EPOCH, read, held: *held, wanted })
}

/// What stacks are granted by these actions, the last word to each.
fn granted(actions: &[Action], stack: &str) -> Option<PortsGranted> {
    let of = |action: &Action| match action {
        Action::Send { to, message: ToStack::PortsGranted(granted) } if *to == name(stack) => {
            Some(granted.clone())
        }
        _ => None,
    };
    actions.iter().filter_map(of).next_back()
}

/// Asks for blocks; returns the answer.
fn ask(bench: &mut Bench, stack: &str, said: FromStack) -> PortsGranted {
    bench.message(stack, said).unwrap();
    granted(&bench.actions(), stack).expect("an answer")
}

#[test]
fn no_block_is_two_stacks_and_none_has_an_enumerated_port() {
    let mut bench = bench(&["t1", "t2"]);
    let first = ask(&mut bench, "t1", held(0, &PortBlocks::NONE, 1));
    let second = ask(&mut bench, "t2", held(0, &PortBlocks::NONE, 1));
    assert_eq!((first.number, first.granted.len(), second.granted.len()), (1, 16, 16), "a burst's worth");
    assert!(first.granted.intersection(&second.granted).is_empty());
    assert_eq!(second.elsewhere, first.granted);
    for granted in [first.granted, second.granted] {
        assert!(!granted.contains(block_of(ENUMERATED)) && granted.iter().all(|block| block >= FIRST_BLOCK));
    }
}

#[test]
fn what_is_wanted_is_granted_until_nothing_is_free() {
    let mut bench = bench(&["t1", "t2"]);
    let first = ask(&mut bench, "t1", held(0, &PortBlocks::NONE, 400));
    let second = ask(&mut bench, "t2", held(0, &PortBlocks::NONE, 313));
    assert!(u32::from(second.granted.len()) * u32::from(PORTS_A_BLOCK) > 20_000);
    let all = ask(&mut bench, "t1", held(first.number, &first.granted, BLOCKS));
    let usable = BLOCKS - FIRST_BLOCK - 1;
    assert_eq!((all.number, all.granted.len() + second.granted.len()), (2, usable));
    bench.message("t2", held(second.number, &second.granted, 1)).unwrap();
    assert_eq!(granted(&bench.actions(), "t2"), None, "nothing is free");
    // The other gives one back: it is what was wanted.
    let less: PortBlocks = all.granted.iter().skip(1).collect();
    bench.message("t1", held(all.number, &less, 0)).unwrap();
    assert_eq!(granted(&bench.actions(), "t2").map(|g| g.granted.len()), Some(second.granted.len() + 1));
}

#[test]
fn a_thousand_stacks_get_one_each() {
    let mut bench = Bench::new(DEFINITION);
    for number in 0..1000u16 {
        let [high, low] = number.to_be_bytes();
        bench.up_at(&format!("s{number}"), &format!("198.19.{high}.{low}").replace(".0.0", ".9.9"));
    }
    bench.wait(SETTLES);
    bench.actions();
    let mut all = PortBlocks::NONE;
    for number in 0..1000 {
        bench.message(&format!("s{number}"), held(0, &PortBlocks::NONE, 1)).unwrap();
    }
    let actions = bench.actions();
    let mut blocks = 0;
    for action in &actions {
        if let Action::Send { message: ToStack::PortsGranted(granted), .. } = action {
            all = all.union(&granted.granted);
            blocks += 1;
        }
    }
    assert!(blocks >= 1000 && all.len() >= 1000, "{blocks} grants of {} blocks", all.len());
}

#[test]
fn who_has_not_read_the_last_grant_is_not_followed() {
    let mut bench = bench(&["t1"]);
    let first = ask(&mut bench, "t1", held(0, &PortBlocks::NONE, 1));
    bench.message("t1", held(0, &PortBlocks::NONE, 1)).unwrap();
    assert_eq!(granted(&bench.actions(), "t1"), None);
    let more = ask(&mut bench, "t1", held(first.number, &first.granted, 1));
    assert!(first.granted.without(&more.granted).is_empty());
}

#[test]
fn nothing_is_granted_before_the_others_were_waited_for() {
    let mut bench = Bench::new(DEFINITION);
    bench.up("t1");
    bench.up("t2");
    bench.message("t1", held(0, &PortBlocks::NONE, 1)).unwrap();
    assert_eq!(granted(&bench.actions(), "t1"), None);
    let had: PortBlocks = (FIRST_BLOCK..FIRST_BLOCK + 100).collect();
    bench.message("t2", held(0, &had, 0)).unwrap();
    bench.wait(SETTLES);
    let first = granted(&bench.actions(), "t1").expect("an answer").granted;
    assert!(!first.is_empty() && first.intersection(&had).is_empty(), "{first:?}");
}

#[test]
fn a_lost_stack_keeps_its_blocks_and_a_dead_one_does_not() {
    let mut bench = bench(&["t1", "t2"]);
    let first = ask(&mut bench, "t1", held(0, &PortBlocks::NONE, 900));
    bench.down("t1");
    let second = ask(&mut bench, "t2", held(0, &PortBlocks::NONE, 200));
    assert!(second.granted.intersection(&first.granted).is_empty());
    // It wants more than there is.
    bench.message("t2", held(second.number, &second.granted, 500)).unwrap();
    bench.actions();
    let dead = bench.stack.stack_index(&name("t1")).unwrap();
    bench.handle(Event::SilentHosts(vec![dead])).unwrap();
    let more = granted(&bench.actions(), "t2").expect("what it waits for");
    assert!(more.granted.len() >= 600, "{}", more.granted.len());
}

#[test]
fn a_stack_that_has_not_read_a_grant_is_heard_again_in_the_next_ownership() {
    let mut bench = bench(&["t1"]);
    let first = ask(&mut bench, "t1", held(0, &PortBlocks::NONE, 1));
    let more = ask(&mut bench, "t1", held(first.number, &first.granted, 20));
    assert_ne!(more.number, first.number);
    // It refuses what is more, because it has heard of another owner by then, and says so to this one too.
    bench.stack.ports.lost(dvipa(VIP));
    bench.message("t1", held(first.number, &first.granted, 0)).unwrap();
    let blocks: Vec<u16> = more.granted.without(&first.granted).iter().collect();
    assert!(blocks.iter().all(|block| !bench.stack.has_ports(dvipa(VIP), "t1", block * PORTS_A_BLOCK)));
}

#[test]
fn a_stack_that_comes_back_with_others_blocks_is_told_and_is_an_alarm() {
    let mut bench = bench(&["t1", "t2"]);
    let first = ask(&mut bench, "t1", held(0, &PortBlocks::NONE, 1));
    let claimed: PortBlocks = first.granted.iter().take(2).chain([1000]).collect();
    let refusal = bench.message("t2", held(0, &claimed, 0)).unwrap_err();
    assert_eq!(refusal.kind(), RefusalKind::PortsTaken);
    let told = granted(&bench.actions(), "t2").expect("it is told");
    assert_eq!(told.granted.iter().collect::<Vec<_>>(), [1000]);
}

#[test]
fn a_block_in_which_another_stack_listens_is_not_granted() {
    let mut bench = bench(&["t1", "t2"]);
    bench.listens("t2", tcp(VIP, 1024));
    let first = ask(&mut bench, "t1", held(0, &PortBlocks::NONE, BLOCKS));
    assert!(!first.granted.contains(FIRST_BLOCK) && first.granted.contains(FIRST_BLOCK + 2));
}

#[test]
fn a_backup_writes_down_and_grants_nothing() {
    let mut bench =
        Bench::new(&DEFINITION.replace("vipadefine", "vipabackup").replace("mask = 24", "rank = 100"));
    bench.up("t1");
    bench.wait(SETTLES + Duration::from_secs(1));
    let dvipa_address = Address(dvipa(VIP).address());
    let blocks: PortBlocks = [20].into_iter().collect();
    let said = PortsHeld { dvipa: dvipa_address, epoch: Epoch(0), read: 0, held: blocks, wanted: 9 };
    bench.message("t1", FromStack::PortsHeld(said)).unwrap();
    assert_eq!(granted(&bench.actions(), "t1"), None);
    assert!(bench.stack.has_ports(dvipa(VIP), "t1", 20 * PORTS_A_BLOCK));
}

/// The former owner has granted a block a moment before it died, of which this stack has not heard.
#[test]
fn a_new_owner_grants_nothing_before_it_has_heard_what_each_stack_has() {
    let others = "[[routing_stack]]\nname = \"rt2\"\naddress = \"198.18.0.11:7441\"\n";
    let backup = DEFINITION.replace("vipadefine", "vipabackup").replace("mask = 24", "rank = 100");
    let mut bench = Bench::new(&format!("{others}{backup}"));
    ["t1", "t2"].iter().for_each(|stack| bench.up(stack));
    let says = |read, held: &[u16], wanted, epoch| {
        let (dvipa, held) = (Address(dvipa(VIP).address()), held.iter().copied().collect());
        FromStack::PortsHeld(PortsHeld { dvipa, epoch, read, held, wanted })
    };
    bench.message("t1", says(0, &[20], 0, Epoch(0))).unwrap();
    // The other one, which is dead, has owned it.
    bench.wait(SETTLES);
    bench.actions();
    let epoch = bench.stack.vipa_view().dvipas[0].epoch;
    assert!(epoch > Epoch(0));
    bench.down("t1");
    bench.stack.ports.gained(dvipa(VIP), bench.now + SETTLES);
    bench.message("t2", says(0, &[], 1, epoch)).unwrap();
    assert_eq!(granted(&bench.actions(), "t2"), None, "t1 may have more than 20");
    bench.up("t1");
    bench.message("t1", says(0, &[16, 20], 0, epoch)).unwrap();
    let grant = granted(&bench.actions(), "t2").expect("all is known");
    assert!(!grant.granted.contains(16) && !grant.granted.contains(20), "{grant:?}");
    // And one that never comes back is not waited for, for ever.
    bench.stack.ports.gained(dvipa(VIP), bench.now + SETTLES);
    bench.down("t1");
    bench.message("t2", says(grant.number, &[], 1, epoch)).unwrap();
    assert_eq!(granted(&bench.actions(), "t2"), None);
    bench.wait(SETTLES);
    assert!(granted(&bench.actions(), "t2").is_some());
}

/// Row U2 where no ports are enumerated: a port of a stack's own block is its own, whatever else the definition says.
#[test]
fn a_listener_in_an_own_block_is_direct_where_no_ports_are_enumerated() {
    let mut bench = Bench::new(&DEFINITION.replace("ports = [80, 1088]\n", ""));
    bench.up("t1");
    bench.up("t2");
    bench.wait(SETTLES);
    bench.actions();
    let first = ask(&mut bench, "t1", held(0, &PortBlocks::NONE, 1));
    let own = tcp(VIP, first.granted.iter().next().unwrap() * PORTS_A_BLOCK);
    let shared = tcp(VIP, 60_000);
    bench.listens("t1", own);
    ["t1", "t2"].iter().for_each(|stack| bench.listens(stack, shared));
    bench.handle(Event::Drain { stack: name("t1"), scope: super::super::Scope::All }).unwrap();
    assert_eq!(
        (bench.selectable(own), bench.selectable(shared)),
        (vec!["t1".to_owned()], vec!["t2".to_owned()])
    );
}

#[test]
fn a_forgotten_dvipa_leaves_nothing() {
    let mut bench = bench(&["t1"]);
    let first = ask(&mut bench, "t1", held(0, &PortBlocks::NONE, 1));
    let port = first.granted.iter().next().unwrap() * PORTS_A_BLOCK;
    bench.listens("t1", tcp(VIP, port));
    bench.handle(Event::Configure(Box::new(config("")))).unwrap();
    assert!(bench.stack.has_ports(dvipa(VIP), "t1", port), "it may come back");
    bench.wait(GONE_DVIPA);
    bench.handle(Event::ConnectionCounts(Vec::new())).unwrap();
    assert!(!bench.stack.has_ports(dvipa(VIP), "t1", port));
    assert_eq!(bench.stack.direct.of_stack(&name("t1")), []);
}

impl super::super::RoutingStack {
    /// Whether it knows that the stack has the block of this port.
    fn has_ports(&self, dvipa: model::Dvipa, stack: &str, port: u16) -> bool {
        self.ports.has(dvipa, &name(stack), port)
    }
}
