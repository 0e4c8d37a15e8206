//! What would become of a client's packet, and why, in sentences: the forwarder's own answer, with what the machine knows of the
//! DVIPA, the service, the candidate targets and the connection.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use model::dpt::{Duty, Method};
use model::{Connection, CrtState, Dvipa, Protocol, StackIndex};
use serde::{Deserialize, Serialize};

use super::admin::Answer;
use super::answers::{json, refused};
use super::api::EventName;
use super::driver::Driver;
use super::forwarding::Forwarding;
use super::looking::{Fate, FateKind, Foretold, Met, MetKind, PacketQuestion, SegmentKind, WayView};
use crate::explain::{self, Explanation, Question};
use crate::machine::{Role, ServiceView, SessionState, TargetState, TargetView, WeightSource};

/// Body of `POST /v1/why`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhyQuestion {
    /// The client's address and port.
    pub client: SocketAddr,
    /// The DVIPA and its port.
    pub dvipa: SocketAddr,
    /// TCP if nothing is said.
    #[serde(default = "super::api::tcp")]
    pub protocol: Protocol,
    /// Which segment of TCP; if nothing is said, one of the connection if there is one, otherwise one that opens it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<SegmentKind>,
    /// Bytes from the IP header on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u16>,
    /// TTL or hop limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u8>,
    /// What the client asks for, as in `POST /v1/route/explain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Header lines of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// Application protocols that it offers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<String>,
}

/// Answer of `POST /v1/why`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyAnswer {
    /// What would become of the packet.
    pub outcome: Outcome,
    /// The same in a sentence, with the reason.
    pub verdict: String,
    /// What leads to it, in the order in which it is decided.
    pub steps: Vec<Step>,
    /// The stack that the packet would go to.
    pub stack: Option<String>,
    /// What the CRT knows of the connection.
    pub entry: Option<CrtState>,
    /// The counters that the packet would add to, in the end the one that says what became of it.
    pub met: Vec<Met>,
    /// What became of connections with these ends lately, the last one first.
    pub fates: Vec<FateRow>,
}

/// What would become of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It goes to a stack.
    Forwarded,
    /// This node answers it.
    Answered,
    /// This node tells the client that nothing serves it.
    Refused,
    /// It is dropped.
    Dropped,
    /// The stacks that may have its connection are asked.
    Asked,
    /// It waits.
    Waits,
    /// It is none of this node's: its own kernel has it.
    NotOurs,
}

/// Something that leads to the outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What it is about: `packet`, `dvipa`, `connection`, `service`, `limit`, `policy`, `target`, `selection`, `route`, `way`, `counter`, `lately`.
    pub about: String,
    /// The sentence.
    pub text: String,
}

/// What became of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FateRow {
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
    /// What happened.
    pub what: FateKind,
    /// The stack that had it.
    pub stack: String,
    /// The stack that has it since then.
    pub to: Option<String>,
}

