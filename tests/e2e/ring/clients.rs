//! Clients that number what they ask, and know each byte of the answer.

use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lab::spec::DVIPA;
use lab::{Lab, Namespace};

use super::HANGS;
use super::trails::Trails;

/// Whose request it is, and its number.
pub(crate) const REQUEST_BYTES: usize = 16;
const CLIENTS: usize = 100;
/// Requests that are under way at once.
const MOST_AT_ONCE: u64 = 4;
/// Between two rounds, at most.
const PAUSE_MS: u64 = 60;
/// Lines of each log that are shown of a connection.
const LINES: usize = 30;

/// The clients, each on a thread of its own.
pub(crate) struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    trails: Arc<Trails>,
    stop: AtomicBool,
    lost: AtomicUsize,
    /// By number.
    each: Vec<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    local: Option<SocketAddr>,
    rounds: u64,
    /// What it got that it was not owed, or what it did not get.
    broken: Option<String>,
}

impl Clients {
    pub(crate) fn begin(ns: &Namespace, trails: &Arc<Trails>, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            trails: Arc::clone(trails),
            stop: AtomicBool::new(false),
            lost: AtomicUsize::new(0),
            each: (0..CLIENTS).map(|_| Mutex::default()).collect(),
        });
        let threads = (0..CLIENTS).map(|number| {
            let (shared, ns) = (Arc::clone(&shared), ns.clone());
            std::thread::spawn(move || shared.talk(&ns, number, seed))
        });
        let threads = threads.collect();
        Self { shared, threads }
    }

    /// Answered ones.
    pub(crate) fn rounds(&self) -> u64 {
        self.shared.each.iter().map(|state| lock(state).rounds).sum()
    }

    /// Connections whose agent had the only descriptor when it was killed.
    pub(crate) fn lost(&self) -> usize {
        self.shared.lost.load(Ordering::SeqCst)
    }

    /// Their ends of the connections.
    pub(crate) fn connections(&self) -> Vec<String> {
        self.shared.each.iter().filter_map(|state| lock(state).local).map(|local| local.to_string()).collect()
    }

    /// Waits until each was answered again.
    pub(crate) fn wait_for_rounds(&self, lab: &Lab) -> Result<(), String> {
        let before: Vec<_> = self.shared.each.iter().map(|state| lock(state).rounds).collect();
        let begun = Instant::now();
        loop {
            let broken = self.shared.each.iter().filter_map(|state| {
                let state = lock(state);
                Some((state.local?.to_string(), state.broken.clone()?))
            });
            let broken: Vec<_> = broken.collect();
            if !broken.is_empty() {
                return Err(self.explain(lab, broken));
            }
            let each = self.shared.each.iter().zip(&before);
            if each.into_iter().all(|(state, before)| lock(state).rounds > before + 1) {
                return Ok(());
            }
            if begun.elapsed() > 2 * HANGS {
                return Err("clients are not answered and do not say so".to_owned());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What is wrong with these clients' connections, with all that is known of the first.
    pub(crate) fn explain(&self, lab: &Lab, wrong: Vec<(String, String)>) -> String {
        let mut text = String::new();
        for (client, what) in &wrong {
            let _ = writeln!(text, "{client} {what}");
        }
        for (client, _) in wrong.iter().take(2) {
            let trail = client.parse().map(|client| self.shared.trails.of(client)).unwrap_or_default();
            let _ = writeln!(text, "--- {client}, as its applications were told:\n{trail}");
            for program in ["batond", "agent-rt1", "agent-t1", "agent-t2"] {
                let log =
                    std::fs::read_to_string(lab.files().join(format!("{program}.log"))).unwrap_or_default();
                let lines: Vec<_> = log.lines().filter(|line| line.contains(client.as_str())).collect();
                let _ = writeln!(text, "--- {program} of {client}");
                for line in lines.iter().skip(lines.len().saturating_sub(LINES)) {
                    let _ = writeln!(text, "{line}");
                }
            }
        }
        text
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // What it has to say it has said.
            let _ = thread.join();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn talk(&self, ns: &Namespace, number: usize, seed: u64) {
        let mut chance = super::killer::Chance::new(seed ^ (number as u64) << 32);
        let mut next = 0;
        let Some(state) = self.each.get(number) else { return };
        while !self.stop.load(Ordering::SeqCst) {
            let stream = ns.enter(|| TcpStream::connect_timeout(&(DVIPA.0, 80).into(), HANGS));
            let mut local = None;
            let talked = stream.and_then(|mut stream| {
                local = Some(stream.local_addr()?);
                lock(state).local = local;
                stream.set_read_timeout(Some(HANGS))?;
                stream.set_nodelay(true)?;
                while !self.stop.load(Ordering::SeqCst) {
                    let requests = 1 + chance.below(MOST_AT_ONCE);
                    round(&mut stream, number as u64, next..next + requests)?;
                    next += requests;
                    lock(state).rounds += 1;
                    std::thread::sleep(Duration::from_millis(chance.below(PAUSE_MS)));
                }
                Ok(())
            });
            let (Err(what), false) = (talked, self.stop.load(Ordering::SeqCst)) else { continue };
            let is_lost = local.is_some_and(|local| is_end(&what) && self.was_lost_in_hand(local));
            match local {
                Some(local) if is_lost => {
                    self.lost.fetch_add(1, Ordering::SeqCst);
                    self.trails.forget(local);
                    lock(state).local = None;
                    next = 0;
                }
                // No agent takes new connections now.
                None => {}
                Some(_) => {
                    lock(state).broken = Some(format!("at request {next}: {what}"));
                    return;
                }
            }
        }
    }
}

impl Shared {
    /// The source and the target learn of it at different times, with killed agents in between.
    fn was_lost_in_hand(&self, client: SocketAddr) -> bool {
        let until = Instant::now() + HANGS;
        while !self.trails.is_lost_in_hand(client) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.trails.is_lost_in_hand(client)
    }
}

fn is_end(what: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(what.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Asks this much at once, and reads exactly that.
fn round(stream: &mut TcpStream, client: u64, numbers: std::ops::Range<u64>) -> io::Result<()> {
    let asked: Vec<u8> = numbers.flat_map(|n| [client.to_be_bytes(), n.to_be_bytes()]).flatten().collect();
    stream.write_all(&asked)?;
    let mut answer = vec![0; asked.len()];
    stream.read_exact(&mut answer)?;
    if answer == asked { Ok(()) } else { Err(io::Error::other(format!("{answer:?} instead of {asked:?}"))) }
}
