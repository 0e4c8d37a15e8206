//! What each view shows: rows of words.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use control::runtime::api::{CounterRow, ShareRow, WatchAnswer};
use model::Service;

use super::{Look, Top};
use crate::events;
use crate::show::{bytes, number, or_dash, percent, time, word};

/// What can be looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum View {
    /// Services and their targets.
    #[default]
    Services,
    /// The stacks.
    Stacks,
    /// What was dropped, refused or lost, and why.
    Drops,
    /// Connections that move, drains, and how transfers ended.
    Transfers,
    /// What happened lately.
    Events,
}

impl View {
    pub(crate) const ALL: [Self; 5] =
        [Self::Services, Self::Stacks, Self::Drops, Self::Transfers, Self::Events];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Services => "Services",
            Self::Stacks => "Stacks",
            Self::Drops => "Drops",
            Self::Transfers => "Transfers",
            Self::Events => "Events",
        }
    }

    /// Titles of the columns, and which of them have numbers.
    pub(super) fn head(self) -> (&'static [&'static str], &'static [usize]) {
        match self {
            Self::Services => {
                let head = &[
                    "SERVICE",
                    "TARGET",
                    "STATE",
                    "WEIGHT",
                    "FROM",
                    "CONNECTIONS",
                    "NEW/S",
                    "PACKETS/S",
                    "BYTES/S",
                    "CPU",
                    "QUEUE",
                ];
                (head, &[3, 5, 6, 7, 8, 9, 10])
            }
            Self::Stacks => {
                let head = &[
                    "STACK",
                    "SESSION",
                    "UP FOR",
                    "CONNECTIONS",
                    "LISTENS",
                    "CPU",
                    "QUEUE",
                    "DRAINED",
                    "VERSION",
                ];
                (head, &[3, 4, 5, 6])
            }
            Self::Drops => (&["WHAT", "EACH SECOND", "IN ALL", "AT FAULT", "MEANING"], &[1, 2]),
            Self::Transfers => (&["WHAT", "EACH SECOND", "IN ALL", "MEANING"], &[1, 2]),
            Self::Events => (&["EVENT"], &[]),
        }
    }

    /// The one that so many steps lead to.
    pub(super) fn neighbour(self, steps: usize) -> Self {
        let here = Self::ALL.iter().position(|view| *view == self).unwrap_or_default();
        Self::ALL[(here + steps) % Self::ALL.len()]
    }
}

/// A rate in words.
fn per_second(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) if rate > 0.0 && rate < 10.0 => format!("{rate:.1}"),
        Some(rate) => number(rate.round() as u64),
    }
}

type ShareKey<'a> = (std::net::IpAddr, u16, model::Protocol, &'a str);

fn share_key(row: &ShareRow) -> ShareKey<'_> {
    (row.dvipa, row.port, row.protocol, &row.stack)
}

impl Top {
    /// The rows of the view that pass the filter.
    pub(super) fn rows(&self) -> Vec<Vec<String>> {
        let Some(Look { answer, .. }) = &self.now else { return Vec::new() };
        let rows = match self.view {
            View::Services => self.services(answer),
            View::Stacks => stacks(answer),
            View::Drops => self.drops(answer),
            View::Transfers => self.transfers(answer),
            View::Events => self.events.iter().rev().map(|row| vec![events::line(row)]).collect(),
        };
        let filter = self.filter.to_lowercase();
        let passes = |row: &Vec<String>| row.iter().any(|cell| cell.to_lowercase().contains(&filter));
        rows.into_iter().filter(passes).collect()
    }

    /// The line above all views.
    pub(super) fn summary(&self) -> Vec<(&'static str, String)> {
        let Some(Look { answer, .. }) = &self.now else { return Vec::new() };
        let packets = &answer.stats.packets;
        let sum = |is_one: fn(&CounterRow) -> bool| {
            let rates = packets.iter().filter(|row| is_one(row)).map(|row| self.rate("packets", row));
            per_second(rates.sum::<Option<f64>>())
        };
        let stacks = &answer.status.machine.stacks;
        let up = stacks.iter().filter(|stack| word(&stack.session) == "up").count();
        let crt = answer.stats.crt;
        vec![
            ("connections", number(crt.entries_v4 + crt.entries_v6)),
            ("new/s", sum(|row| row.name == "forwarded_new")),
            ("packets/s", sum(|row| row.name.starts_with("forwarded"))),
            ("drops/s", sum(|row| row.fault.is_some())),
            ("moving", number(answer.moving_in_all)),
            ("stacks up", format!("{up} of {}", stacks.len())),
        ]
    }

    /// Seconds between the last two looks, and the one before.
    fn past(&self) -> Option<(f64, &WatchAnswer)> {
        let (now, before) = (self.now.as_ref()?, self.before.as_ref()?);
        Some((now.at.duration_since(before.at).as_secs_f64().max(0.001), &before.answer))
    }

    fn rate(&self, kind: &str, row: &CounterRow) -> Option<f64> {
        let (seconds, before) = self.past()?;
        let rows = match kind {
            "packets" => &before.stats.packets,
            "cluster" => &before.stats.cluster,
            _ => &before.stats.transfers,
        };
        let before = rows.iter().find(|before| before.name == row.name)?.value;
        Some(row.value.saturating_sub(before) as f64 / seconds)
    }

