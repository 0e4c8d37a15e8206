//! What a host's kernel, notes and applications are to connections that move: the [`Kernel`] of the machine that agents run. Clients have
//! always acknowledged everything, and no packet that makes a connection is dropped: the simulation of `transfer/` has what goes wrong
//! there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use agent::machine::Event as AgentEvent;
use model::connection_state::{ConnectionState, Phase, ReceiveQueue, SocketFamily};
use model::control_socket::RequestId;
use model::handoff::Token;
use model::transfer::{FromHost, Reason, TransferId, Why};
use model::{Connection, StackName};
use transfer::giving;
use transfer::host::{
    Activity, ApplicationId, Arrival, Asker, Away, Dump, Found, Handle, Kept, Kernel, Left, NotRestored,
    Note, Place, Queues, Stand, Subject, Voided,
};
use transfer::taking::{self, Standing};

use super::host::{Kernel as Sockets, Socket};

/// What a host has of connections that move, and what outlives its agent.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Sockets in repair mode.
    silent: BTreeSet<Connection>,
    /// Connections whose packets are kept away.
    away: BTreeMap<Connection, Away>,
    leaving: BTreeMap<Connection, (giving::Note, Instant)>,
    coming: BTreeMap<TransferId, (taking::Note, Option<Standing>)>,
    admissions: BTreeMap<Connection, Admission>,
    /// What the applications have asked, by the number of the request.
    asked: Vec<Connection>,
    /// Applications have asked for these to be moved to that host, and wait.
    waits: BTreeMap<Connection, StackName>,
    /// Applications were given these silent descriptors, and have not been told yet that the connections are theirs.
    untold: BTreeSet<Connection>,
}

#[derive(Clone, Copy, Debug)]
struct Admission {
    token: Token,
    admits: Admits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admits {
    /// The packet that has its token.
    Packet,
    /// One has come.
    Made,
    /// None any more.
    Nothing,
}

/// What ends with the agent's process.
#[derive(Debug, Default)]
pub(super) struct Process {
    /// Sockets that were restored and not given to an application for good.
    restored: BTreeMap<TransferId, Connection>,
    /// What was read last.
    read: Option<Connection>,
    /// Offers that applications have not answered.
    pub(super) offers: Vec<TransferId>,
    /// What has been in an application's control socket since the agent looked last.
    pub(super) passed: Vec<TransferId>,
    /// What the kernel has told of sockets that the transfers have changed.
    pub(super) told: Vec<AgentEvent>,
    /// How many connections have moved away.
    pub(super) moved: u64,
    /// What the transfers have said.
    pub(super) sent: Vec<(StackName, FromHost)>,
}

/// The host as its agent works on it.
pub(super) struct Hands<'a> {
    pub(super) kernel: &'a mut Sockets,
    pub(super) process: &'a mut Process,
}

impl Moves {
    /// Whether something is being done to the connection here.
    pub(super) fn concern(&self, connection: &Connection) -> bool {
        self.silent.contains(connection)
            || self.away(connection).is_some_and(|away| away != Away::Departed)
            || self.waits.contains_key(connection)
            || self.untold.contains(connection)
    }

    pub(super) fn away(&self, connection: &Connection) -> Option<Away> {
        self.away.get(connection).copied()
    }

    /// Whether its socket here serves its client.
    pub(super) fn serves(&self, connection: &Connection) -> bool {
        !self.silent.contains(connection) && !self.away.contains_key(connection)
    }

    /// An application asks for the connection to be moved.
    pub(super) fn ask(&mut self, connection: Connection, to: StackName) -> (ApplicationId, RequestId) {
        self.waits.insert(connection, to);
        self.request(connection)
    }

    fn request(&mut self, connection: Connection) -> (ApplicationId, RequestId) {
        let number = u64::try_from(self.asked.len()).expect("few requests");
        self.asked.push(connection);
        (ApplicationId(number), RequestId(1))
    }

