//! Tables that outlive the process that made them, whatever it was doing and whatever has become of the file.

use std::fs::File;
use std::os::fd::FromRawFd;

use proptest::prelude::*;

use super::*;
use crate::crt::line::Line;

const A: StackIndex = StackIndex(0);

/// A file in memory.
fn memory() -> File {
    // SAFETY: makes a descriptor.
    let fd = unsafe { libc::memfd_create(c"crt".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "memfd_create");
    // SAFETY: it is open, and nobody else's.
    unsafe { File::from_raw_fd(fd) }
}

/// Everything that the tests use means something.
fn named() -> Named {
    Named::new((0..8).map(StackIndex), (0..4).map(DvipaIndex))
}

fn attached(file: &File) -> (Crt, Repairs) {
    Crt::find_in(&config(), file).unwrap().attach(&named())
}

/// A table in a file with 3000 connections of four stacks, half-open ones and flows.
fn filled(file: &File) -> Crt {
    let crt = Crt::create_in(&config(), file).unwrap();
    for n in 0..3000 {
        crt.newconn(v4(n), StackIndex((n % 4) as u16), at(0)).unwrap();
    }
    for n in 0..1000 {
        crt.insert_half_open(v6(n), A, at(1)).unwrap();
        crt.insert_flow(flow(n), StackIndex(1), None, at(1)).unwrap();
    }
    crt
}

#[test]
fn a_later_process_finds_everything_where_the_former_left_it() {
    let file = memory();
    let crt = filled(&file);
    let before = crt.stats();
    let counts = || (0..4).map(StackIndex);
    let stacks: Vec<_> = counts().map(|stack| crt.stack_count(stack)).collect();
    drop(crt);

    let (crt, repairs) = attached(&file);
    assert_eq!(repairs, Repairs::default());
    for n in 0..3000 {
        assert_eq!(crt.get(v4(n), at(2)), Some(established((n % 4) as u16)));
    }
    for n in 0..1000 {
        assert_eq!(crt.get(flow(n), at(2)), Some(established(1)));
    }
    let now = crt.stats();
    assert_eq!((now.v4, now.flows_v4, now.half_open_v6), (before.v4, before.flows_v4, before.half_open_v6));
    assert_eq!(counts().map(|stack| crt.stack_count(stack)).collect::<Vec<_>>(), stacks);
    for n in 0..3000 {
        assert!(crt.terminate(v4(n), StackIndex((n % 4) as u16), at(3)));
    }
}

#[test]
fn what_a_process_died_in_the_middle_of_is_put_right() {
    let file = memory();
    let crt = filled(&file);
    // A change that has only taken its lock.
    let (untouched, first) = (v4(7), |crt: &Crt, key| crt.v4.main.place(&crt.common.secret, key).first);
    std::mem::forget(crt.v4.main.line(first(&crt, untouched)).lock::<KeyV4>());
    // A promotion that has published the connection and not yet cleared the half-open entry (K2).
    let promoted = (0..).map(v6).find(|key| crt.get(*key, at(1)).is_some()).unwrap();
    let place = crt.v6.main.place(&crt.common.secret, promoted);
    let lock = crt.v6.main.first(place).lock::<KeyV6>().unwrap();
    std::mem::forget(crt.v6.half_open.lock(place).unwrap());
    assert!(matches!(crt.v6.main.insert(place, &lock, promoted, established(1), 0), cuckoo::Insert::Done));
    std::mem::forget(lock);
    // A move that has published the copy and not yet cleared the original (C2).
    let (moved, from, to) = unfinished_move(&crt);
    let (half_open, of_a) = (crt.stats().half_open_v6.entries, crt.stack_count(A));
    drop(crt);

    let (crt, repairs) = attached(&file);
    assert_eq!(repairs, Repairs { locked: 5, damaged: 2, ..Repairs::default() });
    assert_eq!(crt.get(promoted, at(2)), Some(established(1)));
    assert_eq!(crt.get(moved, at(2)).map(|entry| entry.state), Some(CrtState::Established));
    let copies = [from, to].map(|line| crt.v4.main.line(line).find(moved).is_some());
    assert_eq!(copies.into_iter().filter(|is_there| *is_there).count(), 1);
    assert_eq!((crt.stats().v4.entries, crt.stats().v6.entries), (3000, 1));
    assert_eq!(crt.stats().half_open_v6.entries, half_open - 1);
    assert_eq!((crt.stack_count(A).connections, crt.stack_count(A).half_open), (750, of_a.half_open - 1));
    assert!(crt.remove(untouched).is_some() && crt.remove(moved).is_some());
    assert_eq!(crt.get(moved, at(2)), None);
    is_sound(&crt).unwrap();
}

/// Publishes a connection's copy in its other line, and keeps both locks: its key, and the two lines.
fn unfinished_move(crt: &Crt) -> (KeyV4, u32, u32) {
    let (main, secret) = (&crt.v4.main, &crt.common.secret);
    for key in (8..3000).map(v4) {
        let place = main.place(secret, key);
        let (Some(first), Some(second)) =
            (main.first(place).lock::<KeyV4>(), main.second(place).lock::<KeyV4>())
        else {
            continue;
        };
        let room = second.line().empty_slot();
        let (Some(room), Some(_)) = (room, first.line().find(key)) else { continue };
        first.overflow_up(line::Class::of(place));
        second.publish(room, key, crt.get(key, at(1)).unwrap(), 0);
        std::mem::forget((first, second));
        return (key, place.first, place.second);
    }
    unreachable!("some connection is in its first line, and its second has room");
}

#[test]
fn what_was_moving_or_means_nothing_any_more_ends() {
    let file = memory();
    let crt = filled(&file);
    let frozen = Entry { owner: StackIndex(1), state: CrtState::Frozen };
    let handed = Entry { owner: StackIndex(2), state: CrtState::HandingOver };
    crt.change(v4(1), established(1), frozen, at(2)).unwrap();
    crt.change(v4(2), established(2), handed, at(2)).unwrap();
    drop(crt);
    let without = Named::new([0, 1, 2].map(StackIndex), [0, 1].map(DvipaIndex));
    let (crt, repairs) = Crt::find_in(&config(), &file).unwrap().attach(&without);
    assert_eq!(repairs.moving, 1, "the other one's DVIPA means nothing");
    for n in 0..3000 {
        let ends = [1, 2].contains(&n) || n % 4 == 3 || n % 3 == 2;
        assert_eq!(crt.get(v4(n), at(2)).is_none(), ends, "{n}");
    }
    is_sound(&crt).unwrap();
}

#[test]
fn the_record_and_the_clock_are_there_for_the_next_process() {
    let file = memory();
    let crt = Crt::create_in(&config(), &file).unwrap();
    assert_eq!(Crt::find_in(&config(), &file).unwrap().record(), None);
    assert!(crt.record(b"0 is t1"));
    crt.keep_time(Now { ms: 70_000 }, 1_000_000);
    drop(crt);
    let left = Crt::find_in(&config(), &file).unwrap();
    assert_eq!(left.record().as_deref(), Some(&b"0 is t1"[..]));
    assert_eq!(left.clock(1_000_500), Some(70_500));
    assert_eq!(left.clock(0), None, "before the table was made");
    let (crt, _) = left.attach(&named());
    assert!(crt.record(b"0 is t1, 1 is t2"));
    let left = Crt::find_in(&config(), &file).unwrap();
    assert_eq!(
        (left.record().as_deref(), left.clock(1_000_501)),
        (Some(&b"0 is t1, 1 is t2"[..]), Some(70_501))
    );
    assert!(!Crt::new(&config()).unwrap().record(b"in no file"));
}

/// Changes bytes of a file.
fn patch(file: &File, at: u64, bytes: &[u8]) {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at).unwrap();
}

