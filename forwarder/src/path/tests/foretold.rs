//! What is foretold of a packet is what becomes of it, whatever the world is like; and to ask changes nothing.

use model::dpt::{Ask, Distribution, Dpt, Duty, Method, Policy, Refuse, Shared, StackState, WeightedTarget};
use model::{Protocol, StackIndex};
use proptest::prelude::*;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::bench::*;
use super::transact::dpt_with;
use crate::crt::{CrtState, Entry, Key, KeyParts};
use crate::foretell::{Asked, Foretold, Passed, Question, World, foretell};
use crate::tables::Family;
use crate::{AnyKey, Handoffs, Node, Port, Reason, Verdict};

/// The port that all stacks serve.
const SHARED: u16 = 9000;
const STACKS: [StackIndex; 7] = [LOCAL, GUE, IPIP, L2, GUE6, IPIP6, UNRESOLVED];

/// What a world is like.
#[derive(Clone, Debug)]
struct Like {
    states: Vec<StackState>,
    method: Method,
    weights: Vec<u16>,
    policy: Option<(u8, Vec<u16>)>,
    refuse: [Refuse; 2],
    duty: Duty,
    certain: bool,
    nobody: bool,
    own: bool,
    mtu: u16,
    vlan: Option<u16>,
    others: Vec<(u16, u8)>,
    entry: Option<(u8, CrtState)>,
    /// A handover's option is there.
    option: bool,
    turns: u8,
    /// So many connections may begin, of all clients and of each.
    may_begin: Option<[u32; 2]>,
}

fn states() -> impl Strategy<Value = StackState> {
    prop_oneof![
        6 => Just(StackState::Up),
        1 => Just(StackState::Quiet),
        1 => Just(StackState::Lost),
        1 => Just(StackState::Dead)
    ]
}

fn worlds() -> impl Strategy<Value = Like> {
    let method = prop_oneof![
        Just(Method::RoundRobin),
        Just(Method::WeightedRoundRobin),
        Just(Method::LeastConnections),
        Just(Method::Maglev),
        Just(Method::PowerOfTwo)
    ];
    let weights = || proptest::collection::vec(0..3_u16, STACKS.len());
    let refuse = || prop_oneof![3 => Just(Refuse::Reset), 1 => Just(Refuse::Silent)];
    let duty = prop_oneof![
        6 => Just(Duty::Owner),
        1 => Just(Duty::Former),
        1 => Just(Duty::Partner),
        1 => Just(Duty::Backup)
    ];
    let entry = (0..STACKS.len() as u8, 0..CrtState::ALL.len());
    let entry = entry.prop_map(|(stack, state)| (stack, CrtState::ALL[state]));
    let tables = (
        proptest::collection::vec(states(), STACKS.len()),
        method,
        weights(),
        proptest::option::of((0..33_u8, weights())),
        [refuse(), refuse()],
        duty,
    );
    let node =
        (any::<bool>(), any::<bool>(), any::<bool>(), 1280..1600_u16, proptest::option::of(1..4095_u16));
    let crt = (
        proptest::collection::vec((2000..3000_u16, 0..STACKS.len() as u8), 0..12),
        proptest::option::weighted(0.6, entry),
        any::<bool>(),
        0..9_u8,
        proptest::option::weighted(0.3, [1..12_u32, 1..12]),
    );
    (tables, node, crt).prop_map(|(tables, node, crt)| {
        let (states, method, weights, policy, refuse, duty) = tables;
        let (certain, nobody, own, mtu, vlan) = node;
        let (others, entry, option, turns, may_begin) = crt;
        Like {
            states,
            method,
            weights,
            policy,
            refuse,
            duty,
            certain,
            nobody,
            own,
            mtu,
            vlan,
            others,
            entry,
            option,
            turns,
            may_begin,
        }
    })
}

/// A client's packet, to a DVIPA or near it.
fn questions() -> impl Strategy<Value = Question> {
    let kind = prop_oneof![
        4 => Just(Asked::Syn),
        3 => Just(Asked::Ack),
        1 => Just(Asked::Rst),
        3 => Just(Asked::Datagram)
    ];
    let port = prop_oneof![4 => Just(SHARED), 4 => 8000..8008_u16, 1 => Just(22), 1 => Just(5000)];
    let hops = prop_oneof![6 => Just(64_u8), 1 => 0..3_u8];
    let bytes = prop_oneof![2 => Just(60_u16), 3 => 0..1600_u16];
    (any::<bool>(), kind, 1024..1030_u16, port, hops, bytes, 0..12_u8).prop_map(
        |(v4, kind, client_port, port, hops, bytes, astray)| {
            let elsewhere = astray == 0;
            let (client, dvipa) = match v4 {
                true if elsewhere => (CLIENT.into(), [198, 18, 9, 77].into()),
                true => (CLIENT.into(), DVIPA.into()),
                false => (CLIENT6.into(), DVIPA6.into()),
            };
            let (client, dvipa): (std::net::IpAddr, std::net::IpAddr) = (client, dvipa);
            Question { client: (client, client_port).into(), dvipa: (dvipa, port).into(), kind, bytes, hops }
        },
    )
}

