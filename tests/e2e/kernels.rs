//! Targets whose kernel is older than the machine's, in virtual machines. `scripts/test kernels` makes what is booted and runs
//! these tests.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lab::client::{HttpConnection, ask_often};
use lab::spec::DVIPA;
use lab::{Lab, Spec};

use crate::fixture::{connect, lab, web4, web6};

/// Bytes of a download during which the connection moves.
const DOWNLOAD_BYTES: usize = 8 << 20;

/// A connection of the client that this target has.
fn connection_at(lab: &Lab, to: SocketAddr, target: &str) -> HttpConnection {
    let mut tried = (0..3).map(|_| connect(lab, to));
    let found = tried.find_map(|(connection, at)| (at == target).then_some(connection));
    found.unwrap_or_else(|| panic!("round robin reaches {target}"))
}

fn move_to(lab: &Lab, connection: &HttpConnection, to: SocketAddr, target: &str) -> lab::Result<String> {
    crate::fixture::established(lab, connection);
    lab.baton(&["move", &connection.local().to_string(), &to.to_string(), target])
}

/// Starts an application on a stack that takes what is transferred to it, beside the nginx there, which gets no more clients.
fn start_target(lab: &Lab, stack: &str, job: &str) {
    let (v4, v6) = (DVIPA.0.to_string(), DVIPA.1.to_string());
    let words = ["http", "target", "--hold-accepts", job, "80", &v4, &v6];
    lab.start_application(stack, job, &words).expect("it starts");
}

/// R11: a target with Debian 12's own kernel (Linux 6.1) beside targets with the machine's. It serves clients of both families; its
/// connections move to the others, from an unmodified server and from an application; its applications take connections. What its
/// kernel lacks is in its status, and what would need that is refused with the reason while the connection goes on.
#[test]
#[ignore = "needs root and a guest"]
fn a_target_with_linux_6_1_takes_part_in_all_but_injection() {
    let lab = lab(Spec { kernels: BTreeMap::from([("t1".into(), "6.1".into())]), ..Spec::default() });
    let status = lab.agent_status("t1").expect("its agent answers");
    assert!(status["kernel"].as_str().is_some_and(|kernel| kernel.starts_with("6.1.")), "{status}");
    let lacks = status["lacks"].as_array().expect("a list");
    assert!(lacks.len() == 1 && lacks[0].to_string().contains("it takes Linux 6.9"), "{lacks:#?}");
    let newer = lab.agent_status("t2").expect("its agent answers");
    assert!(!newer["lacks"].to_string().contains("6.9"), "{newer}");

    for to in [web4(), web6()] {
        let answers: Vec<_> = ask_often(lab.client(), to, 9).into_iter().collect();
        assert_eq!(answers, ["t1", "t2", "t3"].map(|target| (target.to_owned(), 3)));
        let mut connection = connection_at(&lab, to, "t1");
        assert_eq!(connection.get("/big").expect("8 MiB come").len(), 8 << 20);
        assert_eq!(connection.target().expect("it is answered"), "t1");
        // An old kernel's connection into a newer one's listener, and not back.
        move_to(&lab, &connection, to, "t2").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(connection.target().expect("it is answered"), "t2");
        let refused =
            move_to(&lab, &connection, to, "t1").expect_err("nothing puts it into a listener there");
        assert!(refused.to_string().contains("Linux 6.9"), "{refused}");
        assert_eq!(connection.target().expect("it goes on"), "t2");
    }
    let moved = lab.transfers().expect("they are counted");
    assert_eq!((moved["injected"], moved["no_way"]), (2, 2), "{moved:?}");

    start_target(&lab, "t1", "old");
    start_target(&lab, "t3", "new");
    lab.wait_for_targets(80, &["t2"]).unwrap_or_else(|e| panic!("{e}"));
    let (example, file) = (lab.example("http").expect("it is built"), lab.files().join("content"));
    let write = format!("{} content {DOWNLOAD_BYTES} >{}", example.display(), file.display());
    lab.client().sh(&write).expect("it is written");
    let content = std::fs::read(file).expect("it is read");
    for to in [web4(), web6()] {
        // TCP_REPAIR takes it out of the new kernel and puts it into the old one, and back, in the middle of an answer.
        let mut connection = connection_at(&lab, to, "t2");
        move_to(&lab, &connection, to, "old@t1").unwrap_or_else(|e| panic!("{e}"));
        let path = format!("/download/{DOWNLOAD_BYTES}?via=new@t3,old@t1");
        let body = connection.get(&path).expect("it comes whole");
        assert!(body == content, "every byte of {} in order", body.len());
        assert_eq!(crate::fixture::established(&lab, &connection).stack, "t1");
    }
    let moved = lab.transfers().expect("they are counted");
    assert_eq!(moved["restored"], 6, "{moved:?}");
}
