//! How large the frames are that a device may deliver.
//!
//! DPDK's net_af_packet has the kernel put IPv4 fragments together (`PACKET_FANOUT_FLAG_DEFRAG`), whatever the MTU: with its own
//! frames of 2 kB the rest of a joined datagram is cut off. So its frames are larger here, unless the operator says otherwise.

use std::borrow::Cow;

/// A datagram of 8 kB, and what the kernel and Ethernet put before it. A multiple of 16, as PACKET_MMAP wants it.
const JOINED_BYTES: u16 = 9216;
/// Four frames, in whole pages.
const BLOCK_BYTES: u32 = 4 * JOINED_BYTES as u32;

const DRIVER: &str = "net_af_packet";
const ARGUMENT: &str = "framesz=";

/// The device with the arguments that it needs for joined datagrams.
pub(crate) fn with_arguments(device: &str) -> Cow<'_, str> {
    if device.starts_with(DRIVER) && !device.contains(ARGUMENT) {
        format!("{device},{ARGUMENT}{JOINED_BYTES},blocksz={BLOCK_BYTES}").into()
    } else {
        device.into()
    }
}

/// Bytes of the largest frame that the device delivers beyond the MTU, if it does.
pub(crate) fn largest(device: &str) -> Option<u16> {
    let argument = device.split(',').find_map(|argument| argument.strip_prefix(ARGUMENT));
    argument.filter(|_| device.starts_with(DRIVER))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_packet_socket_without_a_frame_size_of_its_own_is_given_one() {
        let given = with_arguments("net_af_packet0,iface=eth0");
        assert_eq!(given, "net_af_packet0,iface=eth0,framesz=9216,blocksz=36864");
        assert_eq!(largest(&given), Some(9216));
        let own = "net_af_packet0,iface=eth0,framesz=4096";
        assert_eq!((&*with_arguments(own), largest(own)), (own, Some(4096)));
        let other = "net_af_xdp0,iface=eth0";
        assert_eq!((&*with_arguments(other), largest(other)), (other, None));
    }
}
