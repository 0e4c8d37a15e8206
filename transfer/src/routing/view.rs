//! What displays show of transfers under way.

use model::transfer::{Abilities, TransferId, Way};
use model::{Connection, StackName};

use super::Routing;
use super::entry::{Entry, Phase};

/// A transfer under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnderWay<'a> {
    /// Which connection.
    pub connection: Connection,
    /// The transfer.
    pub transfer: TransferId,
    /// From whom.
    pub source: &'a StackName,
    /// To whom.
    pub target: &'a StackName,
    /// Which way in.
    pub way: Way,
    /// How far it is.
    pub step: Step,
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The target's application is asked; the connection goes on at the source.
    Consulting,
    /// The source freezes and sends the connection.
    Dumping,
    /// A target without control socket prepares.
    Offered,
    /// The target may activate.
    Committed,
    /// The target is asked whether it has.
    InDoubt,
    /// It has; the source discards.
    Moved,
    /// It has not; the source thaws.
    Returning,
    /// Nobody has the connection; the source discards.
    Lost,
}

impl Step {
    /// The word in displays.
    pub fn word(self) -> &'static str {
        match self {
            Step::Consulting => "consulting",
            Step::Dumping => "dumping",
            Step::Offered => "offered",
            Step::Committed => "committed",
            Step::InDoubt => "in-doubt",
            Step::Moved => "moved",
            Step::Returning => "returning",
            Step::Lost => "lost",
        }
    }
}

impl Routing {
    /// The transfer of this connection, if one is under way.
    pub fn under_way(&self, connection: &Connection) -> Option<UnderWay<'_>> {
        let transfer = self.by_connection.get(connection)?;
        self.entries.get(transfer).map(view)
    }

    /// All that are under way.
    pub fn all_under_way(&self) -> impl Iterator<Item = UnderWay<'_>> {
        self.entries.values().map(view)
    }

    /// Source and target of a transfer, if it is under way.
    pub fn parties(&self, transfer: TransferId) -> Option<(&StackName, &StackName)> {
        self.entries.get(&transfer).map(|entry| (&entry.source, &entry.target))
    }

    /// This machine gave the transfer, or has seen its end; otherwise another routing stack, or a former run, gave it.
    pub fn knows(&self, transfer: TransferId) -> bool {
        self.entries.contains_key(&transfer) || self.remembers(transfer) || self.closed.has(transfer)
    }

    /// The connections for which [`Routing::speaks_for`] holds.
    pub fn connections(&self) -> impl Iterator<Item = Connection> {
        self.entries.values().filter(|entry| entry.holds()).map(|entry| entry.about.connection.0)
    }

    /// A transfer from or to this stack is under way.
    pub fn involves(&self, stack: &StackName) -> bool {
        self.entries.values().any(|entry| entry.source == *stack || entry.target == *stack)
    }

    /// How many transfers this machine has begun.
    pub fn begun(&self) -> u64 {
        self.given
    }

    /// What a stack can do, if it said so in this session.
    pub fn abilities(&self, stack: &StackName) -> Option<Abilities> {
        self.abilities.get(stack).copied()
    }
}

fn view(entry: &Entry) -> UnderWay<'_> {
    let step = match entry.phase {
        Phase::Consulting(_) => Step::Consulting,
        Phase::Awaiting(_) => Step::Dumping,
        Phase::Offering(_) => Step::Offered,
        Phase::Committing(..) => Step::Committed,
        Phase::Asking(_) => Step::InDoubt,
        Phase::Releasing => Step::Moved,
        Phase::Returning(_) => Step::Returning,
        Phase::Losing => Step::Lost,
    };
    let Entry { about, source, target, way, .. } = entry;
    UnderWay { connection: about.connection.0, transfer: about.transfer, source, target, way: *way, step }
}
