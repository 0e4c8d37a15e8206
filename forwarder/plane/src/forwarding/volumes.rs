//! What workers have sent and refused by service and stack: summed over them, and by the cluster's names.

use control::runtime::{Given, MOST_SHARES, Share, TurnedAway};
use forwarder::traffic::{Pair, Traffic, Volume, What};
use hashbrown::HashMap;
use model::{DvipaIndex, Protocol, StackIndex};

use super::connections::Connections;

/// What was counted of numbers before they were given back. Workers count on in the same places when others have the numbers.
#[derive(Debug, Default)]
pub(super) struct Volumes {
    gone: HashMap<Pair, Volume>,
}

fn sum<'w>(workers: impl Iterator<Item = &'w Traffic>) -> HashMap<Pair, Volume> {
    let mut sums: HashMap<Pair, Volume> = HashMap::new();
    for (pair, volume) in workers.flat_map(Traffic::volumes) {
        let sum = sums.entry(pair).or_default();
        sum.packets += volume.packets;
        sum.bytes += volume.bytes;
    }
    sums
}

impl Volumes {
    /// Nothing has these numbers any more, and no worker counts anything of them now.
    pub(super) fn forget<'w>(
        &mut self,
        workers: impl Iterator<Item = &'w Traffic>,
        stacks: &[StackIndex],
        dvipas: &[DvipaIndex],
    ) {
        let is_gone = |pair: &Pair| {
            let stack = matches!(pair.what(), What::To(stack) if stacks.contains(&stack));
            stack || dvipas.contains(&pair.dvipa())
        };
        self.gone.extend(sum(workers).into_iter().filter(|(pair, _)| is_gone(pair)));
    }

    /// What was counted, with what is known of `connections`.
    pub(super) fn given<'w>(
        &self,
        workers: impl Iterator<Item = &'w Traffic>,
        connections: &Connections,
    ) -> Given {
        let mut shares: HashMap<(DvipaIndex, u16, Protocol, StackIndex), Share> = HashMap::new();
        let mut turned_away: HashMap<(DvipaIndex, u16, Protocol), TurnedAway> = HashMap::new();
        for (key, begun) in connections.begun() {
            if let Some(share) = share(&mut shares, key, connections) {
                (share.opened, share.moved) = (begun.opened, begun.moved);
            }
        }
        for (pair, volume) in sum(workers) {
            let gone = self.gone.get(&pair).copied().unwrap_or_default();
            let (packets, bytes) = (volume.packets.saturating_sub(gone.packets), volume.bytes.saturating_sub(gone.bytes));
            let (dvipa, port, protocol) = (pair.dvipa(), pair.port().unwrap_or(0), pair.protocol());
            if packets == 0 {
                continue;
            }
            let stack = match pair.what() {
                What::To(stack) => stack,
                what => {
                    let Some(service) = connections.names.service(dvipa, port) else { continue };
                    let none = TurnedAway { service, protocol, refused: 0, service_limited: 0, client_limited: 0 };
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

type Key = (DvipaIndex, u16, Protocol, StackIndex);

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
