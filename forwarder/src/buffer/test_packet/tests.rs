use super::*;

#[test]
fn a_frame_grows_and_shrinks_at_both_ends() {
    let mut packet = TestPacket::new(b"frame");
    assert!(packet.prepend(2) && packet.extend(1));
    packet.bytes_mut()[..2].copy_from_slice(b"a ");
    *packet.bytes_mut().last_mut().unwrap() = b's';
    assert_eq!(packet.bytes(), b"a frames");
    assert!(packet.trim_front(2));
    packet.truncate(5);
    assert_eq!(packet.bytes(), b"frame");
    assert!(packet.reframe(2, 4, 2));
    packet.bytes_mut()[..4].copy_from_slice(b"cl_a");
    assert_eq!(packet.bytes(), b"cl_aam", "what was before is gone, and what is too much behind it");
    assert!(packet.reframe(4, 0, 100) && !packet.reframe(3, 0, 100));
    assert_eq!(packet.bytes(), b"am");
}

#[test]
fn what_there_is_no_room_for_changes_nothing() {
    let mut packet = TestPacket::new(b"frame");
    assert!(!packet.prepend(HEADROOM + 1) && !packet.extend(CAPACITY) && !packet.trim_front(6));
    packet.truncate(6);
    assert_eq!(packet.bytes(), b"frame");
    assert!(packet.prepend(HEADROOM));
    assert_eq!(packet.bytes().len(), HEADROOM + 5);
}

#[test]
fn a_refilled_packet_is_a_fresh_one() {
    let mut packet = TestPacket::new(b"frame");
    assert!(packet.prepend(20));
    packet.refill(b"another");
    assert_eq!(packet, TestPacket::new(b"another"));
}
