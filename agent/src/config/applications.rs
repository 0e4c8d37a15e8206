//! `[applications]`: who may use the control socket, and that of the metrics; `[[application]]`: who of them may register for what.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use model::control_socket::JobName;
use model::control_socket::request::Role;
use nix::unistd::{Group, User, geteuid};
use toml::Spanned;
use transport::private::Access;

use super::file::Who;
use super::{Applications, Check, file};
use crate::control_socket::{Rule, Rules};

/// The file's own user and group, and nobody else.
const MODE: u32 = 0o660;

impl Check<'_> {
    pub(super) fn applications(&mut self, file: file::Applications, rules: Rules) -> Applications {
        let file::Applications { socket, mode, group, users } = file;
        let socket = socket.unwrap_or_else(|| PathBuf::from("/run/baton/applications.sock"));
        let group = group.and_then(|group| self.group(&group));
        let users = users.map(|users| users.iter().filter_map(|user| self.user(user)).collect());
        Applications { socket: self.base.join(socket), mode: self.mode(mode), group, users, rules }
    }

    pub(super) fn metrics_socket(&mut self, file: file::Admin) -> Option<(PathBuf, Access)> {
        let file::Admin { metrics_socket, metrics_mode, metrics_group, .. } = file;
        let mode = self.mode(metrics_mode);
        let group = metrics_group.and_then(|group| self.group(&group));
        metrics_socket.map(|path| (self.base.join(path), Access { mode, group }))
    }

    pub(super) fn rules(&mut self, file: Vec<file::Application>) -> Rules {
        let rules = file.into_iter().filter_map(|rule| self.rule(rule)).collect();
        Rules { own: geteuid().as_raw(), rules }
    }

    fn rule(&mut self, file: file::Application) -> Option<Rule> {
        let file::Application { user, group, role, dvipa, ports, job, hold_accepts } = file;
        let at = role.span();
        if user.is_none() && group.is_none() {
            let fix = "write for example user = \"www-data\", or group = \"web\"";
            self.mistake::<()>(at.clone(), "the [[application]] names neither a user nor a group", fix);
        }
        let role = Role::from(role.into_inner());
        if role == Role::Routing && hold_accepts.as_ref().is_some_and(|hold| *hold.get_ref()) {
            self.mistake::<()>(
                at,
                "only targets hold accepts",
                "write role = \"target\", or no hold_accepts",
            );
        }
        let group = group.and_then(|group| self.group(&group));
        let members = group.map(members).unwrap_or_default();
        let user = user.and_then(|user| self.user(&user));
        let dvipas = dvipa.map(|of| of.iter().filter_map(|of| self.network(of)).collect());
        let ports = ports.map(|ports| ports.iter().filter_map(|port| self.port(port)).collect());
        let jobs = job.map(|jobs| jobs.iter().filter_map(|job| self.job(job)).collect());
        let hold_accepts = hold_accepts.is_some_and(Spanned::into_inner);
        Some(Rule {
            users: user.into_iter().chain(members).collect(),
            group,
            dvipas,
            ports,
            jobs,
            role,
            hold_accepts,
        })
    }

    pub(super) fn network(&mut self, network: &Spanned<String>) -> Option<IpNet> {
        let text = network.get_ref();
        let address = text.parse::<IpAddr>().map(IpNet::from);
        text.parse().or(address).ok().or_else(|| {
            let what = format!("`{text}` is no address and no network");
            self.mistake(network.span(), what, "write for example \"198.18.9.1\" or \"198.18.9.0/24\"")
        })
    }

    pub(super) fn port(&mut self, port: &Spanned<u16>) -> Option<u16> {
        match *port.get_ref() {
            0 => self.mistake(port.span(), "port 0 is none", "write the port that clients connect to"),
            port => Some(port),
        }
    }

    fn job(&mut self, job: &Spanned<String>) -> Option<JobName> {
        let bad = |e: &dyn std::fmt::Display| e.to_string();
        match JobName::new(job.get_ref().clone()) {
            Ok(job) => Some(job),
            Err(e) => {
                self.mistake(job.span(), bad(&e), "write the name that the application registers under")
            }
        }
    }

    fn user(&mut self, user: &Spanned<Who>) -> Option<u32> {
        let found = |name: &str| User::from_name(name).ok().flatten().map(|user| user.uid.as_raw());
        self.who(user, "user", found)
    }

    fn group(&mut self, group: &Spanned<Who>) -> Option<u32> {
        let found = |name: &str| Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw());
        self.who(group, "group", found)
    }

    fn mode(&mut self, mode: Option<Spanned<u32>>) -> u32 {
        let Some(mode) = mode else { return MODE };
        if *mode.get_ref() > 0o777 {
            let what = format!("0o{:o} is not a file's mode", mode.get_ref());
            self.mistake::<()>(mode.span(), what, "write for example 0o660, with 0o before the digits");
        }
        *mode.get_ref()
    }

    fn who(&mut self, who: &Spanned<Who>, kind: &str, found: impl Fn(&str) -> Option<u32>) -> Option<u32> {
        match who.get_ref() {
            Who::Number(number) => Some(*number),
            Who::Name(name) => found(name).or_else(|| {
                let fix = format!("write a {kind} that `getent` knows, or its number");
                self.mistake(who.span(), format!("there is no {kind} `{name}` on this host"), fix)
            }),
        }
    }
}

/// The users that the group database names as members of the group. Those whose first group it is are known by their
/// processes' effective group.
fn members(group: u32) -> BTreeSet<u32> {
    let group = Group::from_gid(group.into()).ok().flatten();
    let names = group.into_iter().flat_map(|group| group.mem);
    names.filter_map(|name| Some(User::from_name(&name).ok()??.uid.as_raw())).collect()
}

impl Applications {
    /// The control socket itself is another one, or has another mode: only its rules can change while it is open.
    pub(super) fn socket_differs(&self, next: &Self) -> bool {
        Self { rules: next.rules.clone(), ..self.clone() } != *next
    }
}
