//! The keys of `agent.toml`, in the order of `docs/configuration.md`.

use super::Absent::{Is, Needed, Other};
use super::Kind::{Choice, Either, Flag, Form, List, Number, Table, Tables, Text};
use super::{ADDRESS, Absent, Key, Kind, MODE, NAME, PATH, PORT, SOCKET, U32};

const fn key(path: &'static str, absent: Absent, kind: Kind) -> Key {
    Key { path, absent, kind }
}

/// A user or a group.
const WHO: Kind = Either(&[Number(0, U32), Text]);
const INTERFACE: Kind = Form("^.{1,15}$");
const PREFIX: Kind = super::PREFIX;
const NETWORK: Kind = Either(&[ADDRESS, PREFIX]);
const SOME: Kind = Number(1, U32);
const PROTOCOL: Kind = Choice(&["tcp", "udp"]);

pub(super) const KEYS: &[Key] = &[
    key("node", Needed, Table),
    key("node.name", Needed, NAME),
    key("node.cluster_address", Needed, List(&ADDRESS, 1)),
    key("node.interface", Needed, Either(&[INTERFACE, List(&INTERFACE, 1)])),
    key("node.fabric_mtu", Other, Number(1280, 65_535)),
    key("cluster", Needed, Table),
    key("cluster.ca", Needed, Text),
    key("cluster.certificate", Needed, Text),
    key("cluster.key", Needed, Text),
    key("cluster.heartbeat_ms", Is("200"), SOME),
    key("cluster.lost_after_ms", Is("1500"), SOME),
    key("routing_stack", Needed, Tables),
    key("routing_stack.name", Needed, NAME),
    key("routing_stack.control", Needed, SOCKET),
    key("routing_stack.dvipas", Other, List(&PREFIX, 0)),
    key("admin", Other, Table),
    key("admin.socket", Is("\"/run/baton/agent.sock\""), Text),
    key("admin.metrics", Other, SOCKET),
    key("admin.metrics_socket", Other, Text),
    key("admin.metrics_mode", Is("0o660"), MODE),
    key("admin.metrics_group", Other, WHO),
    key("witness", Other, Table),
    key("witness.directory", Is("\"/var/lib/baton\""), Text),
    key("applications", Other, Table),
    key("applications.socket", Is("\"/run/baton/applications.sock\""), Text),
    key("applications.mode", Is("0o660"), MODE),
    key("applications.group", Other, WHO),
    key("applications.users", Other, List(&WHO, 0)),
    key("application", Other, Tables),
    key("application.user", Other, WHO),
    key("application.group", Other, WHO),
    key("application.role", Needed, Choice(&["routing", "target"])),
    key("application.dvipa", Other, List(&NETWORK, 0)),
    key("application.ports", Other, List(&PORT, 0)),
    key("application.job", Other, List(&PATH, 0)),
    key("application.hold_accepts", Is("false"), Flag),
    key("bpf", Other, Table),
    key("bpf.pin", Is("\"/sys/fs/bpf/baton\""), Text),
    key("bpf.cgroup", Other, Text),
    key("bpf.container_mark", Is("0x2000"), Number(0, U32)),
    key("container", Other, Tables),
    key("container.port", Needed, PORT),
    key("container.address", Needed, SOCKET),
    key("container.protocol", Is("\"tcp\""), PROTOCOL),
    key("container.dvipa", Other, ADDRESS),
    key("check", Other, Tables),
    key("check.kind", Needed, Choice(&["tcp", "http", "grpc", "script"])),
    key("check.ports", Needed, List(&PORT, 1)),
    key("check.protocol", Is("\"tcp\""), PROTOCOL),
    key("check.dvipa", Other, List(&NETWORK, 0)),
    key("check.interval_s", Is("2"), SOME),
    key("check.timeout_ms", Is("1000"), SOME),
    key("check.rise", Is("2"), SOME),
    key("check.fall", Is("3"), SOME),
    key("check.path", Is("\"/\""), Form("^/[!-~]*$")),
    key("check.host", Other, Form("^[!-~]+$")),
    key("check.status", Other, List(&Number(100, 599), 1)),
    key("check.service", Other, Form("^.{0,100}$")),
    key("check.command", Other, List(&Text, 1)),
    key("watch", Other, Table),
    key("watch.unanswered_s", Is("30"), Number(0, U32)),
    key("watch.repair_s", Is("10"), SOME),
    key("log", Other, Table),
    key("log.level", Is("\"info\""), Choice(&["error", "warn", "info", "debug", "trace"])),
];
