//! How far stacks have looked for connections that workers asked them about.
//!
//! | what happens | what follows |
//! | --- | --- |
//! | workers wait for answers ([`super::Event::Asked`]) | each stack that owes no answer is told the time |
//! | the stack answers it ([`Looked`]), the first one of its session, or after it has lost what its kernel told | its silence counts from that time on |
//! | it answers the next one | its silence counts until that time: the forwarder is told ([`super::Action::Looked`]) |
//!
//! The answer comes behind the NEWCONN that precede it, and so do the actions: so what a worker finds no entry for then, the stack does not
//! have. Another answer than the awaited one says nothing.

use model::message::{Asked, Looked, ToStack};
use model::{StackIndex, StackName};

use super::{Action, RoutingStack};

/// How far a stack has looked, in its session.
#[derive(Debug, Default)]
pub(super) struct Look {
    awaited: Option<u64>,
    since: Option<u64>,
}

impl Look {
    /// Whether the stack is to be told this time.
    fn ask(&mut self, until: u64) -> bool {
        let is_idle = self.awaited.is_none();
        self.awaited.get_or_insert(until);
        is_idle
    }

    /// From when to when its silence counts now.
    fn looked(&mut self, Looked { number, anew }: Looked) -> Option<(u64, u64)> {
        self.awaited.take_if(|awaited| *awaited == number)?;
        if anew {
            self.since = None;
        }
        Some((*self.since.get_or_insert(number), number))
    }
}

impl RoutingStack {
    /// Workers wait for the answers of stacks that they have asked until then.
    pub(super) fn ask_for_looks(&mut self, until: u64) {
        let asked = self.stacks.said_of_all().filter_map(|(to, said)| said.look.ask(until).then_some(to));
        let send = |to: &StackName| Action::Send {
            to: to.clone(),
            message: ToStack::Asked(Asked { number: until }),
        };
        self.actions.extend(asked.map(send));
    }

    pub(super) fn looked(&mut self, from: &StackName, looked: Looked) {
        let stack: Option<StackIndex> = self.stack_index(from);
        let counts = self.stacks.said_mut(from).and_then(|said| said.look.looked(looked));
        if let (Some(stack), Some((since, until))) = (stack, counts) {
            self.actions.push_back(Action::Looked { stack, since, until });
        }
    }
}
