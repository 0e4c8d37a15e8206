use super::*;
use crate::fixture::{about, connection, stack};
use crate::host::kernel::{Found, Order, Place, Queues};
use crate::limits;
use kernel::at_rest;
use model::transfer::{Lost, Released, Why};

pub(super) fn ask() -> Ask {
    let (connection, target, consent) = (connection(), stack("t2"), Consent::Presumed);
    Ask { connection, target, job: None, consent, application: Vec::new(), giver: None }
}

pub(super) fn freeze(way: Way) -> ToSource {
    let request = Request { incarnation: RUN, number: 1 };
    ToSource::Freeze(Freeze { about: about(OWN), request, way, ledger: LEDGER })
}

pub(super) fn aborted() -> ToSource {
    ToSource::Aborted(Aborted { about: about(OWN), why: Reason::Rejected.into(), request: None })
}

pub(super) fn released() -> ToSource {
    ToSource::Released(Released { about: about(OWN) })
}

fn lost() -> ToSource {
    ToSource::Lost(Lost { about: about(OWN) })
}

fn order(quiet: Option<Duration>) -> Order {
    Order { id: None, place: Place { process: 1, descriptor: 3 }, quiet, next: None }
}

impl Bench {
    fn asked_on(&mut self, terms: Terms, acknowledged_by: Option<Instant>) -> String {
        let request = RequestId(1);
        self.does(|host, _, now| host.asked(APPLICATION, request, ask(), terms, acknowledged_by, now))
    }

    pub(super) fn asked(&mut self) -> String {
        self.asked_on(Terms::Carry, None)
    }

    fn asked_again(&mut self, request: u32) -> (bool, String) {
        let mut is_answered = false;
        let words = self.does(|host, kernel, now| {
            let (application, request) = (ApplicationId(2), RequestId(request));
            is_answered = host.is_asked_again(application, request, connection(), kernel, now);
        });
        (is_answered, words)
    }

    fn resumed(&mut self) -> String {
        self.does(|host, kernel, now| {
            host.resumed(ApplicationId(2), RequestId(7), connection(), kernel, now);
        })
    }

    pub(super) fn ordered(&mut self, quiet: Option<Duration>) -> String {
        self.ordered_as(order(quiet))
    }

    /// The client's next request is for another target.
    pub(super) fn ordered_by_request(&mut self) -> String {
        self.ordered_as(Order { next: Some(0), ..order(None) })
    }

    fn ordered_as(&mut self, order: Order) -> String {
        let seen = Ok(self.kernel.seen);
        self.does(|host, kernel, now| host.ordered(order, ask(), seen, kernel, now))
    }

    /// A connection that is frozen here, and was sent.
    fn frozen() -> Self {
        let mut bench = Self::new();
        bench.asked();
        bench.hears(freeze(Way::Restore));
        bench.stands();
        bench
    }
}

/// What follows when nothing is dumped.
const STAYS: &str = "flow thaw erase:Leaving Abandon release:kept erase:Leaving stays:";

#[test]
fn a_connection_that_its_application_moves_is_frozen_first_and_disconnected_last() {
    let mut bench = Bench::new();
    assert_eq!(bench.asked(), "hold Prepare");
    assert!(bench.host.is_leaving(&connection()));
    assert_eq!((bench.host.leaving(), bench.stands()), (1, None), "nothing is done to it");
    assert_eq!(bench.hears(freeze(Way::Restore)), "note:Leaving away:Frozen:985 dump Part");
    assert_eq!(bench.stands(), Some(Standing::Moves));
    let moved = "away:Departed:120 disconnect:kept moved:Application erase:Leaving Done";
    assert_eq!(bench.hears(released()), moved);
    assert_eq!((bench.host.leaving(), bench.stands()), (0, Some(Standing::Elsewhere)));
    assert!(!bench.host.is_leaving(&connection()));
}

#[test]
fn a_connection_that_does_not_move_goes_on_and_one_that_nobody_has_is_disconnected() {
    let mut bench = Bench::frozen();
    let stays = "flow thaw erase:Leaving release:kept erase:Leaving stays:Application:rejected Done";
    assert_eq!(bench.hears(aborted()), stays);
    assert_eq!(bench.stands(), Some(Standing::Ours));
    let mut bench = Bench::frozen();
    let ended = "away:Departed:120 disconnect:kept erase:Leaving stays:Application:ended Done";
    assert_eq!(bench.hears(lost()), ended);
    assert_eq!(bench.stands(), Some(Standing::Elsewhere));
}

#[test]
fn what_can_not_be_frozen_or_dumped_stays() {
    for (fails, words) in
        [("note", "note:Leaving! erase:Leaving"), ("away", "note:Leaving away:Frozen:985! erase:Leaving")]
    {
        let mut bench = Bench::new();
        bench.asked();
        bench.kernel.fail(fails);
        let stays = format!("{words} {STAYS}Application:not_dumped_now");
        assert_eq!(bench.hears(freeze(Way::Restore)), stays);
    }
    let mut bench = Bench::new();
    bench.asked();
    bench.kernel.fail("dump");
    let stays = format!("note:Leaving away:Frozen:985 dump! {STAYS}Application:not_dumped");
    assert_eq!(bench.hears(freeze(Way::Restore)), stays);
}

