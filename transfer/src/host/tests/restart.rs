use std::collections::BTreeSet;

use super::coming::{offer, settled};
use super::*;
use crate::fixture::{connection, stack};
use crate::host::kernel::Found;
use crate::limits;
use crate::taking::Standing as Noted;

const REQUEST: RequestId = RequestId(3);

fn leaving(way: Way) -> giving::Note {
    let target = stack("t2");
    giving::Note { connection: connection(), transfer: OWN, target, ledger: LEDGER, way }
}

fn coming(way: Way) -> taking::Note {
    taking::Note { connection: connection(), transfer: OWN, source: stack("t1"), way }
}

fn active(way: Way) -> Left {
    Left { coming: vec![(coming(way), Noted::Active)], ..Left::default() }
}

impl Bench {
    fn claimed(&mut self) -> String {
        self.does(|host, kernel, _| host.claimed(APPLICATION, REQUEST, connection(), kernel))
    }
}

#[test]
fn a_frozen_connection_is_silenced_again_and_asks_for_its_outcome() {
    let left = |until| Left { leaving: vec![(leaving(Way::Inject), until)], ..Left::default() };
    let until = Instant::now() + limits::IN_DOUBT;
    let (mut bench, words) = Bench::after_restart(left(until), |_| {});
    assert_eq!(words, "away:Deaf:985 find silence | Doubt");
    assert_eq!((bench.host.leaving(), bench.stands()), (1, Some(Standing::Moves)));
    let (mut bench, words) = Bench::after_restart(left(until), |kernel| kernel.found = Found::Nowhere);
    assert_eq!(words, "away:Deaf:985 find | Doubt");
    assert_eq!((bench.host.leaving(), bench.stands()), (0, Some(Standing::Moves)));
    let (mut bench, words) = Bench::after_restart(left(Instant::now()), |_| {});
    let over =
        "away:Deaf:985 find silence away:Departed:120 disconnect:kept erase:Leaving stays:Nobody:ended |";
    assert_eq!(words, over, "the former run would have given it up by now");
    assert_eq!(bench.stands(), Some(Standing::Elsewhere));
}

#[test]
fn the_silent_socket_of_a_void_transfer_is_disconnected() {
    let void = || Left { void: vec![coming(Way::Restore)], ..Left::default() };
    let erased = "erase:Coming";
    for (is_silent, fails, words) in [
        (true, None, "find away:Departed:120 disconnect:kept"),
        (false, None, "find flow release:kept"),
        (true, Some("is silent"), "find away:Departed:120 release:kept"),
    ] {
        let (_, inherits) = Bench::after_restart(void(), |kernel| {
            kernel.is_silent = is_silent;
            fails.into_iter().for_each(|call| kernel.fail(call));
        });
        assert_eq!(inherits, format!("{words} {erased} |"));
    }
    let (_, inherits) = Bench::after_restart(void(), |kernel| kernel.found = Found::InFlight);
    assert_eq!(inherits, format!("find away:Departed:120 release:kept {erased} |"));
    // It leaves from here too, or has come in a later transfer: that one decides.
    let until = Instant::now() + limits::IN_DOUBT;
    let left = Left { leaving: vec![(leaving(Way::Restore), until)], ..void() };
    assert_eq!(
        Bench::after_restart(left, |_| {}).1,
        format!("away:Frozen:985 find silence {erased} | Doubt")
    );
}

#[test]
fn what_is_kept_away_without_a_note_is_here_or_elsewhere() {
    let left = |away| Left { away: vec![(connection(), away)], ..Left::default() };
    for away in [Away::Frozen, Away::Deaf] {
        assert_eq!(Bench::after_restart(left(away), |_| {}).1, "find away:Departed:120 disconnect:kept |");
        let noted = Left { void: vec![coming(Way::Restore)], ..left(away) };
        let once = "find away:Departed:120 disconnect:kept erase:Coming |";
        assert_eq!(Bench::after_restart(noted, |_| {}).1, once, "its note says what is done");
        let until = Instant::now() + limits::IN_DOUBT;
        let noted = Left { leaving: vec![(leaving(Way::Restore), until)], ..left(away) };
        assert_eq!(Bench::after_restart(noted, |_| {}).1, "away:Frozen:985 find silence | Doubt");
    }
    assert_eq!(Bench::after_restart(left(Away::Departed), |_| {}).1, " |", "it has no socket");
    let left = || Left { here: BTreeSet::from([connection()]), ..left(Away::Departed) };
    let (bench, words) = Bench::after_restart(left(), |_| {});
    assert_eq!((words.as_str(), bench.host.orphans()), ("find |", 1), "its application does not know");
    let (bench, _) = Bench::after_restart(left(), |kernel| kernel.found = Found::Nowhere);
    assert_eq!(bench.host.orphans(), 0);
}