impl<F: Forwarding> Driver<F> {
    /// Answers `POST /v1/why`.
    pub(super) fn why(&self, question: &WhyQuestion) -> Answer {
        let ends = Connection::new(question.protocol, question.client, question.dvipa);
        let Some(connection) = ends else {
            return refused(StatusCode::UNPROCESSABLE_ENTITY, "`client` and `dvipa` are of two families");
        };
        let WhyQuestion { segment, bytes, ttl, .. } = *question;
        let packet = PacketQuestion { connection, segment, bytes, ttl };
        match self.forwarding.foretell(&packet) {
            Ok(foretold) => json(&self.chain(question, &connection, &foretold)),
            Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, error),
        }
    }

    fn chain(&self, question: &WhyQuestion, connection: &Connection, foretold: &Foretold) -> WhyAnswer {
        let service = self.machine.service_view(connection.service(), Instant::now());
        let (fates, now_ms) = (self.forwarding.fates(connection), unix_ms());
        let mut steps = Vec::new();
        let mut step = |about: &str, text: String| steps.push(Step { about: about.to_owned(), text });
        step("packet", foretold.packet.clone());
        step("dvipa", self.about_dvipa(connection.service().dvipa, foretold));
        if foretold.is_ours {
            step("connection", self.about_connection(connection, foretold));
        }
        let selects = foretold.is_ours && !is_with_its_stack(foretold);
        if let Some(service) = service.as_ref().filter(|_| foretold.is_ours) {
            step("service", about_service(service, foretold));
            if let Some(text) = about_limits(service).filter(|_| selects) {
                step("limit", text);
            }
            let listed = targets_of(service, foretold);
            if selects && let Some(policy) = foretold.policy {
                let text = format!("this client is in {policy}: a policy has targets of its own for it");
                step("policy", text);
            }
            if selects {
                listed.iter().for_each(|target| step("target", about_target(target, service)));
                if listed.is_empty() {
                    step("target", "there is no candidate target".to_owned());
                }
                let to = foretold.to.map(|to| self.name(to));
                if let Some(text) = about_selection(service.method, to.as_deref(), foretold) {
                    step("selection", text);
                }
            }
        } else if foretold.is_ours {
            step("service", self.about_no_service(connection));
        }
        if let Some(text) =
            self.about_route(question, connection, service.as_ref()).filter(|_| foretold.is_ours)
        {
            step("route", text);
        }
        if let (Some(stack), Some(way)) = (foretold.to, &foretold.way) {
            step("way", about_way(&self.name(stack), way));
        }
        let met = foretold.at_once.met.iter().chain(foretold.later.iter().flat_map(|later| &later.met));
        let met: Vec<Met> = met.cloned().collect();
        for one in &met {
            step("counter", format!("{}: {}", one.name, one.sentence));
        }
        for fate in &fates {
            step("lately", self.about_fate(fate, now_ms));
        }
        let row = |fate: &Fate| FateRow {
            unix_ms: fate.unix_ms,
            what: fate.what,
            stack: self.name(fate.stack),
            to: fate.to.map(|to| self.name(to)),
        };
        let outcome = outcome(foretold);
        WhyAnswer {
            outcome,
            verdict: self.verdict(outcome, connection, service.as_ref(), foretold),
            steps,
            stack: foretold.to.filter(|_| outcome == Outcome::Forwarded).map(|to| self.name(to)),
            entry: foretold.entry.map(|(_, state)| state),
            met,
            fates: fates.iter().map(row).collect(),
        }
    }

    fn about_dvipa(&self, dvipa: Dvipa, foretold: &Foretold) -> String {
        let view = self.machine.vipa_view().dvipas.into_iter().find(|view| view.dvipa == dvipa);
        let duty =
            self.machine.dpt().dvipas.iter().find(|entry| entry.dvipa == dvipa).map(|entry| entry.duty);
        let since = self.events.last(EventName::DvipaGained, dvipa).map(|row| ago(unix_ms(), row.unix_ms));
        let for_how_long = since.map(|since| format!(", for {since}")).unwrap_or_default();
        let (owner, epoch) = view.as_ref().map(|view| (view.owner.clone(), view.epoch)).unwrap_or_default();
        let elsewhere = match &owner {
            Some(owner) if view.as_ref().is_some_and(|view| view.role == Role::Backup) => {
                format!("{owner} owns it: ask `baton why` there")
            }
            _ => "as far as is known here, nobody owns it".to_owned(),
        };
        match duty {
            Some(Duty::Owner) => match view {
                Some(_) => format!("{dvipa} is owned by this node{for_how_long}, epoch {}", epoch.0),
                None => {
                    format!("{dvipa} is an active address of a range, and this node owns it{for_how_long}")
                }
            },
            Some(Duty::Former) => {
                format!("{dvipa} was this node's; {elsewhere}. What still arrives here is forwarded")
            }
            Some(Duty::Partner) => {
                format!("{dvipa} is another node's, and this one forwards what routers send it: {elsewhere}")
            }
            Some(Duty::Backup) => {
                format!(
                    "{dvipa} is backed up by this node: {elsewhere}. A packet to it that arrives here is not forwarded"
                )
            }
            None if foretold.is_ours => format!("{dvipa} is forwarded by this node"),
            None if view.is_some() => format!("{dvipa} is defined here and not owned: {elsewhere}"),
            None => format!(
                "{dvipa} is no DVIPA of this node: no vipadefine, vipabackup or active address of a viparange has it; \
                 its packets are the node's own kernel's"
            ),
        }
    }

    fn about_connection(&self, connection: &Connection, foretold: &Foretold) -> String {
        let Some((stack, state)) = foretold.entry else {
            let what = if connection.protocol == Protocol::Udp { "flow" } else { "connection" };
            return format!("the CRT has no entry: this node knows of no such {what}");
        };
        let name = self.name(stack);
        let text = match state {
            CrtState::HalfOpen => format!(
                "{name} was given it, and has not confirmed it yet: its agent has reported no connection (half-open)"
            ),
            CrtState::Established => format!("{name} has it (established)"),
            CrtState::Closing => {
                format!("it has ended at {name} a moment ago; last packets still go there (closing)")
            }
            CrtState::Frozen => format!("it is moving from {name}: its packets wait (frozen)"),
            CrtState::HandingOver => {
                format!(
                    "it is being handed over to {name}: each packet carries the handoff option (handing-over)"
                )
            }
        };
        let moves = self.machine.under_way(connection).map(|moves| {
            let (from, to, step) = (moves.source, moves.target, moves.step.word());
            format!("; the transfer {} from {from} to {to} is under way: {step}", moves.transfer)
        });
        format!("{text}{}{}", self.about_session(stack), moves.unwrap_or_default())
    }

    /// What is wrong with the session of a stack.
    fn about_session(&self, stack: StackIndex) -> &'static str {
        let stacks = self.machine.status_view().stacks;
        match stacks.iter().find(|view| view.index == stack).map(|view| view.session) {
            Some(SessionState::Up) => "",
            Some(SessionState::Quiet) => "; nothing was heard of it for a moment",
            Some(SessionState::Lost) => "; its session is over, its host may serve on",
            Some(SessionState::Dead) => "; its session is over, and its host does not answer",
            None => "; it is no stack that is known now",
        }
    }

    fn about_no_service(&self, connection: &Connection) -> String {
        let service = connection.service();
        let others = self.machine.config().vipadynamic.distributes_of(service.dvipa);
        let has_other =
            others.iter().any(|d| d.protocol != service.protocol && d.ports.contains(&service.port));
        let hint = if has_other {
            " (the other protocol is: a vipadistribute is for TCP or for UDP)"
        } else if others.iter().any(|d| d.ports.is_empty() && d.protocol == service.protocol) {
            " (a vipadistribute without ports takes only listeners that are bound to the DVIPA itself, and there is none)"
        } else {
            ""
        };
        format!(
            "no vipadistribute has {} port {} of {}, and no host has the port for itself{hint}: it is the owner's own kernel's",
            service.protocol, service.port, service.dvipa
        )
    }

    fn about_route(
        &self,
        question: &WhyQuestion,
        connection: &Connection,
        service: Option<&ServiceView>,
    ) -> Option<String> {
        let asked = Question {
            dvipa: Some(connection.dvipa.ip()),
            port: Some(connection.dvipa.port()),
            bytes: Vec::new(),
            request: question.request.clone(),
            headers: question.headers.clone(),
            alpn: question.alpn.clone(),
        };
        match explain::explain(&self.machine.config().vipadynamic, &asked) {
            Ok(_) if question.request.is_none() => Some(
                "the service has routes: this node answers the SYN itself and selects by the first request; ask with `--request`"
                    .to_owned(),
            ),
            Ok(told) => Some(about_explanation(&told, service)),
            Err(error) if question.request.is_some() => Some(error),
            Err(_) => None,
        }
    }

    fn about_fate(&self, fate: &Fate, now_ms: u64) -> String {
        let (ago, stack) = (ago(now_ms, fate.unix_ms), self.name(fate.stack));
        let to = fate.to.map(|to| self.name(to)).unwrap_or_default();
        let text = match fate.what {
            FateKind::Ended => {
                format!("ended at {stack}: its kernel closed it, and its agent said so (TERMCONN)")
            }
            FateKind::NotNamed => {
                format!(
                    "ended: {stack} gave a complete account of its connections, and this was none of them"
                )
            }
            FateKind::StackDead => {
                format!("ended: {stack}, which had it, was dead or is no stack of the cluster any more")
            }
            FateKind::Lost => format!("ended: {stack}, which was to take it, did not, and nobody has it"),
            FateKind::Moved => format!("moved from {stack} to {to}"),
            FateKind::Taken => format!("{to} said that it has it; before, {stack} had it"),
        };
        format!("{ago} ago: {text}")
    }

    fn verdict(
        &self,
        outcome: Outcome,
        connection: &Connection,
        service: Option<&ServiceView>,
        foretold: &Foretold,
    ) -> String {
        let last = foretold.last();
        let has = |name: &str| last.met.iter().any(|met| met.name == name);
        let end = last.met.iter().find(|met| met.kind != MetKind::Note);
        let to = foretold.to.map(|to| self.name(to)).unwrap_or_default();
        let waited = if foretold.later.is_some() { "After a wait that nothing ends, " } else { "" };
        let (dvipa, port) = (connection.dvipa, connection.dvipa.port());
        let told = match end.map(|met| met.name.as_str()) {
            Some("refused_reset") => "the client is told with a TCP reset",
            Some("refused_unreachable") => "the client is told that the port is unreachable",
            Some("refused_silent") => "the client is told nothing, as `refuse` says",
            _ => "the client is told nothing",
        };
        match outcome {
            Outcome::Forwarded if has("forwarded_new") => match foretold.way {
                Some(WayView::Local) => {
                    format!("{waited}it goes to {to}, this node's own kernel, as a new connection.")
                }
                _ => format!("{waited}it goes to {to}, which is selected for this new connection."),
            },
            Outcome::Forwarded => format!("{waited}it goes to {to}, which has its connection."),
            Outcome::Refused | Outcome::Dropped if has("no_target") => {
                let states =
                    service.map(|service| in_the_way(&targets_of(service, foretold))).unwrap_or_default();
                format!("{waited}no target of {dvipa} takes new connections{states}: {told}.")
            }
            Outcome::Refused | Outcome::Dropped if has("targets_full") => {
                let most = service.and_then(|service| service.max_connections).map_or(0, NonZeroU32::get);
                format!(
                    "{waited}each target of {dvipa} has its {most} connections (`max_connections`): {told}."
                )
            }
            Outcome::Refused | Outcome::Dropped if has("not_distributed") => format!(
                "{waited}port {port} is not distributed, and this node has no stack of its own that would serve it: {told}."
            ),
            Outcome::Refused | Outcome::Dropped if has("unclaimed") => {
                format!("{waited}no stack has its connection: {told}.")
            }
            Outcome::Answered if has("answered_too_big") => {
                let longest = match foretold.way {
                    Some(WayView::Carried { longest, .. }) => {
                        format!(": at most {longest} bytes fit on the way to {to}")
                    }
                    _ => String::new(),
                };
                format!("It is too long once it is encapsulated{longest}; the client is told the path MTU.")
            }
            Outcome::NotOurs => {
                format!("It is none of this node's packets: {} is not forwarded here.", dvipa.ip())
            }
            Outcome::Asked => {
                let (asked, certain) = &foretold.asked;
                let mut names: Vec<String> = asked.iter().map(|stack| self.name(*stack)).collect();
                names.sort();
                let silence = if *certain {
                    "if none of them has it, the client is refused"
                } else {
                    "but a stack that may have it can't answer now: if none of these has it, the packet is dropped"
                };
                format!("Nobody here knows its connection: {} are asked for it; {silence}.", names.join(", "))
            }
            Outcome::Waits => "It waits for its connection, which is moving.".to_owned(),
            _ => match end {
                Some(met) => format!("{waited}{}: {}", met.name, met.sentence),
                None => "It waits.".to_owned(),
            },
        }
    }
}

