//! What each operation does, one at a time.

use super::*;

const A: StackIndex = StackIndex(1);
const B: StackIndex = StackIndex(2);

fn count(crt: &Crt, stack: StackIndex) -> (u32, u32) {
    let count = crt.stack_count(stack);
    (count.connections, count.half_open)
}

#[test]
fn a_connection_goes_from_half_open_to_established_to_closing_to_nothing() {
    let crt = Crt::new(&config()).unwrap();
    let key = v4(1);
    assert_eq!(crt.get(key, at(0)), None);
    let half_open = Entry { owner: A, state: CrtState::HalfOpen };
    assert_eq!(crt.insert_half_open(key, A, at(0)), Ok(half_open));
    assert_eq!((crt.get(key, at(0)), count(&crt, A)), (Some(half_open), (0, 1)));
    assert_eq!(crt.get(crt.place(key), at(0)), Some(half_open), "a key that is located already");
    assert_eq!(crt.newconn(key, A, at(1)), Ok(Confirmed::Promoted));
    assert_eq!((crt.get(key, at(1)), count(&crt, A)), (Some(established(1)), (1, 0)));
    assert_eq!(crt.newconn(key, A, at(1)), Ok(Confirmed::Unchanged));
    assert!(crt.terminate(key, A, at(2)));
    assert_eq!(crt.get(key, at(2)), Some(Entry { owner: A, state: CrtState::Closing }));
    assert_eq!(count(&crt, A), (0, 0));
    assert_eq!(crt.age(at(4), usize::MAX), 0);
    assert_eq!(crt.age(at(12), usize::MAX), 1);
    assert_eq!(crt.get(key, at(12)), None);
    assert_eq!((crt.stats().v4.entries, crt.stats().half_open_v4.entries, crt.stats().aged), (0, 0, 1));
}

#[test]
fn a_syn_for_a_live_connection_changes_nothing_and_for_a_closing_one_chooses_anew() {
    let crt = Crt::new(&config()).unwrap();
    crt.newconn(v6(1), A, at(0)).unwrap();
    assert_eq!(crt.insert_half_open(v6(1), B, at(1)), Ok(established(1)));
    crt.terminate(v6(1), A, at(2));
    let anew = Entry { owner: B, state: CrtState::HalfOpen };
    assert_eq!(crt.insert_half_open(v6(1), B, at(3)), Ok(anew));
    assert_eq!((count(&crt, A), count(&crt, B)), ((0, 0), (0, 1)));
    // A late report of the former owner does not end the new connection.
    assert!(!crt.terminate(v6(1), A, at(3)));
    assert_eq!(crt.newconn(v6(1), B, at(3)), Ok(Confirmed::Promoted));
    assert_eq!(count(&crt, B), (1, 0));
}

#[test]
fn a_report_without_an_entry_makes_one_and_of_another_stack_moves_it() {
    let crt = Crt::new(&config()).unwrap();
    assert_eq!(crt.newconn(v4(1), A, at(0)), Ok(Confirmed::New));
    assert_eq!(crt.newconn(v4(1), B, at(0)), Ok(Confirmed::Replaced(established(1))));
    assert_eq!(crt.get(v4(1), at(0)), Some(established(2)));
    assert_eq!((count(&crt, A), count(&crt, B)), ((0, 0), (1, 0)));
}

#[test]
fn a_change_needs_the_entry_to_be_as_expected() {
    let crt = Crt::new(&config()).unwrap();
    let frozen = Entry { owner: A, state: CrtState::Frozen };
    assert_eq!(crt.change(v4(1), established(1), frozen, at(0)), Err(None));
    crt.newconn(v4(1), A, at(0)).unwrap();
    assert_eq!(crt.change(v4(1), established(1), frozen, at(0)), Ok(()));
    assert_eq!(crt.change(v4(1), established(1), frozen, at(0)), Err(Some(frozen)));
    // NEWCONN of the owner does not thaw it.
    assert_eq!(crt.newconn(v4(1), A, at(0)), Ok(Confirmed::Unchanged));
    assert_eq!(crt.change(v4(1), frozen, established(2), at(0)), Ok(()));
    assert_eq!((count(&crt, A), count(&crt, B)), ((0, 0), (1, 0)));
    let no_stack = established(StackIndex::MAX + 1);
    assert_eq!(crt.change(v4(1), established(2), no_stack, at(0)), Err(Some(established(2))));
    assert_eq!(crt.remove(v4(1)), Some(established(2)));
    assert_eq!(crt.remove(v4(1)), None);
}

