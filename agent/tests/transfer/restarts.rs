//! Transfers of one host, told by the test what a routing stack would say, and killed and started again between two words.

use std::collections::{BTreeMap, HashSet};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{IpAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Instant;

use baton_agent::control_socket::{self, ApplicationId, Applications, Event, Held, Moving, Rules, Settings};
use baton_agent::repair;
use baton_agent::transfers::dumps::Dumps;
use baton_agent::transfers::notes::{self, Notes};
use baton_agent::transfers::{Kernel, News, Transfers};
use channel::listener::Access;
use lab::spec::DVIPA;
use model::codec::WireConnection;
use model::control_socket::request::{Consent as Asks, Unacknowledged};
use model::control_socket::{RequestId, Target};
use model::message::{FromStack, Move, OrderId};
use model::transfer::{
    Abilities, Aborted, About, Consent, Done, Freeze, FromHost, FromSource, FromTarget, Held as Holds,
    Ledger, Offer, Part, Reason, Released, Request, ToHost, ToSource, ToTarget, TransferId, Way,
};
use model::{Connection, Dvipa, Epoch, StackName};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

use transfer::host::{Away, Standing};

use crate::bench::{Bench, connection_of};

const EPOCH: Epoch = Epoch(7);
const LEDGER: Ledger = Ledger(4);

/// Longer than a test.
const FOR_THE_TEST: std::time::Duration = std::time::Duration::from_secs(60);

fn stack(name: &str) -> StackName {
    name.parse().unwrap()
}

fn about(connection: Connection, number: u64) -> About {
    let transfer = TransferId { incarnation: 5, number };
    About { connection: WireConnection(connection), transfer, epoch: EPOCH }
}

fn aborted(about: About) -> ToSource {
    ToSource::Aborted(Aborted { about, why: Reason::Rejected.into(), request: None })
}

fn released(about: About) -> ToSource {
    ToSource::Released(Released { about })
}

/// The transfers of the first host, and what outlives them.
struct Agent<'a> {
    bench: &'a Bench,
    directory: tempfile::TempDir,
    dvipas: &'a HashSet<IpAddr>,
    runs: u64,
    transfers: Option<Transfers>,
    abilities: Option<Abilities>,
}

impl<'a> Agent<'a> {
    fn start(bench: &'a Bench, dvipas: &'a HashSet<IpAddr>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut agent = Self { bench, directory, dvipas, runs: 0, transfers: None, abilities: None };
        agent.start_again();
        agent
    }

    /// As after `kill -9`: what was in its memory is gone.
    fn start_again(&mut self) -> Vec<FromHost> {
        self.transfers = None;
        self.runs += 1;
        let (notes, left) = Notes::open(&self.notes()).unwrap();
        let ledger = notes.ledger();
        let dumps = Dumps::open(&self.directory.path().join("dumps"), ledger).unwrap();
        let settings = Settings {
            stack: stack("t1"),
            path: self.directory.path().join(format!("{}.sock", self.runs)),
            access: Access { mode: 0o600, group: None },
            users: None,
        };
        let applications = Applications::open(settings).unwrap();
        let able = self.bench.hosts[0].programs.abilities();
        let rules = Rules { own: 0, rules: Vec::new() };
        let (name, run) = (stack("t1"), self.runs);
        let mut transfers =
            Transfers::start(name, run, (notes, left), dumps, (applications, rules), &able, self.kernel());
        let owners = [(Dvipa::new(DVIPA.0.into()), (stack("rt1"), EPOCH))];
        transfers.owners(BTreeMap::from(owners), Instant::now());
        self.transfers = Some(transfers);
        self.act()
    }

    fn notes(&self) -> PathBuf {
        self.directory.path().join("notes")
    }

    fn notes_left(&self) -> usize {
        notes::count(&self.notes()).unwrap()
    }