/// Nothing is selected for the packet, because a stack has its connection.
fn is_with_its_stack(foretold: &Foretold) -> bool {
    let is_new = |met: &Met| {
        let names = [
            "forwarded_new",
            "no_target",
            "targets_full",
            "answered_syn",
            "client_limited",
            "service_limited",
        ];
        names.contains(&met.name.as_str())
    };
    foretold.entry.is_some() && !foretold.last().met.iter().any(is_new)
}

fn outcome(foretold: &Foretold) -> Outcome {
    let last = foretold.last();
    let Some(end) = last.met.iter().find(|met| met.kind != MetKind::Note) else {
        let is_asked = last.met.iter().any(|met| met.name == "ask_held");
        return if is_asked { Outcome::Asked } else { Outcome::Waits };
    };
    match end.name.as_str() {
        name if name.starts_with("forwarded") => Outcome::Forwarded,
        "refused_reset" | "refused_unreachable" | "refused_request" => Outcome::Refused,
        "passed_to_local" => Outcome::NotOurs,
        _ if end.kind == MetKind::Dropped => Outcome::Dropped,
        _ => Outcome::Answered,
    }
}

/// The candidates that the client's target is selected among.
fn targets_of<'s>(service: &'s ServiceView, foretold: &Foretold) -> Vec<&'s TargetView> {
    let policy = foretold.policy.and_then(|client| service.policies.iter().find(|p| p.client == client));
    policy.map_or(&service.targets, |policy| &policy.targets).iter().collect()
}

