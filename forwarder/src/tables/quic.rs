//! Which stack a QUIC connection ID names.

use std::collections::{BTreeMap, HashMap};

use model::dpt::StackEntry;
use model::quic::Configuration;
use model::{StackIndex, StackName};
use quiclb::{Named, Reader};

use super::open_map::OpenMap;

/// The connection IDs of a service's QUIC servers.
#[derive(Debug)]
pub(crate) struct ConnectionIds {
    reader: Reader,
    /// By rotation bits and server ID.
    stacks: OpenMap<u128, StackIndex>,
}

/// What a datagram's connection ID names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// This stack, which need not serve.
    Stack(StackIndex),
    /// A server ID that no stack has.
    Unknown,
    /// Nothing, because it has not the form.
    Unroutable,
    /// Nothing, because the client may have chosen it.
    Clients,
}

impl ConnectionIds {
    /// Of a service; `None`: it is not known how its servers make them. A server ID that two stacks have, as can happen where it follows
    /// from names, is nobody's.
    pub(super) fn new(configurations: &[Configuration], stacks: &[StackEntry]) -> Option<Self> {
        if configurations.is_empty() {
            return None;
        }
        let indices: HashMap<&StackName, StackIndex> = stacks.iter().map(|s| (&s.name, s.index)).collect();
        let mut known: BTreeMap<u128, Option<StackIndex>> = BTreeMap::new();
        for configuration in configurations {
            let given = &configuration.server_ids;
            let follows = stacks.iter().filter(|_| given.is_empty()).filter_map(|stack| {
                Some((quiclb::derived(&stack.name, configuration.server_id_bytes)?, stack.index))
            });
            let given = given.iter().filter_map(|given| Some((given.id, *indices.get(&given.stack)?)));
            for (id, stack) in given.chain(follows) {
                let key = id.number() | u128::from(configuration.rotation);
                known.entry(key).and_modify(|known| *known = None).or_insert(Some(stack));
            }
        }
        let pairs: Vec<_> = known.into_iter().filter_map(|(key, stack)| Some((key, stack?))).collect();
        // What can't be read was refused with the configuration.
        let reader = Reader::new(configurations).ok()?;
        Some(Self { reader, stacks: OpenMap::new(pairs.into_iter()) })
    }

    /// What the connection ID of a client's datagram names.
    pub(crate) fn names(&self, datagram: &[u8]) -> Names {
        match self.reader.read(datagram) {
            Named::Server { rotation, id } => {
                let stack = self.stacks.get(id.number() | u128::from(rotation));
                stack.map_or(Names::Unknown, Names::Stack)
            }
            Named::Clients => Names::Clients,
            Named::Unroutable => Names::Unroutable,
        }
    }
}

#[cfg(test)]
mod tests {
    use model::dpt::{Reach, StackState};

    use super::*;

    fn stack(index: u16, name: &str) -> StackEntry {
        let name = StackName::new(name).unwrap();
        StackEntry { index: StackIndex(index), name, reach: Reach::Local, state: StackState::Up }
    }

    #[test]
    fn a_server_id_that_two_names_give_is_nobodys() {
        let configuration = Configuration {
            rotation: 2,
            server_id_bytes: 1,
            nonce_bytes: 4,
            key: None,
            length_in_first_octet: false,
            server_ids: Vec::new(),
        };
        // More names than one byte tells apart.
        let stacks: Vec<_> = (0..300).map(|index| stack(index, &format!("n{index}"))).collect();
        let ids = ConnectionIds::new(&[configuration], &stacks).unwrap();
        let byte = |stack: &StackEntry| quiclb::derived(&stack.name, 1).unwrap().as_bytes()[0];
        for of in &stacks {
            let others = stacks.iter().filter(|other| byte(other) == byte(of)).count();
            let named = ids.names(&[0x40, 2 << 5, byte(of), 1, 2, 3, 4, 0]);
            assert_eq!(named, if others == 1 { Names::Stack(of.index) } else { Names::Unknown });
        }
        assert!(ConnectionIds::new(&[], &stacks).is_none());
    }
}
