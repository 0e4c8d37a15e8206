use super::*;
use crate::fixture::{about, connection, numbered, part, stack};
use crate::host::kernel::{Arrival, Voided};
use crate::limits;

pub(super) fn offer(way: Way, consent: Consent) -> ToTarget {
    ToTarget::Offer(Offer {
        about: about(OWN),
        source: stack("t1"),
        way,
        consent,
        ledger: LEDGER,
        job: None,
        application_bytes: 0,
        incarnation: RUN,
        giver: None,
    })
}

fn commit() -> ToTarget {
    ToTarget::Commit(Commit { about: about(OWN) })
}

fn abort() -> ToTarget {
    ToTarget::Abort(Abort { about: about(OWN), why: Reason::TimedOut.into() })
}

pub(super) fn settled() -> ToTarget {
    ToTarget::Settled(Settled { about: about(OWN) })
}

const SIZE: usize = 5;

impl Bench {
    /// The parts of a connection have come, whose application is not asked.
    fn has_come(way: Way, settle: impl FnOnce(&mut Told)) -> (Self, String) {
        let mut bench = Self::new();
        settle(&mut bench.kernel);
        let words = bench.comes(way);
        (bench, words)
    }

    fn comes(&mut self, way: Way) -> String {
        assert_eq!(self.hears(offer(way, Consent::Presumed)), "");
        self.hears(ToTarget::Part(part(OWN)))
    }

    /// Its application has the silent socket.
    fn passing() -> Self {
        let (mut bench, _) = Self::has_come(Way::Restore, |_| {});
        assert_eq!(bench.hears(commit()), "pass");
        bench
    }

    /// A packet may make it, which is to be given these bytes.
    fn admitted(unread: Option<usize>) -> Self {
        let arrival = Arrival { unread, has_unsent: false };
        let (mut bench, _) = Self::has_come(Way::Inject, |kernel| kernel.arrival = arrival);
        bench.stands();
        bench
    }

    fn begun(&mut self) -> String {
        self.does(|host, kernel, now| host.begun(connection(), kernel, now))
    }

    fn through(&mut self) -> String {
        self.does(|host, kernel, now| host.claims_are_through(&[OWN], kernel, now))
    }
}

#[test]
fn a_connection_that_an_application_accepts_is_noted_before_it_is_awake() {
    let mut bench = Bench::new();
    assert_eq!(bench.hears(offer(Way::Restore, Consent::Asked)), "offer");
    assert_eq!((bench.host.coming(), bench.stands()), (1, None), "nothing of it is here");
    assert_eq!(bench.does(|host, _, now| host.accepted(OWN, now)), "Agreed");
    let restored = "read note:Prepared track away:Frozen:60 restore Agreed";
    assert_eq!(bench.hears(ToTarget::Part(part(OWN))), restored);
    assert_eq!(bench.stands(), Some(Standing::Moves));
    assert_eq!(bench.hears(commit()), "pass");
    assert_eq!(bench.does(|host, _, now| host.passed(OWN, now)), "note:Active flow activate Active");
    assert_eq!(bench.stands(), Some(Standing::Moves));
    assert_eq!(bench.hears(settled()), "erase:Coming");
    assert_eq!((bench.host.coming(), bench.stands()), (0, Some(Standing::Ours)));
}

#[test]
fn what_can_not_be_restored_leaves_nothing_here() {
    let (_, words) = Bench::has_come(Way::Restore, |kernel| kernel.fail("read"));
    assert_eq!(words, "read! erase:Coming unkeep:Unread discard Void");
    let unsent = |kernel: &mut Told| kernel.arrival.has_unsent = true;
    let (_, words) = Bench::has_come(Way::Restore, unsent);
    assert_eq!(words, "read note:Prepared keep:Unsent track away:Frozen:60 restore Agreed");
    for (fails, words) in [
        ("note", "note:Prepared!"),
        ("keep", "note:Prepared keep:Unsent!"),
        ("track", "note:Prepared keep:Unsent track!"),
        ("is away", "note:Prepared keep:Unsent track"),
        ("away", "note:Prepared keep:Unsent track away:Frozen:60!"),
        ("restore", "note:Prepared keep:Unsent track away:Frozen:60 restore!"),
    ] {
        let (mut bench, came) = Bench::has_come(Way::Restore, |kernel| {
            unsent(kernel);
            kernel.fail(fails);
        });
        assert_eq!(came, format!("read {words} erase:Coming discard Void"));
        assert_eq!((bench.host.coming(), bench.stands()), (0, Some(Standing::Elsewhere)), "{fails}");
    }
}

