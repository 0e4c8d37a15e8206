//! An agent that ends when it has passed a connection and not said whose it is: played here, message by message.

use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use baton_app::{Error, Refusal, Registration, TargetApplication};
use channel::listener::Access;
use channel::{Channel, Listener};
use model::codec::WireConnection;
use model::control_socket::notification::{Arriving, By, Claimed, Failed, Offer, Registered};
use model::control_socket::request::Claim;
use model::control_socket::{JobName, MAX_MESSAGE_BYTES, Message, Notification, OfferId, Request};
use model::{Connection, Protocol};

/// An agent's end of a control socket.
struct Agent(Channel);

impl Agent {
    /// Waits for the application, and registers it.
    fn meet(listener: &Listener) -> Self {
        let deadline = Instant::now() + Duration::from_secs(20);
        let channel = loop {
            match listener.accept() {
                Ok(channel) => break channel,
                Err(e) => assert!(Instant::now() < deadline, "nobody connects: {e}"),
            }
            thread::sleep(Duration::from_millis(1));
        };
        let agent = Self(channel);
        let Request::Register(register) = agent.hear().0 else { panic!("it does not register") };
        agent.say(Registered { request: register.request }, &[]);
        agent
    }

    fn say(&self, notification: impl Into<Notification>, beside: &[BorrowedFd<'_>]) {
        self.0.send(&notification.into().encode().expect("short"), beside).expect("sent");
    }

    /// What the application asks next, and how many descriptors come with it.
    fn hear(&self) -> (Request, usize) {
        let mut buffer = vec![0; MAX_MESSAGE_BYTES];
        let deadline = Some(Instant::now() + Duration::from_secs(20));
        assert!(self.0.wait_to_receive(deadline).expect("waited"), "it says nothing");
        let received = self.0.receive(&mut buffer).expect("received").expect("not the end");
        let request = Request::decode(&buffer[..received.bytes]).expect("a message").expect("a known one");
        (request, received.descriptors.len())
    }
}

fn listen(path: &Path) -> Listener {
    Listener::bind(path, Access { mode: 0o600, group: None }).expect("bound")
}

/// What becomes of an accepted offer whose connection has arrived when the agent ends; the next agent answers this.
fn accepted(answer: fn(Claim) -> Notification) -> Result<baton_app::Connection, Error> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("applications.sock");
    let dvipa = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = dvipa.local_addr().expect("an address");
    let client = TcpStream::connect(address).expect("connected");
    let (stream, from) = dvipa.accept().expect("accepted");
    let connection = Connection::new(Protocol::Tcp, from, address).expect("one family");
    let connection = WireConnection(connection);
    let registration =
        Registration::new("job", address.ip(), &[address.port()]).expect("a name").socket(&path);
    let listener = listen(&path);
    thread::scope(|scope| {
        let application = scope.spawn(|| {
            let application = TargetApplication::register(&registration).expect("registered");
            application.next_offer(None).expect("no error").expect("an offer").accept()
        });
        let agent = Agent::meet(&listener);
        let (offer, job) = (OfferId(1), JobName::new("job").expect("a name"));
        agent.say(Offer { offer, connection, job, giver: None }, &[]);
        let (Request::Accept(_), 0) = agent.hear() else { panic!("it does not accept") };
        agent.say(Arriving { by: By::Offer(offer), connection, giver: None }, &[stream.as_fd()]);
        drop((agent, listener, stream));
        let listener = listen(&path);
        let agent = Agent::meet(&listener);
        let (Request::Claim(claim), 1) = agent.hear() else { panic!("it does not claim") };
        agent.say(answer(claim), &[]);
        let accepted = application.join().expect("no panic");
        drop(client);
        accepted
    })
}

#[test]
fn accept_returns_the_connection_that_the_next_agent_says_is_its_own() {
    let connection = accepted(|claim| Claimed { request: claim.request }.into()).expect("its own");
    assert_eq!(connection.client, connection.stream.peer_addr().expect("connected"));
}

#[test]
fn accept_is_refused_a_connection_that_the_next_agent_says_is_elsewhere() {
    let refused =
        accepted(|claim| Failed { request: claim.request, why: Refusal::Aborted, detail: None }.into());
    assert_eq!(refused.expect_err("elsewhere").refusal(), Some(Refusal::Aborted));
}
