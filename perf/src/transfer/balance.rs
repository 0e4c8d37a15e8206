//! How long clients wait where one of three servers has a third of the others' speed, by method, beside HAProxy.
//!
//! Each server has four places and serves whoever is first; a request takes as long as it says, three times as long at the slow server.
//! Costs are heavy-tailed (Pareto, 1.4, of 6 ms to 1 s), and requests come as a Poisson process at six tenths of what all can serve
//! together, a connection each, whether or not those before were answered. A request's time counts from when it was to come, so that
//! a client that comes late is none that waits less. No processor is busy with a request: it is the queues that are compared.
//!
//! Every method gets the same requests at the same times, one method after the other, in rounds. HAProxy is a proxy in front of the same
//! servers, with one thread.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use lab::spec::{self, DVIPA, PROXY, Spec};
use lab::{Lab, Namespace};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, sleep_until};

use super::inhabitant::{self, Inhabitant};
use super::samples::Samples;
use super::{Failure, Size, http};
use crate::rows::Rows;

/// How targets are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    RoundRobin,
    LeastConnections,
    PowerOfTwo,
    HaproxyRandom2,
    HaproxyLeastconn,
}

impl By {
    const ALL: [Self; 5] = [
        Self::RoundRobin,
        Self::LeastConnections,
        Self::PowerOfTwo,
        Self::HaproxyRandom2,
        Self::HaproxyLeastconn,
    ];

    fn port(self) -> u16 {
        80 + self as u16
    }

    /// The method of a port of baton, or the algorithm of HAProxy.
    fn word(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::LeastConnections => "least-connections",
            Self::PowerOfTwo => "power-of-two",
            Self::HaproxyRandom2 => "random(2)",
            Self::HaproxyLeastconn => "leastconn",
        }
    }

    fn is_haproxy(self) -> bool {
        matches!(self, Self::HaproxyRandom2 | Self::HaproxyLeastconn)
    }

    fn address(self) -> SocketAddr {
        let host = if self.is_haproxy() { spec::PROXY_ADDRESS.0 } else { DVIPA.0 };
        (host, self.port()).into()
    }
}

/// The median and the 99th percentile in those of HAProxy's leastconn, and of power of two choices in those of round robin.
pub(super) const ROWS: [&str; 10] = [
    "balance_round_robin_p50_ratio_haproxy",
    "balance_round_robin_p99_ratio_haproxy",
    "balance_least_connections_p50_ratio_haproxy",
    "balance_least_connections_p99_ratio_haproxy",
    "balance_power_of_two_p50_ratio_haproxy",
    "balance_power_of_two_p99_ratio_haproxy",
    "balance_haproxy_random2_p50_ratio_haproxy",
    "balance_haproxy_random2_p99_ratio_haproxy",
    "balance_power_of_two_p50_ratio_round_robin",
    "balance_power_of_two_p99_ratio_round_robin",
];

/// Where the servers listen for HAProxy.
const DIRECT: u16 = 8080;
/// The servers' places.
const PLACES: usize = 4;
/// How much longer a request takes at the slow server, t1.
const SLOWER: u32 = 3;
/// The part of what all servers can do together that is asked of them.
const USED: f64 = 0.6;
const LEAST_MS: f64 = 6.0;
const MOST_MS: f64 = 1000.0;
const SHAPE: f64 = 1.4;
const ROUNDS: u64 = 3;
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn measure(rows: &mut Rows, size: Size) -> Result<(), Failure> {
    let bed = Bed::start()?;
    let (rounds, seconds) = if size == Size::Full { (ROUNDS, 20.0) } else { (1, 1.0) };
    let mut seen: [Seen; By::ALL.len()] = Default::default();
    for round in 0..rounds {
        let requests = requests(round, seconds);
        for (by, seen) in By::ALL.into_iter().zip(&mut seen) {
            let answers = bed.lab.client().enter(|| run(by.address(), &requests));
            let answers = answers.map_err(|e| format!("{} did not serve: {e}", by.word()))?;
            for (time, is_slow) in answers {
                seen.times.add(time);
                seen.slow += usize::from(is_slow);
            }
        }
    }
    let ms = |seen: &Seen, percent| seen.times.percentile_us(percent) / 1000.0;
    let [round_robin, .., leastconn] = &seen;
    let percents = [50, 99];
    let mut names = ROWS.iter();
    let ratio = |(by, of): (By, &Seen), percent: usize, (other, than): (By, &Seen)| {
        let (value, reference) = (ms(of, percent), ms(than, percent));
        let slow = of.slow as f64 * 100.0 / of.times.len().max(1) as f64;
        let note = format!(
            "{value:.0} ms, {} {reference:.0}; the slow server got {slow:.1} %, its part is {:.1} %; {} requests by {}",
            other.word(),
            100.0 / (1.0 + 2.0 * f64::from(SLOWER)),
            of.times.len(),
            by.word(),
        );
        (value / reference, note)
    };
    let to_haproxy = By::ALL.into_iter().zip(&seen).take(By::ALL.len() - 1);
    let to_haproxy = to_haproxy.map(|one| (one, (By::HaproxyLeastconn, leastconn)));
    let two = By::ALL.into_iter().zip(&seen).find(|(by, _)| *by == By::PowerOfTwo);
    let to_round_robin = two.map(|two| (two, (By::RoundRobin, round_robin)));
    for (one, other) in to_haproxy.chain(to_round_robin) {
        for (percent, name) in percents.into_iter().zip(names.by_ref()) {
            let (value, note) = ratio(one, percent, other);
            rows.add(name, "x", value, note);
        }
    }
    Ok(())
}

