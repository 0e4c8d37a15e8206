//! Choices of targets among the events of this machine: what they are made from, and what routing applications are shown.

use std::time::Duration;

use model::codec::{Address, WireConnection};
use model::control_socket::request::Role;
use model::control_socket::{JobName, Target, TargetState, TargetView, WeightFrom};
use model::dpt::Distribution;
use model::message::{Choose, FromStack, Load, Question, ToStack, View};
use model::transfer::{Abilities, FromHost, Ledger};
use model::{Service, StackIndex};

use super::super::fixture::{Bench, EPOCH, connection, name, tcp};
use super::super::{Action, Event, Scope, ToChoose};

const ROUTED: &str = r#"
[[vipadynamic]]
[[vipadynamic.vipadefine]]
address = "198.18.9.1"
mask = 24
[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
ports = [80]
destip = ["t1", "t2", "t3"]
content_routed = true
"#;

fn web() -> Service {
    tcp("198.18.9.1", 80)
}

/// `rt1` with the router, `t1` and `t2` with the applications `images` and `pages`, `t3` with a server that only listens.
fn cluster(keys: &str) -> Bench {
    let mut bench = Bench::new(&format!("{ROUTED}{keys}"));
    for stack in ["rt1", "t1", "t2", "t3"] {
        bench.up(stack);
        let abilities = Abilities { ledger: Ledger(9), restores: true, injects: true, incarnation: 1 };
        bench.message(stack, FromHost::Abilities(abilities).into()).unwrap();
        bench.listens(stack, web());
    }
    bench.registers("rt1", web(), &[(Role::Routing, "router")]);
    for stack in ["t1", "t2"] {
        bench.registers(stack, web(), &[(Role::Target, "pages"), (Role::Target, "images")]);
    }
    bench.stack.hurry();
    bench.actions();
    bench
}

fn choice(from: &str, jobs: &[&str], besides: &[&str]) -> Event {
    let message = FromStack::Choose(Choose {
        connection: WireConnection(connection(1000, "198.18.9.1:80")),
        epoch: EPOCH,
        question: Question(7),
        jobs: jobs.iter().map(|job| JobName::new(*job).unwrap()).collect(),
        besides: besides.iter().map(|target| target.parse().unwrap()).collect(),
    });
    Event::Message { from: name(from), message }
}

/// What the forwarder is to choose from.
fn asked(bench: &mut Bench, event: Event) -> (ToChoose, Distribution) {
    bench.handle(event).unwrap();
    let mut wanted = bench.actions().into_iter().filter_map(|action| match action {
        Action::Choose { wanted, row } => Some((wanted, (*row).clone())),
        _ => None,
    });
    wanted.next().expect("the forwarder is asked")
}

/// The stacks that a choice of the router is made from, with their weights.
fn among(bench: &mut Bench, jobs: &[&str], besides: &[&str]) -> Vec<(String, u16)> {
    let (_, row) = asked(bench, choice("rt1", jobs, besides));
    row.targets.iter().map(|t| (bench.stack.stack_name(t.stack).unwrap().to_string(), t.weight)).collect()
}

fn names(among: &[(String, u16)]) -> Vec<&str> {
    among.iter().map(|(stack, _)| stack.as_str()).collect()
}

/// What the router is told when the forwarder has chosen this.
fn told(bench: &mut Bench, wanted: ToChoose, stack: Option<StackIndex>) -> Option<Target> {
    bench.handle(Event::Chosen { wanted: Box::new(wanted), stack }).unwrap();
    match &bench.actions()[..] {
        [Action::Send { to, message: ToStack::Chosen(chosen) }] => {
            assert_eq!((to, chosen.question, chosen.epoch), (&name("rt1"), Question(7), EPOCH));
            chosen.target.clone()
        }
        other => panic!("{other:?}"),
    }
}

fn views(bench: &mut Bench) -> Vec<TargetView> {
    let view = View { dvipa: Address(web().dvipa.address()), epoch: EPOCH, port: 80 };
    bench.message("rt1", FromStack::View(view)).unwrap();
    let mut views = bench.actions().into_iter().filter_map(|action| match action {
        Action::Send { message: ToStack::Views(views), .. } => Some(views.views),
        _ => None,
    });
    views.next().expect("it is answered")
}

#[test]
fn a_choice_is_among_the_applications_that_are_wanted_and_not_left_out() {
    let mut bench = cluster("");
    assert_eq!(names(&among(&mut bench, &[], &[])), ["t1", "t2", "t3"]);
    assert_eq!(names(&among(&mut bench, &["images"], &[])), ["t1", "t2"]);
    assert_eq!(names(&among(&mut bench, &["images", "listener"], &["images@t1"])), ["t2", "t3"]);
    assert_eq!(names(&among(&mut bench, &[], &["images@t1"])), ["t1", "t2", "t3"], "it has another one");
    assert_eq!(names(&among(&mut bench, &["videos"], &[])), [""; 0]);
    let (_, row) = asked(&mut bench, choice("t1", &["images"], &[]));
    assert_eq!(row.targets.len(), 1, "t1 gives the connection away");
}

#[test]
fn the_one_who_asked_is_told_an_application_of_the_chosen_stack() {
    let mut bench = cluster("");
    let t1 = bench.stack.stack_index(&name("t1"));
    let (wanted, _) = asked(&mut bench, choice("rt1", &["pages", "images"], &["images@t1"]));
    assert_eq!(told(&mut bench, wanted, t1), Some("pages@t1".parse().unwrap()));
    let (wanted, _) = asked(&mut bench, choice("rt1", &[], &[]));
    assert_eq!(told(&mut bench, wanted, t1), Some("images@t1".parse().unwrap()), "the first by name");
    let (wanted, _) = asked(&mut bench, choice("rt1", &["videos"], &[]));
    assert_eq!(told(&mut bench, wanted, None), None);
    let (wanted, _) = asked(&mut bench, choice("rt1", &["images"], &[]));
    bench.registers("t1", web(), &[]);
    bench.actions();
    assert_eq!(told(&mut bench, wanted, t1), None, "it has ended meanwhile");
}

#[test]
fn drains_weights_of_zero_silence_and_ends_hold_for_choices_from_the_next_one_on() {
    let mut bench = cluster("weights = { t1 = 5, t2 = 0 }\nmethod = \"weighted-round-robin\"");
    assert_eq!(among(&mut bench, &[], &[]), [("t1".to_owned(), 5), ("t3".to_owned(), 1)]);
    let (stack, scope) = (name("t1"), Scope::Service(web()));
    bench.handle(Event::Drain { stack: stack.clone(), scope }).unwrap();
    assert_eq!(names(&among(&mut bench, &[], &[])), ["t3"]);
    bench.handle(Event::Resume { stack: stack.clone(), scope }).unwrap();
    bench.handle(Event::Quiet { stack: name("t3") }).unwrap();
    assert_eq!(names(&among(&mut bench, &[], &[])), ["t1"], "only if no other is left");
    bench.handle(Event::Quiet { stack }).unwrap();
    assert_eq!(names(&among(&mut bench, &[], &[])), ["t1", "t3"]);
    let ttl = Duration::from_secs(60);
    let weights = vec![(name("t1"), 0), (name("t2"), 9)];
    bench.handle(Event::SetWeights { service: web(), weights, ttl }).unwrap();
    assert_eq!(among(&mut bench, &[], &[]), [("t2".to_owned(), 9)]);
    bench.wait(ttl);
    bench.down("t3");
    assert_eq!(names(&among(&mut bench, &[], &[])), ["t1"]);
}

#[test]
fn a_policy_of_the_service_is_one_of_its_choices() {
    let policy =
        "[[vipadynamic.vipadistribute.policy]]\nclient = \"198.18.1.0/24\"\ndestip = [\"t2\", \"t3\"]";
    let mut bench = cluster(policy);
    let (_, row) = asked(&mut bench, choice("rt1", &["images"], &[]));
    let [policy] = &row.policies[..] else { panic!("{row:?}") };
    assert_eq!((row.targets.len(), policy.client.to_string().as_str()), (2, "198.18.1.0/24"));
    let stacks: Vec<_> = policy.targets.iter().map(|t| Some(t.stack)).collect();
    assert_eq!(stacks, [bench.stack.stack_index(&name("t2"))], "t3 has no such application");
}

#[test]
fn a_load_that_changes_a_weight_is_a_choices_weight_and_resends_nothing() {
    let mut bench = cluster("weights = \"load\"\nmethod = \"weighted-round-robin\"");
    let before = among(&mut bench, &["images"], &[]);
    bench.load("t1", 900);
    bench.wait(Duration::from_secs(1));
    let said = bench.actions().into_iter().filter(|action| matches!(action, Action::Send { .. })).count();
    assert_eq!(said, 0, "nobody is told a load unasked");
    let now = among(&mut bench, &["images"], &[]);
    assert!(now[0].1 < before[0].1 && now[1] == before[1], "{before:?} {now:?}");
}

#[test]
fn a_routing_application_is_shown_state_weight_load_and_connections() {
    let mut bench = cluster("weights = { t1 = 5, t2 = 0 }\nmethod = \"weighted-round-robin\"");
    let load =
        Load { cpu_permille: 321, accept_queue_permille: 7, memory_pressure_permille: 1, ..Load::default() };
    bench.message("t1", FromStack::Load(load.clone())).unwrap();
    let t1 = bench.stack.stack_index(&name("t1")).unwrap();
    bench.handle(Event::ConnectionCounts(vec![(t1, 12)])).unwrap();
    bench.registers("t3", web(), &[(Role::Target, "listener")]);
    let weights = vec![(name("t3"), 8)];
    let ttl = Duration::from_secs(60);
    bench.handle(Event::SetWeights { service: web(), weights, ttl }).unwrap();
    bench.handle(Event::Drain { stack: name("t1"), scope: Scope::All }).unwrap();
    let seen: Vec<_> = views(&mut bench)
        .into_iter()
        .map(|v| (v.target.to_string(), v.state, v.weight, v.weight_from, v.connections, v.holds_accepts))
        .collect();
    let configured = WeightFrom::Configured;
    assert_eq!(
        seen,
        [
            ("images@t1".to_owned(), TargetState::Draining, 5, configured, 12, false),
            ("pages@t1".to_owned(), TargetState::Draining, 5, configured, 12, false),
            ("images@t2".to_owned(), TargetState::WeightZero, 0, configured, 0, false),
            ("pages@t2".to_owned(), TargetState::WeightZero, 0, configured, 0, false),
            ("listener@t3".to_owned(), TargetState::Ready, 8, WeightFrom::Controller, 0, true),
        ]
    );
    assert_eq!(views(&mut bench)[0].load, Some(load));
}

#[test]
fn a_question_that_is_not_followed_is_answered_with_the_reason() {
    let mut bench = cluster("");
    let refusals = |bench: &mut Bench| -> Vec<(String, String)> {
        let why = |action| match action {
            Action::Send { to, message: ToStack::Chosen(chosen) } if chosen.question == Question(7) => {
                Some((to.to_string(), chosen.why?.to_string()))
            }
            Action::Send { to, message: ToStack::Views(views) } => {
                Some((to.to_string(), views.why?.to_string()))
            }
            _ => None,
        };
        bench.actions().into_iter().filter_map(why).collect()
    };
    let Event::Message { message: FromStack::Choose(choose), .. } = choice("rt1", &[], &[]) else { panic!() };
    let old = Choose { epoch: model::Epoch(EPOCH.0 - 1), ..choose.clone() };
    bench.message("rt1", FromStack::Choose(old)).unwrap_err();
    let said = refusals(&mut bench);
    assert!(matches!(&said[..], [(to, why)] if to == "rt1" && why.contains("epoch")), "{said:?}");
    bench.up("t4");
    bench.message("t4", FromStack::Choose(choose)).unwrap_err();
    let said = refusals(&mut bench);
    assert!(matches!(&said[..], [(to, why)] if to == "t4" && why.contains("candidate")), "{said:?}");
    let dvipa = Address(web().dvipa.address());
    bench.message("t4", FromStack::View(View { dvipa, epoch: EPOCH, port: 80 })).unwrap_err();
    assert_eq!(refusals(&mut bench).len(), 1);
}