#[test]
fn keys_that_differ_in_any_part_are_different_connections() {
    let crt = Crt::new(&config()).unwrap();
    let key = |client: u32, port, dvipa, dvipa_port, protocol| {
        KeyV4::new(Ipv4Addr::from_bits(client), port, DvipaIndex(dvipa), dvipa_port, protocol)
    };
    let one = key(1, 1, 1, 1, Protocol::Tcp);
    crt.newconn(one, A, at(0)).unwrap();
    for other in [
        key(2, 1, 1, 1, Protocol::Tcp),
        key(1, 2, 1, 1, Protocol::Tcp),
        key(1, 1, 2, 1, Protocol::Tcp),
        key(1, 1, 1 + 4096, 1, Protocol::Tcp),
        key(1, 1, 1, 2, Protocol::Tcp),
        key(1, 1, 1, 1, Protocol::Udp),
    ] {
        assert_eq!(crt.get(other, at(0)), None, "{other:?}");
    }
    assert_eq!(crt.get(one, at(0)), Some(established(1)));
    assert_eq!(crt.newconn(key(1, 1, 4096, 1, Protocol::Tcp), A, at(0)), Err(Refused::Index));
}

#[test]
fn a_burst_finds_what_single_look_ups_find() {
    let crt = Crt::new(&config()).unwrap();
    for n in 0..3000 {
        crt.newconn(v4(n), StackIndex((n % 5) as u16), at(0)).unwrap();
    }
    for n in 3000..3300 {
        crt.insert_half_open(v4(n), StackIndex((n % 5) as u16), at(0)).unwrap();
    }
    let bursts = (0..3500).step_by(17).map(|start| {
        let mut burst = Burst::default();
        (start..start + BURST as u32).for_each(|n| assert!(burst.push(v4(n))));
        assert!(!burst.push(v4(0)), "a burst is full at some size");
        burst
    });
    let mut bursts: Vec<_> = bursts.collect();
    // In turns: each is requested by the one before it.
    for i in 0..bursts.len() {
        let [this, following @ ..] = &mut bursts[i..] else { unreachable!() };
        if i == 0 {
            crt.locate(this);
        }
        if let Some(next) = following.first_mut() {
            crt.locate(next);
        }
        crt.read(this, following.first());
    }
    for burst in &mut bursts {
        crt.finish(burst, at(1));
        for (key, found) in burst.keys().iter().zip(burst.found()) {
            assert_eq!(found.entry(), crt.get(*key, at(1)), "{key:?}");
        }
        let entries = |burst: &Burst<KeyV4>| burst.found().iter().map(|f| f.entry()).collect::<Vec<_>>();
        let in_turns = entries(burst);
        crt.look_up(burst, at(1));
        assert_eq!(entries(burst), in_turns, "alone as in turns");
    }
}

#[test]
fn a_scan_in_small_steps_shows_every_entry_once() {
    let crt = Crt::new(&config()).unwrap();
    for n in 0..1000 {
        crt.newconn(v4(n), A, at(0)).unwrap();
        crt.newconn(v6(n), B, at(0)).unwrap();
        crt.insert_half_open(v4(n + 5000), B, at(0)).unwrap();
    }
    let evicted = crt.stats().half_open_evicted as usize;
    let mut shown = std::collections::HashSet::new();
    let mut from = Some(Cursor::default());
    while let Some(cursor) = from {
        from = crt.scan(cursor, 10, at(7), |row| {
            let KeyParts { client, dvipa, dvipa_port, protocol } = row.key;
            assert!(shown.insert((client, dvipa, dvipa_port, protocol)), "{row:?} twice");
            assert!(row.idle_s >= 5 && row.idle_s <= 7, "{row:?}");
        });
    }
    assert_eq!(shown.len(), 3000 - evicted);
}

#[test]
fn fragments_follow_the_first_one_of_their_datagram_only() {
    let crt = Crt::new(&config()).unwrap();
    let source = Ipv4Addr::new(198, 18, 0, 2);
    let one = FragmentKeyV4::new(source, DvipaIndex(1), 17, 7);
    crt.insert_fragment(one, A, at(0)).unwrap();
    assert_eq!(crt.fragment(one, at(0)), Some(A));
    for other in [
        FragmentKeyV4::new(source, DvipaIndex(1), 17, 8),
        FragmentKeyV4::new(source, DvipaIndex(1), 6, 7),
        FragmentKeyV4::new(source, DvipaIndex(2), 17, 7),
    ] {
        assert_eq!(crt.fragment(other, at(0)), None);
    }
    let six = |id| FragmentKeyV6::new(Ipv6Addr::LOCALHOST, DvipaIndex(1), id);
    crt.insert_fragment(six(0x1_0000), B, at(0)).unwrap();
    assert_eq!((crt.fragment(six(0x1_0000), at(0)), crt.fragment(six(0), at(0))), (Some(B), None));
    for id in 0..1000 {
        crt.insert_fragment(six(id), A, at(1)).unwrap();
    }
    assert!(crt.stats().fragments_evicted > 900);
    assert_eq!(crt.fragment(one, at(9)), Some(A));
    // Its life is over before a sweep comes by: identifications are used again.
    assert_eq!(crt.fragment(one, at(15)), None);
}
