//! What a content-routed request costs the routing node, beside HAProxy and nginx in its place.
//!
//! One connection a request, routed by its path to one of two targets. Everything runs on this machine, and a veth pair has
//! its receiver's kernel work on the sender's account; so no single process can be asked. Instead the processor time of
//! *all* that takes part is added up, clients, targets and softirqs included, and the same without anybody in between is
//! subtracted: what is left is what the routing node adds. Counted for baton: `batond` with its workers' busy cycles, the
//! agent beside it, the router, and all kernel work that they cause; not counted: the targets' agents, idle polls, and what
//! the programs use at rest. Each
//! round measures all four in turn.
//!
//! Hosts segment and coalesce in software (GSO, GRO), as they do beside a NIC that can't; the wire has packets of 1500 bytes.
//! What the wire itself costs, a bridge, is on the account of whoever has packets cross it twice.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use app::Registration;
use app::asynchronous::TargetApplication;
use lab::Lab;
use lab::cpu::{self, Rest, Used};
use lab::spec::{self, DVIPA, Spec};
use tokio::net::TcpListener;
use tokio::task::spawn_local;

use super::http::{self, Connections, Load};
use super::inhabitant::Inhabitant;
use super::samples::median;
use super::{Failure, Size, proxies};
use crate::rows::Rows;

/// The content-routed port.
const ROUTED: u16 = 80;
/// Where the targets listen for the proxies.
const DIRECT: u16 = 8080;

/// Sizes of bodies, bytes; how many clients at once.
const SIZES: [(&str, usize, usize); 3] = [("1k", 1_000, 32), ("100k", 100_000, 16), ("10m", 10_000_000, 4)];
const ROUNDS: usize = 5;
/// How long programs are looked at when nobody wants anything of them: as long as they are measured, because to ask for
/// counters costs `batond` something each time.
const REST: Duration = Duration::from_secs(1);

/// Who is between the client and the targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    /// One connection a request.
    Nobody,
    /// One connection for all requests.
    NobodyAndKept,
    Baton,
    Haproxy,
    Nginx,
}

impl Between {
    const ALL: [Self; 5] = [Self::Nobody, Self::NobodyAndKept, Self::Baton, Self::Haproxy, Self::Nginx];

    fn address(self) -> SocketAddr {
        match self {
            Self::Nobody | Self::NobodyAndKept => (spec::host(spec::target(1)).0, DIRECT).into(),
            Self::Baton => (DVIPA.0, ROUTED).into(),
            Self::Haproxy => (spec::PROXY_ADDRESS.0, proxies::HAPROXY).into(),
            Self::Nginx => (spec::PROXY_ADDRESS.0, proxies::NGINX).into(),
        }
    }

    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Nobody | Self::NobodyAndKept => &[],
            Self::Baton => &["batond", "agent-rt1", "router"],
            Self::Haproxy => &["haproxy"],
            Self::Nginx => &["nginx"],
        }
    }
}

/// The names of a size's rows.
fn rows_of(size: &str) -> [String; 2] {
    ["haproxy", "nginx"].map(|proxy| format!("routing_cpu_{size}_ratio_{proxy}"))
}

/// The names of all rows.
pub(super) fn rows() -> Vec<String> {
    SIZES.iter().flat_map(|(size, ..)| rows_of(size)).collect()
}

pub(super) fn measure(rows: &mut Rows, size: Size) -> Result<(), Failure> {
    let bed = Bed::start()?;
    let rounds = if size == Size::Tiny { 1 } else { ROUNDS };
    for (word, bytes, clients) in SIZES {
        let names = rows_of(word);
        if !rows.wants(&names.each_ref().map(String::as_str)) {
            continue;
        }
        let mut costs: [Vec<f64>; 5] = Default::default();
        for _ in 0..rounds {
            for (between, costs) in Between::ALL.into_iter().zip(&mut costs) {
                costs.push(bed.cost_of(between, bytes, clients, size.seconds(1))?);
            }
        }
        let [nobody, kept, baton, haproxy, nginx] = costs.map(|costs| median(costs) * 1e6);
        let baton = baton - nobody;
        // The target's half of what a connection costs its two ends is not spent where connections to targets are kept.
        let [haproxy, nginx] = [haproxy, nginx].map(|cost| cost - (nobody + kept) / 2.0);
        let note = format!(
            "µs a request: baton {baton:.0}, haproxy {haproxy:.0}, nginx {nginx:.0}; without {nobody:.0}, {kept:.0} if connections are kept"
        );
        for (name, proxy) in names.iter().zip([haproxy, nginx]) {
            rows.add(name, "x", baton / proxy, note.as_str());
        }
    }
    Ok(())
}

