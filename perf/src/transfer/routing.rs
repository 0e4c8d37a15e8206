//! What a content-routed request costs the routing node, beside HAProxy and nginx in its place: where an application of the routing node
//! reads it, and where the worker does.
//!
//! One connection a request, routed by its path to one of two targets. The routing node's programs (`batond`, and with a routing
//! application this and the agent beside it) and the proxies share a core with the kernel work of their hosts and nothing else: what arrives
//! there is received on that core, and what is sent from there is taken up by the wire on another, which clients, targets,
//! their agents and the wire itself share (RPS).
//!
//! The worker of `batond` has what nobody else wants of the first core, and polls without a pause. So the time that a
//! request takes there, in whatever program, softirq or interrupt, is the time in which the worker could make no empty polls:
//! the turns that it made fewer than in the same time without anybody in between.
//!
//! Hosts segment and coalesce in software (GSO, GRO), as they do beside a NIC that can't; the wire has packets of 1500 bytes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use app::Registration;
use app::asynchronous::TargetApplication;
use lab::Lab;
use lab::cpu;
use lab::spec::{self, DVIPA, Spec};
use tokio::net::TcpListener;
use tokio::task::spawn_local;

use super::apart::{Cores, give_way, receive_on, run_on, stay_on};
use super::http::{self, Load};
use super::inhabitant::Inhabitant;
use super::samples::{Samples, median};
use super::{Failure, Size, proxies};
use crate::rows::Rows;

/// The content-routed port.
const ROUTED: u16 = 80;
/// Where the targets listen for the proxies.
const DIRECT: u16 = 8080;

/// Sizes of bodies, bytes; how many clients at once.
const SIZES: [(&str, usize, usize); 3] = [("1k", 1_000, 32), ("100k", 100_000, 16), ("10m", 10_000_000, 4)];
const ROUNDS: usize = 5;

/// Who is between the client and the targets.
#[derive(Clone, Copy, Debug)]
enum Between {
    Baton,
    Haproxy,
    Nginx,
}

impl Between {
    const ALL: [Self; 3] = [Self::Baton, Self::Haproxy, Self::Nginx];

    fn address(self) -> SocketAddr {
        match self {
            Self::Baton => (DVIPA.0, ROUTED).into(),
            Self::Haproxy => (spec::PROXY_ADDRESS.0, proxies::HAPROXY).into(),
            Self::Nginx => (spec::PROXY_ADDRESS.0, proxies::NGINX).into(),
        }
    }
}

/// Who of the routing node reads requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// A routing application.
    Application,
    /// The worker, by the routes of the port.
    Worker,
}

/// Rows of what clients see, with the worker as the reader.
const SEEN: [&str; 4] = [
    "core_requests_per_s_ratio_haproxy",
    "core_p50_ratio_haproxy",
    "core_p99_ratio_haproxy",
    "core_pause_p50_ratio",
];
/// How many clients there are at once where the time of a request is measured: so few that none waits for another's.
const FEW: usize = 2;

/// The names of a size's rows.
fn rows_of(reader: Reader, size: &str) -> [String; 2] {
    let row = if reader == Reader::Worker { "core" } else { "routing" };
    ["haproxy", "nginx"].map(|proxy| format!("{row}_cpu_{size}_ratio_{proxy}"))
}

/// The name of a size's row of what the worker alone takes.
fn cycles_row(size: &str) -> String {
    format!("core_cycles_{size}_ratio_haproxy")
}

/// The names of all rows.
pub(super) fn rows(reader: Reader) -> Vec<String> {
    let seen = if reader == Reader::Worker { &SEEN[..] } else { &[] };
    let cpu = SIZES.iter().flat_map(|(size, ..)| rows_of(reader, size));
    let cycles = SIZES.iter().filter(|_| reader == Reader::Worker).map(|(size, ..)| cycles_row(size));
    cpu.chain(cycles).chain(seen.iter().map(|&name| name.to_owned())).collect()
}

