//! SYN cookies: what was agreed on with a client is in the numbers that the client repeats, and not here.
//!
//! The sequence number that this node begins with:
//!
//! | bits | |
//! | --- | --- |
//! | 31 | the minute's last bit |
//! | 28–30 | which of eight MSS |
//! | 0–27 | SipHash of both ends, the client's first sequence number, the MSS and the minute |
//!
//! With timestamps, the low bits of TSval say the rest: the scale of the client's windows in bits 0–3 (15: it does not scale), SACK in
//! 4, ECN in 5. Without them there is no more than the MSS, as everywhere. The key belongs to this process, and the minute is hashed with the
//! rest: who sees cookies of one minute knows none of another. A cookie is good in its own minute and the next.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::OnceLock;

use model::connection_state::WindowScales;
use model::handoff::LEAST_MSS;
use siphasher::sip::SipHasher13;

use super::options::Options;
use super::{Agreed, SCALE};
use crate::Now;
use crate::crt::KeyParts;
use crate::packet::transport::flags;

/// How long a key is in use.
const MINUTE_MS: u64 = 60_000;
/// The MSS that a cookie can say. A client's is rounded down to one of them.
const SIZES: [u16; 8] = [LEAST_MSS.0, 1024, LEAST_MSS.1, 1300, 1380, 1440, 1460, 8940];
/// The bits of a cookie that are hashed.
const HASH: u32 = (1 << 28) - 1;
/// The bits of TSval that say what was agreed on.
const TOLD: u32 = (1 << 6) - 1;
/// The client does not scale its windows.
const UNSCALED: u32 = 15;
const SACK: u32 = 1 << 4;
const ECN: u32 = 1 << 5;

/// What cookies are made with. All workers of a process have the same, because a connection's packets may change the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Secret(u64, u64);

impl Secret {
    /// This process's.
    pub(crate) fn of_process() -> Self {
        static SECRET: OnceLock<(u64, u64)> = OnceLock::new();
        let random = || {
            let state = RandomState::new();
            (state.hash_one(0), state.hash_one(1))
        };
        let (first, second) = *SECRET.get_or_init(random);
        Self(first, second)
    }

    /// One that others know: for captures, and tests.
    pub(crate) fn known([first, second]: [u64; 2]) -> Self {
        Self(first, second)
    }

    fn cookie(self, of: KeyParts, client_first: u32, size: u32, minute: u64) -> u32 {
        let address = match of.client.ip() {
            std::net::IpAddr::V4(a) => a.to_ipv6_mapped(),
            std::net::IpAddr::V6(a) => a,
        };
        let address = address.to_bits();
        let [first, second] = [(address >> 64) as u64, address as u64].map(u64::to_be_bytes);
        let ends = u64::from(of.client.port()) << 48 | u64::from(of.dvipa_port) << 32;
        let words = [
            minute.to_le_bytes(),
            first,
            second,
            (ends | u64::from(client_first)).to_le_bytes(),
            (u64::from(of.dvipa.0) << 32 | u64::from(size)).to_le_bytes(),
        ];
        let hash = SipHasher13::new_with_keys(self.0, self.1).hash(words.as_flattened());
        hash as u32 & HASH | size << 28 | ((minute & 1) as u32) << 31
    }
}

/// What a SYN is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// This node's first sequence number.
    pub(crate) first: u32,
    /// TSval, if the client sends timestamps.
    pub(crate) stamp: Option<u32>,
    /// What is agreed on, if the client goes on.
    pub(crate) agreed: Agreed,
}

/// Makes the answer to a SYN with these flags and options.
pub(crate) fn offer(
    secret: Secret,
    of: KeyParts,
    (client_first, syn_flags): (u32, u8),
    options: Options,
    now: Now,
) -> Offer {
    let is_v6 = of.client.is_ipv6();
    let least = if is_v6 { LEAST_MSS.1 } else { LEAST_MSS.0 };
    let asked = options.mss.unwrap_or(least).max(least);
    let size = SIZES.iter().rposition(|size| *size <= asked).unwrap_or(0) as u32;
    let minute = now.ms / MINUTE_MS;
    let stamped = options.timestamps.is_some();
    let asks_ecn = syn_flags & (flags::ECE | flags::CWR) == flags::ECE | flags::CWR;
    let (sack, ecn) = (stamped && options.sack_permitted, stamped && asks_ecn);
    let scale = options.scale.filter(|_| stamped);
    let told = scale.map_or(UNSCALED, u32::from) | if sack { SACK } else { 0 } | if ecn { ECN } else { 0 };
    let clock = now.ms as u32;
    let stamp = clock & !TOLD | told;
    // Not ahead of the clock: the target goes on from it.
    let stamp = if stamp.wrapping_sub(clock) as i32 > 0 { stamp.wrapping_sub(TOLD + 1) } else { stamp };
    Offer {
        first: secret.cookie(of, client_first, size, minute),
        stamp: stamped.then_some(stamp),
        agreed: agreed(size, stamped.then_some(stamp)),
    }
}

