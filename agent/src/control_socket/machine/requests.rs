//! What becomes of each request.

use std::collections::BTreeSet;

use channel::Sealed;
use model::control_socket::notification::{Failed, Targets, Transferred};
use model::control_socket::request::{Claim, Register, Resume, Subscribe, Transfer};
use model::control_socket::{
    MAX_GIVEN_BACK_BYTES, MAX_PORTS, Refusal, Request, RequestId, TARGETS_A_MESSAGE, Target,
};
use model::{Dvipa, Protocol, Service};

use super::{Enclosed, Entry, Machine, Standing};
use crate::control_socket::event::{Event, Held, Moving, Registration};
use crate::control_socket::limits::{MAX_OFFERS, MAX_REGISTRATIONS, MAX_SUBSCRIPTIONS, MAX_TRANSFERS};

impl Machine {
    pub(super) fn request(&mut self, request: Request, enclosed: Result<Enclosed, Refusal>) {
        let number = match &request {
            Request::Register(r) => Some(r.request),
            Request::Subscribe(r) => Some(r.request),
            Request::Transfer(r) => Some(r.request),
            Request::Resume(r) => Some(r.request),
            Request::Claim(r) => Some(r.request),
            Request::Accept(_) | Request::Reject(_) | Request::Taken(_) | Request::TakesOffers(_) => None,
        };
        if number.is_some_and(|number| self.is_open(number)) {
            return self.end(Refusal::Invalid);
        }
        match request {
            Request::Register(register) => self.register(register),
            Request::Subscribe(subscribe) => self.subscribe(subscribe),
            Request::Transfer(transfer) => self.transfer(transfer, enclosed),
            Request::Resume(Resume { request }) => self.resume(request, enclosed),
            Request::Claim(claim) => self.claim(claim, enclosed),
            Request::Taken(taken) => self.offers.taken(taken.by),
            Request::TakesOffers(takes) => {
                if self.registrations.contains_key(&takes.request) {
                    self.report(Event::TakesOffers(takes.request));
                }
            }
            Request::Accept(accept) => self.actions.extend(self.offers.accept(accept.offer)),
            Request::Reject(reject) => self.actions.extend(self.offers.reject(reject.offer, reject.reason)),
        }
    }

    fn is_open(&self, number: RequestId) -> bool {
        self.registrations.contains_key(&number)
            || self.subscriptions.contains_key(&number)
            || self.transfers.contains_key(&number)
            || self.claims.contains_key(&number)
            || self.offers.has_claimed(number)
    }

    fn refuse(&mut self, request: RequestId, why: Refusal) {
        self.tell(Failed { request, why, detail: None });
    }

    fn register(&mut self, register: Register) {
        let Register { request, role, job, dvipa, ports, hold_accepts, takes_offers } = register;
        let takes_offers = takes_offers.unwrap_or(true);
        if ports.is_empty() || ports.len() > MAX_PORTS || ports.contains(&0) {
            return self.refuse(request, Refusal::Invalid);
        }
        if self.registrations.len() >= MAX_REGISTRATIONS {
            return self.refuse(request, Refusal::TooMany);
        }
        self.standing = Standing::Known;
        let dvipa = Dvipa::new(dvipa.0);
        let registration =
            Registration { peer: self.peer, role, job, dvipa, ports, hold_accepts, takes_offers };
        self.registrations.insert(request, Entry { registration: registration.clone(), known: false });
        self.report(Event::Register(request, registration));
    }