#[test]
fn what_is_no_table_of_this_kind_is_refused_by_name() {
    let refused = |config: &Config, spoil: &dyn Fn(&File)| {
        let file = memory();
        drop(Crt::create_in(&super::config(), &file).unwrap());
        spoil(&file);
        Crt::find_in(config, &file).unwrap_err()
    };
    let same = config();
    assert!(matches!(refused(&same, &|file| file.set_len(0).unwrap()), Unusable::Empty));
    assert!(matches!(refused(&same, &|file| file.set_len(100).unwrap()), Unusable::NoTable));
    assert!(matches!(refused(&same, &|file| patch(file, 0, b"B")), Unusable::NoTable));
    let next = layout::VERSION + 1;
    let newer = refused(&same, &|file| patch(file, 8, &next.to_ne_bytes()));
    assert!(matches!(newer, Unusable::Version { found } if found == next), "{newer}");
    assert!(newer.to_string().contains(&format!("layout {next}")), "{newer}");
    for byte in 16..200 {
        let damaged = refused(&same, &|file| patch(file, byte, &[0xa5; 8]));
        assert!(matches!(damaged, Unusable::Damaged(_)), "byte {byte}: {damaged}");
    }
    let shorter = |file: &File| file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    assert!(matches!(refused(&same, &shorter), Unusable::Damaged(_)));
    let sizes = Config { connections_v4: 5000, ..config() };
    assert!(matches!(refused(&sizes, &|_| ()), Unusable::Sizes));
    let lives = Config { idle_tcp_s: 60, ..config() };
    assert!(matches!(refused(&lives, &|_| ()), Unusable::Lifetimes));
}

