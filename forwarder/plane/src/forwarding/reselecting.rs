//! Connections that workers want moved, because their next request is for another stack.

use control::machine::Wanted;
use forwarder::Reselected;
use forwarder::crt::KeyParts;
use model::Connection;

use super::Plane;

impl Plane {
    /// What workers have asked for since the last time.
    pub(super) fn asked_by_workers(&self) -> Vec<Wanted> {
        let asked = self.node.workers.iter().flat_map(|worker| worker.reselecting.asked());
        let named = asked.filter_map(|Reselected { key, from, to, start, acknowledged }| {
            let connection = self.connections.names.connection(&KeyParts::from(key))?;
            Some(Wanted { connection, from, to, start, acknowledged })
        });
        named.collect()
    }

    /// The worker that has asked is among them.
    pub(super) fn tell_stays(&self, connection: &Connection) {
        if let Some(key) = self.connections.names.key(connection) {
            self.node.workers.iter().for_each(|worker| worker.reselecting.stay(key));
        }
    }
}