fn agreed(size: u32, stamp: Option<u32>) -> Agreed {
    let told = stamp.unwrap_or(UNSCALED) & TOLD;
    let scale = told & UNSCALED;
    Agreed {
        mss: SIZES.get(size as usize).copied().unwrap_or(LEAST_MSS.0),
        scales: (scale != UNSCALED).then_some(WindowScales { send: scale as u8, receive: SCALE }),
        sack: told & SACK != 0,
        timestamps: stamp.is_some(),
        ecn: told & ECN != 0,
    }
}

/// What was agreed on with the client that repeats this node's first sequence number; `None`: this node has not told it that number
/// lately. `echo`: TSecr, if it sends timestamps.
pub(crate) fn check(
    secret: Secret,
    of: KeyParts,
    (client_first, first): (u32, u32),
    echo: Option<u32>,
    now: Now,
) -> Option<Agreed> {
    let minute = now.ms / MINUTE_MS;
    let made_in = if minute as u32 & 1 == first >> 31 { minute } else { minute.checked_sub(1)? };
    let size = first >> 28 & 7;
    (secret.cookie(of, client_first, size, made_in) == first).then(|| agreed(size, echo))
}

#[cfg(test)]
mod tests {
    use model::{DvipaIndex, Protocol};
    use proptest::prelude::*;

    use super::*;

    const NOW: Now = Now { ms: 10 * MINUTE_MS + 100 };

    fn of(port: u16) -> KeyParts {
        let client = ([198, 18, 0, 2], port).into();
        KeyParts { client, dvipa: DvipaIndex(3), dvipa_port: 80, protocol: Protocol::Tcp }
    }

    fn linux() -> Options {
        Options { mss: Some(1460), scale: Some(9), sack_permitted: true, timestamps: Some((5, 0)) }
    }

    #[test]
    fn what_was_agreed_on_comes_back_with_the_numbers() {
        let secret = Secret::known([7, 1]);
        let asks_ecn = flags::SYN | flags::ECE | flags::CWR;
        let offer = offer(secret, of(4000), (77, asks_ecn), linux(), NOW);
        let scales = Some(WindowScales { send: 9, receive: SCALE });
        let all = Agreed { mss: 1460, scales, sack: true, timestamps: true, ecn: true };
        assert_eq!(offer.agreed, all);
        assert_eq!(check(secret, of(4000), (77, offer.first), offer.stamp, NOW), Some(all));
    }

    #[test]
    fn without_timestamps_the_mss_is_all() {
        let secret = Secret::known([7, 1]);
        let options = Options { timestamps: None, ..linux() };
        let offer = offer(secret, of(4000), (77, flags::SYN), options, NOW);
        let agreed = Agreed { mss: 1460, scales: None, sack: false, timestamps: false, ecn: false };
        assert_eq!((offer.stamp, offer.agreed), (None, agreed));
        assert_eq!(check(secret, of(4000), (77, offer.first), None, NOW), Some(agreed));
    }

    #[test]
    fn a_cookie_is_good_for_one_to_two_minutes_and_one_connection() {
        let secret = Secret::known([7, 1]);
        let Offer { first, stamp, .. } = offer(secret, of(4000), (77, flags::SYN), linux(), NOW);
        let at = |ms| check(secret, of(4000), (77, first), stamp, Now { ms }).is_some();
        assert!(at(NOW.ms + MINUTE_MS));
        assert!(!at(NOW.ms + 2 * MINUTE_MS) && !at(NOW.ms + 3 * MINUTE_MS) && !at(NOW.ms - MINUTE_MS));
        assert_eq!(check(secret, of(4001), (77, first), stamp, NOW), None);
        assert_eq!(check(secret, of(4000), (78, first), stamp, NOW), None);
        assert_eq!(check(Secret::known([8, 1]), of(4000), (77, first), stamp, NOW), None);
        assert_eq!(check(secret, of(4000), (77, first ^ 1 << 28), stamp, NOW), None, "another MSS");
    }

    #[test]
    fn a_client_with_a_tiny_mss_gets_the_least() {
        let options = Options { mss: Some(100), ..linux() };
        let secret = Secret::known([7, 1]);
        assert_eq!(offer(secret, of(1), (1, flags::SYN), options, NOW).agreed.mss, LEAST_MSS.0);
    }

    proptest! {
        #[test]
        fn a_stamp_is_never_ahead_of_the_clock_nor_far_behind(
            (ms, scale) in (0..1_u64 << 41, prop::option::of(0..15_u8)), sack: bool
        ) {
            let options = Options { scale, sack_permitted: sack, ..linux() };
            let offer = offer(Secret::known([1, 1]), of(9), (1, flags::SYN), options, Now { ms });
            let behind = (ms as u32).wrapping_sub(offer.stamp.unwrap());
            prop_assert!(behind < 64, "{behind}");
            prop_assert_eq!(offer.agreed.scales.map(|scales| scales.send), scale);
            prop_assert_eq!(offer.agreed.sack, sack);
        }
    }
}
