//! Why a transfer did not take place, in the words that an application is told.

use model::control_socket::Refusal;
use model::transfer::{Reason, Why};

/// The refusal for a reason, and what there is to say beyond it.
pub(super) fn refusal(why: &Why) -> (Refusal, Option<String>) {
    let refusal = match why.reason {
        Reason::Ended | Reason::OutcomeLost => Refusal::Ended,
        Reason::SameStack => Refusal::SameStack,
        Reason::NotATarget | Reason::NeedsControlSocket => Refusal::UnknownTarget,
        Reason::NotIdle | Reason::Unseen => Refusal::Unacknowledged,
        Reason::Busy => Refusal::AlreadyMoving,
        Reason::GivenBack => Refusal::GivenBack,
        Reason::NotDumped | Reason::TooLarge | Reason::Encrypted | Reason::AnotherProtocol => {
            Refusal::Immovable
        }
        Reason::Rejected => Refusal::Rejected,
        Reason::TakesNoOffers => Refusal::TakesNoOffers,
        Reason::OfferTimedOut | Reason::ApplicationGone | Reason::NotPassed => Refusal::NoAnswer,
        Reason::NoRoutingStack => Refusal::NoRoutingStack,
        Reason::NoWay
        | Reason::NoSocket
        | Reason::AlreadyHere
        | Reason::Unanswered
        | Reason::NotRestored
        | Reason::TargetLost
        | Reason::SourceLost
        | Reason::TimedOut
        | Reason::OtherLedger
        | Reason::Unknown
        | Reason::Cancelled
        | Reason::TooMany
        | Reason::Malformed
        | Reason::NotOurs
        | Reason::Other => Refusal::Aborted,
    };
    let said = why.said.clone();
    let detail = match (refusal, why.reason) {
        (Refusal::Rejected, _) | (Refusal::Immovable, Reason::NotDumped) => said,
        // The refusal's own sentence says less than the reason's.
        (Refusal::Aborted, _) | (_, Reason::NeedsControlSocket | Reason::OutcomeLost) => {
            Some(why.to_string())
        }
        _ => said,
    };
    (refusal, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_reads_what_the_target_said_and_why_a_transfer_was_given_up() {
        let rejected = Why::new(Reason::Rejected, "full");
        assert_eq!(refusal(&rejected), (Refusal::Rejected, Some("full".to_owned())));
        let (why, detail) = refusal(&Why::new(Reason::NotRestored, "no memory"));
        assert_eq!(why, Refusal::Aborted);
        assert!(detail.unwrap().ends_with("(no memory)"));
    }
}
