//! Tables for a question: what a selection changes in them changes nothing for workers; and what they say of one stack or service.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use model::{DvipaIndex, Protocol, StackIndex};

use super::carrier::Form;
use super::{Family, Tables, service_key};
use crate::{Mac, Reason};

/// How packets of one family get to a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WayTo {
    /// It is this node's own kernel: they go there as they are.
    Local,
    /// They can't, for this reason.
    None(Reason),
    /// Behind this outer header.
    Carried {
        /// `l2`, `ipip` or `gue`.
        encapsulation: &'static str,
        /// Bytes of the longest packet that fits, from its IP header on.
        longest: u16,
        /// The link-layer address of the next hop.
        next_hop: Mac,
    },
}

impl Tables {
    /// The same tables with a copy of this service that has rotations of its own, which are where the service's are.
    pub(crate) fn apart(&self, dvipa: DvipaIndex, port: u16, protocol: Protocol) -> Self {
        let mut copy = self.clone();
        let mut services = self.distributions.to_vec();
        let at =
            self.services.get(service_key(dvipa, port, protocol)).and_then(|at| usize::try_from(at).ok());
        if let Some(service) = at.and_then(|at| services.get_mut(at)) {
            *service = Arc::new(service.apart());
        }
        copy.distributions = services.into();
        copy
    }

    /// The DVIPA with this address, if packets to it are this node's.
    pub fn dvipa(&self, address: IpAddr) -> Option<DvipaIndex> {
        match address {
            IpAddr::V4(address) => self.dvipa_v4(address),
            IpAddr::V6(address) => self.dvipa_v6(address),
        }
    }

    /// Whether a service is in the DPT.
    pub fn has_service(&self, dvipa: DvipaIndex, port: u16, protocol: Protocol) -> bool {
        self.service(dvipa, port, protocol).is_some()
    }

    /// The prefix of the policy by which a client's target is selected, if there is one for it.
    pub fn policy(
        &self,
        (dvipa, port, protocol): (DvipaIndex, u16, Protocol),
        client: IpAddr,
    ) -> Option<IpNet> {
        self.service(dvipa, port, protocol)?.policy(client).map(|(prefix, _)| *prefix)
    }

    /// The stacks that are asked about a connection to a DVIPA that has no entry, and whether the silence of all of them says that nobody
    /// has it.
    pub fn asked(&self, dvipa: DvipaIndex) -> (&[StackIndex], bool) {
        let ask = self.ask(dvipa);
        (&ask.candidates, ask.certain)
    }

    /// How packets of a family get to a stack.
    pub fn way(&self, stack: StackIndex, family: Family) -> WayTo {
        let carrier = self.carrier(stack, family);
        let encapsulation = match carrier.form {
            Form::Local => return WayTo::Local,
            Form::Missing => return WayTo::None(carrier.missing),
            Form::L2 | Form::L2Tagged => "l2",
            Form::Ipip4 | Form::Ipip4Tagged | Form::Ipip6 | Form::Ipip6Tagged => "ipip",
            Form::Gue4 | Form::Gue4Tagged | Form::Gue6 | Form::Gue6Tagged => "gue",
        };
        let next_hop = Mac(carrier.header.first_chunk().copied().unwrap_or_default());
        WayTo::Carried { encapsulation, longest: carrier.max_inner, next_hop }
    }
}
