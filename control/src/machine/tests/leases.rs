//! Where witnesses decide, or etcd does: what is owned while they lease it, and until when workers may say so. The witnesses are the agents'
//! own.

use std::time::{Duration, Instant};

use model::message::{FromStack, ToStack};
use model::peer::ToPeer;
use ownership::etcd::{Answer, LeaseId, News, Question, Revision, Term};
use ownership::{Deed, Kept, Witness};

use super::super::fixture::{Bench, EPOCH, WEB, config, dvipa, name};
use super::super::{Action, Event, Identity, RoutingStack};
use crate::config::{Config, Etcd, VipaDynamic};

const WITNESSES: [&str; 3] = ["t1", "t2", "t3"];

/// `rt1` and the witnesses that are up.
struct Leased {
    bench: Bench,
    witnesses: Vec<(&'static str, Witness)>,
    fence: Option<Instant>,
}

impl Leased {
    fn new() -> Self {
        let now = Instant::now();
        let mut config = config(WEB);
        config.cluster.witnesses = WITNESSES.map(name).into();
        let identity = Identity { incarnation: 1, version: "0.1.0".to_owned(), first_epoch: EPOCH };
        let stack = RoutingStack::new(identity, config, now).unwrap();
        let witnesses = WITNESSES.map(|name| (name, Witness::new(Kept::default(), now))).into();
        let mut new = Self { bench: Bench { stack, now }, witnesses, fence: None };
        WITNESSES.iter().for_each(|witness| new.bench.up(witness));
        // The witnesses have begun anew, and lease to none at first.
        new.wait(Duration::from_secs(2));
        new
    }

    /// Time passes in steps that are shorter than a renewal takes, and all that is said is heard.
    fn wait(&mut self, time: Duration) {
        let step = Duration::from_millis(50);
        for _ in 0..time.as_millis() / step.as_millis() {
            self.bench.wait(step);
            self.talk();
        }
    }

    fn talk(&mut self) {
        loop {
            let now = self.bench.now;
            let mut says = Vec::new();
            for action in self.bench.actions() {
                let Action::Send { to, message: ToStack::Ownership(message) } = action else { continue };
                if let Some((_, witness)) = self.witnesses.iter_mut().find(|(name, _)| to.as_str() == *name) {
                    witness.heard(&name("rt1"), message, now);
                }
            }
            for (name, witness) in &mut self.witnesses {
                witness.tick(now);
                while let Some(deed) = witness.poll() {
                    if let Deed::Send { message, .. } = deed {
                        says.push((*name, FromStack::Ownership(message)));
                    }
                }
            }
            let quiet = says.is_empty();
            says.into_iter().for_each(|(from, message)| self.bench.message(from, message).unwrap());
            if let Some(fence) = self.bench.stack.moved_fence() {
                self.fence = Some(fence);
            }
            if quiet {
                return;
            }
        }
    }

