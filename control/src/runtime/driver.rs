//! The control thread's loop: sessions, orders, timers and the forwarder meet the machine here. Nothing is
//! decided here.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use model::handoff::Handoff;
use model::message::Message;
use model::{Connection, CrtState, StackIndex, StackName};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use transport::{Endpoint, Events, SendError};

use super::admin::Asked;
use super::forwarding::{Account, CrtFilter, CrtPage, Forwarding, TICK_MS, Ticked};
use super::{notes, reload};
use crate::machine::{Action, Event, Refusal, RoutingStack, Scope};

/// How often the machine hears how many connections each stack has.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Everything that the control thread owns.
pub(super) struct Driver<F> {
    pub(super) machine: RoutingStack,
    pub(super) endpoint: Endpoint,
    pub(super) forwarding: F,
    /// The configuration file.
    pub(super) file: PathBuf,
    pub(super) started: Instant,
    /// When the configuration in force was read.
    pub(super) configured: Instant,
    /// Which failures of transfers are in the log already.
    pub(super) failures: notes::Failures,
}

impl<F: Forwarding> Driver<F> {
    /// Runs until `stop` is ready; ends the sessions then, so that peers know at once.
    pub(super) async fn run(
        mut self,
        mut events: Events,
        mut asked: mpsc::Receiver<Asked>,
        mut hangups: mpsc::Receiver<()>,
        stop: impl Future<Output = ()>,
    ) {
        tokio::pin!(stop);
        let mut ticks = interval(Duration::from_millis(TICK_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut counts = interval(COUNT_EVERY);
        counts.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.act();
        loop {
            let deadline = self.machine.next_deadline();
            tokio::select! {
                () = &mut stop => break,
                Some(event) = events.recv() => self.heard(event),
                Some(Asked { request, reply }) = asked.recv() => {
                    self.machine.hurry();
                    self.act();
                    // Fails only if the client has gone away.
                    let _ = reply.send(self.answer(request));
                }
                _ = ticks.tick() => {
                    let Ticked { silent, link_returned } = self.forwarding.tick();
                    if let Some(silent) = silent {
                        self.order_quietly(Event::SilentHosts(silent));
                    }
                    if link_returned {
                        self.order_quietly(Event::LinkReturned);
                    }
                }
                _ = counts.tick() => {
                    let connections = self.forwarding.connections();
                    self.order_quietly(Event::ConnectionCounts(connections));
                }
                () = at(deadline) => {
                    self.machine.tick(Instant::now());
                    self.act();
                }
                Some(()) = hangups.recv() => {
                    if let Err(refused) = reload::reload(&mut self) {
                        let (file, why) = (self.file.display(), refused.text());
                        tracing::error!(%file, why, "reload refused, nothing changed");
                    }
                }
            }
        }
        self.endpoint.close().await;
    }

    /// News of a session.
    fn heard(&mut self, event: transport::Event) {
        match event {
            transport::Event::Up { peer, hello, .. } => {
                self.order_quietly(Event::SessionUp { stack: peer.clone() });
                self.order_quietly(Event::Message { from: peer, message: Message::Hello(hello) });
            }
            transport::Event::Message { peer, message } => {
                self.order_quietly(Event::Message { from: peer, message });
            }
            transport::Event::Quiet { peer } => self.order_quietly(Event::Quiet { stack: peer }),
            transport::Event::Heard { peer } => self.order_quietly(Event::Heard { stack: peer }),
            transport::Event::Down { peer, .. } => self.order_quietly(Event::SessionDown { stack: peer }),
        }
    }

    /// Hands an event to the machine and does what follows; who caused it learns whether it was followed.
    pub(super) fn order(&mut self, event: Event) -> Result<(), Refusal> {
        let outcome = self.machine.handle(event, Instant::now());
        self.act();
        outcome
    }

    /// As [`Driver::order`], for events that nobody awaits an answer for: the machine counts the refusals.
    fn order_quietly(&mut self, event: Event) {
        if let Err(refusal) = self.order(event) {
            tracing::debug!(%refusal, "not followed");
        }
    }

    /// Does everything that the machine wants done.
    fn act(&mut self) {
        while let Some(action) = self.machine.poll() {
            if let Some(step) = step(&action) {
                transfer::halt::before("routing", step);
            }
            match action {
                Action::Send { to, message } => self.send(&to, &message),
                Action::Publish(dpt) => {
                    tracing::debug!(generation = dpt.generation, "DPT published");
                    self.forwarding.publish(&dpt);
                }
                Action::Newconn { owner, first, last, connections, moving } => {
                    self.forwarding.newconn(owner, &connections, Account { first, last }, &moving);
                }
                Action::Termconn { owner, connections } => self.forwarding.termconn(owner, &connections),
                Action::Freeze { connection, owner } => self.forwarding.freeze(&connection, owner),
                Action::Thaw { connection, owner } => self.forwarding.thaw(&connection, owner),
                Action::HandOver { connection, to, handoff } => self.hand_over(connection, to, &handoff),
                Action::End { connection } => self.forwarding.end(&connection),
                Action::List { stack, scope, limit } => self.list(stack, scope, limit),
                Action::Report { connection, source, target, way, outcome } => {
                    self.failures.write(&connection, (&source, &target), way.word(), &outcome);
                }
                Action::Note(note) => notes::write(&note),
                Action::Announce { dvipa } => {
                    tracing::info!(%dvipa, "announced");
                    self.forwarding.announce(dvipa);
                }
            }
        }
    }

    /// If it can't be done, what follows from that is among the machine's next actions.
    fn hand_over(&mut self, connection: Connection, to: StackIndex, handoff: &Handoff) {
        let Err(error) = self.forwarding.hand_over(&connection, to, handoff) else { return };
        tracing::debug!(%connection, %error, "not handed over");
        if let Err(refusal) =
            self.machine.handle(Event::NotHandedOver { connection, said: error.to_string() }, Instant::now())
        {
            tracing::debug!(%refusal, "not followed");
        }
    }

    /// The answer's consequences are among the machine's next actions.
    fn list(&mut self, stack: StackName, scope: Scope, limit: usize) {
        let (dvipa, port) = match scope {
            Scope::All => (None, None),
            Scope::Dvipa(dvipa) => (Some(dvipa.address()), None),
            Scope::Service(service) => (Some(service.dvipa.address()), Some(service.port)),
        };
        let state = Some(CrtState::Established);
        let page = match self.machine.stack_index(&stack) {
            // One that never was here has none.
            None => CrtPage::default(),
            index => {
                let filter = CrtFilter { dvipa, port, stack: index, state, ..CrtFilter::default() };
                self.forwarding.crt_list(&filter, limit)
            }
        };
        let connections = page.entries.iter().map(|entry| entry.connection).collect();
        let listed = Event::Listed { stack, scope, connections, more: page.more };
        if let Err(refusal) = self.machine.handle(listed, Instant::now()) {
            tracing::debug!(%refusal, "not followed");
        }
    }

    fn send(&self, to: &StackName, message: &Message) {
        // The session began with the same one.
        if let Message::Hello(_) = message {
            return;
        }
        match self.endpoint.send(to, message) {
            // The end of a session that breaks off follows as an event; then everything is said again.
            Ok(()) | Err(SendError::NoSession(_) | SendError::QueueFull(_)) => {}
            Err(error @ SendError::Oversize { .. }) => tracing::error!(%error, "a message was dropped"),
        }
    }
}

/// Ready at the deadline; never if there is none.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// What a step of a transfer is called.
fn step(action: &Action) -> Option<&'static str> {
    match action {
        Action::Send { message: Message::Transfer(message), .. } => Some(message.word()),
        Action::Freeze { .. } => Some("freeze"),
        Action::Thaw { .. } => Some("thaw"),
        _ => None,
    }
}
