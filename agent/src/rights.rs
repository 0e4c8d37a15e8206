//! What a routing stack may say to this agent: decided here and nowhere else. Pure.
//!
//! | who may say it | what |
//! | --- | --- |
//! | each routing stack of agent.toml | Heard, Asked; a VIPA list, of the DVIPAs that agent.toml leaves to it; Ranges of these, and Activate for addresses in them |
//! | the stack that was asked | a Chosen or Views that says why it does not follow the question |
//! | as a witness hears it | Claims of DVIPAs that agent.toml leaves to it, in epochs that are not too far above the known ones |
//! | the DVIPA's owner, in the present epoch | Targets, Views, Chosen, Move, PortsGranted, TokensWanted, all of transfers |
//!
//! The owner is the stack that lists the DVIPA as its own in the newest epoch ([`crate::machine::Machine::owners`]).

use std::collections::BTreeMap;

use ipnet::IpNet;
use model::message::{self, ToStack, VipaList};
use model::ranges::Ranges;
use model::{Dvipa, Epoch, StackName};
use serde::Serialize;

/// What a routing stack said that is not its to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// Another stack owns the DVIPA, or none.
    NotTheOwner,
    /// It owns the DVIPA, and speaks of another epoch than the present one.
    OtherEpoch,
    /// agent.toml leaves the DVIPA to other routing stacks.
    NotItsDvipa,
    /// It claims a DVIPA in an epoch that is too far above all that were granted.
    EpochTooHigh,
    /// Targets say that.
    TargetsOnly,
}

impl Wrong {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 5] =
        [Self::NotTheOwner, Self::OtherEpoch, Self::NotItsDvipa, Self::EpochTooHigh, Self::TargetsOnly];

    /// The word in status and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotTheOwner => "not_the_owner",
            Self::OtherEpoch => "other_epoch",
            Self::NotItsDvipa => "not_its_dvipa",
            Self::EpochTooHigh => "epoch_too_high",
            Self::TargetsOnly => "targets_only",
        }
    }

    /// What it means.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::NotTheOwner => "The stack does not own the DVIPA that its message is about; ignored.",
            Self::OtherEpoch => {
                "The message is of another epoch of the DVIPA's ownership than the present one; ignored."
            }
            Self::NotItsDvipa => {
                "The stack lists or claims a DVIPA that `dvipas` of its [[routing_stack]] in agent.toml does not have; left out."
            }
            Self::EpochTooHigh => {
                "The stack claims a DVIPA in an epoch so far above all that were granted that hardly any would be left; not granted."
            }
            Self::TargetsOnly => "Only targets say that, to routing stacks; ignored.",
        }
    }
}

/// Whether `from` may say this, where `owner` says who owns a DVIPA and in which epoch.
///
/// # Errors
/// [`Wrong`]: the message is void.
pub fn judge<'a>(
    from: &StackName,
    message: &ToStack,
    owner: impl Fn(Dvipa) -> Option<&'a (StackName, Epoch)>,
) -> Result<(), Wrong> {
    let (dvipa, epoch) = match message {
        ToStack::Heard(_)
        | ToStack::Asked(_)
        | ToStack::VipaList(_)
        | ToStack::Ranges(_)
        | ToStack::Activate(_)
        | ToStack::Ownership(_) => {
            return Ok(());
        }
        // Whom the question was put to is known where it is kept.
        ToStack::Chosen(message::Chosen { why: Some(_), .. })
        | ToStack::Views(message::Views { why: Some(_), .. }) => return Ok(()),
        ToStack::Targets(m) => (Dvipa::new(m.dvipa.0), m.epoch),
        ToStack::Say(m) => (Dvipa::new(m.dvipa.0), m.epoch),
        ToStack::Chosen(m) => (m.connection.0.service().dvipa, m.epoch),
        ToStack::Views(m) => (Dvipa::new(m.dvipa.0), m.epoch),
        ToStack::PortsGranted(m) => (Dvipa::new(m.dvipa.0), m.epoch),
        ToStack::TokensWanted(m) => (Dvipa::new(m.dvipa.0), m.epoch),
        ToStack::Move(m) => (m.connection.0.service().dvipa, m.epoch),
        ToStack::Transfer(m) => {
            let (connection, epoch) = m.subject();
            (connection.service().dvipa, epoch)
        }
    };
    match owner(dvipa) {
        Some((owner, present)) if owner == from && *present == epoch => Ok(()),
        Some((owner, _)) if owner == from => Err(Wrong::OtherEpoch),
        Some(_) | None => Err(Wrong::NotTheOwner),
    }
}

/// Whether a DVIPA is in these networks, or may be any.
pub fn leaves(networks: Option<&[IpNet]>, dvipa: Dvipa) -> bool {
    networks.is_none_or(|networks| networks.iter().any(|network| network.contains(&dvipa.address())))
}

/// Leaves in a list what its sender may list: addresses of these networks, or all.
///
/// # Errors
/// [`Wrong::NotItsDvipa`]: something was left out.
pub fn cut(list: &mut VipaList, networks: Option<&[IpNet]>) -> Result<(), Wrong> {
    let all = list.dvipas.len();
    list.dvipas.retain(|entry| leaves(networks, Dvipa::new(entry.address.0)));
    if list.dvipas.len() < all { Err(Wrong::NotItsDvipa) } else { Ok(()) }
}

/// As [`cut`], of ranges.
///
/// # Errors
/// [`Wrong::NotItsDvipa`]: something was left out.
pub fn cut_ranges(ranges: &mut Ranges, networks: Option<&[IpNet]>) -> Result<(), Wrong> {
    let Some(networks) = networks else { return Ok(()) };
    let all = ranges.ranges.len();
    ranges.ranges.retain(|range| {
        let range = IpNet::new(range.network.0, range.prefix_bits);
        range.is_ok_and(|range| networks.iter().any(|network| network.contains(&range)))
    });
    if ranges.ranges.len() < all { Err(Wrong::NotItsDvipa) } else { Ok(()) }
}

/// How often which routing stack said what it may not say.
#[derive(Clone, Debug, Default)]
pub struct Refused(BTreeMap<(StackName, Wrong), u64>);

impl Refused {
    /// One more. Logged at the first time only.
    pub fn add(&mut self, from: &StackName, message: &'static str, wrong: Wrong) {
        let count = self.0.entry((from.clone(), wrong)).or_default();
        *count = count.saturating_add(1);
        if *count == 1 {
            let (why, reason) = (wrong.sentence(), wrong.word());
            tracing::warn!(routing_stack = %from, message, reason, "{why} Others like it are counted only.");
        }
    }

    /// All that were counted, by stack.
    pub fn iter(&self) -> impl Iterator<Item = (&StackName, Wrong, u64)> {
        self.0.iter().map(|((stack, wrong), count)| (stack, *wrong, *count))
    }
}

#[cfg(test)]
mod tests;
