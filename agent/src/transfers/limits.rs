//! How the limits of connections that move fit one another, at the rate that they are made for.

use std::time::Duration;

use transfer::host::{DEPARTED, SWEEP};
use transfer::limits::{BYTES, CLOSED, TRANSFERS, TRANSFERS_TO_A_TARGET};
use transport::LANE_BYTES;

use super::notes;

/// Connections that come to a host and leave it, each a second.
const MOVES: u64 = 10_000;

/// How many places a map of the BPF programs has.
fn places(header: &str, map: &str) -> u64 {
    let (before, _) = header.split_once(&format!("}} {map} SEC(\".maps\")")).expect("the map is there");
    let (_, number) = before.rsplit_once("max_entries, ").expect("it has a number of places");
    number.split(')').next().and_then(|number| number.parse().ok()).expect("a number")
}

fn in_this_time(time: Duration) -> u64 {
    MOVES * time.as_millis() as u64 / 1000
}

#[test]
fn ten_thousand_moves_a_second_for_ever_fill_nothing() {
    let freezes = places(include_str!("../../bpf/freezes.h"), "freezes");
    let gone = in_this_time(DEPARTED + SWEEP);
    assert!(gone + TRANSFERS as u64 <= freezes, "{gone} have departed and are not swept away yet");

    let admitted = places(include_str!("../../bpf/admissions.h"), "admitted");
    assert!(TRANSFERS as u64 <= admitted, "each that is under way may be admitted");
    assert!(2 * TRANSFERS as u32 <= notes::MOST, "each that comes and each that leaves has a note");

    let round_trips = in_this_time(Duration::from_millis(400));
    assert!(round_trips <= TRANSFERS_TO_A_TARGET as u64, "to one target, over 100 ms each way");
    const { assert!(8 * TRANSFERS_TO_A_TARGET <= TRANSFERS, "seven dead targets, and the others move on") };
    // A message of an ended transfer is late by the time for which a session lasts without a sign of life.
    let late = in_this_time(Duration::from_secs(5));
    assert!(late <= CLOSED as u64, "late messages of {late} transfers that have ended");

    // After a session is lost, all that is under way is said again in the next one.
    const { assert!(BYTES + TRANSFERS_TO_A_TARGET * 4 * 1024 <= LANE_BYTES, "it fits") };
}
