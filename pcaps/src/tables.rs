//! What of a case the forwarder is given: the DPT, MAC addresses, connections.

use std::collections::BTreeSet;
use std::net::IpAddr;

use model::dpt::{
    Ask, Distribution, Dpt, DvipaEntry, Policy, Reach, Routing, Shared, StackEntry, StackState,
    WeightedTarget,
};
use model::route::{Match, Pattern, Route, RouteSet};
use model::{ClusterAddress, Connection, Dvipa, DvipaIndex, StackIndex, StackName};

use crate::case::{Case, CaseError, Target};

/// A connection that is in the CRT before the first step.
#[derive(Clone, Copy, Debug)]
pub struct Known<'c> {
    /// Which.
    pub connection: Connection,
    /// The index of its DVIPA.
    pub dvipa: DvipaIndex,
    /// Whose it is.
    pub owner: StackIndex,
    /// The CRT's word for its state.
    pub state: &'c str,
}

impl Case {
    /// The DPT of the case's tables.
    ///
    /// # Errors
    /// [`CaseError::Value`] if a name or address in it is not declared.
    pub fn dpt(&self) -> Result<Dpt, CaseError> {
        let dvipas = self.dvipa.iter().zip(0..).map(|(d, i)| {
            let key = format!("dvipa[{i}].candidates");
            let candidates = d.candidates.iter().map(|name| self.stack_index(&key, name));
            let mut candidates = candidates.collect::<Result<Vec<_>, _>>()?;
            candidates.sort_unstable();
            let ask = Ask { candidates, certain: d.certain };
            let (index, dvipa) = (DvipaIndex(i), Dvipa::new(d.address));
            Ok(Shared::from(DvipaEntry { ask, refuse: d.refuse, ..DvipaEntry::new(index, dvipa) }))
        });
        let stacks = self.stack.iter().zip(0..).map(|(stack, i)| {
            let reach = if stack.local {
                Reach::Local
            } else {
                let cluster_address =
                    ClusterAddress::from_addresses(&stack.cluster_address).ok_or_else(|| {
                        self.wrong(
                            format!("stack[{i}].cluster_address"),
                            "give at least one address, at most one a family",
                        )
                    })?;
                Reach::Remote { cluster_address, encapsulation: stack.encapsulation }
            };
            Ok(StackEntry { index: StackIndex(i), name: stack.name.clone(), reach, state: StackState::Up })
        });
        let mut dpt = Dpt {
            generation: 1,
            dvipas: dvipas.collect::<Result<_, CaseError>>()?,
            stacks: stacks.collect::<Result<_, CaseError>>()?,
            distributions: Vec::new(),
        };
        for (i, d) in self.distribution.iter().enumerate() {
            let key = format!("distribution[{i}]");
            let policies = d
                .policy
                .iter()
                .map(|p| Ok(Policy { client: p.client, targets: self.targets(&key, &p.targets)? }));
            let policies = policies.collect::<Result<Vec<_>, CaseError>>()?;
            let targets = self.targets(&key, &d.targets)?;
            let all = targets.iter().chain(policies.iter().flat_map(|policy| &policy.targets));
            let serving: BTreeSet<_> = all.map(|target| target.stack).collect();
            let row = Distribution {
                dvipa: self.dvipa_index(&key, d.dvipa)?,
                port: d.port,
                protocol: d.protocol,
                method: d.method,
                targets,
                serving: serving.into_iter().collect(),
                policies,
                refuse: d.refuse,
                max_connections: None,
                affinity: None,
                limits: model::Limits::NONE,
                routing: self.routing(&key, &d.route)?,
                quic: Shared::default(),
            };
            dpt.distributions.push(row.into());
        }
        dpt.distributions.sort_by_key(|d| (d.dvipa, d.port, d.protocol));
        Ok(dpt)
    }

    fn routing(&self, key: &str, routes: &[crate::case::Route]) -> Result<Option<Routing>, CaseError> {
        let targets = routes.iter().map(|route| self.targets(&format!("{key}.route"), &route.targets));
        let targets = targets.collect::<Result<Vec<_>, _>>()?;
        let route = |route: &crate::case::Route| Route {
            name: route.name.clone(),
            matches: vec![Match { subject: Some(Pattern::Prefix(route.path.clone())), ..Match::default() }],
            ..Route::default()
        };
        let set = RouteSet { routes: routes.iter().map(route).collect(), ..RouteSet::default() };
        Ok((!routes.is_empty()).then(|| Routing { set: set.into(), targets }))
    }

    /// The connections that are known before the first step.
    ///
    /// # Errors
    /// [`CaseError::Value`] if a name or address in it is not declared.
    pub fn known(&self) -> Result<Vec<Known<'_>>, CaseError> {
        let known = self.connection.iter().enumerate().map(|(i, k)| {
            let key = format!("connection[{i}]");
            let connection = k.connection.0;
            let dvipa = self.dvipa_index(&key, connection.dvipa.ip())?;
            Ok(Known { connection, dvipa, owner: self.stack_index(&key, &k.owner)?, state: &k.state })
        });
        known.collect()
    }

    /// A stack's index.
    ///
    /// # Errors
    /// [`CaseError::Value`] for `key` if there is no such stack.
    pub fn stack_index(&self, key: &str, name: &StackName) -> Result<StackIndex, CaseError> {
        let found = self.stack.iter().zip(0..).find(|(s, _)| s.name == *name);
        found
            .map(|(_, i)| StackIndex(i))
            .ok_or_else(|| self.wrong(key, format!("there is no stack `{name}`")))
    }

    /// A DVIPA's index.
    ///
    /// # Errors
    /// [`CaseError::Value`] for `key` if there is no such DVIPA.
    pub fn dvipa_index(&self, key: &str, address: IpAddr) -> Result<DvipaIndex, CaseError> {
        let found = self.dvipa.iter().zip(0..).find(|(d, _)| d.address == address);
        found
            .map(|(_, i)| DvipaIndex(i))
            .ok_or_else(|| self.wrong(key, format!("there is no DVIPA {address}")))
    }

    fn targets(&self, key: &str, targets: &[Target]) -> Result<Vec<WeightedTarget>, CaseError> {
        let targets = targets.iter().map(|t| {
            Ok(WeightedTarget {
                stack: self.stack_index(&format!("{key}.targets"), &t.stack)?,
                weight: t.weight,
            })
        });
        let mut targets = targets.collect::<Result<Vec<_>, CaseError>>()?;
        targets.sort_by_key(|t| t.stack);
        Ok(targets)
    }
}
