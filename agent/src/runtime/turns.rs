//! How long the agent's task holds its thread at a time: everything else that the agent does waits so long.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The turns of a task.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    /// The longest since it was last asked, in nanoseconds.
    longest: AtomicU64,
    count: AtomicU64,
}

/// Has a task end its turn in time.
pub(super) struct Rests {
    turns: Turns,
    last: u64,
}

impl Turns {
    /// How long the longest was since it was last asked.
    pub(super) fn take_longest(&self) -> Duration {
        Duration::from_nanos(self.0.longest.swap(0, Ordering::Relaxed))
    }

    /// Runs a task and times its turns, from one wait to the next.
    pub(super) async fn timed<T>(self, task: impl Future<Output = T>) -> T {
        let mut task = pin!(task);
        poll_fn(|context| {
            let begun = Instant::now();
            self.0.count.fetch_add(1, Ordering::Relaxed);
            let polled = task.as_mut().poll(context);
            let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.0.longest.fetch_max(took, Ordering::Relaxed);
            polled
        })
        .await
    }

    /// To be held by the task whose turns these are.
    pub(super) fn rests(self) -> Rests {
        Rests { turns: self, last: 0 }
    }
}

impl Rests {
    /// To be called once a round of the task's loop: ends the turn if that has had a round already. A task that always finds something
    /// ready would never wait, and nothing else would run.
    pub(super) async fn rest(&mut self) {
        let count = || self.turns.0.count.load(Ordering::Relaxed);
        if self.last == count() {
            tokio::task::yield_now().await;
        }
        self.last = count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_always_has_something_to_do_lets_others_run_after_each_round() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let turns = Turns::default();
        let mut rests = turns.clone().rests();
        let rounds = async {
            for _ in 0..100 {
                rests.rest().await;
            }
        };
        runtime.block_on(turns.clone().timed(rounds));
        assert_eq!(turns.0.count.load(Ordering::Relaxed), 100, "turns");
    }
}
