//! Joins the machine with the kernel and the sessions: one task turns what happens into events and actions into deeds.

mod checking;
mod cleanup;
mod deeds;
mod ports;
mod reload;
mod repair;
mod start;
pub mod status;
mod tokens;
mod transfers;
mod turns;
mod witness;

use std::collections::{BTreeSet, HashSet};
use std::future::{Future, pending};
use std::net::IpAddr;
use std::time::Instant;

use model::checksums::WrongChecksums;
use model::message::{FromStack, ToStack};
use model::{Dvipa, StackName};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use transport::{Endpoint, Event as SessionEvent, Events as SessionEvents, Expiry, Renewal};

use crate::checks::{Checks, Probed};
use crate::config::Config;
use crate::counters::EVENTS_LOST;
use crate::environment::Environment;
use crate::machine::{Event, Ifindex, Machine, Timer};
use crate::ports::Ports;
use crate::rights::{Refused, Wrong};
use crate::system::changes::Changes;
use crate::system::ends::Ends;
use crate::system::events::{Events as SocketEvents, Told};
use crate::system::interfaces::Interface;
use crate::system::load::{Meter, Use};
use crate::system::programs::Programs;
use crate::system::translated::Translated;
use crate::tokens::Tokens;
use crate::transfers::Transfers;
use turns::Turns;
use witness::Witness;

pub use cleanup::{Removed, clean_up};
pub use start::StartError;
pub use status::Status;

/// Questions of operators that may wait for an answer.
const QUESTIONS: usize = 16;

/// Events of a kind that are taken in before anything is done.
const AT_ONCE: usize = 32;

/// What the programs tell is taken in so much at a time: a matter of a few milliseconds.
const TOLD_AT_ONCE: usize = 512;

/// Asks a running agent how it is.
pub type Questions = mpsc::Sender<oneshot::Sender<Status>>;

/// A running agent. Everything in it belongs to the one task that runs [`Agent::run`].
pub struct Agent {
    config: Config,
    netns_cookie: u64,
    interfaces: Vec<Interface>,
    /// Interfaces that lead to containers, whose packets are marked.
    to_containers: Vec<(String, Ifindex)>,
    /// DVIPAs that have a routing rule for them.
    ruled: BTreeSet<IpAddr>,
    machine: Machine,
    programs: Programs,
    netlink: rtnetlink::Handle,
    changes: Changes,
    environment: Environment,
    wrong_checksums: WrongChecksums,
    /// This stack's certificate, key and CA, which may be replaced.
    renewal: Renewal,
    /// When the certificate ends that new sessions use.
    expires: Expiry,
    endpoint: Endpoint<FromStack>,
    sessions: SessionEvents<FromStack>,
    sockets: SocketEvents,
    ends: Ends,
    translated: Translated,
    /// Looks and load samples under way; each ends as an event.
    tasks: JoinSet<Event>,
    meter: Meter,
    used: Use,
    turns: Turns,
    events_lost: u64,
    /// The addresses that looks are for.
    dvipas: HashSet<IpAddr>,
    transfers: Transfers,
    witness: Witness,
    ports: Ports,
    checks: Checks,
    /// Questions to servers under way.
    probes: JoinSet<Probed>,
    tokens: Tokens,
    /// A look at which ports are in use is under way.
    sweep: Option<JoinHandle<()>>,
    sweep_began: Instant,
    next_sweep: Instant,
    /// What routing stacks said and may not say.
    refused: Refused,
    /// Who owns or lists which DVIPA may have changed, or who is registered for it.
    standings_changed: bool,
    /// What it was told with them: the services that something listens for that holds accepts back.
    held: BTreeSet<(Dvipa, u16)>,
    /// Which routing stacks have asked what is here, and which question that was.
    asked: Vec<(StackName, u64)>,
    questions: mpsc::Receiver<oneshot::Sender<Status>>,
    asker: Questions,
    configs: mpsc::Receiver<Config>,
    reloader: mpsc::Sender<Config>,
}

impl Agent {
    /// Where to ask this agent how it is.
    pub fn questions(&self) -> Questions {
        self.asker.clone()
    }

    /// Where to send another configuration to; a running agent takes over what it can.
    pub fn reloader(&self) -> mpsc::Sender<Config> {
        self.reloader.clone()
    }

