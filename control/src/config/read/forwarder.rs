//! `[forwarder]` and its ports.

use std::path::Path;
use std::time::Duration;

use model::dpt::Encapsulation;

use super::ENCAPSULATIONS;
use crate::config::mistake::Ledger;
use crate::config::section::{At, Section};
use crate::config::tree::{Forwarder, Idle, LocalPort, NicPort};
use crate::config::value::Value;

/// The largest number of connections that a table may be made for.
const MAX_CONNECTIONS: u32 = 1 << 28;
/// Arguments that batond makes itself, and out of what.
const MADE_EAL: [(&str, &str); 6] = [
    ("-l", "workers"),
    ("-c", "workers"),
    ("--lcores", "workers"),
    ("--main-lcore", "workers"),
    ("--master-lcore", "workers"),
    ("--vdev", "[[forwarder.port]]"),
];

pub(super) fn forwarder(
    mut section: Section<'_>,
    directory: &Path,
    ledger: &mut Ledger,
) -> Option<Forwarder> {
    let workers = section.required(
        "workers",
        "add the cores that poll, one worker each: workers = [1]",
        ledger,
        |value, ledger| {
            let each = |v: Value<'_>, l: &mut Ledger| v.number(0..=1023_u16, " (a core)", l);
            let list = value.distinct("name at least one core", ledger, each)?;
            Some(list.into_iter().map(|at| at.value).collect::<Vec<_>>())
        },
    );
    let idle = section
        .optional("idle", ledger, |v, l| v.choice(&[("pure", Idle::Pure), ("backoff", Idle::Backoff)], l));
    let eal = section.optional("eal", ledger, |v, l| {
        Some(v.list(l, eal_argument)?.into_iter().map(|at| at.value).collect())
    });
    let encapsulation = section.optional("encapsulation", ledger, |v, l| v.choice(&ENCAPSULATIONS, l));
    let fabric_mtu =
        section.optional("fabric_mtu", ledger, |v, l| v.number(1280..=65_535_u16, " (bytes)", l));
    let mut descriptors = |key| {
        let read = section.optional(key, ledger, |v, l| v.number(64..=32_768_u16, "", l));
        read.map_or(1024, |at| at.value)
    };
    let (rx_descriptors, tx_descriptors) = (descriptors("rx_descriptors"), descriptors("tx_descriptors"));
    let crt_file = section.optional("crt_file", ledger, |v, l| v.path(directory, l));
    let mut connections = |key, default| {
        let read = section.optional(key, ledger, |v, l| v.number(1024..=MAX_CONNECTIONS, "", l));
        read.map_or(default, |at| at.value)
    };
    let connections_v4 = connections("connections_v4", 1_000_000);
    let connections_v6 = connections("connections_v6", 250_000);
    let flows_udp = connections("flows_udp", 262_144);
    let half_open = connections("half_open", 262_144);
    let mut life = |key, default| {
        let read = section.optional(key, ledger, |v, l| v.seconds(1..=604_800, l));
        read.map_or(Duration::from_secs(default), |at| at.value)
    };
    let (idle_tcp, idle_udp) = (life("idle_tcp_s", 3600), life("idle_udp_s", 120));
    let (half_open_life, closing) = (life("half_open_s", 10), life("closing_s", 4));
    let ports = ports(&mut section, ledger);
    section.finish(ledger);
    let (nic, local) = ports?;
    Some(Forwarder {
        workers: workers?.value,
        idle: idle.map_or(Idle::default(), |at| at.value),
        eal: eal.map_or(Vec::new(), |at| at.value),
        encapsulation: encapsulation.map_or(Encapsulation::default(), |at| at.value),
        fabric_mtu: fabric_mtu.map_or(1500, |at| at.value),
        rx_descriptors,
        tx_descriptors,
        crt_file: crt_file.map(|at| at.value),
        connections_v4,
        connections_v6,
        flows_udp,
        half_open,
        idle_tcp,
        idle_udp,
        half_open_life,
        closing,
        nic,
        local,
    })
}