/// Why each of the candidates is not selected: ` (t1 draining, t2 not-listening)`.
fn in_the_way(targets: &[&TargetView]) -> String {
    let words: Vec<String> = targets.iter().map(|t| format!("{} {}", t.target, t.state.word())).collect();
    if words.is_empty() { " (it has no candidate)".to_owned() } else { format!(" ({})", words.join(", ")) }
}

fn about_service(service: &ServiceView, foretold: &Foretold) -> String {
    let ServiceView { dvipa, port, protocol, method, .. } = service;
    let kind = match (service.direct, service.content_routed) {
        (true, _) => "one host has the port for itself".to_owned(),
        (_, true) => "content-routed: new connections go to the routing application".to_owned(),
        _ if service.targets.iter().any(|target| !target.server_ids.is_empty()) => {
            format!("distributed by {method}, unless a QUIC connection ID names a stack")
        }
        _ => format!("distributed by {method}"),
    };
    let missing = if foretold.is_distributed { "" } else { "; it has not reached the workers yet" };
    format!("{protocol} port {port} of {dvipa}: {kind}{missing}")
}

/// How many connections may begin, if there is a limit.
fn about_limits(service: &ServiceView) -> Option<String> {
    let of = [("of all clients", service.limits.service), ("of one client", service.limits.client)];
    let rates = of.iter().filter_map(|(whose, rate)| Some(format!("{whose} {}", (*rate)?)));
    let rates: Vec<String> = rates.collect();
    (!rates.is_empty()).then(|| format!("new connections may begin: {}", rates.join(", ")))
}

