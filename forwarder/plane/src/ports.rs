//! The two ports of a routing node: the NIC, and the way to the node's own kernel.

use control::config;
use ffi::port::Refused;
use ffi::steer::Wanted;
use ffi::{BURST, Device, Eal, Error, Mempool, RxQueue, Settings, Started, TxQueue};
use forwarder::Limits;

use crate::{frames, kernel};

/// Ethernet header, two VLAN tags and check sequence.
const ETHERNET_BYTES: u16 = 14 + 8 + 4;
/// Mbufs that a worker has in hand during a turn: a burst of each port on its way in, one on its way out, and one that goes
/// ahead of it.
const MBUFS_IN_HAND: usize = 5 * BURST;

/// Both ports, started, and the pool that their packets come from.
#[derive(Debug)]
pub struct Ports {
    /// The NIC.
    pub nic: ffi::Port,
    /// The local port.
    pub local: ffi::Port,
    /// One for each worker.
    pub queues: Vec<Queues>,
    /// The NIC's receive queue for packets that are steered there, if it has one.
    pub steered: Option<RxQueue>,
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
    /// Opens both devices, makes the pool as large as they and the workers need, and starts them with one queue pair for
    /// each of `workers`. The NIC takes what is sent to it and to groups; the local port takes everything, because the
    /// kernel addresses its frames to all kinds of neighbours. The NIC steers what is `wanted` apart, as far as it can.
    ///
    /// # Errors
    /// What could not be had, with the device's name.
    pub fn open(
        eal: Eal,
        workers: usize,
        settings: &config::Forwarder,
        wanted: &[Wanted],
        limits: &Limits,
    ) -> Result<Self, Error> {
        let queues = u16::try_from(workers).unwrap_or(u16::MAX);
        let frame = settings.fabric_mtu.saturating_add(ETHERNET_BYTES);
        let devices = frames::with_arguments([&settings.nic.device, &settings.local.device], frame);
        let [nic, local] = &devices;
        let (nic, local) = (Opened::new(eal, nic, settings)?, Opened::new(eal, local, settings)?);
        let frame = devices.iter().filter_map(|device| frames::largest(device)).fold(frame, u16::max);
        let buffer = [&nic, &local].map(|port| port.device.info().buffer_bytes(frame)).into_iter().max();
        let steered = if wanted.is_empty() { 0 } else { nic.descriptors() };
        let mbufs = mbufs(workers, nic.descriptors() + local.descriptors(), steered, limits);
        let (buffer_bytes, numa) = (buffer.unwrap_or(frame), nic.device.info().numa);
        let pool = Mempool::create(eal, "packets", mbufs, buffer_bytes, numa)?;
        tracing::info!(mbufs, buffer_bytes, ?numa, "packet buffers");
        let nic = nic.start(queues, settings.fabric_mtu, wanted, pool)?;
        let local = local.start(queues, settings.fabric_mtu, &[], pool)?;
        let queues = nic.pairs.into_iter().zip(local.pairs).map(|(nic, local)| Queues { nic, local });
        Ok(Self { nic: nic.port, local: local.port, queues: queues.collect(), steered: nic.queue, pool })
    }
}

/// A device that is open, with the lengths of its queues.
struct Opened {
    device: Device,
    rx_descriptors: u16,
    tx_descriptors: u16,
}

impl Opened {
    fn new(eal: Eal, device: &str, settings: &config::Forwarder) -> Result<Self, Error> {
        let device = Device::open(eal, device)?;
        let (rx, tx) = (settings.rx_descriptors, settings.tx_descriptors);
        let (rx_descriptors, tx_descriptors) = device.descriptors(rx, tx)?;
        Ok(Self { device, rx_descriptors, tx_descriptors })
    }

    /// Of one queue pair.
    fn descriptors(&self) -> usize {
        usize::from(self.rx_descriptors) + usize::from(self.tx_descriptors)
    }

    /// The local port takes everything, and steers nothing.
    fn start(self, queues: u16, mtu: u16, wanted: &[Wanted], pool: Mempool) -> Result<Started, Error> {
        let Self { device, rx_descriptors, tx_descriptors } = self;
        let (driver, spreads) = (device.info().driver.clone(), device.info().rss);
        let ipv4_checksums = if device.info().ipv4_checksums { "device" } else { "worker" };
        let promiscuous = wanted.is_empty();
        let settings = Settings { queues, mtu, rx_descriptors, tx_descriptors, promiscuous };
        let started = device.start_steered(&settings, wanted, pool)?;
        let port = &started.port;
        if let Some(interface) = config::shared_interface(port.device()) {
            kernel::tell(&kernel::Settings::default().leave_alone(interface));
            kernel::finish_frames(interface);
        }
        port.refused().iter().for_each(|refused| tell(port, refused));
        tell_steered(&started);
        let device = port.device();
        tracing::info!(
            device,
            driver,
            queues,
            rx_descriptors,
            tx_descriptors,
            mtu,
            ipv4_checksums,
            "port runs"
        );
        if queues > 1 && !spreads {
            tracing::info!(
                device,
                driver,
                "the driver says nothing of RSS: a device that has none feeds one worker only"
            );
        }
        Ok(started)
    }
}