/// What must be true of a table after it was attached to, whatever was in the file.
fn is_sound(crt: &Crt) -> Result<(), String> {
    fn lines_of<K: Exact>(lines: &memory::Array<Line>, counts: &mut [u32]) -> Result<u64, String> {
        let mut entries = 0;
        for number in 0..lines.len() {
            let line = lines.at(number);
            if line.lock::<K>().is_none() {
                return Err(format!("line {number} is locked"));
            }
            for slot in line.slots::<K>().filter(|slot| !slot.meta().is_empty()) {
                let entry = slot.meta().entry().ok_or(format!("an entry in line {number} has no state"))?;
                if entry.owner.0 >= 8 {
                    return Err(format!("{entry:?} is nobody's"));
                }
                entries += 1;
                if let Some(at) = ledger::account(entry) {
                    counts[at] += 1;
                }
            }
        }
        Ok(entries)
    }
    let mut counts = vec![0; ledger::STACK_WORDS];
    let v4 = lines_of::<KeyV4>(crt.v4.main.lines(), &mut counts)?;
    let v6 = lines_of::<KeyV6>(crt.v6.main.lines(), &mut counts)?;
    let half_open = lines_of::<KeyV4>(crt.v4.half_open.lines(), &mut counts)?
        + lines_of::<KeyV6>(crt.v6.half_open.lines(), &mut counts)?;
    lines_of::<FragmentKeyV4>(crt.fragments_v4.lines(), &mut vec![0; ledger::STACK_WORDS])?;
    lines_of::<FragmentKeyV6>(crt.fragments_v6.lines(), &mut vec![0; ledger::STACK_WORDS])?;
    let stats = crt.stats();
    let said = [
        stats.v4.entries + stats.flows_v4.entries,
        stats.v6.entries + stats.flows_v6.entries,
        stats.half_open_v4.entries + stats.half_open_v6.entries,
    ];
    if said != [v4, v6, half_open] {
        return Err(format!("accounts say {said:?}, there are {:?}", [v4, v6, half_open]));
    }
    for stack in 0..8 {
        let StackCount { connections, half_open } = crt.stack_count(StackIndex(stack));
        let there = [counts[usize::from(stack) * 2], counts[usize::from(stack) * 2 + 1]];
        if [connections, half_open] != there {
            return Err(format!("stack {stack} has {there:?}, accounts say {connections}, {half_open}"));
        }
    }
    Ok(())
}

