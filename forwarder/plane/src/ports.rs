//! The two ports of a routing node: the NIC, and the way to the node's own kernel.

use control::config;
use ffi::{Device, Eal, Error, Mempool, RxQueue, Settings, TxQueue};
use forwarder::Mac;

use crate::{frames, kernel};

/// Descriptors of each receive and send queue.
const DESCRIPTORS: u16 = 1024;
/// Mbufs that a worker may have outside of its queues: bursts, held fragments, the caches of its core.
const MBUFS_IN_HAND: u32 = 1536;
/// Ethernet header, two VLAN tags and check sequence.
const ETHERNET_BYTES: u16 = 14 + 8 + 4;
/// The least that a buffer holds: what most drivers expect.
const LEAST_FRAME_BYTES: u16 = 2048;

/// Both ports, started, and the pool that their packets come from.
#[derive(Debug)]
pub struct Ports {
    /// The NIC.
    pub nic: ffi::Port,
    /// The local port.
    pub local: ffi::Port,
    /// One for each worker.
    pub queues: Vec<Queues>,
    /// Where packets come from.
    pub pool: Mempool,
}

/// A worker's queue pair of each port.
#[derive(Debug)]
pub struct Queues {
    /// The NIC's.
    pub nic: (RxQueue, TxQueue),
    /// The local port's.
    pub local: (RxQueue, TxQueue),
}

impl Ports {
    /// Opens both devices with one queue pair for each of `workers`. The NIC takes what is sent to it and to groups; the
    /// local port takes everything, because the kernel addresses its frames to all kinds of neighbours.
    ///
    /// # Errors
    /// What could not be had, with the device's name.
    pub fn open(eal: Eal, workers: usize, settings: &config::Forwarder) -> Result<Self, Error> {
        let workers = u16::try_from(workers).unwrap_or(u16::MAX);
        let frame = settings.fabric_mtu.saturating_add(ETHERNET_BYTES).max(LEAST_FRAME_BYTES);
        let devices = frames::with_arguments([&settings.nic.device, &settings.local.device]);
        let frame = devices.iter().filter_map(|device| frames::largest(device)).fold(frame, u16::max);
        let pool = Mempool::create(eal, "packets", mbufs(workers), frame)?;
        let open = |device, promiscuous| {
            let (queues, mtu) = (workers, settings.fabric_mtu);
            let (rx_descriptors, tx_descriptors) = (DESCRIPTORS, DESCRIPTORS);
            let settings = Settings { queues, mtu, rx_descriptors, tx_descriptors, promiscuous };
            start(eal, device, &settings, pool)
        };
        let [nic, local] = &devices;
        let (nic, nic_queues) = open(nic, false)?;
        let (local, local_queues) = open(local, true)?;
        let queues = nic_queues.into_iter().zip(local_queues).map(|(nic, local)| Queues { nic, local });
        Ok(Self { nic, local, queues: queues.collect(), pool })
    }
}

fn start(
    eal: Eal,
    device: &str,
    settings: &Settings,
    pool: Mempool,
) -> Result<(ffi::Port, Vec<(RxQueue, TxQueue)>), Error> {
    let device = Device::open(eal, device)?;
    let driver = device.info().driver.clone();
    let (port, queues) = device.start(settings, pool)?;
    if let Some(interface) = kernel::shared_interface(port.device()) {
        kernel::Settings::default().leave_alone(interface);
    }
    let (mac, link_up) = (Mac(port.mac()), port.link_is_up());
    tracing::info!(device = port.device(), driver, %mac, queues = settings.queues, link_up, "port runs");
    Ok((port, queues))
}

/// Enough for full queues of both ports and what workers have in hand; one less than a power of two suits DPDK best.
fn mbufs(workers: u16) -> u32 {
    let queues = 4 * u32::from(DESCRIPTORS);
    (u32::from(workers) * (queues + MBUFS_IN_HAND)).next_power_of_two() - 1
}
