//! Ethernet ports: found by the name of their device, configured once, started with one queue pair a worker.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};
use std::sync::{Arc, Mutex, PoisonError};

use crate::eal::Eal;
use crate::error::{Error, errno};
use crate::mempool::Mempool;
use crate::name::DeviceName;
use crate::queue::{RxQueue, TxQueue};
use crate::raw;
use crate::steer::{self, PortRules, Steered, Wanted};

/// An opened device that is not configured yet.
#[derive(Debug)]
pub struct Device {
    opened: Opened,
    info: Info,
}

/// A started port. It is stopped and its device closed when the port and all its queues are gone.
#[derive(Clone, Debug)]
pub struct Port {
    opened: Arc<Opened>,
    driver: Arc<str>,
    steered: Arc<[Steered]>,
}

/// A port that was started, with its queues.
#[derive(Debug)]
pub struct Started {
    /// The port.
    pub port: Port,
    /// One pair a worker.
    pub pairs: Vec<(RxQueue, TxQueue)>,
    /// The receive queue that gets nothing but what is steered there, if the device took rules for it.
    pub queue: Option<RxQueue>,
}

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
    /// It can verify checksums of IPv4 headers ([`crate::Mbuf::ipv4_checksum_is_right`]); a started port does.
    pub ipv4_checksums: bool,
    /// The least and the greatest MTU.
    pub mtu: (u16, u16),
    /// The greatest MTU that DPDK lets anyone set: that of drivers for interfaces of the kernel is too small.
    settable_mtu: u16,
    /// The NUMA node that the device is on, if it is on one.
    pub numa: Option<u32>,
    rss_functions: u64,
    tx_offloads: u64,
}

/// Something that a port can do without and that its device refused.
#[derive(Debug)]
pub struct Refused {
    /// What was asked for.
    pub asked: &'static str,
    /// What follows from it.
    pub consequence: &'static str,
    /// DPDK's error number; [`io::ErrorKind::Unsupported`] if the driver does not know of it.
    pub cause: io::Error,
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
    refused: Vec<Refused>,
}

/// The ports that are open in this process: DPDK does not mind if one is opened twice.
static OPEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());

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
    /// Opens a device: a PCI device or a vdev with its arguments, as [`DeviceName::new`] reads it. One that DPDK has found
    /// on the bus when it started is taken as it is.
    ///
    /// # Errors
    /// [`Error::Probe`], [`Error::InUse`] if it is open in this process already, [`Error::NoPort`].
    pub fn open(_: Eal, device: &str) -> Result<Self, Error> {
        let name = DeviceName::new(device);
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let id = match port_of(&name)? {
            Some(id) if open.contains(&id) => return Err(Error::InUse(device.to_owned())),
            Some(id) => id,
            None => probe(&name)?,
        };
        open.push(id);
        drop(open);
        let mut opened =
            Opened { id, device: device.to_owned(), handle: null_mut(), started: false, refused: vec![] };
        let raw_info = opened.raw_info()?;
        opened.handle = raw_info.device;
        // SAFETY: the port exists while `opened` does.
        let numa = u32::try_from(unsafe { raw::rte_eth_dev_socket_id(id) }).ok();
        Ok(Self { info: Info::new(&raw_info, numa), opened })
    }

    /// How long its queues will be if these lengths are asked for: what the device can have.
    ///
    /// # Errors
    /// [`Error::Configure`].
    pub fn descriptors(&self, mut rx: u16, mut tx: u16) -> Result<(u16, u16), Error> {
        // SAFETY: the port exists while `self` does.
        let status = unsafe { raw::rte_eth_dev_adjust_nb_rx_tx_desc(self.opened.id, &mut rx, &mut tx) };
        self.opened.step("adjust its queue lengths", status).map(|()| (rx, tx))
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
        let Started { port, pairs, .. } = self.start_steered(settings, &[], pool)?;
        Ok((port, pairs))
    }

    /// As [`Device::start`], with one more receive queue, to which packets of these kinds are steered. A device that takes no
    /// such rule is started as without them.
    ///
    /// # Errors
    /// As [`Device::start`].
    pub fn start_steered(
        self,
        settings: &Settings,
        wanted: &[Wanted],
        pool: Mempool,
    ) -> Result<Started, Error> {
        let Self { mut opened, info } = self;
        opened.check(settings, &info)?;
        let (steered, has_queue) = match opened.bring_up_steered(settings, wanted, &info, pool) {
            Ok(steered) => (steered, true),
            Err(refused) => {
                opened.bring_up(settings, settings.queues, &info, pool)?;
                let refusal =
                    |wanted: &Wanted| Steered { name: wanted.name.clone(), refused: Some(refused.clone()) };
                (wanted.iter().map(refusal).collect(), false)
            }
        };
        opened.receive_all(settings);
        let opened = Arc::new(opened);
        // SAFETY: the port is started with this many queues, and each is made once here (fact 4).
        let rx = |queue| unsafe { RxQueue::new(Arc::clone(&opened), queue) };
        // SAFETY: as above.
        let tx = |queue| unsafe { TxQueue::new(Arc::clone(&opened), queue) };
        let pairs = (0..settings.queues).map(|queue| (rx(queue), tx(queue))).collect();
        let queue = has_queue.then(|| rx(settings.queues));
        let port = Port { opened: Arc::clone(&opened), driver: info.driver.into(), steered: steered.into() };
        Ok(Started { port, pairs, queue })
    }
}