    fn services(&self, answer: &WatchAnswer) -> Vec<Vec<String>> {
        let shares: BTreeMap<_, _> = answer.stats.shares.iter().map(|row| (share_key(row), row)).collect();
        let past = self.past();
        let before: BTreeMap<_, _> = past
            .iter()
            .flat_map(|(_, before)| &before.stats.shares)
            .map(|row| (share_key(row), row))
            .collect();
        let mut rows = Vec::new();
        for service in &answer.dpt.services {
            let (dvipa, port, protocol) = (service.dvipa, service.port, service.protocol);
            let name = Service { dvipa, port, protocol }.to_string();
            if service.targets.is_empty() {
                let dashes = (0..8).map(|_| "-".to_owned());
                rows.push(
                    [name.clone(), "-".to_owned(), "no-candidate".to_owned()]
                        .into_iter()
                        .chain(dashes)
                        .collect(),
                );
            }
            for target in &service.targets {
                let key = (dvipa.address(), port, protocol, target.target.as_str());
                let share = shares.get(&key);
                let rate = |of: fn(&ShareRow) -> u64| {
                    let (now, then) =
                        (share.map_or(0, |row| of(row)), before.get(&key).map_or(0, |row| of(row)));
                    past.map(|(seconds, _)| now.saturating_sub(then) as f64 / seconds)
                };
                let from = serde_json::to_value(target.weight_source).unwrap_or_default();
                rows.push(vec![
                    name.clone(),
                    target.target.clone(),
                    target.state.word().to_owned(),
                    target.weight.to_string(),
                    from["from"].as_str().unwrap_or_default().to_owned(),
                    or_dash(share.and_then(|share| share.connections).map(number)),
                    per_second(rate(|row| row.opened)),
                    per_second(rate(|row| row.packets)),
                    or_dash(rate(|row| row.bytes).map(|rate| bytes(rate.round() as u64))),
                    or_dash(target.load.map(|load| percent(load.cpu_permille))),
                    or_dash(target.load.map(|load| percent(load.accept_queue_permille))),
                ]);
            }
        }
        if answer.left_out > 0 {
            rows.push(vec![format!("{} more services: baton dpt", number(answer.left_out))]);
        }
        rows
    }

    fn drops(&self, answer: &WatchAnswer) -> Vec<Vec<String>> {
        let kinds = [("packets", &answer.stats.packets), ("cluster", &answer.stats.cluster)];
        let all = kinds.into_iter().flat_map(|(kind, rows)| rows.iter().map(move |row| (kind, row)));
        let mut found: Vec<_> = all
            .filter(|(_, row)| row.value > 0 && (row.fault.is_some() || row.name.starts_with("refused")))
            .collect();
        let order = |(kind, row): &(&str, &CounterRow)| {
            let rate = self.rate(kind, row).unwrap_or(0.0) * 1000.0;
            std::cmp::Reverse((rate as u64, row.value))
        };
        found.sort_by_key(order);
        let row = |(kind, row): (&str, &CounterRow)| {
            let fault = row.fault.map_or("-", model::Blame::word).to_owned();
            let rate = per_second(self.rate(kind, row));
            vec![row.name.clone(), rate, number(row.value), fault, row.sentence.clone()]
        };
        found.into_iter().map(row).collect()
    }

    fn transfers(&self, answer: &WatchAnswer) -> Vec<Vec<String>> {
        let dash = || "-".to_owned();
        let moving = answer.moving.iter().map(|row| {
            let way = format!(
                "{} moves from {} to {}: {}",
                row.client, row.transfer.source, row.transfer.target, row.transfer.step
            );
            vec!["moving".to_owned(), dash(), dash(), format!("{way} ({})", row.dvipa)]
        });
        let drains = answer.evacuations.iter().map(|of| {
            let waiting = of.waiting.iter().chain(&of.refused).map(|why| why.connections).sum();
            let text = format!(
                "{} of {}: {} left, {} under way, {} wait or can't move",
                of.stack,
                word(&of.state),
                or_dash(of.connections.map(number)),
                number(of.under_way),
                number(waiting)
            );
            vec!["drain".to_owned(), dash(), number(of.moved), text]
        });
        let ended = answer.stats.transfers.iter().filter(|row| row.value > 0).map(|row| {
            vec![
                row.name.clone(),
                per_second(self.rate("transfers", row)),
                number(row.value),
                row.sentence.clone(),
            ]
        });
        moving.chain(drains).chain(ended).collect()
    }
}

fn stacks(answer: &WatchAnswer) -> Vec<Vec<String>> {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let row = |stack: &control::machine::StackView| {
        let since = answer.status.sessions_since_s.get(&stack.stack);
        vec![
            stack.stack.to_string(),
            word(&stack.session),
            or_dash(since.map(|since| time(Duration::from_secs(now_s.saturating_sub(*since))))),
            number(stack.connections),
            stack.listens.to_string(),
            or_dash(stack.load.map(|load| percent(load.cpu_permille))),
            or_dash(stack.load.map(|load| percent(load.accept_queue_permille))),
            if stack.draining { "draining" } else { "-" }.to_owned(),
            stack.version.clone(),
        ]
    };
    answer.status.machine.stacks.iter().map(row).collect()
}
