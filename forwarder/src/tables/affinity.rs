//! Timed affinity: which target a client of a service has, for how long after its last connection.
//!
//! One word for each client, eight in a cache line that the client's hash chooses. All changes are one compare-and-swap of a word. A
//! worker that loses one goes on without; the control thread tries again.
//!
//! | bits | what |
//! | --- | --- |
//! | 43–63 | a tag of the client's hash, odd: two clients of a line have the same once in 2²⁰, and then share a target |
//! | 27–42 | the target |
//! | 17–26 | the client's open connections, 1023 for more: those no longer count, and the word lasts as if one were open |
//! | 16 | a target has confirmed a connection of the client |
//! | 0–15 | the second of the last change, modulo 2¹⁶: a word that is older than 18 hours may look young, and names a target that is as good as another |
//!
//! A word lasts while connections are open; after the last one for as long as is configured; [`UNSURE_S`] if nothing was confirmed. Who
//! begins without a handshake (a flood of SYNs) takes only places that are free or of its kind.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::StackIndex;
use model::dpt::Affinity;

use crate::Now;

/// For so many seconds a selection counts that no target has confirmed.
const UNSURE_S: u16 = 5;
/// A word whose connections no stack has named for so many seconds has none: stacks name each of theirs within 600 s.
const UNNAMED_S: u16 = 1320;
/// More seconds than this between two readings of one clock are a reading that was overtaken.
const OVERTAKEN_S: u16 = 0xff00;
const MANY: u64 = 1023;

/// What a word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    tag: u64,
    stack: StackIndex,
    open: u64,
    sure: bool,
    second: u16,
}

impl Kept {
    fn read(word: u64) -> Option<Self> {
        let stack = StackIndex((word >> 27) as u16);
        let (tag, open) = (word >> 43, word >> 17 & MANY);
        (word != 0).then_some(Self { tag, stack, open, sure: word >> 16 & 1 == 1, second: word as u16 })
    }

    fn word(self) -> u64 {
        let Self { tag, stack, open, sure, second } = self;
        tag << 43 | u64::from(stack.0) << 27 | open << 17 | u64::from(sure) << 16 | u64::from(second)
    }

    fn age_s(self, second: u16) -> u16 {
        let age = second.wrapping_sub(self.second);
        if age > OVERTAKEN_S { 0 } else { age }
    }

    fn lasts(self, second: u16, keep_s: u16) -> bool {
        let most = match self {
            Self { sure: false, .. } => UNSURE_S,
            Self { open: 0, .. } => keep_s,
            _ => UNNAMED_S,
        };
        self.age_s(second) <= most
    }

    /// With another connection open at this stack.
    fn opened(self, stack: StackIndex, second: u16) -> Self {
        let open = self.open.saturating_add(1).min(MANY);
        Self { stack, open, sure: true, second, ..self }
    }

    /// With a connection less.
    fn ended(self, second: u16) -> Self {
        let open = if self.open == MANY { MANY } else { self.open.saturating_sub(1) };
        Self { open, second, ..self }
    }
}

#[repr(align(64))]
#[derive(Debug, Default)]
struct Line([AtomicU64; 8]);

/// The clients of a service. Shared by all workers and the control thread; outlives the tables that it is part of.
///
/// Relaxed: a word is all that there is of a client.
#[derive(Debug)]
pub struct Affinities {
    lines: Box<[Line]>,
    hasher: RandomState,
}

/// Where a client's word is.
struct At<'a> {
    line: &'a Line,
    tag: u64,
}

/// What of a client's address counts: hosts change the last 64 bits of an IPv6 address (RFC 8981).
pub(super) fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits() >> 64 << 64).into(),
    }
}

/// How many lines so many clients need.
fn lines_of(clients: u32) -> usize {
    (clients as usize).div_ceil(8).next_power_of_two()
}

fn second(now: Now) -> u16 {
    (now.ms / 1000) as u16
}

impl Affinities {
    /// With room for so many clients.
    fn new(clients: u32) -> Self {
        Self { lines: (0..lines_of(clients)).map(|_| Line::default()).collect(), hasher: RandomState::new() }
    }

