//! Connections that come: from when they are accepted, or given, until the application has them.
//!
//! | event | Wanted | Arriving | Claiming | Here |
//! | --- | --- | --- | --- | --- |
//! | Arriving | *Arriving* | – | – | – |
//! | Connection | *Here* | *Here* | – | – |
//! | Withdrawn | void | void | – | void, if it was given |
//! | the control socket closes | void | *Arriving* | *Arriving* | *Here*; *Arriving*, if it was given |
//! | the next agent knows the application | – | claim; *Claiming* | – | – |
//! | Claimed | – | – | *Here* | – |
//! | Failed (of the claim) | – | – | void | void, if it was given |
//!
//! A given connection begins with Arriving. One that has arrived and is not known to be the application's is in repair mode or
//! active: only an agent knows. Closing its descriptor sends nothing in the former case.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};

use channel::Sealed;
use model::Connection;
use model::control_socket::notification::By;
use model::control_socket::request::Claim;
use model::control_socket::{Refusal, RequestId, Target};

use super::{OfferKey, SessionId, Why, key, refused};
use crate::error::Error;

/// A connection that has come.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) connection: Connection,
    pub(crate) giver: Option<Target>,
    pub(crate) socket: OwnedFd,
    pub(crate) state: Option<Sealed>,
}

/// A given connection that was taken, as its agent knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IsTaken {
    pub(super) session: SessionId,
    pub(super) by: By,
}

/// How far a connection is that an accepted offer brings.
#[derive(Debug)]
enum Accepted {
    Wanted,
    Arriving(Arrived),
    Claiming(RequestId, Arrived),
    Here(Result<Arrived, Error>),
}

/// How far a given connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Far {
    Arriving,
    Claiming(RequestId),
    Here,
}

/// A connection that was given.
#[derive(Debug)]
struct Given {
    session: SessionId,
    by: By,
    far: Far,
    arrived: Arrived,
}

/// All connections that come to one application.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    accepted: BTreeMap<OfferKey, Accepted>,
    given: VecDeque<Given>,
}

impl Arrivals {
    pub(super) fn accept(&mut self, key: OfferKey) {
        self.accepted.insert(key, Accepted::Wanted);
    }

    /// The offer's agent has ended.
    pub(super) fn void(&mut self, key: OfferKey) {
        self.accepted.insert(key, Accepted::Here(Err(Error::Closed)));
    }

    /// A silent connection. One that nobody waits for is closed.
    pub(super) fn arriving(&mut self, session: SessionId, by: By, arrived: Arrived) {
        match by {
            By::Offer(offer) => {
                if let Some(accepted @ Accepted::Wanted) = self.accepted.get_mut(&OfferKey { session, offer })
                {
                    *accepted = Accepted::Arriving(arrived);
                }
            }
            By::Given(_) => self.given.push_back(Given { session, by, far: Far::Arriving, arrived }),
            By::Claim(_) => {}
        }
    }

    /// A connection that is the application's.
    pub(super) fn here(&mut self, session: SessionId, by: By, arrived: Arrived) {
        match by {
            By::Offer(offer) => {
                if let Some(accepted) = self.accepted.get_mut(&OfferKey { session, offer }) {
                    let before = std::mem::replace(accepted, Accepted::Wanted);
                    // State may have come before.
                    let state = match before {
                        Accepted::Arriving(Arrived { state, .. }) => arrived.state.or(state),
                        Accepted::Wanted | Accepted::Claiming(..) | Accepted::Here(_) => arrived.state,
                    };
                    *accepted = Accepted::Here(Ok(Arrived { state, ..arrived }));
                }
            }
            By::Given(_) => {
                if let Some(given) = self.given.iter_mut().find(|g| (g.session, g.by) == (session, by)) {
                    given.far = Far::Here;
                }
            }
            By::Claim(_) => {}
        }
    }

    /// The agent has given an offer up, or the time of a given connection is over.
    pub(super) fn withdrawn(&mut self, withdrawn: OfferKey, why: Refusal) {
        if let Some(accepted) = self.accepted.get_mut(&withdrawn) {
            match accepted {
                Accepted::Wanted | Accepted::Arriving(_) => {
                    *accepted = Accepted::Here(Err(refused((why, None))));
                }
                Accepted::Claiming(..) | Accepted::Here(_) => {}
            }
        }
        self.given.retain(|given| key(given.session, given.by) != Some(withdrawn));
    }