    fn kernel(&self) -> Kernel<'a> {
        let maps = &self.bench.hosts[0].programs.maps;
        Kernel {
            freezes: &maps.freezes,
            admissions: &maps.admissions,
            conversations: &maps.conversations,
            listeners: &maps.listeners,
            dvipas: self.dvipas,
        }
    }

    fn transfers(&mut self) -> &mut Transfers {
        self.transfers.as_mut().unwrap()
    }

    /// What it says to the routing stack.
    fn act(&mut self) -> Vec<FromHost> {
        let kernel = self.kernel();
        self.transfers().act(kernel, Instant::now());
        let said = self.transfers().take_messages();
        let said = said.into_iter().filter_map(|(_, message)| match message {
            FromStack::Transfer(FromHost::Abilities(abilities)) => {
                self.abilities = Some(abilities);
                None
            }
            FromStack::Transfer(message) => Some(message),
            other => panic!("it says {other:?}"),
        });
        said.collect()
    }

    fn hear(&mut self, message: impl Into<ToHost>) {
        self.transfers().message(stack("rt1"), message.into(), Instant::now());
    }

    fn told(&mut self, message: impl Into<ToHost>) -> Vec<FromHost> {
        self.hear(message);
        self.act()
    }

    fn asked(&mut self, event: Event) {
        let kernel = self.kernel();
        let news = News::Application(ApplicationId(self.runs), event);
        self.transfers().hear(news, kernel, Instant::now());
    }

    /// The connection is asked to leave in this transfer, frozen and sent: it is in doubt.
    fn sends(&mut self, socket: &OwnedFd, about: About) -> Vec<Part> {
        self.asked(transfer(held(socket), u32::try_from(about.transfer.number).unwrap()));
        let said = self.act();
        let [FromHost::Source(FromSource::Prepare(prepare))] = &said[..] else { panic!("{said:?}") };
        self.freezes(about, prepare.request)
    }

    fn freezes(&mut self, about: About, request: Request) -> Vec<Part> {
        let said = self.told(ToSource::Freeze(Freeze { about, request, way: Way::Restore, ledger: LEDGER }));
        let parts = said.into_iter().map(|message| match message {
            FromHost::Source(FromSource::Part(part)) => part,
            other => panic!("it says {other:?}"),
        });
        let parts: Vec<_> = parts.collect();
        assert!(!parts.is_empty(), "it sends the connection");
        assert_eq!((self.notes_left(), self.kept_away(&about)), (1, Some(Away::Frozen)));
        parts
    }

    fn kept_away(&self, about: &About) -> Option<Away> {
        self.bench.hosts[0].programs.maps.freezes.away(&about.connection.0).unwrap()
    }

    /// What routing stacks are told of a connection by NEWCONN and TERMCONN.
    fn standing(&mut self, about: &About) -> Option<Standing> {
        let touched = self.transfers().take_touched();
        touched.into_iter().find(|(connection, _)| *connection == about.connection.0).map(|(_, s)| s)
    }
}

fn held(socket: &OwnedFd) -> Held {
    Held { socket: socket.try_clone().unwrap(), connection: connection_of(socket) }
}

fn transfer(held: Held, number: u32) -> Event {
    let to = Some(Target { stack: stack("t2"), job: "job".parse().unwrap() });
    let (consent, unacknowledged) = (Asks::Asked, Unacknowledged::Carry);
    let moving = Moving { held, to, consent, unacknowledged, state: None, given_back: Vec::new() };
    control_socket::Event::Transfer(RequestId(number), moving)
}

fn is_connected(socket: impl AsFd) -> bool {
    rustix::net::getpeername(socket).is_ok()
}

/// What an agent says when a transfer is over, and who has the connection.
fn done(about: About, held: Holds) -> [FromHost; 1] {
    [FromSource::Done(Done { about, held }).into()]
}

/// A connection of the client with the first host, and an agent there.
fn with_agent(test: impl AsyncFnOnce(&mut Agent<'_>, TcpStream, OwnedFd, About) + Send) {
    let bench = Bench::new();
    let (client, server) = bench.connect(DVIPA.0.into(), "0.0.0.0:0");
    let about = about(connection_of(&server), 1);
    let dvipas: HashSet<IpAddr> = [DVIPA.0.into(), DVIPA.1.into()].into();
    let (bench, dvipas) = (&bench, &dvipas);
    bench.hosts[0].namespace.enter(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { test(&mut Agent::start(bench, dvipas), client, server, about).await });
    });
}

