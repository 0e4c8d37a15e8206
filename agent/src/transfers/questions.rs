//! What applications ask the routing stack about targets, and have not been answered. Pure.
//!
//! | event | a choice | how targets are |
//! | --- | --- | --- |
//! | asked, the DVIPA has an owner | the owner is asked | answered with what was said less than [`VIEWED_FOR`] ago; otherwise the owner is asked, once for all who ask meanwhile |
//! | asked, it has none | refused | refused |
//! | the owner answers | told | all who have asked are told |
//! | whom was asked does not follow the question | refused, with the reason | refused, with the reason |
//! | there is no session with the owner, another stack owns the DVIPA, or [`ANSWERED_WITHIN`] is over | refused | refused |

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::codec::{Address, WireConnection};
use model::control_socket::{Refusal, RequestId, TargetView};
use model::message::{self, Chosen, FromStack, Question, Views};
use model::{Dvipa, Epoch, Protocol, Service, StackName};

use crate::control_socket::{ApplicationId, Choice, Command};

/// The routing stack answers within this time, or is of a version that does not know the question.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// How targets are is asked this often at most: loads are measured and connections counted every second.
const VIEWED_FOR: Duration = Duration::from_secs(1);

/// Who asks, and which of its requests.
type Key = (ApplicationId, RequestId);
/// What to tell whom.
type Told = Vec<(ApplicationId, Command)>;

/// All questions that are open.
#[derive(Debug, Default)]
pub(super) struct Questions {
    last: u64,
    choices: BTreeMap<Question, Open>,
    views: BTreeMap<Service, Viewed>,
}

/// A choice that is open.
#[derive(Debug)]
struct Open {
    key: Key,
    service: Service,
    /// Who is to choose.
    asked: StackName,
    until: Instant,
}

/// How the targets of a service are.
#[derive(Debug, Default)]
struct Viewed {
    known: Option<(Instant, Vec<TargetView>)>,
    waiting: Vec<Key>,
    /// The question is open until then.
    until: Option<Instant>,
    /// Whom it was put to last.
    asked: Option<StackName>,
}

/// What comes of a question at once.
#[derive(Debug)]
pub(super) enum Asked {
    /// The owner is to be asked this.
    Ask(StackName, FromStack),
    /// The application is to be told this.
    Answer(Command),
    /// The owner has been asked already.
    Waits,
}

impl Questions {
    /// An application wants a target for a connection.
    pub(super) fn choose(
        &mut self,
        (application, request): Key,
        choice: Choice,
        owner: Option<&(StackName, Epoch)>,
        now: Instant,
    ) -> Asked {
        let Some((owner, epoch)) = owner else { return Asked::Answer(no_routing_stack(request, None)) };
        let Choice { connection, jobs, besides } = choice;
        self.last += 1;
        let question = Question(self.last);
        let until = now + ANSWERED_WITHIN;
        let (key, service, asked) = ((application, request), connection.service(), owner.clone());
        self.choices.insert(question, Open { key, service, asked, until });
        let (connection, epoch) = (WireConnection(connection), *epoch);
        let choose = message::Choose { connection, epoch, question, jobs, besides };
        Asked::Ask(owner.clone(), FromStack::Choose(choose))
    }

    /// Whom was asked has chosen, or does not follow the question.
    pub(super) fn chosen(&mut self, from: &StackName, chosen: Chosen) -> Option<(ApplicationId, Command)> {
        let Chosen { question, target, why, .. } = chosen;
        self.choices.get(&question).filter(|open| open.asked == *from)?;
        let Open { key: (application, request), .. } = self.choices.remove(&question)?;
        let command = match (target, why) {
            (_, Some(why)) => no_routing_stack(request, Some(&why.to_string())),
            (Some(target), None) => Command::Chosen(request, target),
            (None, None) => Command::Failed { request, why: Refusal::NoTarget, detail: None },
        };
        Some((application, command))
    }

