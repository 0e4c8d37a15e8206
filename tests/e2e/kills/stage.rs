//! A cluster in which one connection moves from t1 to t2 while a process dies, and others beside it do not move.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use lab::client::HttpConnection;
use lab::spec::{DVIPA, RoutingNode};
use lab::{Lab, Spec};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::{self, SOON, established, web4, web6};
use crate::takeover::wait_for_owner;
use crate::transfer::{start_target, wait_for_state};

/// Half of it is sent by each target.
const DOWNLOAD_BYTES: usize = 512 * 1024;
/// How long the victim is dead.
const DEAD: Duration = Duration::from_millis(200);
/// A download that gets nothing for so long is stuck.
const STUCK: Duration = Duration::from_secs(40);
/// How often a transfer is tried again that does not begin: an application that was just started is not a target yet.
const TRIES: usize = 100;

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Victim {
    RoutingStack,
    SourceAgent,
    TargetAgent,
    SourceApplication,
    TargetApplication,
}

impl Victim {
    pub(crate) const ALL: [Self; 5] = [
        Self::RoutingStack,
        Self::SourceAgent,
        Self::TargetAgent,
        Self::SourceApplication,
        Self::TargetApplication,
    ];

    fn program(self) -> &'static str {
        match self {
            Self::RoutingStack => "batond",
            Self::SourceAgent => "agent-t1",
            Self::TargetAgent => "agent-t2",
            Self::SourceApplication => "files@t1",
            Self::TargetApplication => "files@t2",
        }
    }

    fn is_application(self) -> bool {
        matches!(self, Self::SourceApplication | Self::TargetApplication)
    }

    fn restart(self, lab: &Lab) {
        match self {
            Self::RoutingStack => lab.start_batond().expect("it starts"),
            Self::SourceAgent => lab.start_agent("t1").expect("it starts"),
            Self::TargetAgent => lab.start_agent("t2").expect("it starts"),
            Self::SourceApplication | Self::TargetApplication => start(lab, self.program()),
        }
    }
}

/// What became of the download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is whole, and its connection at the target.
    Moved,
    /// It is whole, and its connection where it was.
    Stayed,
    /// It is whole, and its connection has ended with its application.
    Ended,
    /// It is not whole.
    Lost(String),
}

impl Outcome {
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Stayed => "stayed",
            Self::Ended => "ended",
            Self::Lost(_) => "lost",
        }
    }
}

/// The cluster.
pub(crate) struct Stage {
    lab: Lab,
    content: Vec<u8>,
    /// With whom each is.
    bystanders: RefCell<Vec<(HttpConnection, String)>>,
    plays: Cell<usize>,
}

fn start(lab: &Lab, application: &str) {
    let (job, stack) = application.split_once('@').expect("JOB@STACK");
    let (v4, v6) = (DVIPA.0.to_string(), DVIPA.1.to_string());
    lab.start_application(stack, application, &["http", "target", job, "80", &v4, &v6]).expect("it starts");
}

impl Stage {
    /// Sets it.
    pub(crate) fn set() -> Self {
        Self::on(Spec::content_routed())
    }

    /// Sets it in such a lab.
    pub(crate) fn on(spec: Spec) -> Self {
        let lab = fixture::lab(Spec { targets: 2, ..spec });
        let (v4, v6) = (DVIPA.0.to_string(), DVIPA.1.to_string());
        let rules = ["still@t1=path:/still1", "still@t2=path:/still2", "files@t1"];
        let router = [&["http", "router", "80", &v4, &v6, "--"], &rules[..]].concat();
        lab.start_application("rt1", "router", &router).expect("the router starts");
        lab.wait_for_targets(80, &["rt1"]).unwrap_or_else(|e| panic!("{e}"));
        for application in ["still@t1", "still@t2", "files@t1", "files@t2"] {
            start_target(&lab, application);
        }
        let example = lab.example("http").expect("it is built");
        let content =
            std::process::Command::new(example).args(["content", &DOWNLOAD_BYTES.to_string()]).output();
        let content = content.expect("the example runs").stdout;
        let stage = Self { lab, content, bystanders: RefCell::default(), plays: Cell::default() };
        for to in [web4(), web6()] {
            for (path, who) in [("/still1", "still@t1"), ("/still2", "still@t2")] {
                let bystander = stage.connect(to, path, who);
                stage.bystanders.borrow_mut().push((bystander, who.to_owned()));
            }
        }
        stage
    }