/// What clients saw of one method.
#[derive(Debug, Default)]
struct Seen {
    times: Samples,
    /// Requests that the slow server answered.
    slow: usize,
}

/// A request: when it comes, after the beginning, and how long it takes.
#[derive(Clone, Copy, Debug)]
struct Request {
    at: Duration,
    takes: Duration,
}

/// Those of some seconds.
fn requests(seed: u64, seconds: f64) -> Vec<Request> {
    let mut random = fastrand::Rng::with_seed(seed);
    // What a Pareto distribution has on average that is cut off.
    let part = (LEAST_MS / MOST_MS).powf(SHAPE - 1.0);
    let mean_ms = LEAST_MS * (SHAPE - part) / (SHAPE - 1.0);
    let servers = 2.0 + 1.0 / f64::from(SLOWER);
    let a_second = USED * servers * PLACES as f64 * 1000.0 / mean_ms;
    let mut at = 0.0;
    let mut all = Vec::new();
    while at < seconds {
        at += -(1.0 - random.f64()).ln() / a_second;
        let takes_ms = (LEAST_MS * (1.0 - random.f64()).powf(-1.0 / SHAPE)).min(MOST_MS);
        all.push(Request {
            at: Duration::from_secs_f64(at),
            takes: Duration::from_secs_f64(takes_ms / 1000.0),
        });
    }
    all
}

/// Sends all of them when their time has come; how long each took, and whether the slow server answered it.
fn run(to: SocketAddr, requests: &[Request]) -> Result<Vec<(Duration, bool)>, Failure> {
    inhabitant::run(async {
        let begun = Instant::now();
        let mut all = JoinSet::new();
        for request in requests {
            let (due, takes) = (begun + request.at, request.takes);
            sleep_until(due).await;
            all.spawn_local(async move {
                let answer = tokio::time::timeout(PATIENCE, ask(to, takes)).await?;
                Ok::<_, io::Error>((due.elapsed(), answer?.ends_with("t1")))
            });
        }
        let mut seen = Vec::new();
        while let Some(one) = all.join_next().await {
            seen.push(one??);
        }
        Ok(seen)
    })
}

/// Requests one answer over a connection of its own.
async fn ask(to: SocketAddr, takes: Duration) -> io::Result<String> {
    let mut stream = http::connect(to).await?;
    let request = format!("GET /{} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n", takes.as_micros());
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    if answer.contains(" 200 ") {
        Ok(answer)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, answer))
    }
}

/// The cluster, with HAProxy on a host of its own.
struct Bed {
    // Dropped before the lab.
    _servers: Vec<Inhabitant>,
    lab: Lab,
}

impl Bed {
    fn start() -> Result<Self, Failure> {
        let of_baton = By::ALL.into_iter().filter(|by| !by.is_haproxy());
        let rows: Vec<String> = of_baton
            .map(|by| format!("ports = [{}]\ndestip = \"all\"\nmethod = \"{}\"", by.port(), by.word()))
            .collect();
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let spec = Spec { proxy: true, ..Spec::default().web([]) };
        let lab = Lab::start(spec.vipadynamic(spec::ipv4_only(&rows)))?;
        for address in http::CLIENTS {
            lab.client().sh(&format!("ip addr add {address}/24 dev eth0"))?;
        }
        let names = ["t1", "t2", "t3"];
        let mut servers = Vec::new();
        for name in names {
            servers.push(serve_on(lab.host(name), name)?);
        }
        for by in By::ALL.into_iter().filter(|by| !by.is_haproxy()) {
            lab.wait_for_targets(by.port(), &names)?;
        }
        start_haproxy(&lab)?;
        let bed = Self { _servers: servers, lab };
        for by in By::ALL {
            // Whatever is opened once is opened.
            bed.lab.client().enter(|| run(by.address(), &requests(u64::MAX, 0.2)))?;
        }
        Ok(bed)
    }
}

