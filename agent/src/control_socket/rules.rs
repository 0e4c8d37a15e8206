//! Who may register for what: the rules of agent.toml. Pure.
//!
//! | who asks | a rule lets it | none does |
//! | --- | --- | --- |
//! | the agent's own user | – | may |
//! | another user | may, unless another user has the job | may not; the answer has the rule that is missing |
//!
//! A job of a DVIPA and port belongs to one user at a time: the one whose application is registered for it. Applications of that
//! user under the same name share its offers; those of others are refused, so that nobody sees another user's connections.

use std::collections::BTreeSet;
use std::fmt::Write;

use channel::Peer;
use ipnet::IpNet;
use model::control_socket::request::Role;
use model::control_socket::{JobName, Refusal};

use super::event::Registration;

/// Who may register for what: one `[[application]]` of agent.toml.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The users, by number: those that are named, and the members of the group that is named.
    pub users: BTreeSet<u32>,
    /// A process may too whose effective group is this one.
    pub group: Option<u32>,
    /// For addresses in these networks; all if not given.
    pub dvipas: Option<Vec<IpNet>>,
    /// For these ports; all if not given.
    pub ports: Option<BTreeSet<u16>>,
    /// Under these names; all if not given.
    pub jobs: Option<BTreeSet<JobName>>,
    /// As this.
    pub role: Role,
    /// Its listener may be kept from new connections.
    pub hold_accepts: bool,
}

impl Rule {
    fn permits(&self, registration: &Registration) -> bool {
        let Registration { peer, role, job, dvipa, ports, hold_accepts, .. } = registration;
        let who = self.users.contains(&peer.uid) || self.group == Some(peer.gid);
        let address = dvipa.address();
        let dvipas = self.dvipas.as_ref();
        who && self.role == *role
            && (self.hold_accepts || !hold_accepts)
            && dvipas.is_none_or(|networks| networks.iter().any(|network| network.contains(&address)))
            && self.ports.as_ref().is_none_or(|of| ports.iter().all(|port| of.contains(port)))
            && self.jobs.as_ref().is_none_or(|jobs| jobs.contains(job))
    }
}

/// All rules, and the user that needs none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The agent's own user.
    pub own: u32,
    /// The others' rules.
    pub rules: Vec<Rule>,
}

impl Rules {
    /// Whether an application may be registered beside these.
    ///
    /// # Errors
    /// Why not, and what there is to say beyond that.
    pub fn permit<'a>(
        &self,
        registration: &Registration,
        others: impl Iterator<Item = &'a Registration>,
    ) -> Result<(), (Refusal, Option<String>)> {
        let own = registration.peer.uid == self.own;
        if !own && !self.rules.iter().any(|rule| rule.permits(registration)) {
            return Err((Refusal::NotPermitted, Some(missing(registration))));
        }
        let is_same = |other: &&Registration| {
            let ports = other.ports.iter().any(|port| registration.ports.contains(port));
            ports && other.dvipa == registration.dvipa && other.job == registration.job
        };
        match { others }.find(|other| is_same(other) && other.peer.uid != registration.peer.uid) {
            Some(_) => Err((Refusal::JobTaken, None)),
            None => Ok(()),
        }
    }
}

/// The rule that would let it, as it is to be written.
fn missing(registration: &Registration) -> String {
    let Registration { peer: Peer { uid, .. }, role, job, dvipa, ports, hold_accepts, .. } = registration;
    let role = match role {
        Role::Routing => "routing",
        Role::Target => "target",
    };
    let mut rule = format!(
        "add to agent.toml: [[application]] user = {uid}, role = \"{role}\", dvipa = [\"{dvipa}\"], ports = {ports:?}, job = [\"{job}\"]"
    );
    if *hold_accepts {
        let _ = write!(rule, ", hold_accepts = true");
    }
    rule
}

/// Of several applications that may be offered a connection, whose turn it is: in turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turns(usize);

impl Turns {
    /// One of them.
    pub fn next<T>(&mut self, mut those: Vec<T>) -> Option<T> {
        let at = self.0.checked_rem(those.len())?;
        self.0 = self.0.wrapping_add(1);
        Some(those.swap_remove(at))
    }
}

#[cfg(test)]
mod tests {
    use model::Dvipa;

    use super::*;

    const OWN: u32 = 0;
    const WEB: u32 = 33;
    const OTHER: u32 = 1000;

    fn registration(uid: u32, role: Role, job: &str, ports: &[u16]) -> Registration {
        Registration {
            peer: Peer { pid: 1, uid, gid: uid },
            role,
            job: JobName::new(job).unwrap(),
            dvipa: Dvipa::new("198.18.9.1".parse().unwrap()),
            ports: ports.to_vec(),
            hold_accepts: false,
            listener: None,
            takes_offers: true,
        }
    }