    /// Has a connection move, a program stand still before a step of that, and the victim die there.
    pub(crate) fn play(&self, program: &str, step: &str, victim: Victim) -> Outcome {
        let lab = &self.lab;
        self.plays.set(self.plays.get() + 1);
        let to = if self.plays.get().is_multiple_of(2) { web6() } else { web4() };
        let (download, client) = self.halt(to, program, step);
        lab.kill(victim.program()).expect("it is killed");
        lab.go_on(program);
        thread::sleep(DEAD);
        victim.restart(lab);
        let (stream, got) = download.join().expect("the download does not panic");
        let outcome = match got {
            Ok(()) => self.whereabouts(&client, victim),
            Err(e) => Outcome::Lost(e.to_string()),
        };
        drop(stream);
        self.wait_until_all_are_back();
        self.assert_bystanders_stand();
        outcome
    }

    /// As [`Self::play`] with the routing stack, in whose place another routing node goes on: the transfer ends there.
    pub(crate) fn play_takeover(&self, step: &str) -> Outcome {
        let (lab, owner, backup) = (&self.lab, RoutingNode::First, RoutingNode::Second);
        wait_for_owner(lab, owner, &[backup]);
        self.plays.set(self.plays.get() + 1);
        let to = if self.plays.get().is_multiple_of(2) { web6() } else { web4() };
        let (download, client) = self.halt(to, owner.batond(), step);
        lab.kill(owner.batond()).expect("it is killed");
        lab.go_on(owner.batond());
        wait_for_owner(lab, backup, &[]);
        let (stream, got) = download.join().expect("the download does not panic");
        let outcome = match got {
            Ok(()) => self.whereabouts_at(backup, &client, Victim::RoutingStack),
            Err(e) => Outcome::Lost(e.to_string()),
        };
        self.assert_bystanders_stand();
        lab.start_batond_of(owner).expect("it starts");
        wait_for_owner(lab, owner, &[backup]);
        drop(stream);
        self.wait_until_all_are_back();
        self.assert_bystanders_stand();
        outcome
    }

