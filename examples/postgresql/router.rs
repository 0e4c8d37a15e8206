//! The routing application: reads what the client wants, and hands the connection to the server of its database.

use std::collections::HashMap;
use std::io::Write;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use app::{Registration, RoutingApplication, Target, Terms, wait};

use crate::Failure;
use crate::startup::{First, Wants};

/// A client has so long to say what it wants (the server's `authentication_timeout`).
const START_WITHIN: Duration = Duration::from_secs(60);
/// A client has acknowledged the answer to its wish for encryption within this time.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(5);
/// The clients whose last server is remembered.
const CLIENTS: usize = 65_536;
/// `invalid_catalog_name`, `cannot_connect_now`, `protocol_violation`.
const NO_DATABASE: &str = "3D000";
const NOT_NOW: &str = "57P03";
const NO_PROTOCOL: &str = "08P01";

/// The router of one DVIPA.
struct Router {
    application: RoutingApplication,
    databases: Arc<HashMap<String, Target>>,
    /// Where the last connection of each client's address went.
    last: Mutex<HashMap<IpAddr, Target>>,
}

impl Router {
    fn route(&self, mut client: TcpStream) -> Result<(), Failure> {
        client.set_read_timeout(Some(START_WITHIN))?;
        client.set_nodelay(true)?;
        let address = client.peer_addr()?.ip();
        while let Some(First { bytes, wants }) = First::read(&mut client)? {
            let target = match wants {
                Wants::Encryption => {
                    client.write_all(b"N")?;
                    continue;
                }
                Wants::Cancel => match self.last().get(&address) {
                    Some(target) => target.clone(),
                    None => return Ok(()),
                },
                Wants::Database(name) => match self.databases.get(&name) {
                    Some(target) => target.clone(),
                    None => {
                        let text = format!("database \"{name}\" does not exist");
                        return Ok(client.write_all(&fatal(NO_DATABASE, &text))?);
                    }
                },
                Wants::Other => {
                    let text = "the router knows version 3 of the protocol";
                    return Ok(client.write_all(&fatal(NO_PROTOCOL, text))?);
                }
            };
            return self.hand_over(client, address, target, &bytes);
        }
        Ok(())
    }

    /// The server reads the message as if nobody had read it before.
    fn hand_over(
        &self,
        client: TcpStream,
        address: IpAddr,
        target: Target,
        message: &[u8],
    ) -> Result<(), Failure> {
        let terms = Terms::new().give_back(message).unacknowledged(wait(ACKNOWLEDGED_WITHIN));
        self.remember(address, &target);
        if let Err(mut refused) = self.application.transfer(client, &target, &terms) {
            let text = format!("the server of this database can't be reached now: {}", refused.error);
            eprintln!("{target}: {}", refused.error);
            refused.stream.write_all(&fatal(NOT_NOW, &text))?;
        }
        Ok(())
    }

    fn remember(&self, address: IpAddr, target: &Target) {
        let mut last = self.last();
        if last.len() >= CLIENTS && !last.contains_key(&address) {
            last.clear();
        }
        last.insert(address, target.clone());
    }

    fn last(&self) -> MutexGuard<'_, HashMap<IpAddr, Target>> {
        // A thread that panicked in here has changed nothing half.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(dvipa: IpAddr, port: u16, databases: Arc<HashMap<String, Target>>) -> Result<(), Failure> {
    let application = RoutingApplication::register(&Registration::new("router", dvipa, &[port])?)?;
    let router = Arc::new(Router { application, databases, last: Mutex::default() });
    for client in TcpListener::bind((dvipa, port))?.incoming() {
        let (router, client) = (Arc::clone(&router), client?);
        thread::spawn(move || {
            if let Err(e) = router.route(client) {
                eprintln!("{e}");
            }
        });
    }
    Ok(())
}

/// `DVIPA… -- DATABASE=TARGET…`: serves until something fails.
pub(crate) fn run(port: u16, words: &[&str]) -> Result<(), Failure> {
    let (dvipas, databases) = words.split_at(words.iter().position(|w| *w == "--").unwrap_or(words.len()));
    let database = |word: &&str| -> Result<(String, Target), Failure> {
        let (name, target) = word.split_once('=').ok_or("a database is DATABASE=JOB@STACK")?;
        Ok((name.to_owned(), target.parse()?))
    };
    let databases: Arc<HashMap<_, _>> =
        Arc::new(databases.iter().skip(1).map(database).collect::<Result<_, _>>()?);
    let (outcome, outcomes) = mpsc::channel();
    for dvipa in dvipas {
        let (dvipa, databases, outcome) = (dvipa.parse()?, Arc::clone(&databases), outcome.clone());
        thread::spawn(move || outcome.send(serve(dvipa, port, databases)));
    }
    drop(outcome);
    outcomes.iter().collect()
}

/// An ErrorResponse that ends the connection. `code` is a SQLSTATE (PostgreSQL 15, appendix A).
fn fatal(code: &str, text: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C{code}\0M{text}\0\0");
    let length = u32::try_from(fields.len() + 4).unwrap_or(u32::MAX);
    [&b"E"[..], &length.to_be_bytes(), fields.as_bytes()].concat()
}
