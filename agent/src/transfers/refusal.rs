//! Why a transfer did not take place, in the words that an application is told.

use model::control_socket::Refusal;
use model::transfer::{Reason, Why};

/// The refusal for a reason, and what there is to say beyond it.
pub(super) fn refusal(why: &Why) -> (Refusal, Option<String>) {
    let refusal = match why.reason {
        Reason::Ended | Reason::OutcomeLost => Refusal::Ended,
        Reason::SameStack => Refusal::SameStack,
        Reason::NotATarget => Refusal::UnknownTarget,
        Reason::NotIdle | Reason::Unseen => Refusal::Unacknowledged,
        Reason::Busy => Refusal::AlreadyMoving,
        Reason::GivenBack => Refusal::GivenBack,
        Reason::NotDumped | Reason::Encrypted | Reason::AnotherProtocol => Refusal::Immovable,
        Reason::NotDumpedNow | Reason::TooLarge => Refusal::NotNow,
        Reason::Rejected => Refusal::Rejected,
        Reason::TakesNoOffers => Refusal::TakesNoOffers,
        Reason::OfferTimedOut | Reason::NotPassed => Refusal::NoAnswer,
        Reason::ApplicationGone => Refusal::Gone,
        Reason::NoRoutingStack => Refusal::NoRoutingStack,
        Reason::NeedsControlSocket
        | Reason::TargetDrains
        | Reason::NoWay
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
        | Reason::Other => Refusal::Transfer(why.reason),
    };
    // That the connection ended says less than that its target's host has died with it.
    let detail = if why.reason == Reason::OutcomeLost { Some(why.to_string()) } else { why.said.clone() };
    (refusal, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_reads_what_the_target_said_and_why_a_transfer_was_given_up() {
        let rejected = Why::new(Reason::Rejected, "full");
        assert_eq!(refusal(&rejected), (Refusal::Rejected, Some("full".to_owned())));
        let not_restored = Why::new(Reason::NotRestored, "no memory");
        let expected = (Refusal::Transfer(Reason::NotRestored), Some("no memory".to_owned()));
        assert_eq!(refusal(&not_restored), expected);
        // What its refusal does not say.
        let lost = Why::from(Reason::OutcomeLost);
        assert_eq!(refusal(&lost), (Refusal::Ended, Some(lost.to_string())));
        assert_eq!(refusal(&Reason::Ended.into()), (Refusal::Ended, None));
    }
}
