//! Nothing is used up by time: numbers of stacks and DVIPAs are given back, and what was known of them goes.

use std::time::Duration;

use model::dpt::StackState;
use model::{DvipaIndex, Epoch, StackIndex};

use super::super::fixture::{Bench, EPOCH, WEB, config, name, newconn, session_up, tcp};
use super::super::{
    Action, Event, GONE_DVIPA, GONE_STACK, Identity, Refusal, RefusalKind, RoutingStack, Scope,
};

const DVIPAS: usize = DvipaIndex::MAX as usize + 1;
const STACKS: usize = StackIndex::MAX as usize + 1;

/// One service on one DVIPA for all, so that every stack is a candidate.
const ALL: &str = r#"
[[vipadynamic]]
[[vipadynamic.vipadefine]]
address = "198.18.9.1"
mask = 24
[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
ports = [80]
destip = "all"
"#;

/// As many DVIPAs as there are numbers, others in each generation.
fn all_dvipas(generation: usize) -> String {
    let address = |n: usize| format!("10.{}.{}.{}", generation + 1, n / 256, n % 256);
    let define = |n| format!("[[vipadynamic.vipadefine]]\naddress = \"{}\"\nmask = 8\n", address(n));
    (0..DVIPAS).map(define).fold("[[vipadynamic]]\n".to_owned(), |text, one| text + &one)
}

impl Bench {
    fn define(&mut self, definitions: &str) -> Result<(), Refusal> {
        self.handle(Event::Configure(Box::new(config(definitions))))
    }

    /// The CRT is counted; returns the numbers that are to be ended then.
    fn count(&mut self, counts: &[(u16, u64)]) -> Option<(Vec<StackIndex>, Vec<DvipaIndex>)> {
        let counts = counts.iter().map(|(stack, n)| (StackIndex(*stack), *n)).collect();
        self.handle(Event::ConnectionCounts(counts)).unwrap();
        let mut retired = self.actions().into_iter().filter_map(|action| match action {
            Action::Retire { stacks, dvipas } => Some((stacks, dvipas)),
            _ => None,
        });
        retired.next()
    }

    fn comes(&mut self, stack: &str, address: &str) -> Result<(), Refusal> {
        self.handle(session_up(stack, &[address]))
    }
}

#[test]
fn dvipas_can_be_defined_anew_for_ever() {
    let mut bench = Bench::new(&all_dvipas(0));
    let mut epochs = [EPOCH, Epoch(0)];
    for generation in [1, 0, 1] {
        bench.define("").unwrap();
        bench.actions();
        bench.wait(GONE_DVIPA - Duration::from_secs(1));
        assert_eq!(bench.count(&[]), None, "one that is defined again soon keeps its number");
        bench.wait(Duration::from_secs(1));
        let (_, dvipas) = bench.count(&[]).expect("they are forgotten");
        assert_eq!(dvipas.len(), DVIPAS);
        let refusal = bench.define(&all_dvipas(generation)).unwrap_err();
        assert!(refusal.to_string().contains("free again"), "{refusal}");
        bench.handle(Event::Vacant { stacks: vec![], dvipas }).unwrap();
        bench.define(&all_dvipas(generation)).unwrap();
        bench.actions();
        let dpt = bench.stack.dpt();
        assert_eq!((dpt.dvipas.len(), dpt.dvipas[DVIPAS - 1].index), (DVIPAS, DvipaIndex(DvipaIndex::MAX)));
        let now = bench.stack.vipa_view().dvipas[0].epoch;
        let before = std::mem::replace(&mut epochs[generation], now);
        assert!(now > before, "{now:?} is above the one that it had before it was forgotten");
    }
}

impl Bench {
    /// Another process of this node goes on with the CRT, with these definitions.
    fn succeed(&self, definitions: &str) -> Self {
        let identity = Identity { incarnation: 2, version: "0.2.0".to_owned(), first_epoch: EPOCH };
        let numbering = self.stack.numbering();
        let stack = RoutingStack::resumed(identity, config(definitions), Some(&numbering), self.now).unwrap();
        Self { stack, now: self.now }
    }

    /// What the numbers in the DPT mean.
    fn meanings(&mut self) -> [Vec<(u16, String)>; 2] {
        self.actions();
        let dpt = self.stack.dpt();
        let stacks = dpt.stacks.iter().map(|stack| (stack.index.0, stack.name.to_string())).collect();
        [stacks, dpt.dvipas.iter().map(|entry| (entry.index.0, entry.dvipa.to_string())).collect()]
    }
}

#[test]
fn the_next_process_has_the_numbers_of_this_one_before_anybody_is_heard() {
    let mut bench = Bench::new(ALL);
    ["t1", "t2", "t3"].into_iter().for_each(|stack| bench.up(stack));
    bench.actions();
    // A number between others is free.
    bench.down("t2");
    bench.wait(GONE_STACK);
    let (stacks, dvipas) = bench.count(&[]).expect("t2 is forgotten");
    let before = bench.meanings();
    let mut next = bench.succeed(ALL);
    assert_eq!(next.meanings(), before);
    let dpt = next.stack.dpt();
    assert!(dpt.stacks.iter().all(|stack| stack.state == StackState::Lost), "nothing was heard of them");
    assert_eq!(dpt.generation, 1, "with the first DPT");
    let epoch = |bench: &Bench| bench.stack.vipa_view().dvipas[0].epoch;
    assert!(epoch(&next) > epoch(&bench), "epochs grow, though the clock stands still");
    // What rested ended with the former process: its numbers can be given.
    drop((stacks, dvipas));
    next.comes("t4", "198.18.0.24").unwrap();
    next.comes("t3", "198.18.0.23").unwrap();
    let [stacks, _] = next.meanings();
    assert_eq!(stacks, [(0, "t1".into()), (1, "t4".into()), (2, "t3".into())]);
}

#[test]
fn a_dvipa_that_the_next_process_does_not_define_keeps_its_number_until_its_entries_have_ended() {
    let mut bench = Bench::new(ALL);
    bench.up("t1");
    let mut next = bench.succeed(&ALL.replace("198.18.9.1", "198.18.9.2"));
    assert_eq!(next.meanings(), [vec![(0, "t1".into())], vec![(1, "198.18.9.2".into())]]);
    assert_eq!(next.count(&[(0, 1)]), None);
    next.wait(GONE_DVIPA);
    assert_eq!(next.count(&[(0, 1)]), Some((vec![], vec![DvipaIndex(0)])));
}

#[test]
fn a_stack_that_does_not_come_back_to_the_next_process_is_forgotten_in_time() {
    let mut bench = Bench::new(ALL);
    bench.up("t1");
    let mut next = bench.succeed(ALL);
    next.actions();
    next.wait(GONE_STACK - Duration::from_secs(1));
    assert_eq!(next.count(&[]), None);
    next.wait(Duration::from_secs(1));
    assert_eq!(next.count(&[(0, 1)]), None, "it has a connection");
    assert_eq!(next.count(&[]), Some((vec![StackIndex(0)], vec![])));
}

#[test]
fn stacks_can_come_and_go_for_ever_and_their_metrics_go_with_them() {
    let mut bench = Bench::new(ALL);
    for generation in 0..2 {
        for n in 0..STACKS {
            let address = format!("10.{}.{}.{}", n / 65_536 + 1, n / 256, n % 256);
            bench.comes(&format!("g{generation}-{n}"), &address).unwrap();
            if n % 1024 == 0 {
                bench.actions();
            }
        }
        bench.actions();
        let refusal = bench.comes("one-more", "10.9.0.1").unwrap_err();
        assert_eq!(refusal.kind(), RefusalKind::TooManyStacks);
        let from = name(&format!("g{generation}-0"));
        bench.handle(Event::Misdirected { from, message: "Move" }).unwrap_err();
        for n in 0..STACKS {
            bench.down(&format!("g{generation}-{n}"));
        }
        bench.wait(GONE_STACK);
        let (stacks, _) = bench.count(&[]).expect("they are forgotten");
        assert_eq!((stacks.len(), bench.stack.dpt().stacks.len()), (STACKS, 0));
        let view = bench.stack.status_view();
        assert_eq!((view.stacks.len(), view.refused.len()), (0, 1), "{:?}", view.refused);
        assert_eq!(bench.comes("one-more", "10.9.0.1").unwrap_err().kind(), RefusalKind::TooManyStacks);
        bench.handle(Event::Vacant { stacks, dvipas: vec![] }).unwrap();
    }
}

#[test]
fn a_stack_with_connections_a_drain_or_a_definition_is_not_forgotten() {
    let mut bench =
        Bench::new(&format!("{ALL}{}", WEB.replace("[[vipadynamic]]\n", "").replace("9.1", "9.2")));
    for stack in ["t1", "t4", "t5", "t6", "rt1"] {
        bench.up(stack);
    }
    bench.listens("t4", tcp("198.18.9.1", 80));
    bench.message("t4", newconn(true, true, &[])).unwrap();
    bench.handle(Event::Drain { stack: name("t5"), scope: Scope::All }).unwrap();
    for stack in ["t1", "t4", "t5", "t6", "rt1"] {
        bench.down(stack);
    }
    bench.wait(GONE_STACK);
    let four = bench.stack.stack_index(&name("t4")).unwrap();
    let six = bench.stack.stack_index(&name("t6")).unwrap();
    assert_eq!(bench.count(&[(four.0, 1)]), Some((vec![six], vec![])));
    bench.up("t6");
    let again = bench.stack.stack_index(&name("t6")).unwrap();
    assert_ne!(again, six, "its former number rests");
    bench.handle(Event::Vacant { stacks: vec![six], dvipas: vec![] }).unwrap();
    assert_eq!(bench.count(&[]), Some((vec![four], vec![])), "its last connection has gone");
    bench.up("t7");
    assert_eq!(bench.stack.stack_index(&name("t7")), Some(six), "the lowest that is free");
    bench.listens("t7", tcp("198.18.9.1", 80));
    bench.stack.hurry();
    assert_eq!(bench.selectable(tcp("198.18.9.1", 80)), ["t7"]);
    bench.stack.check_board().unwrap();
}
