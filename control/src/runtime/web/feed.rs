//! What changes, to all who look. The control thread is asked once a second, while somebody does, and never for more than a hundredth
//! of its time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast};
use tokio::time::sleep;

use super::tables::Tables;
use super::watched::WatchAnswer;
use crate::runtime::admin::Desk;

/// How often the control thread is asked.
const EVERY: Duration = Duration::from_secs(1);
/// It is left alone for so many times what an answer has cost it: 0.5 % of it at most.
const REST: u32 = 200;
/// Changes that a slow browser may be behind; one that is further behind gets everything anew.
const BEHIND: usize = 8;

/// The feed; clones are the same one.
#[derive(Clone)]
pub(super) struct Feed(Arc<Shared>);

struct Shared {
    now: Mutex<Tables>,
    news: broadcast::Sender<Arc<str>>,
    somebody_looks: Notify,
}

/// Somebody who looks.
pub(super) struct Viewer {
    feed: Feed,
    news: broadcast::Receiver<Arc<str>>,
    knows_all: bool,
}

impl Default for Feed {
    fn default() -> Self {
        let (news, _) = broadcast::channel(BEHIND);
        Self(Arc::new(Shared { now: Mutex::default(), news, somebody_looks: Notify::new() }))
    }
}

impl Feed {
    /// Somebody looks from now on, until the viewer is dropped.
    pub(super) fn look(&self) -> Viewer {
        let news = self.0.news.subscribe();
        self.0.somebody_looks.notify_one();
        Viewer { feed: self.clone(), news, knows_all: false }
    }

    /// Asks, compares and tells, until the control thread ends.
    pub(super) async fn run(&self, desk: &Desk) {
        let mut events = 0;
        loop {
            while self.0.news.receiver_count() == 0 {
                self.0.somebody_looks.notified().await;
            }
            let Some(watched) = desk.watch(events).await else { return };
            events = watched.events.next;
            self.tell(&watched);
            sleep(EVERY.max(Duration::from_micros(watched.took_us) * REST)).await;
        }
    }

    /// Also if nothing has changed: then rates are 0.
    fn tell(&self, watched: &WatchAnswer) {
        let mut now = self.now();
        let next = Tables::new(watched, &now);
        let changes = next.since(&now);
        *now = next;
        // Under the lock: who begins to look gets everything before or after this. Fails only if nobody looks any more.
        let _ = self.0.news.send(message("changed", &changes));
    }

    fn now(&self) -> MutexGuard<'_, Tables> {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Viewer {
    /// The next message; none when there are no more.
    pub(super) async fn next(&mut self) -> Option<Arc<str>> {
        if !self.knows_all {
            self.knows_all = true;
            return Some(self.all());
        }
        match self.news.recv().await {
            Ok(text) => Some(text),
            Err(RecvError::Lagged(_)) => Some(self.all()),
            Err(RecvError::Closed) => None,
        }
    }

    fn all(&mut self) -> Arc<str> {
        let now = self.feed.now();
        // What was sent before is in it.
        self.news = self.feed.0.news.subscribe();
        message("all", &now.whole())
    }
}

/// `{"at_ms": …, "all": {TABLE: {KEY: ROW}}}`, or `changed` in the place of `all`.
fn message(kind: &str, tables: &Value) -> Arc<str> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let at_ms = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
    json!({ "at_ms": at_ms, kind: tables }).to_string().into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn the_control_thread_is_asked_only_while_somebody_looks() {
        let (desk, mut asked) = mpsc::channel(1);
        let (feed, desk) = (Feed::default(), Desk::new(desk));
        let runs = feed.clone();
        let running = tokio::spawn(async move { runs.run(&desk).await });
        assert!(timeout(Duration::from_millis(200), asked.recv()).await.is_err(), "nobody looks");
        let viewer = feed.look();
        assert!(asked.recv().await.is_some(), "somebody does");
        drop(viewer);
        // The control thread does not answer any more.
        running.await.unwrap();
    }
}
