//! The counters and gauges in Prometheus' text format (OpenMetrics).

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use model::dpt::{Dpt, Duty, stack_of};
use model::{Protocol, Service, StackName};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::api::{CounterRow, ShareRow, StatsAnswer, TurnedAwayRow};
use super::etcd::{EtcdMemberView, EtcdView};
use super::forwarding::{MOST_SHARES, PortView};
use super::timings::Measured;
use crate::machine::{LoadView, SessionState, StatusView, TargetState, UnfitView, VipaView};

const STEERED: &str = "Kinds of packets that have a receive queue of the port to themselves.";

const PAUSE: &str = "For how long the packets of a client were held while its connection moved";
const LATENESS: &str = "How late the control thread comes to what is due every 10 ms";

/// What is true at one moment: all that the control thread does for a scrape.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) stats: StatsAnswer,
    pub(super) status: StatusView,
    pub(super) vipa: VipaView,
    /// When this stack's certificate ends, seconds since 1970.
    pub(super) expires: i64,
    /// Where it decides who owns a DVIPA.
    pub(super) etcd: Option<EtcdView>,
    /// Its parts are shared with the one in force.
    pub(super) dpt: Dpt,
    /// The services of whose targets some fail or are stalled.
    pub(super) unfit: Vec<UnfitView>,
    /// How long things took.
    pub(super) measured: Measured,
}

impl Snapshot {
    /// Everything that is measured, as text.
    pub(super) fn render(self: Box<Self>) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        let ours = registry.sub_registry_with_prefix("baton");
        self.stats.environment.register(ours);
        let (pauses, lateness) = (self.measured.pauses.clone(), self.measured.lateness.clone());
        ours.register("transfer_pause_seconds", PAUSE, pauses);
        ours.register("control_delay_seconds", LATENESS, lateness);
        registry.register_collector(self);
        let mut out = String::new();
        text::encode(&mut out, &registry)?;
        Ok(out)
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        counters(&mut to, "baton_packets_", &self.stats.packets)?;
        counters(&mut to, "baton_cluster_", &self.stats.cluster)?;
        counters(&mut to, "baton_transfers_", &self.stats.transfers)?;
        self.sums(&mut to)?;
        self.refusals(&mut to)?;
        self.crt(&mut to)?;
        self.stacks(&mut to)?;
        self.routes(&mut to)?;
        self.shares(&mut to)?;
        self.turned_away(&mut to)?;
        self.services(&mut to)?;
        self.unfit(&mut to)?;
        self.loads(&mut to)?;
        self.etcd(&mut to)?;
        let of = |row: fn(&PortView) -> u64| -> Vec<_> {
            self.stats.ports.iter().map(|port| ("port", port.role.clone(), row(port))).collect()
        };
        family(&mut to, "baton_link_up", "1: the port's link is up; 0: it is lost.", &of(|p| p.link.into()))?;
        family(&mut to, "baton_link_losses", "How often the port's link was lost.", &of(|p| p.lost))?;
        family(&mut to, "baton_steered", STEERED, &of(|p| size(p.steered.len())))?;
        let contradictions = self.vipa.dvipas.iter().filter(|dvipa| !dvipa.contradiction.is_empty()).count();
        let gauges = [
            ("baton_uptime_seconds", "Seconds since the start.", self.stats.uptime_s),
            (
                "baton_certificate_expires_seconds",
                "When the certificate ends that new sessions use, in seconds since 1970.",
                u64::try_from(self.expires).unwrap_or_default(),
            ),
            ("baton_dpt_generation", "How often the DPT has changed.", self.status.generation),
            ("baton_dvipas_owned", "DVIPAs that this stack owns.", size(self.status.dvipas_owned)),
            (
                "baton_dvipa_contradictions",
                "DVIPAs that two routing stacks define, or back up with one rank; `baton vipa` names them.",
                size(contradictions),
            ),
            (
                "baton_other_witnesses",
                "Routing stacks that have other witnesses than this one, or another lease; `baton vipa` names them.",
                size(self.vipa.other_witnesses.len()),
            ),
            (
                "baton_targets_unfit",
                "Targets of services that fail or are stalled; `baton_target_unfit` names them.",
                size(self.unfit.iter().map(|service| service.targets.len()).sum()),
            ),
            (
                "baton_services_in_panic",
                "Services of which so many targets fail or are stalled that all are selected as if none were.",
                size(self.unfit.iter().filter(|service| service.panics).count()),
            ),
            ("baton_services", "Services (DVIPA, port, protocol) in the DPT.", size(self.status.services)),
        ];
        gauges.into_iter().try_for_each(|(name, help, value)| gauge(&mut to, name, help, value))
    }
}

