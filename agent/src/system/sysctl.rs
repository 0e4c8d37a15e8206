//! Settings of the kernel that a host with DVIPAs on `lo` needs.

use std::fs;
use std::io;

/// Lets packets to a DVIPA in, and keeps the host from answering ARP for it: the routing stack does (RFC 826 says who
/// answers; Linux answers for every address of the host on every interface unless told otherwise). Returns what was
/// otherwise, as sentences; nothing if all is as it should be.
///
/// Values are raised, never lowered: `arp_ignore` to 1, `arp_announce` to 2 for all interfaces, and a strict `rp_filter`
/// (1) of these interfaces to the loose one (2), because the kernel takes the larger of `all` and the interface's. An
/// answer that another stack gives to a program of this host has a DVIPA as its source, which is an address of this host:
/// `accept_local` of these interfaces lets it in. ND needs nothing: IPv6 does not answer for addresses of `lo`.
///
/// An IPv6 socket that is bound to a port and then connected to a DVIPA would get the DVIPA as its source (RFC 6724 5, rule 1),
/// and no program can bind it again: `use_oif_addrs_only` of the first interface, by which such a connection leaves, has the
/// kernel choose among the interface's own addresses. It stays off where the interface has no global address of its own.
///
/// # Errors
/// What the system says, with the setting's path.
pub fn prepare_interfaces(interfaces: &[String]) -> Result<Vec<String>, SettingError> {
    let mut raised = vec![raise("ipv4/conf/all/arp_ignore", 1)?, raise("ipv4/conf/all/arp_announce", 2)?];
    for interface in interfaces {
        let own = format!("ipv4/conf/{interface}/rp_filter");
        if read("ipv4/conf/all/rp_filter")?.max(read(&own)?) == 1 {
            raised.push(raise(&own, 2)?);
        }
        raised.push(raise(&format!("ipv4/conf/{interface}/accept_local"), 1)?);
    }
    if let Some(first) = interfaces.first().filter(|first| has_global_v6(first)) {
        raised.push(raise(&format!("ipv6/conf/{first}/use_oif_addrs_only"), 1)?);
    }
    Ok(raised.into_iter().flatten().collect())
}

/// Lets applications bind to addresses that this host does not have: an address of a range comes with the first bind to it. Returns what was
/// otherwise, as a sentence. Never taken back: an application may have to bind again.
///
/// # Errors
/// What the system says, with the setting's path.
pub fn allow_nonlocal_binds(v4: bool) -> Result<Option<String>, SettingError> {
    raise(if v4 { "ipv4/ip_nonlocal_bind" } else { "ipv6/ip_nonlocal_bind" }, 1)
}

/// Settings that connections need to move as they are, and that are off: sentences for operators.
pub fn unfit_for_moves() -> Vec<String> {
    let needed = [
        ("tcp_timestamps", "connections with timestamps"),
        ("tcp_window_scaling", "connections with window scaling"),
        ("tcp_sack", "connections with SACK"),
        ("tcp_syncookies", "connections"),
    ];
    let is_off = |name: &str| {
        fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).is_ok_and(|text| text.trim() == "0")
    };
    let off = needed.into_iter().filter(|(name, _)| is_off(name));
    off.map(|(name, which)| {
        format!("net.ipv4.{name} is 0: {which} can't be handed over to listeners of this host; set it to 1")
    })
    .collect()
}

/// Whether this host forwards packets that arrive at this interface, of either family.
pub fn forwards(interface: &str) -> bool {
    let is_on = |family: &str| read(&format!("{family}/conf/{interface}/forwarding")).is_ok_and(|on| on != 0);
    is_on("ipv4")
        || is_on("ipv6")
        || read(&format!("ipv6/conf/{interface}/force_forwarding")).is_ok_and(|on| on != 0)
}

/// A setting that can't be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot set {path}: {cause}")]
pub struct SettingError {
    path: String,
    cause: io::Error,
}

/// Whether the interface has a global IPv6 address: the fields of a line are address, index, prefix, scope, flags and name.
fn has_global_v6(interface: &str) -> bool {
    let addresses = fs::read_to_string("/proc/self/net/if_inet6").unwrap_or_default();
    addresses.lines().any(|line| {
        let mut fields = line.split_whitespace();
        fields.nth(3) == Some("00") && fields.last() == Some(interface)
    })
}

fn path(name: &str) -> String {
    format!("/proc/sys/net/{name}")
}

fn read(name: &str) -> Result<u8, SettingError> {
    let path = path(name);
    let text = fs::read_to_string(&path).map_err(|cause| SettingError { path: path.clone(), cause })?;
    text.trim()
        .parse()
        .map_err(|e| SettingError { path, cause: io::Error::new(io::ErrorKind::InvalidData, e) })
}

/// What was set, if it was less.
fn raise(name: &str, at_least: u8) -> Result<Option<String>, SettingError> {
    let found = read(name)?;
    if found >= at_least {
        return Ok(None);
    }
    let path = path(name);
    fs::write(&path, at_least.to_string()).map_err(|cause| SettingError { path, cause })?;
    Ok(Some(format!("net.{} was {found} and has to be {at_least}", name.replace('/', "."))))
}
