//! The VIPA list: what is told to whom, and when (row W2).

use model::Epoch;
use model::codec::Address;
use model::dpt::Duty;

use super::super::Event;
use super::super::fixture::{Bench, EPOCH, WEB, config, lists, tcp};

/// W2
#[test]
fn each_stack_gets_the_list_when_it_has_greeted_and_all_get_it_when_it_changes() {
    let mut bench = Bench::new(WEB);
    bench.up("t1");
    let first = lists(&bench.actions());
    assert_eq!(first.len(), 1);
    let (to, list) = &first[0];
    assert_eq!(to, "t1");
    let entry = &list.dvipas[0];
    assert_eq!((entry.address, entry.epoch), (Address("198.18.9.1".parse().unwrap()), EPOCH));
    assert_eq!((entry.owner, entry.rank), (true, 255));
    assert_eq!(entry.distributions[0].ports, [80, 443]);
    assert_eq!(entry.distributions[0].candidates, ["198.18.0.23", "t1", "t2"]);
    let forwarders: Vec<String> = list.forwarders.iter().map(|a| a.0.to_string()).collect();
    assert_eq!(forwarders, ["198.18.0.10", "2001:db8::10"]);

    bench.up("t2");
    assert_eq!(lists(&bench.actions()).iter().map(|l| l.0.as_str()).collect::<Vec<_>>(), ["t2"]);
    bench.listens("t2", tcp("198.18.9.1", 80));
    assert!(lists(&bench.actions()).is_empty(), "a listen is no change of the list");
    bench.handle(Event::Configure(Box::new(config(&WEB.replace("443", "8443"))))).unwrap();
    let changed = lists(&bench.actions());
    assert_eq!(changed.iter().map(|l| l.0.as_str()).collect::<Vec<_>>(), ["t1", "t2"]);
    assert_eq!(changed[0].1.dvipas[0].distributions[0].ports, [80, 8443]);
    bench.handle(Event::Configure(Box::new(config(&WEB.replace("443", "8443"))))).unwrap();
    assert!(bench.actions().is_empty(), "the same again changes nothing");
}

#[test]
fn a_candidate_defined_by_address_goes_by_its_name_once_it_is_known() {
    let mut bench = Bench::new(WEB);
    bench.up("t1");
    bench.actions();
    bench.up("t3");
    let lists = lists(&bench.actions());
    assert_eq!(lists.len(), 2, "t1 learns of the name too");
    assert_eq!(lists[0].1.dvipas[0].distributions[0].candidates, ["t1", "t2", "t3"]);
}

#[test]
fn a_list_of_unknown_addresses_never_looks_like_all() {
    let unknown = WEB.replace("[\"t1\", \"t2\", \"198.18.0.23\"]", "[\"198.18.0.23\"]");
    let mut bench = Bench::new(&unknown);
    bench.up("t1");
    let list = lists(&bench.actions()).remove(0).1;
    assert_eq!(list.dvipas[0].distributions[0].candidates, ["198.18.0.23"]);
}

#[test]
fn a_backup_says_so_with_its_rank_and_does_not_own() {
    let backup = r#"
[[vipadynamic]]
[[vipadynamic.vipabackup]]
address = "198.18.9.1"
rank = 30
[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
ports = [80]
destip = "all"
"#;
    let mut bench = Bench::new(backup);
    bench.up("t1");
    let list = lists(&bench.actions()).remove(0).1;
    let entry = &list.dvipas[0];
    assert_eq!((entry.owner, entry.rank, entry.epoch), (false, 30, Epoch(0)));
    assert_eq!(entry.distributions[0].candidates, Vec::<String>::new(), "empty: ALL");
    let dpt = bench.stack.dpt();
    assert_eq!(
        dpt.dvipas.iter().map(|d| d.duty).collect::<Vec<_>>(),
        [Duty::Backup],
        "no packet to it is this node's"
    );
    bench.wait(super::super::SETTLES);
    assert!(
        !bench.actions().iter().any(|action| matches!(action, super::super::Action::Announce { .. })),
        "nothing is announced"
    );
    assert_eq!(bench.stack.next_deadline(), None);
    let view = bench.stack.vipa_view();
    assert_eq!((view.dvipas[0].role, view.dvipas[0].rank), (super::super::Role::Backup, Some(30)));
}