const ENOTSUP: i32 = 95;

/// An error with its cause, on one line.
fn said(error: &Error) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}

const PROMISCUOUS: &str = "unless it does so anyway, only frames to its own address arrive";

/// The port of a device that DPDK has already.
fn port_of(name: &DeviceName) -> Result<Option<u16>, Error> {
    let name = CString::new(name.name()).map_err(|_| Error::ZeroByte(name.to_string()))?;
    let mut id = 0;
    // SAFETY: reads a string that outlives the call, and writes `id`.
    let found = unsafe { raw::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut id) } == 0;
    Ok(found.then_some(id))
}

/// Has DPDK take a device, and returns its port.
fn probe(name: &DeviceName) -> Result<u16, Error> {
    let (device, hint) = (name.to_string(), || name.hint());
    let arguments = CString::new(device.as_str()).map_err(|_| Error::ZeroByte(device.clone()))?;
    // SAFETY: reads a string that outlives the call; the EAL runs (fact 1).
    let status = unsafe { raw::rte_dev_probe(arguments.as_ptr()) };
    if status < 0 {
        return Err(Error::Probe { device, hint: hint(), cause: errno(status) });
    }
    port_of(name)?.ok_or_else(|| Error::NoPort { device, hint: hint() })
}

/// RSS where there is more than one queue and the device has it; checksums of IPv4 headers verified if it can, and nothing else:
/// targets verify those of TCP and UDP, and virtio may leave those unfinished if it is asked for them. Buffers are given back
/// without looking at each.
fn configuration(settings: &Settings, queues: u16, info: &Info) -> raw::rte_eth_conf {
    // SAFETY: a C struct of integers, for which all zero means "the defaults".
    let mut configuration: raw::rte_eth_conf = unsafe { MaybeUninit::zeroed().assume_init() };
    configuration.rxmode.mtu = settings.mtu.min(info.settable_mtu).into();
    if queues > 1 && info.rss {
        configuration.rxmode.mq_mode = raw::SHIM_MQ_RX_RSS;
        configuration.rx_adv_conf.rss_conf.rss_hf = raw::SHIM_RSS_FUNCTIONS & info.rss_functions;
    }
    if info.ipv4_checksums {
        configuration.rxmode.offloads = raw::SHIM_RX_IPV4_CHECKSUM;
    }
    // Allowed because all packets come from one pool (fact 5) and nobody else refers to them (fact 3).
    configuration.txmode.offloads = info.tx_offloads & raw::SHIM_TX_FAST_FREE;
    configuration
}

