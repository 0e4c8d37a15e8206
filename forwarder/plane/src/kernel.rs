//! The node's kernel behind the local port: its interface, what it must allow, and what it must leave alone.
//!
//! Row W6: a target's outgoing SYN arrives at the local interface with a DVIPA as its source, which may be an address of
//! this host too, and is to be routed on to where its client waits. A kernel refuses that by default.
//!
//! A port whose device is an interface of this kernel (net_af_packet) gets copies of its frames: the kernel would answer
//! them too.
//!
//! [`watch`] looks at all of this while the forwarder runs.

pub mod watch;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use forwarder::Mac;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;

/// The kernel's end of the local port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The kernel's number for it.
    pub index: u32,
    /// Its link-layer address.
    pub mac: Mac,
}

/// How long an interface may take that a driver makes.
const AWAITED: Duration = Duration::from_secs(3);

/// The interface is not there.
#[derive(Debug, thiserror::Error)]
#[error(
    "the interface `{name}` (key `interface` of the local port) does not exist or has no Ethernet address"
)]
pub struct InterfaceError {
    /// Its name.
    pub name: String,
    /// The system's reason.
    #[source]
    pub cause: io::Error,
}

impl Interface {
    /// As [`Interface::named`], and waits a while for one that a port's driver is making (net_tap, net_virtio_user).
    ///
    /// # Errors
    /// [`InterfaceError`].
    pub fn awaited(name: &str) -> Result<Self, InterfaceError> {
        let deadline = Instant::now() + AWAITED;
        loop {
            match Self::named(name) {
                Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
                found => return found,
            }
        }
    }

    /// Gives the interface the NIC's address, by which the segment reaches it, if it has another one.
    ///
    /// # Errors
    /// The system's.
    pub fn take_address(&mut self, mac: Mac) -> io::Result<()> {
        if self.mac != mac {
            ffi::interface::set_address(&self.name, mac.0)?;
            tracing::info!(interface = self.name, was = %self.mac, %mac, "the interface has the NIC's address now");
            self.mac = mac;
        }
        Ok(())
    }

    /// Finds an interface of the calling thread's network namespace.
    ///
    /// # Errors
    /// [`InterfaceError`] if there is none of this name with an Ethernet address.
    pub fn named(name: &str) -> Result<Self, InterfaceError> {
        let fail = |cause: nix::errno::Errno| InterfaceError { name: name.to_owned(), cause: cause.into() };
        let index = if_nametoindex(name).map_err(fail)?;
        let mac = getifaddrs().map_err(fail)?.find_map(|found| {
            let address = found.address.filter(|_| found.interface_name == name)?;
            address.as_link_addr()?.addr()
        });
        let mac = Mac(mac.ok_or_else(|| fail(nix::errno::Errno::EADDRNOTAVAIL))?);
        Ok(Self { name: name.to_owned(), index, mac })
    }
}

/// Has the kernel finish checksums and segments itself on an interface whose frames a poll-mode port reads.
pub fn finish_frames(interface: &str) {
    match ffi::interface::switch_offloads_off(interface) {
        Ok(was_on) if was_on.is_empty() => {}
        Ok(was_on) => tracing::info!(interface, ?was_on, "offloads switched off"),
        Err(error) => tracing::warn!(
            interface, %error,
            "offloads could not be switched off: `ethtool -K {interface} tx off tso off gso off gro off`"
        ),
    }
}

/// Kernel `arp_ignore`: never answer.
const ARP_IGNORE_ALL: u32 = 8;

/// The kernel's settings below one directory: `/proc/sys/net` of this thread's network namespace, except in tests.
#[derive(Debug)]
pub struct Settings {
    net: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self { net: PathBuf::from("/proc/sys/net") }
    }
}

impl Settings {
    /// Lets the kernel route packets that arrive at `interface` with a DVIPA as their IPv4 source. Returns what was otherwise.
    pub fn allow_ipv4(&self, interface: &str) -> Vec<Changed> {
        let conf = self.net.join("ipv4/conf");
        let own = conf.join(interface);
        let mut changes = Vec::new();
        // The kernel takes the larger of `all` and the interface's own value, so that `all` must be 0 (kernel
        // `IN_DEV_RPFILTER`, `IN_DEV_TX_REDIRECTS`); other interfaces keep what they had.
        for key in ["rp_filter", "send_redirects"] {
            self.hand_down(interface, key, &mut changes);
            changes.extend(set(&own.join(key), 0));
        }
        changes.extend(["accept_local", "forwarding"].into_iter().filter_map(|key| set(&own.join(key), 1)));
        changes
    }