    fn subscribe(&mut self, subscribe: Subscribe) {
        let Subscribe { request, dvipa, port } = subscribe;
        let service = Service { dvipa: Dvipa::new(dvipa.0), port, protocol: Protocol::Tcp };
        if !self.may_use(service) {
            return self.refuse(request, Refusal::NotRegistered);
        }
        if self.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            return self.refuse(request, Refusal::TooMany);
        }
        self.subscriptions.insert(request, None);
        self.report(Event::Subscribe(request, service));
    }

    fn transfer(&mut self, transfer: Transfer, enclosed: Result<Enclosed, Refusal>) {
        let Transfer { request, to, consent, unacknowledged, given_back } = transfer;
        let given_back = given_back.unwrap_or_default();
        if given_back.len() > MAX_GIVEN_BACK_BYTES {
            return self.refuse(request, Refusal::GivenBack);
        }
        if let Some((held, state)) = self.moving(request, enclosed) {
            let moving = Moving { held, to, consent, unacknowledged, state, given_back };
            self.report(Event::Transfer(request, moving));
        }
    }

    fn resume(&mut self, request: RequestId, enclosed: Result<Enclosed, Refusal>) {
        match enclosed {
            // The former run has done that because the connection had moved, and was killed before it could say so.
            Ok(Enclosed { was_taken_away: true, .. }) => self.tell(Transferred { request }),
            enclosed => {
                if let Some((held, _)) = self.moving(request, enclosed) {
                    self.report(Event::Resume(request, held));
                }
            }
        }
    }

    fn claim(&mut self, Claim { request, given }: Claim, enclosed: Result<Enclosed, Refusal>) {
        match enclosed.and_then(Enclosed::into_held).map(|(held, _)| held) {
            // It was disconnected, because the transfer is void.
            Err(Refusal::Ended) if !given => self.refuse(request, Refusal::Aborted),
            Err(why) => self.refuse(request, why),
            Ok(held) if !self.may_use(held.connection.service()) => {
                self.refuse(request, Refusal::NotRegistered);
            }
            Ok(_) if self.claims.len() + self.offers.len() >= MAX_OFFERS => {
                self.refuse(request, Refusal::TooMany);
            }
            Ok(held) => {
                self.claims.insert(request, (held.connection, given));
                self.report(Event::Claim(request, held));
            }
        }
    }

    /// What is enclosed, if the application may have it moved; otherwise it is told why not.
    fn moving(
        &mut self,
        request: RequestId,
        enclosed: Result<Enclosed, Refusal>,
    ) -> Option<(Held, Option<Sealed>)> {
        match self.check(enclosed) {
            Ok((held, state)) => {
                self.transfers.insert(request, held.connection);
                Some((held, state))
            }
            Err(why) => {
                self.refuse(request, why);
                None
            }
        }
    }

    fn check(&self, enclosed: Result<Enclosed, Refusal>) -> Result<(Held, Option<Sealed>), Refusal> {
        let (held, state) = enclosed?.into_held()?;
        if !self.may_use(held.connection.service()) {
            Err(Refusal::NotRegistered)
        } else if self.transfers.len() >= MAX_TRANSFERS {
            Err(Refusal::TooMany)
        } else if self.transfers.values().any(|moving| *moving == held.connection) {
            Err(Refusal::AlreadyMoving)
        } else {
            Ok((held, state))
        }
    }

    /// Tells a complete list once, and then what has changed.
    pub(super) fn targets(&mut self, request: RequestId, targets: Vec<Target>) {
        let Some(told) = self.subscriptions.get_mut(&request) else { return };
        let now: BTreeSet<Target> = targets.into_iter().collect();
        let (added, removed, is_first): (Vec<_>, Vec<_>, _) = match told {
            None => (now.iter().cloned().collect(), Vec::new(), true),
            Some(told) => {
                (now.difference(told).cloned().collect(), told.difference(&now).cloned().collect(), false)
            }
        };
        *told = Some(now);
        for part in parts(request, is_first, added, removed) {
            self.tell(part);
        }
    }
}

/// A list or a change in messages that are not too long: first what is gone, then what is new.
fn parts(request: RequestId, is_first: bool, added: Vec<Target>, removed: Vec<Target>) -> Vec<Targets> {
    let whole = Targets { request: Some(request), ..Targets::default() };
    let gone = removed.chunks(TARGETS_A_MESSAGE).map(|c| Targets { removed: c.to_vec(), ..whole.clone() });
    let new = added.chunks(TARGETS_A_MESSAGE).map(|c| Targets { added: c.to_vec(), ..whole.clone() });
    let mut parts: Vec<Targets> = gone.chain(new).collect();
    if parts.is_empty() && is_first {
        parts.push(whole);
    }
    if let Some(first) = parts.first_mut() {
        first.first = is_first;
    }
    if let Some(last) = parts.last_mut() {
        last.last = true;
    }
    parts
}
