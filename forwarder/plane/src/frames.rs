//! How large the frames are that a device may deliver.
//!
//! DPDK's net_af_packet has the kernel put IPv4 fragments together (`PACKET_FANOUT_FLAG_DEFRAG`), whatever the MTU: with its own
//! frames of 2 kB the rest of a joined datagram is cut off. So its frames are larger here, unless the operator says otherwise,
//! or a device of another driver shares the pool: net_af_xdp takes no buffer that is larger than a page.

/// A datagram of 8 kB, and what the kernel and Ethernet put before it. A multiple of 16, as PACKET_MMAP wants it.
const JOINED_BYTES: u16 = 9216;
/// Four frames, in whole pages.
const BLOCK_BYTES: u32 = 4 * JOINED_BYTES as u32;

const DRIVER: &str = "net_af_packet";
const ARGUMENT: &str = "framesz=";

/// The devices that share a pool, with the arguments that they need for joined datagrams.
pub(crate) fn with_arguments<const N: usize>(devices: [&str; N]) -> [String; N] {
    let all = devices.iter().all(|device| device.starts_with(DRIVER));
    devices.map(|device| match all && !device.contains(ARGUMENT) {
        true => format!("{device},{ARGUMENT}{JOINED_BYTES},blocksz={BLOCK_BYTES}"),
        false => device.to_owned(),
    })
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
    fn only_packet_sockets_among_themselves_are_given_larger_frames() {
        let (own, other) = ("net_af_packet0,iface=eth0,framesz=4096", "net_af_packet1,iface=loc1");
        let given = with_arguments([own, other]);
        assert_eq!(given, [own, "net_af_packet1,iface=loc1,framesz=9216,blocksz=36864"]);
        assert_eq!(given.each_ref().map(|device| largest(device)), [Some(4096), Some(9216)]);
        let xdp = "net_af_xdp0,iface=eth0";
        assert_eq!(with_arguments([xdp, other]), [xdp, other]);
        assert_eq!([xdp, other].map(largest), [None, None]);
    }
}
