//! Messages, descriptors and floods.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use channel::Sealed;
use model::control_socket::request::{Say, Subscribe};
use model::control_socket::{MAX_STATE_BYTES, VERSION};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

use super::*;
use crate::control_socket::limits::{MAX_OFFERS, MAX_TRANSFERS, MAX_UNSENT};

#[test]
fn what_is_no_message_closes_the_socket() {
    let host = Host::start();
    let mut bystanders = host.bystanders();
    let long = vec![VERSION; MAX_MESSAGE_BYTES + 1];
    let truncated = &host.register(1, "job").encode().expect("short")[..9];
    for datagram in [&b"x"[..], &[VERSION, 0, 0], &[VERSION, 0, 0, 1, 0xff], truncated, &long] {
        let mut hostile = host.application();
        hostile.0.send(datagram, &[]).expect("sent");
        assert_eq!(hostile.is_closed(), Refusal::Invalid, "{} bytes", datagram.len());
        bystanders.are_served();
    }
}

#[test]
fn what_a_newer_application_says_is_ignored() {
    let host = Host::start();
    let mut newer = host.registered("newer");
    let descriptor = File::open("/dev/null").expect("opened");
    newer.0.send(&[VERSION, 0, 0xff, 0xff, 0x80], &[descriptor.as_fd()]).expect("sent");
    newer.0.send(&[VERSION + 1, 0, 0, 1, 0xff], &[]).expect("sent");
    newer.say(&transfer(2, "job"));
    assert_eq!(newer.is_refused(2), Refusal::NoConnection);
}

#[test]
fn descriptors_that_are_no_held_connection_are_refused() {
    let host = Host::start();
    let mut bystanders = host.bystanders();
    let (client, stream) = host.connection();
    let (_other_client, elsewhere) = Host::start().connection();
    let closed = {
        let (client, mut stream) = host.connection();
        // A reset: the connection is gone, its socket is not.
        rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).expect("set");
        drop(client);
        assert_eq!(stream.read(&mut [0]).expect_err("reset").kind(), ErrorKind::ConnectionReset);
        stream
    };
    let udp = UdpSocket::bind("127.0.0.1:0").expect("bound");
    udp.connect(("127.0.0.1", host.port())).expect("connected");
    let (pipe, _) = std::io::pipe().expect("a pipe");
    let (unix, _) = Channel::pair().expect("a pair");
    let memory = Sealed::new(b"state").expect("sealed");
    let rows: [(BorrowedFd<'_>, Refusal); 9] = [
        (pipe.as_fd(), Refusal::NoConnection),
        (unix.as_fd(), Refusal::NoConnection),
        (udp.as_fd(), Refusal::NoConnection),
        (memory.as_fd(), Refusal::NoConnection),
        (host.listener.as_fd(), Refusal::NoConnection),
        (closed.as_fd(), Refusal::Ended),
        // Its local end is no DVIPA and port that anybody registered for.
        (client.as_fd(), Refusal::NotRegistered),
        (elsewhere.as_fd(), Refusal::NotRegistered),
        (stream.as_fd(), Refusal::UnknownTarget),
    ];
    let mut hostile = host.registered("hostile");
    for (request, (descriptor, why)) in (2..).zip(rows) {
        hostile.say_with(&transfer(request, "nobody"), &[descriptor]);
        assert_eq!(hostile.is_refused(request), why, "request {request}");
    }
    bystanders.are_served();
}

#[test]
fn more_descriptors_than_two_are_refused_and_closed() {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let host = Host::start();
    let mut hostile = host.registered("hostile");
    let (_client, stream) = host.connection();
    let (held, probe) = Channel::pair().expect("a pair");
    let descriptors = [stream.as_fd(), held.as_fd(), held.as_fd(), held.as_fd(), held.as_fd(), held.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(6))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let datagram = transfer(2, "hostile").encode().expect("short");
    sendmsg(&hostile.0, &[std::io::IoSlice::new(&datagram)], &mut control, SendFlags::empty()).expect("sent");
    assert_eq!(hostile.is_refused(2), Refusal::AgentFull);
    drop(held);
    let deadline = Some(Instant::now() + Duration::from_secs(20));
    assert!(probe.wait_to_receive(deadline).expect("waited"), "the agent holds a descriptor that it refused");
    assert!(probe.receive(&mut [0]).expect("received").is_none());
}

fn memfd(bytes: u64, seals: SealFlags) -> OwnedFd {
    let memory = memfd_create("test", MemfdFlags::ALLOW_SEALING).expect("memory");
    ftruncate(&memory, bytes).expect("as long as that");
    fcntl_add_seals(&memory, seals).expect("sealed");
    memory
}

