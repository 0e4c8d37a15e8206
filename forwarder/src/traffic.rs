//! What one worker has sent to each stack of each service, and what it refused of each service: packets and their bytes from the IP
//! header on.
//!
//! A table of the worker's own. A packet of which the pair of service and stack is known costs the look at one place and two
//! additions; its line is no other worker's. A pair is entered with its first packet, if the port is a service's. What is of no service,
//! or has no ports (later fragments), counts as of the DVIPA's other ports, and so do services for which there is no room left.

use std::sync::atomic::{AtomicU64, Ordering};

use model::{DvipaIndex, Protocol, StackIndex};

use crate::Tables;
use crate::crt::KeyParts;

/// Places, of 32 bytes; a power of two.
const PLACES: usize = 1 << PLACE_BITS;
const PLACE_BITS: u32 = 15;
/// Pairs of services that are entered at most. The other places are for DVIPAs' other ports, and empty, so that searches are short.
const MOST: u64 = PLACES as u64 / 2;
/// Places that a pair may have.
const PROBES: usize = 64;
/// 2⁶⁴ divided by the golden ratio (Knuth, TAOCP 3, 6.4).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

const PORT: u32 = 16;
const SERVICE: u32 = 32;
const KIND: u32 = 48;
const OTHER_PORTS: u64 = 1 << 52;
/// Bits of a DVIPA's number in a pair; the next one is the protocol.
const DVIPA_BITS: u32 = 12;
/// No pair.
const EMPTY: u64 = u64::MAX;

/// What happened to packets that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// They were sent to this stack.
    To(StackIndex),
    /// Their senders were told that nothing serves them, or would have been (`refuse`).
    Refused,
    /// They would have begun a connection beyond the service's limit.
    ServiceLimited,
    /// They would have begun a connection beyond their client's limit.
    ClientLimited,
}

/// A service and what happened, as one number: stack, port, DVIPA and protocol, kind, other ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair(u64);

/// A number in which a service is as in a [`Pair`]. DVIPA and protocol are in 13 bits, as in the CRT's keys.
#[inline(always)]
pub(crate) fn of_service(dvipa_and_protocol: u64, port: u64) -> u64 {
    dvipa_and_protocol << SERVICE | port << PORT
}

impl Pair {
    /// A service, as [`of_service`] has it, and a stack.
    #[inline(always)]
    pub(crate) fn to(service: u64, stack: StackIndex) -> Self {
        Self(service | u64::from(stack.0))
    }

    /// What happens to a packet of this connection.
    pub fn new(key: KeyParts, what: What) -> Self {
        let (stack, kind) = match what {
            What::To(stack) => (stack, 0),
            What::Refused => (StackIndex(0), 1),
            What::ServiceLimited => (StackIndex(0), 2),
            What::ClientLimited => (StackIndex(0), 3),
        };
        let udp = u64::from(key.protocol == Protocol::Udp) << DVIPA_BITS;
        let service = of_service(u64::from(key.dvipa.0 & DvipaIndex::MAX) | udp, key.dvipa_port.into());
        Self(Self::to(service, stack).0 | kind << KIND)
    }

    /// The same of the DVIPA's other ports.
    pub(crate) fn of_other_ports(self) -> Self {
        Self(self.0 & !(0xffff << PORT) | OTHER_PORTS)
    }

    /// The DVIPA.
    pub fn dvipa(self) -> DvipaIndex {
        DvipaIndex((self.0 >> SERVICE) as u16 & DvipaIndex::MAX)
    }

    /// The port; `None`: others than those of services.
    pub fn port(self) -> Option<u16> {
        (self.0 & OTHER_PORTS == 0).then_some((self.0 >> PORT) as u16)
    }

    /// TCP or UDP.
    pub fn protocol(self) -> Protocol {
        if self.0 >> SERVICE & 1 << DVIPA_BITS == 0 { Protocol::Tcp } else { Protocol::Udp }
    }

    /// What happened.
    pub fn what(self) -> What {
        match self.0 >> KIND & 3 {
            0 => What::To(StackIndex(self.0 as u16)),
            1 => What::Refused,
            2 => What::ServiceLimited,
            _ => What::ClientLimited,
        }
    }

    #[inline(always)]
    fn first(self) -> usize {
        (self.0.wrapping_mul(GOLDEN) >> (u64::BITS - PLACE_BITS)) as usize
    }

