//! What ends an entry by itself, and what does not.

use super::*;

const A: StackIndex = StackIndex(1);
const B: StackIndex = StackIndex(2);

/// Goes on ageing from one time to another in steps that are short enough for every stamp.
fn pass(crt: &Crt, from_s: u64, to_s: u64) {
    for s in (from_s..=to_s).step_by(60) {
        crt.age(at(s), usize::MAX);
    }
}

#[test]
fn no_time_ends_a_tcp_connection_and_its_age_never_looks_young_again() {
    let crt = Crt::new(&config()).unwrap();
    crt.newconn(v4(1), A, at(0)).unwrap();
    for hour in 0..40 {
        pass(&crt, hour * 3600, (hour + 1) * 3600);
        let mut idle_s = Vec::new();
        crt.scan(Cursor::default(), usize::MAX, at((hour + 1) * 3600), |row| idle_s.push(row.idle_s));
        assert_eq!(idle_s.len(), 1, "after {hour} h");
        assert!(
            u64::from(idle_s[0]) >= ((hour + 1) * 3600).min(5300) - 100,
            "after {hour} h: idle {idle_s:?}"
        );
    }
    assert_eq!((crt.get(v4(1), at(144_000)), crt.stats().aged), (Some(established(1)), 0));
}

#[test]
fn an_idle_udp_flow_ends_and_a_used_one_does_not() {
    let crt = Crt::new(&config()).unwrap();
    for key in [flow(1), flow(2)] {
        assert_eq!(crt.insert_flow(key, A, None, at(0)), Ok(established(1)));
    }
    for s in (0..300).step_by(15) {
        assert!(crt.get(flow(2), at(s)).is_some(), "after {s} s");
        crt.age(at(s), usize::MAX);
        let mut seen = Vec::new();
        crt.scan(Cursor::default(), usize::MAX, at(s), |row| seen.push(row.key));
        assert_eq!(seen.contains(&flow(1).into()), s <= 130, "idle after {s} s");
    }
    let stats = crt.stats();
    assert_eq!((stats.aged, stats.flows_v4.entries, crt.stack_count(A).connections), (1, 1, 1));
}

#[test]
fn a_flow_that_is_there_stays_where_it_is_unless_it_has_lost_its_server() {
    let crt = Crt::new(&config()).unwrap();
    crt.insert_flow(flow(1), A, None, at(0)).unwrap();
    assert_eq!(crt.insert_flow(flow(1), B, None, at(1)), Ok(established(1)), "another worker was faster");
    assert_eq!(crt.insert_flow(flow(1), B, Some(A), at(1)), Ok(established(2)));
    assert_eq!(crt.insert_flow(flow(1), A, Some(A), at(1)), Ok(established(2)), "it has a new one already");
    assert_eq!((crt.stack_count(A).connections, crt.stack_count(B).connections), (0, 1));
}

#[test]
fn in_a_full_table_those_that_were_idle_for_longest_give_way() {
    let crt = Crt::new(&Config { connections_v4: 1000, ..config() }).unwrap();
    let add = |range: std::ops::Range<u32>, s| {
        range.for_each(|n| assert_eq!(crt.newconn(v4(n), A, at(s)), Ok(Confirmed::New)));
    };
    let there = |range: std::ops::Range<u32>, s| range.filter(|n| crt.get(v4(*n), at(s)).is_some()).count();
    add(0..50, 0);
    pass(&crt, 0, 1500);
    add(50..1000, 1500);
    pass(&crt, 1500, 4200);
    assert_eq!(crt.stats().gave_way, 0, "there is room");
    add(1000..1100, 4200);
    pass(&crt, 4200, 4500);
    assert_eq!((there(0..50, 4500), there(50..1100, 4500)), (0, 1050), "only those idle for `idle_tcp_s`");
    assert_eq!((crt.stats().gave_way, crt.stats().v4.entries), (50, 1050));
}