fn limits(bursts: [u32; 2]) -> model::Limits {
    let [service, client] = bursts.map(|burst| {
        let (per_s, burst) = (NonZeroU32::MIN, NonZeroU32::new(burst)?);
        Some(model::limits::Rate { per_s, burst })
    });
    model::Limits { service, client }
}

fn dpt_like(like: &Like) -> Dpt {
    let mut dpt = dpt_with(&[("/one", &[GUE, IPIP]), ("/two", &[L2])]);
    for (stack, state) in dpt.stacks.iter_mut().zip(&like.states) {
        stack.state = *state;
    }
    let targets = |weights: &[u16]| -> Vec<WeightedTarget> {
        let pairs = STACKS.into_iter().zip(weights);
        pairs.map(|(stack, weight)| WeightedTarget { stack, weight: *weight }).collect()
    };
    for (dvipa, protocol) in [V4, V6].into_iter().flat_map(|d| [(d, Protocol::Tcp), (d, Protocol::Udp)]) {
        let policy = like.policy.as_ref().map(|(bits, weights)| Policy {
            client: ipnet::IpNet::new(CLIENT.into(), *bits).unwrap().trunc(),
            targets: targets(weights),
        });
        let row = Distribution {
            dvipa,
            port: SHARED,
            protocol,
            method: like.method,
            targets: targets(&like.weights),
            serving: STACKS.into_iter().zip(&like.weights).filter(|(_, w)| **w > 0).map(|(s, _)| s).collect(),
            policies: policy.into_iter().collect(),
            refuse: like.refuse[0],
            max_connections: None,
            affinity: None,
            limits: like.may_begin.map_or(model::Limits::NONE, limits),
            routing: None,
            quic: Shared::default(),
        };
        dpt.distributions.push(row.into());
    }
    let mut dvipas = std::mem::take(&mut dpt.dvipas);
    for dvipa in &mut dvipas {
        dvipa.duty = like.duty;
        dvipa.refuse = like.refuse[1];
        dvipa.ask = Ask {
            candidates: if like.nobody { vec![] } else { vec![LOCAL, GUE, IPIP, L2] },
            certain: like.certain,
        };
    }
    dpt.dvipas = dvipas;
    if !like.own {
        dpt.stacks.retain(|stack| stack.index != LOCAL);
    }
    dpt
}

fn key(question: &Question) -> AnyKey {
    let (dvipa, protocol) = (if question.dvipa.is_ipv4() { V4 } else { V6 }, question.kind.protocol());
    let (client, dvipa_port) = (question.client, question.dvipa.port());
    AnyKey::from(KeyParts { client, dvipa, dvipa_port, protocol })
}

fn enter<K: Key>(bench: &Bench, key: K, entry: Entry) {
    if entry.state == CrtState::HalfOpen {
        bench.crt.insert_half_open(key, entry.owner, bench.now).unwrap();
        return;
    }
    bench.crt.newconn(key, entry.owner, bench.now).unwrap();
    let established = Entry { state: CrtState::Established, ..entry };
    bench.crt.change(key, established, entry, bench.now).unwrap();
}

/// A worker in a world, and the option of the connection that is asked about.
fn world(like: &Like, question: &Question) -> (Bench, Arc<Handoffs>) {
    let node = Node { fabric_mtu: like.mtu, vlan: like.vlan, ..node() };
    let mut bench = Bench::with(&dpt_like(like), &node);
    for (client_port, stack) in &like.others {
        bench.establish(*client_port, SHARED, Protocol::Tcp, STACKS[usize::from(*stack)]);
    }
    let is_flow_state = |state| matches!(state, CrtState::Established | CrtState::Closing);
    let fits = |state| question.kind != Asked::Datagram || is_flow_state(state);
    if let Some((stack, state)) = like.entry.filter(|(_, state)| fits(*state)) {
        let entry = Entry { owner: STACKS[usize::from(stack)], state };
        match key(question) {
            AnyKey::V4(key) => enter(&bench, key, entry),
            AnyKey::V6(key) => enter(&bench, key, entry),
        }
    }
    // Rotations are where other clients' connections have left them.
    for n in 0..like.turns {
        let _ =
            bench.burst(&[in_our_vlan(&syn(Family::V4, 3000 + u16::from(n), SHARED), like.vlan)], Port::Nic);
    }
    let none = Handoffs::default();
    let handoffs =
        Arc::new(if like.option { none.with(key(question), [7; crate::path::OPTION_BYTES]) } else { none });
    bench.worker.set_handoffs(&handoffs);
    (bench, handoffs)
}