#[test]
fn a_socket_that_was_here_before_stands_as_it_did() {
    use Away::{Deaf, Departed, Frozen};
    for (before, again) in [
        (None, "flow"),
        (Some(Departed), "away:Departed:120"),
        (Some(Frozen), "away:Frozen:985"),
        (Some(Deaf), "away:Deaf:985"),
    ] {
        let (_, words) = Bench::has_come(Way::Restore, |kernel| {
            kernel.away.extend(before.map(|before| (connection(), before)));
            kernel.is_here = true;
            kernel.fail("restore");
        });
        let restore = "read note:Prepared track away:Frozen:60 restore!";
        assert_eq!(words, format!("{restore} {again} erase:Coming discard Void"));
    }
}

#[test]
fn what_an_application_does_not_take_is_closed_silently() {
    let mut bench = Bench::new();
    bench.kernel.fail("offer");
    assert_eq!(bench.hears(offer(Way::Restore, Consent::Asked)), "offer! erase:Coming discard Void");
    let asked = || {
        let mut bench = Bench::new();
        bench.hears(offer(Way::Restore, Consent::Asked));
        bench
    };
    let no = "erase:Coming discard Void";
    assert_eq!(asked().does(|host, _, now| host.rejected(OWN, "full".into(), now)), no);
    assert_eq!(asked().does(|host, _, now| host.application_gone(OWN, now)), no);
    let no = "erase:Coming away:Departed:120 discard Void";
    let (mut bench, _) = Bench::has_come(Way::Restore, |kernel| kernel.fail("pass"));
    assert_eq!(bench.hears(commit()), format!("pass! {no}"));
    assert_eq!(Bench::passing().does(|host, _, now| host.rejected(OWN, "full".into(), now)), no);
    assert_eq!(Bench::passing().does(|host, _, now| host.application_gone(OWN, now)), no);
    let (mut bench, _) = Bench::has_come(Way::Restore, |_| {});
    assert_eq!(bench.hears(abort()), no);
}

#[test]
fn a_connection_that_a_packet_makes_is_noted_and_given_what_its_client_had_sent() {
    let (mut bench, words) = Bench::has_come(Way::Inject, |_| {});
    assert_eq!(words, "read note:Admitted track admit Prepared");
    assert_eq!(bench.stands(), Some(Standing::Moves));
    assert_eq!(bench.begun(), "", "another connection has begun");
    bench.kernel.is_made = true;
    assert_eq!(bench.begun(), "note:Made Active");
    assert_eq!(bench.begun(), "", "once");
    assert_eq!(bench.hears(settled()), "erase:Coming forget");
    let (mut bench, words) = Bench::has_come(Way::Inject, |kernel| kernel.arrival.unread = Some(SIZE));
    assert_eq!(words, "read keep:Unread note:Admitted track admit Prepared");
    bench.kernel.is_made = true;
    let made = bench.does(|host, kernel, now| host.look_for_made(kernel, now));
    assert_eq!(made, "note:Made Active give unkeep:Unread");
}

#[test]
fn what_can_not_be_admitted_leaves_nothing_here() {
    let arrival = Arrival { unread: Some(SIZE), has_unsent: false };
    for (fails, words) in [
        ("read", "read!"),
        ("is here", "read"),
        ("keep", "read keep:Unread!"),
        ("note", "read keep:Unread note:Admitted!"),
        ("track", "read keep:Unread note:Admitted track!"),
        ("admit", "read keep:Unread note:Admitted track admit!"),
    ] {
        let (mut bench, came) = Bench::has_come(Way::Inject, |kernel| {
            kernel.arrival = arrival;
            kernel.fail(fails);
        });
        assert_eq!(came, format!("{words} erase:Coming unkeep:Unread discard Void"));
        assert_eq!(bench.host.coming(), 0);
        assert_eq!(bench.stands(), Some(Standing::Ours), "{fails}: it may be here still");
    }
    let (_, came) = Bench::has_come(Way::Inject, |kernel| kernel.is_here = true);
    assert_eq!(came, "read erase:Coming unkeep:Unread discard Void", "its packets would go there");
}

