//! What a routing node asks etcd, and what comes back.
//!
//! Two keys stand for a DVIPA. `owner` is attached to the lease of the ownership, and gone when that lapses or is revoked; its value is
//! the epoch and the node's name. `epoch` stays for good: the highest epoch in which the DVIPA was owned. A claim is one transaction over both.

use model::ownership::Ask;
use model::{Dvipa, Epoch};

/// A lease, by the number that etcd has given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// The raft term that a member of etcd was in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// When a key was changed last; 0: there is no such key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub i64);

/// What etcd is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Question {
    /// A lease for this time.
    Grant {
        /// In seconds, as etcd counts.
        ttl_s: u32,
    },
    /// If the DVIPA has no `owner` and its `epoch` has not changed after this revision: both are this epoch, `owner` under this lease.
    Claim {
        /// Which.
        dvipa: Dvipa,
        /// In which epoch.
        epoch: Epoch,
        /// By which lease.
        lease: LeaseId,
        /// When `epoch` was changed last, as far as this node knows.
        after: Revision,
    },
    /// These leases begin anew.
    Renew {
        /// Which.
        leases: Vec<LeaseId>,
    },
    /// In which term are you? Answered by a read that a majority of the members has confirmed.
    Confirm,
    /// The lease ends now, and with it its `owner`.
    Revoke {
        /// Which.
        lease: LeaseId,
    },
}

/// What etcd answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    /// To [`Question::Grant`].
    Granted {
        /// The lease.
        lease: LeaseId,
        /// For how long, in seconds.
        ttl_s: u32,
    },
    /// To [`Question::Claim`]: both keys are written.
    Claimed {
        /// In this revision.
        revision: Revision,
    },
    /// To [`Question::Claim`]: nothing is written, because of these.
    Taken {
        /// The DVIPA's `owner`, if there is one.
        owner: Option<Owner>,
        /// The highest epoch.
        epoch: Epoch,
        /// When that was written.
        revision: Revision,
    },
    /// To [`Question::Renew`]. A lease that is in neither list may have begun anew, or not.
    Renewed {
        /// The lowest term of the members that have answered, from before they renewed.
        term: Term,
        /// These have begun anew.
        leases: Vec<LeaseId>,
        /// These are over.
        gone: Vec<LeaseId>,
    },
    /// To [`Question::Confirm`].
    Confirmed {
        /// The member's, from after the majority has confirmed the read.
        term: Term,
    },
    /// To [`Question::Revoke`].
    Revoked,
    /// To [`Question::Claim`]: its lease is over.
    Unleased,
    /// No answer came in time, or none that is understood. What was asked may be done, or be done later.
    Failed,
}

/// What stands in a DVIPA's `owner`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Its lease.
    pub lease: LeaseId,
    /// The epoch of the ownership.
    pub epoch: Epoch,
}

/// What comes from etcd.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum News {
    /// What was asked is answered.
    Answer {
        /// The number of the question.
        ask: Ask,
        /// The answer.
        answer: Answer,
    },
    /// A DVIPA's `owner` is gone. May be late, or not come: nothing depends on it but how soon the DVIPA is claimed.
    Freed {
        /// Which.
        dvipa: Dvipa,
        /// The epoch that stood there.
        epoch: Epoch,
    },
    /// Whether etcd answers this node, when that has changed. Nothing depends on it but whether the node gives way to others.
    Answers(bool),
}