fn in_our_vlan(frame: &[u8], vlan: Option<u16>) -> Vec<u8> {
    let tag = vlan.map(|vlan| [&[0x81, 0][..], &vlan.to_be_bytes()].concat()).unwrap_or_default();
    [&frame[..12], &tag, &frame[12..]].concat()
}

fn ask(bench: &Bench, handoffs: &Arc<Handoffs>, question: &Question) -> Foretold {
    let world = World { tables: &bench.tables, handoffs, crt: &bench.crt, now: bench.now };
    foretell(question, world).unwrap()
}

fn counts(bench: &Bench) -> Vec<u64> {
    Reason::ALL.iter().map(|reason| bench.count(*reason)).collect()
}

/// What a worker did since these counts.
fn passed(bench: &Bench, before: &[u64], given: Vec<(Vec<u8>, Verdict)>) -> Passed {
    let more =
        counts(bench).into_iter().zip(before).zip(Reason::ALL).filter(|((now, before), _)| now > before);
    let reasons = more.map(|(_, reason)| *reason);
    Passed { reasons: reasons.filter(|reason| *reason != Reason::ReceivedNic).collect(), given }
}

fn known(bench: &Bench, question: &Question) -> Option<Entry> {
    key(question).entry(&bench.crt, bench.now)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn what_is_foretold_becomes_of_the_packet(like in worlds(), question in questions()) {
        let (mut bench, handoffs) = world(&like, &question);
        let (before, entry) = (counts(&bench), known(&bench, &question));
        let first = ask(&bench, &handoffs, &question);
        let foretold = ask(&bench, &handoffs, &question);
        prop_assert_eq!(first.entry_then, foretold.entry_then, "asked twice");
        prop_assert_eq!(counts(&bench), before.clone(), "a question is no packet");
        prop_assert_eq!(known(&bench, &question), entry, "and makes no entry");
        prop_assert_eq!(foretold.entry, entry.filter(|_| bench.tables.dvipa(question.dvipa.ip()).is_some()));

        let given = bench.burst(&[&foretold.frame], Port::Nic);
        let is_asked = foretold.at_once.reasons.contains(&Reason::AskHeld);
        let happened = passed(&bench, &before, given);
        if is_asked {
            // Where no hash names the first one, each worker asks another one first, which may have no way there.
            let but_asked = |passed: &Passed| -> Vec<Reason> {
                passed.reasons.iter().copied().filter(|reason| *reason != Reason::Asked).collect()
            };
            prop_assert_eq!(but_asked(&happened), but_asked(&foretold.at_once));
            prop_assert_eq!(&foretold.later, &None);
        } else {
            prop_assert_eq!(&happened, &foretold.at_once);
        }
        if bench.tables.dvipa(question.dvipa.ip()).is_some() && foretold.later.is_none() {
            prop_assert_eq!(known(&bench, &question), foretold.entry_then);
        }
        if let Some(later) = &foretold.later {
            let before = counts(&bench);
            bench.now.ms += 60_000;
            let given = bench.turn(true);
            prop_assert_eq!(&passed(&bench, &before, given), later);
        }
    }
}

#[test]
fn each_question_has_one_end_or_waits() {
    let bench = Bench::new();
    let handoffs = Arc::default();
    let client = (CLIENT, 1024).into();
    let end = |kind, port, bytes, hops| {
        let question = Question { client, dvipa: (DVIPA, port).into(), kind, bytes, hops };
        ask(&bench, &handoffs, &question).at_once.end()
    };
    assert_eq!(end(Asked::Syn, port_of(GUE), 60, 64), Some(Reason::ForwardedNew));
    assert_eq!(end(Asked::Syn, port_of(UNRESOLVED), 60, 64), Some(Reason::NextHopUnresolved));
    assert_eq!(end(Asked::Syn, port_of(GUE), 60, 1), Some(Reason::AnsweredTimeExceeded));
    assert_eq!(end(Asked::Datagram, port_of(GUE), 1500, 64), Some(Reason::AnsweredTooBig));
    assert_eq!(end(Asked::Ack, port_of(GUE), 60, 64), None, "the stacks are asked");
    assert!(Reason::ALL.iter().all(|reason| bench.count(*reason) == 0));
    assert_eq!(bench.crt.stats().half_open_v4.entries, 0);
}