/// Starts a server in a host.
fn serve_on(host: &Namespace, name: &'static str) -> Result<Inhabitant, Failure> {
    let (ready, listens) = mpsc::channel();
    let server = Inhabitant::start(host, move || async move {
        let places = Rc::new(RefCell::new([Instant::now(); PLACES]));
        for port in (80..80 + By::ALL.len() as u16).chain([DIRECT]) {
            let listener = TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).await?;
            spawn_local(serve_all(listener, name, Rc::clone(&places)));
        }
        ready.send(())?;
        std::future::pending().await
    });
    listens.recv().map_err(|_| format!("no server on {name}"))?;
    Ok(server)
}

async fn serve_all(listener: TcpListener, name: &'static str, places: Rc<RefCell<[Instant; PLACES]>>) {
    while let Ok((client, _)) = listener.accept().await {
        let places = Rc::clone(&places);
        spawn_local(async move {
            // It may end at any time.
            let _ = serve(client, name, &places).await;
        });
    }
}

/// Answers requests, each when the place that is free first has served it.
async fn serve(mut client: TcpStream, name: &str, places: &RefCell<[Instant; PLACES]>) -> io::Result<()> {
    let mut ahead = Vec::new();
    while let Some(head) = http::read_head(&mut client, &mut ahead).await? {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let takes = Duration::from_micros(path.trim_start_matches('/').parse().unwrap_or(0));
        let takes = if name == "t1" { takes * SLOWER } else { takes };
        let served = {
            let mut places = places.borrow_mut();
            let [first, ..] = &mut *places;
            *first = Instant::now().max(*first) + takes;
            let served = *first;
            places.sort();
            served
        };
        sleep_until(served).await;
        let is_last = head.to_ascii_lowercase().contains("connection: close");
        let connection = if is_last { "close" } else { "keep-alive" };
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n{name}",
            name.len()
        );
        client.write_all(answer.as_bytes()).await?;
        if is_last {
            return Ok(());
        }
    }
    Ok(())
}

/// Starts HAProxy with a port for each of its algorithms, and no limit of its own.
fn start_haproxy(lab: &Lab) -> Result<(), Failure> {
    let servers: String =
        (1..=3).map(|n| format!("    server t{n} {}:{DIRECT}\n", spec::host(spec::target(n)).0)).collect();
    let of = |by: By| format!("listen p{0}\n    bind :{0}\n    balance {1}\n{servers}", by.port(), by.word());
    let listens: String = By::ALL.into_iter().filter(|by| by.is_haproxy()).map(of).collect();
    let text = format!(
        "global\n    nbthread 1\n    maxconn 4096\ndefaults\n    mode http\n    timeout connect 5s\n    timeout client 120s\n    timeout server 120s\n{listens}"
    );
    let file = lab.files().join("haproxy.cfg");
    fs::write(&file, text)?;
    lab.start_on(PROXY, "haproxy", &["haproxy", "-db", "-f", &file.to_string_lossy()])?;
    for by in By::ALL.into_iter().filter(|by| by.is_haproxy()) {
        lab.wait_for(&format!("HAProxy on port {}", by.port()), Duration::from_secs(10), || {
            let listens =
                lab.host(PROXY).sh(&format!("ss -Hltn sport = :{}", by.port())).map_err(|e| e.to_string())?;
            if listens.is_empty() { Err("nobody listens".to_owned()) } else { Ok(()) }
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_as_often_and_take_as_long_as_they_are_meant_to() {
        let all = requests(1, 200.0);
        let takes: f64 = all.iter().map(|request| request.takes.as_secs_f64()).sum();
        let places = (2.0 + 1.0 / f64::from(SLOWER)) * PLACES as f64;
        let used = takes / 200.0 / places;
        assert!((USED * 0.93..=USED * 1.07).contains(&used), "{used}");
        assert_eq!(all.len(), requests(1, 200.0).len(), "the same again");
    }
}
