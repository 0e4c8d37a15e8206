//! How long the agent's task holds its thread at a time: everything else that the agent does waits so long.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest turn since it was last taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Longest(Arc<AtomicU64>);

impl Longest {
    /// How long it was.
    pub(super) fn take(&self) -> Duration {
        Duration::from_nanos(self.0.swap(0, Ordering::Relaxed))
    }
}

/// Runs a task and times its turns, from one wait to the next.
pub(super) async fn timed<T>(longest: Longest, task: impl Future<Output = T>) -> T {
    let mut task = pin!(task);
    poll_fn(|context| {
        let begun = Instant::now();
        let polled = task.as_mut().poll(context);
        let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        longest.0.fetch_max(took, Ordering::Relaxed);
        polled
    })
    .await
}
