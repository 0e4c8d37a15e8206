//! How large the frames are that a device may deliver.
//!
//! A packet socket's ring has places of 2 kB unless it is told otherwise, whatever its interface carries. And DPDK's net_af_packet
//! has the kernel put IPv4 fragments together (`PACKET_FANOUT_FLAG_DEFRAG`), whatever the MTU: the rest of a longer frame is cut
//! off. So places are larger here, unless the operator says otherwise; those for joined datagrams only where no device of
//! another driver shares the pool: net_af_xdp takes no buffer that is larger than a page.

/// A datagram of 8 kB, and what the kernel and Ethernet put before it.
const JOINED_BYTES: u16 = 9152;
/// The kernel's own header of a place (`TPACKET2_HDRLEN`, rounded up).
const PLACE_HEADER_BYTES: u16 = 64;
/// The longest frame for which the driver's own places do.
const STANDARD_BYTES: u16 = 1526;

const DRIVER: &str = "net_af_packet";
const ARGUMENT: &str = "framesz=";

/// The devices that share a pool, with the arguments that they need for frames of this many bytes and for joined datagrams.
pub(crate) fn with_arguments<const N: usize>(devices: [&str; N], frame: u16) -> [String; N] {
    let all = devices.iter().all(|device| device.starts_with(DRIVER));
    let longest = if all { frame.max(JOINED_BYTES) } else { frame };
    // Places are multiples of 16 bytes, four of them whole pages (packet(7), PACKET_MMAP).
    let place = (u32::from(longest) + u32::from(PLACE_HEADER_BYTES)).next_multiple_of(1024);
    devices.map(|device| {
        if longest <= STANDARD_BYTES || !device.starts_with(DRIVER) || device.contains(ARGUMENT) {
            return device.to_owned();
        }
        format!("{device},{ARGUMENT}{place},blocksz={}", 4 * place)
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

    const XDP: &str = "net_af_xdp0,iface=eth0";
    const OTHER: &str = "net_af_packet1,iface=loc1";

    #[test]
    fn packet_sockets_among_themselves_have_room_for_joined_datagrams() {
        let own = "net_af_packet0,iface=eth0,framesz=4096";
        let given = with_arguments([own, OTHER], 1526);
        assert_eq!(given, [own, "net_af_packet1,iface=loc1,framesz=9216,blocksz=36864"]);
        assert_eq!(given.each_ref().map(|device| largest(device)), [Some(4096), Some(9216)]);
        assert_eq!(with_arguments([XDP, OTHER], 1526), [XDP, OTHER]);
        assert_eq!([XDP, OTHER].map(largest), [None, None]);
    }

    #[test]
    fn a_packet_socket_beside_another_device_has_room_for_the_longest_frame() {
        let jumbo = "net_af_packet1,iface=loc1,framesz=9216,blocksz=36864";
        assert_eq!(with_arguments(["0000:01:00.0", OTHER], 9026), ["0000:01:00.0", jumbo]);
        assert_eq!(with_arguments(["net_tap0,iface=loc0", XDP], 9026), ["net_tap0,iface=loc0", XDP]);
    }
}
