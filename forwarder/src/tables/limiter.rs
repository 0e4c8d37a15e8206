//! How many connections of a service may begin: token buckets that all workers share, so that it does not matter over how many of them
//! a NIC spreads a client's connections.
//!
//! A bucket is one number, the time at which it will be full again (GCRA, ITU-T I.371 annex A): a token puts that off by one over the
//! rate, and there is none left if it would be further away than a whole bucket takes to fill. Looked at only for a connection that
//! begins.
//!
//! Clients' buckets are in one table of a fixed size for all services, four in a line. A client whose bucket is full needs no
//! place. Where all four places of a line are taken, the bucket gives way of which the smallest share is missing: its client is not limited for what
//! was left of its time. So a flood of made-up addresses, which have a token each at most, takes the places of clients that have begun as little, and
//! not one's that has no token left, unless a bucket holds one or two. A place is told by a 58-bit hash with a secret key.
//!
//! Numbers are read and written without locks, and independently: two workers that give one place to two clients at the same moment
//! may misplace a token.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use model::limits::{Limits, Rate};

use super::affinity::network;
use crate::{Now, Reason};

const NS_A_SECOND: u64 = 1_000_000_000;
/// Workers' clocks go by milliseconds.
const NS_A_TICK: u64 = 1_000_000;
/// Places in a line of the processor's cache.
const WAYS: usize = 4;
/// 262 144 clients, in 4 MB.
const LINES: usize = 1 << 16;
/// How often a token is taken if other workers take one at the same moment; then it goes without.
const TRIES: usize = 8;

/// A [`Rate`] in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    /// From token to token.
    interval: u64,
    /// In which an empty bucket is filled; one tick's tokens at least, or a high rate would not be reached.
    whole: u64,
}

impl From<Rate> for Pace {
    fn from(Rate { per_s, burst }: Rate) -> Self {
        let interval = NS_A_SECOND.div_euclid(per_s.get().into()).max(1);
        let whole = interval.saturating_mul(burst.get().into());
        Self { interval, whole: whole.max(interval.saturating_add(NS_A_TICK)) }
    }
}

/// When it will be full, in nanoseconds of the CRT's clock.
#[derive(Debug, Default)]
struct Bucket(AtomicU64);

impl Bucket {
    /// Takes a token; `false` if there is none. `spends`: otherwise it is only looked whether there is one.
    fn take(&self, pace: Pace, now_ns: u64, spends: bool) -> bool {
        let mut full_at = self.0.load(Ordering::Relaxed);
        for _ in 0..TRIES {
            let next = full_at.max(now_ns).saturating_add(pace.interval);
            if next.saturating_sub(now_ns) > pace.whole {
                return false;
            }
            if !spends {
                return true;
            }
            match self.0.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => full_at = other,
            }
        }
        true
    }
}

/// Bits of a client's name in which the time stands that its bucket takes to fill: its logarithm to base 2. The others are a hash.
const SPAN: u64 = 63;

/// A client's bucket, and whose it is; 0: nobody's.
#[derive(Debug, Default)]
struct Client {
    of: AtomicU64,
    bucket: Bucket,
}

impl Client {
    /// What is missing in its bucket. Comparable among buckets that take different times to fill, within a factor of two.
    fn missing(&self, now_ns: u64) -> u64 {
        let span = self.of.load(Ordering::Relaxed) & SPAN;
        let left_ns = self.bucket.0.load(Ordering::Relaxed).saturating_sub(now_ns);
        // Less than 2 to the power of the span and one.
        left_ns.wrapping_shl(62_u64.saturating_sub(span) as u32)
    }
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([Client; WAYS]);

/// The buckets of clients of all services.
#[derive(Debug)]
pub(super) struct Clients {
    lines: Box<[Line]>,
    hasher: RandomState,
}

impl Clients {
    fn new(lines: usize) -> Self {
        Self { lines: (0..lines).map(|_| Line::default()).collect(), hasher: RandomState::new() }
    }

