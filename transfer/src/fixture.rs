//! Names, messages and the bench for the tests of all three machines.

use std::fmt::Debug;
use std::time::Instant;

use model::codec::WireConnection;
use model::handoff::Token;
use model::transfer::{About, Ledger, PART_BYTES, Parcel, Part, Reason, Request, TransferId};
use model::{Connection, Dvipa, Epoch, Protocol, StackName};

use crate::Owner;

pub(crate) const EPOCH: Epoch = Epoch(7);
pub(crate) const LEDGER: Ledger = Ledger(70);
/// The routing stack's incarnation.
pub(crate) const ROUTING: u64 = 500;
/// The run of the target's agent.
pub(crate) const RUN: u64 = 200;
/// The first transfer that it gives.
pub(crate) const OWN: TransferId = TransferId { incarnation: ROUTING, number: 1 };
/// A transfer that another routing stack gave.
pub(crate) const FOREIGN: TransferId = TransferId { incarnation: ROUTING - 1, number: 9 };

pub(crate) fn stack(name: &str) -> StackName {
    StackName::new(name).expect("a good name")
}

pub(crate) fn connection() -> Connection {
    numbered(0)
}

/// One of many connections to the same service.
pub(crate) fn numbered(number: usize) -> Connection {
    let [_, above, b, c] = u32::try_from(40_000 + number).expect("not that many").to_be_bytes();
    let client = std::net::SocketAddr::from(([198, 18, above, 2], u16::from_be_bytes([b, c])));
    Connection::new(Protocol::Tcp, client, ([198, 18, 9, 1], 80).into()).expect("one family")
}

pub(crate) fn dvipa() -> Dvipa {
    connection().service().dvipa
}

pub(crate) fn owner() -> Option<Owner> {
    Some(Owner { stack: stack("rt1"), epoch: EPOCH })
}

pub(crate) fn about(transfer: TransferId) -> About {
    About { connection: WireConnection(connection()), transfer, epoch: EPOCH }
}

pub(crate) fn request(number: u64) -> Request {
    Request { incarnation: 100, number }
}

pub(crate) fn token(number: u64) -> Token {
    Token::new(number).expect("it is not 0")
}

/// The only part of a small parcel.
pub(crate) fn part(transfer: TransferId) -> Part {
    let parcel = Parcel { socket: b"socket".to_vec(), application: b"state".to_vec() };
    parcel.parts(about(transfer)).expect("it is small").remove(0)
}

/// The parts of a large parcel.
pub(crate) fn large_parts(transfer: TransferId) -> Vec<Part> {
    let parcel = Parcel { socket: vec![0; 4 * PART_BYTES], application: Vec::new() };
    parcel.parts(about(transfer)).expect("it fits")
}

/// The first word of a `Debug` text: a variant's name.
pub(crate) fn word(value: impl Debug) -> String {
    let text = format!("{value:?}");
    text.chars().take_while(|c| c.is_alphanumeric()).collect()
}

/// A machine that is tested event by event.
pub(crate) trait Machine {
    type Event: Clone;
    type Action: Debug;

    fn hear(&mut self, event: Self::Event, now: Instant) -> Result<(), Reason>;
    fn next_action(&mut self) -> Option<Self::Action>;
    /// What an action is called; `None`: it is left out.
    fn word(action: &Self::Action) -> Option<String>;
    /// The phase of its transfer, if it has one.
    fn phase(&self) -> Option<String>;
}

/// A machine, and the time there.
pub(crate) struct Bench<M> {
    pub(crate) machine: M,
    pub(crate) now: Instant,
}

/// An event, and what it does in which phase.
pub(crate) type Row<'a, M> = (&'a str, <M as Machine>::Event, &'a [(&'a str, &'a str)]);

impl<M: Machine> Bench<M> {
    pub(crate) fn of(machine: M) -> Self {
        Self { machine, now: Instant::now() }
    }

    /// What is to be done after this event.
    pub(crate) fn tell(&mut self, event: M::Event) -> Vec<M::Action> {
        let _ = self.machine.hear(event, self.now);
        std::iter::from_fn(|| self.machine.next_action()).collect()
    }

    /// The same in words.
    pub(crate) fn words(&mut self, event: M::Event) -> Vec<String> {
        self.tell(event).iter().filter_map(M::word).collect()
    }

    /// What a cell of a transition table says: what is done, and in which phase it ends.
    pub(crate) fn cell(&mut self, event: &M::Event) -> String {
        let words = self.words(event.clone());
        let words = if words.is_empty() { "–".to_owned() } else { words.join(" ") };
        format!("{words} → {}", self.machine.phase().unwrap_or("none".to_owned()))
    }

    /// Walks a table; what is not named in a row does nothing.
    pub(crate) fn walk(at: impl Fn(&str) -> Self, phases: &[&str], table: &[Row<'_, M>]) {
        for (name, event, cells) in table {
            for phase in phases {
                let expected = cells.iter().find(|(p, _)| p == phase).map(|(_, cell)| (*cell).to_owned());
                let expected = expected.unwrap_or_else(|| format!("– → {phase}"));
                assert_eq!(at(phase).cell(event), expected, "{name} in {phase}");
            }
        }
    }
}
