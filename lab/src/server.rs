//! Small servers of a test: sockets in a host's namespace, served by a thread of the test's own process.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};

use crate::namespace::Namespace;

/// How often a UDP server looks whether it should end.
const LOOK: Duration = Duration::from_millis(20);

/// A server that answers with its name. Dropping it ends its listen; TCP connections that it has live on as long as
/// their clients want.
#[derive(Debug)]
pub struct Server {
    tcp: Option<Arc<TcpListener>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on a TCP address in `ns` and answers every HTTP request with `name`.
    ///
    /// # Errors
    /// What the kernel says to the bind.
    pub fn tcp(ns: &Namespace, address: SocketAddr, name: &str) -> io::Result<Self> {
        let listener = Arc::new(ns.enter(|| TcpListener::bind(address))?);
        let (own, name) = (Arc::clone(&listener), name.to_owned());
        let ends = Arc::new(AtomicBool::new(false));
        let accept = move || {
            while let Ok((stream, _)) = own.accept() {
                let name = name.clone();
                thread::spawn(move || answer(stream, &name));
            }
        };
        Ok(Self { tcp: Some(listener), ends, thread: Some(thread::spawn(accept)) })
    }

    /// Receives on a UDP address in `ns` and answers every datagram with `name`, a space, and the datagram's length
    /// in bytes.
    ///
    /// # Errors
    /// What the kernel says to the bind.
    pub fn udp(ns: &Namespace, address: SocketAddr, name: &str) -> io::Result<Self> {
        let socket = ns.enter(|| UdpSocket::bind(address))?;
        socket.set_read_timeout(Some(LOOK))?;
        let ends = Arc::new(AtomicBool::new(false));
        let (end, name) = (Arc::clone(&ends), name.to_owned());
        let serve = move || {
            let mut datagram = vec![0; 65536];
            while !end.load(Ordering::Relaxed) {
                if let Ok((bytes, client)) = socket.recv_from(&mut datagram) {
                    let _ = socket.send_to(format!("{name} {bytes}").as_bytes(), client);
                }
            }
        };
        Ok(Self { tcp: None, ends, thread: Some(thread::spawn(serve)) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(listener) = &self.tcp {
            // Ends the listen and wakes the thread that accepts.
            let _ = shutdown(listener.as_raw_fd(), Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: TcpStream, name: &str) {
    let mut request: Vec<u8> = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(n) if n > 0 => request.extend(piece.iter().take(n)),
            _ => return,
        }
        while let Some(end) = request.windows(4).position(|w| w == b"\r\n\r\n") {
            request.drain(..end + 4);
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}\n", name.len() + 1);
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}
