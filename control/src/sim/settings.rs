//! The definitions that the simulated nodes have, and reload.

/// How many routing nodes there are: `rt1` owns `198.18.9.1`, `rt2` owns `2001:db8:9::1`.
pub(super) const NODES: usize = 2;
/// How many targets there are: `t1` to `t4`, at `198.18.0.21` to `198.18.0.24`.
pub(super) const TARGETS: usize = 4;
/// The DVIPA of each node.
pub(super) const DVIPAS: [&str; NODES] = ["198.18.9.1", "2001:db8:9::1"];
/// The ports on which applications listen.
pub(super) const PORTS: [u16; 4] = [80, 443, 8080, 50_000];

/// Which definitions are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settings {
    /// Two ports for two targets by name and one by address.
    Listed,
    /// One port for all.
    All,
    /// One port for three targets, every other port for two.
    NotEnumerated,
    /// The DVIPA without any distribution.
    Nothing,
    /// Not even the DVIPA.
    Gone,
}

impl Settings {
    pub(super) const EVERY: [Settings; 5] =
        [Settings::Listed, Settings::All, Settings::NotEnumerated, Settings::Nothing, Settings::Gone];

    /// Is the DVIPA defined?
    pub(super) fn owned(self) -> bool {
        self != Settings::Gone
    }

    /// The file's definitions.
    pub(super) fn text(self, node: usize) -> String {
        let dvipa = DVIPAS[node];
        let mask = if node == 0 { 24 } else { 64 };
        let distribute = format!("[[vipadynamic.vipadistribute]]\naddress = \"{dvipa}\"\n");
        let rest = match self {
            Settings::Listed => {
                format!("{distribute}ports = [80, 443]\ndestip = [\"t1\", \"t2\", \"198.18.0.23\"]\n")
            }
            Settings::All => format!(
                "{distribute}ports = [80]\ndestip = \"all\"\nmethod = \"maglev\"\nweights = \"load\"\n"
            ),
            Settings::NotEnumerated => format!(
                "{distribute}ports = [443]\ndestip = [\"t1\", \"t2\", \"t4\"]\n{distribute}destip = [\"t2\", \"198.18.0.23\"]\n"
            ),
            Settings::Nothing => String::new(),
            Settings::Gone => return String::new(),
        };
        format!("[[vipadynamic]]\n[[vipadynamic.vipadefine]]\naddress = \"{dvipa}\"\nmask = {mask}\n{rest}")
    }

    /// The truth of row U1, written down apart from the code under test: does a listener of this target on this port
    /// make it a current actual target?
    pub(super) fn distributes(self, target: usize, port: u16, bound_to_dvipa: bool) -> bool {
        match self {
            Settings::Listed => [80, 443].contains(&port) && target <= 2,
            Settings::All => port == 80,
            Settings::NotEnumerated if port == 443 => target != 2,
            Settings::NotEnumerated => bound_to_dvipa && [1, 2].contains(&target),
            Settings::Nothing | Settings::Gone => false,
        }
    }
}