#[test]
fn the_bytes_that_wait_for_kernels_are_bounded_and_counted_once() {
    let with = |unread| move |kernel: &mut Told| kernel.arrival.unread = Some(unread);
    let refused = "read erase:Coming unkeep:Unread discard Void";
    assert_eq!(Bench::has_come(Way::Inject, with(limits::BYTES + 1)).1, refused);
    let taken = "read keep:Unread note:Admitted track admit Prepared";
    assert_eq!(Bench::has_come(Way::Inject, with(limits::BYTES)).1, taken);
    // Wherever it ends, its bytes are no longer counted.
    let mut bench = Bench::admitted(Some(limits::BYTES));
    bench.kernel.is_made = true;
    bench.kernel.takes = false;
    assert_eq!(bench.begun(), "note:Made Active give");
    assert_eq!(bench.host.kept_bytes, limits::BYTES);
    bench.kernel.takes = true;
    assert_eq!(bench.after(MS(1)), "give unkeep:Unread");
    assert_eq!(bench.host.kept_bytes, 0);
    let mut bench = Bench::admitted(Some(limits::BYTES));
    bench.hears(abort());
    assert_eq!(bench.host.kept_bytes, 0);
}

#[test]
fn a_server_that_does_not_read_is_given_its_bytes_less_and_less_often() {
    let mut bench = Bench::admitted(Some(SIZE));
    bench.kernel.is_made = true;
    bench.kernel.takes = false;
    assert_eq!(bench.begun(), "note:Made Active give");
    for pause in [1, 2, 4, 8, 16, 32, 64, 100, 100] {
        assert_eq!(bench.pause(), MS(pause));
        assert_eq!(bench.after(MS(pause)), "give");
    }
    bench.hears(settled());
    assert_eq!(bench.after(S(10) - MS(327)), "give takes-nothing");
    assert_eq!(bench.after(MS(100)), "give", "an operator is told once");
    // It can't move on before it has everything.
    assert_eq!(bench.asked(), "");
    bench.kernel.takes = true;
    assert_eq!(bench.after(MS(100)), "give unkeep:Unread hold Prepare");
}

#[test]
fn an_admission_that_is_void_bars_and_one_that_was_used_is_a_connection() {
    for (voided, is_made, words) in [
        (
            Voided::Void,
            false,
            "void away:Departed:120 note:Barred erase:Coming forget unkeep:Unread discard Void",
        ),
        (Voided::Made, true, "void flow note:Made Active give unkeep:Unread"),
    ] {
        let mut bench = Bench::admitted(Some(SIZE));
        (bench.kernel.voided, bench.kernel.is_made) = (voided, is_made);
        assert_eq!(bench.hears(abort()), words);
        let stands = if is_made { Standing::Moves } else { Standing::Elsewhere };
        assert_eq!(bench.stands(), Some(stands));
    }
    let mut bench = Bench::admitted(None);
    bench.kernel.fail("void");
    assert_eq!(bench.hears(abort()), "void! flow note:Made Active", "it counts as here");
    let mut bench = Bench::admitted(None);
    bench.kernel.fail("is made");
    assert_eq!(bench.begun(), "", "it can't be seen");
    assert_eq!(bench.hears(abort()), "void flow note:Made Active", "it counts as here");
    let mut bench = Bench::admitted(None);
    let why = Reason::NotRestored.into();
    let not_taken = bench.does(|host, _, now| host.not_taken(&connection(), why, now));
    assert_eq!(not_taken, "void away:Departed:120 note:Barred erase:Coming forget discard Void");
}

#[test]
fn a_packet_that_has_claimed_an_admission_is_waited_for() {
    let mut bench = Bench::admitted(None);
    bench.kernel.is_claimed = true;
    assert_eq!(bench.pause(), MS(100));
    assert_eq!(bench.after(MS(99)), "");
    assert_eq!(bench.after(MS(1)), "await:1");
    assert_eq!((bench.after(MS(100)), bench.pause()), (String::new(), MS(100)), "it is waited for already");
    bench.kernel.is_claimed = false;
    assert_eq!(bench.through(), "reopen", "the kernel has dropped it");
    assert_eq!(bench.through(), "", "it is open");
    // A second one claims it, and then the transfer is given up.
    bench.kernel.is_claimed = true;
    assert_eq!(bench.after(MS(100)), "await:1");
    bench.kernel.voided = Voided::Claimed;
    assert_eq!(bench.hears(abort()), "void", "that wait is for this one too");
    assert_eq!(bench.through(), "away:Departed:120 note:Barred erase:Coming forget discard Void");
    let mut bench = Bench::admitted(None);
    bench.kernel.voided = Voided::Claimed;
    assert_eq!(bench.hears(abort()), "void await:1");
    bench.kernel.is_made = true;
    assert_eq!(bench.through(), "flow note:Made Active");
    assert_eq!(bench.pause(), S(2), "only what is not settled is waited for");
}

