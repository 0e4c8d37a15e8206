//! Ethernet ports: found by the name of their device, configured once, started with one queue pair a worker.

use std::ffi::CString;
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};
use std::sync::Arc;

use crate::eal::Eal;
use crate::error::{Error, errno};
use crate::mempool::Mempool;
use crate::queue::{RxQueue, TxQueue};
use crate::raw;

/// An opened device that is not configured yet.
#[derive(Debug)]
pub struct Device {
    opened: Opened,
    info: Info,
}

/// A started port. It is stopped and its device closed when the port and all its queues are gone.
#[derive(Clone, Debug)]
pub struct Port(Arc<Opened>);

/// How a port is to be set up.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Queue pairs: one a worker. More than one are fed by RSS.
    pub queues: u16,
    /// The longest packet without its Ethernet header, in bytes.
    pub mtu: u16,
    /// Packets that wait in a receive queue at most; the device may round it.
    pub rx_descriptors: u16,
    /// Packets that wait in a send queue at most; the device may round it.
    pub tx_descriptors: u16,
    /// Receive frames for other stations too.
    pub promiscuous: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { queues: 1, mtu: 1500, rx_descriptors: 1024, tx_descriptors: 1024, promiscuous: false }
    }
}

/// What a device says about itself.
#[derive(Clone, Debug)]
pub struct Info {
    /// Its driver.
    pub driver: String,
    /// Receive queues at most.
    pub rx_queues: u16,
    /// Send queues at most.
    pub tx_queues: u16,
    /// It can spread packets over receive queues by their addresses.
    pub rss: bool,
    /// The least and the greatest MTU.
    pub mtu: (u16, u16),
    rss_functions: u64,
    tx_offloads: u64,
}

/// What a device has counted since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceCounters {
    /// Packets received.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets that no receive queue had room for.
    pub missed: u64,
    /// Packets received with errors.
    pub receive_errors: u64,
    /// Packets that could not be sent.
    pub send_errors: u64,
    /// Packets lost because the pool was empty.
    pub no_buffer: u64,
}

/// An opened device: closed when dropped.
pub(crate) struct Opened {
    id: u16,
    device: String,
    handle: *mut raw::rte_device,
    started: bool,
}

// SAFETY: the handle is used in `drop` only, and DPDK locks its list of devices.
unsafe impl Send for Opened {}
// SAFETY: nothing can be done with the handle through a shared reference.
unsafe impl Sync for Opened {}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {} ({})", self.id, self.device)
    }
}

