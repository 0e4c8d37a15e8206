//! Joins the machine with the kernel and the sessions: one task turns what happens into events and actions into deeds.

mod cleanup;
mod deeds;
mod reload;
mod repair;
mod start;
pub mod status;
mod transfers;

use std::collections::HashSet;
use std::future::{Future, pending};
use std::net::IpAddr;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use transport::{Endpoint, Event as SessionEvent, Events as SessionEvents};

use crate::config::Config;
use crate::counters::EVENTS_LOST;
use crate::environment::Environment;
use crate::machine::{Event, Machine, Timer};
use crate::system::changes::Changes;
use crate::system::ends::Ends;
use crate::system::events::Events as SocketEvents;
use crate::system::interfaces::Interface;
use crate::system::load::{Meter, Use};
use crate::system::programs::Programs;
use crate::system::translated::Translated;
use crate::transfers::Transfers;

pub use cleanup::{Removed, clean_up};
pub use start::StartError;
pub use status::Status;

/// Questions of operators that may wait for an answer.
const QUESTIONS: usize = 16;

/// Events of a kind that are taken in before anything is done.
const AT_ONCE: usize = 32;

/// Asks a running agent how it is.
pub type Questions = mpsc::Sender<oneshot::Sender<Status>>;

/// A running agent. Everything in it belongs to the one task that runs [`Agent::run`].
pub struct Agent {
    config: Config,
    netns_cookie: u64,
    interfaces: Vec<Interface>,
    machine: Machine,
    programs: Programs,
    netlink: rtnetlink::Handle,
    changes: Changes,
    environment: Environment,
    endpoint: Endpoint,
    sessions: SessionEvents,
    sockets: SocketEvents,
    ends: Ends,
    translated: Translated,
    /// Looks and load samples under way; each ends as an event.
    tasks: JoinSet<Event>,
    meter: Meter,
    used: Use,
    events_lost: u64,
    /// The addresses that looks are for.
    dvipas: HashSet<IpAddr>,
    transfers: Transfers,
    /// Who owns or lists which DVIPA may have changed, or who is registered for it.
    standings_changed: bool,
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
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        self.act().await;
        self.act_on_transfers().await;
        loop {
            let transfers_due = self.transfers.next_deadline(Instant::now());
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
                events = self.sockets.next() => self.take(events),
                ends = self.ends.next() => self.take(ends),
                translated = self.translated.next() => self.take(translated),
                Some(event) = self.sessions.recv() => self.session(event),
                Some(done) = self.tasks.join_next() => self.done(done),
                Some(answer) = self.questions.recv() => drop(answer.send(self.status())),
                Some(config) = self.configs.recv() => self.reload(config),
                change = self.changes.next() => self.changed(change).await,
                timer = wait => self.on_time(timer).await,
                news = self.transfers.next() => self.hear(news),
                () = tokio::time::sleep_until(transfers_due.into()) => self.transfers_due(),
            }
            self.take_what_is_there();
            self.act().await;
            self.act_on_transfers().await;
        }
        self.tell(Event::Stop);
        self.act().await;
        self.endpoint.close().await;
        self.transfers.close().await;
    }

    /// What has come at the same time is followed at the same time.
    fn take_what_is_there(&mut self) {
        for _ in 0..AT_ONCE {
            let (message, news) = (self.sessions.try_message(), self.transfers.try_next());
            if message.is_none() && news.is_none() {
                break;
            }
            if let Some((peer, message)) = message {
                self.session(SessionEvent::Message { peer, message });
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

    fn done(&mut self, done: Result<Event, JoinError>) {
        self.standings_changed = true;
        self.tell(done.unwrap_or(Event::NotSeen));
    }

    fn session(&mut self, event: SessionEvent) {
        let event = match event {
            SessionEvent::Up { peer, address, hello } => {
                tracing::info!(routing_stack = %peer, %address, version = hello.version, "session begins");
                Event::SessionUp(peer)
            }
            SessionEvent::Message { peer, message } => match self.message_of_transfers(peer, message) {
                None => return,
                Some((peer, message)) => Event::Received(peer, message),
            },
            SessionEvent::Quiet { .. } | SessionEvent::Heard { .. } => return,
            SessionEvent::Down { peer, why } => {
                tracing::warn!(routing_stack = %peer, %why, "session is over, dialling again");
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