    /// Those of a service that has these rules: the ones before, if they have the same room.
    pub(super) fn successor(before: Option<&Arc<Self>>, affinity: Option<Affinity>) -> Option<Arc<Self>> {
        let clients = affinity?.clients;
        let same = |before: &&Arc<Self>| before.lines.len() == lines_of(clients);
        Some(before.filter(same).map_or_else(|| Arc::new(Self::new(clients)), Arc::clone))
    }

    fn at(&self, client: IpAddr) -> Option<At<'_>> {
        let hash = self.hasher.hash_one(network(client));
        let line = self.lines.get(hash as usize & self.lines.len().saturating_sub(1))?;
        Some(At { line, tag: hash >> 43 | 1 })
    }

    /// The client's target, if it has one; `keep_s`: for how long after its last connection.
    pub fn target(&self, client: IpAddr, keep_s: u16, now: Now) -> Option<StackIndex> {
        let (_, kept) = self.at(client)?.find()?;
        kept.lasts(second(now), keep_s).then_some(kept.stack)
    }

    /// A worker has picked this target for a connection of the client, which has none but `former`, and that takes no new ones. Returns the
    /// one in force: another worker may have been faster.
    pub(super) fn selected(
        &self,
        client: IpAddr,
        (former, picked): (Option<StackIndex>, StackIndex),
        keep_s: u16,
        now: Now,
    ) -> StackIndex {
        let (Some(at), second) = (self.at(client), second(now)) else { return picked };
        let changed = match at.find() {
            Some((_, kept)) if kept.lasts(second, keep_s) && Some(kept.stack) != former => return kept.stack,
            Some((word, kept)) => {
                // Open connections keep their number, and what is sure remains so.
                let lasts = kept.lasts(second, keep_s);
                let (open, sure) = if lasts { (kept.open, kept.sure) } else { (0, false) };
                let new = Kept { stack: picked, open, sure, second, ..kept };
                word.compare_exchange(kept.word(), new.word(), Ordering::Relaxed, Ordering::Relaxed)
            }
            None => {
                let free = |kept: &Kept| !kept.sure || !kept.lasts(second, keep_s);
                let Some((word, before)) = at.place(second, free) else { return picked };
                let new = Kept { tag: at.tag, stack: picked, open: 0, sure: false, second };
                word.compare_exchange(before, new.word(), Ordering::Relaxed, Ordering::Relaxed)
            }
        };
        match changed {
            Ok(_) => picked,
            Err(_) => at.find().map_or(picked, |(_, kept)| kept.stack),
        }
    }

    /// A connection of the client has begun at this stack, by its word.
    pub fn opened(&self, client: IpAddr, stack: StackIndex, now: Now) {
        let second = second(now);
        self.confirm(client, second, |kept| {
            let lapsed = Kept { open: 0, ..kept };
            let kept = if kept.lasts(second, UNNAMED_S) { kept } else { lapsed };
            kept.opened(stack, second)
        });
    }

    /// A stack says that it has a connection of the client, which was known. Nobody knows how many others were, if none was counted.
    pub fn named(&self, client: IpAddr, stack: StackIndex, now: Now) {
        let second = second(now);
        self.confirm(client, second, |kept| match kept {
            Kept { open: 0, .. } => Kept { stack, open: MANY, sure: true, second, ..kept },
            _ => Kept { second, ..kept },
        });
    }

    /// A connection of the client has moved to this stack.
    pub fn moved(&self, client: IpAddr, stack: StackIndex, now: Now) {
        let Some(at) = self.at(client) else { return };
        at.change(|kept| Kept { stack, second: second(now), ..kept });
    }

    /// A connection of the client has ended.
    pub fn ended(&self, client: IpAddr, now: Now) {
        let Some(at) = self.at(client) else { return };
        at.change(|kept| kept.ended(second(now)));
    }

    fn confirm(&self, client: IpAddr, second: u16, change: impl Fn(Kept) -> Kept) {
        let Some(at) = self.at(client) else { return };
        while !at.change(&change) {
            // Who has open connections keeps the place.
            let free = |kept: &Kept| kept.open == 0 || !kept.lasts(second, UNNAMED_S);
            let Some((word, before)) = at.place(second, free) else { return };
            let none = Kept { tag: at.tag, stack: StackIndex(0), open: 0, sure: false, second };
            let new = change(none).word();
            if word.compare_exchange(before, new, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }
}

impl<'a> At<'a> {
    fn find(&self) -> Option<(&'a AtomicU64, Kept)> {
        self.line.0.iter().find_map(|word| {
            let kept = Kept::read(word.load(Ordering::Relaxed))?;
            (kept.tag == self.tag).then_some((word, kept))
        })
    }

    /// Changes the client's word, if there is one. For the control thread.
    fn change(&self, change: impl Fn(Kept) -> Kept) -> bool {
        while let Some((word, kept)) = self.find() {
            let (old, new) = (kept.word(), change(kept).word());
            if word.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return true;
            }
        }
        false
    }

    /// A place for another client and what is there: an empty one, or of the free ones first an unsure one, the oldest.
    fn place(&self, second: u16, free: impl Fn(&Kept) -> bool) -> Option<(&'a AtomicU64, u64)> {
        let all = self.line.0.iter().map(|word| (word, word.load(Ordering::Relaxed)));
        let worth = |(_, word): &(&AtomicU64, u64)| match Kept::read(*word) {
            None => Some((false, 0)),
            Some(kept) if free(&kept) => Some((kept.sure, u16::MAX.saturating_sub(kept.age_s(second)))),
            Some(_) => None,
        };
        all.filter(|at| worth(at).is_some()).min_by_key(worth)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;
    use std::num::NonZeroU32;

    use model::dpt::Method;
    use model::{DvipaIndex, Protocol};

    use super::*;
    use crate::crt::KeyV4;
    use crate::tables::tests::{crt, dpt, node};
    use crate::tables::{Neighbours, Tables};

    const KEEP_S: u16 = 60;
    const T1: StackIndex = StackIndex(1);
    const T2: StackIndex = StackIndex(2);

    fn at(seconds: u64) -> Now {
        Now { ms: seconds * 1000 }
    }

    fn client(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    fn one_line() -> Affinities {
        Affinities::new(8)
    }

    fn target(of: &Affinities, n: u32, now: Now) -> Option<StackIndex> {
        of.target(client(n), KEEP_S, now)
    }

    #[test]
    fn a_client_keeps_its_target_from_its_first_connection_until_so_long_after_its_last() {
        let all = one_line();
        assert_eq!(target(&all, 1, at(100)), None);
        all.selected(client(1), (None, T1), KEEP_S, at(100));
        assert_eq!(target(&all, 1, at(105)), Some(T1), "its other connections of the same moment");
        assert_eq!(target(&all, 1, at(106)), None, "nothing was confirmed");
        all.opened(client(1), T1, at(106));
        all.opened(client(1), T1, at(107));
        all.ended(client(1), at(110));
        assert_eq!(target(&all, 1, at(110 + 1320)), Some(T1), "one is open");
        all.named(client(1), T1, at(1000));
        all.ended(client(1), at(2000));
        assert_eq!(target(&all, 1, at(2060)), Some(T1));
        assert_eq!(target(&all, 1, at(2061)), None);
    }

    #[test]
    fn connections_that_nobody_names_any_more_are_not_open() {
        let all = one_line();
        all.opened(client(1), T1, at(0));
        all.named(client(1), T1, at(600));
        assert_eq!(target(&all, 1, at(600 + 1320)), Some(T1));
        assert_eq!(target(&all, 1, at(600 + 1321)), None);
        // Nor do they count later.
        all.opened(client(1), T2, at(4000));
        all.ended(client(1), at(4001));
        assert_eq!(target(&all, 1, at(4062)), None);
    }

    #[test]
    fn of_connections_that_were_there_before_nobody_knows_when_the_last_one_ends() {
        let all = one_line();
        (0..5).for_each(|_| all.named(client(1), T1, at(10)));
        all.ended(client(1), at(30));
        assert_eq!(target(&all, 1, at(30 + 1320)), Some(T1), "four are open");
        assert_eq!(target(&all, 1, at(30 + 1321)), None, "nobody has named one for long");
    }

    #[test]
    fn a_client_has_the_target_that_its_connection_has_moved_to() {
        let all = one_line();
        all.moved(client(1), T2, at(0));
        assert_eq!(target(&all, 1, at(0)), None, "it is not known");
        all.opened(client(1), T1, at(0));
        all.moved(client(1), T2, at(1));
        all.named(client(1), T2, at(2));
        assert_eq!(target(&all, 1, at(2)), Some(T2));
        all.ended(client(1), at(3));
        assert_eq!((target(&all, 1, at(63)), target(&all, 1, at(64))), (Some(T2), None));
    }

    #[test]
    fn workers_that_pick_at_the_same_moment_select_one_target() {
        let all = Affinities::new(1024);
        for n in 0..2000 {
            let select = |stack| all.selected(client(n), (None, stack), KEEP_S, at(0));
            let (one, two) = std::thread::scope(|scope| {
                let (one, two) = (scope.spawn(|| select(T1)), scope.spawn(|| select(T2)));
                (one.join().unwrap(), two.join().unwrap())
            });
            assert_eq!(one, two, "{n}");
        }
    }

    #[test]
    fn a_client_of_another_target_has_that_one() {
        let all = one_line();
        all.opened(client(1), T1, at(0));
        all.selected(client(1), (Some(T1), T2), KEEP_S, at(1));
        assert_eq!(target(&all, 1, at(1)), Some(T2), "the former one takes no new connections");
        all.opened(client(1), T2, at(1));
        all.ended(client(1), at(2));
        assert_eq!(target(&all, 1, at(200)), Some(T2), "one is open");
    }

    #[test]
    fn a_flood_without_handshakes_takes_no_place_of_a_client_that_is_known() {
        let all = one_line();
        (0..4).for_each(|n| all.opened(client(n), T1, at(0)));
        (4..7).for_each(|n| {
            all.opened(client(n), T1, at(0));
            all.ended(client(n), at(1));
        });
        for n in 1000..2000 {
            all.selected(client(n), (None, T2), KEEP_S, at(2));
        }
        assert!((0..7).all(|n| target(&all, n, at(2)) == Some(T1)));
        assert_eq!(target(&all, 1999, at(2)), Some(T2), "the last place is that of the last one");
        // One that is confirmed takes the place of the flood, then those of clients that are away.
        (10..14).for_each(|n| all.opened(client(n), T2, at(3)));
        assert!((0..4).chain(10..14).all(|n| target(&all, n, at(3)).is_some()), "all have connections");
        all.opened(client(20), T2, at(4));
        assert_eq!(target(&all, 20, at(4)), None, "all places are of clients with connections");
        assert!((0..4).all(|n| target(&all, n, at(4)) == Some(T1)));
    }

    /// Tables of a service of three targets, round robin with affinity, of which the second one has this weight.
    fn tables(weight: u16, most: Option<u32>, before: Option<&Tables>) -> Tables {
        let mut dpt = dpt(Method::RoundRobin, &[1, weight, 1], vec![]);
        let mut row = (*dpt.distributions[0]).clone();
        row.affinity = Some(Affinity { seconds: KEEP_S, clients: 1024 });
        row.max_connections = most.and_then(NonZeroU32::new);
        dpt.distributions = vec![row.into()];
        let (neighbours, node) = (Neighbours::new(), node());
        before
            .map_or_else(|| Tables::build(&dpt, &neighbours, &node), |b| b.rebuild(&dpt, &neighbours, &node))
    }

    fn pick(tables: &Tables, n: u32, now: Now) -> Option<StackIndex> {
        let service = tables.service(DvipaIndex(0), 80, Protocol::Tcp).unwrap();
        service.pick((client(n), 1000 + now.ms as u16).into(), &crt(), now)
    }

    #[test]
    fn clients_keep_their_targets_while_those_take_connections_and_over_a_change_of_the_tables() {
        let before = tables(1, None, None);
        let picked: Vec<_> = (0..6).map(|n| pick(&before, n, at(0)).unwrap()).collect();
        assert_eq!(picked.iter().collect::<BTreeSet<_>>().len(), 3, "the method chooses");
        let again: Vec<_> = (0..6).map(|n| pick(&before, n, at(1)).unwrap()).collect();
        assert_eq!(picked, again);
        let after = tables(0, None, Some(&before));
        for (n, former) in (0..).zip(picked) {
            let (now, then) = (pick(&after, n, at(2)).unwrap(), pick(&after, n, at(3)).unwrap());
            assert_eq!(now, then);
            assert_eq!(now == former, former != StackIndex(2), "{n}");
        }
    }

    #[test]
    fn what_would_become_of_a_client_is_told_without_remembering_it() {
        let tables = tables(1, None, None);
        let apart = tables.service(DvipaIndex(0), 80, Protocol::Tcp).unwrap().apart();
        let told: BTreeSet<_> =
            (0..3).map(|_| apart.pick((client(1), 1).into(), &crt(), at(0)).unwrap()).collect();
        assert_eq!(told.len(), 3);
        let has = pick(&tables, 1, at(0));
        assert_eq!(apart.pick((client(1), 1).into(), &crt(), at(0)), has);
        assert_eq!(apart.hashed((client(1), 1).into(), at(0)), has, "it is asked first about a lost entry");
    }

    #[test]
    fn a_target_with_as_many_connections_as_it_may_have_gives_its_clients_away() {
        let (tables, crt) = (tables(1, Some(2), None), crt());
        let service = tables.service(DvipaIndex(0), 80, Protocol::Tcp).unwrap();
        let pick = |port| service.pick((client(1), port).into(), &crt, at(0)).unwrap();
        let first = pick(1);
        for port in 1..3 {
            let key = KeyV4::new(Ipv4Addr::from(1), port, DvipaIndex(0), 80, Protocol::Tcp);
            crt.newconn(key, first, at(0)).unwrap();
        }
        let second = pick(3);
        assert_ne!(first, second);
        assert_eq!(pick(4), second);
    }

    #[test]
    fn the_addresses_of_an_ipv6_host_are_one_client() {
        let all = one_line();
        let of = |text: &str| text.parse::<IpAddr>().unwrap();
        all.opened(of("2001:db8::1"), T1, at(0));
        assert_eq!(all.target(of("2001:db8::9"), KEEP_S, at(0)), Some(T1));
        assert_eq!(all.target(of("2001:db8:0:1::9"), KEEP_S, at(0)), None);
    }

    #[test]
    fn what_is_counted_no_longer_lasts_as_if_one_were_open() {
        let all = one_line();
        (0..2000).for_each(|_| all.opened(client(1), T1, at(0)));
        (0..2000).for_each(|_| all.ended(client(1), at(0)));
        assert_eq!(target(&all, 1, at(1320)), Some(T1));
        assert_eq!(target(&all, 1, at(1321)), None);
    }

    #[test]
    fn the_clock_of_another_worker_may_be_a_second_behind() {
        let all = one_line();
        all.opened(client(1), T1, at(65_536));
        assert_eq!(target(&all, 1, at(65_535)), Some(T1));
    }

    #[test]
    fn a_word_says_what_it_was_made_of() {
        let kept = Kept { tag: 0x1f_ffff, stack: StackIndex(0xffff), open: 1023, sure: true, second: 0xffff };
        assert_eq!(Kept::read(kept.word()), Some(kept));
        let small = Kept { tag: 1, stack: StackIndex(0), open: 0, sure: false, second: 0 };
        assert_eq!(Kept::read(small.word()), Some(small));
        assert_eq!(Kept::read(0), None);
    }
}
