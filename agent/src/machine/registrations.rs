//! Whether the cluster distributes what applications want to register for.

use model::control_socket::Refusal;
use model::control_socket::request::Role;
use model::{Dvipa, Protocol};

use super::Machine;

impl Machine {
    /// Why an application can't serve these TCP ports, and which address and port it is about, as the VIPA lists of the present
    /// sessions say. While a routing stack has not said its list, nothing is said of an address that the others do not know.
    pub fn objection(&self, role: Role, dvipa: Dvipa, ports: &[u16]) -> Option<(Refusal, String)> {
        let heard = || self.stacks.values().filter(|stack| stack.is_heard());
        if heard().all(|stack| stack.entry(dvipa).is_none()) {
            let all_are = !self.stacks.is_empty() && self.stacks.values().all(|stack| stack.is_heard());
            return all_are.then(|| (Refusal::NotADvipa, dvipa.address().to_string()));
        }
        ports.iter().find_map(|port| {
            let entries = heard().filter_map(|stack| stack.entry(dvipa));
            let mut of_it = entries
                .flat_map(|entry| &entry.distributions)
                .filter(|d| d.protocol == Protocol::Tcp && (d.ports.is_empty() || d.ports.contains(port)));
            let why = match (of_it.next(), role) {
                (None, _) => Refusal::NotDistributed,
                (Some(first), Role::Routing) => {
                    let is_not = |by_content| by_content == Some(false);
                    let routes_none = is_not(first.content_routed) && of_it.all(|d| is_not(d.content_routed));
                    routes_none.then_some(Refusal::NotContentRouted)?
                }
                (Some(_), Role::Target) => return None,
            };
            Some((why, format!("{} port {port}", dvipa.address())))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use model::codec::Address;
    use model::message::{VipaList, VipaListDistribution, VipaListDvipa};
    use model::{ClusterAddress, Epoch, StackName};

    use super::super::{Event, Inherited, Own};
    use super::*;

    fn listed(machine: &mut Machine, from: &str) {
        let from: StackName = from.parse().unwrap();
        let service = |port, content_routed| VipaListDistribution {
            protocol: Protocol::Tcp,
            ports: vec![port],
            candidates: Vec::new(),
            content_routed: Some(content_routed),
        };
        let dvipa = VipaListDvipa {
            address: Address([198, 18, 9, 1].into()),
            epoch: Epoch(1),
            owner: true,
            rank: 255,
            distributions: vec![service(80, true), service(81, false)],
            forwards: None,
        };
        let list = VipaList { dvipas: vec![dvipa], forwarders: Vec::new(), ..VipaList::default() };
        machine.handle(Event::SessionUp(from.clone()), Instant::now());
        machine.handle(Event::Listed(from, list), Instant::now());
    }

    #[test]
    fn what_is_not_distributed_and_what_is_no_dvipa_is_refused_once_the_lists_are_there() {
        let own = Own {
            name: "t1".parse().unwrap(),
            cluster_address: ClusterAddress::from_addresses(&[[198, 18, 0, 21].into()]).unwrap(),
            interfaces: Vec::new(),
            routing_stacks: vec!["rt1".parse().unwrap(), "rt2".parse().unwrap()],
            repair: std::time::Duration::from_secs(10),
            unanswered: None,
        };
        let mut machine = Machine::new(own, Inherited::default(), Instant::now());
        let objection = |machine: &Machine, role, last: u8, ports: &[u16]| {
            machine
                .objection(role, Dvipa::new([198, 18, 9, last].into()), ports)
                .map(|(why, about)| (why.name(), about))
        };
        let (router, target) = (Role::Routing, Role::Target);
        assert_eq!(objection(&machine, router, 1, &[82]), None, "nothing is known yet");
        listed(&mut machine, "rt1");
        assert_eq!(objection(&machine, router, 1, &[80]), None);
        assert_eq!(objection(&machine, target, 1, &[80, 81]), None);
        let said = |why, about: &str| Some((why, about.to_owned()));
        assert_eq!(
            objection(&machine, router, 1, &[80, 81]),
            said("not_content_routed", "198.18.9.1 port 81")
        );
        assert_eq!(objection(&machine, target, 1, &[80, 82]), said("not_distributed", "198.18.9.1 port 82"));
        assert_eq!(objection(&machine, target, 2, &[80]), None, "rt2 may have it");
        listed(&mut machine, "rt2");
        assert_eq!(objection(&machine, target, 2, &[80]), said("not_a_dvipa", "198.18.9.2"));
    }
}
