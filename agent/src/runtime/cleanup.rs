//! How everything that an agent left on the host is removed.

use std::collections::BTreeSet;

use tokio::net::UnixStream;

use super::StartError;
use super::start::{kernel, netlink, pin};
use crate::config::Config;
use crate::system::{addresses, interfaces, programs, rules};

/// What was found and removed, and what could not be reached: sentences for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// What is gone.
    pub removed: Vec<String>,
    /// What may still be there, and how it is reached.
    pub out_of_reach: Vec<String>,
}

/// Removes programs, pins and DVIPAs of this configuration from the host. Connections to the DVIPAs end.
///
/// # Errors
/// [`StartError`] with what could not be removed; what was before it is. Nothing is removed while the agent runs.
pub async fn clean_up(config: &Config) -> Result<Removed, StartError> {
    if UnixStream::connect(&config.admin_socket).await.is_ok() {
        return Err(StartError::Running(config.admin_socket.clone()));
    }
    let netlink = netlink()?;
    let mut report = Removed::default();
    let mut interfaces = Vec::new();
    for name in &config.node.interfaces {
        match interfaces::find(&netlink, name).await {
            Ok(interface) => interfaces.push(interface),
            Err(cause) => report.out_of_reach.push(format!("nothing was removed from an interface: {cause}")),
        }
    }
    let pin = pin(config);
    let containers =
        interfaces::to_containers(&netlink, &interfaces).await.map_err(kernel("its interfaces"))?;
    let rules = rules::set(&netlink, 0, &BTreeSet::new()).await.map_err(kernel("its routing rules"))?;
    report.removed.extend(
        rules.removed.iter().map(|dvipa| format!("the routing rule of containers' packets to {dvipa}")),
    );
    let left = programs::remove(&pin, &interfaces, &containers)?;
    report.removed.extend(left.attached);
    if left.pins > 0 {
        report.removed.push(format!("{} pinned maps and links in {}", left.pins, pin.display()));
    } else {
        let loaded = programs::loaded();
        if loaded > 0 {
            report.out_of_reach.push(format!(
                "there are no pins in {}, but this kernel has {loaded} programs of agents (`bpftool prog | grep baton_`): they \
                 are another agent's, or the BPF file system with the pins is in another mount namespace. In that case run \
                 --cleanup there (nsenter --mount --target PID). DVIPAs that are left on lo: `ip address del DVIPA dev lo`",
                pin.display(),
            ));
        }
    }
    for dvipa in left.dvipas {
        addresses::remove(&netlink, dvipa).await.map_err(kernel("the removal of an address"))?;
        report.removed.push(format!("{dvipa} from lo"));
    }
    Ok(report)
}
