//! Connections that are about to come to one application.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;

use channel::Sealed;
use model::Connection;
use model::codec::WireConnection;
use model::control_socket::notification::{self, By, Failed, Offer, Withdrawn};
use model::control_socket::request::Consent;
use model::control_socket::{JobName, MAX_TEXT_BYTES, OfferId, Refusal, RequestId};

use super::{Action, Beside};
use crate::control_socket::event::{Answer, Event};
use crate::control_socket::limits::{MAX_OFFERS, MAX_TAKES};

#[derive(Debug)]
enum Standing {
    /// The application has to answer.
    Asked,
    /// The application has accepted.
    Accepted,
    /// The application is not asked; its state waits here until it takes the connection.
    Given(Option<Sealed>),
}

/// A connection that is here and waits to be taken.
#[derive(Debug)]
struct Given {
    connection: Connection,
    socket: OwnedFd,
    state: Option<Sealed>,
}

/// The offers of one application, and its takes.
#[derive(Debug, Default)]
pub(super) struct Offers {
    open: BTreeMap<OfferId, (Connection, Standing)>,
    given: VecDeque<Given>,
    takes: VecDeque<RequestId>,
}

impl Offers {
    /// The agent offers a connection.
    pub(super) fn offer(
        &mut self,
        offer: OfferId,
        connection: Connection,
        job: JobName,
        consent: Consent,
        state: Option<Sealed>,
    ) -> Vec<Action> {
        if self.open.len() + self.given.len() >= MAX_OFFERS {
            return vec![answer(offer, Answer::Rejected { why: Refusal::TargetBusy, detail: None })];
        }
        match consent {
            Consent::Asked => {
                self.open.insert(offer, (connection, Standing::Asked));
                let beside = state.map_or(Beside::Nothing, Beside::State);
                let told = Offer { offer, connection: WireConnection(connection), job };
                vec![Action::Tell(told.into(), beside)]
            }
            Consent::Presumed => {
                self.open.insert(offer, (connection, Standing::Given(state)));
                vec![answer(offer, Answer::Accepted)]
            }
        }
    }

    /// The application accepts. One that was withdrawn meanwhile is no mistake: the two messages have crossed, and it is
    /// told again, so that it does not wait.
    pub(super) fn accept(&mut self, offer: OfferId) -> Option<Action> {
        match self.open.get_mut(&offer) {
            Some((_, standing @ Standing::Asked)) => {
                *standing = Standing::Accepted;
                Some(answer(offer, Answer::Accepted))
            }
            Some((_, Standing::Accepted | Standing::Given(_))) => None,
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
            Some((_, Standing::Accepted | Standing::Given(_))) | None => None,
        }
    }

    /// The agent withdraws an offer.
    pub(super) fn withdraw(&mut self, offer: OfferId, why: Refusal) -> Option<Action> {
        match self.open.remove(&offer)? {
            (_, Standing::Asked | Standing::Accepted) => Some(withdrawn(offer, why)),
            (_, Standing::Given(_)) => None,
        }
    }

    /// The connection of an offer is here. One that nobody accepted is closed.
    pub(super) fn connection(&mut self, offer: OfferId, socket: OwnedFd) -> Option<Action> {
        match self.open.remove(&offer)? {
            (_, Standing::Asked) => None,
            (connection, Standing::Accepted) => {
                let told =
                    notification::Connection { by: By::Offer(offer), connection: WireConnection(connection) };
                Some(Action::Tell(told.into(), Beside::Connection(socket, None)))
            }
            (connection, Standing::Given(state)) => {
                self.given.push_back(Given { connection, socket, state });
                self.hand_over()
            }
        }
    }

    /// The application takes a connection, now or when there is one.
    pub(super) fn take(&mut self, request: RequestId) -> Option<Action> {
        if self.takes.len() >= MAX_TAKES {
            let failed = Failed { request, why: Refusal::TooMany, detail: None };
            return Some(Action::Tell(failed.into(), Beside::Nothing));
        }
        self.takes.push_back(request);
        self.hand_over()
    }

    pub(super) fn is_taking(&self, request: RequestId) -> bool {
        self.takes.contains(&request)
    }

    fn hand_over(&mut self) -> Option<Action> {
        if self.takes.is_empty() {
            return None;
        }
        let Given { connection, socket, state } = self.given.pop_front()?;
        let request = self.takes.pop_front()?;
        let told = notification::Connection { by: By::Take(request), connection: WireConnection(connection) };
        Some(Action::Tell(told.into(), Beside::Connection(socket, state)))
    }
}

fn answer(offer: OfferId, answer: Answer) -> Action {
    Action::Report(Event::Answer(offer, answer))
}

fn withdrawn(offer: OfferId, why: Refusal) -> Action {
    Action::Tell(Withdrawn { offer, why }.into(), Beside::Nothing)
}

/// A text that is not too long to be passed on.
fn cut(mut text: String) -> String {
    let end = (0..=MAX_TEXT_BYTES.min(text.len())).rev().find(|i| text.is_char_boundary(*i));
    text.truncate(end.unwrap_or(0));
    text
}
