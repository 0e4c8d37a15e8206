//! One distributed service: its policies and its targets.

use std::net::IpAddr;

use ipnet::IpNet;
use model::StackIndex;
use model::dpt::Refuse;

use super::choice::Choice;
use crate::crt::Crt;

/// A service that is distributed.
#[derive(Debug)]
pub(crate) struct Service {
    /// First match wins.
    pub(super) policies: Box<[(IpNet, Choice)]>,
    /// For clients that no policy matches.
    pub(super) default: Choice,
    /// What a client is told while no target takes it.
    pub(super) refuse: Refuse,
}

impl Service {
    /// The target for a client's new connection, if there is one that takes it.
    pub(crate) fn pick(&self, client: IpAddr, port: u16, crt: &Crt) -> Option<StackIndex> {
        self.choice(client).pick(client, port, crt)
    }

    /// The target that the client's address and port alone tell, if the method goes by them.
    pub(crate) fn hashed(&self, client: IpAddr, port: u16) -> Option<StackIndex> {
        self.choice(client).hashed(client, port)
    }

    fn choice(&self, client: IpAddr) -> &Choice {
        let policy = self.policies.iter().find(|(prefix, _)| prefix.contains(&client));
        policy.map_or(&self.default, |(_, choice)| choice)
    }
}