impl Device {
    /// Opens a device: a PCI address (`0000:01:00.0`) or a vdev with its arguments (`net_af_packet0,iface=eth0`), as
    /// DPDK's documentation of the driver has it.
    ///
    /// # Errors
    /// [`Error::Probe`], [`Error::InUse`], [`Error::NoPort`].
    pub fn open(_: Eal, device: &str) -> Result<Self, Error> {
        let arguments = CString::new(device).map_err(|_| Error::ZeroByte(device.to_owned()))?;
        let name = device.split(',').next().unwrap_or(device);
        let c_name = CString::new(name).map_err(|_| Error::ZeroByte(device.to_owned()))?;
        let mut id = 0;
        // SAFETY: both calls read strings that outlive them, and the second writes `id`.
        if unsafe { raw::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &mut id) } == 0 {
            return Err(Error::InUse(device.to_owned()));
        }
        // SAFETY: as above; the EAL runs (fact 1).
        let status = unsafe { raw::rte_dev_probe(arguments.as_ptr()) };
        if status < 0 {
            return Err(Error::Probe { device: device.to_owned(), cause: errno(status) });
        }
        // SAFETY: as above.
        if unsafe { raw::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &mut id) } != 0 {
            return Err(Error::NoPort(device.to_owned()));
        }
        let mut opened = Opened { id, device: device.to_owned(), handle: null_mut(), started: false };
        let raw_info = opened.raw_info()?;
        opened.handle = raw_info.device;
        Ok(Self { opened, info: Info::new(&raw_info) })
    }

    /// What the device says about itself.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Configures and starts the port. Received packets are put into buffers of `pool`. Returns one queue pair a worker.
    ///
    /// # Errors
    /// [`Error::Queues`] and [`Error::Mtu`] if the device can't do what is asked, [`Error::Configure`] if it refuses.
    pub fn start(self, settings: &Settings, pool: Mempool) -> Result<(Port, Vec<(RxQueue, TxQueue)>), Error> {
        let Self { mut opened, info } = self;
        opened.check(settings, &info)?;
        let id = opened.id;
        let configuration = configuration(settings, &info);
        // SAFETY: the port exists while `opened` does, and DPDK copies the configuration.
        let status =
            unsafe { raw::rte_eth_dev_configure(id, settings.queues, settings.queues, &configuration) };
        opened.step("be configured", status)?;
        // SAFETY: as above.
        let status = unsafe { raw::rte_eth_dev_set_mtu(id, settings.mtu) };
        if status != -ENOTSUP {
            opened.step("take the MTU", status)?;
        }
        opened.set_up_queues(settings, pool)?;
        // SAFETY: as above, and all queues are set up.
        opened.step("start", unsafe { raw::rte_eth_dev_start(id) })?;
        opened.started = true;
        // Virtual devices see every frame anyway and may not know these modes.
        // SAFETY: as above.
        unsafe {
            raw::rte_eth_allmulticast_enable(id);
            if settings.promiscuous {
                raw::rte_eth_promiscuous_enable(id);
            }
        }
        let port = Arc::new(opened);
        let pair = |queue| {
            // SAFETY: the port is started with this many queues, and each is made once here (fact 4).
            unsafe { (RxQueue::new(Arc::clone(&port), queue), TxQueue::new(Arc::clone(&port), queue)) }
        };
        let queues = (0..settings.queues).map(pair).collect();
        Ok((Port(port), queues))
    }
}

const ENOTSUP: i32 = 95;

/// RSS where there is more than one queue and the device has it; buffers are given back without looking at each.
fn configuration(settings: &Settings, info: &Info) -> raw::rte_eth_conf {
    // SAFETY: a C struct of integers, for which all zero means "the defaults".
    let mut configuration: raw::rte_eth_conf = unsafe { MaybeUninit::zeroed().assume_init() };
    configuration.rxmode.mtu = settings.mtu.into();
    if settings.queues > 1 && info.rss {
        configuration.rxmode.mq_mode = raw::SHIM_MQ_RX_RSS;
        configuration.rx_adv_conf.rss_conf.rss_hf = raw::SHIM_RSS_FUNCTIONS & info.rss_functions;
    }
    // Allowed because all packets come from one pool (fact 5) and nobody else refers to them (fact 3).
    configuration.txmode.offloads = info.tx_offloads & raw::SHIM_TX_FAST_FREE;
    configuration
}

impl Info {
    fn new(raw_info: &raw::rte_eth_dev_info) -> Self {
        // SAFETY: the driver's name is a constant string of the driver, or null.
        let driver = unsafe {
            (!raw_info.driver_name.is_null()).then(|| std::ffi::CStr::from_ptr(raw_info.driver_name))
        };
        Self {
            driver: driver.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            rx_queues: raw_info.max_rx_queues,
            tx_queues: raw_info.max_tx_queues,
            rss: raw_info.flow_type_rss_offloads & raw::SHIM_RSS_FUNCTIONS != 0,
            mtu: (raw_info.min_mtu, raw_info.max_mtu),
            rss_functions: raw_info.flow_type_rss_offloads,
            tx_offloads: raw_info.tx_offload_capa,
        }
    }
}

impl Port {
    /// The device, as it was named.
    pub fn device(&self) -> &str {
        &self.0.device
    }

    /// Its station address.
    pub fn mac(&self) -> [u8; 6] {
        // SAFETY: all zero is a valid address; DPDK writes it.
        let mut mac: raw::rte_ether_addr = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: the port exists while `self` does. It can't fail for a port that exists.
        unsafe { raw::rte_eth_macaddr_get(self.0.id, &mut mac) };
        mac.addr_bytes
    }

