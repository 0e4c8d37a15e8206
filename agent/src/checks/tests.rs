use std::convert::Infallible;
use std::future::ready;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

fn check(asks: Asks) -> Check {
    Check {
        protocol: Protocol::Tcp,
        ports: vec![80],
        dvipas: None,
        asks,
        interval: Duration::from_secs(2),
        timeout: Duration::from_millis(500),
        rise: 2,
        fall: 3,
    }
}

fn dvipa(text: &str) -> Dvipa {
    Dvipa::new(text.parse().unwrap())
}

fn served(port: u16) -> Served {
    (Protocol::Tcp, port)
}

fn here(listeners: &[(&str, u16, &str)]) -> BTreeMap<(Dvipa, Served), SocketAddr> {
    let one = |(of, port, at): &(&str, u16, &str)| ((dvipa(of), served(*port)), at.parse().unwrap());
    listeners.iter().map(one).collect()
}

fn nowhere(_: Dvipa, _: Served) -> Option<SocketAddr> {
    None
}

/// Answers in a row of one listener, and whether it fails after each.
fn after(outcomes: &[bool]) -> Vec<bool> {
    let (mut checks, mut now) = (Checks::new(vec![check(Asks::Tcp)]), Instant::now());
    let listeners = here(&[("198.18.9.1", 80, "127.0.0.1:80")]);
    let fails = |is_well: &bool| {
        let probes = checks.due(&listeners, nowhere, now);
        now += Duration::from_secs(2);
        let outcome = if *is_well { Ok(()) } else { Err("503".to_owned()) };
        checks.answered(probes[0].says(outcome));
        !checks.failing().is_empty()
    };
    outcomes.iter().map(fails).collect()
}

#[test]
fn the_first_answer_decides_and_later_ones_count_in_a_row() {
    assert_eq!(after(&[true, false, false, true]), [false; 4]);
    assert_eq!(after(&[true, false, false, false]), [false, false, false, true]);
    assert_eq!(after(&[false, true, false, true, true]), [true, true, true, true, false]);
}

#[test]
fn one_listener_of_many_dvipas_is_asked_once_an_interval_and_all_of_them_fail() {
    let (mut checks, now) = (Checks::new(vec![check(Asks::Tcp)]), Instant::now());
    let at = "127.0.0.1:80";
    let listeners =
        here(&[("198.18.9.1", 80, at), ("198.18.9.2", 80, at), ("198.18.9.1", 81, "127.0.0.1:81")]);
    let probes = checks.due(&listeners, nowhere, now);
    assert_eq!(probes.iter().map(|p| p.at.to_string()).collect::<Vec<_>>(), [at]);
    assert!(checks.due(&listeners, nowhere, now + Duration::from_secs(1)).is_empty());
    assert_eq!(checks.due(&listeners, nowhere, now + Duration::from_secs(2)).len(), 1);
    checks.answered(probes[0].says(Err("refused".to_owned())));
    let failing = checks.failing();
    let why: Vec<_> = failing.iter().map(|((dvipa, _), why)| format!("{dvipa} {why}")).collect();
    assert_eq!(why, ["198.18.9.1 tcp: refused", "198.18.9.2 tcp: refused"]);
}

#[test]
fn a_server_that_is_gone_is_forgotten() {
    let (mut checks, now) = (Checks::new(vec![check(Asks::Tcp)]), Instant::now());
    let listeners = here(&[("198.18.9.1", 80, "127.0.0.1:80")]);
    let probe = checks.due(&listeners, nowhere, now).remove(0);
    checks.answered(probe.says(Err("refused".to_owned())));
    assert_eq!(checks.views()[0].outcome, Some(Err("tcp: refused".to_owned())));
    assert!(checks.due(&BTreeMap::new(), nowhere, now).is_empty() && checks.failing().is_empty());
    assert_eq!(checks.due(&listeners, nowhere, now).len(), 1, "at once");
    checks.answered(probe.says(Err("what the former one was asked".to_owned())));
    assert_eq!(checks.views()[0].outcome, None);
}

#[test]
fn where_more_are_due_than_can_be_asked_at_once_each_has_its_turn() {
    let (mut checks, mut now) = (Checks::new(vec![check(Asks::Tcp)]), Instant::now());
    let many = AT_ONCE + 44;
    let at: Vec<String> = (0..many).map(|n| format!("198.18.{}.{}:80", 10 + n / 200, n % 200 + 1)).collect();
    let all: Vec<(&str, u16, &str)> = at.iter().map(|at| (&at[..at.len() - 3], 80, at.as_str())).collect();
    let (listeners, mut asked) = (here(&all), std::collections::BTreeSet::new());
    for _ in 0..2 {
        asked.extend(checks.due(&listeners, nowhere, now).into_iter().map(|probe| probe.at));
        now += Duration::from_secs(2);
    }
    assert_eq!(asked.len(), many);
}