/// The next one would inherit it together with the note of a later transfer of the same connection.
#[test]
#[ignore = "needs root"]
fn a_note_without_a_socket_is_erased_when_its_transfer_is_over() {
    for over in [released, aborted] {
        with_agent(async |agent, _client, server, about| {
            agent.sends(&server, about);
            // The agent is killed after it has disconnected the socket and before it has erased the note.
            drop(server);
            let said = agent.start_again();
            // It has no socket any more.
            assert!(matches!(&said[..], [FromHost::Source(FromSource::Doubt(_))]), "{said:?}");
            assert_eq!(agent.told(over(about)), done(about, Holds::Gone));
            assert_eq!(agent.notes_left(), 0);
        });
    }
}

/// The ring: the connection moves away, comes back and moves away again, and the agent is killed in both transfers.
#[test]
#[ignore = "needs root"]
fn an_agent_that_is_killed_again_asks_about_the_last_transfer_of_a_connection() {
    with_agent(async |agent, _client, server, first| {
        let state = agent.sends(&server, first);
        drop(server);
        agent.start_again();
        agent.told(released(first));
        // It comes back.
        let kernel = agent.kernel();
        let (connection, socket) = (first.connection.0, &state[0].bytes[..state[0].socket_bytes as usize]);
        let state = model::ConnectionState::decode(socket).unwrap();
        let server = repair::restore(state).unwrap().activate().unwrap();
        kernel.freezes.let_flow(&connection).unwrap();
        let second = about(connection, 2);
        agent.sends(&server, second);
        let said = agent.start_again();
        let asks: Vec<_> = said
            .iter()
            .map(|message| match message {
                FromHost::Source(FromSource::Doubt(doubt)) => doubt.about,
                other => panic!("it says {other:?}"),
            })
            .collect();
        assert_eq!(asks, [second]);
        assert_eq!(agent.told(aborted(first)), done(first, Holds::Unknown), "that is over for long");
        assert_eq!(agent.kept_away(&second), Some(Away::Frozen), "its fate is in doubt");
    });
}

/// A request that waits is not begun with the socket, the note and the asker of a transfer that has just ended.
#[test]
#[ignore = "needs root"]
fn a_transfer_begins_when_the_former_one_of_its_connection_is_over_for_everybody() {
    with_agent(async |agent, _client, server, about| {
        agent.sends(&server, about);
        let (connection, target, order) = (about.connection, stack("t2"), Some(OrderId(3)));
        let order = Move { connection, epoch: EPOCH, target, job: None, order, quiet_ms: None, next: None };
        agent.transfers().ordered(order);
        let found = agent.transfers().next().await;
        assert!(matches!(found, News::Found(..)));
        // Both are heard in one turn.
        agent.hear(aborted(about));
        let kernel = agent.kernel();
        agent.transfers().hear(found, kernel, Instant::now());
        let said = agent.act();
        assert_eq!((agent.notes_left(), agent.kept_away(&about)), (0, None), "it has thawed");
        // `act` panics if the operator is told that the application's transfer has failed.
        let words: Vec<_> = said.iter().map(FromHost::word).collect();
        assert_eq!(words, ["Done", "Prepare"]);
    });
}

/// Passes a descriptor to a socket from which nobody has received it: no process has it then.
fn on_its_way(socket: OwnedFd) -> UnixStream {
    let (sender, receiver) = UnixStream::pair().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut buffer = SendAncillaryBuffer::new(&mut space);
    let sockets = [socket.as_fd()];
    assert!(buffer.push(SendAncillaryMessage::ScmRights(&sockets)));
    rustix::net::sendmsg(&sender, &[IoSlice::new(b"s")], &mut buffer, SendFlags::empty()).unwrap();
    receiver
}

fn received(from: &UnixStream) -> OwnedFd {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut buffer = RecvAncillaryBuffer::new(&mut space);
    rustix::net::recvmsg(from, &mut [IoSliceMut::new(&mut [0])], &mut buffer, RecvFlags::empty()).unwrap();
    let all = buffer.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights.collect::<Vec<_>>()),
        _ => None,
    });
    all.unwrap().remove(0)
}