    /// Lets the kernel route IPv6 packets that arrive at `interface`. Kernels before 6.17 have one switch for all
    /// interfaces, which makes each of them a router's: it stops to hear router advertisements. So there `interface` is
    /// told to go on, and the others are made hosts' interfaces again. Returns what was otherwise.
    pub fn allow_ipv6(&self, interface: &str) -> Vec<Changed> {
        let conf = self.net.join("ipv6/conf");
        let forced = conf.join(interface).join("force_forwarding");
        if forced.exists() {
            return set(&forced, 1).into_iter().collect();
        }
        let all = conf.join("all/forwarding");
        if get(&all) == Some(1) {
            return Vec::new();
        }
        let mut changes = Vec::new();
        let accept_ra = conf.join(interface).join("accept_ra");
        if get(&accept_ra) == Some(1) {
            changes.extend(set(&accept_ra, 2));
        }
        let hosts: Vec<PathBuf> = interfaces(&conf)
            .filter(|path| !path.ends_with(interface))
            .map(|path| path.join("forwarding"))
            .filter(|path| get(path) == Some(0))
            .collect();
        changes.extend(set(&all, 1));
        changes.extend(hosts.iter().filter_map(|path| set(path, 0)));
        changes
    }

    /// Has the kernel ignore what arrives at an interface that a port reads: no route leads back there, so that strict
    /// reverse path filtering drops IPv4, ARP requests are not answered, and IPv6 is switched off. A looser filter of all
    /// interfaces would count here too. Returns what was otherwise.
    pub fn leave_alone(&self, interface: &str) -> Vec<Changed> {
        let (v4, v6) =
            (self.net.join("ipv4/conf").join(interface), self.net.join("ipv6/conf").join(interface));
        let mut changes = Vec::new();
        self.hand_down(interface, "rp_filter", &mut changes);
        let wanted = [
            (v4.join("rp_filter"), 1),
            (v4.join("arp_ignore"), ARP_IGNORE_ALL),
            (v6.join("disable_ipv6"), 1),
        ];
        changes.extend(wanted.iter().filter_map(|(path, value)| set(path, *value)));
        changes
    }

    /// Sets IPv4's `all/key` to 0 after giving its value to every other interface than this one that has a smaller one.
    fn hand_down(&self, interface: &str, key: &str, changes: &mut Vec<Changed>) {
        let conf = self.net.join("ipv4/conf");
        let all = conf.join("all").join(key);
        let Some(value) = get(&all).filter(|value| *value > 0) else { return };
        let others = interfaces(&conf).filter(|path| !path.ends_with(interface)).map(|path| path.join(key));
        let smaller = others.filter(|path| get(path).is_some_and(|own| own < value));
        changes.extend(smaller.filter_map(|path| set(&path, value)));
        changes.extend(set(&all, 0));
    }
}

/// The directories of all interfaces, and `default`.
fn interfaces(conf: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let all = fs::read_dir(conf).into_iter().flatten().flatten().map(|entry| entry.path());
    all.filter(|path| !path.ends_with("all"))
}

fn get(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A setting that was not as it has to be.
#[derive(Debug)]
pub struct Changed {
    path: PathBuf,
    was: u32,
    value: u32,
    /// Whether it is now: a failure is the operator's to mend.
    done: io::Result<()>,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was {} and has to be {}", self.path.display(), self.was, self.value)
    }
}

/// Says what was changed at the start.
pub fn tell(changes: &[Changed]) {
    for changed in changes {
        match &changed.done {
            Ok(()) => tracing::info!("kernel setting changed: {changed}"),
            Err(error) => {
                tracing::warn!(%error, "kernel setting could not be changed: {changed}: set it by hand")
            }
        }
    }
}

/// Sets a value that is another one now. What is not there can't be in the way.
fn set(path: &Path, value: u32) -> Option<Changed> {
    let was = get(path).filter(|was| *was != value)?;
    Some(Changed { path: path.to_owned(), was, value, done: fs::write(path, value.to_string()) })
}

#[cfg(test)]
mod tests;