#[test]
fn a_new_connection_takes_the_place_of_one_that_was_idle_for_long() {
    let crt = Crt::new(&Config { connections_v4: 1000, ..config() }).unwrap();
    // A search that fails may have moved entries, so that the next one finds a place.
    let has_room = |n: &u32| (0..8).any(|_| crt.newconn(v4(*n), A, at(0)).is_ok());
    let fits = (0..).take_while(has_room).count() as u32;
    assert_eq!(crt.newconn(v4(fits), A, at(3000)), Err(Refused::Full), "nobody was idle for `idle_tcp_s`");
    assert_eq!(crt.newconn(v4(fits), A, at(3700)), Ok(Confirmed::New));
    assert_eq!((crt.stats().gave_way, crt.stats().v4.entries), (1, u64::from(fits)));
    // A connection that moves has to stay.
    let frozen = Entry { owner: A, state: CrtState::Frozen };
    for n in 0..=fits {
        let _ = crt.change(v4(n), established(1), frozen, at(3700));
    }
    let gone = (0..fits).find(|n| crt.get(v4(*n), at(3700)).is_none()).unwrap();
    let _ = crt.newconn(v4(gone), A, at(9000));
    let moving =
        (0..=fits).filter(|n| crt.get(v4(*n), at(9000)).is_some_and(|e| e.state == CrtState::Frozen));
    assert_eq!(moving.count(), fits as usize, "none of them gave way");
}

#[test]
fn a_flood_of_flows_touches_no_connection_and_no_flow_that_goes_on() {
    let crt = Crt::new(&Config { flows: 65_536, ..config() }).unwrap();
    for n in 0..3000 {
        crt.newconn(v4(n), A, at(0)).unwrap();
    }
    let honest = |n: u32| flow(0x8000_0000 + n);
    let mut flooded = 0;
    for ms in (0..20_000).step_by(10) {
        let now = Now { ms };
        // 20 000 a second of two packets each; two hundred honest flows, a packet a second each.
        for _ in 0..200 {
            crt.insert_flow(flow(flooded), B, None, now).unwrap();
            assert_eq!(crt.get(flow(flooded), now), Some(established(2)));
            flooded += 1;
        }
        for n in [ms % 1000 / 10 * 2, ms % 1000 / 10 * 2 + 1] {
            let entry = crt.get(honest(n as u32), now);
            assert_eq!(entry.is_some(), ms >= 1000, "honest flow {n} after {ms} ms");
            crt.insert_flow(honest(n as u32), A, None, now).unwrap();
        }
        crt.age(now, crt.age_budget(Duration::from_millis(10)));
    }
    let stats = crt.stats();
    assert!(stats.flows_evicted > 100_000 && stats.flows_v4.entries <= stats.flows_v4.capacity, "{stats:?}");
    assert_eq!((stats.v4.entries, stats.refused_full, stats.half_open_v4.entries), (3000, 0, 0));
    assert!((0..3000).all(|n| crt.get(v4(n), at(20)) == Some(established(1))));
}

#[test]
fn as_many_flows_as_were_asked_for_are_there_together() {
    let crt = Crt::new(&Config { flows: 20_000, ..config() }).unwrap();
    let six = |n: u32| {
        KeyV6::new(Ipv6Addr::from_bits(u128::from(n) << 64 | 1), 9, DvipaIndex(0), 53, Protocol::Udp)
    };
    for n in 0..20_000 {
        crt.insert_flow(flow(n), A, None, at(0)).unwrap();
        crt.insert_flow(six(n), A, None, at(0)).unwrap();
    }
    let stats = crt.stats();
    assert!(stats.flows_evicted < 20, "{stats:?}");
}

/// Keys with an entry that lives in its second line; of these, how many have room in their first one.
fn away_from_home(crt: &Crt, keys: impl Iterator<Item = KeyV4>) -> (usize, usize) {
    let first = |key: &KeyV4| crt.v4.main.first(crt.v4.main.place(&crt.common.secret, *key));
    let away: Vec<KeyV4> = keys.filter(|key| first(key).find(*key).is_none()).collect();
    (away.len(), away.iter().filter(|key| first(key).empty_slot::<KeyV4>().is_some()).count())
}

