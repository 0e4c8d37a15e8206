//! What follows from events, computed once for all of them and given out: the DPT, the VIPA list, what applications are told.

use std::collections::BTreeSet;

use model::dpt::{StackEntry, StackState};
use model::message::{Heard, ToStack};
use model::{Dvipa, Service, StackIndex};

use super::board::Changed;
use super::dirty::{Dirty, Mark};
use super::{Action, Note, RoutingStack, note};

impl RoutingStack {
    /// Computes what has changed in the DPT, the VIPA list and the targets of transfers, and gives it out.
    pub(super) fn settle(&mut self) {
        self.mark_moved();
        let dirty = self.dirty.take();
        let mut choosing = std::mem::take(&mut self.choosing);
        choosing.forget(&dirty, |service| self.picture().goes_by_load(service));
        self.choosing = choosing;
        let mut board = std::mem::take(&mut self.board);
        let mut update = board.update(&self.picture(), &dirty);
        let begun = self.ramps.see(std::mem::take(&mut update.growing), self.settles.is_none());
        if !begun.is_empty() {
            let mut slower = Dirty::default();
            begun.into_iter().for_each(|(service, stack)| slower.mark(Mark::Cell(service, stack)));
            update.append(board.update(&self.picture(), &slower));
        }
        if !dirty.stacks.is_empty() || !dirty.dvipas.is_empty() || !dirty.services.is_empty() {
            let index = |service: Service| self.dvipas.held(service.dvipa).map(|held| held.index);
            self.ramps.retain(|service, stack| {
                index(service).is_some_and(|dvipa| board.has(dvipa, service, stack))
            });
        }
        let panics = update.panics.iter();
        let panics = panics.map(|(service, begins)| Note::Panics { service: *service, begins: *begins });
        self.actions.extend(panics.map(Action::Note));
        self.work.settles += 1;
        self.work.services += update.services;
        self.work.targets += update.targets;
        if update.changed || self.published.generation == 0 {
            let own = self.direct.take_changed();
            let notes = self.notes_of(update.rows.iter().filter(|row| !own.contains(&row.service)));
            self.actions.extend(notes.into_iter().map(Action::Note));
            self.published = board.dpt(self.published.generation.saturating_add(1));
            // Their entries go: one that comes back has to name all that it has.
            let is_dead = |stack: &&StackEntry| stack.state == StackState::Dead;
            let dead = self.published.stacks.iter().filter(is_dead).map(|stack| stack.name.clone());
            for dead in dead.collect::<Vec<_>>() {
                self.stacks.hear(&dead, None);
                self.leave_ports(&dead);
            }
            // Before whatever else waits, because that may name what this DPT introduces.
            self.actions.push_front(Action::Publish(self.published.clone()));
        }
        self.board = board;
        self.follow_routes();
        if !dirty.definitions.is_empty() || self.list_generation == 0 {
            self.settle_list(&dirty.definitions);
        }
        self.tell_ranges();
        for to in self.stacks.without_list(self.list_generation) {
            if let Some(number) = self.stacks.heard(&to) {
                let message = ToStack::Heard(Heard { number });
                self.actions.push_back(Action::Send { to: to.clone(), message });
            }
            self.actions.push_back(Action::Send { to, message: ToStack::VipaList(self.list.clone()) });
        }
        self.tell_ports();
        let concern = dirty.concerns();
        if !concern.is_nobody() {
            let told = self.picture().told(&self.transfers.routing, &concern);
            for (to, targets) in self.transfers.tell(told, &concern) {
                self.actions.push_back(Action::Send { to, message: ToStack::Targets(targets) });
            }
        }
    }

    /// The VIPA list, if these DVIPAs' definitions make it another one.
    fn settle_list(&mut self, dvipas: &BTreeSet<Dvipa>) {
        let list = self.picture().vipa_list(&self.list, dvipas);
        if list != self.list || self.list_generation == 0 {
            self.list = list;
            self.list_generation = self.list_generation.saturating_add(1);
            // Who is no candidate for a service any more will not say when its listening ends.
            for (stack, void) in self.picture().void_listens(dvipas) {
                self.stacks.forget_listens(&stack, &void);
            }
        }
    }

    /// Which targets come and go with these changes.
    fn notes_of<'a>(&self, rows: impl Iterator<Item = &'a Changed>) -> Vec<Note> {
        let (came, went) = note::changes(rows);
        let named =
            |(stack, services): (StackIndex, Vec<Service>)| Some((self.stack_name(stack)?.clone(), services));
        let came = came.into_iter().filter_map(named).map(|(stack, services)| Note::Came { stack, services });
        let picture = self.picture();
        let went = went.into_iter().filter_map(named).map(|(stack, services)| {
            let why = services.first().and_then(|service| picture.state_of(*service, &stack));
            Note::Went { stack, services, why }
        });
        came.chain(went).collect()
    }
}
