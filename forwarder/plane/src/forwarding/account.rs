//! A stack's complete account of its connections, which comes in parts.

use control::runtime::CrtEntry;
use hashbrown::HashSet;
use model::{Connection, CrtState, Protocol};

/// The connections that were the stack's when the account began, without those that it has named since. What is left at
/// the end has ended.
#[derive(Debug, Default)]
pub(super) struct OpenAccount {
    unnamed: HashSet<Connection>,
}

impl OpenAccount {
    /// An entry of the stack that was there before the first part. Half-open ones are younger than any account, and of
    /// UDP no account is given: both end by age.
    pub(super) fn opened_with(&mut self, entry: &CrtEntry) {
        if entry.state == CrtState::Established && entry.connection.protocol == Protocol::Tcp {
            self.unnamed.insert(entry.connection);
        }
    }

    /// The stack says that it has this connection.
    pub(super) fn named(&mut self, connection: &Connection) {
        self.unnamed.remove(connection);
    }

    /// After the last part: what the stack does not have.
    pub(super) fn unnamed(self) -> impl Iterator<Item = Connection> {
        self.unnamed.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use model::StackIndex;

    use super::*;

    fn entry(protocol: Protocol, port: u16, state: CrtState) -> CrtEntry {
        let client = ([198, 18, 0, 2], port).into();
        let connection = Connection::new(protocol, client, ([198, 18, 9, 1], 80).into()).unwrap();
        CrtEntry { connection, stack: StackIndex(1), state, idle_ms: 0 }
    }

    #[test]
    fn established_tcp_connections_that_no_part_names_have_ended() {
        let entries = [
            entry(Protocol::Tcp, 1, CrtState::Established),
            entry(Protocol::Tcp, 2, CrtState::Established),
            entry(Protocol::Tcp, 3, CrtState::HalfOpen),
            entry(Protocol::Tcp, 4, CrtState::Frozen),
            entry(Protocol::Udp, 5, CrtState::Established),
        ];
        let mut account = OpenAccount::default();
        entries.iter().for_each(|entry| account.opened_with(entry));
        account.named(&entries[0].connection);
        assert_eq!(account.unnamed().collect::<Vec<_>>(), [entries[1].connection]);
    }
}
