//! Clients of `examples/echo/` that know every byte that must come back, and when.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use lab::Namespace;
use socket2::SockRef;

/// Bytes that are written and read at a time.
const PIECE_BYTES: usize = 16 * 1024;
const WORD_BYTES: usize = 8;
/// Between two pieces: some megabytes a second, so that many clients share a small machine.
const PACE: Duration = Duration::from_millis(4);
/// Each buffer of clients that let them fill.
const SMALL_BUFFER_BYTES: usize = 32 * 1024;
/// For so long a client does not read that stops reading: until all buffers up to the server's are full.
const STOPS_FOR: Duration = Duration::from_millis(300);
/// A connection on which nothing comes for so long is stuck. Longer than Linux waits for its sixth retransmission.
const STUCK: Duration = Duration::from_secs(40);

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It reads what comes.
    Reads,
    /// It reads less than it could get, so that its window is small.
    ReadsSlowly,
    /// It stops reading now and then, so that its window closes, and then the server's.
    StopsReading,
    /// It goes away in the middle, with a reset.
    Resets,
}

impl Manner {
    pub(crate) const ALL: [Self; 4] = [Self::Reads, Self::ReadsSlowly, Self::StopsReading, Self::Resets];
}

/// A client that sends for so long, then ends its half, and checks that all it has sent comes back, and then the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) to: SocketAddr,
    pub(crate) manner: Manner,
    /// What it sends follows from it. No two clients send the same.
    pub(crate) seed: u64,
    pub(crate) sends_for: Duration,
}

/// What went wrong, at which byte.
#[derive(Debug)]
pub(crate) struct Broken {
    client: Client,
    at: u64,
    after: Duration,
    what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client: Client { to, manner, seed, .. }, at, after, what } = self;
        write!(f, "{to} {manner:?}, seed {seed:#x}: byte {at}, after {after:?}: {what}")
    }
}

impl Client {
    /// Connects from inside `ns`, talks, and returns how many bytes have gone there and come back.
    pub(crate) fn run(self, ns: &Namespace) -> Result<u64, Broken> {
        let begun = Instant::now();
        let mut at = 0;
        self.talk(ns, &mut at).map(|()| at).map_err(|e| Broken {
            client: self,
            at,
            after: begun.elapsed(),
            what: e.to_string(),
        })
    }

    fn talk(self, ns: &Namespace, at: &mut u64) -> io::Result<()> {
        let stream = ns.enter(|| TcpStream::connect_timeout(&self.to, STUCK))?;
        stream.set_read_timeout(Some(STUCK))?;
        stream.set_write_timeout(Some(STUCK))?;
        if matches!(self.manner, Manner::ReadsSlowly | Manner::StopsReading) {
            let socket = SockRef::from(&stream);
            socket.set_recv_buffer_size(SMALL_BUFFER_BYTES)?;
            socket.set_send_buffer_size(SMALL_BUFFER_BYTES)?;
        }
        let until = Instant::now() + self.sends_for;
        if self.manner == Manner::Resets {
            return self.reset(stream, until, at);
        }
        thread::scope(|scope| {
            let sent = scope.spawn(|| self.send(&stream, until));
            let received = self.receive(&stream, at);
            if received.is_err() {
                // Or the sender waits for ever; it may be closed already.
                let _ = stream.shutdown(Shutdown::Both);
            }
            let sent = sent.join().expect("the sender does not panic");
            received?;
            let sent = sent?;
            if *at == sent { Ok(()) } else { Err(io::Error::other(format!("the end, {sent} were sent"))) }
        })
    }

    fn send(&self, mut stream: &TcpStream, until: Instant) -> io::Result<u64> {
        let (mut at, mut piece) = (0, [0; PIECE_BYTES]);
        while Instant::now() < until {
            fill(&mut piece, self.seed, at);
            stream.write_all(&piece)?;
            at += PIECE_BYTES as u64;
            thread::sleep(if self.manner == Manner::ReadsSlowly { PACE * 4 } else { PACE });
        }
        stream.shutdown(Shutdown::Write)?;
        Ok(at)
    }

    fn receive(&self, mut stream: &TcpStream, at: &mut u64) -> io::Result<()> {
        let (mut piece, mut wanted) = ([0; PIECE_BYTES], [0; PIECE_BYTES + WORD_BYTES]);
        let mut next_stop = Instant::now() + STOPS_FOR;
        loop {
            let bytes = stream.read(&mut piece)?;
            if bytes == 0 {
                return Ok(());
            }
            // From the word's begin, because bytes come in any portions.
            let begin = *at / WORD_BYTES as u64 * WORD_BYTES as u64;
            let skip = (*at - begin) as usize;
            fill(&mut wanted, self.seed, begin);
            let same = piece[..bytes].iter().zip(&wanted[skip..]).take_while(|(a, b)| a == b).count();
            *at += same as u64;
            if same < bytes {
                return Err(io::Error::other("another byte than the one that was sent"));
            }
            match self.manner {
                Manner::ReadsSlowly => thread::sleep(PACE * 3),
                Manner::StopsReading if Instant::now() > next_stop => {
                    thread::sleep(STOPS_FOR);
                    next_stop = Instant::now() + STOPS_FOR;
                }
                Manner::StopsReading | Manner::Reads | Manner::Resets => {}
            }
        }
    }

    /// Talks until it goes away: what came until then must be right.
    fn reset(self, stream: TcpStream, until: Instant, at: &mut u64) -> io::Result<()> {
        let away = until - self.sends_for.mul_f64((self.seed % 16) as f64 / 20.0);
        stream.set_read_timeout(Some(Duration::from_millis(5)))?;
        let mut sent = 0;
        let mut piece = [0; PIECE_BYTES];
        while Instant::now() < away {
            fill(&mut piece, self.seed, sent);
            (&stream).write_all(&piece)?;
            sent += PIECE_BYTES as u64;
            match self.receive(&stream, at) {
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(e) => return Err(e),
                Ok(()) => return Err(io::Error::other("the end, though it had not ended itself")),
            }
        }
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    }
}

/// The bytes from this place on, which a word begins: SplitMix64 of each word's place.
fn fill(piece: &mut [u8], seed: u64, from: u64) {
    for (place, word) in (from / WORD_BYTES as u64..).zip(piece.chunks_mut(WORD_BYTES)) {
        let z = (seed ^ place).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
}