    fn is_of_service(self, tables: &Tables) -> bool {
        self.port().is_some_and(|port| tables.has_service(self.dvipa(), port, self.protocol()))
    }
}

/// How many packets, and how many bytes they had, from the IP header on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A pair's place. It is the pair's for as long as the worker lives.
///
/// The worker is the only writer; any thread may read. Relaxed: each number stands for itself.
#[derive(Debug)]
#[repr(align(32))]
struct Place {
    of: AtomicU64,
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Place {
    fn empty() -> Self {
        Self { of: AtomicU64::new(EMPTY), packets: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    /// A load and a store, not a read-modify-write.
    #[inline(always)]
    fn add(&self, bytes: u16) {
        let add =
            |to: &AtomicU64, n: u64| to.store(to.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
        add(&self.packets, 1);
        add(&self.bytes, bytes.into());
    }

    fn volume(&self) -> Volume {
        Volume { packets: self.packets.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// All that one worker has counted by service and stack.
#[derive(Debug)]
pub struct Traffic {
    places: Box<[Place; PLACES]>,
    /// Places that are taken.
    taken: AtomicU64,
    /// What found no place.
    left_out: Place,
}

impl Traffic {
    /// Nothing was counted yet. All its memory is taken here.
    pub(crate) fn new() -> Self {
        let places: Vec<Place> = (0..PLACES).map(|_| Place::empty()).collect();
        #[allow(clippy::expect_used, reason = "the vector is made of so many")]
        let places = places.into_boxed_slice().try_into().expect("it has PLACES places");
        Self { places, taken: AtomicU64::new(0), left_out: Place::empty() }
    }

    /// Counts a packet. Only for the one thread that owns the worker.
    #[inline(always)]
    pub(crate) fn count(&self, pair: Pair, bytes: u16, tables: &Tables) {
        match self.places.get(pair.first()) {
            Some(place) if place.of.load(Ordering::Relaxed) == pair.0 => place.add(bytes),
            _ => self.count_further(pair, bytes, tables),
        }
    }

    /// A pair that is not at its first place.
    #[cold]
    #[inline(never)]
    fn count_further(&self, pair: Pair, bytes: u16, tables: &Tables) {
        let known = |pair| self.taken_of(pair).find(|place| place.of.load(Ordering::Relaxed) == pair.0);
        let other = pair.of_other_ports();
        let place = known(pair)
            .or_else(|| if pair.is_of_service(tables) { self.enter(pair, MOST) } else { None })
            .or_else(|| known(other))
            .or_else(|| self.enter(other, PLACES as u64))
            .unwrap_or(&self.left_out);
        place.add(bytes);
    }

    /// Gives the pair a place, if less than so many are taken.
    fn enter(&self, pair: Pair, most: u64) -> Option<&Place> {
        let taken = self.taken.load(Ordering::Relaxed);
        let mut places = self.places_of(pair);
        let place = places.find(|place| taken < most && place.of.load(Ordering::Relaxed) == EMPTY)?;
        self.taken.store(taken.wrapping_add(1), Ordering::Relaxed);
        place.of.store(pair.0, Ordering::Relaxed);
        Some(place)
    }

    /// The places in which the pair may be. A place is never given up, so there is nothing of the pair's behind an empty one.
    fn taken_of(&self, pair: Pair) -> impl Iterator<Item = &Place> {
        self.places_of(pair).take_while(|place| place.of.load(Ordering::Relaxed) != EMPTY)
    }

    fn places_of(&self, pair: Pair) -> impl Iterator<Item = &Place> {
        let (behind, ahead) = self.places.split_at_checked(pair.first()).unwrap_or_default();
        ahead.iter().chain(behind).take(PROBES)
    }

    /// What was counted of each pair.
    pub fn volumes(&self) -> impl Iterator<Item = (Pair, Volume)> {
        let taken = self.places.iter().map(|place| (place.of.load(Ordering::Relaxed), place));
        taken.filter(|(of, _)| *of != EMPTY).map(|(of, place)| (Pair(of), place.volume()))
    }

    /// Packets that are in none of these, because there is no room for more.
    pub fn left_out(&self) -> u64 {
        self.left_out.volume().packets
    }
}

#[cfg(test)]
mod tests {
    use model::dpt::{Dpt, DvipaEntry};

    use super::*;
    use crate::{Fence, Looks, Mac, Neighbours, Node};

    fn tables() -> Tables {
        let mut dpt = Dpt::default();
        dpt.dvipas.push(DvipaEntry::new(DvipaIndex(3), model::Dvipa::new([198, 18, 9, 1].into())).into());
        dpt.distributions = [80, 81].map(|port| row(port).into()).into();
        let node = Node {
            mac: Mac::default(),
            cluster_address: model::ClusterAddress { v4: Some([198, 18, 0, 10].into()), v6: None },
            fabric_mtu: 1500,
            vlan: None,
            fence: Fence::default(),
            looks: Looks::default(),
        };
        Tables::build(&dpt, &Neighbours::new(), &node)
    }

    fn row(port: u16) -> model::dpt::Distribution {
        model::dpt::Distribution {
            dvipa: DvipaIndex(3),
            port,
            protocol: Protocol::Udp,
            method: model::dpt::Method::default(),
            targets: vec![],
            serving: vec![],
            policies: vec![],
            refuse: model::dpt::Refuse::default(),
            max_connections: None,
            affinity: None,
            limits: model::Limits::NONE,
            routing: None,
            quic: model::dpt::Shared::default(),
        }
    }

    fn pair(port: u16, what: What) -> Pair {
        let client = ([198, 18, 0, 2], 40_000).into();
        let key = KeyParts { client, dvipa: DvipaIndex(3), dvipa_port: port, protocol: Protocol::Udp };
        Pair::new(key, what)
    }

    #[test]
    fn a_pair_says_what_it_was_made_of() {
        for what in [What::To(StackIndex(4095)), What::Refused, What::ServiceLimited, What::ClientLimited] {
            let pair = pair(65_535, what);
            assert_eq!((pair.dvipa(), pair.port(), pair.what()), (DvipaIndex(3), Some(65_535), what));
            assert_eq!(pair.protocol(), Protocol::Udp);
            let other = pair.of_other_ports();
            assert_eq!((other.dvipa(), other.port(), other.what()), (DvipaIndex(3), None, what));
        }
        let fast = Pair::to(of_service(3 | 1 << 12, 65_535), StackIndex(4095));
        assert_eq!(fast, pair(65_535, What::To(StackIndex(4095))), "the plain way makes the same");
    }

    #[test]
    fn each_pair_is_counted_and_what_is_of_no_service_together() {
        let (traffic, tables) = (Traffic::new(), tables());
        let one = What::To(StackIndex(1));
        for (port, what, bytes) in [(80, one, 100), (80, one, 20), (80, What::Refused, 40), (81, one, 7)] {
            traffic.count(pair(port, what), bytes, &tables);
        }
        traffic.count(pair(9, one), 1000, &tables);
        traffic.count(pair(10, one), 1000, &tables);
        let mut volumes: Vec<_> =
            traffic.volumes().map(|(p, v)| (p.port(), p.what(), v.packets, v.bytes)).collect();
        volumes.sort_by_key(|row| (row.0, row.3));
        let other = (None, one, 2, 2000);
        assert_eq!(
            volumes,
            [other, (Some(80), What::Refused, 1, 40), (Some(80), one, 2, 120), (Some(81), one, 1, 7)]
        );
    }

    #[test]
    fn few_places_are_looked_at_for_a_port_that_is_no_service() {
        let (traffic, tables) = (Traffic::new(), tables());
        let one = What::To(StackIndex(1));
        (1..1000).for_each(|port| traffic.count(pair(port, one), 1, &tables));
        let looked: usize = (1000..2000).map(|port| traffic.taken_of(pair(port, one)).count()).sum();
        assert!(looked < 100, "{looked} for 1000 ports");
    }

    #[test]
    fn a_full_table_counts_the_rest_as_of_other_ports_and_loses_nothing() {
        let (traffic, tables) = (Traffic::new(), tables());
        let most = MOST as u16 + 3000;
        for round in 1..=2 {
            for stack in 0..most {
                traffic.count(pair(80, What::To(StackIndex(stack))), round, &tables);
            }
        }
        let (of_port, others): (Vec<_>, Vec<_>) =
            traffic.volumes().partition(|(pair, _)| pair.port().is_some());
        assert_eq!((of_port.len(), others.len()), (usize::from(most) - 3000, 3000));
        let bytes = of_port.iter().chain(&others).map(|(_, volume)| volume.bytes).sum::<u64>();
        assert_eq!((bytes, traffic.left_out()), (u64::from(most) * 3, 0));
    }
}
