//! Applications that do what they should not, on real sockets. Each hurts only itself: a bystander is served all the time.

mod hostile;
mod peers;

use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use channel::{Channel, Received};
use model::codec::Address;
use model::control_socket::request::{Consent, Register, Role, Transfer, Unacknowledged};
use model::control_socket::{
    JobName, MAX_MESSAGE_BYTES, Message, Notification, Refusal, Request, RequestId, Target,
};
use tempfile::TempDir;

use super::fake::FakeStack;

/// A stack, and a port of its DVIPA, which is an address that every machine has.
struct Host {
    stack: FakeStack,
    listener: TcpListener,
    _directory: TempDir,
}

impl Host {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let stack = FakeStack::start(&directory.path().join("applications.sock")).expect("a stack");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self { stack, listener, _directory: directory }
    }

    fn path(&self) -> PathBuf {
        self.stack.path().to_path_buf()
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().expect("an address").port()
    }

    /// A client's end and this one.
    fn connection(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.listener.local_addr().expect("an address")).expect("connected");
        (client, self.listener.accept().expect("accepted").0)
    }

    fn application(&self) -> Raw {
        let mut raw = Raw(Channel::connect(self.stack.path()).expect("connected"));
        assert!(matches!(raw.hear(), Some(Notification::Welcome(_))));
        raw
    }

    /// A target that is registered as request 1.
    fn registered(&self, job: &str) -> Raw {
        let mut raw = self.application();
        raw.say(&self.register(1, job));
        assert!(matches!(raw.hear(), Some(Notification::Registered(_))));
        raw
    }

    fn register(&self, request: u32, job: &str) -> Request {
        Register {
            request: RequestId(request),
            role: Role::Target,
            job: JobName::new(job).expect("a name"),
            dvipa: Address("127.0.0.1".parse().expect("an address")),
            ports: vec![self.port()],
            hold_accepts: false,
            takes_offers: None,
        }
        .into()
    }

    /// Two applications go on moving a connection between each other.
    fn bystanders(&self) -> Bystanders<'_> {
        Bystanders { host: self, from: self.registered("from"), to: self.registered("to"), requests: 1 }
    }
}

struct Bystanders<'a> {
    host: &'a Host,
    from: Raw,
    to: Raw,
    requests: u32,
}

impl Bystanders<'_> {
    fn are_served(&mut self) {
        let (_client, stream) = self.host.connection();
        self.requests += 1;
        self.from.say_with(&transfer(self.requests, "to"), &[stream.as_fd()]);
        let Some(Notification::Offer(offer)) = self.to.hear() else { panic!("nothing is offered") };
        self.to.say(&model::control_socket::request::Accept { offer: offer.offer }.into());
        assert!(matches!(self.to.hear(), Some(Notification::Arriving(_))));
        assert!(matches!(self.to.hear(), Some(Notification::Connection(_))));
        assert!(matches!(self.from.hear(), Some(Notification::Transferred(_))));
    }
}

fn transfer(request: u32, job: &str) -> Request {
    let to: Option<Target> = Some(format!("{job}@here").parse().expect("a target"));
    let (consent, unacknowledged) = (Consent::Asked, Unacknowledged::Refuse);
    Transfer { request: RequestId(request), to, consent, unacknowledged, given_back: None }.into()
}

/// An application that sends what it likes.
struct Raw(Channel);

impl Raw {
    fn say(&mut self, request: &Request) {
        self.say_with(request, &[]);
    }

    fn say_with(&mut self, request: &Request, beside: &[BorrowedFd<'_>]) {
        let bytes = request.encode().expect("short enough");
        // The agent reads on; until then the socket's queue may be full.
        while let Err(e) = self.0.send(&bytes, beside) {
            assert_eq!(e.kind(), std::io::ErrorKind::WouldBlock, "{e}");
            let deadline = Instant::now() + Duration::from_secs(20);
            assert!(self.0.wait_to_send(Some(deadline)).expect("waited"), "the agent does not read");
        }
    }

    /// What the agent says next; `None`: it has closed.
    fn hear(&mut self) -> Option<Notification> {
        let mut buffer = vec![0; MAX_MESSAGE_BYTES];
        let received = self.receive(&mut buffer)?;
        Some(Notification::decode(&buffer[..received.bytes]).expect("a message").expect("a known one"))
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<Received> {
        let deadline = Instant::now() + Duration::from_secs(20);
        assert!(self.0.wait_to_receive(Some(deadline)).expect("waited"), "the agent says nothing");
        match self.0.receive(buffer) {
            Ok(received) => received,
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(e) => panic!("{e}"),
        }
    }

    /// The agent refuses this request.
    fn is_refused(&mut self, request: u32) -> Refusal {
        match self.hear() {
            Some(Notification::Failed(failed)) if failed.request == RequestId(request) => failed.why,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// The agent says goodbye and closes.
    fn is_closed(&mut self) -> Refusal {
        loop {
            match self.hear() {
                Some(Notification::Goodbye(goodbye)) => {
                    assert!(self.hear().is_none());
                    return goodbye.why;
                }
                Some(_) => {}
                None => panic!("closed without a word"),
            }
        }
    }
}