    /// Has a connection be on its way to its application, in a Unix socket, while the agent that sent it is killed and started
    /// again.
    pub(crate) fn play_in_flight(&self) -> Outcome {
        let (lab, agent, application) = (&self.lab, "agent-t2", "files@t2");
        let (download, client) = self.halt(web4(), agent, "target.pass");
        self.signal(application, Signal::SIGSTOP);
        lab.halt_at(agent, "target.Active").expect("it can be told");
        // Not `go_on`, which would take the next step back too.
        std::fs::remove_file(lab.files().join(format!("halt-{agent}.reached"))).expect("it stands still");
        let is_halted = || if lab.is_halted(agent) { Ok(()) } else { Err("it goes on".to_owned()) };
        lab.wait_for("the agent to stand still again", SOON, is_halted).unwrap_or_else(|e| panic!("{e}"));
        lab.kill(agent).expect("it is killed");
        lab.go_on(agent);
        lab.start_agent("t2").expect("it starts");
        lab.wait_for("the agent to await the application", SOON, || {
            let status = lab.agent("t2").map_err(|e| e.to_string())?;
            if status["transfers"]["awaited"] == 1 { Ok(()) } else { Err(status["transfers"].to_string()) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
        self.signal(application, Signal::SIGCONT);
        let (stream, got) = download.join().expect("the download does not panic");
        let outcome = match got {
            Ok(()) => self.whereabouts(&client, Victim::TargetAgent),
            Err(e) => Outcome::Lost(e.to_string()),
        };
        drop(stream);
        outcome
    }

    fn signal(&self, program: &str, signal: Signal) {
        let id = self.lab.id_of(program).expect("it runs");
        kill(Pid::from_raw(id.try_into().expect("a process")), signal).expect("it is signalled");
    }

    /// Until everybody knows of everybody who lives, and how the last transfer ended.
    fn wait_until_all_are_back(&self) {
        for stack in ["t1", "t2"] {
            self.lab.wait_for_session(stack, "up").unwrap_or_else(|e| panic!("{e}"));
            let is_back = || {
                let agent = self.lab.agent(stack).map_err(|e| e.to_string())?;
                let reports = agent["routing_stacks"]["rt1"]["session"] == "reporting";
                let moving = ["leaving", "coming", "frozen"].map(|what| agent["transfers"][what] == 0);
                if reports && moving == [true; 3] { Ok(()) } else { Err(agent.to_string()) }
            };
            self.lab
                .wait_for(&format!("{stack} to be back"), SOON, is_back)
                .unwrap_or_else(|e| panic!("{e}"));
            wait_for_state(&self.lab, stack, "transfer-only");
        }
    }

    /// A download that stands still because this program does, and its client's address.
    fn halt(
        &self,
        to: SocketAddr,
        program: &str,
        step: &str,
    ) -> (thread::JoinHandle<(TcpStream, io::Result<()>)>, String) {
        for _ in 0..TRIES {
            let connection = self.connect(to, "/", "files@t1");
            established(&self.lab, &connection);
            let client = connection.local().to_string();
            self.lab.halt_at(program, step).expect("it can be told");
            let (mut stream, content) = (connection.into_stream(), self.content.clone());
            let download = thread::spawn(move || {
                let got = download(&mut stream, &content);
                (stream, got)
            });
            while !download.is_finished() {
                if self.lab.is_halted(program) {
                    return (download, client);
                }
                thread::sleep(Duration::from_millis(1));
            }
            self.lab.go_on(program);
            thread::sleep(Duration::from_millis(50));
        }
        panic!("no transfer comes to {step}: programs with debug assertions are needed");
    }

    /// A connection of the client that `who` answers.
    fn connect(&self, to: SocketAddr, path: &str, who: &str) -> HttpConnection {
        let tried = Instant::now();
        loop {
            let asked = HttpConnection::open(self.lab.client(), to).and_then(|mut connection| {
                let answer = connection.get(path)?;
                Ok((connection, String::from_utf8_lossy(&answer).into_owned()))
            });
            match asked {
                Ok((connection, answer)) if answer.starts_with(who) => return connection,
                other => assert!(tried.elapsed() < 3 * SOON, "no answer of {who}: {other:?}"),
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where a connection is whose download is whole.
    fn whereabouts(&self, client: &str, victim: Victim) -> Outcome {
        self.whereabouts_at(RoutingNode::First, client, victim)
    }

    fn whereabouts_at(&self, node: RoutingNode, client: &str, victim: Victim) -> Outcome {
        let found = self.lab.wait_for("the transfer to be over", 3 * SOON, || {
            let rows = self.lab.crt_at(node, &[]).map_err(|e| e.to_string())?;
            let row = rows.iter().find(|row| row.client == client);
            match row.map(|row| (row.stack.as_str(), row.state.as_str())) {
                Some(("t2", "established")) => Ok(Outcome::Moved),
                Some((_, "established")) => Ok(Outcome::Stayed),
                None | Some((_, "closing")) if victim.is_application() => Ok(Outcome::Ended),
                Some(_) | None => Err(format!("{rows:#?}")),
            }
        });
        found.unwrap_or_else(|e| panic!("{e}"))
    }

    fn assert_bystanders_stand(&self) {
        for (connection, who) in self.bystanders.borrow_mut().iter_mut() {
            let answer = connection.get("/").unwrap_or_else(|e| panic!("a bystander of {who}: {e}"));
            assert!(
                String::from_utf8_lossy(&answer).starts_with(who.as_str()),
                "a bystander stays where it is"
            );
        }
    }
}

/// Requests a download that moves on to t2, and checks every byte.
fn download(stream: &mut TcpStream, wanted: &[u8]) -> io::Result<()> {
    stream.set_read_timeout(Some(STUCK))?;
    write!(stream, "GET /download/{DOWNLOAD_BYTES}?via=files@t2 HTTP/1.1\r\nHost: lab\r\n\r\n")?;
    let (mut got, mut piece) = (Vec::new(), [0; 64 * 1024]);
    loop {
        let head = got.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
        let body = head.and_then(|head| got.get(head..)).unwrap_or_default();
        if !wanted.starts_with(body) {
            return Err(io::Error::other("another byte than the one that was wanted"));
        }
        if body.len() == wanted.len() {
            return Ok(());
        }
        let bytes = stream.read(&mut piece)?;
        if bytes == 0 {
            return Err(io::Error::other(format!("the end after {} bytes", body.len())));
        }
        got.extend(&piece[..bytes]);
    }
}