/// What happens to a file.
#[derive(Clone, Debug)]
enum Damage {
    /// A bit somewhere.
    Flip { at: u32, bit: u8 },
    /// A line's worth of anything.
    Noise { at: u32, bytes: [u8; 64] },
    /// All of the entries' memory is noise.
    AllNoise { seed: u64 },
    /// The end is missing.
    Cut { to: u32 },
}

impl Damage {
    fn of(&self, file: &File) {
        let length = file.metadata().unwrap().len();
        if length == 0 {
            // It was cut to nothing before.
            return;
        }
        let place = |at: u32| u64::from(at) * 64 % length;
        match self {
            Self::Flip { at, bit } => {
                let mut byte = [0];
                std::os::unix::fs::FileExt::read_exact_at(file, &mut byte, place(*at)).unwrap();
                patch(file, place(*at), &[byte[0] ^ 1 << (bit % 8)]);
            }
            Self::Noise { at, bytes } => patch(file, place(*at), bytes),
            Self::AllNoise { seed } => {
                let mut state = *seed | 1;
                let mut word = || {
                    state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    (state ^ state >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15)
                };
                let noise: Vec<u8> = (0..length / 16).flat_map(|_| word().to_ne_bytes()).collect();
                patch(file, 2 * 4096, &noise);
            }
            Self::Cut { to } => file.set_len(place(*to)).unwrap(),
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<u32>(), any::<u8>()).prop_map(|(at, bit)| Damage::Flip { at, bit }),
        4 => (any::<u32>(), any::<[u8; 32]>(), any::<[u8; 32]>()).prop_map(|(at, a, b)| {
            let mut bytes = [0; 64];
            bytes[..32].copy_from_slice(&a);
            bytes[32..].copy_from_slice(&b);
            Damage::Noise { at, bytes }
        }),
        2 => any::<u64>().prop_map(|seed| Damage::AllNoise { seed }),
        1 => any::<u32>().prop_map(|to| Damage::Cut { to }),
    ]
}

/// Uses a table as workers and the control thread do; returns only if nothing in it stops them.
fn use_it(crt: &Crt) {
    for n in 0..3000 {
        let _ = crt.get(v4(n), at(5));
        let _ = crt.newconn(v4(n), StackIndex(5), at(5));
        let _ = crt.insert_flow(flow(n), A, None, at(5));
        let _ = crt.insert_half_open(v6(n), A, at(5));
        let _ = crt.terminate(v4(n), StackIndex(5), at(6));
    }
    crt.insert_fragment(FragmentKeyV6::new(Ipv6Addr::LOCALHOST, DvipaIndex(1), 7), A, at(6)).unwrap();
    for round in 0..10 {
        crt.age(at(1_000_000 + round * 100_000), crt.all_lines() + 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_to_a_file_leaves_a_table_that_is_not_sound(all in prop::collection::vec(damage(), 1..40)) {
        let file = memory();
        drop(filled(&file));
        all.iter().for_each(|damage| damage.of(&file));
        if let Ok(left) = Crt::find_in(&config(), &file) {
            let _ = (left.record(), left.clock(1));
            let (crt, _) = left.attach(&named());
            if let Err(why) = is_sound(&crt) {
                prop_assert!(false, "{}", why);
            }
            use_it(&crt);
            if let Err(why) = is_sound(&crt) {
                prop_assert!(false, "after use: {}", why);
            }
        }
    }
}

#[test]
fn damage_is_found_where_nothing_is_put_right() {
    let mut found = Vec::new();
    for damage in [
        Damage::Flip { at: 2 * 4096 / 64 + 1024 * 16 + 1, bit: 7 },
        Damage::Noise { at: 5000, bytes: [0xa5; 64] },
        Damage::AllNoise { seed: 1 },
    ] {
        let file = memory();
        drop(filled(&file));
        damage.of(&file);
        let Ok(parts) = layout::find(&config(), &file) else { continue };
        found.extend(is_sound(&Crt::of(&config(), parts)).err());
    }
    assert!(found.len() >= 2, "the same check finds what attaching mends: {found:?}");
}
