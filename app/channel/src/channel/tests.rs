use std::fs::File;
use std::io::{ErrorKind, Read, Seek, Write};

use super::*;

#[test]
fn a_datagram_arrives_whole_with_its_descriptors() {
    let (a, b) = Channel::pair().expect("a pair");
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(b"through the other descriptor").expect("written");
    a.send(b"look at this", &[file.as_fd()]).expect("sent");
    a.send(b"and at nothing", &[]).expect("sent");

    let mut buffer = [0; 64];
    let received = b.receive(&mut buffer).expect("received").expect("not the end");
    assert_eq!(&buffer[..received.bytes], b"look at this");
    assert!(!received.cut && !received.descriptors_lost);
    let [other] = <[OwnedFd; 1]>::try_from(received.descriptors).expect("one descriptor");
    let (mut other, mut text) = (File::from(other), String::new());
    other.rewind().expect("rewound");
    other.read_to_string(&mut text).expect("read");
    assert_eq!(text, "through the other descriptor");

    let received = b.receive(&mut buffer).expect("received").expect("not the end");
    assert_eq!((received.bytes, received.descriptors.len()), (14, 0));
}

#[test]
fn what_is_too_long_is_cut_and_said_so() {
    let (a, b) = Channel::pair().expect("a pair");
    a.send(&[7; 100], &[]).expect("sent");
    let received = b.receive(&mut [0; 10]).expect("received").expect("not the end");
    assert!(received.cut);
    assert_eq!(received.bytes, 10);
}

#[test]
fn descriptors_beyond_the_limit_are_closed_and_said_to_be_lost() {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage};
    let (a, b) = Channel::pair().expect("a pair");
    let (held, probe) = Channel::pair().expect("another");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let many = [held.as_fd(); 8];
    assert!(control.push(SendAncillaryMessage::ScmRights(&many)));
    rustix::net::sendmsg(&a, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).expect("sent");

    let received = b.receive(&mut [0; 10]).expect("received").expect("not the end");
    assert!(received.descriptors_lost);
    assert_eq!(received.descriptors.len(), MAX_DESCRIPTORS);
    drop((held, received));
    // Nobody holds the other end any longer.
    assert!(probe.receive(&mut [0; 10]).expect("received").is_none());
}

#[test]
fn nothing_waits_but_what_is_called_wait() {
    let (a, b) = Channel::pair().expect("a pair");
    assert_eq!(b.receive(&mut [0; 10]).expect_err("empty").kind(), ErrorKind::WouldBlock);
    let soon = || Some(Instant::now() + Duration::from_millis(5));
    assert!(!b.wait_to_receive(soon()).expect("waited"));
    while a.send(&[0; 4096], &[]).is_ok() {}
    assert_eq!(a.send(&[0; 4096], &[]).expect_err("full").kind(), ErrorKind::WouldBlock);
    assert!(!a.wait_to_send(soon()).expect("waited"));
    assert!(b.wait_to_receive(soon()).expect("waited"));
    assert!(b.wait_to_send(soon()).expect("waited"));
}

#[test]
fn the_end_is_the_end() {
    let (a, b) = Channel::pair().expect("a pair");
    a.send(b"last words", &[]).expect("sent");
    drop(a);
    assert!(b.receive(&mut [0; 64]).expect("received").is_some());
    assert!(b.receive(&mut [0; 64]).expect("received").is_none());
    assert_eq!(b.send(b"hello?", &[]).expect_err("closed").kind(), ErrorKind::BrokenPipe);
}