#[test]
fn a_kernel_whose_connection_is_injected_elsewhere_hears_nothing_and_still_sends_again() {
    let mut bench = Bench::new();
    bench.asked();
    assert_eq!(bench.hears(freeze(Way::Inject)), "note:Leaving away:Deaf:985 dump Part");
    bench.kernel.queues = Queues { unread: 1, ..Queues::default() };
    let mut bench = Bench::new();
    bench.asked_on(Terms::Acknowledged, None);
    bench.kernel.queues.unacknowledged = 1;
    let stays = format!("note:Leaving away:Frozen:985 dump {STAYS}Application:not_idle");
    assert_eq!(bench.hears(freeze(Way::Restore)), stays, "the asker does not allow it");
}

#[test]
fn a_request_waits_for_the_clients_acknowledgment_as_long_as_its_application_says() {
    let waits = |at_most| {
        let mut bench = Bench::new();
        bench.kernel.unacknowledged = 1;
        let until = bench.now + at_most;
        (bench.asked_on(Terms::Acknowledged, Some(until)), bench)
    };
    let (words, mut bench) = waits(MS(60));
    assert_eq!((words.as_str(), bench.host.leaving()), ("", 1));
    for pause in [1, 2, 4, 8, 16, 16] {
        assert_eq!(bench.pause(), MS(pause), "the kernel is asked less and less often");
        assert_eq!(bench.after(MS(pause)), "");
    }
    assert_eq!(bench.pause(), MS(13), "what is left of the time");
    assert_eq!(bench.after(MS(13)), "stays:Application:not_idle");
    let (_, mut bench) = waits(MS(60));
    bench.kernel.unacknowledged = 0;
    assert_eq!(bench.after(MS(1)), "hold Prepare");
    assert_eq!(waits(MS(0)).0, "stays:Application:not_idle");
    let (_, mut bench) = waits(MS(60));
    bench.host.application_ended(ApplicationId(2));
    assert_eq!((bench.host.leaving(), bench.pause()), (1, MS(1)));
    bench.host.application_ended(APPLICATION);
    assert_eq!((bench.host.leaving(), bench.pause()), (0, SWEEP));
}

#[test]
fn requests_for_one_connection_are_followed_one_after_the_other() {
    let mut bench = Bench::new();
    bench.kernel.unacknowledged = 1;
    let until = bench.now + MS(60);
    for _ in 0..3 {
        assert_eq!(bench.asked_on(Terms::Acknowledged, Some(until)), "");
    }
    assert_eq!(bench.host.leaving(), 3);
    bench.kernel.unacknowledged = 0;
    // The first one is begun, and the others are of a connection that moves.
    let busy = "stays:Application:busy";
    assert_eq!(bench.after(MS(1)), format!("hold Prepare {busy} {busy}"));
}

#[test]
fn a_server_that_is_not_asked_is_looked_at_before_it_is_frozen() {
    let frozen = "look note:Leaving away:Frozen:985 dump Part";
    let mut bench = Bench::new();
    assert_eq!(bench.ordered(None), "Prepare");
    assert_eq!(bench.hears(freeze(Way::Restore)), format!("hold-found {frozen}"));
    assert_eq!(bench.stands(), Some(Standing::Moves));
    let mut bench = Bench::new();
    bench.ordered(None);
    let injected = "hold-found look prompt note:Leaving away:Deaf:985 dump Part";
    assert_eq!(bench.hears(freeze(Way::Inject)), injected);
    // It has just spoken, and speaks on.
    let mut bench = Bench::new();
    bench.kernel.seen.0 = Activity { since_sent: MS(4), ..at_rest() };
    bench.ordered(None);
    assert_eq!(bench.hears(freeze(Way::Restore)), "hold-found look");
    assert!(bench.host.settles(&connection()));
    assert_eq!(bench.pause(), MS(6));
    assert_eq!(bench.after(MS(6)), "look");
    bench.kernel.seen.0 = at_rest();
    assert_eq!(bench.after(MS(6)), frozen);
    assert!(!bench.host.settles(&connection()));
}

#[test]
fn a_client_that_has_sent_its_next_request_is_not_prompted_and_its_server_need_not_be_silent() {
    let mut bench = Bench::new();
    bench.kernel.seen.0 = Activity { since_sent: MS(0), ..at_rest() };
    bench.kernel.unacknowledged = 1;
    assert_eq!(bench.ordered_by_request(), "Prepare");
    assert_eq!(bench.hears(freeze(Way::Inject)), "hold-found look", "its request makes no connection yet");
    assert_eq!(bench.after(MS(2)), "look");
    bench.kernel.unacknowledged = 0;
    assert_eq!(bench.after(MS(2)), "look note:Leaving away:Deaf:985 dump Part");
}

