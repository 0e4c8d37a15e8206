//! The routing application: speaks IMAP until it knows the user, then hands the connection to the host of the mailbox.

use std::collections::HashMap;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use app::{Choice, JobName, Registration, RoutingApplication, Terms, TransferError, wait};

use crate::Failure;
use crate::command::{Client, Command};

/// The client has acknowledged what it was told within this time, or is told to try again.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(2);

/// Who a user is, and which job has the mailbox.
struct User {
    password: String,
    job: JobName,
}

struct Router {
    application: RoutingApplication,
    port: u16,
    users: HashMap<String, User>,
}

/// Serves until something fails. A user is `USER:PASSWORD=JOB`.
pub(crate) fn run(port: u16, dvipa: IpAddr, users: &[&str]) -> Result<(), Failure> {
    let users = users.iter().map(|text| user(text)).collect::<Result<_, _>>()?;
    let application = RoutingApplication::register(&Registration::new("router", dvipa, &[port])?)?;
    let router = Arc::new(Router { application, port, users });
    for stream in TcpListener::bind((dvipa, port))?.incoming() {
        let (router, client) = (Arc::clone(&router), Client { stream: stream?, ahead: Vec::new() });
        thread::spawn(move || {
            if let Err(e) = router.talk(client) {
                eprintln!("{e}");
            }
        });
    }
    Ok(())
}

fn user(text: &str) -> Result<(String, User), Failure> {
    let parts = text.split_once(':').and_then(|(name, rest)| Some((name, rest.rsplit_once('=')?)));
    let (name, (password, job)) = parts.ok_or("a user is USER:PASSWORD=JOB")?;
    Ok((name.to_owned(), User { password: password.to_owned(), job: JobName::new(job)? }))
}

impl Router {
    fn talk(&self, mut client: Client) -> Result<(), Failure> {
        client.say("* OK [CAPABILITY IMAP4rev1] who are you?\r\n")?;
        while let Some(Command { tag, name, words }) = client.command()? {
            match (name.as_str(), words.as_slice()) {
                ("CAPABILITY", []) => {
                    client.say(&format!("* CAPABILITY IMAP4rev1\r\n{tag} OK done\r\n"))?;
                }
                ("NOOP", []) => client.say(&format!("{tag} OK done\r\n"))?,
                ("LOGOUT", []) => return Ok(client.say(&format!("* BYE\r\n{tag} OK done\r\n"))?),
                ("LOGIN", [name, password]) => match self.users.get(name) {
                    Some(user) if user.password == *password => {
                        let Some(back) = self.hand_over(client, &tag, name, &user.job)? else {
                            return Ok(());
                        };
                        client = back;
                        client.say(&format!("{tag} NO [UNAVAILABLE] no host has your mailbox now\r\n"))?;
                    }
                    _ => client.say(&format!("{tag} NO [AUTHENTICATIONFAILED] who?\r\n"))?,
                },
                _ => client.say(&format!("{tag} BAD first say LOGIN\r\n"))?,
            }
        }
        Ok(())
    }

    /// Moves the connection to a host that has the user's mailbox, which answers the login; returns it if none takes it.
    fn hand_over(
        &self,
        client: Client,
        tag: &str,
        user: &str,
        job: &JobName,
    ) -> Result<Option<Client>, Failure> {
        let Client { mut stream, ahead } = client;
        let state = [format!("{tag} {user}\n").as_bytes(), &ahead].concat();
        let terms = Terms::new().state(&state).unacknowledged(wait(ACKNOWLEDGED_WITHIN));
        let (client, mut tried) = (stream.peer_addr()?, Vec::new());
        loop {
            let choice = Choice::of(std::slice::from_ref(job)).besides(&tried);
            let target = match self.application.choose(self.port, client, &choice) {
                Ok(target) => target,
                Err(none) => {
                    eprintln!("{user}: {none}");
                    break;
                }
            };
            match self.application.transfer(stream, &target, &terms) {
                Ok(()) => return Ok(None),
                Err(TransferError::<TcpStream> { error, stream: back }) => {
                    eprintln!("{target}: {error}");
                    stream = back;
                    tried.push(target);
                }
            }
        }
        Ok(Some(Client { stream, ahead }))
    }
}
