//! The counter service of `examples/counter`, compiled and run.

#[allow(dead_code)]
mod build;

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use agent::control_socket::fake::FakeStack;
use build::Running;
use tempfile::TempDir;

const DVIPA: &str = "127.0.0.1";
const LONG: Duration = Duration::from_secs(20);

struct Service {
    stack: FakeStack,
    programs: TempDir,
    port: u16,
    router: Option<Running>,
}

impl Service {
    /// Builds the example with its own Makefile and starts its router.
    fn start() -> Self {
        let programs = tempfile::tempdir().expect("a directory");
        let installed = build::install(&programs.path().join("installed"));
        let output = installed
            .command("make")
            .arg("-C")
            .arg(build::root().join("examples/counter"))
            .arg(format!("LDFLAGS={}", installed.rpath()))
            .arg(format!("OUT={}", programs.path().display()))
            .output()
            .expect("make runs");
        assert!(output.status.success(), "{}", build::said(&output));
        let stack = FakeStack::start(&programs.path().join("applications.sock")).expect("a stack");
        let free = std::net::TcpListener::bind((DVIPA, 0)).expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let mut service = Self { stack, programs, port, router: None };
        let port = port.to_string();
        service.router = Some(service.run("counter-router", &[DVIPA, &port]));
        service
    }

    fn target(&self, job: &str) -> Running {
        self.run("counter-target", &[job, DVIPA, &self.port.to_string()])
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Running {
        Running::start(&self.programs.path().join(program), arguments, self.socket())
    }

    fn socket(&self) -> &Path {
        self.stack.path()
    }

    fn connect(&self) -> Client {
        let deadline = Instant::now() + LONG;
        loop {
            match TcpStream::connect((DVIPA, self.port)) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(LONG)).expect("set");
                    return Client(BufReader::new(stream));
                }
                // The router is not listening yet.
                Err(e) if e.kind() == ErrorKind::ConnectionRefused && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(e) => panic!("{e}"),
            }
        }
    }

    /// A client that is being counted for; targets may take a moment to register.
    fn counted(&self, name: &str) -> Client {
        let deadline = Instant::now() + LONG;
        loop {
            let mut client = self.connect();
            assert_eq!(client.hear(), "who are you?");
            client.say(name);
            client.say("one");
            match client.hear().as_str() {
                "1" => return client,
                other => assert!(Instant::now() < deadline, "{other}"),
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn say(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).expect("said");
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("heard");
        line.trim_end().to_owned()
    }
}

/// C3, C4, C7, C8: the router asks for the name, the target counts on the same connection.
#[test]
fn the_router_asks_and_the_target_counts() {
    let service = Service::start();
    let _target = service.target("a");
    let mut client = service.counted("alice");
    client.say("two");
    assert_eq!(client.hear(), "2");
    // Lines that were sent before the move are not lost: an application that did not ask for them does not read them.
    let mut early = service.connect();
    early.say("bob\none\ntwo\nthree");
    assert_eq!([early.hear(), early.hear(), early.hear(), early.hear()], ["who are you?", "1", "2", "3"]);
}

/// C11: the count moves on with the connection, and back.
#[test]
fn a_count_moves_on_to_another_target_and_the_client_back_to_the_router() {
    let service = Service::start();
    let _a = service.target("a");
    let mut client = service.counted("alice");
    let _b = service.target("b");
    for (i, to) in ["b", "a", "b"].iter().enumerate() {
        client.say(&format!("move {to}@here"));
        client.say("line");
        let mut heard = client.hear();
        while heard.contains("no such target") {
            // It has not registered yet; the line that followed was counted here.
            client.hear();
            client.say(&format!("move {to}@here"));
            client.say("line");
            heard = client.hear();
        }
        assert!(heard.parse::<usize>().expect("a count") >= i + 2, "{heard}");
    }
    client.say("done");
    assert_eq!(client.hear(), "who are you?");
    client.say("alice again");
    client.say("one");
    assert_eq!(client.hear(), "1");
}

/// C4, C9: where a connection can't go is said, and it goes on where it is.
#[test]
fn a_count_that_cannot_move_goes_on() {
    let service = Service::start();
    let _a = service.target("a");
    let mut client = service.counted("alice");
    client.say("move nobody@here");
    assert!(client.hear().contains("choose one out of the list"));
    client.say("move nobody");
    assert!(client.hear().contains("write JOB@STACK"));
    client.say("two");
    assert_eq!(client.hear(), "2");
}

/// A killed target costs its own connections and no other's; the router goes on.
#[test]
fn a_killed_target_hurts_only_its_own_connections() {
    let service = Service::start();
    let mut a = service.target("a");
    let mut alice = service.counted("alice");
    let _b = service.target("b");
    alice.say("move b@here");
    alice.say("two");
    while alice.hear().contains("no such target") {
        alice.hear();
        alice.say("move b@here");
        alice.say("again");
    }
    a.kill();
    alice.say("line");
    alice.hear().parse::<usize>().expect("still counting");
    service.counted("bob");
}
