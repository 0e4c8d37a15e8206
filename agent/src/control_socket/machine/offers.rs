//! Connections that are about to come to one application, and those that it was given and has not taken.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use channel::Sealed;
use model::Connection;
use model::codec::WireConnection;
use model::control_socket::notification::{self, Arriving, By, Failed, Offer, Withdrawn};
use model::control_socket::{JobName, MAX_TEXT_BYTES, OfferId, Refusal, RequestId, Target};

use super::{Action, Beside, Timer};
use crate::control_socket::event::{Answer, Event, Held};
use crate::control_socket::limits::{MAX_OFFERS, PASS_WITHIN, TAKE_WITHIN};

#[derive(Debug)]
enum Standing {
    /// The application has to answer.
    Asked,
    /// The application has accepted.
    Accepted,
    /// Its descriptor waits for room in the application's socket.
    Passing { by: By, until: Instant },
    /// Its descriptor is in the application's socket.
    Passed { by: By },
}

/// A connection that the application was given. This descriptor goes when it is taken.
#[derive(Debug)]
struct Given {
    held: Held,
    until: Instant,
}

/// The offers of one application.
#[derive(Debug, Default)]
pub(super) struct Offers {
    open: BTreeMap<OfferId, (Connection, Standing)>,
    given: BTreeMap<By, Given>,
}

