//! Tokens that targets give out ahead, so that workers hand connections over without asking.
//!
//! The forwarder says whose are nearly used up, and is given what comes. What a stack gave out in a session is void when it is over.

use model::codec::Address;
use model::message::{Declined, ToStack, TokensGiven, TokensWanted};
use model::{StackIndex, StackName};

use super::{Action, RoutingStack};

impl RoutingStack {
    /// The forwarder has hardly any tokens of these stacks left. That this stack owns some DVIPA gives it the right to ask.
    pub(super) fn want_tokens(&mut self, of: &[StackIndex]) {
        let Some((dvipa, held)) = self.dvipas.iter().next() else { return };
        let wanted = TokensWanted { dvipa: Address(dvipa.address()), epoch: held.epoch };
        for to in
            of.iter().filter_map(|stack| self.stacks.name(*stack)).filter(|name| self.stacks.is_up(name))
        {
            let message = ToStack::TokensWanted(wanted.clone());
            self.actions.push_back(Action::Send { to: to.clone(), message });
        }
    }

    /// A stack gives out tokens.
    pub(super) fn tokens_given(&mut self, from: &StackName, given: TokensGiven) {
        if let Some(stack) = self.stack_index(from) {
            self.have_given.insert(stack);
            self.actions.push_back(Action::Tokens { stack, tokens: Some(given.tokens) });
        }
    }

    /// A session is over, and with it what was given out in it.
    pub(super) fn void_tokens(&mut self, of: &StackName) {
        if let Some(stack) = self.stack_index(of).filter(|stack| self.have_given.contains(stack)) {
            self.have_given.remove(&stack);
            self.actions.push_back(Action::Tokens { stack, tokens: None });
        }
    }

    /// A stack does not take a connection that was handed over to it.
    pub(super) fn declined(&mut self, from: &StackName, declined: &Declined) {
        if let Some(by) = self.stack_index(from) {
            self.actions.push_back(Action::Declined { connection: declined.connection.0, by });
        }
    }
}