/// In whichever words its application asks, it is not told that the connection goes on here while that is in doubt.
#[test]
#[ignore = "needs root"]
fn an_application_whose_socket_was_not_found_brings_it_with_its_question() {
    for ask in [|held| Event::Resume(RequestId(9), held), |held| transfer(held, 9)] {
        with_agent(async move |agent, _client, server, about| {
            agent.sends(&server, about);
            let on_its_way = on_its_way(server);
            agent.start_again();
            let server = received(&on_its_way);
            agent.asked(ask(held(&server)));
            assert_eq!(agent.act(), [], "the former transfer is under way");
            assert_eq!(agent.kept_away(&about), Some(Away::Frozen));
            assert_eq!(agent.told(aborted(about)), done(about, Holds::Here));
            assert_eq!((agent.notes_left(), agent.kept_away(&about)), (0, None));
            assert!(!repair::wake(server.as_fd()).unwrap(), "it is in repair mode no longer");
        });
    }
}

/// It is another's until its application has asked: routing stacks do not hear that it is here, whichever run they ask.
#[test]
#[ignore = "needs root"]
fn a_socket_whose_application_has_not_asked_is_no_connection_of_this_host() {
    with_agent(async |agent, _client, server, about| {
        agent.sends(&server, about);
        agent.start_again();
        assert_eq!(agent.told(released(about)), done(about, Holds::Gone));
        assert_eq!(agent.standing(&about), Some(Standing::Moves));
        assert!(is_connected(&server), "its application can ask");
        agent.start_again();
        assert_eq!(agent.standing(&about), Some(Standing::Moves));
        agent.asked(Event::Resume(RequestId(9), held(&server)));
        assert_eq!(agent.act(), []);
        assert!(!is_connected(&server));
        assert_eq!(agent.standing(&about), Some(Standing::Elsewhere));
        assert_eq!(agent.kept_away(&about), Some(Away::Departed));
    });
}

/// A late copy of an offer, of a connection whose fate is in doubt.
#[test]
#[ignore = "needs root"]
fn a_void_offer_of_a_frozen_connection_lets_no_packet_of_it_in() {
    with_agent(async |agent, _client, server, first| {
        let parts = agent.sends(&server, first);
        let second = about(first.connection.0, 2);
        let Abilities { ledger, incarnation, .. } = agent.abilities.unwrap();
        let offer = Offer {
            about: second,
            source: stack("t2"),
            way: Way::Restore,
            consent: Consent::Presumed,
            ledger,
            job: None,
            application_bytes: 0,
            incarnation,
            giver: None,
        };
        assert_eq!(agent.told(ToTarget::Offer(offer)), []);
        for part in parts {
            agent.hear(ToTarget::Part(Part { about: second, ..part }));
        }
        let said = agent.act();
        assert!(matches!(&said[..], [FromHost::Target(FromTarget::Void(_))]), "{said:?}");
        assert_eq!(agent.kept_away(&first), Some(Away::Frozen));
    });
}

/// It may have been here before: its late packets draw no answer.
#[test]
#[ignore = "needs root"]
fn a_connection_that_was_about_to_come_back_has_departed_for_the_next_run() {
    with_agent(async |agent, _client, server, about| {
        let kernel = agent.kernel();
        let connection = about.connection.0;
        repair::discard(server).unwrap();
        // The former run was killed with the socket that it had restored.
        kernel.freezes.keep_away(&connection, Away::Frozen, FOR_THE_TEST).unwrap();
        agent.start_again();
        assert_eq!(agent.kept_away(&about), Some(Away::Departed));
    });
}

/// A void transfer's silent socket is in its application's hands, and the run that was to see to it was killed too: another host has
/// the connection.
#[test]
#[ignore = "needs root"]
fn a_silent_socket_of_a_frozen_connection_without_a_note_is_never_woken() {
    with_agent(async |agent, _client, server, about| {
        let kernel = agent.kernel();
        kernel.freezes.keep_away(&about.connection.0, Away::Frozen, FOR_THE_TEST).unwrap();
        repair::silence(server.as_fd()).unwrap();
        agent.start_again();
        assert!(!is_connected(&server), "it is disconnected without a packet");
        assert_eq!(agent.kept_away(&about), Some(Away::Departed));
    });
}
