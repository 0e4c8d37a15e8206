//! What the page shows as tables of rows with keys, so that what changes can be told apart from what does not.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::watched::{EVENTS, WatchAnswer};
use crate::machine::{ServiceView, TargetView, WeightSource};
use crate::runtime::api::{CounterRow, EventRow, ShareRow};

/// A table: a row for each key.
type Table = BTreeMap<String, Value>;

/// All tables by name.
#[derive(Debug, Default)]
pub(super) struct Tables(BTreeMap<&'static str, Table>);

/// A row without fields that change with each look and that nobody needs.
fn row(of: &impl Serialize, without: &[&str]) -> Value {
    let mut row = serde_json::to_value(of).unwrap_or_default();
    if let Some(fields) = row.as_object_mut() {
        without.iter().for_each(|field| drop(fields.remove(*field)));
    }
    row
}

impl Tables {
    /// Made of what the control thread has told. `before` has the events that it told then.
    pub(super) fn new(watched: &WatchAnswer, before: &Self) -> Self {
        let mut tables = Self::default();
        tables.node(watched);
        for stack in &watched.status.machine.stacks {
            let mut row = row(stack, &["connections"]);
            row["since_s"] = json!(watched.status.sessions_since_s.get(&stack.stack));
            tables.put("stacks", stack.stack.to_string(), row);
        }
        for dvipa in &watched.vipa.dvipas {
            let mut row = row(dvipa, &[]);
            if let Some(lease) = row["lease"].as_object_mut() {
                lease.remove("left_ms");
            }
            tables.put("dvipas", dvipa.dvipa.to_string(), row);
        }
        for service in &watched.dpt.services {
            let name =
                format!("{}:{}/{}", bracketed(service.dvipa.address()), service.port, service.protocol);
            service
                .targets
                .iter()
                .for_each(|t| tables.put("targets", format!("{name} {}", t.target), target(&name, t)));
            tables.put("services", name, self::service(service));
        }
        for stack in &watched.stats.connections {
            tables.put("connections", stack.stack.clone(), stack.connections.into());
        }
        for share in &watched.stats.shares {
            let ShareRow { dvipa, port, protocol, stack, opened, connections, moved, packets, bytes } = share;
            let name = format!("{}:{port}/{protocol} {stack}", bracketed(*dvipa));
            tables.put("shares", name, json!([opened, connections, bytes, packets, moved]));
        }
        for of in &watched.stats.turned_away {
            let name = format!("{}:{}/{}", bracketed(of.dvipa), of.port, of.protocol);
            tables.put("turned_away", name, json!([of.refused, of.service_limited, of.client_limited]));
        }
        let stats = &watched.stats;
        for (kind, rows) in
            [("packets", &stats.packets), ("cluster", &stats.cluster), ("transfers", &stats.transfers)]
        {
            rows.iter().for_each(|counter| tables.counter(kind, counter));
        }
        for moving in &watched.moving {
            tables.put("moving", format!("{} {}", moving.client, moving.dvipa), row(&moving.transfer, &[]));
        }
        for evacuation in &watched.evacuations {
            let text = |part: Option<String>| part.unwrap_or_default();
            let (dvipa, port) =
                (evacuation.dvipa.map(|d| d.to_string()), evacuation.port.map(|p| p.to_string()));
            let name = format!("{} {} {}", evacuation.stack, text(dvipa), text(port));
            tables.put("drains", name, row(evacuation, &["elapsed_ms"]));
        }
        tables.events(&watched.events.events, before);
        tables
    }

    fn put(&mut self, table: &'static str, key: String, row: Value) {
        self.0.entry(table).or_default().insert(key, row);
    }

    fn node(&mut self, watched: &WatchAnswer) {
        let mut node =
            row(&watched.status, &["stacks", "sessions_since_s", "uptime_s", "config_age_s", "etcd", "crt"]);
        if let Some(fields) = node.as_object_mut() {
            let more = json!({
                "left_out": watched.left_out,
                "moving": watched.moving_in_all,
                "leaving": watched.vipa.leaving,
                "other_witnesses": watched.vipa.other_witnesses,
            });
            fields.extend(more.as_object().cloned().unwrap_or_default());
        }
        self.put("node", String::new(), node);
        self.put("crt", String::new(), row(&watched.stats.crt, &[]));
    }

    /// The value changes, what it means does not.
    fn counter(&mut self, kind: &str, counter: &CounterRow) {
        let name = format!("{kind}.{}", counter.name);
        self.put("meanings", name.clone(), json!([counter.fault, counter.sentence]));
        self.put("counters", name, counter.value.into());
    }

    /// Those of before go on, as many as are shown.
    fn events(&mut self, new: &[EventRow], before: &Self) {
        let key = |number: u64| format!("{number:012}");
        let mut events = before.0.get("events").cloned().unwrap_or_default();
        events.extend(new.iter().map(|event| (key(event.number), row(event, &[]))));
        while events.len() > usize::try_from(EVENTS).unwrap_or(usize::MAX) {
            events.pop_first();
        }
        self.0.insert("events", events);
    }

    /// Everything, as `{TABLE: {KEY: ROW}}`.
    pub(super) fn whole(&self) -> Value {
        let tables = self.0.iter().map(|(name, table)| ((*name).to_owned(), json!(table)));
        tables.collect::<Map<_, _>>().into()
    }

    /// What is other than before, in the same form; a row that is gone is null.
    pub(super) fn since(&self, before: &Self) -> Value {
        let none = Table::new();
        let names = self.0.keys().chain(before.0.keys());
        let mut tables = Map::new();
        for name in names.copied() {
            let (old, new) = (before.0.get(name).unwrap_or(&none), self.0.get(name).unwrap_or(&none));
            let changed = new.iter().filter(|(key, row)| old.get(*key) != Some(*row));
            let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
            let rows: Map<_, _> = changed.map(|(key, row)| (key.clone(), row.clone())).chain(gone).collect();
            if !rows.is_empty() {
                tables.insert(name.to_owned(), rows.into());
            }
        }
        tables.into()
    }
}

/// As it stands before a colon and a port.
fn bracketed(address: std::net::IpAddr) -> String {
    if address.is_ipv6() { format!("[{address}]") } else { address.to_string() }
}

fn service(service: &ServiceView) -> Value {
    let ServiceView { dvipa, port, protocol, direct, method, content_routed, targets, policies, .. } =
        service;
    json!({
        "dvipa": dvipa, "port": port, "protocol": protocol, "direct": direct, "method": method,
        "content_routed": content_routed, "targets": targets.len(), "policies": policies.len(),
    })
}

fn target(service: &str, target: &TargetView) -> Value {
    let source = match target.weight_source {
        WeightSource::Equal => "equal",
        WeightSource::Configured => "configured",
        WeightSource::Load => "load",
        WeightSource::Controller { .. } => "controller",
    };
    json!({
        "service": service, "target": target.target, "state": target.state, "weight": target.weight,
        "source": source, "applications": target.applications, "why": target.why,
        "share_percent": target.share_percent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(rows: &[(&'static str, &str, u64)]) -> Tables {
        let mut tables = Tables::default();
        rows.iter().for_each(|(table, key, value)| tables.put(table, (*key).to_owned(), (*value).into()));
        tables
    }

    #[test]
    fn only_what_is_other_than_before_is_told() {
        let before = tables(&[("stacks", "t1", 1), ("stacks", "t2", 1), ("moving", "c", 1)]);
        let after = tables(&[("stacks", "t1", 1), ("stacks", "t2", 2), ("stacks", "t3", 3)]);
        assert_eq!(after.since(&before), json!({"stacks": {"t2": 2, "t3": 3}, "moving": {"c": null}}));
        assert_eq!(after.since(&after), json!({}));
        assert_eq!(after.since(&Tables::default()), after.whole());
    }

    #[test]
    fn so_many_events_are_kept_and_the_oldest_go() {
        let event = |number| EventRow {
            number,
            unix_ms: 0,
            event: crate::runtime::api::EventName::Reloaded,
            about: String::new(),
            text: String::new(),
        };
        let (mut before, mut after) = (Tables::default(), Tables::default());
        before.events(&(1..=EVENTS).map(event).collect::<Vec<_>>(), &Tables::default());
        after.events(&[event(EVENTS + 1)], &before);
        let keys: Vec<_> = after.0["events"].keys().collect();
        assert_eq!((keys.len() as u64, keys[0].as_str()), (EVENTS, "000000000002"));
    }
}
