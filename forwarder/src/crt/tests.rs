use std::net::{Ipv4Addr, Ipv6Addr};

use model::{DvipaIndex, Protocol, StackIndex};

use super::*;

mod behaviour;
mod history;
mod hostile;
mod left;
mod lifetimes;
mod stress;

fn config() -> Config {
    Config {
        connections_v4: 3000,
        connections_v6: 1500,
        flows: 4096,
        half_open: 1024,
        fragments: 64,
        ..Config::default()
    }
}

fn at(s: u64) -> Now {
    Now { ms: s * 1000 }
}

/// The `n`th IPv4 key of some thousands of clients.
fn v4(n: u32) -> KeyV4 {
    KeyV4::new(
        Ipv4Addr::from_bits(0xc612_0000 + n / 7),
        (n % 50_000) as u16,
        DvipaIndex((n % 3) as u16),
        80,
        Protocol::Tcp,
    )
}

/// The `n`th UDP flow.
fn flow(n: u32) -> KeyV4 {
    KeyV4::new(
        Ipv4Addr::from_bits(0x2d00_0000 ^ n.wrapping_mul(0x9e37_79b1)),
        9,
        DvipaIndex(0),
        53,
        Protocol::Udp,
    )
}

fn v6(n: u32) -> KeyV6 {
    let client = Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(n / 7));
    KeyV6::new(client, (n % 50_000) as u16, DvipaIndex((n % 3) as u16), 443, Protocol::Tcp)
}

fn established(owner: u16) -> Entry {
    Entry { owner: StackIndex(owner), state: CrtState::Established }
}