fn eal_argument(value: Value<'_>, ledger: &mut Ledger) -> Option<String> {
    let text = value.text(ledger)?;
    let name = text.split('=').next().unwrap_or_default();
    if let Some((_, from)) = MADE_EAL.iter().find(|(made, _)| *made == name) {
        let what = format!("`eal` has {name}, which is made out of `{from}`");
        return value.wrong(ledger, what, format!("remove it and what follows it, and use `{from}`"));
    }
    Some(text.to_owned())
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Nic,
    Local,
}

/// The two ports.
fn ports(section: &mut Section<'_>, ledger: &mut Ledger) -> Option<(NicPort, LocalPort)> {
    let header = section.span().clone();
    let (mut nic, mut local): (Option<NicPort>, Option<LocalPort>) = (None, None);
    let mut bad_role = false;
    let mut seen: Vec<(Role, Option<At<String>>)> = Vec::new();
    for mut port in section.tables("forwarder.port", ledger) {
        let roles = [("nic", Role::Nic), ("local", Role::Local)];
        let role = port
            .required("role", "add role = \"nic\" or role = \"local\"", ledger, |v, l| v.choice(&roles, l));
        let device = port.required(
            "device",
            "add a PCI address or a DPDK vdev: device = \"net_af_packet0,iface=eth0\"",
            ledger,
            Value::some_text,
        );
        let vlan = port.optional("vlan", ledger, |v, l| v.number(1..=4094_u16, "", l));
        let interface = match &role {
            Some(At { value: Role::Local, .. }) => port.required(
                "interface",
                "add the name of the kernel's end: interface = \"loc0\"",
                ledger,
                interface,
            ),
            _ => port.optional("interface", ledger, interface),
        };
        port.finish(ledger);
        let Some(role) = role else {
            bad_role = true;
            continue;
        };
        if seen.iter().any(|(r, _)| *r == role.value) {
            let what = format!("there is a second port with role \"{}\"", word(role.value));
            ledger.add(&role.span, what, "keep one port of each role");
            bad_role = true;
        }
        let same = |d: &At<String>| seen.iter().any(|(_, o)| o.as_ref().is_some_and(|o| o.value == d.value));
        if let Some(device) = device.as_ref().filter(|d| same(d)) {
            ledger.add(
                &device.span,
                format!("two ports have the device \"{}\"", device.value),
                "give each its own",
            );
        }
        seen.push((role.value, device.clone()));
        match role.value {
            Role::Nic => {
                if let Some(interface) = interface {
                    ledger.add(
                        &interface.span,
                        "`interface` belongs to the local port only",
                        "remove it here",
                    );
                }
                nic = device.map(|d| NicPort { device: d.value, vlan: vlan.map(|at| at.value) });
            }
            Role::Local => {
                if let Some(vlan) = vlan {
                    ledger.add(&vlan.span, "`vlan` belongs to the nic port only", "remove it here");
                }
                local = device.zip(interface).map(|(d, i)| LocalPort { device: d.value, interface: i.value });
            }
        }
    }
    for (role, example) in
        [(Role::Nic, "net_af_packet0,iface=eth0"), (Role::Local, "net_af_packet1,iface=loc1")]
    {
        if !bad_role && !seen.iter().any(|(r, _)| *r == role) {
            let word = word(role);
            let fix =
                format!("add [[forwarder.port]] with role = \"{word}\" and a device such as \"{example}\"");
            ledger.add(&header, format!("there is no port with role \"{word}\""), fix);
        }
    }
    nic.zip(local)
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Nic => "nic",
        Role::Local => "local",
    }
}

/// The name of a network interface: IFNAMSIZ is 16 with the final zero, and dev_valid_name() in the kernel says the rest.
fn interface(value: Value<'_>, ledger: &mut Ledger) -> Option<String> {
    let name = value.some_text(ledger)?;
    let good = name.len() <= 15
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
    if !good {
        let what = format!("`interface`: \"{name}\" is not an interface name");
        return value.wrong(ledger, what, "write at most 15 characters without `/`, `:` and spaces");
    }
    Some(name)
}
