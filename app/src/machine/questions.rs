//! What the routing stack was asked about targets, and what it has answered. A question outlives no control socket: it is asked anew.

use std::collections::BTreeMap;

use model::control_socket::notification::Views;
use model::control_socket::{RequestId, Target, TargetView};

use super::{Why, refused};
use crate::error::Error;

/// An answer.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    /// The target that was chosen.
    pub(crate) chosen: Option<Target>,
    /// How targets are.
    pub(crate) views: Vec<TargetView>,
}

/// What became of a question.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The agent has answered.
    Answered(Result<Reply, Error>),
    /// It has ended before that.
    Lost,
}

#[derive(Debug, Default)]
struct Question {
    reply: Reply,
    outcome: Option<Result<(), Option<Why>>>,
}

/// All that were asked and whose answers were not taken.
#[derive(Debug, Default)]
pub(super) struct Questions(BTreeMap<RequestId, Question>);

impl Questions {
    pub(super) fn ask(&mut self, request: RequestId) {
        self.0.insert(request, Question::default());
    }

    pub(super) fn forget(&mut self, request: RequestId) {
        self.0.remove(&request);
    }

    pub(super) fn chosen(&mut self, request: RequestId, target: Target) {
        if let Some(question) = self.0.get_mut(&request) {
            question.reply.chosen = Some(target);
            question.outcome = Some(Ok(()));
        }
    }

    pub(super) fn views(&mut self, part: Views) {
        if let Some(question) = self.0.get_mut(&part.request) {
            question.reply.views.extend(part.views);
            question.outcome = part.last.then_some(Ok(()));
        }
    }

    /// `false`: it was no question.
    pub(super) fn failed(&mut self, request: RequestId, why: &Why) -> bool {
        let question = self.0.get_mut(&request);
        question.map(|question| question.outcome = Some(Err(Some(why.clone())))).is_some()
    }

    /// The control socket is closed.
    pub(super) fn closed(&mut self) {
        for question in self.0.values_mut().filter(|question| question.outcome.is_none()) {
            question.outcome = Some(Err(None));
        }
    }

    /// What became of a question, once that is known.
    pub(super) fn answer(&mut self, request: RequestId) -> Option<Answer> {
        self.0.get(&request)?.outcome.as_ref()?;
        let Question { reply, outcome } = self.0.remove(&request)?;
        Some(match outcome? {
            Ok(()) => Answer::Answered(Ok(reply)),
            Err(Some(why)) => Answer::Answered(Err(refused(why))),
            Err(None) => Answer::Lost,
        })
    }
}
