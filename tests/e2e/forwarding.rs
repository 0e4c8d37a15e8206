//! The packet's way with real kernels at both ends.

use std::fs;

use lab::client::ask_often;
use lab::fabric::mac;
use lab::spec::{self, DVIPA};
use lab::{Lab, Spec, Web};
use model::dpt::Encapsulation;

use crate::fixture::{connect, lab, web4, web6};

/// F1, F6: GUE in IPv4, clients of both families.
#[test]
#[ignore = "needs root"]
fn gue_over_ipv4_carries_both_families() {
    carries(Spec::default().encapsulation(Encapsulation::Gue), "ip and udp dst port 6080");
}

/// F1, F6: GUE in IPv6, clients of both families.
#[test]
#[ignore = "needs root"]
fn gue_over_ipv6_carries_both_families() {
    let spec = Spec { outer_v6: true, ..Spec::default() };
    carries(spec.encapsulation(Encapsulation::Gue), "ip6 and udp dst port 6080");
}

/// F1, F6: IP in IP with outer IPv4: 4in4 and 6in4.
#[test]
#[ignore = "needs root"]
fn ipip_over_ipv4_carries_both_families() {
    carries(Spec::default().encapsulation(Encapsulation::Ipip), "ip proto 4 or ip proto 41");
}

/// F1, F6: IP in IP with outer IPv6: 4in6 and 6in6.
#[test]
#[ignore = "needs root"]
fn ipip_over_ipv6_carries_both_families() {
    let spec = Spec { outer_v6: true, ..Spec::default() };
    carries(spec.encapsulation(Encapsulation::Ipip), "ip6 proto 4 or ip6 proto 41");
}

/// F1, F6: rewriting only the Ethernet addresses.
#[test]
#[ignore = "needs root"]
fn l2_carries_both_families() {
    let filter = format!("ether src {} and (dst host {} or dst host {})", mac(10), DVIPA.0, DVIPA.1);
    carries(Spec::default().encapsulation(Encapsulation::L2), &filter);
}

/// F1: stacks may have different encapsulations.
#[test]
#[ignore = "needs root"]
fn each_stack_has_its_own_encapsulation() {
    let encapsulation_of = [("t2", Encapsulation::Ipip), ("t3", Encapsulation::L2)];
    let encapsulation_of = encapsulation_of.map(|(name, e)| (name.to_owned(), e)).into();
    let lab = lab(Spec { encapsulation_of, ..Spec::default() });
    let filters = [("t1", "udp port 6080"), ("t2", "ip proto 4"), ("t3", "tcp dst port 80")];
    let captures = filters.map(|(target, filter)| lab.capture(target, "eth0", filter).expect("a capture"));
    assert_eq!(ask_often(lab.client(), web4(), 9).values().copied().collect::<Vec<_>>(), [3, 3, 3]);
    for (capture, (target, filter)) in captures.into_iter().zip(filters) {
        let packets = capture.stop().expect("the capture ends").count("").expect("it is read");
        assert!(packets > 0, "{target} receives {filter}");
    }
}

/// F1: every packet that a port received is in one outcome, and none is in two.
#[test]
#[ignore = "needs root"]
fn no_packet_disappears_uncounted() {
    let lab = lab(Spec::default());
    ask_often(lab.client(), web4(), 30);
    lab.client().run(&["ping", "-c", "2", "-i", "0.1", &DVIPA.0.to_string()]).expect("it answers");
    let _ = lab.client().try_run(&["curl", "-s", "--max-time", "1", "http://198.18.9.1:81/"]);
    let stats = lab.baton_json(&["stats"]).expect("baton stats answers");
    let (mut received, mut ended) = (0, 0);
    for counter in stats["packets"].as_array().expect("a list of counters") {
        let (name, value) =
            (counter["name"].as_str().unwrap_or_default(), counter["value"].as_u64().unwrap_or(0));
        match forwarder::Reason::ALL.iter().find(|r| r.name() == name).map(|r| r.kind()) {
            Some(forwarder::Kind::Note) if name.starts_with("received_") => received += value,
            Some(forwarder::Kind::Note) | None => {}
            Some(_) => ended += value,
        }
    }
    assert!(received > 100, "the lab has traffic: {stats:#}");
    assert_eq!(received, ended, "received and ended: {stats:#}");
}

/// F1: long transfers in both directions arrive whole.
#[test]
#[ignore = "needs root"]
fn megabytes_arrive_whole_in_both_directions() {
    let lab = lab(Spec::default());
    let body = lab.files().join("body");
    fs::write(&body, vec![b'x'; 8 << 20]).expect("a file is written");
    for to in [web4(), web6()] {
        let (mut connection, _) = connect(&lab, to);
        assert_eq!(connection.get("/big").expect("8 MiB come").len(), 8 << 20);
        let (data, url) = (format!("@{}", body.display()), format!("http://{to}/"));
        let sent = ["curl", "-sf", "--max-time", "30", "-w", "%{size_upload}", "--data-binary", &data, &url];
        let answer = lab.client().run(&sent).expect("8 MiB are taken");
        assert!(answer.ends_with(&(8 << 20).to_string()), "{answer}");
    }
}

/// Requests of both families reach every target in packets that match `outer`, and answers come straight back.
fn carries(spec: Spec, outer: &str) {
    let lab: Lab = lab(spec);
    let at_t1 = lab.capture("t1", "eth0", outer).expect("a capture at t1");
    let at_client = lab.capture("client", "eth0", "tcp src port 80").expect("a capture at the client");
    for to in [web4(), web6()] {
        let answers = ask_often(lab.client(), to, 9);
        assert_eq!(
            answers.into_iter().collect::<Vec<_>>(),
            [("t1".into(), 3), ("t2".into(), 3), ("t3".into(), 3)]
        );
    }
    let packets = at_t1.stop().expect("the capture ends").packets("").expect("it is read");
    // Three connections a family, each with SYN, ACK, request, and its end.
    assert!(packets.len() >= 24, "t1 receives `{outer}`: {packets:#?}");
    assert!(packets.iter().all(|p| p.starts_with(&mac(10))), "only from rt1: {packets:#?}");
    let answers = at_client.stop().expect("the capture ends");
    for index in 1..=3 {
        let from = format!("ether src {}", mac(spec::target(index)));
        assert!(answers.count(&from).expect("it is read") > 0, "t{index} answers directly");
    }
    assert_eq!(
        answers.count(&format!("ether src {}", mac(10))).expect("it is read"),
        0,
        "rt1 carries no answer"
    );
}

/// W4, F1: the routing node's own kernel is a target like others; its packets cross the local port as they are.
#[test]
#[ignore = "needs root"]
fn the_routing_nodes_own_kernel_is_a_target() {
    let spec = Spec { routing_agent: true, ..Spec::default() };
    let lab = lab(spec.web(["rt1", "t1"].map(Web::wildcard)));
    for to in [web4(), web6()] {
        let answers = ask_often(lab.client(), to, 6);
        assert_eq!(answers.into_iter().collect::<Vec<_>>(), [("rt1".into(), 3), ("t1".into(), 3)]);
        let (mut connection, target) = connect(&lab, to);
        assert_eq!(connection.get("/big").expect("all of it").len(), 8 << 20, "from {target}");
    }
}
