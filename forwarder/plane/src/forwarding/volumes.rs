//! What workers have sent and refused by service and stack: summed over them, and by the cluster's names.

use control::runtime::{Given, MOST_SHARES, Share, TurnedAway};
use forwarder::traffic::{Pair, Volume, What};
use hashbrown::HashMap;
use model::{DvipaIndex, Protocol, StackIndex};

use super::connections::{Connections, Key};

/// What was counted of numbers before they were given back. Workers count on in the same places when others have the numbers.
#[derive(Debug, Default)]
pub(super) struct Volumes {
    gone: HashMap<Pair, Volume>,
}

/// What all workers have counted.
fn sum(counted: impl Iterator<Item = (Pair, Volume)>) -> HashMap<Pair, Volume> {
    let mut sums: HashMap<Pair, Volume> = HashMap::new();
    for (pair, volume) in counted {
        let sum = sums.entry(pair).or_default();
        sum.packets += volume.packets;
        sum.bytes += volume.bytes;
    }
    sums
}

impl Volumes {
    /// Nothing has these numbers any more, and no worker counts anything of them now.
    pub(super) fn forget(
        &mut self,
        counted: impl Iterator<Item = (Pair, Volume)>,
        stacks: &[StackIndex],
        dvipas: &[DvipaIndex],
    ) {
        let is_gone = |pair: &Pair| {
            let stack = matches!(pair.what(), What::To(stack) if stacks.contains(&stack));
            stack || dvipas.contains(&pair.dvipa())
        };
        self.gone.extend(sum(counted).into_iter().filter(|(pair, _)| is_gone(pair)));
    }

    /// What was counted, with what is known of `connections`.
    pub(super) fn given(
        &self,
        counted: impl Iterator<Item = (Pair, Volume)>,
        connections: &Connections,
    ) -> Given {
        let mut shares: HashMap<Key, Share> = HashMap::new();
        let mut turned_away: HashMap<(DvipaIndex, u16, Protocol), TurnedAway> = HashMap::new();
        for (key, begun) in connections.begun() {
            if let Some(share) = share(&mut shares, key, connections) {
                (share.opened, share.moved) = (begun.opened, begun.moved);
            }
        }
        for (pair, volume) in sum(counted) {
            let gone = self.gone.get(&pair).copied().unwrap_or_default();
            let (packets, bytes) =
                (volume.packets.saturating_sub(gone.packets), volume.bytes.saturating_sub(gone.bytes));
            let (dvipa, port, protocol) = (pair.dvipa(), pair.port().unwrap_or(0), pair.protocol());
            if packets == 0 {
                continue;
            }
            let stack = match pair.what() {
                What::To(stack) => stack,
                what => {
                    let Some(service) = connections.names.service(dvipa, port) else { continue };
                    let none =
                        TurnedAway { service, protocol, refused: 0, service_limited: 0, client_limited: 0 };
                    let of = turned_away.entry((dvipa, port, protocol)).or_insert(none);
                    match what {
                        What::ServiceLimited => of.service_limited = packets,
                        What::ClientLimited => of.client_limited = packets,
                        What::Refused | What::To(_) => of.refused = packets,
                    }
                    continue;
                }
            };
            if let Some(share) = share(&mut shares, (dvipa, port, protocol, stack), connections) {
                (share.packets, share.bytes) = (packets, bytes);
            }
        }
        Given {
            shares: shares.into_values().collect(),
            turned_away: turned_away.into_values().take(MOST_SHARES).collect(),
        }
    }
}

/// `None`: the DVIPA is none of this node's.
fn share<'s>(
    shares: &'s mut HashMap<Key, Share>,
    key: Key,
    connections: &Connections,
) -> Option<&'s mut Share> {
    let (dvipa, port, protocol, stack) = key;
    let service = connections.names.service(dvipa, port)?;
    let none = Share { service, protocol, stack, opened: 0, moved: 0, packets: 0, bytes: 0 };
    Some(shares.entry(key).or_insert(none))
}

#[cfg(test)]
mod tests {
    use forwarder::Now;
    use forwarder::crt::KeyParts;
    use model::Dvipa;
    use model::dpt::{Dpt, DvipaEntry};

    use super::*;

    const DVIPA: DvipaIndex = DvipaIndex(3);

    fn connections() -> Connections {
        let mut connections = Connections::new(Now::default());
        let dvipas = vec![DvipaEntry::new(DVIPA, Dvipa::new([198, 18, 9, 1].into())).into()];
        connections.publish(&Dpt { dvipas, ..Dpt::default() });
        connections
    }

    fn pair(dvipa: DvipaIndex, what: What) -> Pair {
        let client = ([198, 18, 0, 2], 40_000).into();
        Pair::new(KeyParts { client, dvipa, dvipa_port: 80, protocol: Protocol::Tcp }, what)
    }

    fn counted(packets: u64, what: What) -> (Pair, Volume) {
        (pair(DVIPA, what), Volume { packets, bytes: packets * 100 })
    }

    #[test]
    fn what_workers_count_is_summed_and_named() {
        let (one, other) = (What::To(StackIndex(1)), What::To(StackIndex(2)));
        let strange = (pair(DvipaIndex(9), one), Volume { packets: 1, bytes: 1 });
        let workers =
            [counted(3, one), counted(4, one), counted(5, other), counted(6, What::Refused), strange];
        let limited = [counted(7, What::ServiceLimited), counted(8, What::ClientLimited)];
        let given = Volumes::default().given(workers.into_iter().chain(limited), &connections());
        let mut shares: Vec<_> = given.shares.iter().map(|s| (s.stack.0, s.packets, s.bytes)).collect();
        shares.sort_unstable();
        assert_eq!(shares, [(1, 7, 700), (2, 5, 500)]);
        let service = ([198, 18, 9, 1], 80).into();
        let away = TurnedAway {
            service,
            protocol: Protocol::Tcp,
            refused: 6,
            service_limited: 7,
            client_limited: 8,
        };
        assert_eq!(given.turned_away, [away]);
    }

    #[test]
    fn who_gets_a_number_that_was_given_back_begins_at_nothing() {
        let (mut volumes, stack) = (Volumes::default(), StackIndex(1));
        let (one, other) = (What::To(stack), What::To(StackIndex(2)));
        let before = || [counted(10, one), counted(1, other)].into_iter();
        volumes.forget(before(), &[stack], &[]);
        let packets = |volumes: &Volumes, counted: &[(Pair, Volume)]| {
            let given = volumes.given(counted.iter().copied(), &connections());
            given.shares.iter().map(|share| (share.stack.0, share.packets)).collect::<Vec<_>>()
        };
        assert_eq!(packets(&volumes, &before().collect::<Vec<_>>()), [(2, 1)]);
        assert_eq!(packets(&volumes, &[counted(13, one)]), [(1, 3)]);
        volumes.forget([counted(13, one)].into_iter(), &[], &[DVIPA]);
        assert_eq!(packets(&volumes, &[counted(13, one)]), []);
    }
}
