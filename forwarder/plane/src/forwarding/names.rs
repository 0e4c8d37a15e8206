//! Connections by their addresses, as the cluster speaks of them, and by the CRT's keys.

use std::net::SocketAddr;

use forwarder::AnyKey;
use forwarder::crt::{KeyParts, KeyV4, KeyV6};
use hashbrown::HashMap;
use model::dpt::{DvipaEntry, Shared};
use model::{Connection, Dvipa, DvipaIndex};

/// The DVIPAs that this node owns, or has owned until a while ago, and their numbers: connections of one that moved away can
/// still be shown and ended.
#[derive(Debug, Default)]
pub(super) struct Names {
    index: HashMap<Dvipa, DvipaIndex>,
    dvipa: Vec<Option<Dvipa>>,
}

impl Names {
    pub(super) fn learn(&mut self, dvipas: &[Shared<DvipaEntry>]) {
        for entry in dvipas {
            self.index.insert(entry.dvipa, entry.index);
            let at = usize::from(entry.index.0);
            self.dvipa.resize(self.dvipa.len().max(at + 1), None);
            if let Some(place) = self.dvipa.get_mut(at) {
                *place = Some(entry.dvipa);
            }
        }
    }

    /// Nothing has this number any more.
    pub(super) fn forget(&mut self, number: DvipaIndex) {
        let place = self.dvipa.get_mut(usize::from(number.0));
        if let Some(dvipa) = place.and_then(Option::take)
            && self.index.get(&dvipa) == Some(&number)
        {
            self.index.remove(&dvipa);
        }
    }

    /// `None` if the connection's DVIPA was never this node's.
    pub(super) fn key(&self, connection: &Connection) -> Option<AnyKey> {
        let dvipa = *self.index.get(&Dvipa::new(connection.dvipa.ip()))?;
        let (port, protocol) = (connection.dvipa.port(), connection.protocol);
        Some(match connection.client {
            SocketAddr::V4(client) => {
                AnyKey::V4(KeyV4::new(*client.ip(), client.port(), dvipa, port, protocol))
            }
            SocketAddr::V6(client) => {
                AnyKey::V6(KeyV6::new(*client.ip(), client.port(), dvipa, port, protocol))
            }
        })
    }

    pub(super) fn connection(&self, key: &KeyParts) -> Option<Connection> {
        Connection::new(key.protocol, key.client, self.service(key.dvipa, key.dvipa_port)?)
    }

    /// A port of a DVIPA.
    pub(super) fn service(&self, dvipa: DvipaIndex, port: u16) -> Option<SocketAddr> {
        let dvipa = (*self.dvipa.get(usize::from(dvipa.0))?)?;
        Some(SocketAddr::new(dvipa.address(), port))
    }
}

#[cfg(test)]
mod tests {
    use model::Protocol;

    use super::*;

    #[test]
    fn a_connection_keeps_its_name_through_the_table() {
        let mut names = Names::default();
        let dvipas = ["198.18.9.1", "2001:db8:9::1"].map(|a| Dvipa::new(a.parse().unwrap()));
        let entry = |(i, dvipa): (usize, &Dvipa)| Shared::from(DvipaEntry::new(DvipaIndex(i as u16), *dvipa));
        names.learn(&dvipas.iter().enumerate().map(entry).collect::<Vec<_>>());
        for (client, dvipa) in
            [("198.18.0.2:4000", "198.18.9.1:80"), ("[2001:db8::2]:4000", "[2001:db8:9::1]:80")]
        {
            let connection =
                Connection::new(Protocol::Udp, client.parse().unwrap(), dvipa.parse().unwrap()).unwrap();
            let parts = match names.key(&connection).unwrap() {
                AnyKey::V4(key) => KeyParts::from(key),
                AnyKey::V6(key) => KeyParts::from(key),
            };
            assert_eq!(names.connection(&parts), Some(connection));
        }
    }

    #[test]
    fn a_dvipa_of_somebody_else_has_no_key() {
        let ends = ("198.18.0.2:4000".parse().unwrap(), "198.18.9.9:80".parse().unwrap());
        let connection = Connection::new(Protocol::Tcp, ends.0, ends.1).unwrap();
        assert_eq!(Names::default().key(&connection), None);
    }
}
