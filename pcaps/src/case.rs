//! `case.toml`: a sentence, tables, and what happens step by step.

use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ipnet::IpNet;
use model::dpt::{Encapsulation, Method, Refuse};
use model::{Connection, Protocol, StackName};
use serde::{Deserialize, Deserializer};

/// Why a case can't be read. Names the file, and the key where there is one.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// The file is not there, or is no text.
    #[error("{file}: {cause}")]
    Read {
        /// Which file.
        file: String,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The file is not what this crate understands.
    #[error("{file}: {cause}")]
    Format {
        /// Which file.
        file: String,
        /// What the parser says; shows the line and the key.
        cause: Box<toml::de::Error>,
    },
    /// A key's value makes no sense with the rest of the file.
    #[error("{file}: {key}: {what}")]
    Value {
        /// Which file.
        file: String,
        /// Which key.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// A pcap file is damaged.
    #[error("{file}: {cause}")]
    Pcap {
        /// Which file.
        file: String,
        /// What the reader says.
        cause: pcap_file::PcapError,
    },
}

/// A case as its file has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The directory's name.
    #[serde(skip)]
    pub name: String,
    /// The directory.
    #[serde(skip)]
    pub directory: PathBuf,
    /// What holds if the case passes.
    pub sentence: String,
    /// Where that is written: an RFC's section, a requirement's row.
    pub source: String,
    /// The routing node.
    pub node: Node,
    /// Its DVIPAs; the first has index 0.
    #[serde(default)]
    pub dvipa: Vec<Dvipa>,
    /// The stacks; the first has index 0.
    #[serde(default)]
    pub stack: Vec<Stack>,
    /// What is distributed.
    #[serde(default)]
    pub distribution: Vec<Distribution>,
    /// Connections that are in the CRT before the first step.
    #[serde(default)]
    pub connection: Vec<Known>,
    /// What happens, in this order.
    pub step: Vec<Step>,
}

/// The routing node.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Outer source addresses, at most one a family.
    pub cluster_address: Vec<IpAddr>,
    /// The NIC's link-layer address.
    pub mac: MacText,
    /// The longest IP packet on the way to the targets, in bytes.
    pub fabric_mtu: u16,
    /// The NIC's VLAN.
    pub vlan: Option<u16>,
}

/// A DVIPA.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dvipa {
    /// Its address.
    pub address: IpAddr,
    /// Stacks that may have a connection to it without an entry, by name.
    #[serde(default)]
    pub candidates: Vec<StackName>,
    /// Each of them would answer.
    #[serde(default)]
    pub certain: bool,
    /// What clients are told at ports that are not distributed.
    #[serde(default)]
    pub refuse: Refuse,
}

/// A stack.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stack {
    /// Its name.
    pub name: StackName,
    /// It is the routing node's own kernel.
    #[serde(default)]
    pub local: bool,
    /// Where it takes encapsulated packets.
    #[serde(default)]
    pub cluster_address: Vec<IpAddr>,
    /// How it is reached.
    #[serde(default)]
    pub encapsulation: Encapsulation,
    /// The link-layer address of the next hop on the way to it; absent: not known.
    pub mac: Option<MacText>,
    /// How many tokens for hand-overs it has given out ahead: its index in the upper half of each, and 1, 2, 3 … in the lower.
    #[serde(default)]
    pub tokens: u32,
}

/// A distributed service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    /// Its DVIPA's address.
    pub dvipa: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// How targets are selected.
    pub method: Method,
    /// Its targets.
    pub targets: Vec<Target>,
    /// What clients are told while it has none.
    #[serde(default)]
    pub refuse: Refuse,
    /// Its service policies.
    #[serde(default)]
    pub policy: Vec<Policy>,
    /// Its routes of HTTP requests.
    #[serde(default)]
    pub route: Vec<Route>,
}

/// A target of a service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Which stack.
    pub stack: StackName,
    /// Its weight.
    pub weight: u16,
}

/// A service policy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Which clients.
    pub client: IpNet,
    /// Their targets.
    pub targets: Vec<Target>,
}

/// A route.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// The prefix of the path.
    pub path: String,
    /// Where its requests go.
    pub targets: Vec<Target>,
}

/// A connection in the CRT.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Which.
    pub connection: ConnectionText,
    /// Whose it is.
    pub owner: StackName,
    /// In the CRT's words: `half-open`, `established`, `closing`, `frozen`, `handing-over`.
    pub state: String,
}

/// Something that happens, and what comes of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The worker's clock, in milliseconds.
    pub at_ms: u64,
    /// The next frame of `in.pcap` arrives on this port.
    #[serde(default)]
    packet: Option<Port>,
    /// TERMCONN for this connection from `owner`.
    #[serde(default)]
    terminate: Option<ConnectionText>,
    /// NEWCONN for this connection from `owner`.
    #[serde(default)]
    confirm: Option<ConnectionText>,
    /// The stack that `terminate` or `confirm` comes from.
    #[serde(default)]
    owner: Option<StackName>,
    /// Time passes.
    #[serde(default)]
    tick: bool,
    /// The ports by which the next frames of `out.pcap` leave.
    #[serde(default)]
    pub out: Vec<Port>,
    /// What the packets that ended in this step are counted as, sorted by name.
    #[serde(default)]
    pub counts: Vec<String>,
}