    fn owns(&self) -> bool {
        self.bench
            .stack
            .dpt()
            .dvipas
            .iter()
            .any(|entry| entry.dvipa == dvipa("198.18.9.1") && entry.duty == model::dpt::Duty::Owner)
    }
}

#[test]
fn workers_are_told_until_when_a_majority_leases_what_is_owned() {
    let mut leased = Leased::new();
    assert!(leased.owns());
    let first = leased.fence.expect("it is leased");
    assert!(first > leased.bench.now && first < leased.bench.now + Duration::from_millis(600));
    leased.wait(Duration::from_millis(400));
    let next = leased.fence.expect("it is leased");
    assert!(next > first, "renewed");
    // One witness less is a majority still; one more is not.
    leased.witnesses.pop();
    leased.wait(Duration::from_secs(1));
    assert!(leased.owns() && leased.fence.is_some_and(|fence| fence > leased.bench.now));
    leased.witnesses.pop();
    let last = leased.fence.expect("it is leased");
    leased.wait(Duration::from_secs(1));
    assert!(!leased.owns());
    assert_eq!(leased.fence, Some(last), "it is over");
}

/// An etcd that grants all that it is asked; what it was asked to revoke, and whether the workers had been told before.
fn grant_all(bench: &mut Bench) -> Vec<bool> {
    let (mut revoked, mut told, mut lease) = (Vec::new(), false, 0);
    loop {
        let mut answers = Vec::new();
        for action in bench.actions() {
            told |= matches!(action, Action::Publish(_));
            let Action::AskEtcd { ask, question } = action else { continue };
            let answer = match question {
                Question::Grant { ttl_s } => {
                    lease += 1;
                    Answer::Granted { lease: LeaseId(lease), ttl_s }
                }
                Question::Claim { .. } => Answer::Claimed { revision: Revision(9) },
                Question::Renew { leases } => Answer::Renewed { term: Term(3), leases, gone: Vec::new() },
                Question::Confirm => Answer::Confirmed { term: Term(3) },
                Question::Revoke { .. } => {
                    revoked.push(told);
                    Answer::Revoked
                }
            };
            answers.push(Event::Etcd(News::Answer { ask, answer }));
        }
        if answers.is_empty() {
            return revoked;
        }
        answers.into_iter().for_each(|answer| bench.handle(answer).unwrap());
    }
}

fn etcd() -> Etcd {
    Etcd {
        endpoints: vec!["http://198.18.0.31:2379".to_owned()],
        prefix: "/baton/".to_owned(),
        ca: None,
        certificate: None,
    }
}

/// `rt1` with this configuration.
fn begun(config: Config) -> Bench {
    let now = Instant::now();
    let identity = Identity { incarnation: 1, version: "0.1.0".to_owned(), first_epoch: EPOCH };
    Bench { stack: RoutingStack::new(identity, config, now).unwrap(), now }
}

#[test]
fn one_that_does_not_reach_etcd_gives_way_until_it_does() {
    let other = "[[routing_stack]]\nname = \"rt2\"\naddress = \"198.18.0.11:7441\"\n";
    let mut config = config(&format!("{other}{WEB}"));
    config.cluster.etcd = Some(etcd());
    let mut bench = begun(config);
    bench.handle(Event::PeerUp { stack: name("rt2") }).unwrap();
    bench.actions();
    let mut says_that_it_leaves = |answers| {
        bench.handle(Event::Etcd(News::Answers(answers))).unwrap();
        let said = bench.actions().into_iter().filter_map(|action| match action {
            Action::Tell { message: ToPeer::Definitions(said), .. } => Some(said.leaving),
            _ => None,
        });
        said.last()
    };
    assert_eq!(says_that_it_leaves(true), None, "as before");
    assert_eq!(says_that_it_leaves(false), Some(Some(true)));
    assert_eq!(says_that_it_leaves(false), None, "once");
    assert_eq!(says_that_it_leaves(true), Some(None));
}

#[test]
fn where_etcd_decides_workers_are_told_of_its_leases_and_before_it_hears_that_one_is_released() {
    let mut config = config(WEB);
    config.cluster.lease = Duration::from_secs(2);
    config.cluster.etcd = Some(etcd());
    let mut bench = begun(config.clone());
    let now = bench.now;
    assert!(!bench.stack.owns());
    assert!(grant_all(&mut bench).is_empty());
    assert!(bench.stack.owns());
    let first = bench.stack.moved_fence().expect("it is leased");
    assert!(first > now && first < now + Duration::from_secs(2));
    bench.wait(Duration::from_millis(400));
    grant_all(&mut bench);
    assert!(bench.stack.moved_fence().is_some_and(|fence| fence > first), "renewed");
    config.vipadynamic = VipaDynamic::default();
    bench.handle(Event::Configure(Box::new(config))).unwrap();
    let revoked = grant_all(&mut bench);
    assert!(!revoked.is_empty() && revoked.iter().all(|told| *told), "{revoked:?}");
    assert!(!bench.stack.owns());
}
