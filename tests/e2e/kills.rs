//! Each process that takes part in a transfer is killed, at each of its steps; what that may cost is written in `transfer/src/lib.rs`.
//!
//! `BATON_SOAK` has all victims killed at all steps; without it some, which depends on the seed (`BATON_SEED`). `BATON_STEP` has
//! all victims killed at one step.

pub(crate) mod stage;

use std::collections::BTreeMap;
use std::time::Duration;

use lab::Spec;

use crate::soak::{Condition, Field, seed};
use crate::takeover::backup;
use stage::{Outcome, Stage, Victim};

/// Steps of a transfer from t1 to t2, by who stands still before them.
const STEPS: [(&str, &str); 25] = [
    ("agent-t1", "source.Prepare"),
    ("batond", "routing.Consult"),
    ("batond", "routing.Offer"),
    ("agent-t1", "source.State"),
    ("batond", "routing.State"),
    ("agent-t2", "target.ask"),
    ("agent-t2", "target.Agreed"),
    ("batond", "routing.freeze"),
    ("batond", "routing.Freeze"),
    ("agent-t1", "source.freeze"),
    ("agent-t1", "source.dump"),
    ("agent-t1", "source.Part"),
    ("batond", "routing.Part"),
    ("agent-t2", "target.restore"),
    ("batond", "routing.Commit"),
    ("agent-t2", "target.pass"),
    ("agent-t2", "target.activate"),
    ("agent-t2", "target.Active"),
    ("batond", "routing.thaw"),
    ("batond", "routing.Released"),
    ("agent-t1", "source.discard"),
    ("agent-t1", "source.moved"),
    ("agent-t1", "source.Done"),
    ("batond", "routing.Settled"),
    ("agent-t2", "target.forget"),
];

/// How many of all cases a run without `BATON_SOAK` takes.
const SOME: usize = 8;
/// And how many steps at which the owner is killed for good.
const SOME_TAKEOVERS: usize = 3;

/// Whether the connection may be lost.
fn may_be_lost(step: usize, victim: Victim) -> bool {
    let at = |name: &str| STEPS.iter().position(|(_, step)| *step == name).expect("there is such a step");
    match victim {
        Victim::RoutingStack | Victim::SourceAgent | Victim::TargetAgent | Victim::SourceApplication => false,
        // It has the connection, or dies while it is given it.
        Victim::TargetApplication => step >= at("target.pass"),
    }
}

/// C5, C8: a download is whole whichever process is killed at whichever step of its transfer, but for the losses that are written
/// down; connections beside it do not notice.
#[test]
#[ignore = "needs root"]
fn a_kill_at_any_step_costs_no_more_than_is_written_down() {
    let (stage, seed) = (Stage::set(), seed());
    let all = (0..STEPS.len()).flat_map(|step| Victim::ALL.map(|victim| (step, victim)));
    let mut cases: Vec<_> = all.collect();
    if let Ok(only) = std::env::var("BATON_STEP") {
        cases.retain(|(step, _)| STEPS[*step].1 == only);
    } else if std::env::var("BATON_SOAK").is_err() {
        // Every n-th of them, from a place that the seed says: all victims, and steps of all roles.
        let every = cases.len() / SOME;
        cases = cases.into_iter().skip((seed >> 8) as usize % every).step_by(every).collect();
    }
    let mut outcomes = BTreeMap::new();
    for (step, victim) in cases {
        let (program, name) = STEPS[step];
        let outcome = stage.play(program, name, victim);
        println!("{name:18} {victim:?}: {outcome:?}");
        let bad = matches!(outcome, Outcome::Lost(_)) && !may_be_lost(step, victim);
        assert!(!bad, "{victim:?} killed before {name} (BATON_SEED={seed}): {outcome:?}");
        outcomes.insert((step, victim), outcome);
    }
    print(&outcomes);
}

/// C5, W7: the owner is killed at any of its steps of a transfer, and its backup takes over: the download is whole, at the source or at
/// the target, and connections beside it do not notice.
#[test]
#[ignore = "needs root"]
fn a_transfer_whose_owner_is_killed_ends_at_its_successor() {
    let stage = Stage::on(Spec::content_routed().second(backup()));
    let steps: Vec<&str> =
        STEPS.iter().filter(|(program, _)| *program == "batond").map(|(_, step)| *step).collect();
    let every = if std::env::var("BATON_SOAK").is_ok() { 1 } else { steps.len() / SOME_TAKEOVERS };
    for step in steps.iter().skip((seed() >> 8) as usize % every).step_by(every) {
        let outcome = stage.play_takeover(step);
        println!("{step:18} {outcome:?}");
        assert!(matches!(outcome, Outcome::Moved | Outcome::Stayed), "killed before {step}: {outcome:?}");
    }
}

/// A row for each step, a column for each victim.
fn print(outcomes: &BTreeMap<(usize, Victim), Outcome>) {
    println!("{:18} {}", "killed before", Victim::ALL.map(|v| format!("{:18}", format!("{v:?}"))).concat());
    for (step, (_, name)) in STEPS.iter().enumerate() {
        let words = Victim::ALL.map(|victim| outcomes.get(&(step, victim)).map_or("", Outcome::word));
        if words.iter().any(|word| !word.is_empty()) {
            println!("{name:18} {}", words.map(|word| format!("{word:18}")).concat());
        }
    }
}

/// C5, C8: agents and `batond` are killed and started again while many connections move and carry bytes both ways: they
/// wait, and none is lost.
#[test]
#[ignore = "needs root"]
fn killed_agents_and_routing_stacks_cost_no_connection_that_moves() {
    let field = Field::begin(Spec::content_routed());
    field.soak_while(&Condition::named("kills"), Duration::from_secs(4), || {
        for victim in ["agent-t1", "agent-t2", "batond", "agent-t3", "agent-t2"] {
            std::thread::sleep(Duration::from_millis(500));
            field.lab.kill(victim).expect("it is killed");
            match victim.strip_prefix("agent-") {
                Some(stack) => field.lab.start_agent(stack).expect("it starts"),
                None => field.lab.start_batond().expect("it starts"),
            }
        }
    });
    // Of the last `batond`.
    assert!(field.moved() > 20, "it moves connections again: {:?}", field.outcomes());
}