    /// The control socket is closed.
    pub(super) fn closed(&mut self) {
        for accepted in self.accepted.values_mut() {
            *accepted = match std::mem::replace(accepted, Accepted::Wanted) {
                Accepted::Wanted => Accepted::Here(Err(Error::Closed)),
                Accepted::Arriving(arrived) | Accepted::Claiming(_, arrived) => Accepted::Arriving(arrived),
                here @ Accepted::Here(_) => here,
            };
        }
        self.given.iter_mut().for_each(|given| given.far = Far::Arriving);
    }

    /// The next agent is asked about what has arrived.
    pub(super) fn claims(&mut self, mut number: impl FnMut() -> RequestId) -> Vec<(Claim, OwnedFd)> {
        let mut claims = Vec::new();
        for accepted in self.accepted.values_mut() {
            *accepted = match std::mem::replace(accepted, Accepted::Wanted) {
                Accepted::Arriving(arrived) => match arrived.socket.as_fd().try_clone_to_owned() {
                    Ok(same) => {
                        let request = number();
                        claims.push((Claim { request, given: false }, same));
                        Accepted::Claiming(request, arrived)
                    }
                    Err(cause) => Accepted::Here(Err(cause.into())),
                },
                other @ (Accepted::Wanted | Accepted::Claiming(..) | Accepted::Here(_)) => other,
            };
        }
        self.given.retain_mut(|given| {
            let Ok(same) = given.arrived.socket.as_fd().try_clone_to_owned() else { return false };
            let request = number();
            claims.push((Claim { request, given: true }, same));
            given.far = Far::Claiming(request);
            true
        });
        claims
    }

    /// The agent says that a connection is the application's.
    pub(super) fn claimed(&mut self, session: SessionId, of: RequestId) {
        for accepted in self.accepted.values_mut() {
            *accepted = match std::mem::replace(accepted, Accepted::Wanted) {
                Accepted::Claiming(request, arrived) if request == of => Accepted::Here(Ok(arrived)),
                other @ (Accepted::Wanted
                | Accepted::Arriving(_)
                | Accepted::Claiming(..)
                | Accepted::Here(_)) => other,
            };
        }
        for given in self.given.iter_mut().filter(|given| given.far == Far::Claiming(of)) {
            (given.session, given.by, given.far) = (session, By::Claim(of), Far::Here);
        }
    }

    /// The agent says that a connection is not the application's, or no longer; whether it was one.
    pub(super) fn not_ours(&mut self, session: SessionId, of: RequestId, why: &Why) -> bool {
        let mut found = false;
        for accepted in self.accepted.values_mut() {
            if matches!(accepted, Accepted::Claiming(request, _) if *request == of) {
                *accepted = Accepted::Here(Err(refused(why.clone())));
                found = true;
            }
        }
        let before = self.given.len();
        self.given.retain(|given| {
            given.far != Far::Claiming(of) && (given.session, given.by) != (session, By::Claim(of))
        });
        found || self.given.len() != before
    }

    /// The connection of an accepted offer, once that is decided.
    pub(super) fn accepted(&mut self, key: OfferKey) -> Option<Result<Arrived, Error>> {
        let Accepted::Here(_) = self.accepted.get(&key)? else { return None };
        match self.accepted.remove(&key)? {
            Accepted::Here(result) => Some(result),
            Accepted::Wanted | Accepted::Arriving(_) | Accepted::Claiming(..) => None,
        }
    }

    pub(super) fn forget(&mut self, key: OfferKey) {
        self.accepted.remove(&key);
    }

    pub(super) fn has_given(&self) -> bool {
        self.given.iter().any(|given| given.far == Far::Here)
    }

    /// The next given connection, and how its agent knows it.
    pub(super) fn take(&mut self) -> Option<(Arrived, IsTaken)> {
        let at = self.given.iter().position(|given| given.far == Far::Here)?;
        let Given { session, by, arrived, .. } = self.given.remove(at)?;
        Some((arrived, IsTaken { session, by }))
    }
}