    fn target(uid: u32, job: &str) -> Registration {
        registration(uid, Role::Target, job, &[80])
    }

    fn rules(of_web: Rule) -> Rules {
        Rules { own: OWN, rules: vec![of_web] }
    }

    fn of_web() -> Rule {
        let (users, role) = ([WEB].into(), Role::Target);
        Rule { users, group: None, dvipas: None, ports: None, jobs: None, role, hold_accepts: false }
    }

    fn refusal(rules: &Rules, registration: &Registration) -> Option<Refusal> {
        rules.permit(registration, [].iter()).err().map(|(why, _)| why)
    }

    #[test]
    fn without_a_rule_nobody_but_the_agents_user_registers_and_the_answer_has_the_rule() {
        let rules = Rules { own: OWN, rules: Vec::new() };
        let mut holding = registration(OTHER, Role::Target, "images", &[80, 443]);
        holding.hold_accepts = true;
        let (why, detail) = rules.permit(&holding, [].iter()).unwrap_err();
        assert_eq!(why, Refusal::NotPermitted);
        let rule = "[[application]] user = 1000, role = \"target\", dvipa = [\"198.18.9.1\"], ports = [80, 443], \
                    job = [\"images\"], hold_accepts = true";
        assert_eq!(detail, Some(format!("add to agent.toml: {rule}")));
        holding.peer.uid = OWN;
        assert_eq!(refusal(&rules, &holding), None);
        assert_eq!(refusal(&rules, &registration(OWN, Role::Routing, "router", &[80])), None);
    }

    #[test]
    fn each_part_of_a_rule_narrows_it() {
        let permitted = |rule: Rule| refusal(&rules(rule), &target(WEB, "images")).is_none();
        let networks = |network: &str| Some(vec![network.parse().unwrap()]);
        let jobs = |job: &str| Some([JobName::new(job).unwrap()].into());
        assert!(permitted(of_web()));
        assert!(permitted(Rule { dvipas: networks("198.18.9.0/24"), ..of_web() }));
        assert!(!permitted(Rule { dvipas: networks("198.18.8.0/24"), ..of_web() }));
        assert!(permitted(Rule { ports: Some([80, 81].into()), ..of_web() }));
        assert!(!permitted(Rule { ports: Some([81].into()), ..of_web() }));
        assert!(permitted(Rule { jobs: jobs("images"), ..of_web() }));
        assert!(!permitted(Rule { jobs: jobs("pages"), ..of_web() }));
        assert!(!permitted(Rule { role: Role::Routing, ..of_web() }));
        assert!(!permitted(Rule { users: [OTHER].into(), ..of_web() }));
        assert!(permitted(Rule { users: [].into(), group: Some(WEB), ..of_web() }));
        assert!(!permitted(Rule { users: [].into(), group: Some(OTHER), ..of_web() }));
        let all_ports = registration(WEB, Role::Target, "images", &[80, 81]);
        assert!(refusal(&rules(Rule { ports: Some([80].into()), ..of_web() }), &all_ports).is_some());
    }

    #[test]
    fn a_target_holds_accepts_only_if_its_rule_says_so() {
        let mut holding = target(WEB, "images");
        holding.hold_accepts = true;
        assert_eq!(refusal(&rules(of_web()), &holding), Some(Refusal::NotPermitted));
        assert_eq!(refusal(&rules(Rule { hold_accepts: true, ..of_web() }), &holding), None);
    }

    #[test]
    fn a_job_is_one_users_at_a_time() {
        let rules = rules(Rule { users: [WEB, OTHER].into(), ..of_web() });
        let here = [target(WEB, "images")];
        assert_eq!(
            rules.permit(&target(WEB, "images"), here.iter()),
            Ok(()),
            "another process of the same user"
        );
        assert_eq!(rules.permit(&target(OTHER, "images"), here.iter()), Err((Refusal::JobTaken, None)));
        assert_eq!(rules.permit(&target(OWN, "images"), here.iter()), Err((Refusal::JobTaken, None)));
        assert_eq!(rules.permit(&target(OTHER, "pages"), here.iter()), Ok(()));
        let elsewhere = registration(OTHER, Role::Target, "images", &[81]);
        assert_eq!(rules.permit(&elsewhere, here.iter()), Ok(()));
    }

    #[test]
    fn those_that_share_are_asked_in_turn() {
        let mut turns = Turns::default();
        let asked: Vec<_> = (0..5).filter_map(|_| turns.next(vec!["a", "b"])).collect();
        assert_eq!(asked, ["a", "b", "a", "b", "a"]);
        assert_eq!(turns.next(Vec::<u8>::new()), None);
    }
}
