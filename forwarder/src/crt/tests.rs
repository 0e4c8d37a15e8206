use std::net::{Ipv4Addr, Ipv6Addr};

use model::{DvipaIndex, Protocol, StackIndex};

use super::*;

mod behaviour;
mod history;
mod hostile;
mod stress;

fn config() -> Config {
    Config { connections_v4: 3000, connections_v6: 1500, half_open: 1024, fragments: 64, ..Config::default() }
}

fn at(s: u64) -> Now {
    Now { ms: s * 1000 }
}

/// The `n`th IPv4 key of some thousands of clients.
fn v4(n: u32) -> KeyV4 {
    let protocol = if n % 16 == 15 { Protocol::Udp } else { Protocol::Tcp };
    KeyV4::new(
        Ipv4Addr::from_bits(0xc612_0000 + n / 7),
        (n % 50_000) as u16,
        DvipaIndex((n % 3) as u16),
        80,
        protocol,
    )
}

fn v6(n: u32) -> KeyV6 {
    let client = Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(n / 7));
    KeyV6::new(client, (n % 50_000) as u16, DvipaIndex((n % 3) as u16), 443, Protocol::Tcp)
}

fn established(owner: u16) -> Entry {
    Entry { owner: StackIndex(owner), state: CrtState::Established }
}