    /// Applications whose agent has ended ask the next one: what became of what they had asked for, and whether what they were given is
    /// theirs.
    pub(super) fn ask_again(&mut self) -> [Vec<(ApplicationId, RequestId, Connection)>; 2] {
        let waits: Vec<Connection> = self.waits.keys().copied().collect();
        let untold: Vec<Connection> = self.untold.iter().copied().collect();
        let mut again = |connection: Connection| {
            let (application, request) = self.request(connection);
            (application, request, connection)
        };
        [waits, untold].map(|all| all.into_iter().map(&mut again).collect())
    }

    /// The hosts that this one moves connections to or from, if it moves this connection.
    pub(super) fn others(&self, connection: &Connection) -> BTreeSet<StackName> {
        let noted = self.leaving.get(connection).map(|(note, _)| note.target.clone());
        let to = noted.into_iter().chain(self.waits.get(connection).cloned());
        let from = self.coming.values().filter(|(note, _)| note.connection == *connection);
        to.chain(from.map(|(note, _)| note.source.clone())).collect()
    }

    /// Connections that are being moved.
    pub(super) fn moving(&self) -> impl Iterator<Item = &Connection> {
        let coming = self.coming.values().map(|(note, _)| &note.connection);
        self.leaving.keys().chain(self.waits.keys()).chain(coming)
    }

    /// A packet with this token arrives; whether it makes the connection.
    pub(super) fn claim(&mut self, connection: &Connection, token: Token) -> bool {
        let Some(admission) = self.admissions.get_mut(connection) else { return false };
        let claims = admission.token == token && admission.admits == Admits::Packet;
        if claims {
            admission.admits = Admits::Made;
            self.away.remove(connection);
        }
        claims
    }

    /// A fault: connections that are frozen are so no more.
    pub(super) fn thaw_all(&mut self) {
        for connection in self.leaving.keys() {
            self.silent.remove(connection);
            self.away.remove(connection);
        }
    }
}

impl Sockets {
    fn has(&self, connection: &Connection) -> bool {
        self.connections().any(|here| here == *connection)
    }

    /// The socket goes, without a packet.
    fn disconnect(&mut self, connection: &Connection) -> Vec<AgentEvent> {
        self.moves.silent.remove(connection);
        self.moves.untold.remove(connection);
        self.close(1, |socket| matches!(socket, Socket::Connected(here) if here == connection))
    }

    /// What only the agent had a descriptor of ends with it.
    pub(super) fn agent_died(&mut self, process: &Process) {
        let restored = process.restored.values().filter(|of| !self.moves.untold.contains(of));
        for connection in restored.copied().collect::<Vec<_>>() {
            self.disconnect(&connection);
        }
    }

    /// What the former run of the agent has left.
    pub(super) fn left(&self) -> Left {
        let Moves { leaving, coming, away, .. } = &self.moves;
        let standing =
            |(note, standing): &(taking::Note, Option<Standing>)| standing.map(|s| (note.clone(), s));
        let void = coming.values().filter(|(_, standing)| standing.is_none());
        Left {
            leaving: leaving.values().cloned().collect(),
            coming: coming.values().filter_map(standing).collect(),
            void: void.map(|(note, _)| note.clone()).collect(),
            kept: Vec::new(),
            away: away.iter().map(|(connection, away)| (*connection, *away)).collect(),
            here: self.connections().collect(),
        }
    }
}

impl Hands<'_> {
    fn connection(&self, handle: Handle) -> Connection {
        match handle {
            Handle::Kept(connection) => connection,
            Handle::Passed(ApplicationId(number), _) => {
                self.kernel.moves.asked[usize::try_from(number).expect("few requests")]
            }
        }
    }

    fn moves(&mut self) -> &mut Moves {
        &mut self.kernel.moves
    }
}

/// A socket that has neither sent nor received anything.
fn dump(connection: Connection) -> Vec<u8> {
    let is_v4 = connection.dvipa.is_ipv4();
    let state = ConnectionState {
        connection,
        family: if is_v4 { SocketFamily::V4 } else { SocketFamily::V6 },
        phase: Phase::Established,
        send: Default::default(),
        receive: ReceiveQueue { first: 77, bytes: Vec::new() },
        windows: Default::default(),
        mss: 1460,
        scales: None,
        sack: true,
        timestamp: None,
        ecn: false,
        options: Vec::new(),
        congestion_control: "cubic".to_owned(),
    };
    state.encode()
}

