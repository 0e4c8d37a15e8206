//! A small web server and client: `GET /JOB/BYTES` is answered with so many bytes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::samples::Samples;
use super::{Failure, inhabitant};

/// What bodies are made of, a piece at a time.
static PIECE: [u8; 128 << 10] = [b'b'; 128 << 10];
/// The longest head of a request or an answer.
const MAX_HEAD_BYTES: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(10);

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Answers requests until the client ends or wants no more than one.
pub(super) async fn serve(mut client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut ahead = Vec::new();
    while let Some(head) = read_head(&mut client, &mut ahead).await? {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let bytes: usize = path.rsplit('/').next().and_then(|n| n.parse().ok()).ok_or_else(|| bad(path))?;
        let is_last = head.to_ascii_lowercase().contains("connection: close");
        let connection = if is_last { "close" } else { "keep-alive" };
        let mut answer =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\nConnection: {connection}\r\n\r\n")
                .into_bytes();
        // A short body goes in one piece with its head.
        let first = bytes.min(4096);
        answer.extend(PIECE.iter().take(first));
        client.write_all(&answer).await?;
        let mut left = bytes - first;
        while left > 0 {
            let piece = PIECE.get(..left.min(PIECE.len())).unwrap_or(&PIECE);
            client.write_all(piece).await?;
            left -= piece.len();
        }
        if is_last {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads up to the empty line; `ahead` keeps what came behind it. `None` at the other side's end.
pub(crate) async fn read_head(stream: &mut TcpStream, ahead: &mut Vec<u8>) -> io::Result<Option<String>> {
    loop {
        if let Some(end) = ahead.windows(4).position(|w| w == b"\r\n\r\n") {
            let head: Vec<u8> = ahead.drain(..end + 4).collect();
            return Ok(Some(String::from_utf8_lossy(&head).into_owned()));
        }
        if ahead.len() > MAX_HEAD_BYTES {
            return Err(bad("a long head"));
        }
        if stream.read_buf(ahead).await? == 0 {
            return Ok(None);
        }
    }
}

/// What is requested.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) to: SocketAddr,
    /// The length of a body.
    pub(super) bytes: usize,
    /// Clients at the same time.
    pub(super) clients: usize,
}

/// Requests bodies of both jobs in turn, over a connection each, as fast as the clients can, for so long. How long each took.
pub(super) fn run(load: Load, time: Duration) -> Result<Samples, Failure> {
    inhabitant::run(async {
        let end = Instant::now() + time;
        let mut all = JoinSet::new();
        for n in 0..load.clients {
            all.spawn_local(async move {
                let mut requests = Samples::default();
                while Instant::now() < end {
                    let job = if (n + requests.len()).is_multiple_of(2) { "a" } else { "b" };
                    let begun = Instant::now();
                    timeout(PATIENCE, get(load, job)).await.map_err(|_| bad("no answer"))??;
                    requests.add(begun.elapsed());
                }
                Ok::<Samples, io::Error>(requests)
            });
        }
        let mut requests = Samples::default();
        while let Some(one) = all.join_next().await {
            requests.extend(one??);
        }
        Ok(requests)
    })
}

/// Clients' addresses: the targets end connections and remember each for a minute (TIME_WAIT), so that no client may come from the same
/// address and port again before.
pub(super) const CLIENTS: [Ipv4Addr; 16] = {
    let mut all = [Ipv4Addr::UNSPECIFIED; 16];
    let mut n = 0;
    while n < all.len() {
        all[n] = Ipv4Addr::new(198, 18, 0, 101 + n as u8);
        n += 1;
    }
    all
};
/// The ports of each.
const PORTS: Range<u16> = 2_000..62_000;

/// The next address and port, in turn.
fn client() -> SocketAddr {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let address = CLIENTS.get(n / PORTS.len() % CLIENTS.len()).copied().unwrap_or(Ipv4Addr::UNSPECIFIED);
    (address, PORTS.start + (n % PORTS.len()) as u16).into()
}

/// Requests bodies over one connection, two of a job and two of the other in turn, for so long: how long those took that were of the job
/// of the one before, and those that were not.
pub(super) fn run_kept(load: Load, time: Duration) -> Result<[Samples; 2], Failure> {
    inhabitant::run(async {
        let end = Instant::now() + time;
        let mut stream = connect(load.to).await?;
        let [mut same, mut other] = <[Samples; 2]>::default();
        for n in 0_usize.. {
            let begun = Instant::now();
            if begun >= end && same.len() > 0 && other.len() > 0 {
                break;
            }
            let job = if (n / 2).is_multiple_of(2) { "a" } else { "b" };
            let asked = ask(&mut stream, load, job, "keep-alive");
            timeout(PATIENCE, asked).await.map_err(|_| bad("no answer"))??;
            match n {
                0 => {}
                n if n.is_multiple_of(2) => other.add(begun.elapsed()),
                _ => same.add(begun.elapsed()),
            }
        }
        Ok([same, other])
    })
}

pub(super) async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(client())?;
    socket.connect(to).await
}

/// Requests one body.
async fn get(load: Load, job: &str) -> io::Result<()> {
    ask(&mut connect(load.to).await?, load, job, "close").await
}

/// Requests one body over this connection.
async fn ask(stream: &mut TcpStream, load: Load, job: &str, then: &str) -> io::Result<()> {
    let request = format!("GET /{job}/{} HTTP/1.1\r\nHost: lab\r\nConnection: {then}\r\n\r\n", load.bytes);
    stream.write_all(request.as_bytes()).await?;
    let mut ahead = Vec::with_capacity(256 << 10);
    let head = read_head(stream, &mut ahead).await?.ok_or_else(|| bad("no answer"))?;
    if !head.contains(" 200 ") {
        return Err(bad(&head));
    }
    let mut got = ahead.len();
    while got < load.bytes {
        ahead.clear();
        match stream.read_buf(&mut ahead).await? {
            0 => return Err(bad(&format!("{got} bytes of {}", load.bytes))),
            more => got += more,
        }
    }
    Ok(())
}
