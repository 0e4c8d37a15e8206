//! Who may be selected for a new connection, and why not.

use std::time::Duration;

use model::control_socket::request::Role;
use model::dpt::{Encapsulation, Reach};
use model::message::{FromStack, Srvstat};
use model::{Epoch, StackIndex};

use super::super::fixture::{Bench, EPOCH, WEB, config, dvipa, name, session_up, srvstat, tcp};
use super::super::{Event, OrderRefusal, RefusalKind, Scope, TargetState, WeightSource};

const VIP: &str = "198.18.9.1";
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

#[test]
fn a_target_is_selected_from_the_moment_it_listens_to_the_moment_it_stops() {
    let mut bench = Bench::new(WEB);
    let web = tcp(VIP, 80);
    assert_eq!(bench.targets(web), Some(vec![]), "an enumerated port is always in the DPT");
    bench.up("t1");
    assert_eq!(bench.states(web)["t1"], TargetState::NotReported);
    bench.message("t1", srvstat(web, false, true)).unwrap();
    assert_eq!(bench.states(web)["t1"], TargetState::NotListening);
    bench.listens("t1", web);
    assert_eq!(bench.targets(web), Some(vec![("t1".to_owned(), 1)]));
    assert_eq!(bench.targets(tcp(VIP, 443)), Some(vec![]));
    bench.stops("t1", web);
    assert_eq!(bench.targets(web), Some(vec![]));
}

#[test]
fn a_complete_report_replaces_what_was_said_before() {
    let mut bench = Bench::new(WEB);
    bench.up("t1");
    bench.listens("t1", tcp(VIP, 80));
    bench.message("t1", srvstat(tcp(VIP, 443), true, true)).unwrap();
    assert!(bench.selectable(tcp(VIP, 80)).is_empty());
    assert_eq!(bench.selectable(tcp(VIP, 443)), ["t1"]);
}

#[test]
fn a_candidate_is_known_by_name_or_by_cluster_address() {
    let mut bench = Bench::new(WEB);
    assert_eq!(bench.states(tcp(VIP, 80)).keys().collect::<Vec<_>>(), ["198.18.0.23", "t1", "t2"]);
    assert_eq!(bench.states(tcp(VIP, 80))["198.18.0.23"], TargetState::NeverSeen);
    bench.up("t3");
    bench.listens("t3", tcp(VIP, 80));
    assert_eq!(bench.selectable(tcp(VIP, 80)), ["t3"]);
}

#[test]
fn a_stack_that_is_no_candidate_is_not_selected_whatever_it_says() {
    let mut bench = Bench::new(WEB);
    bench.up("t4");
    let refusal = bench.message("t4", srvstat(tcp(VIP, 80), true, false)).unwrap_err();
    assert_eq!(refusal.kind(), RefusalKind::NoCandidate);
    assert!(bench.selectable(tcp(VIP, 80)).is_empty());
    assert_eq!(bench.stack.status_view().stacks[0].listens, 0);
    let more = WEB.replace("\"t1\", ", "\"t1\", \"t4\", ");
    bench.handle(Event::Configure(Box::new(config(&more)))).unwrap();
    assert!(bench.selectable(tcp(VIP, 80)).is_empty(), "it was not asked when it said so");
    bench.listens("t4", tcp(VIP, 80));
    assert_eq!(bench.selectable(tcp(VIP, 80)), ["t4"]);
}

/// W11
#[test]
fn all_includes_stacks_that_join_later() {
    let mut bench = Bench::new(ALL);
    let web = tcp(VIP, 80);
    for (i, stack) in ["t1", "t2", "t3"].into_iter().enumerate() {
        bench.up(stack);
        bench.listens(stack, web);
        assert_eq!(bench.selectable(web).len(), i + 1);
    }
    bench.up("rt1");
    bench.listens("rt1", web);
    assert_eq!(bench.selectable(web), ["t1", "t2", "t3", "rt1"], "this node's own kernel is a stack too");
    let own = &bench.stack.dpt().stacks[3];
    assert_eq!((own.name.as_str(), &own.reach), ("rt1", &Reach::Local));
}