#[test]
fn state_that_is_too_long_or_not_sealed_is_refused() {
    let host = Host::start();
    let mut bystanders = host.bystanders();
    let mut hostile = host.registered("hostile");
    let (_client, stream) = host.connection();
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    let max = MAX_STATE_BYTES as u64;
    let file = tempfile::tempfile().expect("a file");
    let rows: [(OwnedFd, Refusal); 6] = [
        (memfd(max + 1, seals), Refusal::StateTooLong),
        (memfd(1 << 40, seals), Refusal::StateTooLong),
        (memfd(10, SealFlags::empty()), Refusal::StateNotSealed),
        (memfd(10, SealFlags::SHRINK | SealFlags::GROW), Refusal::StateNotSealed),
        (file.into(), Refusal::StateNotSealed),
        (memfd(max, seals), Refusal::UnknownTarget),
    ];
    for (request, (memory, why)) in (2..).zip(rows) {
        hostile.say_with(&transfer(request, "nobody"), &[stream.as_fd(), memory.as_fd()]);
        assert_eq!(hostile.is_refused(request), why, "request {request}");
    }
    bystanders.are_served();
}

#[test]
fn who_asks_and_does_not_listen_waits_for_himself() {
    let host = Host::start();
    let mut bystanders = host.bystanders();
    let mut hostile = host.registered("hostile");
    let datagram = host_subscribe(&host).encode().expect("short");
    // Every one is answered, and no answer is read: at some point the agent reads no more.
    let mut sent = 0;
    let deadline = Instant::now() + Duration::from_millis(300);
    while Instant::now() < deadline {
        match hostile.0.send(&datagram, &[]) {
            Ok(()) => sent += 1,
            Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(1)),
            Err(e) => panic!("{e}"),
        }
        assert!(sent < 200_000, "the agent goes on reading");
    }
    bystanders.are_served();
    // It listens again, and gets every answer.
    for _ in 0..sent {
        assert_eq!(hostile.is_refused(7), Refusal::NotRegistered);
    }
}

#[test]
fn one_that_does_not_read_is_not_closed_by_what_others_say_to_it() {
    let host = Host::start();
    let mut silent = host.registered("silent");
    let mut talks = host.registered("talks");
    let more_than_it_may_leave = u32::try_from(2 * MAX_UNSENT).expect("small");
    for request in 2..more_than_it_may_leave {
        let say = Say {
            request: RequestId(request),
            dvipa: Address("127.0.0.1".parse().expect("an address")),
            port: host.port(),
            to: "silent@here".parse().expect("a target"),
            about: None,
            bytes: vec![7; 1024],
        };
        talks.say(&say.into());
        assert!(matches!(talks.hear(), Some(Notification::Said(_))));
    }
    // Its own request is read and answered, behind what it was told.
    silent.say(&host_subscribe(&host));
    let mut heard = 0;
    loop {
        match silent.hear() {
            Some(Notification::Heard(_)) => heard += 1,
            Some(Notification::Failed(failed)) => {
                assert_eq!((failed.request, failed.why), (RequestId(7), Refusal::NotRegistered));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(heard > 0 && heard < MAX_UNSENT, "{heard}");
}

/// For a port that nobody has registered for.
fn host_subscribe(host: &Host) -> Request {
    let dvipa = Address("127.0.0.1".parse().expect("an address"));
    Subscribe { request: RequestId(7), dvipa, port: host.port().wrapping_add(1).max(1) }.into()
}

#[test]
fn a_target_that_does_not_answer_is_offered_only_so_many() {
    let host = Host::start();
    let mut bystanders = host.bystanders();
    let stuck = host.registered("stuck");
    let mut router = host.registered("router");
    let mut clients = Vec::new();
    const { assert!(MAX_OFFERS <= MAX_TRANSFERS) };
    let offered = u32::try_from(MAX_OFFERS).expect("small");
    for request in 0..offered {
        let (client, stream) = host.connection();
        router.say_with(&transfer(100 + request, "stuck"), &[stream.as_fd()]);
        clients.push((client, stream));
    }
    let mut another = host.registered("another");
    let (_client, stream) = host.connection();
    another.say_with(&transfer(2, "stuck"), &[stream.as_fd()]);
    assert_eq!(another.is_refused(2), Refusal::TargetBusy);
    bystanders.are_served();
    // When it dies, all of them are told and go on where they are.
    drop(stuck);
    assert_eq!(router.is_refused(100), Refusal::Gone);
    let (client, stream) = &mut clients[0];
    stream.write_all(b"x").expect("still here");
    client.read_exact(&mut [0]).expect("still connected");
}

#[test]
fn a_number_twice_closes_the_socket() {
    let host = Host::start();
    let mut hostile = host.registered("hostile");
    hostile.say(&host.register(2, "hostile"));
    assert!(matches!(hostile.hear(), Some(Notification::Registered(_))));
    hostile.say(&host.register(2, "hostile"));
    assert_eq!(hostile.is_closed(), Refusal::Invalid);
}

#[test]
#[ignore = "needs root"]
fn a_connection_of_another_network_namespace_is_refused() {
    let host = Host::start();
    let mut hostile = host.registered("hostile");
    let port = host.port();
    // The same address and port, in a namespace that anybody could have made.
    let elsewhere = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a namespace of this thread");
        let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.expect("ip runs").success());
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port there");
        let client = TcpStream::connect(("127.0.0.1", port)).expect("connected");
        (client, listener.accept().expect("accepted").0)
    });
    let (_client, stream) = elsewhere.join().expect("no panic");
    hostile.say_with(&transfer(2, "hostile"), &[stream.as_fd()]);
    assert_eq!(hostile.is_refused(2), Refusal::NoConnection);
}
