//! Keeping a session with a peer: dial, and dial again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use model::StackName;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::counters::Tally;
use crate::endpoint::{Inner, PeerState, PeerStatus, Shared};
use crate::outbox::Sent;
use crate::session;

/// The pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause: a restarted peer is found again within this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A peer that is dialled.
pub(crate) struct Dial {
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) state: Arc<Shared<PeerState>>,
}

impl Dial {
    pub(crate) fn status(&self, peer: &StackName) -> PeerStatus {
        PeerStatus { peer: peer.clone(), address: self.address, state: self.state.lock().clone() }
    }
}

pub(crate) fn start<S: Sent>(inner: &Arc<Inner<S>>, peer: StackName, address: SocketAddr) {
    let stop = inner.stop.child_token();
    let state = Arc::new(Shared::new(PeerState::Dialling));
    let dial = Dial { address, stop: stop.clone(), state: state.clone() };
    if let Some(former) = inner.dials.lock().insert(peer.clone(), dial) {
        former.stop.cancel();
    }
    inner.tasks.spawn(keep(inner.clone(), peer, address, stop, state));
}

async fn keep<S: Sent>(
    inner: Arc<Inner<S>>,
    peer: StackName,
    address: SocketAddr,
    stop: CancellationToken,
    state: Arc<Shared<PeerState>>,
) {
    let mut pause = FIRST_PAUSE;
    while !stop.is_cancelled() {
        let session = inner.current.lock().get(&peer).cloned();
        if let Some(session) = session {
            *state.lock() = PeerState::Up;
            tokio::select! {
                () = stop.cancelled() => return,
                () = session.gone.cancelled() => continue,
            }
        }
        *state.lock() = PeerState::Dialling;
        let began = Instant::now();
        let up = || *state.lock() = PeerState::Up;
        // The session is not dropped at `stop`: it has to report its end.
        let why = match session::dialled(&inner, &peer, address, &stop, up).await {
            Ok(why) => why.to_string(),
            Err(refusal) => {
                inner.counters.count(Tally::DialsFailed);
                refusal.to_string()
            }
        };
        let news = !matches!(&*state.lock(), PeerState::Waiting { why: former } if *former == why);
        if news && !stop.is_cancelled() {
            tracing::warn!(%peer, %address, why, "no session");
        }
        *state.lock() = PeerState::Waiting { why };
        if began.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(jittered(pause)) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

/// Between a half and the whole of `pause`, so that a restarted peer is not dialled by all at once.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 512;
    pause.mul_f64(0.5 + f64::from(u32::try_from(random).unwrap_or(0)) / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_jittered_within_its_upper_half() {
        let pauses: Vec<_> = (0..100).map(|_| jittered(LONGEST_PAUSE)).collect();
        assert!(pauses.iter().all(|p| *p >= LONGEST_PAUSE / 2 && *p <= LONGEST_PAUSE), "{pauses:?}");
        assert!(pauses.windows(2).any(|p| p.first() != p.last()), "all pauses are the same");
    }
}