#[test]
fn entries_come_home_when_their_first_lines_have_room_again() {
    let crt = Crt::new(&config()).unwrap();
    (0..3000).for_each(|n| assert!(crt.newconn(v4(n), A, at(0)).is_ok()));
    (0..3000).filter(|n| n % 4 != 0).for_each(|n| assert!(crt.remove(v4(n)).is_some()));
    let left = || (0..3000).step_by(4).map(v4);
    let (_, before) = away_from_home(&crt, left());
    // A call goes once round, or is the one that begins a round.
    (0..20).for_each(|_| assert_eq!(crt.age(at(1), usize::MAX), 0));
    let (_, after) = away_from_home(&crt, left());
    assert!(before > 50 && after == 0, "{before} before, {after} after");
    assert!(left().all(|key| crt.get(key, at(1)) == Some(established(1))));
}

#[test]
fn a_burst_marks_what_it_finds_as_used_in_both_lines() {
    let crt = Crt::new(&config()).unwrap();
    (0..3000).for_each(|n| assert!(crt.newconn(v4(n), A, at(0)).is_ok()));
    (0..1000).for_each(|n| assert!(crt.insert_flow(flow(n), A, None, at(0)).is_ok()));
    assert!(away_from_home(&crt, (0..3000).map(v4)).0 > 50);
    for (key, protocol, s) in [(flow as fn(u32) -> KeyV4, Protocol::Udp, 100), (v4, Protocol::Tcp, 300)] {
        let mut burst = Burst::default();
        for start in (0..800).step_by(BURST) {
            burst.set((start..start + BURST as u32).map(key));
            crt.look_up(&mut burst, at(s));
        }
        let (mut young, mut old) = (0, 0);
        crt.scan(Cursor::default(), usize::MAX, at(s), |row| match row.idle_s {
            _ if row.key.protocol != protocol => {}
            ..5 => young += 1,
            _ => old += 1,
        });
        assert_eq!((young, old), (800, if protocol == Protocol::Udp { 200 } else { 2200 }), "{protocol:?}");
    }
}

#[test]
fn in_a_crowded_table_a_new_flow_takes_the_place_of_the_oldest_in_its_lines_and_accounts_hold() {
    let crt = Crt::new(&Config { flows: 256, ..config() }).unwrap();
    for n in 0..20_000_u32 {
        let now = Now { ms: u64::from(n) * 100 };
        // Two owners, and some flows end otherwise.
        let owner = if n % 2 == 0 { A } else { B };
        assert_eq!(
            crt.insert_flow(flow(n), owner, None, now),
            Ok(Entry { state: CrtState::Established, owner })
        );
        assert!(crt.get(flow(n), now).is_some());
        if n % 7 == 0 {
            crt.remove(flow(n.wrapping_sub(100)));
        }
    }
    let there: Vec<_> = (0..20_000).filter(|n| crt.get(flow(*n), at(2000)).is_some()).collect();
    let stats = crt.stats();
    assert_eq!(stats.flows_v4.entries, there.len() as u64);
    assert!(stats.flows_evicted > 15_000 && stats.refused_full == 0, "{stats:?}");
    let of = |owner: u32| there.iter().filter(|n| *n % 2 == owner).count() as u32;
    assert_eq!((of(0), of(1)), (crt.stack_count(A).connections, crt.stack_count(B).connections));
    // Nearly all are of the newest: eight times as many as there are slots came.
    assert!(there.iter().all(|n| *n > 20_000 - 6000), "{there:?}");
    // What is left ends, and no line goes on believing that keys of it live elsewhere.
    there.iter().for_each(|n| assert!(crt.remove(flow(*n)).is_some()));
    let overflows = |line: u32| {
        crt.v4.main.line(line).slot::<KeyV4>(0).is_some_and(|slot| !slot.meta().has_no_overflow())
    };
    let udp = crt.v4.main.division().tcp_lines() as u32..crt.v4.main.lines().len() as u32;
    assert_eq!(udp.filter(|line| overflows(*line)).count(), 0);
}