    /// Takes a token of a client of this service, whose bucket is full if nothing is known of it.
    fn take(&self, service: u32, client: IpAddr, pace: Pace, now_ns: u64, spends: bool) -> bool {
        let hash = self.hasher.hash_one((service, pace.interval, pace.whole, network(client)));
        let of = hash & !SPAN | u64::from(pace.whole.max(1).ilog2());
        let line = (of >> 32).wrapping_mul(self.lines.len() as u64) >> 32;
        let Some(Line(places)) = self.lines.get(line as usize) else { return true };
        if let Some(place) = places.iter().find(|place| place.of.load(Ordering::Relaxed) == of) {
            return place.bucket.take(pace, now_ns, spends);
        }
        let fullest = places.iter().min_by_key(|place| place.missing(now_ns));
        if let Some(place) = fullest.filter(|_| spends) {
            place.of.store(of, Ordering::Relaxed);
            place.bucket.0.store(now_ns.saturating_add(pace.interval), Ordering::Relaxed);
        }
        true
    }
}

/// The buckets of clients, made when the first service limits them, and kept from then on.
pub(super) type SharedClients = Arc<OnceLock<Clients>>;

/// The limits of one service.
#[derive(Clone, Debug)]
pub(crate) struct Limiter {
    limits: Limits,
    /// The service, as look-ups call it.
    service: u32,
    bucket: Arc<Bucket>,
    clients: SharedClients,
    /// Tokens are taken, and not only looked for.
    spends: bool,
}

impl Limiter {
    /// What is known of a service goes on as long as its limits are the same; others begin with full buckets.
    pub(super) fn new(
        limits: Limits,
        service: u32,
        clients: &SharedClients,
        before: Option<&Self>,
    ) -> Option<Self> {
        if limits == Limits::NONE {
            return None;
        }
        if limits.client.is_some() {
            clients.get_or_init(|| Clients::new(LINES));
        }
        let before = before.filter(|before| before.limits == limits).cloned();
        let (bucket, clients) = (Arc::default(), Arc::clone(clients));
        Some(before.unwrap_or(Self { limits, service, bucket, clients, spends: true }))
    }

    /// The same for a question: it takes no tokens.
    pub(super) fn apart(&self) -> Self {
        Self { spends: false, ..self.clone() }
    }