/// Says which packets have a receive queue to themselves, and which have not.
fn tell_steered(Started { port, queue, .. }: &Started) {
    let device = port.device();
    let names = |steered: bool| -> String {
        let some = port.steered().iter().filter(|one| one.refused.is_none() == steered);
        some.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let (steered, refused) = (names(true), names(false));
    match (queue, port.steered().first()) {
        (Some(_), _) => {
            tracing::info!(device, steered, refused, "packets with a receive queue to themselves")
        }
        (None, Some(one)) => tracing::info!(
            device,
            because = one.refused.as_deref(),
            "no packets have a receive queue to themselves: in a flood that is more than a worker receives, sessions and ARP are \
             lost with all others"
        ),
        (None, None) => {}
    }
}

/// Says what a port does without.
pub fn tell(port: &ffi::Port, refused: &Refused) {
    let (device, Refused { asked, consequence, cause }) = (port.device(), refused);
    tracing::warn!(device, %cause, "the port can't be told to {asked}: {consequence}");
}

/// Enough for full queues of both ports and for all that the workers may hold, so that no packet is lost for want of a
/// buffer; one less than a power of two suits DPDK best. The control thread has a cache too, and the steered queue pair its own
/// descriptors.
fn mbufs(workers: usize, descriptors: usize, steered: usize, limits: &Limits) -> u32 {
    let cached = usize::try_from(ffi::mempool::CACHED).unwrap_or(usize::MAX);
    let held = limits
        .held
        .saturating_add(limits.frozen)
        .saturating_add(limits.ask_held)
        .saturating_add(limits.unserved)
        .saturating_add(limits.quiet)
        // As they came, and copies.
        .saturating_add(limits.request_packets.saturating_mul(2))
        .saturating_add(limits.reselected_packets())
        .saturating_add(MBUFS_IN_HAND);
    let each = held.saturating_add(descriptors).saturating_add(cached);
    let all = workers.saturating_mul(each).saturating_add(cached).saturating_add(steered);
    u32::try_from(all).ok().and_then(u32::checked_next_power_of_two).map_or(u32::MAX, |power| power - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_holds_full_queues_and_all_that_workers_may_hold() {
        let limits = Limits::default();
        let (workers, descriptors) = (2, 4 * 1024);
        let needed = workers
            * (descriptors + limits.held + limits.frozen + limits.ask_held + limits.unserved + 5 * BURST)
            + workers * (2 * limits.request_packets + limits.reselected_packets())
            + 3 * 384;
        assert!(mbufs(workers, descriptors, 0, &limits) as usize >= needed);
        assert_eq!(
            mbufs(
                1,
                256,
                0,
                &Limits {
                    held: 0,
                    frozen: 0,
                    ask_held: 0,
                    unserved: 0,
                    quiet: 0,
                    request_packets: 0,
                    reselected: 0,
                    ..limits
                }
            ),
            2047
        );
        assert_eq!(mbufs(usize::MAX, 256, 0, &limits), u32::MAX);
        assert!(mbufs(1, 256, 4096, &limits) as usize >= mbufs(1, 256, 0, &limits) as usize / 2 + 4096);
    }

    #[test]
    fn the_docs_say_how_many_buffers_there_are() {
        let page = include_str!("../../../docs/sizing.md");
        // Both queues of both ports, as configured by default; an mbuf is two cache lines before its headroom.
        let (descriptors, bytes) = (4 * 1024, 128 + usize::from(ffi::mempool::HEADROOM_BYTES) + 2048);
        let row = |workers| {
            let mbufs = mbufs(workers, descriptors, 2 * 1024, &Limits::default());
            format!("| {workers} | {mbufs} | {} MiB |\n", (mbufs as usize * bytes).div_ceil(1 << 20))
        };
        let rows: String = [1, 2, 4, 8].map(row).concat();
        assert!(page.contains(&rows), "docs/sizing.md: write the lines\n{rows}");
    }
}