#[test]
fn all_checks_of_a_service_have_to_pass_and_a_container_is_asked_itself() {
    let ours = Some(vec!["198.18.9.0/24".parse().unwrap()]);
    let script = Check { dvipas: ours, ..check(Asks::Script { command: vec!["true".to_owned()] }) };
    let (mut checks, now) = (Checks::new(vec![check(Asks::Tcp), script]), Instant::now());
    let listeners = here(&[("198.18.9.1", 80, "127.0.0.1:80"), ("198.18.8.1", 80, "198.18.8.1:80")]);
    let container =
        |of: Dvipa, _: Served| (of == dvipa("198.18.9.1")).then_some("172.17.0.2:8080".parse().unwrap());
    let probes = checks.due(&listeners, container, now);
    let asked: Vec<_> = probes.iter().map(|p| (p.subject.0, p.at.to_string(), p.elsewhere)).collect();
    let at = |of: &str| of.to_owned();
    assert_eq!(
        asked,
        [(0, at("172.17.0.2:8080"), true), (0, at("198.18.8.1:80"), false), (1, at("172.17.0.2:8080"), true)]
    );
    let fails = probes[2].says(Err("exit status: 1".to_owned()));
    assert_eq!(fails.reached(&checks), None);
    checks.answered(fails);
    checks.answered(probes[0].says(Ok(())));
    assert_eq!(checks.failing().into_values().collect::<Vec<_>>(), ["true: exit status: 1"]);
}

/// What a real server answers.
fn probed(asks: Asks, answers: &'static [u8]) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut request = vec![0; 4096];
        if !answers.is_empty() {
            let read = client.read(&mut request).unwrap();
            request.truncate(read);
            client.write_all(answers).unwrap();
        }
        String::from_utf8_lossy(&request).into_owned()
    });
    let outcome = ask(asks, at);
    let request = server.join().unwrap();
    assert!(answers.is_empty() || request.starts_with("GET /healthz?deep=1 HTTP/1.1\r\n"), "{request}");
    outcome
}

fn ask(asks: Asks, at: SocketAddr) -> Result<(), String> {
    // Binding to `lo` needs the right to on older kernels.
    let timeout = Duration::from_millis(500);
    let probe = Probe { subject: (0, at), number: 1, asks, at, elsewhere: true, timeout };
    runtime().block_on(probe.ask()).outcome
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn the_status_of_http_is_judged() {
    let asks = |status: Option<&[u16]>| Asks::Http {
        path: "/healthz?deep=1".to_owned(),
        host: Some("shop.example".to_owned()),
        status: status.map(<[u16]>::to_vec),
    };
    let well = b"HTTP/1.1 204 No Content\r\n\r\n";
    assert_eq!(probed(asks(None), well), Ok(()));
    assert_eq!(probed(asks(Some(&[200])), well), Err("204".to_owned()));
    assert_eq!(
        probed(asks(None), b"HTTP/1.0 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"),
        Err("503".to_owned())
    );
    assert!(probed(asks(None), b"220 mail.example ESMTP\r\n").is_err());
    assert_eq!(probed(Asks::Tcp, b""), Ok(()));
}

#[test]
fn one_that_does_not_answer_fails_when_the_time_is_over() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let asks = Asks::Http { path: "/".to_owned(), host: None, status: None };
    assert_eq!(ask(asks, at), Err("no answer within 500 ms".to_owned()));
    drop(listener);
    assert!(ask(Asks::Tcp, at).unwrap_err().contains("refused"));
}

#[test]
fn a_script_says_it_by_its_status_and_does_not_outlive_its_time() {
    let at = "127.0.0.1:80".parse().unwrap();
    let script =
        |text: &str| ask(Asks::Script { command: ["sh", "-c", text].map(str::to_owned).to_vec() }, at);
    assert_eq!(script("test $BATON_ADDRESS:$BATON_PORT:$BATON_FAMILY = 127.0.0.1:80:4"), Ok(()));
    assert_eq!(script("exit 3"), Err("exit status: 3".to_owned()));
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display();
    assert_eq!(
        script(&format!("sleep 60 & echo $! >> {path}; echo $$ >> {path}; wait")),
        Err("no answer within 500 ms".to_owned())
    );
    let pids = std::fs::read_to_string(file.path()).unwrap();
    assert_eq!(pids.lines().count(), 2);
    for pid in pids.lines() {
        // What it has started is killed with it, and ends a moment later.
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let lives = || Some(state()).filter(|state| !state.is_empty() && !state.contains(") Z "));
        let ended = (0..1000).any(|_| {
            thread::sleep(Duration::from_millis(10));
            lives().is_none()
        });
        assert!(ended, "{}", state());
    }
    let missing = Asks::Script { command: vec!["/nonexistent".to_owned()] };
    assert!(ask(missing, at).unwrap_err().contains("No such file"));
}

#[test]
fn a_grpc_server_says_it_in_its_own_protocol() {
    assert_eq!(grpc("0", &[0, 0, 0, 0, 2, 8, 1]), Ok(()));
    assert_eq!(grpc("0", &[0, 0, 0, 0, 2, 8, 2]), Err("not serving".to_owned()));
    assert_eq!(grpc("5", &[]), Err("status 5".to_owned()));
    assert!(probed(Asks::Grpc { service: String::new() }, b"").is_err(), "it speaks no HTTP/2");
}

/// What a server answers that says this.
fn grpc(status: &'static str, body: &'static [u8]) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let server = async move {
        listener.set_nonblocking(true).unwrap();
        let (client, _) = tokio::net::TcpListener::from_std(listener).unwrap().accept().await.unwrap();
        let answer = move |request: Request<Incoming>| async move {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            let asked = request.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(asked, b"\0\0\0\0\x06\x0a\x04shop"[..]);
            let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())]);
            let body = Full::new(Bytes::from_static(body)).with_trailers(ready(Some(Ok(trailers))));
            Ok::<_, Infallible>(Response::new(body))
        };
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        // The client leaves when it has its answer.
        let _ = server.serve_connection(TokioIo::new(client), service_fn(answer)).await;
    };
    thread::spawn(|| runtime().block_on(server));
    ask(Asks::Grpc { service: "shop".to_owned() }, at)
}