impl Kernel for Hands<'_> {
    fn send(&mut self, to: StackName, message: FromHost) {
        self.process.sent.push((to, message));
    }

    fn moved(&mut self, _: Asker, connection: &Connection) {
        self.moves().waits.remove(connection);
        self.process.moved += 1;
    }

    fn stays(&mut self, _: Asker, connection: &Connection, _: &Why) {
        self.moves().waits.remove(connection);
    }

    fn claimed(&mut self, application: ApplicationId, request: RequestId, is_its: bool) {
        let connection = self.connection(Handle::Passed(application, request));
        self.moves().untold.remove(&connection);
        if !is_its {
            self.disconnect(Handle::Kept(connection));
        }
    }

    fn note(&mut self, note: Note<'_>) -> Result<(), String> {
        let moves = self.moves();
        let (note, standing) = match note {
            Note::Leaving(note, until) => {
                moves.leaving.insert(note.connection, (note.clone(), until));
                return Ok(());
            }
            Note::Made(transfer) | Note::Barred(transfer) => {
                let now = if matches!(note, Note::Made(_)) { Standing::Active } else { Standing::Barred };
                if let Some((_, standing @ Some(Standing::Admitted))) = moves.coming.get_mut(&transfer) {
                    *standing = Some(now);
                }
                return Ok(());
            }
            Note::Prepared(note) => (note, None),
            Note::Active(note) => (note, Some(Standing::Active)),
            Note::Admitted(note) if moves.coming.contains_key(&note.transfer) => return Err(String::new()),
            Note::Admitted(note) => (note, Some(Standing::Admitted)),
        };
        moves.coming.insert(note.transfer, (note.clone(), standing));
        Ok(())
    }

    fn erase(&mut self, of: Subject) {
        match of {
            Subject::Leaving(connection) => drop(self.moves().leaving.remove(&connection)),
            Subject::Coming(transfer) => {
                let barred = Some(Standing::Barred);
                self.moves().coming.retain(|of, (_, standing)| *of != transfer || *standing == barred);
            }
        }
    }

    fn keep(&mut self, _: TransferId, _: Kept, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn unkeep(&mut self, _: TransferId, _: Kept) {}

    fn sweep(&mut self) {}

    fn keep_away(&mut self, connection: &Connection, how: Away, _: Duration) -> Result<(), String> {
        self.moves().away.insert(*connection, how);
        Ok(())
    }

    fn let_flow(&mut self, connection: &Connection) {
        self.moves().away.remove(connection);
    }

    fn away(&mut self, connection: &Connection) -> Result<Option<Away>, String> {
        Ok(self.moves().away(connection))
    }

    fn hold(&mut self, _: ApplicationId, _: RequestId, _: &Connection) {}

    fn hold_found(&mut self, _: &Connection, _: Place) -> Result<(), String> {
        Ok(())
    }

    fn find(&mut self, connection: &Connection) -> Found {
        if self.kernel.has(connection) { Found::Here } else { Found::Nowhere }
    }

    fn release(&mut self, _: Handle) {}

    fn disconnect(&mut self, handle: Handle) {
        let ended = self.kernel.disconnect(&self.connection(handle));
        self.process.told.extend(ended);
    }

    fn silence(&mut self, connection: &Connection) {
        self.moves().silent.insert(*connection);
    }

    fn is_silent(&mut self, handle: Handle) -> Result<bool, String> {
        let connection = self.connection(handle);
        Ok(self.moves().silent.contains(&connection))
    }

    fn unacknowledged(&mut self, _: Handle) -> u32 {
        0
    }

    fn look(&mut self, _: Handle) -> Result<(Activity, Stand), Why> {
        let long = Duration::from_secs(3600);
        let activity = Activity {
            unread: 0,
            unsent: 0,
            since_sent: long,
            since_received: long,
            since_acknowledged: long,
            received: 0,
            is_writable: true,
        };
        Ok((activity, Stand::Between))
    }

    fn prompt(&mut self, _: &Connection) -> Result<(), String> {
        Ok(())
    }

    fn dump(&mut self, connection: &Connection) -> Result<Dump, Why> {
        if !self.kernel.has(connection) {
            return Err(Reason::NotDumped.into());
        }
        self.silence(connection);
        let queues = Queues { is_whole: true, ..Queues::default() };
        Ok(Dump { socket: dump(*connection), queues })
    }

    fn thaw(&mut self, connection: &Connection) {
        self.moves().silent.remove(connection);
    }

    fn finish(&mut self, handle: Handle, _: TransferId) -> bool {
        let connection = self.connection(handle);
        self.moves().silent.remove(&connection);
        true
    }

    fn destroy(&mut self, connection: &Connection) {
        self.disconnect(Handle::Kept(*connection));
    }

    fn offer(
        &mut self,
        transfer: TransferId,
        _: &Connection,
        _: Option<&str>,
        _: &[u8],
    ) -> Result<(), Reason> {
        self.process.offers.push(transfer);
        Ok(())
    }

    fn read(&mut self, note: &taking::Note, _: &[u8]) -> Result<Arrival, String> {
        self.process.read = Some(note.connection);
        Ok(Arrival::default())
    }

    fn track(&mut self, _: &Connection) -> Result<(), String> {
        Ok(())
    }

    fn restore(&mut self, transfer: TransferId) -> Result<(), NotRestored> {
        let not_restored = |is_here| NotRestored { is_here, said: String::new() };
        let connection = self.process.read.take().ok_or(not_restored(false))?;
        if self.kernel.has(&connection) {
            return Err(not_restored(true));
        }
        let opened = self.kernel.open(Socket::Connected(connection));
        self.process.told.push(opened);
        self.silence(&connection);
        self.process.restored.insert(transfer, connection);
        Ok(())
    }

    fn pass(
        &mut self,
        transfer: TransferId,
        connection: &Connection,
        _: Option<&str>,
        _: &[u8],
    ) -> Result<(), Reason> {
        self.moves().untold.insert(*connection);
        self.process.passed.push(transfer);
        Ok(())
    }

    fn activate(&mut self, transfer: TransferId, connection: &Connection) {
        self.moves().silent.remove(connection);
        self.moves().untold.remove(connection);
        self.process.restored.remove(&transfer);
    }

    fn discard(&mut self, transfer: TransferId) {
        if let Some(connection) = self.process.restored.remove(&transfer) {
            self.disconnect(Handle::Kept(connection));
        }
    }

    fn is_here(&mut self, connection: &Connection) -> Result<bool, String> {
        Ok(self.kernel.has(connection))
    }

    fn admit(&mut self, transfer: TransferId, connection: &Connection) -> Result<Token, String> {
        // No two admissions have the same.
        let token = transfer.incarnation << 48 | transfer.number << 24 | self.kernel.next_cookie().0;
        let token = Token::new(token).ok_or("it is 0")?;
        self.moves().admissions.insert(*connection, Admission { token, admits: Admits::Packet });
        Ok(token)
    }

    fn void(&mut self, connection: &Connection) -> Result<Voided, String> {
        let Some(admission) = self.moves().admissions.get_mut(connection) else { return Ok(Voided::Void) };
        if admission.admits == Admits::Packet {
            admission.admits = Admits::Nothing;
        }
        Ok(if admission.admits == Admits::Made { Voided::Made } else { Voided::Void })
    }

    fn is_made(&mut self, connection: &Connection) -> Result<bool, String> {
        Ok(self.moves().admissions.get(connection).is_some_and(|a| a.admits == Admits::Made))
    }

    fn is_claimed(&mut self, _: &Connection) -> bool {
        false
    }

    fn await_claims(&mut self, _: Vec<TransferId>) {}

    fn reopen(&mut self, _: &Connection) {}

    fn forget_admission(&mut self, connection: &Connection) {
        self.moves().admissions.remove(connection);
    }

    fn give(&mut self, _: TransferId) -> bool {
        true
    }

    fn takes_nothing(&mut self, _: &Connection) {}
}
