//! Long random histories, compared with a plain map.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Newconn(u32, u16),
    Terminate(u32, u16),
    Change(u32, u16, u16),
    Remove(u32),
    Syn(u32, u16),
    LookUp(u32),
}

fn step(keys: u32) -> impl Strategy<Value = Step> {
    let (key, owner) = (0..keys, 0..4u16);
    prop_oneof![
        4 => (key.clone(), owner.clone()).prop_map(|(k, o)| Step::Newconn(k, o)),
        1 => (key.clone(), owner.clone()).prop_map(|(k, o)| Step::Terminate(k, o)),
        1 => (key.clone(), owner.clone(), owner.clone()).prop_map(|(k, o, n)| Step::Change(k, o, n)),
        2 => key.clone().prop_map(Step::Remove),
        1 => (key.clone(), owner).prop_map(|(k, o)| Step::Syn(k, o)),
        1 => key.prop_map(Step::LookUp),
    ]
}

/// Whether any chain of moves, however long, would end with an empty slot in one of the key's lines.
fn has_room<K: Key>(crt: &Crt, key: K) -> bool {
    let main = &K::family(crt).main;
    let place = |key| main.place(&crt.common.secret, key);
    let (mut reached, mut next) =
        (std::collections::HashSet::new(), vec![place(key).first, place(key).second]);
    while let Some(line) = next.pop() {
        if !reached.insert(line) {
            continue;
        }
        if main.line(line).empty_slot::<K>().is_some() {
            return true;
        }
        for slot in main.line(line).slots::<K>() {
            let (words, meta) = slot.read().unwrap();
            let other = place(K::from_parts(words, meta.service()));
            next.extend([other.first, other.second]);
        }
    }
    false
}

/// The map that the table must agree with. Half-open entries are left out of histories that replace them: `half_open` is
/// large enough here.
fn check_history<K: Key + std::fmt::Debug + std::hash::Hash>(steps: Vec<Step>, keys: u32, key: fn(u32) -> K) {
    // Small: 40 lines for up to 120 IPv4 entries, so that entries move and the table is full at times.
    let config = Config {
        connections_v4: 128,
        connections_v6: 60,
        flows: 16,
        half_open: 4096,
        fragments: 4,
        ..Config::default()
    };
    let crt = Crt::new(&config).unwrap();
    let mut map: HashMap<K, Entry> = HashMap::new();
    let entry = |owner: u16, state| Entry { owner: StackIndex(owner), state };
    for step in steps {
        match step {
            Step::Newconn(k, o) => match crt.newconn(key(k), StackIndex(o), at(0)) {
                Ok(done) => {
                    let old = map.insert(key(k), established(o));
                    let expected = match old {
                        None => Confirmed::New,
                        Some(old) if old == established(o) => Confirmed::Unchanged,
                        Some(old) if old == entry(o, CrtState::HalfOpen) => Confirmed::Promoted,
                        Some(old) => Confirmed::Replaced(old),
                    };
                    assert_eq!(done, expected);
                }
                Err(refused) => {
                    assert_eq!(refused, Refused::Full);
                    assert!(!has_room(&crt, key(k)), "no room was found for key {k}, but there is some");
                }
            },
            Step::Terminate(k, o) => {
                let ours = map.get_mut(&key(k)).filter(|e| e.owner.0 == o);
                assert_eq!(crt.terminate(key(k), StackIndex(o), at(0)), ours.is_some());
                if let Some(e) = ours {
                    e.state = CrtState::Closing;
                }
            }
            Step::Change(k, o, n) => {
                let expected = established(o);
                let done = crt.change(key(k), expected, established(n), at(0));
                match map.get_mut(&key(k)) {
                    Some(e) if *e == expected => {
                        assert_eq!(done, Ok(()));
                        *e = established(n);
                    }
                    other => assert_eq!(done, Err(other.copied())),
                }
            }
            Step::Remove(k) => assert_eq!(crt.remove(key(k)), map.remove(&key(k))),
            Step::Syn(k, o) => {
                let now = map.entry(key(k)).or_insert(entry(o, CrtState::HalfOpen));
                if now.state == CrtState::Closing {
                    *now = entry(o, CrtState::HalfOpen);
                }
                assert_eq!(crt.insert_half_open(key(k), StackIndex(o), at(0)), Ok(*now));
            }
            Step::LookUp(k) => assert_eq!(crt.get(key(k), at(0)), map.get(&key(k)).copied()),
        }
        crt.age(at(0), 1);
    }
    for k in 0..keys {
        assert_eq!(crt.get(key(k), at(0)), map.get(&key(k)).copied(), "key {k}");
    }
    for owner in 0..4 {
        let of = |half_open: bool| {
            let counted = |e: &&Entry| {
                e.owner.0 == owner
                    && e.state != CrtState::Closing
                    && (e.state == CrtState::HalfOpen) == half_open
            };
            map.values().filter(counted).count() as u32
        };
        let count = crt.stack_count(StackIndex(owner));
        assert_eq!((count.connections, count.half_open), (of(false), of(true)), "stack {owner}");
    }
    let stats = crt.stats();
    let entries = [stats.v4, stats.v6, stats.half_open_v4, stats.half_open_v6].map(|fill| fill.entries);
    assert_eq!(entries.iter().sum::<u64>(), map.len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_history_of_ipv4_connections_agrees_with_a_map(steps in prop::collection::vec(step(180), 0..2000)) {
        check_history(steps, 180, v4);
    }
    #[test]
    fn any_history_of_ipv6_connections_agrees_with_a_map(steps in prop::collection::vec(step(90), 0..2000)) {
        check_history(steps, 90, v6);
    }
}