#[test]
fn what_was_decided_is_finished_and_said_again() {
    let (mut bench, words) = Bench::after_restart(active(Way::Restore), |_| {});
    assert_eq!(words, "note:Active find flow finish:kept release:kept unkeep:Unsent | Active");
    assert_eq!((bench.host.coming(), bench.stands()), (1, Some(Standing::Moves)));
    assert_eq!(bench.hears(settled()), "erase:Coming");
    let (_, words) = Bench::after_restart(active(Way::Restore), |kernel| kernel.found = Found::Nowhere);
    assert_eq!(words, "note:Active find flow unkeep:Unsent | Active");
    assert_eq!(Bench::after_restart(active(Way::Inject), |_| {}).1, " | Active");
    let admitted = || Left { coming: vec![(coming(Way::Inject), Noted::Admitted)], ..Left::default() };
    let barred = "void away:Departed:120 note:Barred erase:Coming forget discard |";
    assert_eq!(Bench::after_restart(admitted(), |_| {}).1, barred);
    let (mut bench, words) = Bench::after_restart(admitted(), |kernel| kernel.is_made = true);
    assert_eq!(words, "void flow note:Made | Active");
    assert_eq!(bench.hears(settled()), "erase:Coming forget");
    let left = Left { coming: vec![(coming(Way::Inject), Noted::Barred)], ..Left::default() };
    let (mut bench, words) = Bench::after_restart(left, |_| {});
    assert_eq!((words.as_str(), bench.host.coming(), bench.stands()), (" |", 0, None));
    assert_eq!(bench.hears(offer(Way::Inject, Consent::Presumed)), "Void", "it is not revived");
}

#[test]
fn kept_bytes_go_to_the_connections_that_they_are_of() {
    use crate::host::kernel::Kept::{Unread, Unsent};
    let kept = |kept, left: Left| Left { kept: vec![(OWN, connection(), kept, 5)], ..left };
    assert_eq!(
        Bench::after_restart(kept(Unsent, Left::default()), |_| {}).1,
        "unkeep:Unsent |",
        "they are of nothing"
    );
    let (_, words) = Bench::after_restart(kept(Unsent, active(Way::Restore)), |_| {});
    assert_eq!(words, "note:Active find flow finish:kept release:kept unkeep:Unsent | Active");
    assert_eq!(
        Bench::after_restart(kept(Unread, Left::default()), |_| {}).1,
        "give unkeep:Unread |",
        "it was settled"
    );
    assert_eq!(
        Bench::after_restart(kept(Unread, active(Way::Inject)), |_| {}).1,
        "give unkeep:Unread | Active"
    );
    let admitted = Left { coming: vec![(coming(Way::Inject), Noted::Admitted)], ..Left::default() };
    let (bench, words) = Bench::after_restart(kept(Unread, admitted), |kernel| {
        (kernel.is_made, kernel.takes) = (true, false);
    });
    assert_eq!(words, "void flow note:Made give | Active");
    assert_eq!(bench.host.kept_bytes, 5);
}

#[test]
fn a_descriptor_in_flight_is_looked_for_less_and_less_often_until_its_time_is_over() {
    let awaited = || Bench::after_restart(active(Way::Restore), |kernel| kernel.found = Found::InFlight);
    let (mut bench, words) = awaited();
    assert_eq!(words, "note:Active find away:Frozen:40 | Active");
    assert_eq!((bench.host.awaited(), bench.host.next_deadline()), (1, bench.now + S(1)));
    assert_eq!(bench.hears(settled()), "", "its note is needed");
    for pause in [1, 2, 4, 8] {
        assert_eq!(bench.pause(), S(pause));
        assert_eq!(bench.after(S(pause)), "find");
    }
    assert_eq!(bench.pause(), S(15), "what is left of 30 s");
    assert_eq!(bench.after(S(15)), "find flow destroy unkeep:Unsent erase:Coming sweep");
    assert_eq!(bench.host.awaited(), 0);
    let (mut bench, _) = awaited();
    bench.kernel.found = Found::Here;
    assert_eq!(bench.after(S(1)), "find finish:kept release:kept flow unkeep:Unsent");
    assert_eq!(bench.hears(settled()), "erase:Coming");
}

#[test]
fn an_application_that_claims_a_connection_gets_it_if_it_is_its_own() {
    let awaited = || Bench::after_restart(active(Way::Restore), |kernel| kernel.found = Found::InFlight).0;
    let mut bench = awaited();
    assert_eq!(bench.claimed(), "finish:passed flow unkeep:Unsent claimed:true");
    assert_eq!((bench.host.awaited(), bench.after(S(1))), (0, String::new()), "it is not looked for");
    let mut bench = awaited();
    bench.hears(settled());
    bench.kernel.fail("finish");
    assert_eq!(bench.claimed(), "finish:passed! flow unkeep:Unsent erase:Coming claimed:false");
    // Of no transfer that is known: a silent socket is dead.
    let mut bench = Bench::new();
    assert_eq!(bench.claimed(), "claimed:false");
    bench.kernel.is_silent = false;
    assert_eq!(bench.claimed(), "claimed:true");
    bench.kernel.fail("is silent");
    assert_eq!(bench.claimed(), "claimed:false");
    bench.asked();
    assert_eq!(bench.claimed(), "claimed:true", "it leaves, and was the application's before");
}
