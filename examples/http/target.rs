//! The target application: serves connections that are transferred to it, and moves them on in the middle of an answer.

use std::io::Write;
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::thread;

use app::{Connection, Error, Offer, Registration, TargetApplication, Terms, TransferError, Unacknowledged};

use crate::body::{Body, Way};
use crate::request::{self, Head};
use crate::rule::{self, Rule};
use crate::{ACKNOWLEDGED_WITHIN, Failure, each};

/// The job that rejects whatever it is offered.
const REJECT: &str = "reject";
/// The job that is not asked: connections are given to it, and it takes them (giveconnection, takeconnection).
const TAKEN: &str = "taken";

/// A target application of one DVIPA.
struct Server {
    application: TargetApplication,
    job: String,
    /// `JOB@STACK`.
    name: String,
    /// Which requests are for it; none: all are.
    rules: Arc<[Rule]>,
}

/// What is to be done with a connection.
type Work = Box<dyn FnOnce() -> Result<(), Failure> + Send>;

impl Server {
    /// Waits for the next connection.
    fn next(self: Arc<Self>) -> Result<Option<Work>, Error> {
        if self.job == TAKEN {
            let connection = self.application.take_connection(None)?;
            return Ok(connection.map(|connection| Box::new(move || self.has(connection)) as Work));
        }
        let offer = self.application.next_offer(None)?;
        Ok(offer.map(|offer| Box::new(move || self.offered(offer)) as Work))
    }

    fn offered(&self, offer: Offer) -> Result<(), Failure> {
        if self.job == REJECT {
            return Ok(offer.reject("this target rejects everything")?);
        }
        self.has(offer.accept()?)
    }

    /// Goes on with a connection that has come.
    fn has(&self, connection: Connection) -> Result<(), Failure> {
        let mut client = connection.stream;
        if let Some(state) = connection.state {
            let body = Body::from_state(&state).ok_or("this state is of another application")?;
            let Some(back) = self.carry(client, body)? else { return Ok(()) };
            client = back;
        }
        self.serve(client)
    }

    /// Answers one request after the other, until the client ends, requests something else or the connection is elsewhere.
    fn serve(&self, mut client: TcpStream) -> Result<(), Failure> {
        while let Some(head) = Head::peek(&client)? {
            if rule::of(&self.rules, &head).is_some_and(|rule| !rule.is_for(&self.job)) {
                let terms = Terms::new().unacknowledged(app::wait(ACKNOWLEDGED_WITHIN));
                match self.application.complete(client, &terms) {
                    Ok(()) => return Ok(()),
                    // Better this target's answer than none.
                    Err(TransferError { error, stream }) => {
                        eprintln!("{}: {error}", head.path());
                        client = stream;
                    }
                }
            }
            head.read(&mut client)?;
            let Some(body) = Body::requested(&head) else {
                let text = format!("{} has {}\n", self.name, head.path());
                request::answer(&mut client, "200 OK", &self.name, &text)?;
                continue;
            };
            if body.way == Way::Down {
                write!(
                    client,
                    "HTTP/1.1 200 OK\r\nServer: {}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
                    self.name, body.total
                )?;
            }
            let Some(back) = self.carry(client, body)? else { return Ok(()) };
            client = back;
        }
        Ok(())
    }

    /// Does this target's share of a body and moves the connection on; returns it after the last share.
    fn carry(&self, mut client: TcpStream, mut body: Body) -> Result<Option<TcpStream>, Failure> {
        loop {
            let from = body.at;
            body.go_on(&mut client)?;
            eprintln!("{} has carried {from}..{} of {}", self.name, body.at, body.total);
            if body.via.is_empty() {
                if let Way::Up { sum } = body.way {
                    let text = format!("{} bytes, {sum:016x}\n", body.total);
                    request::answer(&mut client, "200 OK", &self.name, &text)?;
                }
                return Ok(Some(client));
            }
            let next = body.via.remove(0);
            let state = body.to_state();
            // What the client has not acknowledged yet moves too.
            let terms = Terms::new().state(state.as_bytes()).unacknowledged(Unacknowledged::Carry);
            let moved = match next.job.as_str() {
                TAKEN => self.application.give_connection(client, &next, &terms),
                _ => self.application.transfer(client, &next, &terms),
            };
            match moved {
                Ok(()) => return Ok(None),
                Err(TransferError { error, stream }) => {
                    eprintln!("{next}: {error}");
                    client = stream;
                }
            }
        }
    }
}

fn serve(job: &str, port: u16, dvipa: IpAddr, hold_accepts: bool, rules: Arc<[Rule]>) -> Result<(), Failure> {
    let registration = Registration::new(job, dvipa, &[port])?.hold_accepts(hold_accepts);
    let application = TargetApplication::register(&registration)?;
    let name = format!("{job}@{}", application.stack()?);
    let server = Arc::new(Server { application, job: job.to_owned(), name, rules });
    loop {
        if let Some(work) = Arc::clone(&server).next()? {
            thread::spawn(move || work().inspect_err(|e| eprintln!("{e}")));
        }
    }
}

/// `[--hold-accepts] JOB PORT DVIPA… [-- RULE…]`: serves until something fails.
pub(crate) fn run(words: &[&str]) -> Result<(), Failure> {
    let (hold_accepts, words) = match words {
        ["--hold-accepts", words @ ..] => (true, words),
        words => (false, words),
    };
    let (words, rules) = words.split_at(words.iter().position(|w| *w == "--").unwrap_or(words.len()));
    let [job, port, dvipas @ ..] = words else { return Err("say a job and a port".into()) };
    let (job, port, rules) = ((*job).to_owned(), port.parse()?, rule::parse(rules)?);
    each(dvipas, move |dvipa| serve(&job, port, dvipa, hold_accepts, Arc::clone(&rules)))
}
