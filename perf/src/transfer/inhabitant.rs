//! A thread that lives in a host's namespace.

use std::future::Future;
use std::thread::{self, JoinHandle};

use lab::Namespace;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use super::Failure;

/// Runs tasks on a thread inside a namespace until it is dropped.
pub(crate) struct Inhabitant {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Inhabitant {
    /// Starts a thread in `ns` that runs `work` to its end, or until this is dropped.
    pub(crate) fn start<F>(ns: &Namespace, work: impl FnOnce() -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<(), Failure>>,
    {
        let (stop, stopped) = oneshot::channel();
        let ns = ns.clone();
        let inside = move || {
            let work = async {
                tokio::select! {
                    // Its sender is dropped.
                    _ = stopped => {}
                    result = work() => if let Err(failure) = result {
                        eprintln!("a server of the measurement ended: {failure}");
                    },
                }
            };
            run(work);
        };
        Self { stop: Some(stop), thread: Some(thread::spawn(move || ns.enter(inside))) }
    }
}

impl Drop for Inhabitant {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed.
            let _ = thread.join();
        }
    }
}

/// Runs tasks on this thread.
///
/// # Panics
/// If the system has no descriptors left.
pub(super) fn run<F: Future>(work: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.unwrap_or_else(|e| panic!("no event loop: {e}"));
    runtime.block_on(LocalSet::new().run_until(work))
}
