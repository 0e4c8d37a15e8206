//! Live connections that move: a routing application reads what the client wants, and the connection goes to the host that
//! has it. The programs are those of `examples/http/`; the client is curl.

use std::net::{IpAddr, SocketAddr};

use lab::client::{HttpConnection, ask_often};
use lab::fabric::mac;
use lab::spec::{self, DVIPA};
use lab::{Capture, Lab, Spec, capture::Captured};

use crate::fixture::{SOON, dvipa4, web4};

/// Bytes of a download: longer than all buffers on its way together.
const DOWNLOAD_BYTES: u64 = 64 << 20;

/// A lab with the router of `examples/http/`, which gives clients of the host `images` to the job `images`, and all others
/// to `files`, and with these applications, as `JOB@STACK`, registered.
pub(crate) fn routed(applications: &[&str]) -> Lab {
    let lab = crate::fixture::lab(Spec::content_routed());
    start_router(&lab);
    for application in applications {
        start_target(&lab, application);
    }
    lab
}

/// Starts the router and waits until its port is offered.
pub(crate) fn start_router(lab: &Lab) {
    start_router_on(lab, "rt1");
    lab.wait_for_targets(80, &["rt1"]).unwrap_or_else(|e| panic!("{e}"));
}

/// Starts the router on this routing node.
pub(crate) fn start_router_on(lab: &Lab, stack: &str) {
    let (v4, v6) = (DVIPA.0.to_string(), DVIPA.1.to_string());
    let rules = ["images=host:images", "images=path:/images/", "images=cookie:kind=image", "files"];
    let words = [&["http", "router", "80", &v4, &v6, "--"], &rules[..]].concat();
    let name = if stack == "rt1" { "router".to_owned() } else { format!("router-{stack}") };
    lab.start_application(stack, &name, &words).expect("the router starts");
}

/// Starts a target application, `JOB@STACK`, and waits until connections can be transferred to its stack.
pub(crate) fn start_target(lab: &Lab, application: &str) {
    let (v4, v6) = (DVIPA.0.to_string(), DVIPA.1.to_string());
    let (job, stack) = application.split_once('@').expect("JOB@STACK");
    let words = ["http", "target", job, "80", &v4, &v6];
    lab.start_application(stack, application, &words).expect("the target starts");
    wait_for_state(lab, stack, "transfer-only");
}