#[test]
fn a_clients_packets_are_not_held_for_long_while_its_server_speaks() {
    let mut bench = Bench::new();
    bench.kernel.seen.0 = Activity { since_sent: MS(0), ..at_rest() };
    bench.ordered(None);
    assert_eq!(bench.hears(freeze(Way::Restore)), "hold-found look");
    for _ in 0..8 {
        assert_eq!(bench.after(MS(10)), "look");
    }
    assert_eq!(bench.after(MS(10)), format!("look {STAYS}Operator:not_idle"));
}

#[test]
fn a_server_that_is_not_idle_keeps_its_connection() {
    let mut bench = Bench::new();
    bench.kernel.seen.1 = Stand::Answering;
    assert_eq!(bench.ordered(None), "stays:Operator:not_idle", "before anybody is asked");
    let not = |settle: fn(&mut Told)| {
        let mut bench = Bench::new();
        bench.ordered(None);
        settle(&mut bench.kernel);
        bench.hears(freeze(Way::Inject))
    };
    let look = |reason: &str| format!("hold-found look {STAYS}Operator:{reason}");
    assert_eq!(not(|kernel| kernel.seen.1 = Stand::Answering), look("not_idle"));
    assert_eq!(not(|kernel| kernel.seen.1 = Stand::Encrypted), look("encrypted"));
    assert_eq!(not(|kernel| kernel.fail("look")), look("no_socket").replace("look", "look!"));
    assert_eq!(not(|kernel| kernel.fail("prompt")), look("not_dumped").replace("look", "look prompt!"));
    assert_eq!(
        not(|kernel| kernel.fail("hold")),
        look("no_socket").replace("hold-found look", "hold-found!"),
        "its server has closed it meanwhile"
    );
    let mut bench = Bench::new();
    bench.kernel.seen = (Activity { since_sent: MS(50), ..at_rest() }, Stand::Another);
    assert_eq!(bench.ordered(None), "stays:Operator:another_protocol");
    assert_eq!(bench.ordered(Some(MS(50))), "Prepare", "the order says what silence proves");
}

#[test]
fn an_application_that_comes_back_is_told_what_became_of_its_transfer() {
    let mut bench = Bench::frozen();
    assert_eq!(bench.asked_again(2), (true, "stays:Application:busy".into()), "another asks still");
    bench.host.application_ended(APPLICATION);
    assert_eq!(bench.asked_again(2), (true, "release:passed".into()));
    bench.host.application_ended(ApplicationId(3));
    assert_eq!(bench.resumed(), "stays:Application:busy");
    assert!(bench.hears(released()).contains("disconnect:kept moved:Application"));
    // Nothing moves any more.
    assert_eq!(bench.asked_again(2), (false, String::new()));
    assert_eq!(bench.resumed(), "disconnect:passed moved:Application");
    bench.kernel.fail("is away");
    assert_eq!(bench.resumed(), "stays:Application:source_lost");
    assert_eq!(Bench::new().resumed(), "stays:Application:source_lost", "it never moved");
}

#[test]
fn a_connection_that_moved_while_nobody_asked_is_kept_silent_for_who_asks_later() {
    let moved = || {
        let mut bench = Bench::frozen();
        bench.host.application_ended(APPLICATION);
        assert_eq!(bench.hears(released()), "away:Departed:120 erase:Leaving Done");
        assert_eq!((bench.host.orphans(), bench.stands()), (1, Some(Standing::Moves)));
        bench
    };
    let mut bench = moved();
    assert_eq!(bench.resumed(), "disconnect:kept disconnect:passed moved:Application");
    assert_eq!((bench.host.orphans(), bench.stands()), (0, Some(Standing::Elsewhere)));
    let mut bench = moved();
    assert_eq!(bench.after(S(29)), "");
    assert_eq!(bench.after(S(1)), "disconnect:kept sweep");
    assert_eq!((bench.host.orphans(), bench.stands()), (0, Some(Standing::Elsewhere)));
}

#[test]
fn a_frozen_socket_that_an_application_shows_late_is_silenced_and_found() {
    let note = giving::Note {
        connection: connection(),
        transfer: OWN,
        target: stack("t2"),
        ledger: LEDGER,
        way: Way::Restore,
    };
    let until = Instant::now() + limits::IN_DOUBT;
    let left = Left { leaving: vec![(note, until)], ..Left::default() };
    let (mut bench, words) = Bench::after_restart(left, |kernel| kernel.found = Found::Nowhere);
    assert_eq!(words, "away:Frozen:985 find | Doubt");
    assert_eq!(bench.asked_again(1), (true, "hold silence".into()));
    let stays = "flow thaw erase:Leaving release:kept erase:Leaving stays:Application:rejected Done";
    assert_eq!(bench.hears(aborted()), stays);
}

#[test]
fn what_a_source_is_told_of_no_transfer_does_nothing() {
    let mut bench = Bench::new();
    assert_eq!(bench.hears(released()), "Done");
    let why: Why = Reason::Cancelled.into();
    assert_eq!(bench.does(|host, _, now| host.not_taken(&connection(), why, now)), "");
    assert_eq!((bench.host.leaving(), bench.host.coming(), bench.host.awaited()), (0, 0, 0));
    assert_eq!(bench.pause(), SWEEP);
    assert_eq!(bench.after(SWEEP), "sweep");
    assert_eq!(bench.pause(), SWEEP);
}
