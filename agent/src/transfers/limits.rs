//! How the limits of connections that move fit one another, at the rates that they are made for, for as long as they last.

use std::time::Duration;

use transfer::host::{DEPARTED, SWEEP};
use transfer::limits::{BYTES, CLOSED, MADE, TRANSFERS, TRANSFERS_TO_A_TARGET};
use transport::LANE_BYTES;

use super::notes;
use crate::control_socket::limits::{MAX_OFFERS, MAX_SOCKETS, MAX_TRANSFERS};
use crate::machine::{AT_A_STEP, LOGGED_CHANGES};
use crate::tokens::BATCH;

/// Connections that come to a host and leave it, each a second, by repair.
const MOVES: u64 = 10_000;
/// Connections that packets put into listeners of a host, a second.
const INJECTIONS: u64 = 20_000;
/// There and back, over the longest way that is asked for (100 ms each way).
const ROUND_TRIP: Duration = Duration::from_millis(200);
/// There and back between hosts of one site, with what the programs take.
const AT_A_SITE: Duration = Duration::from_millis(50);
/// A message of an ended transfer is late by the time for which a session lasts without a sign of life.
const LATE: Duration = Duration::from_secs(5);
/// The longest that an agent reads no events of its kernel, while it loads its programs anew.
const DEAF: Duration = Duration::from_secs(1);
/// Descriptors that a service may have (`LimitNOFILE` of systemd, hard).
const DESCRIPTORS: usize = 524_288;
/// Of so many moves one is given up after the target has admitted it.
const GIVEN_UP: u64 = 20;

const FREEZES: &str = include_str!("../../bpf/freezes.h");
const ADMISSIONS: &str = include_str!("../../bpf/admissions.h");
const EVENTS: &str = include_str!("../../bpf/events.h");

/// How many places a map of the BPF programs has, or how many bytes.
fn places(header: &str, map: &str) -> u64 {
    let (before, _) = header.split_once(&format!("}} {map} SEC(\".maps\")")).expect("the map is there");
    let (_, number) = before.rsplit_once("max_entries, ").expect("it has a number of places");
    let (number, _) = number.split_once(')').expect("it ends");
    let factors = number.split(" << ").map(|factor| factor.parse::<u64>().expect("a number"));
    factors.reduce(|number, shift| number << shift).expect("a number")
}

fn in_this_time(rate: u64, time: Duration) -> u64 {
    rate * time.as_millis() as u64 / 1000
}

#[test]
fn ten_thousand_moves_a_second_for_ever_fill_nothing() {
    let gone = in_this_time(MOVES, DEPARTED + SWEEP);
    let freezes = places(FREEZES, "freezes");
    assert!(gone + TRANSFERS as u64 <= freezes, "{gone} have departed and are not swept away yet");

    let barred = in_this_time(MOVES / GIVEN_UP, notes::BARRED + SWEEP);
    assert!(
        2 * TRANSFERS as u64 + barred <= notes::MOST.into(),
        "each that comes or leaves has a note, and {barred} are barred"
    );

    let under_way = in_this_time(MOVES, 2 * ROUND_TRIP);
    assert!(under_way <= TRANSFERS_TO_A_TARGET as u64, "to one target, over the longest way");
    const { assert!(8 * TRANSFERS_TO_A_TARGET <= TRANSFERS, "seven dead targets, and the others move on") };
    let late = in_this_time(MOVES, LATE);
    assert!(late <= CLOSED as u64, "late messages of {late} transfers that have ended");

    // After a session is lost, all that is under way is said again in the next one.
    const { assert!(BYTES + TRANSFERS_TO_A_TARGET * 4 * 1024 <= LANE_BYTES, "it fits") };

    let of_one = in_this_time(MOVES, AT_A_SITE) as usize;
    assert!(of_one <= MAX_TRANSFERS && of_one <= MAX_OFFERS, "of one application to one other: {of_one}");
    assert!(under_way as usize <= 8 * MAX_TRANSFERS, "eight processes, over the longest way");
    const { assert!(MAX_SOCKETS * (1 + 2 * MAX_TRANSFERS + MAX_OFFERS) <= DESCRIPTORS, "of all applications") };
}

#[test]
fn twenty_thousand_injections_a_second_for_ever_fill_nothing() {
    // One that no packet makes is asked about after that time, and voided a round trip later.
    let admitted = in_this_time(INJECTIONS, MADE + 2 * ROUND_TRIP);
    assert!(admitted <= places(ADMISSIONS, "admitted"), "{admitted} may be made yet");
    assert!(admitted <= TRANSFERS as u64 && admitted <= notes::MOST.into(), "each is noted");

    let tokens = in_this_time(INJECTIONS, AT_A_SITE);
    assert!(tokens <= (BATCH / 2).into(), "a batch is asked for when half of the last is left");
}

#[test]
fn what_a_host_tells_of_its_connections_keeps_up_with_moves() {
    // Each begins and ends here.
    let changes = 2 * INJECTIONS;
    let event_bytes = 64;
    let deaf = in_this_time(changes, DEAF) * event_bytes;
    assert!(deaf <= places(EVENTS, "events"), "{deaf} bytes of events are not read yet");
    let lost = in_this_time(changes, LATE);
    assert!(
        lost <= LOGGED_CHANGES as u64,
        "{lost} changes are told to a routing stack whose session was lost"
    );
    // A hundred parts a second are told, or more.
    assert!(changes <= 100 * AT_A_STEP as u64, "no part waits for ever behind others");
}
