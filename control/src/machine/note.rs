//! What an operator would do something about, for the log: each once, when it happens.

use std::collections::BTreeMap;

use model::dpt::{Distribution, Shared};
use model::message::Application;
use model::{Dvipa, Epoch, Service, StackIndex, StackName};

use super::TargetState;
use super::board::Changed;

/// A fact for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The stack is a current actual target of these services now.
    Came {
        /// Which stack.
        stack: StackName,
        /// Of what.
        services: Vec<Service>,
    },
    /// It is one no more.
    Went {
        /// Which stack.
        stack: StackName,
        /// Of what.
        services: Vec<Service>,
        /// Why not of the first of them; none: that is not distributed any more.
        why: Option<TargetState>,
    },
    /// The application of a service that listens on the stack does not answer as it should.
    Fails {
        /// Which stack.
        stack: StackName,
        /// Of what.
        service: Service,
        /// What its agent has seen of it.
        why: String,
    },
    /// It does again.
    Recovers {
        /// Which stack.
        stack: StackName,
        /// Of what.
        service: Service,
    },
    /// So many targets of a service fail or are stalled that all are selected as if none were; or not any more.
    Panics {
        /// Which service.
        service: Service,
        /// `false`: it has ended.
        begins: bool,
    },
    /// These applications are registered on the stack for a DVIPA now, and no others.
    Registered {
        /// Which stack.
        stack: StackName,
        /// For which DVIPA.
        dvipa: Dvipa,
        /// Which applications.
        applications: Vec<Application>,
    },
    /// The stack has said for the first time what it may not say, for this reason: [`super::Offence::Wrong`].
    Wrong {
        /// Which stack.
        stack: StackName,
        /// What, and why it was void.
        said: String,
    },
    /// This stack owns the DVIPA from now on.
    Gained {
        /// Which DVIPA.
        dvipa: Dvipa,
        /// The epoch of its ownership.
        epoch: Epoch,
        /// Who owned it until now; none: nobody that lives.
        from: Option<StackName>,
    },
    /// An address of a range is active at a stack.
    Active {
        /// Which address.
        dvipa: Dvipa,
        /// Where.
        stack: StackName,
        /// By an operator's order, not because an application is bound to it.
        ordered: bool,
    },
    /// An address of a range is active at a stack, and there is no number left for another DVIPA.
    NoNumber {
        /// Which address.
        dvipa: Dvipa,
    },
    /// It does not own the DVIPA any more.
    Lost {
        /// Which DVIPA.
        dvipa: Dvipa,
        /// Who owns it now; none: nobody that is known.
        to: Option<StackName>,
    },
    /// The session with another routing stack is over: what it owned is taken over.
    PeerDead {
        /// Which.
        stack: StackName,
    },
    /// Several stacks define the DVIPA, or back it up with the same rank.
    Contradiction {
        /// Which DVIPA.
        dvipa: Dvipa,
        /// With which rank; 255: all define it.
        rank: u8,
        /// Who.
        stacks: Vec<StackName>,
    },
    /// This stack owns the DVIPA, and no routing stack has said what it distributes.
    Unheard {
        /// Which DVIPA.
        dvipa: Dvipa,
    },
    /// The other routing stack asks other witnesses than this one, or for another time: both may own one DVIPA.
    OtherWitnesses {
        /// Which.
        stack: StackName,
        /// Its witnesses, none: it decides alone; and for how many milliseconds they lease.
        theirs: (Vec<StackName>, u32),
    },
    /// The stack and this node disagree about the longest packet on the ways between them.
    OtherMtu {
        /// Which stack.
        stack: StackName,
        /// What it has, in bytes.
        theirs: u16,
        /// What this node has, in bytes.
        ours: u16,
    },
}

/// Services by stack.
pub(super) type ByStack = BTreeMap<StackIndex, Vec<Service>>;

/// Which targets came, and which went, with these changes of services.
pub(super) fn changes<'a>(rows: impl Iterator<Item = &'a Changed>) -> (ByStack, ByStack) {
    let (mut came, mut went) = (ByStack::new(), ByStack::new());
    for Changed { service, before, after } in rows {
        let (before, after) = (targets(before.as_ref()), targets(after.as_ref()));
        missing(&after, &before).for_each(|stack| came.entry(*stack).or_default().push(*service));
        missing(&before, &after).for_each(|stack| went.entry(*stack).or_default().push(*service));
    }
    came.values_mut().chain(went.values_mut()).for_each(|services| services.sort_unstable());
    (came, went)
}

/// All targets of a row, sorted.
fn targets(row: Option<&Shared<Distribution>>) -> Vec<StackIndex> {
    let Some(row) = row else { return Vec::new() };
    let of_policies = row.policies.iter().flat_map(|policy| &policy.targets);
    let of_routes = row.routing.iter().flat_map(|routing| &routing.targets).flatten();
    let mut targets: Vec<StackIndex> =
        row.targets.iter().chain(of_policies).chain(of_routes).map(|target| target.stack).collect();
    targets.sort_unstable();
    targets.dedup();
    targets
}

/// Those of one sorted list that are not in another one.
fn missing<'a>(
    of: &'a [StackIndex],
    other: &'a [StackIndex],
) -> impl Iterator<Item = &'a StackIndex> + use<'a> {
    let mut other = other.iter().peekable();
    of.iter().filter(move |stack| {
        while other.next_if(|before| before < stack).is_some() {}
        other.peek() != Some(stack)
    })
}
