//! Links that misbehave: frames get lost, arrive twice, or are overtaken by later ones, as a seed says.
//!
//! Not every kernel has netem. So a link that misbehaves is cut in the fabric, and a thread carries the frames across the cut:
//! one packet socket (packet(7)) on either side. A frame that is overtaken waits some milliseconds. The seed decides about
//! the n-th frame of a direction, whichever that is: how hosts interleave is not in its hand.

mod chance;
mod relay;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::error::Result;
use crate::namespace::Namespace;
use relay::{Port, Relay};

/// How a link misbehaves, in each direction. The default is not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Impairment {
    /// Of a thousand frames so many get lost.
    pub loss_permille: u16,
    /// Of a thousand so many arrive twice.
    pub duplicate_permille: u16,
    /// Of a thousand so many are held back, and overtaken.
    pub reorder_permille: u16,
    /// They are held back for one to so many milliseconds.
    pub reorder_ms: u16,
    /// Every frame takes so many milliseconds.
    pub delay_ms: u16,
    /// Every other IPv6 segment of TCP that the host sends becomes an atomic fragment (RFC 6946), which a receiver without ports to
    /// look at takes from another queue than the rest of the connection, or from the same.
    pub atomic: bool,
}

impl Impairment {
    /// Loses so many frames of a thousand.
    pub fn loss(permille: u16) -> Self {
        Self { loss_permille: permille, ..Self::default() }
    }

    /// Delays every frame by so many milliseconds.
    pub fn delay(ms: u16) -> Self {
        Self { delay_ms: ms, ..Self::default() }
    }

    /// Makes every other IPv6 segment that the host sends an atomic fragment.
    pub fn atomic() -> Self {
        Self { atomic: true, ..Self::default() }
    }

    /// Also lets so many of a thousand arrive twice.
    pub fn duplicate(self, permille: u16) -> Self {
        Self { duplicate_permille: permille, ..self }
    }

    /// Also holds so many of a thousand back, for as many milliseconds at most.
    pub fn reorder(self, permille: u16, ms: u16) -> Self {
        Self { reorder_permille: permille, reorder_ms: ms, ..self }
    }
}

impl fmt::Display for Impairment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { loss_permille, duplicate_permille, reorder_permille, reorder_ms, delay_ms, atomic } = self;
        let atomic = if *atomic { ", every other segment an atomic fragment" } else { "" };
        write!(
            f,
            "loss {loss_permille} ‰, duplicates {duplicate_permille} ‰, overtaken {reorder_permille} ‰ by {reorder_ms} ms, all {delay_ms} ms late{atomic}"
        )
    }
}

/// What became of a link's frames.
#[derive(Debug, Default)]
pub struct Tally {
    /// Frames that came, of both directions.
    pub came: AtomicU64,
    /// How many of them were lost on purpose.
    pub lost: AtomicU64,
    /// How many were sent twice.
    pub doubled: AtomicU64,
    /// How many were held back.
    pub overtaken: AtomicU64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [came, lost, doubled, overtaken] =
            [&self.came, &self.lost, &self.doubled, &self.overtaken].map(|n| n.load(Ordering::Relaxed));
        write!(f, "{came} frames: {lost} lost, {doubled} doubled, {overtaken} overtaken")
    }
}

/// A link whose frames a thread carries. Dropping it cuts the link.
#[derive(Debug)]
pub struct Link {
    impairment: Arc<Mutex<Impairment>>,
    tally: Arc<Tally>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    /// Carries frames between two interfaces of this namespace, which nothing else may do.
    ///
    /// # Errors
    /// [`crate::LabError::File`] if packet sockets can't be had.
    pub fn join(
        ns: &Namespace,
        (one, other): (&str, &str),
        impairment: Impairment,
        seed: u64,
    ) -> Result<Self> {
        let ports = ns.enter(|| Result::Ok((Port::open(one)?, Port::open(other)?)))?;
        let impairment = Arc::new(Mutex::new(impairment));
        let (tally, stop) = (Arc::<Tally>::default(), Arc::<AtomicBool>::default());
        let mut relay = Relay::new(ports, seed, Arc::clone(&tally));
        let (of_thread, stopped) = (Arc::clone(&impairment), Arc::clone(&stop));
        let work = move || {
            while !stopped.load(Ordering::Relaxed) {
                let now = *of_thread.lock().unwrap_or_else(PoisonError::into_inner);
                relay.turn(now);
            }
        };
        Ok(Self { impairment, tally, stop, thread: Some(thread::spawn(work)) })
    }

    /// From now on it misbehaves like this.
    pub fn set(&self, impairment: Impairment) {
        *self.impairment.lock().unwrap_or_else(PoisonError::into_inner) = impairment;
    }

    /// What became of its frames.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, the link is cut all the same.
            let _ = thread.join();
        }
    }
}
