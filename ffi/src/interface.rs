//! Interfaces of the kernel that a port stands on or leads to: what can only be set with ioctl(2).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::from_mut;

/// Work that a kernel leaves to its device, and that nobody does when a poll-mode port reads the frames: its name for
/// ethtool(8), and the commands that read and set it (kernel `include/uapi/linux/ethtool.h`).
const OFFLOADS: [(&str, u32, u32); 4] =
    [("tso", 0x1e, 0x1f), ("gso", 0x23, 0x24), ("gro", 0x2b, 0x2c), ("tx", 0x16, 0x17)];

/// `struct ethtool_value`
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Switches off what an interface leaves to its device: checksums, segmentation, and packets received as one. Returns what
/// was on, as ethtool(8) names it.
///
/// # Errors
/// The system's: no such interface, or no right to change it. What the interface does not know of is no error.
pub fn switch_offloads_off(interface: &str) -> io::Result<Vec<&'static str>> {
    let socket = socket()?;
    let mut was_on = Vec::new();
    for (name, get, set) in OFFLOADS {
        let mut value = EthtoolValue { command: get, data: 0 };
        match ethtool(&socket, interface, &mut value) {
            Ok(()) if value.data != 0 => {
                ethtool(&socket, interface, &mut EthtoolValue { command: set, data: 0 })?;
                was_on.push(name);
            }
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(was_on)
}

/// Gives an interface this Ethernet address.
///
/// # Errors
/// The system's: no such interface, no right to change it, or one that must be down for it.
pub fn set_address(interface: &str, mac: [u8; 6]) -> io::Result<()> {
    let socket = socket()?;
    let mut request = request(interface)?;
    let mut address = libc::sockaddr { sa_family: libc::ARPHRD_ETHER, sa_data: [0; 14] };
    for (place, byte) in address.sa_data.iter_mut().zip(mac) {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_hwaddr = address;
    ioctl(&socket, libc::SIOCSIFHWADDR, &mut request)
}

/// An interface as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Its longest packet, in bytes without the Ethernet header.
    pub mtu: u32,
    /// It is meant to be up.
    pub up: bool,
}

/// Looks at an interface.
///
/// # Errors
/// The system's: no such interface.
pub fn state(interface: &str) -> io::Result<State> {
    let socket = socket()?;
    let mut request = request(interface)?;
    ioctl(&socket, libc::SIOCGIFHWADDR, &mut request)?;
    // SAFETY: this request writes the address.
    let address = unsafe { request.ifr_ifru.ifru_hwaddr }.sa_data;
    ioctl(&socket, libc::SIOCGIFMTU, &mut request)?;
    // SAFETY: this request writes the MTU.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    ioctl(&socket, libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: this request writes the flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    let mut mac = [0; 6];
    mac.iter_mut().zip(address).for_each(|(to, from)| *to = from.cast_unsigned());
    Ok(State { mac, mtu: u32::try_from(mtu).unwrap_or_default(), up: i32::from(flags) & libc::IFF_UP != 0 })
}

fn ethtool(socket: &OwnedFd, interface: &str, value: &mut EthtoolValue) -> io::Result<()> {
    let mut request = request(interface)?;
    request.ifr_ifru.ifru_data = from_mut(value).cast();
    ioctl(socket, SIOCETHTOOL, &mut request)
}

const SIOCETHTOOL: libc::c_ulong = 0x8946;

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: makes a descriptor, or returns -1.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A request about an interface, all else zero.
fn request(interface: &str) -> io::Result<libc::ifreq> {
    // SAFETY: a C struct of integers and a pointer, for which all zero is valid.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    if interface.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *place = byte.cast_signed();
    }
    Ok(request)
}

fn ioctl(socket: &OwnedFd, what: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: the kernel reads and writes the request, and what it points to: an `EthtoolValue` that outlives the call.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), what as _, from_mut(request)) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_as_the_kernel_shows_it() {
        let state = state("lo").unwrap();
        let shown = std::fs::read_to_string("/sys/class/net/lo/mtu").unwrap();
        assert_eq!((state.mac, state.mtu.to_string()), ([0; 6], shown.trim().to_owned()));
        let flags = std::fs::read_to_string("/sys/class/net/lo/flags").unwrap();
        let flags = i32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap();
        assert_eq!(state.up, flags & libc::IFF_UP != 0);
    }

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        for name in ["bt-nothing0", "a-name-that-is-too-long-for-one"] {
            assert_eq!(switch_offloads_off(name).unwrap_err().raw_os_error(), Some(libc::ENODEV));
            assert_eq!(state(name).unwrap_err().raw_os_error(), Some(libc::ENODEV));
            assert_eq!(set_address(name, [2; 6]).unwrap_err().raw_os_error(), Some(libc::ENODEV));
        }
    }
}
