//! What the operator's command line says, as typed values. Tests and demo look at the cluster in no other way.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{LabError, Result};
use crate::lab::Lab;
use crate::spec::RoutingNode;

/// A stack in `baton status`.
#[derive(Clone, Debug, Deserialize)]
pub struct Stack {
    /// Its name.
    pub stack: String,
    /// `up`, `quiet`, `lost` or `dead`.
    pub session: String,
}

/// A service in `baton dpt`.
#[derive(Clone, Debug, Deserialize)]
pub struct DptRow {
    /// The DVIPA.
    pub dvipa: String,
    /// The port.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The method's name.
    pub method: String,
    /// Its targets.
    pub targets: Vec<DptTarget>,
}

/// A target of a service in `baton dpt`.
#[derive(Clone, Debug, Deserialize)]
pub struct DptTarget {
    /// The stack's name.
    pub target: String,
    /// May it be selected (`listening`), and if not, why.
    pub state: String,
    /// Its share of new connections.
    pub weight: u16,
    /// Connections that it has, of all services.
    pub connections: u64,
    /// What QUIC connection IDs call it.
    pub server_ids: Vec<ServerId>,
}

/// A server ID in `baton dpt`.
#[derive(Clone, Debug, Deserialize)]
pub struct ServerId {
    /// The rotation bits of such connection IDs, as a number.
    pub rotation: u8,
    /// Its bytes, in hexadecimal digits.
    pub id: String,
}

impl DptRow {
    /// The names of the targets that new connections may go to, sorted.
    pub fn selectable(&self) -> Vec<String> {
        let up = self.targets.iter().filter(|t| t.state == "listening");
        let mut names: Vec<String> = up.map(|t| t.target.clone()).collect();
        names.sort();
        names
    }
}

/// An entry in `baton crt`.
#[derive(Clone, Debug, Deserialize)]
pub struct CrtRow {
    /// The client's address and port.
    pub client: String,
    /// The DVIPA and port.
    pub dvipa: String,
    /// The stack that has the connection.
    pub stack: String,
    /// `half-open`, `established`, `closing`, …
    pub state: String,
}

impl Lab {
    /// The stacks that the routing stack knows.
    ///
    /// # Errors
    /// [`LabError::Failed`] if `baton` does not answer, [`LabError::Answer`].
    pub fn stacks(&self) -> Result<Vec<Stack>> {
        self.stacks_at(RoutingNode::First)
    }

    /// As [`Lab::stacks`] of this routing node.
    ///
    /// # Errors
    /// As [`Lab::stacks`].
    pub fn stacks_at(&self, node: RoutingNode) -> Result<Vec<Stack>> {
        self.read(node, &["status"], "/stacks")
    }

    /// The destination port table.
    ///
    /// # Errors
    /// [`LabError::Failed`] if `baton` does not answer, [`LabError::Answer`].
    pub fn dpt(&self) -> Result<Vec<DptRow>> {
        self.dpt_at(RoutingNode::First)
    }

    /// As [`Lab::dpt`] of this routing node.
    ///
    /// # Errors
    /// As [`Lab::dpt`].
    pub fn dpt_at(&self, node: RoutingNode) -> Result<Vec<DptRow>> {
        self.read(node, &["dpt"], "/services")
    }

    /// Entries of the connection routing table, with `baton crt`'s own filters.
    ///
    /// # Errors
    /// [`LabError::Failed`] if `baton` does not answer, [`LabError::Answer`].
    pub fn crt(&self, filters: &[&str]) -> Result<Vec<CrtRow>> {
        self.crt_at(RoutingNode::First, filters)
    }

    /// As [`Lab::crt`] of this routing node.
    ///
    /// # Errors
    /// As [`Lab::crt`].
    pub fn crt_at(&self, node: RoutingNode, filters: &[&str]) -> Result<Vec<CrtRow>> {
        let words: Vec<&str> = std::iter::once("crt").chain(filters.iter().copied()).collect();
        self.read(node, &words, "/connections")
    }

    /// All counters by name: what became of packets, of sessions and of messages.
    ///
    /// # Errors
    /// [`LabError::Failed`] if `baton` does not answer, [`LabError::Answer`].
    pub fn counters(&self) -> Result<BTreeMap<String, u64>> {
        self.counters_at(RoutingNode::First)
    }

    /// As [`Lab::counters`] of this routing node.
    ///
    /// # Errors
    /// As [`Lab::counters`].
    pub fn counters_at(&self, node: RoutingNode) -> Result<BTreeMap<String, u64>> {
        let both = [self.section(node, "/packets")?, self.section(node, "/cluster")?];
        Ok(both.into_iter().flatten().collect())
    }

    /// The counters of transfers by name: how many have begun, and how they ended.
    ///
    /// # Errors
    /// As [`Lab::counters`].
    pub fn transfers(&self) -> Result<BTreeMap<String, u64>> {
        self.section(RoutingNode::First, "/transfers")
    }

    /// A part of `baton stats`.
    fn section(&self, node: RoutingNode, pointer: &str) -> Result<BTreeMap<String, u64>> {
        #[derive(Deserialize)]
        struct Counter {
            name: String,
            value: u64,
        }
        let counters: Vec<Counter> = self.read(node, &["stats"], pointer)?;
        Ok(counters.into_iter().map(|c| (c.name, c.value)).collect())
    }

    /// The value of one counter; 0 if it has never counted.
    ///
    /// # Errors
    /// As [`Lab::counters`].
    pub fn counter(&self, name: &str) -> Result<u64> {
        Ok(self.counters()?.get(name).copied().unwrap_or(0))
    }

    fn read<T: DeserializeOwned>(&self, node: RoutingNode, words: &[&str], pointer: &str) -> Result<T> {
        let value = self.baton_json_at(node, words)?;
        let part = value.pointer(pointer).cloned().unwrap_or_default();
        let bad = |e: serde_json::Error| LabError::Answer { command: words.join(" "), what: e.to_string() };
        serde_json::from_value(part).map_err(bad)
    }
}
