//! Joins the tokens that are given out ahead with the rest of the agent.

use model::codec::WireConnection;
use model::message::{Declined, FromStack, TokensGiven};
use model::{Connection, StackName};
use transport::SendError;

use super::Agent;

impl Agent {
    /// A routing stack needs tokens. That it owns a DVIPA here was judged before.
    pub(super) fn tokens_wanted(&mut self, from: &StackName) {
        if self.programs.injection.is_err() {
            return;
        }
        let Some(places) = self.tokens.next(from) else {
            return tracing::warn!(routing_stack = %from, "no tokens are left for it: other routing stacks have them all");
        };
        match self.programs.maps.tokens.give(places) {
            Ok(tokens) => self.say_of_tokens(from, &FromStack::TokensGiven(TokensGiven { tokens })),
            Err(cause) => tracing::error!(%cause, "no tokens can be given out"),
        }
    }

    /// The session with a routing stack is over, or another one begins.
    pub(super) fn void_tokens(&mut self, of: &StackName) {
        for places in self.tokens.session_over(of) {
            if let Err(cause) = self.programs.maps.tokens.void(places) {
                tracing::error!(routing_stack = %of, %cause, "its tokens can't be voided");
            }
        }
    }

    /// A connection was not taken: the owner of its DVIPA is to know.
    pub(super) fn declined(&mut self, connection: Connection) {
        if let Some((owner, _)) = self.machine.owner(connection.service().dvipa) {
            let declined = Declined { connection: WireConnection(connection) };
            self.say_of_tokens(owner, &FromStack::Declined(declined));
        }
    }

    fn say_of_tokens(&self, to: &StackName, message: &FromStack) {
        match self.endpoint.send(to, message) {
            Ok(()) | Err(SendError::NoSession(_)) => {}
            Err(cause) => tracing::warn!(routing_stack = %to, %cause, "a message was not sent"),
        }
    }
}
