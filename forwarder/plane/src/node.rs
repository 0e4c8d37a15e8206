//! The workers of one routing node, and all that they need to start.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use control::config;
use ffi::clock::Clock;
use ffi::eal::{Arguments, Running};
use ffi::{Eal, Lcore, Mempool};
use forwarder::crt::Crt;
use forwarder::{Counters, Limits, Mac, Neighbours, Tables};
use model::dpt::Dpt;

use crate::cores::{self, CoreError, Plan};
use crate::kernel::{Interface, InterfaceError};
use crate::ports::{Ports, Queues};
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
}

/// A running forwarder. Its workers run until [`Node::stop`].
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
    running: Vec<Running<()>>,
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
        let interface = Interface::named(&settings.local.interface)?;
        let crt = crt(settings)?;
        let (eal, lcores) = start_eal(&plan, settings)?;
        let Ports { nic, local, queues, pool } = Ports::open(eal, lcores.len(), settings)?;
        if nic.mac() != interface.mac.0 {
            tracing::warn!(
                nic = %Mac(nic.mac()), interface = interface.name, mac = %interface.mac,
                "the kernel's end of the local port should have the NIC's address: `ip link set … address …`"
            );
            nic.promiscuous();
        }
        let identity = identity(config, Mac(nic.mac()));
        let tables = ArcSwap::from_pointee(Tables::build(&Dpt::default(), &Neighbours::new(), &identity));
        let (clock, stop) = (Clock::new(eal), AtomicBool::new(false));
        let shared = Arc::new(Shared { crt, tables, handoffs: ArcSwap::default(), clock, stop });
        let mut node = Self { shared, workers: vec![], nic, local, interface, identity, running: vec![] };
        for (lcore, queues) in lcores.into_iter().zip(queues) {
            node.launch(lcore, queues, pool, policy(settings.idle))?;
        }
        Ok(node)
    }

    fn launch(
        &mut self,
        lcore: Lcore,
        queues: Queues,
        pool: Mempool,
        idle: Policy,
    ) -> Result<(), ffi::Error> {
        let (counters, gauges) = (Arc::new(Counters::new()), Arc::new(Gauges::default()));
        let inbox = Arc::new(Inbox::new(pool));
        let Queues { nic: (nic, nic_tx), local: (local, local_tx) } = queues;
        let output = Output::new(nic_tx, local_tx, pool, Arc::clone(&gauges));
        let line = Line::new(Limits::default(), Arc::clone(&counters), output, Arc::clone(&gauges));
        let mut worker = Worker { nic, local, line, inbox: Arc::clone(&inbox), idle };
        let shared = Arc::clone(&self.shared);
        self.workers.push(WorkerSide { counters, gauges, inbox });
        self.running.push(lcore.launch(move || worker.run(&shared))?);
        Ok(())
    }

    /// Ends the workers and waits for them.
    pub fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for worker in self.running.drain(..) {
            worker.join();
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
    let (eal, lcores) = Eal::start(&Arguments { control_core, worker_cores, extra: settings.eal.clone() })?;
    tracing::info!(version = eal.version(), control = plan.control, workers = ?plan.workers, "DPDK runs");
    Ok((eal, lcores))
}

fn identity(config: &config::Config, mac: Mac) -> forwarder::Node {
    let config::Config { node, forwarder: settings, .. } = config;
    forwarder::Node {
        mac,
        cluster_address: node.cluster_address,
        fabric_mtu: settings.fabric_mtu,
        vlan: settings.nic.vlan,
    }
}

fn crt(settings: &config::Forwarder) -> Result<Crt, StartError> {
    let size = |connections| usize::try_from(connections).unwrap_or(usize::MAX);
    let seconds = |d: std::time::Duration| u32::try_from(d.as_secs()).unwrap_or(u32::MAX);
    let (v4, v6) = (settings.connections_v4, settings.connections_v6);
    Crt::new(&forwarder::crt::Config {
        connections_v4: size(v4),
        connections_v6: size(v6),
        flows: size(settings.flows_udp),
        half_open: size(settings.half_open),
        idle_tcp_s: seconds(settings.idle_tcp),
        idle_udp_s: seconds(settings.idle_udp),
        half_open_s: seconds(settings.half_open_life),
        closing_s: seconds(settings.closing),
        ..Default::default()
    })
    .map_err(|cause| StartError::Crt { v4, v6, cause })
}

fn policy(idle: config::Idle) -> Policy {
    match idle {
        config::Idle::Pure => Policy::Pure,
        config::Idle::Backoff => Policy::Backoff,
    }
}