    /// Whether the link is up.
    pub fn link_is_up(&self) -> bool {
        // SAFETY: a C struct of integers, which DPDK writes.
        let mut link: raw::rte_eth_link = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: the port exists while `self` does.
        let status = unsafe { raw::rte_eth_link_get_nowait(self.0.id, &mut link) };
        status == 0 && link.link_status() == 1
    }

    /// Receives frames for other stations too from now on.
    pub fn promiscuous(&self) {
        // SAFETY: the port exists while `self` does. A device without this mode sees every frame.
        unsafe { raw::rte_eth_promiscuous_enable(self.0.id) };
    }

    /// What the device has counted.
    pub fn counters(&self) -> DeviceCounters {
        // SAFETY: a C struct of integers, which DPDK writes.
        let mut stats: raw::rte_eth_stats = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: the port exists while `self` does. On failure everything stays 0.
        unsafe { raw::rte_eth_stats_get(self.0.id, &mut stats) };
        DeviceCounters {
            received: stats.ipackets,
            sent: stats.opackets,
            missed: stats.imissed,
            receive_errors: stats.ierrors,
            send_errors: stats.oerrors,
            no_buffer: stats.rx_nombuf,
        }
    }
}

impl Opened {
    #[inline]
    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    fn step(&self, step: &'static str, status: i32) -> Result<(), Error> {
        let device = || self.device.clone();
        if status < 0 {
            Err(Error::Configure { device: device(), step, cause: errno(status) })
        } else {
            Ok(())
        }
    }

    fn raw_info(&self) -> Result<raw::rte_eth_dev_info, Error> {
        // SAFETY: a C struct for which all zero is valid; DPDK writes it.
        let mut info: raw::rte_eth_dev_info = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: the port exists while `self` does.
        let status = unsafe { raw::rte_eth_dev_info_get(self.id, &mut info) };
        self.step("describe itself", status).map(|()| info)
    }

    fn check(&self, settings: &Settings, info: &Info) -> Result<(), Error> {
        let queues = |direction, limit| {
            let (device, wanted) = (self.device.clone(), settings.queues);
            if limit < wanted { Err(Error::Queues { device, direction, wanted, limit }) } else { Ok(()) }
        };
        queues("receive", info.rx_queues)?;
        queues("send", info.tx_queues)?;
        let (min, max) = info.mtu;
        if settings.mtu < min || settings.mtu > max {
            return Err(Error::Mtu { device: self.device.clone(), mtu: settings.mtu, min, max });
        }
        Ok(())
    }

    fn set_up_queues(&self, settings: &Settings, pool: Mempool) -> Result<(), Error> {
        let (mut rx, mut tx) = (settings.rx_descriptors, settings.tx_descriptors);
        // SAFETY: the port exists while `self` does.
        let status = unsafe { raw::rte_eth_dev_adjust_nb_rx_tx_desc(self.id, &mut rx, &mut tx) };
        self.step("adjust its queue lengths", status)?;
        for queue in 0..settings.queues {
            // SAFETY: as above; queues below the configured number; null means the device's defaults; the pool lives
            // for ever (fact 2).
            unsafe {
                let socket = u32::try_from(raw::rte_eth_dev_socket_id(self.id)).unwrap_or(u32::MAX);
                let status = raw::rte_eth_rx_queue_setup(self.id, queue, rx, socket, null(), pool.as_ptr());
                self.step("set up a receive queue", status)?;
                self.step(
                    "set up a send queue",
                    raw::rte_eth_tx_queue_setup(self.id, queue, tx, socket, null()),
                )?;
            }
        }
        Ok(())
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // SAFETY: the last reference to the port: no queue object is left (fact 4), and its number and device are not
        // used again.
        unsafe {
            if self.started {
                raw::rte_eth_dev_stop(self.id);
            }
            raw::rte_eth_dev_close(self.id);
            if !self.handle.is_null() {
                raw::rte_dev_remove(self.handle);
            }
        }
    }
}

#[cfg(test)]
mod tests;
