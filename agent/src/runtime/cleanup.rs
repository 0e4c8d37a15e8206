//! How everything that an agent left on the host is removed.

use super::StartError;
use super::start::{kernel, netlink, pin};
use crate::config::Config;
use crate::system::{addresses, interfaces, programs};

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
/// [`StartError`] with what could not be removed; what was before it is.
pub async fn clean_up(config: &Config) -> Result<Removed, StartError> {
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
    let left = programs::remove(&pin, &interfaces)?;
    report.removed.extend(left.attached);
    if left.pins > 0 {
        report.removed.push(format!("{} pinned maps and links in {}", left.pins, pin.display()));
    } else {
        let loaded = programs::loaded();
        if !loaded.is_empty() {
            report.out_of_reach.push(format!(
                "there are no pins in {}, but this kernel runs {}: another agent's, or the BPF file system that has the pins \
                 is in another mount namespace. Run --cleanup there (nsenter --mount --target PID), or remove the DVIPAs \
                 from lo and the programs by hand",
                pin.display(),
                loaded.join(", ")
            ));
        }
    }
    for dvipa in left.dvipas {
        addresses::remove(&netlink, dvipa).await.map_err(kernel("the removal of an address"))?;
        report.removed.push(format!("{dvipa} from lo"));
    }
    Ok(report)
}