/// U1
#[test]
fn a_port_that_is_not_enumerated_is_distributed_while_somebody_listens_on_it() {
    let ftp = r#"
[[vipadynamic]]
[[vipadynamic.vipadefine]]
address = "198.18.9.1"
mask = 24
[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
ports = [21]
destip = ["t1", "t2"]
[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
destip = ["t1"]
method = "least-connections"
"#;
    let mut bench = Bench::new(ftp);
    bench.up("t1");
    bench.up("t2");
    let data = tcp(VIP, 50_123);
    assert_eq!(bench.targets(data), None);
    bench.listens("t1", data);
    bench.listens("t2", data);
    assert_eq!(bench.selectable(data), ["t1"], "t2 is no candidate of the definition without ports");
    bench.listens("t2", tcp(VIP, 21));
    assert_eq!(bench.selectable(tcp(VIP, 21)), ["t2"], "an enumerated port belongs to its own definition");
    assert_eq!(bench.stack.dpt().distributions.len(), 2);
    bench.stops("t1", data);
    assert_eq!(bench.targets(data), None);
}

#[test]
fn a_lost_target_is_not_selected_and_comes_back_only_with_its_report() {
    let mut bench = Bench::new(WEB);
    let web = tcp(VIP, 80);
    bench.up("t1");
    bench.listens("t1", web);
    bench.down("t1");
    assert_eq!(bench.states(web)["t1"], TargetState::Lost);
    assert!(bench.selectable(web).is_empty());
    bench.up("t1");
    assert_eq!(bench.states(web)["t1"], TargetState::NotReported);
    bench.message("t1", srvstat(web, true, true)).unwrap();
    assert_eq!(bench.selectable(web), ["t1"]);
}

#[test]
fn nothing_was_said_yet_in_a_new_session() {
    let mut bench = Bench::new(WEB);
    bench.up("t1");
    bench.listens("t1", tcp(VIP, 80));
    assert_eq!(bench.selectable(tcp(VIP, 80)), ["t1"]);
    bench.down("t1");
    bench.up("t1");
    assert!(bench.selectable(tcp(VIP, 80)).is_empty());
}

#[test]
fn a_report_of_another_epoch_is_void() {
    let mut bench = Bench::new(WEB);
    bench.up("t1");
    for epoch in [Epoch(EPOCH.0 - 1), Epoch(EPOCH.0 + 1)] {
        let FromStack::Srvstat(now) = srvstat(tcp(VIP, 80), true, true) else { unreachable!() };
        let refusal = bench.message("t1", FromStack::Srvstat(Srvstat { epoch, ..now })).unwrap_err();
        assert_eq!(refusal.kind(), RefusalKind::OtherEpoch);
    }
    assert!(bench.selectable(tcp(VIP, 80)).is_empty());
    let refusal = bench.message("t1", srvstat(tcp("198.18.9.99", 80), true, true)).unwrap_err();
    assert_eq!(refusal.kind(), RefusalKind::NotOurs);
}

#[test]
fn draining_stops_selection_in_its_scope_and_resuming_ends_it() {
    let mut bench = Bench::new(WEB);
    let (web, tls) = (tcp(VIP, 80), tcp(VIP, 443));
    bench.up("t1");
    bench.listens("t1", web);
    bench.listens("t1", tls);
    let drain = |scope| Event::Drain { stack: name("t1"), scope };
    let resume = |scope| Event::Resume { stack: name("t1"), scope };
    bench.handle(drain(Scope::Service(web))).unwrap();
    assert_eq!(bench.states(web)["t1"], TargetState::Draining);
    assert_eq!(bench.selectable(tls), ["t1"]);
    bench.handle(drain(Scope::Dvipa(dvipa(VIP)))).unwrap();
    assert!(bench.selectable(tls).is_empty());
    bench.handle(resume(Scope::Service(web))).unwrap();
    assert_eq!(bench.states(web)["t1"], TargetState::Draining, "the address still drains");
    bench.handle(drain(Scope::All)).unwrap();
    bench.down("t1");
    bench.up("t1");
    bench.listens("t1", web);
    assert_eq!(bench.states(web)["t1"], TargetState::Draining, "a drain outlives the session");
    bench.handle(resume(Scope::All)).unwrap();
    assert_eq!(bench.selectable(web), ["t1"]);
    assert_eq!(bench.handle(resume(Scope::All)), Err(OrderRefusal::NotDraining(name("t1")).into()));
    for scope in [Scope::All, Scope::Dvipa(dvipa(VIP)), Scope::Service(web)] {
        for unknown in [Event::Drain { stack: name("t9"), scope }, Event::Resume { stack: name("t9"), scope }]
        {
            assert_eq!(bench.handle(unknown), Err(OrderRefusal::NoSuchStack(name("t9")).into()));
        }
    }
    let (elsewhere, other) = (dvipa("198.18.9.77"), tcp(VIP, 81));
    let orders: [fn(Scope) -> Event; 2] = [drain, resume];
    for order in orders {
        assert_eq!(
            bench.handle(order(Scope::Dvipa(elsewhere))),
            Err(OrderRefusal::NoSuchDvipa(elsewhere).into())
        );
        assert_eq!(
            bench.handle(order(Scope::Service(other))),
            Err(OrderRefusal::NotDistributed(other).into())
        );
    }
    assert_eq!(
        bench.handle(Event::Drain { stack: name("t2"), scope: Scope::All }),
        Ok(()),
        "named, though never seen"
    );
}

#[test]
fn two_stacks_with_one_address_leave_it_to_the_one_that_was_here_first() {
    let mut bench = Bench::new(ALL);
    let web = tcp(VIP, 80);
    bench.up("t1");
    bench.listens("t1", web);
    bench.up_at("t2", "198.18.0.21");
    bench.listens("t2", web);
    assert_eq!(bench.states(web)["t2"], TargetState::AddressConflict);
    assert_eq!(bench.selectable(web), ["t1"]);
    bench.down("t1");
    assert_eq!(bench.selectable(web), ["t2"], "the first one is gone, the second has it");
    bench.up_at("t3", "198.18.0.10");
    bench.listens("t3", web);
    assert_eq!(bench.states(web)["t3"], TargetState::AddressConflict, "that is this node's own");
}

#[test]
fn a_stack_without_an_address_of_a_family_of_this_node_is_unreachable() {
    let mut only_v4 = config(ALL);
    only_v4.node.cluster_address.v6 = None;
    let mut bench = Bench::new(ALL);
    let identity = bench.stack.identity.clone();
    bench.stack = super::super::RoutingStack::new(identity, only_v4, bench.now).unwrap();
    bench.up_at("t1", "2001:db8::21");
    bench.listens("t1", tcp(VIP, 80));
    assert_eq!(bench.states(tcp(VIP, 80))["t1"], TargetState::Unreachable);
    assert!(bench.selectable(tcp(VIP, 80)).is_empty());
}

#[test]
fn a_stack_at_addresses_that_can_not_be_is_refused_and_not_heard() {
    let mut bench = Bench::new(WEB);
    for addresses in [&[][..], &["198.18.0.21", "198.18.0.22"], &["0.0.0.0"], &["ff02::1"]] {
        bench.up("t1");
        let refusal = bench.handle(session_up("t1", addresses)).unwrap_err();
        assert_eq!(refusal.kind(), RefusalKind::BadClusterAddress);
        assert_eq!(
            bench.message("t1", srvstat(tcp(VIP, 80), true, true)).unwrap_err().kind(),
            RefusalKind::NoSession
        );
    }
}

#[test]
fn numbers_of_stacks_are_given_once_and_stay() {
    let mut bench = Bench::new(ALL);
    for stack in ["t3", "t1", "t2"] {
        bench.up(stack);
    }
    bench.down("t3");
    bench.up("t1");
    bench.up("t4");
    bench.up("t3");
    let number = |bench: &Bench, stack| bench.stack.stack_index(&name(stack));
    assert_eq!(number(&bench, "t3"), Some(StackIndex(0)));
    assert_eq!(number(&bench, "t4"), Some(StackIndex(3)));
    bench.actions();
    let numbers: Vec<u16> = bench.stack.dpt().stacks.iter().map(|s| s.index.0).collect();
    assert_eq!(numbers, [0, 1, 2, 3], "also those that are gone");
}

#[test]
fn the_encapsulation_of_a_stack_comes_before_the_default() {
    let mut bench = Bench::new(&format!("{ALL}\n[[stack]]\nname = \"t2\"\nencapsulation = \"l2\"\n"));
    bench.up("t1");
    bench.up("t2");
    bench.actions();
    let how = |i: usize| match &bench.stack.dpt().stacks[i].reach {
        Reach::Remote { encapsulation, .. } => *encapsulation,
        Reach::Local => panic!("not local"),
    };
    assert_eq!((how(0), how(1)), (Encapsulation::Gue, Encapsulation::L2));
}

#[test]
fn content_routed_connections_go_to_this_node_first() {
    let mut bench = Bench::new(&ALL.replace("destip = \"all\"", "destip = [\"t1\"]\ncontent_routed = true"));
    let web = tcp(VIP, 80);
    for stack in ["t1", "rt1"] {
        bench.up(stack);
        bench.listens(stack, web);
    }
    assert_eq!(bench.states(web)["rt1"], TargetState::NoRoutingApplication);
    bench.registers("rt1", web, &[(Role::Routing, "router")]);
    assert_eq!(bench.selectable(web), ["rt1"]);
    assert_eq!(bench.states(web)["t1"], TargetState::TransferOnly);
}

#[test]
fn weights_come_from_the_controller_then_the_definition_then_one() {
    let weighted = WEB.replace(
        "destip = [\"t1\", \"t2\", \"198.18.0.23\"]",
        "destip = [\"t1\", \"t2\", \"198.18.0.23\"]\nmethod = \"weighted-round-robin\"\nweights = { t1 = 10, \"198.18.0.23\" = 0 }",
    );
    let mut bench = Bench::new(&weighted);
    let web = tcp(VIP, 80);
    for stack in ["t1", "t2", "t3"] {
        bench.up(stack);
        bench.listens(stack, web);
    }
    let weights = |bench: &mut Bench| bench.targets(web).unwrap();
    assert_eq!(weights(&mut bench), [("t1".to_owned(), 10), ("t2".to_owned(), 1)]);
    assert_eq!(bench.states(web)["t3"], TargetState::WeightZero);

    let set = |weights: &[(&str, u16)], seconds| Event::SetWeights {
        service: web,
        weights: weights.iter().map(|(stack, weight)| (name(stack), *weight)).collect(),
        ttl: Duration::from_secs(seconds),
    };
    bench.handle(set(&[("t1", 0), ("t3", 7)], 30)).unwrap();
    assert_eq!(weights(&mut bench), [("t2".to_owned(), 1), ("t3".to_owned(), 7)]);
    let view = bench.stack.dpt_view(bench.now + Duration::from_secs(10));
    let row = view.services.iter().find(|s| s.port == 80).unwrap();
    assert_eq!(row.targets[0].weight_source, WeightSource::Controller { expires_in_ms: 20_000 });
    bench.wait(Duration::from_secs(30));
    assert_eq!(weights(&mut bench), [("t1".to_owned(), 10), ("t2".to_owned(), 1)], "they expired");

    assert_eq!(bench.handle(set(&[("t1", 1)], 0)).unwrap_err(), OrderRefusal::BadWeightLife(0).into());
    let refusal = bench.handle(set(&[("t9", 1)], 5)).unwrap_err();
    assert_eq!(refusal, OrderRefusal::NoSuchStack(name("t9")).into());
    bench.up("t4");
    let refusal = bench.handle(set(&[("t4", 1)], 5)).unwrap_err();
    assert_eq!(refusal, OrderRefusal::NotACandidate { stack: name("t4"), service: web }.into());
    let other = Event::SetWeights { service: tcp(VIP, 81), weights: vec![], ttl: Duration::ZERO };
    assert_eq!(bench.handle(other).unwrap_err(), OrderRefusal::NotDistributed(tcp(VIP, 81)).into());
    bench.handle(set(&[("t1", 3)], 60)).unwrap();
    bench.handle(set(&[], 0)).unwrap();
    assert_eq!(weights(&mut bench)[0].1, 10, "none takes them back");
}

#[test]
fn weights_from_load_follow_it_and_do_not_republish_needlessly() {
    let loaded = WEB.replace("destip = [", "method = \"least-connections\"\nweights = \"load\"\ndestip = [");
    let mut bench = Bench::new(&loaded);
    let web = tcp(VIP, 80);
    for stack in ["t1", "t2"] {
        bench.up(stack);
        bench.listens(stack, web);
    }
    assert_eq!(bench.targets(web).unwrap()[0].1, 50, "nothing said yet");
    bench.load("t1", 0);
    bench.load("t2", 900);
    assert_eq!(bench.targets(web).unwrap(), [("t1".to_owned(), 100), ("t2".to_owned(), 10)]);
    let generation = bench.stack.dpt().generation;
    bench.load("t1", 20);
    bench.load("t2", 890);
    bench.actions();
    assert_eq!(bench.stack.dpt().generation, generation, "too small a change to tell the workers");
    bench.down("t1");
    bench.up("t1");
    bench.listens("t1", web);
    assert_eq!(bench.targets(web).unwrap()[0].1, 50, "load is not remembered over sessions");
}

#[test]
fn a_policy_gives_its_clients_its_own_targets_and_weights() {
    let policies = format!(
        "{WEB}method = \"maglev\"\n[[vipadynamic.vipadistribute.policy]]\nclient = \"198.18.1.0/24\"\ndestip = [\"t2\"]\nweights = {{ t2 = 9 }}\n"
    );
    let mut bench = Bench::new(&policies);
    let web = tcp(VIP, 80);
    for stack in ["t1", "t2"] {
        bench.up(stack);
        bench.listens(stack, web);
    }
    assert_eq!(bench.selectable(web), ["t1", "t2"]);
    let policy = bench.stack.dpt().distributions[0].policies[0].clone();
    assert_eq!(policy.client.to_string(), "198.18.1.0/24");
    assert_eq!(policy.targets.iter().map(|t| (t.stack.0, t.weight)).collect::<Vec<_>>(), [(1, 9)]);
    bench.stops("t2", web);
    bench.actions();
    assert!(bench.stack.dpt().distributions[0].policies[0].targets.is_empty(), "never another one");
}

#[test]
fn who_serves_keeps_its_flows_whether_it_is_selected_or_not() {
    let mut bench = Bench::new(WEB);
    let web = tcp(VIP, 80);
    for stack in ["t1", "t2"] {
        bench.up(stack);
        bench.listens(stack, web);
    }
    let serving = |bench: &mut Bench| {
        bench.actions();
        let row = bench.stack.dpt().distributions.iter().find(|row| row.port == 80).unwrap();
        let name = |index: &StackIndex| bench.stack.stack_name(*index).unwrap().to_string();
        row.serving.iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(serving(&mut bench), ["t1", "t2"]);
    bench.down("t2");
    assert_eq!(bench.selectable(web), ["t1"]);
    assert_eq!(serving(&mut bench), ["t1", "t2"], "a lost session says nothing of the host's servers");
    bench.stops("t1", web);
    assert_eq!(serving(&mut bench), ["t2"]);
    let others = WEB.replace("\"t1\", \"t2\"", "\"t1\"");
    assert_ne!(others, WEB);
    bench.handle(Event::Configure(Box::new(config(&others)))).unwrap();
    assert_eq!(serving(&mut bench), Vec::<String>::new(), "nothing defines it as a target any more");
}

#[test]
fn a_bounded_look_shows_some_services_and_counts_the_others() {
    let ports = WEB.replace("[80, 443]", "[80, 81, 82]");
    let mut bench = Bench::new(&ports);
    ["t1", "t2"].into_iter().for_each(|stack| bench.up(stack));
    let shown = |most| {
        let (view, left_out) = bench.stack.dpt_view_within(most, bench.now);
        (view.services.iter().map(|service| service.port).collect::<Vec<_>>(), left_out)
    };
    assert_eq!(shown(3), (vec![80], 2));
    assert_eq!(shown(4), (vec![80, 81], 1), "a service is shown whole");
    assert_eq!(shown(100), (vec![80, 81, 82], 0));
    let all = bench.stack.dpt_view(bench.now);
    assert_eq!(bench.stack.dpt_view_within(100, bench.now).0, all);
}