#[test]
fn a_connection_that_has_come_moves_on_when_everybody_knows_that_it_is_here() {
    let mut bench = Bench::admitted(None);
    bench.kernel.is_made = true;
    bench.begun();
    assert_eq!(bench.asked(), "");
    assert_eq!(bench.hears(settled()), "erase:Coming forget hold Prepare");
    let mut bench = Bench::admitted(None);
    bench.kernel.is_made = true;
    bench.begun();
    assert_eq!(bench.asked(), "");
    assert_eq!(bench.after(S(5) - MS(1)), "Active");
    assert_eq!(bench.after(MS(1)), "stays:Application:busy");
    // A client is made to speak only so often.
    let mut bench = Bench::admitted(None);
    bench.kernel.is_made = true;
    bench.begun();
    bench.hears(settled());
    assert_eq!(bench.ordered(None), "");
    assert_eq!(bench.pause(), MS(600));
    assert_eq!(bench.after(MS(600)), "Prepare");
    let mut bench = Bench::admitted(None);
    bench.kernel.is_made = true;
    bench.begun();
    bench.hears(settled());
    assert_eq!(bench.ordered_by_request(), "Prepare", "it speaks by itself");
}

#[test]
fn a_former_socket_of_a_connection_that_comes_back_is_disconnected_first() {
    for (way, words) in [
        (Way::Restore, "read disconnect:kept note:Prepared track away:Frozen:60 restore Agreed"),
        (Way::Inject, "disconnect:kept read note:Admitted track admit Prepared"),
    ] {
        let mut bench = Bench::new();
        bench.does(|host, kernel, now| host.inherit_departed(connection(), kernel, now));
        assert_eq!(bench.host.orphans(), 1);
        assert_eq!(bench.comes(way), words);
        assert_eq!(bench.host.orphans(), 0);
    }
}

#[test]
fn when_a_connection_was_made_is_known_for_as_long_as_its_client_is_not_prompted_again() {
    for (ago, is_known) in [(MS(599), true), (MS(600), false), (S(10), false)] {
        let mut bench = Bench::admitted(None);
        bench.kernel.is_made = true;
        bench.now += SWEEP - ago;
        assert_eq!(bench.begun(), "note:Made Active");
        bench.hears(settled());
        assert_eq!(bench.after(ago), "sweep");
        assert_eq!(bench.host.made.of(&connection()).is_some(), is_known, "{ago:?} ago");
    }
}

#[test]
fn of_many_that_are_admitted_some_are_looked_at_in_one_turn_and_all_in_one_round() {
    let mut bench = Bench::new();
    let many = 1500;
    for number in 0..many {
        let transfer = TransferId { incarnation: 1, number: number as u64 };
        let connection = numbered(number);
        let phase = crate::host::coming::Phase::Admitted;
        bench.host.coming.insert(transfer, Coming { connection, way: Way::Inject, phase, unread: None });
        bench.host.admitted.insert(connection, transfer);
    }
    let round = bench.pause();
    bench.after(round);
    let at_once = bench.kernel.looks;
    assert!(at_once * 2 < 2 * many, "{at_once} looks");
    for so_far in 2..=(2 * many).div_ceil(at_once) {
        assert_eq!(bench.pause(), Duration::ZERO, "the others are due at once");
        bench.after(Duration::ZERO);
        assert_eq!(bench.kernel.looks, (so_far * at_once).min(2 * many));
    }
    assert_eq!(bench.pause(), round, "the next round");
}

#[test]
fn so_many_deeds_are_done_at_a_time() {
    let mut bench = Bench::new();
    let _ = bench.host.received(stack("rt1"), offer(Way::Restore, Consent::Presumed).into(), bench.now);
    let _ = bench.host.received(stack("rt1"), ToTarget::Part(part(OWN)).into(), bench.now);
    // It is restored, and Prepared is said.
    assert!(!bench.host.act(&mut bench.kernel, bench.now, 1));
    let some = std::mem::take(&mut bench.kernel.words);
    assert!(bench.host.act(&mut bench.kernel, bench.now, usize::MAX));
    assert!(!some.is_empty() && !bench.kernel.words.is_empty(), "{some:?}, {:?}", bench.kernel.words);
}
