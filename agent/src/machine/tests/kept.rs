//! Who is told which connections are only kept open.

use super::*;
use crate::machine::Speech;

/// A connection to this DVIPA at which nobody has said anything for so long.
fn speech(last: u8, quiet_ms: u64) -> Speech {
    let quiet = Duration::from_millis(quiet_ms);
    let client = IpAddr::from([198, 18, 0, 2]);
    Speech { dvipa: dvipa(last).address(), port: 80, client, silent: Some(quiet), waits: None, quiet }
}

/// What `rt1`, whose list has the first DVIPA only, is told of three connections, and whether open connections are looked at each second.
fn told_of_kept(by_load: Option<bool>) -> (Load, bool) {
    let connections = vec![(Cookie(1), connection(1, 1)), (Cookie(2), connection(1, 2))];
    let picture = Picture { connections, ..Picture::default() };
    let mut bench = Bench::reporting(VipaList { by_load, ..list(&[1], &[]) }, &picture);
    let next = |bench: &mut Bench| {
        bench.now += LOAD_INTERVAL;
        bench.tell(Event::TimePassed).contains(&Action::LookAtSpeeches)
    };
    next(&mut bench);
    bench.tell(Event::Speeches(vec![speech(1, 5000), speech(1, 20), speech(2, 30)]));
    let looks = next(&mut bench);
    let actions = bench.tell(Event::LoadSampled(Load::default(), None));
    match &told(&actions)[..] {
        [FromStack::Load(load)] => (load.clone(), looks),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_selects_by_load_is_told_what_is_only_kept_open_and_what_others_want() {
    let load = Load { idle: Some(1), elsewhere: Some(1), ..Load::default() };
    assert_eq!(told_of_kept(Some(true)), (load, true));
    assert_eq!(told_of_kept(None), (Load::default(), false), "who does not is not");
}