impl Snapshot {
    /// Counters that are asked for together: `rate` of several names at once would have no names to tell them by.
    fn sums(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let labels = |kind, row: &CounterRow| {
            let fault = row.fault.map_or("", |fault| fault.word()).to_owned();
            (vec![(kind, row.name.clone()), ("fault", fault)], row.value)
        };
        let faults = self.stats.packets.iter().filter(|row| row.fault.is_some());
        let faults: Vec<_> = faults.map(|row| labels("reason", row)).collect();
        let help = "Packets that were dropped, refused or lost, by reason and by who can mend it.";
        samples(to, "baton_packet_faults", help, ConstCounter::new(0_u64), &faults, ConstCounter::new)?;
        let ended = self.stats.transfers.iter().filter(|row| row.name != "begun");
        let ended: Vec<_> = ended.map(|row| labels("outcome", row)).collect();
        let help = "Transfers that have ended or were refused, by outcome and by who can mend it.";
        samples(to, "baton_transfer_outcomes", help, ConstCounter::new(0_u64), &ended, ConstCounter::new)
    }

    fn refusals(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if self.stats.refused.is_empty() {
            return Ok(());
        }
        let counter = ConstCounter::new(0_u64);
        let help = "Messages and orders that were not followed, by reason and by the stack that sent them (none: orders).";
        let mut metric = to.encode_descriptor("baton_refused", help, None, counter.metric_type())?;
        for refused in &self.stats.refused {
            // The reason's word is the one of the JSON answers.
            let word = serde_json::to_value(refused.reason).map_err(|_| fmt::Error)?;
            let stack = refused.stack.as_ref().map(ToString::to_string).unwrap_or_default();
            let labels = [("reason", word.as_str().unwrap_or_default().to_owned()), ("stack", stack)];
            ConstCounter::new(refused.count).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn etcd(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(etcd) = &self.etcd else { return Ok(()) };
        let up = |member: &EtcdMemberView| u64::from(member.fails.is_none());
        let members: Vec<_> =
            etcd.members.iter().map(|member| ("endpoint", member.endpoint.clone(), up(member))).collect();
        let help = "1: the member of etcd answers for a majority of them; 0: it does not.";
        family(to, "baton_etcd_member_up", help, &members)?;
        let Some(ms) = etcd.answered_ms else { return Ok(()) };
        let help = "Seconds since etcd has answered a claim or renewal of a lease.";
        gauge(to, "baton_etcd_answer_age_seconds", help, ms / 1000)
    }

    fn crt(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let crt = self.stats.crt;
        let rows = [
            ("v4", crt.entries_v4, crt.capacity_v4),
            ("v6", crt.entries_v6, crt.capacity_v6),
            ("udp", crt.flows_udp, crt.flows_udp_capacity),
            ("half_open", crt.half_open, crt.half_open_capacity),
        ];
        let entries = rows.map(|(table, entries, _)| ("table", table.to_owned(), entries));
        family(to, "baton_crt_entries", "Connections in the CRT.", &entries)?;
        let capacity = rows.map(|(table, _, capacity)| ("table", table.to_owned(), capacity));
        family(to, "baton_crt_capacity", "Connections that the CRT has room for.", &capacity)
    }

    fn routes(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if self.stats.routes.is_empty() {
            return Ok(());
        }
        let counter = ConstCounter::new(0_u64);
        let help = "Requests that workers sent to a target, by route.";
        let mut metric = to.encode_descriptor("baton_route_requests", help, None, counter.metric_type())?;
        for row in &self.stats.routes {
            let (dvipa, port) = (row.dvipa.to_string(), row.port.to_string());
            let labels = [("dvipa", dvipa.as_str()), ("port", port.as_str()), ("route", row.route.as_str())];
            ConstCounter::new(row.requests).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// What each stack has of each service.
    fn shares(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let labels = |row: &ShareRow| service_labels(row.dvipa, row.port, row.protocol, Some(&row.stack));
        let rows = &self.stats.shares;
        type Read = fn(&ShareRow) -> u64;
        let counters: [(_, _, Read); 4] = [
            (
                "baton_service_connections_opened",
                "TCP connections that the stack has confirmed of the service; transferred ones are not among them.",
                |row| row.opened,
            ),
            (
                "baton_service_connections_moved",
                "TCP connections of the service that were moved to the stack.",
                |row| row.moved,
            ),
            (
                "baton_service_packets",
                "Packets of clients of the service that were sent to the stack.",
                |row| row.packets,
            ),
            (
                "baton_service_bytes",
                "Bytes of these packets, from the IP header on, without what they are carried in.",
                |row| row.bytes,
            ),
        ];
        for (name, help, read) in counters {
            let of: Vec<_> =
                rows.iter().filter(|row| read(row) > 0).map(|row| (labels(row), read(row))).collect();
            samples(to, name, help, ConstCounter::new(0_u64), &of, ConstCounter::new)?;
        }
        let active: Vec<_> = rows.iter().filter_map(|row| Some((labels(row), row.connections?))).collect();
        let help = "Connections of the service that the stack has, as of the last pass round the CRT.";
        samples(to, "baton_service_connections", help, ConstGauge::new(0_u64), &active, ConstGauge::new)
    }

    /// What was refused of each service.
    fn turned_away(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let labels = |row: &TurnedAwayRow| service_labels(row.dvipa, row.port, row.protocol, None);
        let rows = &self.stats.turned_away;
        let refused: Vec<_> =
            rows.iter().filter(|row| row.refused > 0).map(|row| (labels(row), row.refused)).collect();
        let help = "Packets of clients of the service that were refused, because no target takes them.";
        samples(
            to,
            "baton_service_refused_packets",
            help,
            ConstCounter::new(0_u64),
            &refused,
            ConstCounter::new,
        )?;
        let limits = |row: &TurnedAwayRow| [("service", row.service_limited), ("client", row.client_limited)];
        let limited = rows.iter().flat_map(|row| {
            limits(row).into_iter().filter(|(_, count)| *count > 0).map(move |(limit, count)| {
                let mut labels = labels(row);
                labels.push(("limit", limit.to_owned()));
                (labels, count)
            })
        });
        let limited: Vec<_> = limited.collect();
        let help = "Packets that would have begun a connection beyond a limit of the service, or of their client: dropped.";
        samples(
            to,
            "baton_service_limited_packets",
            help,
            ConstCounter::new(0_u64),
            &limited,
            ConstCounter::new,
        )
    }

    /// Who takes new connections of the services of this node's DVIPAs, and with which weight.
    fn services(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let here = self.dpt.dvipas.iter().filter(|entry| matches!(entry.duty, Duty::Owner | Duty::Partner));
        let dvipas: HashMap<_, _> = here.map(|entry| (entry.index, entry.dvipa.address())).collect();
        let (mut targets, mut weights) = (Vec::new(), Vec::new());
        for row in &self.dpt.distributions {
            let Some(dvipa) = dvipas.get(&row.dvipa) else { continue };
            if targets.len() < MOST_SHARES {
                targets.push((service_labels(*dvipa, row.port, row.protocol, None), size(row.targets.len())));
            }
            for target in &row.targets {
                let Some(stack) = stack_of(&self.dpt.stacks, target.stack) else { continue };
                if weights.len() < MOST_SHARES {
                    let labels = service_labels(*dvipa, row.port, row.protocol, Some(stack.name.as_str()));
                    weights.push((labels, u64::from(target.weight)));
                }
            }
        }
        let help = "Stacks that take new connections of the service.";
        samples(to, "baton_service_targets", help, ConstGauge::new(0_u64), &targets, ConstGauge::new)?;
        let help =
            "The share of new connections of the service that the stack takes, relative to the others'.";
        samples(to, "baton_service_target_weight", help, ConstGauge::new(0_u64), &weights, ConstGauge::new)
    }

    /// The targets that fail or are stalled.
    fn unfit(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let targets = self.unfit.iter().flat_map(|of| of.targets.iter().map(|target| (of.service, target)));
        let row =
            |(Service { dvipa, port, protocol }, (stack, state)): (Service, &(StackName, TargetState))| {
                let mut labels = service_labels(dvipa.address(), port, protocol, Some(stack.as_str()));
                labels.push(("state", state.word().to_owned()));
                (labels, 1)
            };
        let rows: Vec<_> = targets.map(row).take(MOST_SHARES).collect();
        let help =
            "1: an application listens there and serves nobody, as `state` says: it fails, or is stalled.";
        samples(to, "baton_target_unfit", help, ConstGauge::new(0_u64), &rows, ConstGauge::new)
    }

    /// How busy the stacks are that say so, and which of them an operator drains.
    fn loads(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let stacks = &self.status.stacks;
        let draining: Vec<_> =
            stacks.iter().map(|s| ("stack", s.stack.to_string(), u64::from(s.draining))).collect();
        family(
            to,
            "baton_stack_draining",
            "1: an operator drains the stack, or something of it.",
            &draining,
        )?;
        type Permille = fn(&LoadView) -> u16;
        let kinds: [(_, _, Permille); 3] = [
            ("baton_stack_cpu_ratio", "Use of all processors of the stack's host.", |l| l.cpu_permille),
            ("baton_stack_accept_queue_ratio", "How full the stack's fullest accept queue is.", |l| {
                l.accept_queue_permille
            }),
            (
                "baton_stack_memory_pressure_ratio",
                "Share of time in which a task of the stack's host waited for memory.",
                |l| l.memory_pressure_permille,
            ),
        ];
        for (name, help, permille) in kinds {
            let rows: Vec<_> = stacks
                .iter()
                .filter_map(|s| {
                    Some((
                        vec![("stack", s.stack.to_string())],
                        f64::from(permille(s.load.as_ref()?)) / 1000.0,
                    ))
                })
                .collect();
            samples(to, name, help, ConstGauge::new(0_f64), &rows, ConstGauge::new)?;
        }
        Ok(())
    }

    fn stacks(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let of = |stack: &crate::machine::StackView, value: u64| ("stack", stack.stack.to_string(), value);
        let up: Vec<_> =
            self.status.stacks.iter().map(|s| of(s, u64::from(s.session == SessionState::Up))).collect();
        family(to, "baton_stack_up", "1: there is a session with the stack; 0: it is lost.", &up)?;
        let connections: Vec<_> =
            self.stats.connections.iter().map(|s| ("stack", s.stack.clone(), s.connections)).collect();
        family(to, "baton_stack_connections", "Connections of the stack in the CRT.", &connections)
    }
}

fn counters(to: &mut DescriptorEncoder<'_>, prefix: &str, rows: &[CounterRow]) -> fmt::Result {
    for row in rows {
        let counter = ConstCounter::new(row.value);
        let name = format!("{prefix}{}", row.name);
        let mut metric = to.encode_descriptor(&name, &row.sentence, None, counter.metric_type())?;
        match &row.fault {
            Some(fault) => counter.encode(metric.encode_family(&[("fault", fault.word())])?)?,
            None => counter.encode(metric)?,
        }
    }
    Ok(())
}

/// A gauge with one label; nothing at all if there are no rows.
fn family(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: &[(&'static str, String, u64)],
) -> fmt::Result {
    let Some(_) = rows.first() else { return Ok(()) };
    let mut metric = to.encode_descriptor(name, help, None, ConstGauge::new(0_u64).metric_type())?;
    for (label, word, value) in rows {
        ConstGauge::new(*value).encode(metric.encode_family(&[(*label, word.as_str())])?)?;
    }
    Ok(())
}

type Labels = Vec<(&'static str, String)>;

fn service_labels(dvipa: IpAddr, port: u16, protocol: Protocol, stack: Option<&str>) -> Labels {
    let mut labels =
        vec![("dvipa", dvipa.to_string()), ("port", port.to_string()), ("protocol", protocol.to_string())];
    labels.extend(stack.map(|stack| ("stack", stack.to_owned())));
    labels
}

/// Metrics with several labels; nothing at all if there are no rows. `example` tells their type.
fn samples<V: Copy, M: EncodeMetric>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    example: M,
    rows: &[(Labels, V)],
    metric_of: impl Fn(V) -> M,
) -> fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    let mut metric = to.encode_descriptor(name, help, None, example.metric_type())?;
    rows.iter().try_for_each(|(labels, value)| metric_of(*value).encode(metric.encode_family(labels)?))
}

fn gauge(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let gauge = ConstGauge::new(value);
    let metric = to.encode_descriptor(name, help, None, gauge.metric_type())?;
    gauge.encode(metric)
}

fn size(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