    /// An application wants to know how the targets of a service are.
    pub(super) fn view(
        &mut self,
        (application, request): Key,
        service: Service,
        owner: Option<&(StackName, Epoch)>,
        now: Instant,
    ) -> Asked {
        let Some((owner, epoch)) = owner else { return Asked::Answer(no_routing_stack(request, None)) };
        let viewed = self.views.entry(service).or_default();
        if let Some((at, views)) = &viewed.known
            && now < *at + VIEWED_FOR
        {
            return Asked::Answer(Command::Views(request, views.clone()));
        }
        viewed.waiting.push((application, request));
        if viewed.until.is_some() {
            return Asked::Waits;
        }
        (viewed.until, viewed.asked) = (Some(now + ANSWERED_WITHIN), Some(owner.clone()));
        let (dvipa, epoch, port) = (Address(service.dvipa.address()), *epoch, service.port);
        Asked::Ask(owner.clone(), FromStack::View(message::View { dvipa, epoch, port }))
    }

    /// Whom was asked has said how they are, or does not follow the question.
    pub(super) fn viewed(&mut self, from: &StackName, said: Views, now: Instant) -> Told {
        let Views { dvipa, port, views, why, .. } = said;
        let service = Service { dvipa: Dvipa::new(dvipa.0), port, protocol: Protocol::Tcp };
        let is_open = |viewed: &&mut Viewed| viewed.until.is_some() && viewed.asked.as_ref() == Some(from);
        let Some(viewed) = self.views.get_mut(&service).filter(is_open) else {
            return Told::new();
        };
        viewed.until = None;
        let waiting = std::mem::take(&mut viewed.waiting);
        if let Some(why) = why {
            let why = why.to_string();
            let refused = |(who, request)| (who, no_routing_stack(request, Some(&why)));
            return waiting.into_iter().map(refused).collect();
        }
        let tell = |(application, request): Key| (application, Command::Views(request, views.clone()));
        let told = waiting.into_iter().map(tell).collect();
        viewed.known = Some((now, views));
        told
    }

    /// Other stacks own these DVIPAs now, or none, or the owner's session is over: what was asked before is not answered.
    pub(super) fn disowned(&mut self, is_one: impl Fn(Dvipa) -> bool) -> Told {
        let told = self.refuse(|service, _| is_one(service.dvipa));
        self.views.retain(|service, _| !is_one(service.dvipa));
        told
    }

    /// There is no session in which this could be asked.
    pub(super) fn not_sent(&mut self, message: &FromStack) -> Told {
        match message {
            FromStack::Choose(m) => {
                let asked = self.choices.remove(&m.question);
                asked
                    .map(|Open { key: (who, request), .. }| (who, no_routing_stack(request, None)))
                    .into_iter()
                    .collect()
            }
            FromStack::View(m) => {
                let (dvipa, port, protocol) = (Dvipa::new(m.dvipa.0), m.port, Protocol::Tcp);
                let viewed = self.views.remove(&Service { dvipa, port, protocol });
                let waiting = viewed.map(|viewed| viewed.waiting).unwrap_or_default();
                waiting.into_iter().map(|(who, request)| (who, no_routing_stack(request, None))).collect()
            }
            _ => Told::new(),
        }
    }

    /// Refuses what was not answered in time.
    pub(super) fn time_passed(&mut self, now: Instant) -> Told {
        let told = self.refuse(|_, until| until <= now);
        self.views.retain(|_, viewed| {
            viewed.until.is_some() || viewed.known.as_ref().is_some_and(|(at, _)| now < *at + VIEWED_FOR)
        });
        told
    }