/// On a thread of its own, which stays on one core with all that it starts.
pub(super) fn measure(rows: &mut Rows, reader: Reader, size: Size) -> Result<(), Failure> {
    let measured = std::thread::scope(|scope| scope.spawn(|| measure_apart(rows, reader, size)).join());
    measured.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn measure_apart(rows: &mut Rows, reader: Reader, size: Size) -> Result<(), Failure> {
    let bed = Bed::start(reader)?;
    cpu_of_all(&bed, rows, reader, size)?;
    if reader == Reader::Worker && rows.wants(&SEEN) { seen(&bed, rows, size) } else { Ok(()) }
}

/// What clients see of baton, in what they see of HAProxy.
fn seen(bed: &Bed, rows: &mut Rows, size: Size) -> Result<(), Failure> {
    let (_, bytes, many) = SIZES[0];
    let rounds = if size == Size::Tiny { 1 } else { ROUNDS };
    let (mut rates, mut times): ([Vec<f64>; 2], [Samples; 2]) = Default::default();
    let (mut same, mut other): (Samples, Samples) = Default::default();
    for _ in 0..rounds {
        for (n, between) in [Between::Baton, Between::Haproxy].into_iter().enumerate() {
            let load = |clients| Load { to: between.address(), bytes, clients };
            let run = bed.run(load(many), size.seconds(1))?;
            rates[n].push(run.requests.len() as f64 / run.time.as_secs_f64());
            times[n].extend(bed.run(load(FEW), size.seconds(1))?.requests);
        }
        let kept = Load { to: Between::Baton.address(), bytes, clients: 1 };
        let [of_same, of_other] = bed.lab.client().enter(|| http::run_kept(kept, size.seconds(1)))?;
        same.extend(of_same);
        other.extend(of_other);
    }
    let [baton, haproxy] = rates.map(median);
    let note = format!("baton {baton:.0}/s, haproxy {haproxy:.0}/s; {many} clients on the other core");
    rows.add(SEEN[0], "x", baton / haproxy, note);
    for (name, percent) in [(SEEN[1], 50), (SEEN[2], 99)] {
        let [baton, haproxy] = times.each_ref().map(|times| times.percentile_us(percent));
        let note = format!("from connect to the whole answer: baton {baton:.0} µs, haproxy {haproxy:.0} µs");
        rows.add(name, "x", baton / haproxy, note);
    }
    let [fresh, _] = times.each_ref().map(|times| times.percentile_us(50));
    let [same, other] = [same, other].map(|times| times.percentile_us(50));
    let note = format!(
        "a request of a kept connection for another target {other:.0} µs, for the same {same:.0} µs; of a new one {fresh:.0} µs"
    );
    rows.add(SEEN[3], "x", (other - same) / fresh, note);
    Ok(())
}

fn cpu_of_all(bed: &Bed, rows: &mut Rows, reader: Reader, size: Size) -> Result<(), Failure> {
    let rounds = if size == Size::Tiny { 1 } else { ROUNDS };
    for (word, bytes, clients) in SIZES {
        let (names, cycles) = (rows_of(reader, word), cycles_row(word));
        let wants_cycles = reader == Reader::Worker && rows.wants(&[&cycles]);
        if !wants_cycles && !rows.wants(&names.each_ref().map(String::as_str)) {
            continue;
        }
        let mut busy = Vec::new();
        let mut costs: [Vec<f64>; 3] = Default::default();
        for _ in 0..rounds {
            let at = |address| Load { to: address, bytes, clients };
            let rest = bed.run(at((spec::host(spec::target(1)).0, DIRECT).into()), size.seconds(1))?;
            for (between, costs) in Between::ALL.into_iter().zip(&mut costs) {
                let run = bed.run(at(between.address()), size.seconds(1))?;
                costs.push(run.cost(&rest));
                if let Between::Baton = between {
                    busy.push(run.busy / run.requests.len().max(1) as f64);
                }
            }
        }
        let [baton, haproxy, nginx] = costs.map(|costs| median(costs) * 1e6);
        let note = format!("µs a request: baton {baton:.0}, haproxy {haproxy:.0}, nginx {nginx:.0}");
        for (name, proxy) in names.iter().zip([haproxy, nginx]) {
            rows.add(name, "x", baton / proxy, note.as_str());
        }
        if wants_cycles {
            let busy = median(busy) * 1e6;
            rows.add(
                &cycles,
                "x",
                busy / haproxy,
                format!("µs a request: turns of baton's worker {busy:.1}; {note}"),
            );
        }
    }
    Ok(())
}

/// The cluster, with the proxies on a host of their own.
struct Bed {
    // Dropped before the lab.
    _targets: Vec<Inhabitant>,
    lab: Lab,
}

/// What came of some time with a load.
struct Run {
    time: Duration,
    requests: Samples,
    /// Turns of the worker, nearly all without a packet.
    turns: f64,
    /// Seconds of those that had packets.
    busy: f64,
}

impl Run {
    /// Processor seconds of the measured core that a request costs beyond what is used at `rest`.
    fn cost(&self, rest: &Self) -> f64 {
        let in_vain = rest.time.as_secs_f64() * self.turns / rest.turns;
        (self.time.as_secs_f64() - in_vain) / self.requests.len().max(1) as f64
    }
}

impl Bed {
    fn start(reader: Reader) -> Result<Self, Failure> {
        let cores = Cores::find()?;
        let lab = Lab::start(spec_of(reader))?;
        segment_as_hosts_do(&lab)?;
        for address in http::CLIENTS {
            lab.client().sh(&format!("ip addr add {address}/24 dev eth0"))?;
        }
        stay_on(cores.others)?;
        let mut targets = Vec::new();
        for (stack, job) in [("t1", "a"), ("t2", "b")] {
            let (ready, registered) = mpsc::channel();
            let job = (reader == Reader::Application).then(|| (lab.applications(stack), job));
            targets.push(Inhabitant::start(lab.host(stack), move || target(job, ready)));
            registered.recv().map_err(|_| format!("no application on {stack}"))?;
        }
        if reader == Reader::Application {
            let (port, dvipa) = (ROUTED.to_string(), DVIPA.0.to_string());
            let arguments = ["http", "router", &port, &dvipa, "--", "b=path:/b/", "a"];
            lab.start_application("rt1", "router", &arguments)?;
        }
        lab.wait_for_targets(ROUTED, if reader == Reader::Worker { &["t1", "t2"] } else { &["rt1"] })?;
        proxies::start(&lab, spec::PROXY, [1, 2].map(|n| (spec::host(spec::target(n)).0, DIRECT).into()))?;
        set_apart(&lab, reader, cores)?;
        let bed = Self { _targets: targets, lab };
        for between in Between::ALL {
            // Whatever is opened once is opened.
            bed.run(Load { to: between.address(), bytes: 1000, clients: 4 }, Duration::from_millis(200))?;
        }
        Ok(bed)
    }

    fn run(&self, load: Load, time: Duration) -> Result<Run, Failure> {
        let counted = || -> Result<[f64; 3], Failure> {
            let counters = self.lab.counters()?;
            let of = |name: &str| counters.get(name).map(|n| *n as f64).ok_or_else(|| format!("no {name}"));
            Ok([of("worker_turns")?, of("worker_busy_cycles")?, of("worker_idle_cycles")?])
        };
        let before = counted()?;
        let begun = Instant::now();
        let requests = self.lab.client().enter(|| http::run(load, time));
        let requests = requests.map_err(|e| format!("{} did not serve {} B: {e}", load.to, load.bytes))?;
        let (time, after) = (begun.elapsed(), counted()?);
        let [turns, busy, idle] = std::array::from_fn(|n| after[n] - before[n]);
        Ok(Run { time, requests, turns, busy: time.as_secs_f64() * busy / (busy + idle).max(1.0) })
    }
}

/// A lab with two targets and a host for the proxies.
fn spec_of(reader: Reader) -> Spec {
    let (of, keys) = match reader {
        Reader::Application => (Spec::content_routed(), "content_routed = true".to_owned()),
        Reader::Worker => {
            let route = "[[vipadynamic.vipadistribute.route]]";
            let (b, a) = ("matches = [{ path = \"/b\" }]", "backends = [{ stack = \"t1\" }]");
            let keys = format!(
                "{route}\nname = \"b\"\n{b}\nbackends = [{{ stack = \"t2\" }}]\n{route}\nname = \"a\"\n{a}"
            );
            (Spec::default().web([]), keys)
        }
    };
    let port = format!("ports = [{ROUTED}]\ndestip = \"all\"\n{keys}");
    let spec = Spec { targets: 2, proxy: true, tireless: true, ..of };
    spec.vipadynamic(spec::ipv4_only(&[port.as_str()]))
}

/// Gives the routing node's and the proxies' programs a core, and all other programs another one.
fn set_apart(lab: &Lab, reader: Reader, cores: Cores) -> Result<(), Failure> {
    let of_application = if reader == Reader::Application { &["agent-rt1", "router"][..] } else { &[] };
    for program in ["batond", "haproxy", "nginx"].iter().chain(of_application) {
        run_on(cores.measured, id_of(lab, program)?)?;
    }
    for program in ["agent-t1", "agent-t2"] {
        run_on(cores.others, id_of(lab, program)?)?;
    }
    give_way(id_of(lab, "batond")?, cpu::WORKER)?;
    for host in ["rt1", spec::PROXY] {
        receive_on(cores.measured, lab.host(host), "eth0")?;
        receive_on(cores.others, lab.switch(), host)?;
    }
    Ok(())
}

fn id_of(lab: &Lab, program: &str) -> Result<u32, Failure> {
    Ok(lab.id_of(program).ok_or_else(|| format!("no {program}"))?)
}

/// As Linux does by itself with a NIC that can neither: the stack sends and takes long segments, and the wire has packets of
/// 1500 bytes. The DPDK port's link stays as it is.
fn segment_as_hosts_do(lab: &Lab) -> Result<(), Failure> {
    for host in ["client", "t1", "t2", spec::PROXY] {
        lab.host(host).sh("ethtool -K eth0 tx on gso on gro on >/dev/null")?;
    }
    Ok(())
}

/// Serves the clients' connections, which come by transfer for a job or to a listener, and those of the proxies.
async fn target(job: Option<(PathBuf, &'static str)>, ready: mpsc::Sender<()>) -> Result<(), Failure> {
    let direct = TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, DIRECT)).await?;
    let Some((socket, job)) = job else {
        let routed = TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, ROUTED)).await?;
        ready.send(())?;
        return tokio::try_join!(serve_all(direct), serve_all(routed)).map(drop);
    };
    let registration = Registration::new(job, DVIPA.0.into(), &[ROUTED])?.socket(socket);
    let application = Rc::new(TargetApplication::register(&registration).await?);
    ready.send(())?;
    tokio::try_join!(serve_all(direct), serve_offers(application)).map(drop)
}

async fn serve_offers(application: Rc<TargetApplication>) -> Result<(), Failure> {
    loop {
        let offer = application.next_offer().await?;
        spawn_local(async move {
            // It may end at any time, as may those below.
            let Ok(connection) = offer.accept().await else { return };
            let _ = http::serve(connection.stream).await;
        });
    }
}

async fn serve_all(listener: TcpListener) -> Result<(), Failure> {
    loop {
        let (client, _) = listener.accept().await?;
        spawn_local(async move {
            let _ = http::serve(client).await;
        });
    }
}