fn about_target(target: &TargetView, service: &ServiceView) -> String {
    let TargetView { target: name, state, weight, connections, .. } = target;
    let saw = target.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
    match state {
        TargetState::Listening => {
            let slowly = target.share_percent.map(|percent| format!(", {percent} % of it for now"));
            let most = service.max_connections.map(|most| format!(" of at most {most}")).unwrap_or_default();
            format!(
                "{name} may be selected: weight {weight}{}{}, {connections}{most} connections",
                from(target.weight_source),
                slowly.unwrap_or_default()
            )
        }
        TargetState::Failing | TargetState::Stalled if service.panics => format!(
            "{name} may be selected although it is {}{saw}: too many of the service's targets fail or are stalled",
            state.word()
        ),
        state => format!("{name} is not selected: {}{saw}: {}", state.word(), state.sentence()),
    }
}

/// How the target is selected, if one is.
fn about_selection(method: Method, to: Option<&str>, foretold: &Foretold) -> Option<String> {
    let has = |name: &str| foretold.last().met.iter().any(|met| met.name == name);
    if has("answered_syn") {
        let cookie = "this node answers the SYN with a cookie as its sequence number, and keeps nothing";
        return Some(format!("none yet: {cookie}; the first request says where the connection goes"));
    }
    let to = to.filter(|_| foretold.later.is_none() && !has("no_target") && !has("targets_full"))?;
    Some(match method {
        Method::RoundRobin | Method::WeightedRoundRobin => format!("{method}: it is the turn of {to}"),
        Method::LeastConnections => format!("{method}: {to} has the fewest connections for its weight"),
        Method::PowerOfTwo => format!("{method}: of two that were drawn, {to} has less to do for its weight"),
        Method::Maglev => {
            format!("{method}: the client's address and port are hashed to {to}, on each routing node")
        }
        Method::Source => format!("{method}: the client's address is hashed to {to}, on each routing node"),
        Method::HotStandby => format!("{method}: {to} is the heaviest of those that are there"),
    })
}

fn from(source: WeightSource) -> &'static str {
    match source {
        WeightSource::Equal => "",
        WeightSource::Configured => " (configured)",
        WeightSource::Load => " (from its load)",
        WeightSource::Controller { .. } => " (from a controller)",
    }
}

fn about_explanation(told: &Explanation, service: Option<&ServiceView>) -> String {
    let Some(route) = &told.route else {
        let answer = told.answer.as_ref().map(|answer| format!("; the client is answered {answer}"));
        return format!("no route takes the request: {}{}", told.because, answer.unwrap_or_default());
    };
    let state = |stack: &str| {
        let target = service.and_then(|service| service.targets.iter().find(|target| target.target == stack));
        target.map_or("no candidate", |target| target.state.word())
    };
    let backends =
        told.backends.iter().map(|(stack, weight)| format!("{stack} (weight {weight}, {})", state(stack)));
    let backends: Vec<String> = backends.collect();
    let to = if backends.is_empty() { "the targets of the service".to_owned() } else { backends.join(", ") };
    format!("{route} takes the request, because {}; it goes to {to}", told.because)
}

fn about_way(stack: &str, way: &WayView) -> String {
    match way {
        WayView::Local => format!("{stack} is this node's own kernel: packets go there as they are"),
        WayView::None { counter, sentence } => format!("no packet gets to {stack}: {counter}: {sentence}"),
        WayView::Carried { encapsulation, longest, next_hop } => format!(
            "packets get to {stack} by {encapsulation}; the next hop is {next_hop}, and at most {longest} bytes fit"
        ),
    }
}

/// `12 s`, `5 min`, `3 h`.
fn ago(now_ms: u64, then_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(then_ms) / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

fn unix_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}