    /// Runs until `stop` is done. Then the routing stacks are told that nothing is served here; the programs and the
    /// addresses stay, so that connections live on.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        self.turns.clone().timed(self.serve(stop)).await;
    }

    async fn serve(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut rests = self.turns.clone().rests();
        self.act().await;
        self.act_on_transfers().await;
        loop {
            self.go_on().await;
            rests.rest().await;
            self.act_as_witness();
            let is_busy = self.machine.is_busy();
            let transfers_due = self.transfers.next_deadline();
            let lapses = self.witness.next_deadline();
            let lapse = async move {
                match lapses {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => pending().await,
                }
            };
            let deadline = self.machine.next_deadline();
            let wait = async move {
                match deadline {
                    Some((at, timer)) => {
                        tokio::time::sleep_until(at.into()).await;
                        timer
                    }
                    None => pending().await,
                }
            };
            tokio::select! {
                () = &mut stop => break,
                told = self.sockets.next(TOLD_AT_ONCE) => self.take_told(told).await,
                ends = self.ends.next() => self.take(ends),
                translated = self.translated.next() => self.take(translated),
                Some(event) = self.sessions.recv() => self.session(event),
                Some(done) = self.tasks.join_next() => self.done(done),
                Some(probed) = self.probes.join_next() => self.probed(probed),
                Some(answer) = self.questions.recv() => self.answer(answer),
                Some(config) = self.configs.recv() => self.reload(config),
                change = self.changes.next() => self.changed(change).await,
                timer = wait => self.on_time(timer).await,
                news = self.transfers.next() => self.hear(news),
                () = tokio::time::sleep_until(transfers_due.into()) => self.transfers_due(),
                () = lapse => self.witness.tick(Instant::now()),
                () = std::future::ready(()), if is_busy => {}
            }
            self.take_what_is_there();
            self.answer_asked().await;
            self.act().await;
            self.act_on_transfers().await;
        }
        self.tell(Event::Stop);
        self.act().await;
        self.endpoint.close().await;
        self.transfers.close().await;
    }

    /// Does the next part of what concerns all connections.
    async fn go_on(&mut self) {
        if self.machine.step() {
            // A routing stack may have been answered.
            self.standings_changed |= !self.machine.is_busy();
            self.act().await;
        }
    }

    /// What has come at the same time is followed at the same time.
    fn take_what_is_there(&mut self) {
        for _ in 0..AT_ONCE {
            let (message, news) = (self.sessions.try_message(), self.transfers.try_next());
            if message.is_none() && news.is_none() {
                break;
            }
            if let Some((peer, message)) = message {
                self.heard(peer, message);
            }
            news.into_iter().for_each(|news| self.hear(news));
        }
    }

    fn tell(&mut self, event: Event) {
        self.machine.handle(event, Instant::now());
    }

    fn take(&mut self, events: std::io::Result<Vec<Event>>) {
        let events = events.unwrap_or_else(|cause| {
            tracing::warn!(%cause, "events of sockets can't be read, looking at all sockets instead");
            vec![Event::EventsLost]
        });
        events.into_iter().for_each(|event| self.tell(event));
    }

    /// Takes in what the programs tell, and all else that they have told by now; nothing else is heard before that is done.
    async fn take_told(&mut self, told: std::io::Result<Vec<Told>>) {
        let mut told = match told {
            Ok(told) => told,
            Err(cause) => return self.take(Err(cause)),
        };
        loop {
            let is_all = told.len() < TOLD_AT_ONCE;
            self.take_some_told(told);
            if is_all {
                break;
            }
            tokio::task::yield_now().await;
            told = self.sockets.take(TOLD_AT_ONCE);
        }
    }

    /// Takes in all that the programs have told by now.
    async fn take_all_told(&mut self) {
        self.take_told(Ok(self.sockets.take(TOLD_AT_ONCE))).await;
    }

    fn take_some_told(&mut self, told: Vec<Told>) {
        let now = Instant::now();
        for told in told {
            match told {
                Told::Socket(event) => {
                    if let Event::Established(_, connection) = event {
                        let kernel = transfers::kernel(&self.programs, &self.dvipas);
                        self.transfers.begun(connection, kernel, now);
                    }
                    self.tell(event);
                }
                Told::PortsLow => self.talk_of_ports(),
                Told::Declined(connection) => self.declined(connection),
                Told::NotTaken { connection, why } => {
                    self.transfers.not_taken_by_kernel(&connection, why, now);
                }
            }
        }
    }

    fn done(&mut self, done: Result<Event, JoinError>) {
        self.standings_changed = true;
        self.tell(done.unwrap_or(Event::NotSeen));
    }

    fn session(&mut self, event: SessionEvent<ToStack>) {
        let event = match event {
            SessionEvent::Up { peer, hello } => {
                tracing::info!(routing_stack = %peer, version = hello.version, "session begins");
                self.ports.session_over(&peer);
                self.void_tokens(&peer);
                Event::SessionUp(peer)
            }
            SessionEvent::Message { peer, message } => return self.heard(peer, message),
            SessionEvent::Misdirected { peer, message } => {
                return self.refused.add(&peer, message, Wrong::TargetsOnly);
            }
            SessionEvent::Greets { .. } | SessionEvent::Quiet { .. } | SessionEvent::Heard { .. } => return,
            SessionEvent::Down { peer, why } => {
                tracing::warn!(routing_stack = %peer, %why, "session is over, dialling again");
                self.transfers.apart(&peer);
                self.ports.session_over(&peer);
                self.void_tokens(&peer);
                Event::SessionDown(peer)
            }
        };
        self.standings_changed = true;
        self.tell(event);
    }

    async fn on_time(&mut self, timer: Timer) {
        match timer {
            Timer::Repair => {}
            Timer::Load => {
                self.notice_lost_events();
                self.sweep_ports();
                self.check();
                self.renew();
                self.repair().await;
            }
        }
        self.tell(Event::TimePassed);
    }

    fn notice_lost_events(&mut self) {
        let counters = self.programs.maps.counters().unwrap_or_default();
        let lost = counters.get(EVENTS_LOST).copied().unwrap_or(self.events_lost);
        if lost != self.events_lost {
            tracing::warn!(
                lost = lost.wrapping_sub(self.events_lost),
                "events of sockets were lost, looking at all"
            );
            self.events_lost = lost;
            self.tell(Event::EventsLost);
        }
    }
}