pub(crate) fn wait_for_state(lab: &Lab, stack: &str, wanted: &str) {
    lab.wait_for(&format!("{stack} to be {wanted}"), SOON, || {
        let rows = lab.dpt().map_err(|e| e.to_string())?;
        let targets = rows.iter().filter(|row| row.port == 80).flat_map(|row| &row.targets);
        let states: Vec<_> = targets.filter(|t| t.target == stack).map(|t| t.state.as_str()).collect();
        let good = !states.is_empty() && states.iter().all(|state| *state == wanted);
        if good { Ok(()) } else { Err(format!("{states:?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

pub(crate) fn url(dvipa: IpAddr, path: &str) -> String {
    format!("http://{}{path}", SocketAddr::new(dvipa, 80))
}

/// What curl prints: the body, and the status in a line of its own.
pub(crate) fn curl(lab: &Lab, words: &[&str]) -> String {
    let words = [&["curl", "-sS", "--max-time", "20", "-w", "%{http_code}\\n"], words].concat();
    lab.client().run(&words).unwrap_or_else(|e| panic!("{e}"))
}

/// Downloads with curl and checks every byte.
fn download(lab: &Lab, dvipa: IpAddr, via: &str) {
    let wanted = lab.example("http").expect("it is built");
    let script = format!(
        "curl -sS --max-time 60 '{}' | sha256sum; {} content {DOWNLOAD_BYTES} | sha256sum",
        url(dvipa, &format!("/download/{DOWNLOAD_BYTES}{via}")),
        wanted.display(),
    );
    let sums = lab.client().sh(&script).unwrap_or_else(|e| panic!("{e}"));
    let (got, wanted) = sums.trim().split_once('\n').expect("two sums");
    assert_eq!(got, wanted, "every byte of the download, in order");
}

/// What is captured of port 80 at the client.
pub(crate) struct Watch(Capture);

impl Watch {
    pub(crate) fn begin(lab: &Lab) -> Self {
        Self(lab.capture("client", "eth0", "tcp port 80").expect("a capture"))
    }

    pub(crate) fn end(self) -> Captured {
        self.0.stop().expect("the capture ends")
    }
}

/// One connection, opened once, and neither side reset it.
pub(crate) fn assert_one_calm_connection(at_client: &Captured) {
    let lines = at_client.packets("tcp port 80").expect("it is read");
    let with = |flags: &str| lines.iter().filter(|l| l.contains(flags)).count();
    assert_eq!(with("Flags [S]"), 1, "one SYN: {lines:#?}");
    assert_eq!(with("Flags [R"), 0, "no RST: {:#?}", lines.iter().rev().take(20).collect::<Vec<_>>());
}

/// The lines that a program of the lab has written that contain these words.
fn said(lab: &Lab, program: &str, words: &str) -> Vec<String> {
    let log = std::fs::read_to_string(lab.files().join(format!("{program}.log"))).unwrap_or_default();
    log.lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
}

/// C1: the port is offered exactly as long as its routing application is registered.
#[test]
#[ignore = "needs root"]
fn a_content_routed_port_is_offered_while_its_routing_application_is_there() {
    let lab = crate::fixture::lab(Spec::content_routed());
    let listens = lab::Server::tcp(lab.host("rt1"), dvipa4(80), "no router").expect("it listens");
    wait_for_state_of_v4(&lab, "no-routing-application");
    HttpConnection::open(lab.client(), web4()).expect_err("a listener alone is not offered");
    drop(listens);
    start_router(&lab);
    assert_eq!(curl(&lab, &[&url(DVIPA.0.into(), "/")]), "503\n", "the router answers");
    assert_eq!(curl(&lab, &[&url(DVIPA.1.into(), "/")]), "503\n", "the router answers");
    lab.kill("router").expect("the router is killed");
    lab.wait_for_targets(80, &[]).unwrap_or_else(|e| panic!("{e}"));
}

fn wait_for_state_of_v4(lab: &Lab, wanted: &str) {
    lab.wait_for(&format!("rt1 to be {wanted}"), SOON, || {
        let rows = lab.dpt().map_err(|e| e.to_string())?;
        let row = rows.iter().find(|row| row.port == 80 && row.dvipa == DVIPA.0.to_string());
        let state = row.and_then(|r| r.targets.iter().find(|t| t.target == "rt1")).map(|t| t.state.as_str());
        if state == Some(wanted) { Ok(()) } else { Err(format!("{rows:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// C2, C3, C7, C8: host, path and cookie of the first request decide; who is a target changes while the router runs.
#[test]
#[ignore = "needs root"]
fn the_first_request_decides_where_its_connection_goes() {
    let lab = routed(&["files@t1", "images@t2"]);
    for dvipa in [DVIPA.0.into(), DVIPA.1.into()] {
        let (page, image) = (url(dvipa, "/page"), url(dvipa, "/images/1.png"));
        assert_eq!(curl(&lab, &[&page]), "files@t1 has /page\n200\n");
        assert_eq!(curl(&lab, &[&image]), "images@t2 has /images/1.png\n200\n");
        assert_eq!(curl(&lab, &["-H", "Host: images", &page]), "images@t2 has /page\n200\n");
        assert_eq!(curl(&lab, &["-b", "kind=image", &page]), "images@t2 has /page\n200\n");
        assert_eq!(curl(&lab, &[&page, &page]), "files@t1 has /page\n200\n".repeat(2), "and stays there");
    }
    lab.kill("files@t1").expect("it is killed");
    wait_for_state(&lab, "t1", "not-listening");
    assert_eq!(curl(&lab, &[&url(DVIPA.0.into(), "/page")]), "503\n");
    start_target(&lab, "files@t3");
    assert_eq!(curl(&lab, &[&url(DVIPA.0.into(), "/page")]), "files@t3 has /page\n200\n");
}

/// C5, C6, C8, F2: after the move the answer goes from the target straight to the client, whole, on the one connection that
/// the client opened, and nothing of it passes the routing node.
#[test]
#[ignore = "needs root"]
fn the_answer_goes_straight_from_the_target() {
    let lab = routed(&["files@t1"]);
    for dvipa in [DVIPA.0.into(), DVIPA.1.into()] {
        let at_client = Watch::begin(&lab);
        download(&lab, dvipa, "");
        let at_client = at_client.end();
        assert_one_calm_connection(&at_client);
        // At the client, because what DPDK sends is not seen by a capture on the same interface.
        let from = |number| at_client.packets(&format!("src port 80 and ether src {}", mac(number)));
        let of_router = from(10).expect("it is read");
        assert!(of_router.len() < 10, "the handshake: {of_router:#?}");
        assert!(of_router.iter().any(|l| l.contains("Flags [S.]")), "the router accepted: {of_router:#?}");
        assert!(of_router.iter().all(|l| l.contains("length 0")), "no byte of the answer: {of_router:#?}");
        let of_target = from(spec::target(1)).expect("it is read");
        assert!(of_target.iter().all(|l| !l.contains("Flags [S")), "the target opened nothing");
        assert!(of_target.len() > 1000, "the answer: {of_target:#?}");
    }
}

/// C5, C11: a connection moves to a second and a third target and back to the first while its client downloads.
#[test]
#[ignore = "needs root"]
fn a_connection_moves_on_and_back_in_the_middle_of_a_download() {
    let lab = routed(&["files@t1", "more@t2", "rest@t3"]);
    for dvipa in [DVIPA.0.into(), DVIPA.1.into()] {
        let at_client = Watch::begin(&lab);
        download(&lab, dvipa, "?via=more@t2,rest@t3,files@t1");
        assert_one_calm_connection(&at_client.end());
    }
    for (program, shares) in [("files@t1", 4), ("more@t2", 2), ("rest@t3", 2)] {
        let sent = said(&lab, program, " has carried ");
        assert_eq!(sent.len(), shares, "{program} carried its shares: {sent:#?}");
    }
}

/// C5, C6, C11: the same while its client uploads: what has come and is not read moves too.
#[test]
#[ignore = "needs root"]
fn a_connection_moves_on_and_back_in_the_middle_of_an_upload() {
    let lab = routed(&["files@t1", "more@t2", "rest@t3"]);
    let (example, file) = (lab.example("http").expect("it is built"), lab.files().join("upload"));
    let make = format!("{} content {DOWNLOAD_BYTES} >{}", example.display(), file.display());
    lab.client().sh(&make).expect("the file is made");
    let sum =
        std::fs::read(&file).expect("it is read").iter().fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let file = file.to_string_lossy();
    for dvipa in [DVIPA.0.into(), DVIPA.1.into()] {
        let at_client = Watch::begin(&lab);
        let url = url(dvipa, "/upload?via=more@t2,rest@t3,files@t1");
        let said = curl(&lab, &["-H", "Expect:", "-T", &file, &url]);
        assert_eq!(said, format!("{DOWNLOAD_BYTES} bytes, {sum:016x}\n200\n"));
        assert_one_calm_connection(&at_client.end());
    }
    // A burst may leave more unread than a transfer takes: then it is refused, and the upload goes on where it is.
    let moved = lab.transfers().expect("baton stats answers");
    assert_eq!((moved["begun"], moved["restored"] + moved["not_dumped_now"]), (8, 8), "{moved:?}");
    assert!(moved["restored"] >= 4, "{moved:?}");
}

/// C10: a connection is given to a target that is not asked and takes it when it likes, in the middle of a download.
#[test]
#[ignore = "needs root"]
fn a_connection_is_given_and_taken() {
    let lab = routed(&["files@t1", "taken@t2"]);
    for dvipa in [DVIPA.0.into(), DVIPA.1.into()] {
        download(&lab, dvipa, "?via=taken@t2,files@t1");
    }
    assert_eq!(said(&lab, "taken@t2", " has carried ").len(), 2, "it carried its shares");
}

/// C9: a connection that its target rejects goes on at the router, which answers the client itself.
#[test]
#[ignore = "needs root"]
fn a_rejected_connection_goes_on_at_the_router() {
    let lab = crate::fixture::lab(Spec::content_routed());
    let (v4, v6) = (DVIPA.0.to_string(), DVIPA.1.to_string());
    let words = ["http", "router", "80", &v4, &v6, "--", "files=path:/files", "reject"];
    lab.start_application("rt1", "router", &words).expect("the router starts");
    lab.wait_for_targets(80, &["rt1"]).unwrap_or_else(|e| panic!("{e}"));
    start_target(&lab, "reject@t1");
    let at_client = Watch::begin(&lab);
    assert_eq!(curl(&lab, &[&url(DVIPA.0.into(), "/")]), "503\n");
    assert_one_calm_connection(&at_client.end());
    assert_eq!(said(&lab, "router", "rejects everything").len(), 1, "the router was told why");
    let moved = lab.transfers().expect("baton stats answers");
    assert_eq!((moved["rejected"], moved["restored"], moved["injected"]), (1, 0, 0), "{moved:?}");
    let still = lab.crt(&["--stack", "t1"]).expect("baton crt answers");
    assert_eq!(still.len(), 0, "the target has nothing of it: {still:#?}");
}

/// C9: an upload that no target takes is answered by the router, and its client, which is still sending, reads the answer.
#[test]
#[ignore = "needs root"]
fn an_upload_that_nobody_takes_is_answered_and_not_reset() {
    let lab = routed(&[]);
    let file = lab.files().join("upload");
    lab.client().sh(&format!("head -c 20000000 /dev/zero >{}", file.display())).expect("it is made");
    let at_client = Watch::begin(&lab);
    let file = file.display().to_string();
    let words = ["-H", "Expect:", "-o", "/dev/null", "-T", &file, &url(DVIPA.0.into(), "/upload")];
    assert_eq!(curl(&lab, &words), "503\n");
    let reset = at_client.end().packets("tcp port 80 and tcp[tcpflags] & tcp-rst != 0 and src port 80");
    assert_eq!(reset.expect("it is read"), [] as [&str; 0]);
}

/// C4: a transfer to a target that there is not is refused, and the connection goes on where it is.
#[test]
#[ignore = "needs root"]
fn an_unknown_target_is_refused_and_the_connection_goes_on() {
    let lab = routed(&["files@t1"]);
    download(&lab, DVIPA.0.into(), "?via=files@t9,nothing@t2");
    let refused = said(&lab, "files@t1", "There is no such target now");
    assert_eq!(refused.len(), 2, "both were refused: {refused:#?}");
    assert_eq!(said(&lab, "files@t1", " has carried ").len(), 3, "it went on itself");
}

/// C12: a target that holds accepts back gets no new connections, though a server listens on its stack.
#[test]
#[ignore = "needs root"]
fn a_target_may_hold_accepts_back() {
    let lab = crate::fixture::lab(Spec::default());
    let (v4, v6) = (DVIPA.0.to_string(), DVIPA.1.to_string());
    let words = ["http", "target", "--hold-accepts", "files", "80", &v4, &v6];
    lab.start_application("t2", "files", &words).expect("the target starts");
    lab.wait_for_targets(80, &["t1", "t3"]).unwrap_or_else(|e| panic!("{e}"));
    let answers = ask_often(lab.client(), web4(), 6).into_iter().collect::<Vec<_>>();
    assert_eq!(answers, [("t1".into(), 3), ("t3".into(), 3)]);
    // What is transferred to it, it takes.
    let (mut connection, first) = crate::fixture::connect(&lab, web4());
    crate::fixture::established(&lab, &connection);
    let (client, dvipa) = (connection.local().to_string(), web4().to_string());
    lab.baton(&["move", &client, &dvipa, "files@t2"]).unwrap_or_else(|e| panic!("from {first}: {e}"));
    connection.get("/").unwrap_or_else(|e| panic!("the target answers: {e}"));
    assert_eq!(crate::fixture::established(&lab, &connection).stack, "t2");
    lab.kill("files").expect("it is killed");
    lab.wait_for_targets(80, &["t1", "t2", "t3"]).unwrap_or_else(|e| panic!("{e}"));
}

/// C11: an idle connection moves from one unmodified server to another, on the operator's order, though its client says
/// nothing; `baton move` says what became of it.
#[test]
#[ignore = "needs root"]
fn an_idle_connection_moves_between_unmodified_servers() {
    let lab = crate::fixture::lab(Spec::default());
    for to in [web4(), crate::fixture::web6()] {
        let at_client = Watch::begin(&lab);
        let (mut connection, first) = crate::fixture::connect(&lab, to);
        crate::fixture::established(&lab, &connection);
        let (client, dvipa) = (connection.local().to_string(), to.to_string());
        let others = ["t1", "t2", "t3"].into_iter().filter(|t| *t != first);
        for target in others.chain([first.as_str()]) {
            let said = lab.baton(&["move", &client, &dvipa, target]).unwrap_or_else(|e| panic!("{e}"));
            assert!(
                said.contains(&format!(" to {target}: put into the server by its kernel (inject)")),
                "{said}"
            );
            assert_eq!(connection.target().expect("it is answered"), target);
        }
        let refused = lab.baton(&["move", &client, &dvipa, &first]).unwrap_err().to_string();
        assert!(refused.contains("on the chosen stack already"), "{refused}");
        drop(connection);
        assert_one_calm_connection(&at_client.end());
    }
}
