//! Connection IDs that name the stack that the server is on.

use std::time::Duration;

use quiclb::{Algorithm, ServerId};
use quinn::{ConnectionId, ConnectionIdGenerator};
use rustls::crypto::SecureRandom;

/// What makes them.
#[derive(Clone, Debug)]
pub(crate) struct Ids {
    pub(crate) algorithm: Algorithm,
    pub(crate) server: ServerId,
    pub(crate) random: &'static dyn SecureRandom,
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        // Random nonces of 6 bytes and more come twice so rarely that a server that has the same one twice is no worse off than one
        // with random connection IDs.
        let mut bytes = vec![0; self.algorithm.nonce_bytes() + 1];
        self.random.fill(&mut bytes).expect("the kernel has random bytes");
        let (low_bits, nonce) = bytes.split_first().expect("a byte more than the nonce has");
        let id = self.algorithm.connection_id(self.server, nonce, *low_bits);
        ConnectionId::new(&id.expect("the server ID is as long as the configuration says"))
    }

    fn cid_len(&self) -> usize {
        self.algorithm.id_bytes()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