impl Info {
    fn new(raw_info: &raw::rte_eth_dev_info, numa: Option<u32>) -> Self {
        // SAFETY: the driver's name is a constant string of the driver, or null.
        let driver = unsafe {
            (!raw_info.driver_name.is_null()).then(|| std::ffi::CStr::from_ptr(raw_info.driver_name))
        };
        let longest = if raw_info.max_rx_pktlen == 0 { u32::MAX } else { raw_info.max_rx_pktlen };
        let frame = longest.saturating_sub(raw::SHIM_ETHER_OVERHEAD);
        let settable_mtu = u16::try_from(frame).unwrap_or(u16::MAX).min(raw_info.max_mtu);
        let of_the_kernel = driver.is_some_and(|name| [c"net_af_packet", c"net_tap"].contains(&name));
        Self {
            driver: driver.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            rx_queues: raw_info.max_rx_queues,
            tx_queues: raw_info.max_tx_queues,
            rss: raw_info.flow_type_rss_offloads & raw::SHIM_RSS_FUNCTIONS != 0,
            // Drivers for interfaces of the kernel compute what others leave to the device, and the payload's checksum too.
            ipv4_checksums: !of_the_kernel && raw_info.rx_offload_capa & raw::SHIM_RX_IPV4_CHECKSUM != 0,
            mtu: (raw_info.min_mtu, if of_the_kernel { raw_info.max_mtu } else { settable_mtu }),
            settable_mtu,
            numa,
            rss_functions: raw_info.flow_type_rss_offloads,
            tx_offloads: raw_info.tx_offload_capa,
        }
    }

    /// How long a buffer must be for a frame of `frame_bytes` to arrive in one piece: NICs count buffers in KiB and round
    /// down, those of the e1000 family in powers of two.
    pub fn buffer_bytes(&self, frame_bytes: u16) -> u16 {
        let bytes = u32::from(frame_bytes).max(LEAST_BUFFER_BYTES);
        let rounded = match self.driver.as_str() {
            "net_e1000_em" => bytes.next_power_of_two(),
            _ => bytes.next_multiple_of(1024),
        };
        u16::try_from(rounded).unwrap_or(MOST_BUFFER_BYTES)
    }
}

/// DPDK's SOCKET_ID_ANY.
const ANY_NODE: u32 = u32::MAX;
/// The least that drivers expect of a buffer.
const LEAST_BUFFER_BYTES: u32 = 2048;
/// The most that a buffer can hold beside its headroom, in KiB as above.
const MOST_BUFFER_BYTES: u16 = 63 << 10;

impl Port {
    /// The device, as it was named.
    pub fn device(&self) -> &str {
        &self.opened.device
    }

    /// Its driver.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// Its station address.
    pub fn mac(&self) -> [u8; 6] {
        // SAFETY: all zero is a valid address; DPDK writes it.
        let mut mac: raw::rte_ether_addr = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: the port exists while `self` does. It can't fail for a port that exists.
        unsafe { raw::rte_eth_macaddr_get(self.opened.id, &mut mac) };
        mac.addr_bytes
    }

    /// Whether the link is up.
    pub fn link_is_up(&self) -> bool {
        // SAFETY: the port exists while `self` does.
        unsafe { raw::shim_link_is_up(self.opened.id) == 1 }
    }

    /// What became of the wishes to steer packets.
    pub fn steered(&self) -> &[Steered] {
        &self.steered
    }

    /// What the device refused and the port does without.
    pub fn refused(&self) -> &[Refused] {
        &self.opened.refused
    }