    /// Whether a client's connection may begin now.
    ///
    /// # Errors
    /// What it is counted as, if not.
    #[inline(never)]
    pub(crate) fn admit(&self, client: IpAddr, now: Now) -> Result<(), Reason> {
        let now_ns = now.ms.saturating_mul(NS_A_TICK);
        // What one of the limits refuses takes no token of the other.
        let all_have = self.limits.service.is_none_or(|rate| self.bucket.take(rate.into(), now_ns, false));
        let spends = self.spends && all_have;
        if let (Some(rate), Some(clients)) = (self.limits.client, self.clients.get())
            && !clients.take(self.service, client, rate.into(), now_ns, spends)
        {
            return Err(Reason::ClientLimited);
        }
        match self.limits.service {
            Some(rate) if !self.bucket.take(rate.into(), now_ns, spends) => Err(Reason::ServiceLimited),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::num::NonZeroU32;

    use super::*;

    fn rate(per_s: u32, burst: u32) -> Rate {
        Rate { per_s: NonZeroU32::new(per_s).unwrap(), burst: NonZeroU32::new(burst).unwrap() }
    }

    fn limiter(limits: Limits) -> Limiter {
        Limiter::new(limits, 7, &Arc::default(), None).unwrap()
    }

    fn of_client(rate: Rate) -> Limits {
        Limits { client: Some(rate), ..Limits::NONE }
    }

    fn admitted(limiter: &Limiter, client: IpAddr, ms: u64, times: usize) -> usize {
        (0..times).filter(|_| limiter.admit(client, Now { ms }).is_ok()).count()
    }

    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 2));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 3));

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let limiter = limiter(Limits { service: Some(rate(100, 20)), ..Limits::NONE });
        let taken = |ms| admitted(&limiter, ONE, ms, 50);
        assert_eq!((taken(5000), taken(5000), taken(5010), taken(5100), taken(9000)), (20, 0, 1, 9, 20));
        assert_eq!(limiter.admit(OTHER, Now { ms: 9000 }), Err(Reason::ServiceLimited), "all share it");
    }

    #[test]
    fn rates_up_to_the_highest_are_reached_with_a_clock_of_milliseconds() {
        for per_s in [1, 3, 999, 1000, 70_000, Rate::MAX] {
            let limiter = limiter(Limits { service: Some(rate(per_s, 1)), ..Limits::NONE });
            let ticks = if per_s < 1000 { 100_000 } else { 100 };
            let most = per_s as usize / 1000 * 2 + 10;
            let count: usize = (1000..1000 + ticks).map(|ms| admitted(&limiter, ONE, ms, most)).sum();
            let wanted = u64::from(per_s) * ticks / 1000;
            let off = (count as u64).abs_diff(wanted);
            assert!(off <= 1 + wanted / 100, "{per_s} a second: {count} of {wanted}");
        }
    }

    #[test]
    fn who_begins_too_many_takes_nothing_of_others_and_ipv6_clients_are_networks() {
        let limiter = limiter(Limits { service: Some(rate(1000, 100)), client: Some(rate(10, 5)) });
        assert_eq!(admitted(&limiter, ONE, 1000, 1000), 5);
        assert_eq!(limiter.admit(ONE, Now { ms: 1000 }), Err(Reason::ClientLimited));
        assert_eq!(admitted(&limiter, OTHER, 1000, 5), 5);
        let host = |net: u16, host| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, net, 0, 0, 0, host));
        assert_eq!((0..20).map(|n| admitted(&limiter, host(1, n), 1000, 1)).sum::<usize>(), 5);
        assert_eq!(admitted(&limiter, host(2, 1), 1000, 20), 5);
    }

    #[test]
    fn a_client_that_the_services_limit_refuses_keeps_its_tokens() {
        let limiter = limiter(Limits { service: Some(rate(1, 1)), client: Some(rate(1, 2)) });
        assert_eq!(admitted(&limiter, OTHER, 1000, 1), 1);
        for _ in 0..9 {
            assert_eq!(limiter.admit(ONE, Now { ms: 1000 }), Err(Reason::ServiceLimited));
        }
        assert_eq!((2000..2900).map(|ms| admitted(&limiter, ONE, ms, 1)).sum::<usize>(), 1);
        assert_eq!(limiter.admit(ONE, Now { ms: 2900 }), Err(Reason::ServiceLimited), "it has a token left");
    }

    #[test]
    fn services_have_buckets_of_their_own() {
        let clients = SharedClients::default();
        let new = |service| Limiter::new(of_client(rate(10, 5)), service, &clients, None).unwrap();
        let (one, other) = (new(1), new(2));
        assert_eq!((admitted(&one, ONE, 1000, 9), admitted(&other, ONE, 1000, 9)), (5, 5));
    }

    #[test]
    fn a_question_takes_no_token_and_other_limits_begin_with_full_buckets() {
        let (clients, limits) =
            (SharedClients::default(), Limits { service: Some(rate(1, 2)), client: Some(rate(1, 2)) });
        let new = |limits, before| Limiter::new(limits, 1, &clients, before).unwrap();
        let limiter = new(limits, None);
        assert_eq!(admitted(&limiter.apart(), ONE, 1000, 9), 9);
        assert_eq!(admitted(&limiter, ONE, 1000, 9), 2);
        assert_eq!(
            limiter.apart().admit(ONE, Now { ms: 1000 }),
            Err(Reason::ClientLimited),
            "it sees that none is left"
        );
        assert_eq!(admitted(&new(limits, Some(&limiter)), ONE, 1000, 9), 0, "the same goes on");
        let more = Limits { service: Some(rate(1, 3)), client: Some(rate(1, 3)) };
        assert_eq!(admitted(&new(more, Some(&limiter)), ONE, 1000, 9), 3);
        assert!(Limiter::new(Limits::NONE, 1, &clients, Some(&limiter)).is_none());
    }

    /// More addresses than there are places, a hundred times in a second: each begins one connection.
    #[test]
    fn a_flood_of_made_up_addresses_limits_nobody_and_frees_nobody_who_is_limited() {
        let clients = Clients::new(64);
        let pace = Pace::from(rate(1, 50));
        let take = |client: u32, ms: u64| {
            clients.take(1, Ipv4Addr::from_bits(client).into(), pace, ms * NS_A_TICK, true)
        };
        assert_eq!((0..100).filter(|_| take(1, 1000)).count(), 50, "it has used all of its tokens");
        for made_up in 0..100_000_u32 {
            assert!(take(0x0a00_0000 | made_up, 1000 + u64::from(made_up) / 100), "{made_up}");
        }
        assert!(take(2, 2000) && take(2, 2000), "an honest client is there");
        assert_eq!((0..100).filter(|_| take(1, 2000)).count(), 1, "it has had a second for a token");
    }

    /// One token of the other service is back later than all of the limited client's.
    #[test]
    fn clients_of_another_service_with_slower_tokens_free_nobody_who_is_limited() {
        let clients = Clients::new(1);
        let take = |service, client, pace| {
            clients.take(service, Ipv4Addr::from_bits(client).into(), pace, 1000 * NS_A_TICK, true)
        };
        let (fast, slow) = (Pace::from(rate(100, 50)), Pace::from(rate(1, 50)));
        assert_eq!((0..100).filter(|_| take(1, 1, fast)).count(), 50);
        assert!((2..1000).all(|made_up| take(2, made_up, slow)));
        assert!(!take(1, 1, fast), "it is still limited");
    }

    /// Eight threads: tokens are neither lost nor doubled.
    #[test]
    fn workers_share_a_bucket_exactly() {
        let limiter = limiter(Limits { service: Some(rate(1, 10_000)), client: None });
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| admitted(&limiter, ONE, 1000, 10_000))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!((10_000..=10_080).contains(&taken), "{taken}");
    }
}
