//! A small table in the place of the big one, for a question about one connection: whatever is done to it changes nothing for anybody.

use std::io;

use super::atomic::Ordering;
use super::sealed::Connection as _;
use super::{Config, Crt, CrtState, Entry, Key, Locate, Located, Now};

/// Room enough for the few entries that one packet can make.
const ROOM: usize = 64;

impl Crt {
    /// A look-up that does not mark what it finds as used. It may miss an entry that is moved meanwhile, and a half-open one that is
    /// about to be.
    pub fn peek<A: Locate>(&self, at: A, now: Now) -> Option<Entry> {
        let Located { key, place } = at.locate(self);
        let family = A::Key::family(self);
        let main = family.main.locate(place, key).and_then(|(_, meta)| meta.entry());
        main.or_else(|| family.half_open.get_living(place, key, now))
    }

    /// A table that knows of this connection what this one knows, and has its stacks' accounts and loads: for selections by numbers of
    /// connections.
    ///
    /// # Errors
    /// The system's, if the memory can't be had.
    pub fn stand_in<K: Key>(&self, key: K, now: Now) -> io::Result<Self> {
        let other = Self::new(&Config {
            connections_v4: ROOM,
            connections_v6: ROOM,
            flows: ROOM,
            half_open: ROOM,
            fragments: ROOM,
            ..Config::default()
        })?;
        if let Some(entry) = self.peek(key, now) {
            other.enter(key, entry, now);
        }
        let (from, to) = (&self.common.ledger.stacks, &other.common.ledger.stacks);
        for number in 0..from.len().min(to.len()) {
            to.at(number).store(from.at(number).load(Ordering::Relaxed), Ordering::Relaxed);
        }
        other.loads.copy(&self.loads);
        Ok(other)
    }

    /// Makes an entry in any state. There is room in a table that has no other.
    fn enter<K: Key>(&self, key: K, entry: Entry, now: Now) {
        if entry.state == CrtState::HalfOpen {
            let _ = self.insert_half_open(key, entry.owner, now);
            return;
        }
        let established = Entry { state: CrtState::Established, ..entry };
        if self.newconn(key, entry.owner, now).is_ok() {
            let _ = self.change(key, established, entry, now);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use model::{DvipaIndex, Protocol, StackIndex};

    use super::super::KeyV4;
    use super::*;

    const NOW: Now = Now { ms: 5000 };

    #[test]
    fn it_knows_the_connection_in_each_state_and_what_the_stacks_have() {
        for (protocol, state) in
            CrtState::ALL.into_iter().flat_map(|s| [(Protocol::Tcp, s), (Protocol::Udp, s)])
        {
            if protocol == Protocol::Udp && state == CrtState::HalfOpen {
                continue;
            }
            let crt = Crt::new(&Config { connections_v4: 1024, ..Config::default() }).unwrap();
            let key = |port| KeyV4::new([198, 18, 0, 2].into(), port, DvipaIndex(3), 80, protocol);
            let entry = Entry { owner: StackIndex(7), state };
            for port in 1..9 {
                crt.newconn(key(port), StackIndex(2), NOW).unwrap();
            }
            crt.enter(key(100), entry, NOW);
            let other = crt.stand_in(key(100), NOW).unwrap();
            assert_eq!(other.get(key(100), NOW), Some(entry), "{protocol} {state:?}");
            assert_eq!(other.get(key(1), NOW), None, "others are not asked about");
            assert_eq!(
                (2..8).map(|s| other.stack_count(StackIndex(s))).collect::<Vec<_>>(),
                (2..8).map(|s| crt.stack_count(StackIndex(s))).collect::<Vec<_>>()
            );
            other.remove(key(100));
            assert_eq!(crt.peek(key(100), NOW), Some(entry), "what is done to it changes nothing");
        }
    }
}
