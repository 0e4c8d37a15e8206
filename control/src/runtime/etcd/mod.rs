//! Asks etcd what the machine wants to know of it. Nothing is decided here.
//!
//! Each question goes to the member that has answered last; the next member is asked too when that one fails, or says nothing for a
//! while, and the first answer counts. What was asked twice may be done twice: the machine reckons with that.

mod member;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::StackName;
use model::ownership::Ask;
use ownership::etcd::{Answer, News, Question};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::config;
use member::Member;
pub use member::Unusable;

/// Questions that the machine asks and that wait here. It asks for each DVIPA one at a time, and renews.
const MAX_NEWS: usize = 1024;

/// What `baton status` shows of etcd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcdView {
    /// Whether a member answers for a majority of them.
    pub answers: bool,
    /// How long ago the last question of this node was answered, in milliseconds; none: none was yet.
    #[serde(default)]
    pub answered_ms: Option<u64>,
    /// The members, as they are configured.
    pub members: Vec<EtcdMemberView>,
}

/// One member in [`EtcdView`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcdMemberView {
    /// Where it is asked.
    pub endpoint: String,
    /// Why it does not answer; none: it does.
    pub fails: Option<String>,
}

/// The members of etcd, and the tasks that ask them.
pub(super) struct Etcd {
    members: Arc<Members>,
    news: mpsc::Sender<News>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

struct Members {
    all: Vec<Arc<Member>>,
    /// The place of the one that has answered last.
    first: AtomicUsize,
    /// An answer that comes later is none.
    patience: Duration,
    /// For so long the next member is not asked, too.
    stagger: Duration,
    /// What became of the last probe of each.
    probed: Mutex<Vec<Option<String>>>,
    /// When a question was answered last.
    answered: Mutex<Option<Instant>>,
}

impl Etcd {
    /// Connects when something is asked first.
    ///
    /// # Errors
    /// Certificates that can't be read, and the like.
    pub(super) async fn new(
        config: &config::Etcd,
        node: &StackName,
        lease: Duration,
    ) -> Result<(Self, mpsc::Receiver<News>), Unusable> {
        let mut all = Vec::new();
        for endpoint in &config.endpoints {
            all.push(Arc::new(Member::new(endpoint, config, node, lease).await?));
        }
        let probed = Mutex::new(vec![Some("not asked yet".to_owned()); all.len()]);
        let (patience, stagger) = (lease / 2, lease / 10);
        let (first, answered) = (AtomicUsize::new(0), Mutex::default());
        let members = Arc::new(Members { all, first, patience, stagger, probed, answered });
        let (news, receiver) = mpsc::channel(MAX_NEWS);
        let watch = tokio::spawn(watch(Arc::clone(&members), news.clone()));
        let probe = tokio::spawn(probe(Arc::clone(&members), lease, news.clone()));
        let tasks = [watch, probe].map(AbortOnDropHandle::new).into();
        Ok((Self { members, news, _tasks: tasks }, receiver))
    }

    /// Asks; the answer comes as news, whatever becomes of it.
    pub(super) fn ask(&self, ask: Ask, question: Question) {
        let (members, news) = (Arc::clone(&self.members), self.news.clone());
        // Ends by itself, after the members' patience at the latest.
        tokio::spawn(async move {
            let answer = members.ask(&question).await;
            // Fails only if the control thread has ended.
            let _ = news.send(News::Answer { ask, answer }).await;
        });
    }

    pub(super) fn view(&self) -> EtcdView {
        let probed = self.members.probed.lock().unwrap_or_else(PoisonError::into_inner);
        let member = |(member, fails): (&Arc<Member>, &Option<String>)| EtcdMemberView {
            endpoint: member.endpoint.clone(),
            fails: fails.clone(),
        };
        let members: Vec<_> = self.members.all.iter().zip(probed.iter()).map(member).collect();
        let answered = *self.members.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let ms = |at: Instant| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        let answers = members.iter().any(|member| member.fails.is_none());
        EtcdView { answers, answered_ms: answered.map(ms), members }
    }
}

impl Members {
    /// The members, the one that has answered last at first.
    fn in_order(&self) -> Vec<(usize, Arc<Member>)> {
        let mut all: Vec<_> = self.all.iter().cloned().enumerate().collect();
        let first = self.first.load(Ordering::Relaxed) % all.len().max(1);
        all.rotate_left(first);
        all
    }

    async fn ask(&self, question: &Question) -> Answer {
        let deadline = tokio::time::Instant::now() + self.patience;
        let mut waiting = self.in_order().into_iter();
        let mut asked = JoinSet::new();
        loop {
            let next = waiting.next();
            let more = next.is_some();
            if let Some((place, member)) = next {
                let question = question.clone();
                asked.spawn(async move { (place, member.ask(&question).await) });
            }
            let until =
                if more { deadline.min(tokio::time::Instant::now() + self.stagger) } else { deadline };
            match timeout_at(until, asked.join_next()).await {
                Ok(Some(Ok((place, Ok(answer))))) => {
                    self.first.store(place, Ordering::Relaxed);
                    *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                    return answer;
                }
                Ok(Some(Ok((place, Err(error))))) => {
                    let endpoint = self.all.get(place).map(|member| member.endpoint.as_str());
                    tracing::debug!(endpoint, %error, ?question, "etcd has not answered");
                }
                // One that panicked has not answered either.
                Ok(Some(Err(_))) => {}
                Ok(None) => return Answer::Failed,
                Err(_) if tokio::time::Instant::now() >= deadline => return Answer::Failed,
                Err(_) => {}
            }
        }
    }
}

/// Says what DVIPAs become free. A watch that ends begins anew at the next member; what was missed in between is found out by asking.
async fn watch(members: Arc<Members>, news: mpsc::Sender<News>) {
    loop {
        for (_, member) in members.in_order() {
            if let Err(error) = member.watch(&news).await {
                tracing::debug!(endpoint = member.endpoint, %error, "the watch of etcd ended");
            }
            sleep(members.patience).await;
        }
    }
}

/// Asks each member now and then, also while nothing is wanted of them: for the displays and the log, and so that a node that none of
/// them answers gives way to others.
async fn probe(members: Arc<Members>, every: Duration, news: mpsc::Sender<News>) {
    let mut answered = None;
    loop {
        let began = Instant::now();
        for (place, member) in members.all.iter().enumerate() {
            let fails = match timeout(members.patience, member.ask(&Question::Confirm)).await {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(error),
                Err(_) => Some(format!("no answer in {} ms", members.patience.as_millis())),
            };
            let mut probed = members.probed.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(of_member) = probed.get_mut(place) {
                *of_member = fails;
            }
        }
        let answers = {
            let probed = members.probed.lock().unwrap_or_else(PoisonError::into_inner);
            probed.iter().any(Option::is_none)
        };
        if answered.replace(answers) != Some(answers) {
            if news.send(News::Answers(answers)).await.is_err() {
                return;
            }
            if answers {
                tracing::info!("etcd answers");
            } else {
                tracing::error!("etcd does not answer: this node owns no DVIPA once its leases have lapsed");
            }
        }
        sleep(every.saturating_sub(began.elapsed())).await;
    }
}
