//! Sessions between one target and one routing node: what is under way, in order, and how long it takes.

use std::collections::VecDeque;

use model::message::{FromStack, Hello, ToStack};

/// Which of the sessions that this pair ever had.
pub(super) type SessionId = u64;

/// To which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    Node,
    Target,
}

/// What one end notices.
#[derive(Clone, Debug)]
pub(super) enum Notice {
    /// A session was accepted: what the target says of itself.
    Up(SessionId, Box<Hello>),
    /// It is over.
    Down(SessionId),
    /// The target says something in it.
    Said(SessionId, Box<FromStack>),
    /// The node does.
    Told(SessionId, Box<ToStack>),
}

/// The way between a target and a node.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// The session that each end has.
    pub(super) at_node: Option<SessionId>,
    pub(super) at_target: Option<SessionId>,
    /// Nothing gets through.
    pub(super) partitioned: bool,
    /// The session lost something: it delivers no more, and both ends give it up.
    pub(super) dead: Option<SessionId>,
    to_node: VecDeque<(u64, Notice)>,
    to_target: VecDeque<(u64, Notice)>,
    /// When the target dials next.
    pub(super) next_dial_ms: u64,
}

impl Link {
    /// Puts something on the way. It can't overtake what is under way already.
    pub(super) fn send(&mut self, to: To, at_ms: u64, notice: Notice) {
        let queue = self.queue(to);
        let at_ms = queue.back().map_or(at_ms, |(last, _)| at_ms.max(*last));
        queue.push_back((at_ms, notice));
    }

    /// When the next thing arrives.
    pub(super) fn next_ms(&self) -> Option<(u64, To)> {
        let node = self.to_node.front().map(|(at, _)| (*at, To::Node));
        let target = self.to_target.front().map(|(at, _)| (*at, To::Target));
        [node, target].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// What arrives next at this end, if the end has not given that session up meanwhile.
    pub(super) fn receive(&mut self, to: To) -> Option<Notice> {
        let (_, notice) = self.queue(to).pop_front()?;
        let current = match to {
            To::Node => self.at_node,
            To::Target => self.at_target,
        };
        match &notice {
            Notice::Down(session) => (current == Some(*session)).then_some(notice),
            Notice::Up(session, _) | Notice::Said(session, _) | Notice::Told(session, _)
                if self.partitioned =>
            {
                self.dead = Some(*session);
                None
            }
            Notice::Up(..) => Some(notice),
            Notice::Said(session, _) | Notice::Told(session, _) => {
                (current == Some(*session) && self.dead != Some(*session)).then_some(notice)
            }
        }
    }

    /// One end's process is gone, and what was on its way to it.
    pub(super) fn cut(&mut self, to: To) {
        self.queue(to).clear();
        match to {
            To::Node => self.at_node = None,
            To::Target => self.at_target = None,
        }
    }

    fn queue(&mut self, to: To) -> &mut VecDeque<(u64, Notice)> {
        match to {
            To::Node => &mut self.to_node,
            To::Target => &mut self.to_target,
        }
    }
}
