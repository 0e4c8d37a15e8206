//! The forwarder's tables, CRT, counters and clock as a case has them: what both harnesses need.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use forwarder::crt::{Config, Crt, CrtState, Entry, Key, KeyV4, KeyV6};
use forwarder::tables::Family;
use forwarder::{Counters, Fence, Kind, Looks, Mac, Neighbours, Node, Now, Pool, Pools, Reason, Tables};
use model::handoff::Token;
use model::{ClusterAddress, Connection, DvipaIndex, StackIndex};

use crate::case::{Case, CaseError};

/// How often the control thread ages the CRT, and a worker looks after what it holds, while time passes.
const HOUSEKEEPING: Duration = Duration::from_millis(100);
/// Room in each part of the CRT: more than any case needs.
const ROOM: usize = 1024;

/// Everything around the worker.
#[derive(Debug)]
pub struct Bench {
    /// The case's tables.
    pub tables: Tables,
    /// The CRT, with the connections that the case knows before its first step.
    pub crt: Crt,
    /// What the worker has to count in.
    pub counters: Arc<Counters>,
    /// The stacks' tokens, which the worker has to be given.
    pub pools: Arc<Pools>,
    now: Now,
    counted: [u64; Reason::COUNT],
}

impl Bench {
    /// The tables of a case.
    ///
    /// # Errors
    /// [`CaseError::Value`] if they contradict each other.
    ///
    /// # Panics
    /// If there is no memory for a small CRT.
    pub fn new(case: &Case) -> Result<Self, CaseError> {
        let mut neighbours = Neighbours::new();
        for (stack, index) in case.stack.iter().zip(0..) {
            for family in [Family::V4, Family::V6] {
                stack.mac.iter().for_each(|mac| neighbours.set(StackIndex(index), family, Mac(mac.0)));
            }
        }
        let cluster_address =
            ClusterAddress::from_addresses(&case.node.cluster_address).ok_or_else(|| {
                case.wrong("node.cluster_address", "give at least one address, at most one a family")
            })?;
        // Who does not answer has nothing.
        let looks = Looks::default();
        for (index, _) in (0..).zip(&case.stack) {
            looks.looked(StackIndex(index), Now { ms: 0 }, Now { ms: u64::MAX });
        }
        let node = Node {
            mac: Mac(case.node.mac.0),
            cluster_address,
            fabric_mtu: case.node.fabric_mtu,
            vlan: case.node.vlan,
            fence: Fence::default(),
            looks,
        };
        let bench = Self {
            tables: Tables::build(&case.dpt()?, &neighbours, &node),
            crt: small_crt(),
            counters: Arc::new(Counters::new()),
            pools: Arc::new(pools(case)),
            now: Now { ms: 0 },
            counted: [0; Reason::COUNT],
        };
        for (known, i) in case.known()?.into_iter().zip(0_usize..) {
            let state = CrtState::ALL.into_iter().find(|s| s.name() == known.state);
            let state = state
                .ok_or_else(|| case.wrong(format!("connection[{i}].state"), "there is no such state"))?;
            let entry = Entry { owner: known.owner, state };
            match key(known.connection, known.dvipa) {
                AnyKey::V4(key) => enter(&bench.crt, key, entry),
                AnyKey::V6(key) => enter(&bench.crt, key, entry),
            }
        }
        Ok(bench)
    }

    /// The time.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Sets the clock; nothing happens because of it.
    pub fn set_clock(&mut self, ms: u64) {
        self.now = Now { ms };
    }

    /// Lets time pass until `ms`, and lets what a node does from time to time happen as often as it would.
    pub fn pass_time(&mut self, ms: u64, mut each: impl FnMut(&Self)) {
        let budget = self.crt.age_budget(HOUSEKEEPING);
        while self.now.ms < ms {
            self.now = Now { ms: ms.min(self.now.ms + HOUSEKEEPING.as_millis() as u64) };
            self.crt.age(self.now, budget);
            each(self);
        }
    }

