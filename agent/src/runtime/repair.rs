//! What others have changed on this host, put right or reported.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::slice;
use std::time::Instant;

use model::{Dvipa, checksums};

use super::Agent;
use super::start::{find_interfaces, settings};
use crate::environment::{Finding, Subject};
use crate::machine::Event;
use crate::system::changes::Change;
use crate::system::interfaces::Interface;
use crate::system::programs::{ProgramError, Programs};
use crate::system::{addresses, forwards, interfaces, order, prepare_interfaces, rules, unfit_for_moves};

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

    /// A DVIPA that was removed is an address of this host again.
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
        // Before programs are loaded anew: they would begin with other maps.
        match self.programs.pin_again() {
            Ok(missing) => missing.iter().for_each(|what| self.environment.put_right(Subject::Program, what)),
            Err(cause) => find(
                Subject::Program,
                format!("what the next run of the agent has to find can't be pinned again: {cause}"),
            ),
        }
        match find_interfaces(&self.netlink, &self.config).await {
            Ok(interfaces) => {
                if let Err(cause) = self.repair_programs(interfaces).await {
                    find(Subject::Program, format!("forwarded packets are not decapsulated: {cause}"));
                }
            }
            Err(cause) => find(Subject::Interface, format!("forwarded packets can't arrive: {cause}")),
        }
        match prepare_interfaces(&self.config.node.interfaces) {
            Ok(raised) => raised.iter().for_each(|what| self.environment.put_right(Subject::Setting, what)),
            Err(cause) => find(Subject::Setting, cause.to_string()),
        }
        if let Err((subject, cause)) = self.repair_ways_of_containers().await {
            find(subject, format!("containers of this host don't reach DVIPAs that others serve: {cause}"));
        }
        match order::before_ours(&self.netlink, &self.interfaces).await {
            Ok(others) => others.into_iter().for_each(|other| find(Subject::Order, other)),
            Err(cause) => tracing::debug!(%cause, "the kernel does not show the filters of the interfaces"),
        }
        unfit_for_moves().into_iter().for_each(|setting| find(Subject::HandOver, setting));
        let [snmp, snmp6] = ["snmp", "snmp6"]
            .map(|name| fs::read_to_string(format!("/proc/self/net/{name}")).unwrap_or_default());
        if self.wrong_checksums.are_many(&snmp, &snmp6, Instant::now()) {
            find(Subject::Checksum, checksums::SENTENCE.to_owned());
        }
        self.environment.stands(findings);
    }

    /// What containers send to DVIPAs that no socket of this host takes leaves it. Where there are no containers, nothing is touched.
    async fn repair_ways_of_containers(&mut self) -> Result<(), (Subject, String)> {
        let rule = |cause: rtnetlink::Error| (Subject::Rule, cause.to_string());
        let mark = self.config.bpf.container_mark;
        let mut leading = interfaces::to_containers(&self.netlink, &self.interfaces).await.map_err(rule)?;
        leading.retain(|(name, _)| mark != 0 && forwards(name));
        for one in &leading {
            let missing = self.programs.attach_to_containers(slice::from_ref(one));
            let missing = missing.map_err(|cause| (Subject::Program, cause.to_string()))?;
            if self.to_containers.contains(one) {
                missing.iter().for_each(|what| self.environment.put_right(Subject::Program, what));
            } else {
                tracing::info!(interface = one.0, "containers behind it reach DVIPAs that others serve");
            }
        }
        self.to_containers = leading;
        let wanted: BTreeSet<IpAddr> = if self.to_containers.is_empty() {
            BTreeSet::new()
        } else {
            self.dvipas.iter().copied().collect()
        };
        let changed = rules::set(&self.netlink, mark, &wanted).await.map_err(rule)?;
        for dvipa in changed.made.iter().filter(|dvipa| self.ruled.contains(*dvipa)) {
            let what = format!("the routing rule of containers' packets to {dvipa} was removed");
            self.environment.put_right(Subject::Rule, &what);
        }
        self.ruled = wanted;
        let most =
            [true, false].map(|v4| self.ruled.iter().filter(|d| d.is_ipv4() == v4).count()).into_iter().max();
        if most > Some(rules::MAX_RULES) {
            let most = rules::MAX_RULES;
            return Err((
                Subject::Rule,
                format!("there are rules for the first {most} of each family, not for the others"),
            ));
        }
        Ok(())
    }

    /// The packet programs are attached to these interfaces, as they are now. Programs are loaded anew only if they have to be told
    /// something else: that takes the kernel a moment, in which sessions live on and nothing else is heard.
    async fn repair_programs(&mut self, interfaces: Vec<Interface>) -> Result<(), ProgramError> {
        let settings = |interfaces: &[_]| settings(&self.config, interfaces, self.netns_cookie);
        let now = settings(&interfaces);
        if now.tell_the_same(&settings(&self.interfaces)) {
            let missing = self.programs.attach(&interfaces)?;
            missing.iter().for_each(|what| self.environment.put_right(Subject::Program, what));
        } else {
            let fabric_mtu = now.fabric_mtu;
            // It is only cancelled with everything else, and does not panic.
            let Ok(started) = tokio::task::spawn_blocking(move || Programs::start(&now)).await else {
                return Ok(());
            };
            self.programs = started?;
            self.endpoint.greet_again(|hello| hello.fabric_mtu = Some(fabric_mtu));
            self.tell(Event::Interfaces(interfaces.iter().map(|i| i.ifindex).collect()));
            self.environment.put_right(Subject::Interface, "interfaces have changed");
        }
        self.interfaces = interfaces;
        Ok(())
    }
}