    /// Receives frames for other stations too from now on.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn promiscuous(&self) -> Result<(), Refused> {
        // SAFETY: the port exists while `self` does.
        let status = unsafe { raw::rte_eth_promiscuous_enable(self.opened.id) };
        let refused =
            |cause| Refused { asked: "receive frames for other stations", consequence: PROMISCUOUS, cause };
        if status < 0 { Err(refused(errno(status))) } else { Ok(()) }
    }

    /// What the device has counted.
    pub fn counters(&self) -> DeviceCounters {
        // SAFETY: a C struct of integers, which DPDK writes.
        let mut stats: raw::rte_eth_stats = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: the port exists while `self` does. On failure everything stays 0.
        unsafe { raw::rte_eth_stats_get(self.opened.id, &mut stats) };
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

    fn without(&mut self, asked: &'static str, consequence: &'static str, status: i32) {
        if status < 0 {
            self.refused.push(Refused { asked, consequence, cause: errno(status) });
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

    /// Starts the port with a queue more than the workers have, to which these kinds of packets are steered and no others.
    ///
    /// # Errors
    /// Why there is none: the port is not started then.
    fn bring_up_steered(
        &mut self,
        settings: &Settings,
        wanted: &[Wanted],
        info: &Info,
        pool: Mempool,
    ) -> Result<Vec<Steered>, String> {
        let (workers, queues) = (settings.queues, settings.queues.saturating_add(1));
        if wanted.is_empty() {
            return Err(String::new());
        }
        if info.rx_queues.min(info.tx_queues) < queues {
            return Err(format!("the device has {} queues at most", info.rx_queues.min(info.tx_queues)));
        }
        let mut rules = PortRules(self.id);
        self.configure(settings, queues, info).map_err(|e| said(&e))?;
        if !rules.exist() {
            return Err(format!("the driver {} has no rules", info.driver));
        }
        self.run(settings, queues, info, pool).map_err(|e| said(&e))?;
        steer::steer(&mut rules, wanted, workers).inspect_err(|_| {
            rules.flush();
            self.halt();
        })
    }

    /// Configures and starts the port.
    fn bring_up(
        &mut self,
        settings: &Settings,
        queues: u16,
        info: &Info,
        pool: Mempool,
    ) -> Result<(), Error> {
        self.configure(settings, queues, info)?;
        self.run(settings, queues, info, pool)
    }

    fn configure(&mut self, settings: &Settings, queues: u16, info: &Info) -> Result<(), Error> {
        let configuration = configuration(settings, queues, info);
        // SAFETY: the port exists while `self` does and is not started, and DPDK copies the configuration.
        let status = unsafe { raw::rte_eth_dev_configure(self.id, queues, queues, &configuration) };
        self.step("be configured", status)
    }

    fn run(&mut self, settings: &Settings, queues: u16, info: &Info, pool: Mempool) -> Result<(), Error> {
        self.refused.clear();
        let status = match settings.mtu {
            // Its interface has the MTU that counts.
            mtu if mtu > info.settable_mtu => -ENOTSUP,
            // SAFETY: the port exists while `self` does.
            mtu => unsafe { raw::rte_eth_dev_set_mtu(self.id, mtu) },
        };
        if status == -ENOTSUP {
            self.without(
                "take this MTU",
                "what is behind it must have it: `ip link set INTERFACE mtu`",
                status,
            );
        } else {
            self.step("take the MTU", status)?;
        }
        self.set_up_queues(settings, queues, info, pool)?;
        // SAFETY: as above, and all queues are set up.
        self.step("start", unsafe { raw::rte_eth_dev_start(self.id) })?;
        self.started = true;
        Ok(())
    }

    fn halt(&mut self) {
        if std::mem::take(&mut self.started) {
            // SAFETY: the port exists while `self` does, and nobody uses its queues.
            unsafe { raw::rte_eth_dev_stop(self.id) };
        }
    }

    fn receive_all(&mut self, settings: &Settings) {
        // SAFETY: the port exists while `self` does.
        let status = unsafe { raw::rte_eth_allmulticast_enable(self.id) };
        self.without(
            "receive all groups",
            "unless it does so anyway, neighbour discovery and routing fail",
            status,
        );
        if settings.promiscuous {
            // SAFETY: as above.
            let status = unsafe { raw::rte_eth_promiscuous_enable(self.id) };
            self.without("receive frames for other stations", PROMISCUOUS, status);
        }
    }

    fn set_up_queues(
        &self,
        settings: &Settings,
        queues: u16,
        info: &Info,
        pool: Mempool,
    ) -> Result<(), Error> {
        let (mut rx, mut tx) = (settings.rx_descriptors, settings.tx_descriptors);
        // SAFETY: the port exists while `self` does.
        let status = unsafe { raw::rte_eth_dev_adjust_nb_rx_tx_desc(self.id, &mut rx, &mut tx) };
        self.step("adjust its queue lengths", status)?;
        let socket = info.numa.unwrap_or(ANY_NODE);
        // One full queue must not stop the others (head-of-line blocking); a driver without the bit ignores it.
        let rx_queue = raw::rte_eth_rxconf { rx_drop_en: 1, ..self.raw_info()?.default_rxconf };
        for queue in 0..queues {
            // SAFETY: as above; queues below the configured number; DPDK copies the queue's configuration, and null means the
            // device's defaults; the pool lives for ever (fact 2).
            unsafe {
                let status =
                    raw::rte_eth_rx_queue_setup(self.id, queue, rx, socket, &rx_queue, pool.as_ptr());
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
        self.halt();
        // SAFETY: the last reference to the port: no queue object is left (fact 4), and its number and device are not
        // used again.
        unsafe {
            raw::rte_eth_dev_close(self.id);
            if !self.handle.is_null() {
                raw::rte_dev_remove(self.handle);
            }
        }
        OPEN.lock().unwrap_or_else(PoisonError::into_inner).retain(|id| *id != self.id);
    }
}

#[cfg(test)]
mod tests;
