//! Applications whose connections move whenever their clients ask for it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc;

use app::asynchronous::{Application, RoutingApplication, TargetApplication};
use app::{Registration, Target, Terms};
use lab::Lab;
use lab::spec::{self, DVIPA, Spec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

use super::Failure;
use super::inhabitant::Inhabitant;

/// The content-routed port.
const MOVED: u16 = 80;
/// A port whose connections stay where they were accepted, which is at `t1`.
const UNMOVED: u16 = 81;

/// A client asks to be answered.
pub(super) const ANSWER: u8 = b'a';
/// A client asks to be answered from the other target.
pub(super) const MOVE: u8 = b'm';
/// The answer to a client whose connection could not be moved.
pub(super) const STAYED: u8 = b's';

/// Where clients find connections that move.
pub(super) fn moved() -> SocketAddr {
    (DVIPA.0, MOVED).into()
}

/// Where clients find connections that stay.
pub(super) fn unmoved() -> SocketAddr {
    (DVIPA.0, UNMOVED).into()
}

/// A cluster in which connections move to and fro between two targets, one application on each.
pub(super) struct Movers {
    // Dropped before the lab.
    _applications: Vec<Inhabitant>,
    pub(super) lab: Lab,
}

impl Movers {
    /// Builds it and waits until clients are served.
    pub(super) fn start() -> Result<Self, Failure> {
        let ports = [
            format!("ports = [{MOVED}]\ndestip = \"all\"\ncontent_routed = true"),
            format!("ports = [{UNMOVED}]\ndestip = [\"t1\"]\nmethod = \"round-robin\""),
        ];
        let vipadynamic = spec::ipv4_only(&ports.each_ref().map(String::as_str));
        let spec = Spec { targets: 2, one_worker: true, ..Spec::content_routed() };
        let lab = Lab::start(spec.vipadynamic(vipadynamic))?;
        let mut applications = Vec::new();
        for (stack, other) in [("t1", "t2"), ("t2", "t1")] {
            applications.push(start(&lab, stack, move |socket, ready| target(socket, other, ready))?);
        }
        applications.push(start(&lab, "rt1", router)?);
        lab.wait_for_targets(MOVED, &["rt1"])?;
        lab.wait_for_targets(UNMOVED, &["t1"])?;
        Ok(Self { _applications: applications, lab })
    }
}

type Ready = mpsc::Sender<()>;

/// Starts an application on a stack and waits until it is registered.
fn start<F>(
    lab: &Lab,
    stack: &str,
    work: impl FnOnce(PathBuf, Ready) -> F + Send + 'static,
) -> Result<Inhabitant, Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let (ready, registered) = mpsc::channel();
    let socket = lab.applications(stack);
    let inhabitant = Inhabitant::start(lab.host(stack), move || work(socket, ready));
    registered.recv().map_err(|_| format!("no application on {stack}"))?;
    Ok(inhabitant)
}

fn registration(socket: PathBuf, job: &str) -> Result<Registration, Failure> {
    Ok(Registration::new(job, DVIPA.0.into(), &[MOVED])?.socket(socket))
}

/// Accepts clients and moves each to `t1` once it has said something.
async fn router(socket: PathBuf, ready: Ready) -> Result<(), Failure> {
    let application = Rc::new(RoutingApplication::register(&registration(socket, "router")?).await?);
    let listener = TcpListener::bind(moved()).await?;
    ready.send(())?;
    loop {
        let (mut client, _) = listener.accept().await?;
        let application = Rc::clone(&application);
        spawn_local(async move {
            if client.read_u8().await.is_ok() {
                go(&application, client, "t1").await;
            }
        });
    }
}

/// Serves connections that come, and those of the port that stay here.
async fn target(socket: PathBuf, other: &'static str, ready: Ready) -> Result<(), Failure> {
    let application = Rc::new(TargetApplication::register(&registration(socket, "mover")?).await?);
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, UNMOVED)).await?;
    ready.send(())?;
    loop {
        tokio::select! {
            offer = application.next_offer() => {
                let (offer, application) = (offer?, Rc::clone(&application));
                spawn_local(async move {
                    // The connection may have ended meanwhile.
                    let Ok(connection) = offer.accept().await else { return };
                    serve(&application, connection.stream, other, Some(MOVE)).await;
                });
            }
            accepted = listener.accept() => {
                let (client, application) = (accepted?.0, Rc::clone(&application));
                spawn_local(async move { serve(&application, client, other, None).await });
            }
        }
    }
}

/// Answers, at first with what is owed, until the client ends or its connection is elsewhere.
async fn serve(application: &Application, mut client: TcpStream, other: &str, owed: Option<u8>) {
    let _ = client.set_nodelay(true);
    let mut answer = owed;
    loop {
        if let Some(answer) = answer.take()
            && client.write_u8(answer).await.is_err()
        {
            return;
        }
        match client.read_u8().await {
            Ok(MOVE) => match go(application, client, other).await {
                Some(back) => (client, answer) = (back, Some(STAYED)),
                None => return,
            },
            Ok(asked) => answer = Some(asked),
            Err(_) => return,
        }
    }
}

/// Moves a connection; gives it back if it stays.
async fn go(application: &Application, client: TcpStream, stack: &str) -> Option<TcpStream> {
    let job = app::JobName::new("mover").ok()?;
    let to = Target { job, stack: stack.parse().ok()? };
    match application.transfer(client, &to, &Terms::new()).await {
        Ok(()) => None,
        Err(refused) => {
            eprintln!("a connection does not move to {to}: {}", refused.error);
            Some(refused.stream)
        }
    }
}