    /// When [`Questions::time_passed`] has somebody to tell.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let choices = self.choices.values().map(|open| open.until);
        choices.chain(self.views.values().filter_map(|viewed| viewed.until)).min()
    }

    /// An application is gone.
    pub(super) fn ended(&mut self, application: ApplicationId) {
        self.choices.retain(|_, open| open.key.0 != application);
        for viewed in self.views.values_mut() {
            viewed.waiting.retain(|(who, _)| *who != application);
        }
    }

    fn refuse(&mut self, is_over: impl Fn(Service, Instant) -> bool) -> Told {
        let mut over: Vec<Key> = Vec::new();
        self.choices.retain(|_, open| {
            let keep = !is_over(open.service, open.until);
            if !keep {
                over.push(open.key);
            }
            keep
        });
        for (service, viewed) in &mut self.views {
            if viewed.until.is_some_and(|until| is_over(*service, until)) {
                viewed.until = None;
                over.append(&mut viewed.waiting);
            }
        }
        let said = "it did not answer, or does not know the question: update it";
        over.into_iter().map(|(who, request)| (who, no_routing_stack(request, Some(said)))).collect()
    }
}

fn no_routing_stack(request: RequestId, detail: Option<&str>) -> Command {
    Command::Failed { request, why: Refusal::NoRoutingStack, detail: detail.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use model::Connection;
    use model::transfer::{Reason, Why};

    use super::*;

    const ONE: Key = (ApplicationId(1), RequestId(11));
    const OTHER: Key = (ApplicationId(2), RequestId(12));

    fn connection() -> Connection {
        let ends: [SocketAddr; 2] = ["198.18.0.2:1000", "198.18.9.1:80"].map(|a| a.parse().unwrap());
        Connection::new(Protocol::Tcp, ends[0], ends[1]).unwrap()
    }

    fn choice() -> Choice {
        Choice { connection: connection(), jobs: Vec::new(), besides: Vec::new() }
    }

    fn owner() -> (StackName, Epoch) {
        ("rt1".parse().unwrap(), Epoch(3))
    }

    fn choose(questions: &mut Questions, key: Key, now: Instant) -> Option<Question> {
        match questions.choose(key, choice(), Some(&owner()), now) {
            Asked::Ask(to, FromStack::Choose(message)) => {
                assert_eq!((to, message.epoch), owner());
                Some(message.question)
            }
            _ => None,
        }
    }

    fn chosen(question: Question, target: Option<&str>) -> Chosen {
        let (connection, epoch) = (WireConnection(connection()), Epoch(3));
        Chosen {
            connection,
            epoch,
            question,
            target: target.map(|target| target.parse().unwrap()),
            why: None,
        }
    }

    fn view(questions: &mut Questions, key: Key, now: Instant) -> Asked {
        questions.view(key, connection().service(), Some(&owner()), now)
    }

    fn views() -> Views {
        let views = Vec::new();
        Views { dvipa: Address(connection().dvipa.ip()), epoch: Epoch(3), port: 80, views, why: None }
    }

    fn refused(told: &Told) -> Vec<Key> {
        let key = |(who, command): &(ApplicationId, Command)| match command {
            Command::Failed { request, why: Refusal::NoRoutingStack, .. } => (*who, *request),
            other => panic!("{other:?}"),
        };
        told.iter().map(key).collect()
    }

    #[test]
    fn a_choice_is_told_to_who_asked_once() {
        let (mut questions, now) = (Questions::default(), Instant::now());
        let [first, second] = [ONE, OTHER].map(|key| choose(&mut questions, key, now).expect("asked"));
        let Some((who, Command::Chosen(request, target))) =
            questions.chosen(&owner().0, chosen(second, Some("a@t1")))
        else {
            panic!("not told")
        };
        assert_eq!(((who, request), target.to_string().as_str()), (OTHER, "a@t1"));
        assert!(questions.chosen(&owner().0, chosen(second, Some("a@t1"))).is_none(), "an answer of before");
        let told = questions.chosen(&owner().0, chosen(first, None));
        assert!(matches!(told, Some((_, Command::Failed { why: Refusal::NoTarget, .. }))), "{told:?}");
        assert_eq!(questions.next_deadline(), None);
    }

    #[test]
    fn a_question_that_is_not_followed_is_refused_at_once_with_the_reason() {
        let (mut questions, now) = (Questions::default(), Instant::now());
        let why = Why::new(Reason::NotOurs, "reports on epoch 3, which is over");
        let question = choose(&mut questions, ONE, now).expect("asked");
        let refusal = Chosen { why: Some(why.clone()), ..chosen(question, None) };
        assert!(questions.chosen(&"rt2".parse().unwrap(), refusal.clone()).is_none(), "rt2 was not asked");
        let told = questions.chosen(&owner().0, refusal).expect("told");
        let says = |command: &Command| match command {
            Command::Failed { why: Refusal::NoRoutingStack, detail: Some(detail), .. } => {
                detail.contains("epoch 3")
            }
            _ => false,
        };
        assert!(says(&told.1), "{told:?}");
        assert!(matches!(view(&mut questions, OTHER, now), Asked::Ask(..)));
        let told = questions.viewed(&owner().0, Views { why: Some(why), ..views() }, now);
        assert_eq!(refused(&told), [OTHER]);
        assert!(matches!(view(&mut questions, OTHER, now), Asked::Ask(..)), "it is asked anew");
    }

    #[test]
    fn what_nobody_answers_is_refused() {
        let (mut questions, now) = (Questions::default(), Instant::now());
        let none = questions.choose(ONE, choice(), None, now);
        assert!(matches!(none, Asked::Answer(Command::Failed { why: Refusal::NoRoutingStack, .. })));
        choose(&mut questions, ONE, now).expect("asked");
        assert!(matches!(view(&mut questions, OTHER, now), Asked::Ask(..)));
        let until = questions.next_deadline().expect("one");
        assert!(questions.time_passed(until - Duration::from_millis(1)).is_empty());
        assert_eq!(refused(&questions.time_passed(until)), [ONE, OTHER]);
        choose(&mut questions, ONE, now).expect("asked");
        assert_eq!(refused(&questions.disowned(|_| true)), [ONE], "another stack owns the DVIPA");
        let asked = questions.choose(OTHER, choice(), Some(&owner()), now);
        let Asked::Ask(_, message) = asked else { panic!("not asked") };
        assert_eq!(refused(&questions.not_sent(&message)), [OTHER], "there is no session");
        let Asked::Ask(_, message) = view(&mut questions, OTHER, now) else { panic!("not asked") };
        assert_eq!(refused(&questions.not_sent(&message)), [OTHER], "nor for this");
        choose(&mut questions, ONE, now).expect("asked");
        view(&mut questions, ONE, now);
        questions.ended(ONE.0);
        assert!(questions.time_passed(now + ANSWERED_WITHIN).is_empty(), "it has ended itself");
        assert!(questions.choices.is_empty() && questions.views.is_empty());
    }

    #[test]
    fn how_targets_are_is_asked_once_a_second_however_many_ask() {
        let (mut questions, now) = (Questions::default(), Instant::now());
        assert!(matches!(view(&mut questions, ONE, now), Asked::Ask(..)));
        assert!(matches!(view(&mut questions, OTHER, now), Asked::Waits));
        let told: Vec<Key> = questions
            .viewed(&owner().0, views(), now)
            .iter()
            .map(|(who, command)| match command {
                Command::Views(request, _) => (*who, *request),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [ONE, OTHER]);
        assert!(questions.viewed(&owner().0, views(), now).is_empty(), "nobody has asked");
        let soon = now + VIEWED_FOR - Duration::from_millis(1);
        assert!(matches!(view(&mut questions, ONE, soon), Asked::Answer(Command::Views(..))));
        assert!(matches!(view(&mut questions, ONE, now + VIEWED_FOR), Asked::Ask(..)));
    }
}
