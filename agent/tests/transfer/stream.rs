//! Both ends of a connection that send and check a stream each way: every byte says where it belongs.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// Which way a stream goes: the two differ in every byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Up = 0x5a,
    Down = 0xa5,
}

/// The byte at this place of a stream.
pub(crate) fn byte(way: Way, at: u64) -> u8 {
    let mixed = (at ^ u64::from(way as u8)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

pub(crate) fn bytes(way: Way, from: u64, count: usize) -> Vec<u8> {
    (from..from + count as u64).map(|at| byte(way, at)).collect()
}

/// One end: how far it has come.
#[derive(Debug)]
pub(crate) struct End {
    sends: Way,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// How much it sends and receives.
    total: u64,
    pub(crate) eof: bool,
}

impl End {
    pub(crate) fn server(total: u64) -> Self {
        Self { sends: Way::Down, sent: 0, received: 0, total, eof: false }
    }

    pub(crate) fn client(total: u64) -> Self {
        Self { sends: Way::Up, ..Self::server(total) }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.sent == self.total && self.received == self.total
    }

    /// Sends and receives what is possible without waiting; whether anything was.
    pub(crate) fn step(&mut self, socket: &TcpStream) -> bool {
        let before = (self.sent, self.received, self.eof);
        let mut socket = socket;
        socket.set_nonblocking(true).unwrap();
        let count = (self.total - self.sent).min(16 << 10) as usize;
        if count > 0 {
            match socket.write(&bytes(self.sends, self.sent, count)) {
                Ok(sent) => self.sent += sent as u64,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => panic!("{self:?}: {e}"),
            }
        }
        let mut buffer = [0; 16 << 10];
        let other = if self.sends == Way::Up { Way::Down } else { Way::Up };
        match socket.read(&mut buffer) {
            Ok(0) => self.eof = true,
            Ok(read) => {
                let expected = bytes(other, self.received, read);
                assert!(buffer[..read] == expected, "{self:?}: wrong bytes within the next {read}");
                self.received += read as u64;
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => panic!("{self:?}: {e}"),
        }
        before != (self.sent, self.received, self.eof)
    }

    /// Steps until a condition holds.
    pub(crate) fn run(&mut self, socket: &TcpStream, until: impl Fn(&Self) -> bool) {
        let mut last = Instant::now();
        while !until(self) {
            if self.step(socket) {
                last = Instant::now();
            } else {
                assert!(last.elapsed() < PATIENCE, "{self:?}: nothing moves any more");
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    }
}

/// A client on a thread that sends and receives so much, closes its half, and expects the server to do so.
pub(crate) fn client(socket: TcpStream, total: u64) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut end = End::client(total);
        end.run(&socket, End::is_done);
        socket.shutdown(Shutdown::Write).unwrap();
        end.run(&socket, |end| end.eof);
    })
}

/// As the client, for the server's last part.
pub(crate) fn finish(mut end: End, socket: OwnedFd) {
    let socket = TcpStream::from(socket);
    end.run(&socket, End::is_done);
    end.run(&socket, |end| end.eof);
    drop(socket);
}
