//! The routing application: looks at a client's request and moves the connection to whom it is for.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use app::{Choice, Registration, RoutingApplication, Target, Terms};

use socket2::{Domain, Socket, Type};

use crate::request::{self, Head};
use crate::rule::{self, Rule};
use crate::{ACKNOWLEDGED_WITHIN, Failure, each};

/// Clients that wait to be accepted.
const BACKLOG: i32 = 128;

/// The router of one DVIPA.
struct Router {
    application: RoutingApplication,
    port: u16,
    rules: Arc<[Rule]>,
    /// Requests are read and given back, not only looked at.
    reads: bool,
}

impl Router {
    /// Where a client goes that these targets have refused: to the stack that the rule names, or to one that the cluster chooses.
    fn next(&self, rule: &Rule, client: SocketAddr, tried: &[Target]) -> Option<Target> {
        if let Some(named) = rule.target() {
            return Some(named).filter(|target| !tried.contains(target));
        }
        let choice = Choice::of(std::slice::from_ref(&rule.job)).besides(tried);
        self.application.choose(self.port, client, &choice).inspect_err(|e| eprintln!("{e}")).ok()
    }

    /// Decides where a client goes. A target that refuses it is passed over.
    fn route(&self, mut client: TcpStream) -> Result<(), Failure> {
        let mut read = Vec::new();
        let head = if self.reads { request::look(&mut client, &mut read)? } else { Head::peek(&client)? };
        let Some(head) = head else { return Ok(()) };
        if let Some(rule) = rule::of(&self.rules, &head) {
            // One that comes back may have been answered just now.
            let terms = Terms::new().unacknowledged(app::wait(ACKNOWLEDGED_WITHIN)).give_back(&read);
            let (peer, mut tried) = (client.peer_addr()?, Vec::new());
            while let Some(target) = self.next(rule, peer, &tried) {
                match self.application.transfer(client, &target, &terms) {
                    Ok(()) => return Ok(()),
                    Err(refused) => {
                        eprintln!("{target}: {refused}");
                        client = refused.stream;
                        tried.push(target);
                    }
                }
            }
        }
        request::answer(&mut client, "503 Service Unavailable\r\nConnection: close", "router", "")?;
        Ok(request::close(&client)?)
    }

    /// As [`Self::route`], in a thread of its own.
    fn begin(self: &Arc<Self>, client: TcpStream) {
        let router = Arc::clone(self);
        thread::spawn(move || {
            if let Err(e) = router.route(client) {
                eprintln!("{e}");
            }
        });
    }

    /// Takes the connections of targets that are emptied: the next request of each decides anew.
    fn take_back(self: &Arc<Self>) -> Result<(), Failure> {
        while let Some(offer) = self.application.next_offer(None)? {
            match offer.accept() {
                Ok(connection) => self.begin(connection.stream),
                // It goes on where it was.
                Err(e) => eprintln!("{e}"),
            }
        }
        Ok(())
    }
}

/// The port of a DVIPA, which several routers may share.
fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn serve(router: Router, listener: &TcpListener) -> io::Result<()> {
    let router = Arc::new(router);
    let back = Arc::clone(&router);
    thread::spawn(move || {
        if let Err(e) = back.take_back() {
            eprintln!("{e}");
        }
    });
    for client in listener.incoming() {
        router.begin(client?);
    }
    Ok(())
}

/// `[--read] PORT DVIPA… -- RULE…`: serves until something fails.
pub(crate) fn run(words: &[&str]) -> Result<(), Failure> {
    let (reads, words) = match words {
        ["--read", words @ ..] => (true, words),
        words => (false, words),
    };
    let (ends, rules) = words.split_at(words.iter().position(|w| *w == "--").unwrap_or(words.len()));
    let [port, dvipas @ ..] = ends else { return Err("say a port".into()) };
    let port = port.parse()?;
    let rules = rule::parse(rules)?;
    each(dvipas, move |dvipa| {
        let listener = listen(SocketAddr::new(dvipa, port))?;
        let registration = Registration::new("router", dvipa, &[port])?.listener(&listener)?;
        // On a stack that does not own the DVIPA this waits, and the listener takes no client.
        let application = RoutingApplication::register(&registration)?;
        let router = Router { application, port, rules: Arc::clone(&rules), reads };
        Ok(serve(router, &listener)?)
    })
}
