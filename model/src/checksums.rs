//! Packets that a host's kernel refuses because their TCP or UDP checksum is wrong. Many of them in a row have one cause that
//! nothing else names: their sender leaves checksums to a device that computes none, as hosts on one machine do on veth pairs.

use std::time::{Duration, Instant};

/// How long packets are counted before it is decided.
const WINDOW: Duration = Duration::from_secs(10);
/// Wrong packets within a window that are more than damage on the way: a session that does not come up has more.
const MANY: u64 = 5;

/// What an operator is told, and does.
pub const SENTENCE: &str = "packets with wrong TCP or UDP checksums reach this host: their sender is on the same machine and \
     leaves checksums to a device that computes none; run `ethtool -K PORT tx off` for the other end of the veth pair that is \
     the routing node's NIC";

/// Counts packets with wrong checksums.
#[derive(Debug, Default)]
pub struct WrongChecksums {
    /// How many there were at the window's beginning, and when that was.
    window: Option<(u64, Instant)>,
    many: bool,
}

impl WrongChecksums {
    /// Whether many have come of late. `snmp` and `snmp6` are what the kernel's files of these names in `/proc/net` say.
    pub fn are_many(&mut self, snmp: &str, snmp6: &str, now: Instant) -> bool {
        let counted = counted(snmp, snmp6);
        let (before, since) = *self.window.get_or_insert((counted, now));
        self.many |= counted.saturating_sub(before) >= MANY;
        if now.saturating_duration_since(since) >= WINDOW {
            self.many = counted.saturating_sub(before) >= MANY;
            self.window = Some((counted, now));
        }
        self.many
    }
}

/// The sum of the kernel's counters.
fn counted(snmp: &str, snmp6: &str) -> u64 {
    ["Tcp:", "Udp:"].map(|protocol| column(snmp, protocol)).iter().sum::<u64>() + row(snmp6)
}

/// The counter of one protocol: a line of names is followed by a line of values.
fn column(snmp: &str, protocol: &str) -> u64 {
    let mut lines = snmp.lines().filter(|line| line.starts_with(protocol));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let at = names.split_whitespace().position(|name| name == "InCsumErrors");
    at.and_then(|at| values.split_whitespace().nth(at)?.parse().ok()).unwrap_or_default()
}

/// The counter of UDP over IPv6; that of TCP has both families.
fn row(snmp6: &str) -> u64 {
    let mut lines = snmp6.lines().map(str::split_whitespace);
    let value =
        lines.find_map(|mut words| (words.next() == Some("Udp6InCsumErrors")).then(|| words.next())?);
    value.and_then(|value| value.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snmp(tcp: u64, udp: u64) -> String {
        format!(
            "Ip: Forwarding DefaultTTL\nIp: 1 64\nTcp: ActiveOpens InCsumErrors\nTcp: 7 {tcp}\n\
             Udp: InDatagrams NoPorts InCsumErrors IgnoredMulti\nUdp: 9 8 {udp} 6\nUdpLite: InCsumErrors\nUdpLite: 99\n"
        )
    }

    #[test]
    fn the_kernels_counters_are_read() {
        let snmp6 = "Ip6InReceives 5\nUdp6InCsumErrors                \t4\nUdpLite6InCsumErrors 9\n";
        assert_eq!(counted(&snmp(1, 2), snmp6), 7);
        assert_eq!(counted("", ""), 0);
    }

    #[test]
    fn many_are_noticed_at_once_and_until_a_window_has_few() {
        let mut wrong = WrongChecksums::default();
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert!(!wrong.are_many(&snmp(100, 100), "", begin), "what was before the start does not count");
        assert!(!wrong.are_many(&snmp(100, 104), "", at(1)));
        assert!(wrong.are_many(&snmp(101, 104), "", at(2)));
        assert!(wrong.are_many(&snmp(101, 104), "", at(10)));
        assert!(wrong.are_many(&snmp(101, 104), "", at(19)), "the next window is not over");
        assert!(!wrong.are_many(&snmp(101, 104), "", at(20)));
    }

    #[test]
    fn a_few_in_a_long_time_are_damage_on_the_way() {
        let mut wrong = WrongChecksums::default();
        let begin = Instant::now();
        for n in 0..20 {
            assert!(!wrong.are_many(&snmp(n, n), "", begin + WINDOW * u32::try_from(n).unwrap()), "{n}");
        }
    }
}
