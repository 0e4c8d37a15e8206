//! What systemd is told of a daemon: that it is ready, alive or stopping. Nothing happens where systemd did not start the process.

use sd_notify::NotifyState;

/// Tells systemd.
pub(crate) fn tell(state: NotifyState<'_>) {
    if let Err(cause) = sd_notify::notify(&[state]) {
        tracing::warn!(%cause, "the service manager can't be told");
    }
}

/// Says twice in each `WatchdogSec=` that this thread's tasks take their turns. A daemon's control thread is its runtime's only thread,
/// so what holds it up holds this up too, and systemd starts the daemon again. Must be called inside a current-thread tokio runtime.
pub(crate) fn keep_alive() {
    let Some(time) = sd_notify::watchdog_enabled() else { return };
    tokio::spawn(async move {
        let mut turns = tokio::time::interval(time / 2);
        loop {
            turns.tick().await;
            tell(NotifyState::Watchdog);
        }
    });
}
