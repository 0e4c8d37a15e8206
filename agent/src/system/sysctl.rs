//! Settings of the kernel that a host with DVIPAs on `lo` needs.

use std::fs;
use std::io;

/// Lets packets to a DVIPA in, and keeps the host from answering ARP for it: the routing stack does (RFC 826 says who
/// answers; Linux answers for every address of the host on every interface unless told otherwise).
///
/// Values are raised, never lowered: `arp_ignore` to 1, `arp_announce` to 2 for all interfaces, and a strict `rp_filter`
/// (1) of these interfaces to the loose one (2), because the kernel takes the larger of `all` and the interface's.
/// ND needs nothing: IPv6 does not answer for addresses of `lo`.
///
/// # Errors
/// What the system says, with the setting's path.
pub fn prepare_interfaces(interfaces: &[String]) -> Result<(), SettingError> {
    raise("all/arp_ignore", 1)?;
    raise("all/arp_announce", 2)?;
    for interface in interfaces {
        let own = format!("{interface}/rp_filter");
        if read("all/rp_filter")?.max(read(&own)?) == 1 {
            raise(&own, 2)?;
        }
    }
    Ok(())
}

/// A setting that can't be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot set {path}: {cause}")]
pub struct SettingError {
    path: String,
    cause: io::Error,
}

fn path(name: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{name}")
}

fn read(name: &str) -> Result<u8, SettingError> {
    let path = path(name);
    let text = fs::read_to_string(&path).map_err(|cause| SettingError { path: path.clone(), cause })?;
    text.trim()
        .parse()
        .map_err(|e| SettingError { path, cause: io::Error::new(io::ErrorKind::InvalidData, e) })
}

fn raise(name: &str, at_least: u8) -> Result<(), SettingError> {
    if read(name)? >= at_least {
        return Ok(());
    }
    let path = path(name);
    fs::write(&path, at_least.to_string()).map_err(|cause| SettingError { path, cause })
}
