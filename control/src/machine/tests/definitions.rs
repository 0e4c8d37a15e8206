//! What a reload does to ownership, numbers and epochs.

use model::{DvipaIndex, Epoch};

use super::super::fixture::{Bench, EPOCH, WEB, config, dvipa, lists, tcp};
use super::super::{Action, Event, RefusalKind};

const BOTH: &str = r#"
[[vipadynamic]]
[[vipadynamic.vipadefine]]
address = "198.18.9.1"
mask = 24
[[vipadynamic.vipadefine]]
address = "2001:db8:9::1"
mask = 64
[[vipadynamic.vipadistribute]]
address = "2001:db8:9::1"
ports = [80]
destip = "all"
"#;

fn configure(bench: &mut Bench, vipadynamic: &str) -> Vec<Action> {
    bench.handle(Event::Configure(Box::new(config(vipadynamic)))).unwrap();
    bench.actions()
}

fn announced(actions: &[Action]) -> Vec<String> {
    let dvipa = |action: &Action| match action {
        Action::Announce { dvipa } => Some(dvipa.to_string()),
        _ => None,
    };
    actions.iter().filter_map(dvipa).collect()
}

#[test]
fn a_dvipa_that_is_added_gets_a_number_and_is_announced() {
    let mut bench = Bench::new(WEB);
    let actions = configure(&mut bench, BOTH);
    assert_eq!(announced(&actions), ["2001:db8:9::1"], "the other one was here");
    let dpt = bench.stack.dpt();
    assert_eq!(dpt.dvipas.iter().map(|d| d.index).collect::<Vec<_>>(), [DvipaIndex(0), DvipaIndex(1)]);
    assert_eq!(dpt.distributions.len(), 1);
}

#[test]
fn a_dvipa_that_goes_and_comes_back_keeps_its_number_and_has_a_new_epoch() {
    let mut bench = Bench::new(WEB);
    bench.up("t1");
    bench.listens("t1", tcp("198.18.9.1", 80));
    bench.actions();
    configure(&mut bench, "");
    assert!(bench.stack.dpt().dvipas.is_empty());
    assert_eq!(bench.stack.status_view().stacks[0].listens, 0, "what was said of it is void");
    let actions = configure(&mut bench, WEB);
    assert_eq!(announced(&actions), ["198.18.9.1"]);
    assert_eq!(lists(&actions)[0].1.dvipas[0].epoch, Epoch(EPOCH.0 + 1));
    assert_eq!(bench.stack.dpt().dvipas[0].index, DvipaIndex(0));
    assert!(bench.selectable(tcp("198.18.9.1", 80)).is_empty());
}

#[test]
fn a_dvipa_that_goes_is_not_announced_any_more() {
    let mut bench = Bench::new(WEB);
    configure(&mut bench, "");
    bench.wait(std::time::Duration::from_secs(10));
    assert!(announced(&bench.actions()).is_empty());
    assert_eq!(bench.stack.next_deadline(), None);
}

#[test]
fn when_the_link_returns_every_owned_dvipa_is_announced_again_and_again() {
    let mut bench = Bench::new(BOTH);
    bench.wait(std::time::Duration::from_secs(10));
    bench.actions();
    bench.handle(Event::LinkReturned).unwrap();
    let both = ["198.18.9.1", "2001:db8:9::1"];
    assert_eq!(announced(&bench.actions()), both);
    bench.wait(std::time::Duration::from_secs(1));
    assert_eq!(announced(&bench.actions()), both, "one frame can be lost");
    bench.wait(std::time::Duration::from_secs(10));
    bench.actions();
    assert_eq!(bench.stack.next_deadline(), None);
}

#[test]
fn a_stack_that_is_no_candidate_any_more_has_said_nothing_when_it_is_one_again() {
    let mut bench = Bench::new(WEB);
    let web = tcp("198.18.9.1", 80);
    bench.up("t1");
    bench.listens("t1", web);
    configure(&mut bench, &WEB.replace("\"t1\", ", ""));
    configure(&mut bench, WEB);
    assert!(bench.selectable(web).is_empty(), "it may have stopped listening meanwhile");
}

#[test]
fn weights_of_a_controller_end_with_their_service() {
    let mut bench = Bench::new(WEB);
    let weights = vec![(super::super::fixture::name("t1"), 9)];
    let ttl = std::time::Duration::from_secs(60);
    bench.handle(Event::SetWeights { service: tcp("198.18.9.1", 443), weights, ttl }).unwrap();
    configure(&mut bench, &WEB.replace(", 443", ""));
    for _ in 0..3 {
        bench.wait(std::time::Duration::from_secs(1)); // until all is announced
    }
    bench.wait(super::super::SETTLES);
    assert_eq!(bench.stack.next_deadline(), None);
}

#[test]
fn another_node_is_refused_and_the_former_configuration_stays() {
    let mut bench = Bench::new(WEB);
    let mut other = config("");
    other.node.name = super::super::fixture::name("rt2");
    let refusal = bench.handle(Event::Configure(Box::new(other))).unwrap_err();
    assert_eq!(refusal.kind(), RefusalKind::Order);
    assert_eq!(bench.stack.config().vipadynamic.defines[0].dvipa, dvipa("198.18.9.1"));
}

#[test]
fn more_dvipas_than_a_crt_entry_can_name_are_refused_whole() {
    let many = |third: usize| {
        let define = |i: usize| {
            format!(
                "[[vipadynamic.vipadefine]]\naddress = \"10.{third}.{}.{}\"\nmask = 32\n",
                i / 256,
                i % 256
            )
        };
        format!("[[vipadynamic]]\n{}", (0..3000).map(define).collect::<String>())
    };
    let mut bench = Bench::new(&many(1));
    let refusal = bench.handle(Event::Configure(Box::new(config(&many(2))))).unwrap_err();
    assert!(refusal.to_string().contains("10.2.4.72 is one DVIPA too many"), "{refusal}");
    assert_eq!(bench.stack.status_view().dvipas_owned, 3000);
    assert!(bench.actions().iter().all(|a| matches!(a, Action::Announce { .. } | Action::Publish(_))));
}
