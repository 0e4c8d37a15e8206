//! Names and messages for the tests of all three machines.

use std::fmt::Debug;

use model::codec::WireConnection;
use model::handoff::Token;
use model::transfer::{About, Ledger, Parcel, Part, Request, TransferId};
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
pub(crate) fn numbered(number: u16) -> Connection {
    let client = std::net::SocketAddr::from(([198, 18, 0, 2], 40_000 + number));
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

/// The first word of a `Debug` text: a variant's name.
pub(crate) fn word(value: impl Debug) -> String {
    let text = format!("{value:?}");
    text.chars().take_while(|c| c.is_alphanumeric()).collect()
}

/// What a cell of a transition table says: what is done and in which phase it ends.
pub(crate) fn cell(words: &[String], phase: Option<impl Debug>) -> String {
    let phase = phase.map_or("none".to_owned(), word);
    let words = if words.is_empty() { "–".to_owned() } else { words.join(" ") };
    format!("{words} → {phase}")
}
