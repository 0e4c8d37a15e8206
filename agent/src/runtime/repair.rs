//! What others have changed on this host, put right or reported.

use std::collections::BTreeSet;
use std::net::IpAddr;

use model::Dvipa;

use super::Agent;
use super::start::{find_interfaces, settings};
use crate::environment::{Finding, Subject};
use crate::machine::Event;
use crate::system::changes::Change;
use crate::system::programs::Programs;
use crate::system::{addresses, order, prepare_interfaces, unfit_for_moves};

impl Agent {
    /// The kernel tells of a change.
    pub(super) async fn changed(&mut self, change: Change) {
        match change {
            Change::AddressRemoved(address) => self.put_back(address).await,
            Change::Interface(ifindex) => {
                if self.interfaces.iter().any(|i| i.ifindex == ifindex) {
                    self.repair().await;
                }
            }
        }
    }

    /// A DVIPA that somebody removed is an address of this host again.
    async fn put_back(&mut self, address: IpAddr) {
        if !self.dvipas.contains(&address) {
            return;
        }
        match addresses::add(&self.netlink, Dvipa::new(address)).await {
            Ok(()) => self.environment.put_right(Subject::Address, &format!("{address} was removed from lo")),
            Err(cause) => {
                tracing::error!(dvipa = %address, %cause, "was removed from lo and can't be put back, trying again");
            }
        }
    }

    /// Looks at all that others can change: interfaces, settings, programs.
    pub(super) async fn repair(&mut self) {
        let mut findings = BTreeSet::new();
        let mut find = |subject, sentence: String| {
            findings.insert(Finding::new(subject, sentence));
        };
        match find_interfaces(&self.netlink, &self.config).await {
            Ok(interfaces) if interfaces == self.interfaces => match self.programs.attach(&interfaces) {
                Ok(missing) => {
                    missing.iter().for_each(|what| self.environment.put_right(Subject::Program, what));
                }
                Err(cause) => {
                    find(Subject::Program, format!("forwarded packets are not decapsulated: {cause}"))
                }
            },
            Ok(interfaces) => {
                match Programs::start(&settings(&self.config, &interfaces, self.netns_cookie)) {
                    Ok(programs) => {
                        self.programs = programs;
                        self.tell(Event::Interfaces(interfaces.iter().map(|i| i.ifindex).collect()));
                        self.interfaces = interfaces;
                        self.environment.put_right(Subject::Interface, "interfaces have changed");
                    }
                    Err(cause) => {
                        find(Subject::Program, format!("forwarded packets are not decapsulated: {cause}"));
                    }
                }
            }
            Err(cause) => find(Subject::Interface, format!("forwarded packets can't arrive: {cause}")),
        }
        match prepare_interfaces(&self.config.node.interfaces) {
            Ok(raised) => raised.iter().for_each(|what| self.environment.put_right(Subject::Setting, what)),
            Err(cause) => find(Subject::Setting, cause.to_string()),
        }
        match order::before_ours(&self.netlink, &self.interfaces).await {
            Ok(others) => others.into_iter().for_each(|other| find(Subject::Order, other)),
            Err(cause) => tracing::debug!(%cause, "the kernel does not show the filters of the interfaces"),
        }
        unfit_for_moves().into_iter().for_each(|setting| find(Subject::HandOver, setting));
        self.environment.stands(findings);
    }
}
