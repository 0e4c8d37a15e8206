//! The routing application: looks at a client's first request and moves the connection to whom it is for.

use std::io::{self, Read};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use app::{JobName, Registration, RoutingApplication, StackName, Target, Terms};

use crate::request::{self, Head};
use crate::{Failure, each};

/// What a request must say to be for a job.
enum Condition {
    Host(String),
    Path(String),
    Cookie(String, String),
    Always,
}

/// Who serves which requests.
struct Rule {
    job: JobName,
    /// Only on this stack.
    stack: Option<StackName>,
    condition: Condition,
}

impl Rule {
    fn parse(text: &str) -> Result<Self, Failure> {
        let (job, condition) = text.split_once('=').map_or((text, None), |(job, rest)| (job, Some(rest)));
        let condition = match condition.map(|c| c.split_once(':').unwrap_or((c, ""))) {
            None => Condition::Always,
            Some(("host", name)) => Condition::Host(name.to_owned()),
            Some(("path", prefix)) => Condition::Path(prefix.to_owned()),
            Some(("cookie", pair)) => {
                let (name, value) = pair.split_once('=').ok_or("cookie:NAME=VALUE")?;
                Condition::Cookie(name.to_owned(), value.to_owned())
            }
            Some((other, _)) => return Err(format!("no condition `{other}`: host, path, cookie").into()),
        };
        let (job, stack) = job.split_once('@').map_or((job, None), |(job, stack)| (job, Some(stack)));
        Ok(Self { job: JobName::new(job)?, stack: stack.map(StackName::new).transpose()?, condition })
    }

    fn names(&self, target: &Target) -> bool {
        target.job == self.job && self.stack.as_ref().is_none_or(|stack| *stack == target.stack)
    }

    fn holds(&self, head: &Head) -> bool {
        match &self.condition {
            Condition::Host(name) => {
                head.header("host").is_some_and(|h| h.rsplit_once(':').map_or(h, |(host, _)| host) == name)
            }
            Condition::Path(prefix) => head.path().starts_with(prefix),
            Condition::Cookie(name, value) => head.cookie(name) == Some(value),
            Condition::Always => true,
        }
    }
}

/// The router of one DVIPA.
struct Router {
    application: RoutingApplication,
    port: u16,
    rules: Arc<[Rule]>,
    /// Requests are read and given back, not only looked at.
    reads: bool,
    /// Counts up, so that the targets of a job take turns.
    turn: AtomicUsize,
}

impl Router {
    /// Decides where a client goes. Whoever refuses it is passed over.
    fn route(&self, mut client: TcpStream) -> Result<(), Failure> {
        let mut read = Vec::new();
        let head = if self.reads { request::look(&mut client, &mut read)? } else { Head::peek(&client)? };
        let Some(head) = head else { return Ok(()) };
        if let Some(rule) = self.rules.iter().find(|rule| rule.holds(&head)) {
            let mut targets = self.application.targets(self.port)?;
            targets.retain(|target| rule.names(target));
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % targets.len().max(1);
            targets.rotate_left(turn);
            for target in targets {
                match self.application.transfer(client, &target, &Terms::new().give_back(&read)) {
                    Ok(()) => return Ok(()),
                    Err(refused) => {
                        eprintln!("{target}: {refused}");
                        client = refused.stream;
                    }
                }
            }
        }
        // A close with unread bytes would be a reset.
        if !self.reads {
            client.read_exact(&mut vec![0; head.len()])?;
        }
        Ok(request::answer(&mut client, "503 Service Unavailable\r\nConnection: close", "router", "")?)
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

fn serve(router: Router, dvipa: IpAddr) -> io::Result<()> {
    let router = Arc::new(router);
    let back = Arc::clone(&router);
    thread::spawn(move || {
        if let Err(e) = back.take_back() {
            eprintln!("{e}");
        }
    });
    for client in TcpListener::bind((dvipa, router.port))?.incoming() {
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
    let rules: Arc<[Rule]> = rules.iter().skip(1).map(|r| Rule::parse(r)).collect::<Result<_, _>>()?;
    each(dvipas, move |dvipa| {
        let application = RoutingApplication::register(&Registration::new("router", dvipa, &[port])?)?;
        let (rules, turn) = (Arc::clone(&rules), AtomicUsize::new(0));
        let router = Router { application, port, rules, reads, turn };
        Ok(serve(router, dvipa)?)
    })
}