    /// A stack reports the end of a connection (TERMCONN).
    pub fn terminate(&self, connection: Connection, dvipa: DvipaIndex, owner: StackIndex) -> bool {
        match key(connection, dvipa) {
            AnyKey::V4(key) => self.crt.terminate(key, owner, self.now),
            AnyKey::V6(key) => self.crt.terminate(key, owner, self.now),
        }
    }

    /// A stack reports a connection (NEWCONN).
    ///
    /// # Panics
    /// If the CRT has no room, which it has.
    pub fn confirm(&self, connection: Connection, dvipa: DvipaIndex, owner: StackIndex) {
        let confirmed = match key(connection, dvipa) {
            AnyKey::V4(key) => self.crt.newconn(key, owner, self.now),
            AnyKey::V6(key) => self.crt.newconn(key, owner, self.now),
        };
        confirmed.expect("the CRT has more room than any case needs");
    }

    /// How packets ended since the last call: a reason's name for each.
    pub fn ended(&mut self) -> Vec<String> {
        let mut ended = Vec::new();
        for (reason, before) in Reason::ALL.iter().zip(&mut self.counted) {
            let now = self.counters.get(*reason);
            if !matches!(reason.kind(), Kind::Note) {
                ended.extend((*before..now).map(|_| reason.name().to_owned()));
            }
            *before = now;
        }
        ended
    }

    /// How many packets were counted as given up, from the start: dropped, or of a handshake of which nothing is kept.
    pub fn dropped(&self) -> u64 {
        let given_up = |r: &&Reason| matches!(r.kind(), Kind::Dropped(_)) || **r == Reason::Handshake;
        let dropped = Reason::ALL.iter().filter(given_up);
        dropped.map(|r| self.counters.get(*r)).sum()
    }
}

/// The key that the worker has to make SYN cookies with: `opinion/core.py` has the same.
pub const COOKIE_KEY: [u64; 2] = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];

fn pools(case: &Case) -> Pools {
    let with_tokens = (0..).zip(&case.stack).filter(|(_, stack)| stack.tokens > 0);
    with_tokens.fold(Pools::default(), |pools, (index, stack)| {
        let pool = Pool::new(stack.tokens as usize);
        pool.fill((1..=stack.tokens).filter_map(|n| Token::new(u64::from(index) << 32 | u64::from(n))));
        pools.with(StackIndex(index), Some(Arc::new(pool)))
    })
}

enum AnyKey {
    V4(KeyV4),
    V6(KeyV6),
}

/// What the CRT calls a connection.
fn key(c: Connection, dvipa: DvipaIndex) -> AnyKey {
    match c.client.ip() {
        IpAddr::V4(client) => {
            AnyKey::V4(KeyV4::new(client, c.client.port(), dvipa, c.dvipa.port(), c.protocol))
        }
        IpAddr::V6(client) => {
            AnyKey::V6(KeyV6::new(client, c.client.port(), dvipa, c.dvipa.port(), c.protocol))
        }
    }
}

fn small_crt() -> Crt {
    let config = Config {
        connections_v4: ROOM,
        connections_v6: ROOM,
        half_open: ROOM,
        fragments: ROOM,
        ..Config::default()
    };
    Crt::new(&config).expect("memory for a small CRT")
}

/// Makes an entry, in the way in which entries come to be in its state.
fn enter<K: Key>(crt: &Crt, key: K, entry: Entry) {
    let (start, owner) = (Now { ms: 0 }, entry.owner);
    let established = Entry { owner, state: CrtState::Established };
    let made = match entry.state {
        CrtState::HalfOpen => crt.insert_half_open(key, owner, start).is_ok(),
        CrtState::Established => crt.newconn(key, owner, start).is_ok(),
        CrtState::Closing => crt.newconn(key, owner, start).is_ok() && crt.terminate(key, owner, start),
        CrtState::Frozen | CrtState::HandingOver => {
            crt.newconn(key, owner, start).is_ok() && crt.change(key, established, entry, start).is_ok()
        }
    };
    assert!(made, "the CRT takes an entry that is {}", entry.state.name());
}
