//! The workers of one routing node, and all that they need to start.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use control::config;
use ffi::clock::Clock;
use ffi::eal::{Arguments, Running};
use ffi::{DeviceName, Eal, Lcore, Mempool, RxQueue};
use forwarder::crt::Crt;
use forwarder::{Counters, Limits, Mac, Neighbours, Reason, Reselecting, Tables};
use model::dpt::Dpt;
use model::numbering::Numbering;
use nix::fcntl::Flock;

use crate::cores::{self, CoreError, Plan};
use crate::kernel::{self, Interface, InterfaceError};
use crate::lock::{Lock, LockError};
use crate::ports::{self, Ports, Queues};
use crate::steering;
use crate::table::{Table, TableError};
use crate::worker::gauges::Gauges;
use crate::worker::idle::Policy;
use crate::worker::inbox::Inbox;
use crate::worker::output::Output;
use crate::worker::{Line, Shared, Worker};

/// Why the forwarder did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The workers' cores.
    #[error(transparent)]
    Cores(#[from] CoreError),
    /// DPDK, a device, or memory for packets.
    #[error(transparent)]
    Dpdk(#[from] ffi::Error),
    /// Memory for the CRT.
    #[error("no memory for a CRT of {v4} IPv4 and {v6} IPv6 connections")]
    Crt {
        /// IPv4 connections.
        v4: u32,
        /// IPv6 connections.
        v6: u32,
        /// The system's reason.
        #[source]
        cause: io::Error,
    },
    /// The kernel's end of the local port.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// Another `batond` runs.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The CRT's file.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// A forwarder. Its workers run from [`Node::run`] to [`Node::stop`].
#[derive(Debug)]
pub struct Node {
    /// What the workers share with the control thread.
    pub shared: Arc<Shared>,
    /// What each worker shares with the control thread only.
    pub workers: Vec<WorkerSide>,
    /// The NIC.
    pub nic: ffi::Port,
    /// The local port.
    pub local: ffi::Port,
    /// The kernel's end of the local port.
    pub interface: Interface,
    /// What the tables need to know of this node.
    pub identity: forwarder::Node,
    /// What the numbers in the CRT mean, if a former process has made it.
    pub numbering: Option<Numbering>,
    waiting: Vec<(Lcore, Worker)>,
    running: Vec<Running<()>>,
    _locks: Vec<Lock>,
    _crt_file: Option<Flock<File>>,
}

/// The control thread's side of one worker.
#[derive(Clone, Debug)]
pub struct WorkerSide {
    /// What became of packets.
    pub counters: Arc<Counters>,
    /// What else it did.
    pub gauges: Arc<Gauges>,
    /// Packets for it to send.
    pub inbox: Arc<Inbox>,
    /// Connections that it wants moved.
    pub reselecting: Arc<Reselecting>,
}

impl Node {
    /// Starts DPDK, opens both ports and launches one worker a core. The calling thread becomes the control thread.
    ///
    /// # Errors
    /// [`StartError`] says what could not be had.
    pub fn start(config: &config::Config) -> Result<Self, StartError> {
        let settings = &config.forwarder;
        let plan = plan(settings)?;
        plan.bind_control();
        let locks = locks(config)?;
        let (crt, kept, crt_file) = crt(config, &plan)?;
        let (numbering, clock_ms) = kept.unzip();
        let limits = Limits::default();
        let (eal, lcores) = start_eal(&plan, settings)?;
        let wanted = steering::wanted(config);
        let Ports { nic, local, queues, mut steered, pool } =
            Ports::open(eal, lcores.len(), settings, &wanted, &limits)?;
        let interface = interface(&settings.local.interface, &nic)?;
        let identity = identity(config, Mac(nic.mac()));
        let tables = ArcSwap::from_pointee(Tables::build(&Dpt::default(), &Neighbours::new(), &identity));
        let (clock, stop) = (Clock::new(eal, clock_ms.unwrap_or(0)), AtomicBool::new(false));
        let shared = Arc::new(Shared {
            crt,
            tables,
            handoffs: ArcSwap::default(),
            pools: ArcSwap::default(),
            trace: ArcSwap::default(),
            clock,
            stop,
        });
        let mut node = Self {
            shared,
            workers: vec![],
            nic,
            local,
            interface,
            identity,
            numbering,
            waiting: vec![],
            running: vec![],
            _locks: locks,
            _crt_file: crt_file,
        };
        for (lcore, queues) in lcores.into_iter().zip(queues) {
            // The first worker reads the steered queue too.
            node.prepare(lcore, (queues, steered.take()), pool, (limits, policy(settings.idle)));
        }
        Ok(node)
    }

    /// Starts the workers, if they do not run yet: when there are tables, so that no packet is taken for one of nobody's DVIPA.
    ///
    /// # Errors
    /// DPDK's.
    pub fn run(&mut self) -> Result<(), ffi::Error> {
        for (lcore, mut worker) in self.waiting.drain(..) {
            let shared = Arc::clone(&self.shared);
            self.running.push(lcore.launch(move || worker.run(&shared))?);
        }
        Ok(())
    }

    fn prepare(
        &mut self,
        lcore: Lcore,
        (queues, steered): (Queues, Option<RxQueue>),
        pool: Mempool,
        (limits, idle): (Limits, Policy),
    ) {
        let (counters, gauges) = (Arc::new(Counters::new()), Arc::new(Gauges::default()));
        let inbox = Arc::new(Inbox::new(pool));
        let Queues { nic: (nic, nic_tx), local: (local, local_tx) } = queues;
        let output = Output::new(nic_tx, local_tx, pool, Arc::clone(&gauges));
        let line = Line::new(limits, Arc::clone(&counters), output, Arc::clone(&gauges));
        let reselecting = Arc::clone(line.reselecting());
        let number = u16::try_from(self.workers.len()).unwrap_or(u16::MAX);
        let worker = Worker { number, steered, nic, local, line, inbox: Arc::clone(&inbox), idle };
        self.workers.push(WorkerSide { counters, gauges, inbox, reselecting });
        self.waiting.push((lcore, worker));
    }

    /// Ends the workers and waits for them.
    pub fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for (number, (running, worker)) in self.running.drain(..).zip(&self.workers).enumerate() {
            running.join();
            let all = Reason::ALL.iter().map(|reason| (reason.name(), worker.counters.get(*reason)));
            let counts: Vec<_> = all.filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name}={n}")).collect();
            tracing::info!(worker = number, counts = %counts.join(" "), "worker ended");
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

fn plan(settings: &config::Forwarder) -> Result<Plan, CoreError> {
    let workers: Vec<usize> = settings.workers.iter().copied().map(usize::from).collect();
    let plan = Plan::new(&workers, &cores::available())?;
    if plan.shares() {
        tracing::warn!(core = plan.control, "no core is left for the control thread: it shares a worker's");
    }
    Ok(plan)
}

fn start_eal(plan: &Plan, settings: &config::Forwarder) -> Result<(Eal, Vec<Lcore>), ffi::Error> {
    let (control_core, worker_cores) = (plan.control, plan.workers.clone());
    let devices = devices(settings).into();
    let extra = settings.eal.clone();
    let (eal, lcores) = Eal::start(&Arguments { control_core, worker_cores, devices, extra })?;
    tracing::info!(version = eal.version(), control = plan.control, workers = ?plan.workers, "DPDK runs");
    Ok((eal, lcores))
}

fn devices(settings: &config::Forwarder) -> [DeviceName; 2] {
    [&settings.nic.device, &settings.local.device].map(|device| DeviceName::new(device))
}

/// Nobody else may have the socket or a PCI device of this node. Virtual devices belong to a network namespace, where
/// their own names are unique.
fn locks(config: &config::Config) -> Result<Vec<Lock>, LockError> {
    let node = Lock::of_node(&config.admin.socket)?;
    let devices = devices(&config.forwarder).into_iter().filter(DeviceName::is_pci);
    let devices: Result<Vec<Lock>, LockError> =
        devices.map(|device| Lock::of_device(device.name())).collect();
    Ok(std::iter::once(node).chain(devices?).collect())
}

/// The kernel's end of the local port, with the NIC's address and without offloads. The forwarder lets packets for this
/// node cross as they came, so that the kernel takes those only that have its interface's address.
fn interface(name: &str, nic: &ffi::Port) -> Result<Interface, InterfaceError> {
    let mut interface = Interface::awaited(name)?;
    kernel::finish_frames(name);
    let mac = Mac(nic.mac());
    if let Err(error) = interface.take_address(mac) {
        tracing::warn!(
            interface = name, %error,
            "the kernel's end of the local port must have the NIC's address: `ip link set {name} address {mac}`"
        );
        if let Err(refused) = nic.promiscuous() {
            ports::tell(nic, &refused);
        }
    }
    Ok(interface)
}

fn identity(config: &config::Config, mac: Mac) -> forwarder::Node {
    let config::Config { node, forwarder: settings, .. } = config;
    forwarder::Node {
        mac,
        cluster_address: node.cluster_address,
        fabric_mtu: settings.fabric_mtu,
        vlan: settings.nic.vlan,
        fence: forwarder::Fence::default(),
        looks: forwarder::Looks::default(),
    }
}

/// The CRT, what is kept with it, and its file. One of its own is made by a thread on the first worker's core: its pages are then on
/// that core's NUMA node.
fn crt(config: &config::Config, plan: &Plan) -> Result<CrtAndFile, StartError> {
    let settings = &config.forwarder;
    let size = |connections| usize::try_from(connections).unwrap_or(usize::MAX);
    let seconds = |d: Duration| u32::try_from(d.as_secs()).unwrap_or(u32::MAX);
    let (v4, v6) = (settings.connections_v4, settings.connections_v6);
    let sizes = forwarder::crt::Config {
        connections_v4: size(v4),
        connections_v6: size(v6),
        flows: size(settings.flows_udp),
        half_open: size(settings.half_open),
        idle_tcp_s: seconds(settings.idle_tcp),
        idle_udp_s: seconds(settings.idle_udp),
        half_open_s: seconds(settings.half_open_life),
        closing_s: seconds(settings.closing),
        ..Default::default()
    };
    match &settings.crt_file {
        Some(path) => {
            let Table { crt, kept, lock } = Table::open(path, &sizes, &config.node.name, plan)?;
            Ok((crt, kept, Some(lock)))
        }
        None => {
            let made = plan.on_a_workers_core(|| Crt::new(&sizes));
            let crt = made.map_err(|cause| StartError::Crt { v4, v6, cause })?;
            Ok((crt, None, None))
        }
    }
}

type CrtAndFile = (Crt, Option<(Numbering, u64)>, Option<Flock<File>>);

fn policy(idle: config::Idle) -> Policy {
    match idle {
        config::Idle::Pure => Policy::Pure,
        config::Idle::Backoff => Policy::Backoff,
    }
}