/// What happens in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<'c> {
    /// The next frame of `in.pcap` arrives.
    Packet(Port),
    /// A stack reports the end of a connection.
    Terminate(Connection, &'c StackName),
    /// A stack reports a connection.
    Confirm(Connection, &'c StackName),
    /// Time passes.
    Tick,
}

impl Step {
    /// What happens.
    ///
    /// # Errors
    /// A sentence, if the step's keys do not say one thing.
    pub fn what(&self) -> Result<What<'_>, String> {
        match (self.packet, &self.terminate, &self.confirm, &self.owner, self.tick) {
            (Some(port), None, None, None, false) => Ok(What::Packet(port)),
            (None, Some(c), None, Some(owner), false) => Ok(What::Terminate(c.0, owner)),
            (None, None, Some(c), Some(owner), false) => Ok(What::Confirm(c.0, owner)),
            (None, None, None, None, true) => Ok(What::Tick),
            _ => Err("say one of `packet`, `terminate` with `owner`, `confirm` with `owner`, `tick`".into()),
        }
    }
}

/// A port of the routing node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Port {
    /// Clients and targets are behind it.
    Nic,
    /// The node's own kernel is behind it.
    Local,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Port::Nic => "nic",
            Port::Local => "local",
        })
    }
}

/// A link-layer address, written `02:00:00:00:00:10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacText(pub [u8; 6]);

impl FromStr for MacText {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let octets: Option<Vec<u8>> = text.split(':').map(|o| u8::from_str_radix(o, 16).ok()).collect();
        let octets = octets.and_then(|o| <[u8; 6]>::try_from(o).ok());
        octets
            .map(MacText)
            .ok_or_else(|| format!("`{text}` is not a link-layer address such as 02:00:00:00:00:10"))
    }
}

/// A connection, written as [`Connection`] shows it: `tcp 198.18.0.2:40000 -> 198.18.9.1:80`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionText(pub Connection);

impl FromStr for ConnectionText {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (protocol, ends) = text.split_once(' ')?;
            let (client, dvipa) = ends.split_once(" -> ")?;
            let protocol = match protocol {
                "tcp" => Protocol::Tcp,
                "udp" => Protocol::Udp,
                _ => return None,
            };
            Connection::new(protocol, SocketAddr::from_str(client).ok()?, SocketAddr::from_str(dvipa).ok()?)
        };
        parse().map(ConnectionText).ok_or_else(|| {
            format!("`{text}` is not a connection such as `tcp 198.18.0.2:40000 -> 198.18.9.1:80`")
        })
    }
}

macro_rules! deserialize_as_text {
    ($($type:ty)+) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
deserialize_as_text! { MacText ConnectionText }

impl Case {
    /// Reads the case in a directory.
    ///
    /// # Errors
    /// [`CaseError`] if its `case.toml` is missing, has unknown or missing keys, or contradicts itself.
    pub fn read(directory: &Path) -> Result<Self, CaseError> {
        let path = directory.join("case.toml");
        let file = path.display().to_string();
        let text =
            fs::read_to_string(&path).map_err(|cause| CaseError::Read { file: file.clone(), cause })?;
        let mut case: Case = toml::from_str(&text)
            .map_err(|cause| CaseError::Format { file: file.clone(), cause: Box::new(cause) })?;
        case.directory = directory.to_owned();
        case.name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for (i, step) in case.step.iter().enumerate() {
            step.what().map_err(|what| case.wrong(format!("step[{i}]"), what))?;
        }
        Ok(case)
    }

    /// Reads all cases, sorted by name.
    ///
    /// # Errors
    /// As [`Case::read`]; also if the directory can't be listed.
    pub fn read_all() -> Result<Vec<Self>, CaseError> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let read = |cause| CaseError::Read { file: root.display().to_string(), cause };
        let entries = fs::read_dir(root).and_then(|e| e.collect::<Result<Vec<_>, _>>()).map_err(read)?;
        let mut directories: Vec<PathBuf> = entries.into_iter().map(|e| e.path()).collect();
        directories.retain(|d| d.join("case.toml").exists());
        directories.sort();
        directories.iter().map(|d| Case::read(d)).collect()
    }

    /// An error about one key of this case.
    pub fn wrong(&self, key: impl Into<String>, what: impl Into<String>) -> CaseError {
        let file = self.directory.join("case.toml").display().to_string();
        CaseError::Value { file, key: key.into(), what: what.into() }
    }
}

#[cfg(test)]
mod tests;