impl Offers {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.open.len() + self.given.len()
    }

    /// The agent offers a connection.
    pub(super) fn offer(
        &mut self,
        offer: OfferId,
        connection: Connection,
        job: JobName,
        giver: Option<Target>,
        state: Option<Sealed>,
    ) -> Action {
        if self.len() >= MAX_OFFERS {
            return busy(offer);
        }
        self.open.insert(offer, (connection, Standing::Asked));
        let told = Offer { offer, connection: WireConnection(connection), job, giver };
        Action::Tell(told.into(), state.map_or(Beside::Nothing, Beside::State))
    }

    /// The application accepts. One that was withdrawn meanwhile is no mistake: the two messages have crossed, and it is
    /// told again, so that it does not wait.
    pub(super) fn accept(&mut self, offer: OfferId) -> Option<Action> {
        match self.open.get_mut(&offer) {
            Some((_, standing @ Standing::Asked)) => {
                *standing = Standing::Accepted;
                Some(answer(offer, Answer::Accepted))
            }
            Some((_, Standing::Accepted | Standing::Passing { .. } | Standing::Passed { .. })) => None,
            None => Some(withdrawn(offer, Refusal::Aborted)),
        }
    }

    /// The application rejects.
    pub(super) fn reject(&mut self, offer: OfferId, reason: String) -> Option<Action> {
        match self.open.get(&offer) {
            Some((_, Standing::Asked)) => {
                self.open.remove(&offer);
                let detail = Some(cut(reason)).filter(|reason| !reason.is_empty());
                Some(answer(offer, Answer::Rejected { why: Refusal::Rejected, detail }))
            }
            Some((_, Standing::Accepted | Standing::Passing { .. } | Standing::Passed { .. })) | None => None,
        }
    }

    /// The connection of an accepted offer, silent.
    pub(super) fn pass(&mut self, offer: OfferId, socket: OwnedFd, now: Instant) -> Option<Action> {
        let (connection, standing @ Standing::Accepted) = self.open.get_mut(&offer)? else { return None };
        let by = By::Offer(offer);
        *standing = Standing::Passing { by, until: now + PASS_WITHIN };
        Some(arriving(offer, (by, None), *connection, socket, None))
    }

    /// A connection that the application is not asked about, silent.
    pub(super) fn give(
        &mut self,
        offer: OfferId,
        Held { socket, connection }: Held,
        giver: Option<Target>,
        state: Option<Sealed>,
        now: Instant,
    ) -> Action {
        if self.len() >= MAX_OFFERS {
            return busy(offer);
        }
        let by = By::Given(offer);
        self.open.insert(offer, (connection, Standing::Passing { by, until: now + PASS_WITHIN }));
        arriving(offer, (by, giver), connection, socket, state)
    }

    /// The connection is in the application's socket.
    pub(super) fn sent(&mut self, offer: OfferId) -> Option<Action> {
        let (_, standing) = self.open.get_mut(&offer)?;
        let Standing::Passing { by, .. } = *standing else { return None };
        *standing = Standing::Passed { by };
        Some(Action::Report(Event::Passed(offer)))
    }

    /// The agent withdraws an offer.
    pub(super) fn withdraw(&mut self, offer: OfferId, why: Refusal) -> Option<Action> {
        self.open.remove(&offer).map(|_| withdrawn(offer, why))
    }

    /// The connection of an offer is the application's, if it has it.
    pub(super) fn connection(&mut self, offer: OfferId, socket: OwnedFd, now: Instant) -> Option<Action> {
        let (connection, standing) = self.open.remove(&offer)?;
        let by = match standing {
            Standing::Asked | Standing::Accepted => return None,
            Standing::Passing { by, .. } | Standing::Passed { by } => by,
        };
        if let By::Given(_) = by
            && let Ok(kept) = socket.as_fd().try_clone_to_owned()
        {
            self.is_given(by, Held { socket: kept, connection }, now);
        }
        let told = notification::Connection { by, connection: WireConnection(connection) };
        Some(Action::Tell(told.into(), Beside::Connection(socket)))
    }

    /// The application has this connection, and is to take it.
    pub(super) fn is_given(&mut self, by: By, held: Held, now: Instant) {
        self.given.insert(by, Given { held, until: now + TAKE_WITHIN });
    }

    /// The application has taken it.
    pub(super) fn taken(&mut self, by: By) {
        self.given.remove(&by);
    }

    /// A request's number that stands for a connection which is to be taken.
    pub(super) fn has_claimed(&self, request: RequestId) -> bool {
        self.given.contains_key(&By::Claim(request))
    }

    /// When something is due, and what.
    pub(super) fn next_deadline(&self) -> Option<(Instant, Timer)> {
        let passing = self.open.values().filter_map(|(_, standing)| match standing {
            Standing::Passing { until, .. } => Some((*until, Timer::Pass)),
            Standing::Asked | Standing::Accepted | Standing::Passed { .. } => None,
        });
        let given = self.given.values().map(|given| (given.until, Timer::Take));
        passing.chain(given).min_by_key(|(at, _)| *at)
    }

    /// There was no room for a connection for too long.
    pub(super) fn is_stuck(&self, now: Instant) -> bool {
        let late = |standing: &Standing| matches!(standing, Standing::Passing { until, .. } if *until <= now);
        self.open.values().any(|(_, standing)| late(standing))
    }

    /// Takes back what was not taken in time.
    pub(super) fn not_taken(&mut self, now: Instant) -> Vec<Action> {
        let late = self.given.iter().filter(|(_, given)| given.until <= now).map(|(by, _)| *by);
        let mut actions = Vec::new();
        for by in late.collect::<Vec<_>>() {
            actions.extend(match by {
                By::Given(offer) | By::Offer(offer) => Some(withdrawn(offer, Refusal::NotTaken)),
                By::Claim(request) => {
                    let failed = Failed { request, why: Refusal::NotTaken, detail: None };
                    Some(Action::Tell(failed.into(), Beside::Nothing))
                }
            });
            let given = self.given.remove(&by);
            actions.extend(given.map(|given| Action::Report(Event::NotTaken(given.held))));
        }
        actions
    }
}

fn answer(offer: OfferId, answer: Answer) -> Action {
    Action::Report(Event::Answer(offer, answer))
}

fn busy(offer: OfferId) -> Action {
    answer(offer, Answer::Rejected { why: Refusal::TargetBusy, detail: None })
}

fn withdrawn(offer: OfferId, why: Refusal) -> Action {
    Action::Tell(Withdrawn { offer, why }.into(), Beside::Nothing)
}

fn arriving(
    offer: OfferId,
    (by, giver): (By, Option<Target>),
    connection: Connection,
    socket: OwnedFd,
    state: Option<Sealed>,
) -> Action {
    let told = Arriving { by, connection: WireConnection(connection), giver };
    Action::Tell(told.into(), Beside::Arriving(offer, socket, state))
}

/// A text that is not too long to be passed on.
fn cut(mut text: String) -> String {
    let end = (0..=MAX_TEXT_BYTES.min(text.len())).rev().find(|i| text.is_char_boundary(*i));
    text.truncate(end.unwrap_or(0));
    text
}