/// The cluster, with the proxies on a host of their own.
struct Bed {
    // Dropped before the lab.
    _targets: Vec<Inhabitant>,
    lab: Lab,
    /// What each one's programs use at rest.
    rest: [Rest; 5],
}

impl Bed {
    fn start() -> Result<Self, Failure> {
        let port = format!("ports = [{ROUTED}]\ndestip = \"all\"\ncontent_routed = true");
        let spec = Spec { targets: 2, proxy: true, ..Spec::content_routed() };
        let lab = Lab::start(spec.vipadynamic(spec::ipv4_only(&[port.as_str()])))?;
        segment_as_hosts_do(&lab)?;
        let mut targets = Vec::new();
        for (stack, job) in [("t1", "a"), ("t2", "b")] {
            let (ready, registered) = mpsc::channel();
            let socket = lab.applications(stack);
            targets.push(Inhabitant::start(lab.host(stack), move || target(socket, job, ready)));
            registered.recv().map_err(|_| format!("no application on {stack}"))?;
        }
        let (port, dvipa) = (ROUTED.to_string(), DVIPA.0.to_string());
        lab.start_application("rt1", "router", &["http", "router", &port, &dvipa, "--", "b=path:/b/", "a"])?;
        lab.wait_for_targets(ROUTED, &["rt1"])?;
        proxies::start(&lab, spec::PROXY, [1, 2].map(|n| (spec::host(spec::target(n)).0, DIRECT).into()))?;
        let mut bed = Self { _targets: targets, lab, rest: Default::default() };
        for between in Between::ALL {
            // Whatever is opened once is opened.
            bed.cost_of(between, 1000, 4, Duration::from_millis(200))?;
            let rest = bed.at_rest(between)?;
            bed.rest.iter_mut().skip(between as usize).take(1).for_each(|of| *of = rest);
        }
        Ok(bed)
    }

    /// Processor seconds that a request costs all that take part, less what they use at rest.
    fn cost_of(
        &self,
        between: Between,
        bytes: usize,
        clients: usize,
        time: Duration,
    ) -> Result<f64, Failure> {
        let connections =
            if between == Between::NobodyAndKept { Connections::Kept } else { Connections::Fresh };
        let load = Load { to: between.address(), connections, bytes, clients };
        let before = self.used(between)?;
        let requests = self.lab.client().enter(|| http::run(load, time))?;
        let after = self.used(between)?;
        let rest = self.rest.get(between as usize).copied().unwrap_or_default();
        Ok(after.since(&before, rest).as_secs_f64() / f64::from(requests.max(1)))
    }

    fn at_rest(&self, between: Between) -> Result<Rest, Failure> {
        let before = self.lab.used(between.programs())?;
        std::thread::sleep(REST);
        Ok(self.lab.used(between.programs())?.at_rest_since(&before))
    }

    /// Clients and targets are this process.
    fn used(&self, between: Between) -> Result<Used, Failure> {
        let used = self.lab.used(between.programs())?;
        Ok(used.and(cpu::of_process(std::process::id())?).and(cpu::of_softirqs()?))
    }
}

/// As Linux does by itself with a NIC that can neither: the stack sends and takes long segments, and the wire has packets of
/// 1500 bytes. The DPDK port's link stays as it is.
fn segment_as_hosts_do(lab: &Lab) -> Result<(), Failure> {
    for host in ["client", "t1", "t2", spec::PROXY] {
        lab.host(host).sh("ethtool -K eth0 tx on gso on gro on >/dev/null")?;
    }
    Ok(())
}

/// Serves connections that come by transfer, and those of the proxies.
async fn target(socket: PathBuf, job: &'static str, ready: mpsc::Sender<()>) -> Result<(), Failure> {
    let registration = Registration::new(job, DVIPA.0.into(), &[ROUTED])?.socket(socket);
    let application = Rc::new(TargetApplication::register(&registration).await?);
    let listener = TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, DIRECT)).await?;
    ready.send(())?;
    loop {
        tokio::select! {
            offer = application.next_offer() => {
                let offer = offer?;
                spawn_local(async move {
                    // It may end at any time, as may those below.
                    let Ok(connection) = offer.accept().await else { return };
                    let _ = http::serve(connection.stream).await;
                });
            }
            accepted = listener.accept() => {
                let (client, _) = accepted?;
                spawn_local(async move {
                    let _ = http::serve(client).await;
                });
            }
        }
    }
}
