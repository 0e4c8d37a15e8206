//! Readers and writers on several threads, each look-up checked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::*;

/// Owners tell which key an entry belongs to: a look-up that mixed two entries up would see a wrong one.
fn owner(n: u32, generation: u16) -> StackIndex {
    StackIndex((n % 1000) as u16 * 8 + generation % 8)
}

fn churn<K: Key>(key: fn(u32) -> K, stable: u32, crt: &Crt) {
    for n in 0..stable {
        crt.newconn(key(n), owner(n, 0), at(0)).unwrap();
    }
    let (done, looked_up) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        // Two writers: connections come and go beside the stable ones, entries move, one writer re-points stable ones.
        let writers: Vec<_> = (0..2u32)
            .map(|writer| {
                let crt = &crt;
                scope.spawn(move || {
                    let mut x = writer.wrapping_add(1).wrapping_mul(0x9e37_79b9);
                    for round in 0..30_000u32 {
                        x ^= x << 13;
                        x ^= x >> 17;
                        x ^= x << 5;
                        let n = stable + writer * 100_000 + x % (stable / 4);
                        match round % 3 {
                            0 => drop(crt.insert_half_open(key(n), owner(n, 0), at(0))),
                            1 => drop(crt.newconn(key(n), owner(n, 0), at(0))),
                            _ => drop(crt.remove(key(n))),
                        }
                        if writer == 0 {
                            let n = x % stable;
                            let now = crt.get(key(n), at(0)).unwrap();
                            let next = Entry {
                                owner: owner(n, (now.owner.0 % 8 + 1) % 8),
                                state: CrtState::Established,
                            };
                            crt.change(key(n), now, next, at(0)).unwrap();
                        } else {
                            crt.age(at(0), 4);
                        }
                    }
                })
            })
            .collect();
        for reader in 0..2u32 {
            let (crt, done, looked_up) = (&crt, &done, &looked_up);
            scope.spawn(move || {
                let mut burst = Burst::default();
                let mut start = reader;
                while !done.load(Ordering::Relaxed) {
                    start = start.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                    let numbers: [u32; BURST] =
                        std::array::from_fn(|i| (start >> 8).wrapping_add(i as u32 * 37) % stable);
                    burst.clear();
                    numbers.iter().for_each(|n| assert!(burst.push(key(*n))));
                    crt.look_up(&mut burst, at(0));
                    for (n, found) in numbers.into_iter().zip(burst.found()) {
                        let found = found
                            .entry()
                            .unwrap_or_else(|| panic!("key {n} is there all the time and was missed"));
                        assert_eq!(found.owner.0 / 8, (n % 1000) as u16, "key {n} was taken for another");
                    }
                    looked_up.fetch_add(BURST as u64, Ordering::Relaxed);
                }
            });
        }
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(looked_up.load(Ordering::Relaxed) > 0);
    for n in 0..stable {
        assert_eq!(crt.get(key(n), at(0)).map(|e| e.owner.0 / 8), Some((n % 1000) as u16));
    }
}

#[test]
fn readers_never_miss_or_mix_up_ipv4_connections_while_others_come_go_move_and_change_owner() {
    let crt = Crt::new(&Config { connections_v4: 2000, half_open: 1 << 16, ..config() }).unwrap();
    churn(v4, 1600, &crt);
}

#[test]
fn readers_never_miss_or_mix_up_ipv6_connections_while_others_come_go_move_and_change_owner() {
    let crt = Crt::new(&Config { connections_v6: 2000, half_open: 1 << 16, ..config() }).unwrap();
    churn(v6, 1600, &crt);
}

/// Keys that share their lines with one that others try to remove: each try locks a line and changes nothing.
fn lock_in_vain<K: Key>(key: fn(u32) -> K, crt: &Crt) {
    for n in 0..200 {
        crt.newconn(key(n), owner(n, 0), at(0)).unwrap();
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let locker = scope.spawn(|| {
            for round in 0..2_000_000u32 {
                let _ = crt.remove(key(1_000 + round % 64));
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut burst = Burst::default();
        while !done.load(Ordering::Relaxed) {
            for start in (0..200 - BURST as u32).step_by(BURST) {
                burst.set((start..start + BURST as u32).map(key));
                crt.look_up(&mut burst, at(0));
                for (n, found) in (start..).zip(burst.found()) {
                    assert!(found.is_some(), "key {n} is there all the time and was missed");
                }
            }
        }
        locker.join().unwrap();
    });
}

#[test]
fn an_ipv4_connection_is_found_in_a_line_that_is_locked_for_a_moment() {
    lock_in_vain(v4, &Crt::new(&Config { connections_v4: 256, ..config() }).unwrap());
}

#[test]
fn an_ipv6_connection_is_found_in_a_line_that_is_locked_for_a_moment() {
    lock_in_vain(v6, &Crt::new(&Config { connections_v6: 256, ..config() }).unwrap());
}
