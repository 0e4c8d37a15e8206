//! What was attempted on which device, and what DPDK said.

use std::io;

/// Why DPDK did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `rte_eal_init` was called before in this process.
    #[error("DPDK can be started once in a process, and it was started before")]
    StartedBefore,
    /// An argument contains a zero byte.
    #[error("`{0}` contains a zero byte")]
    ZeroByte(String),
    /// The EAL refused its arguments or the machine.
    #[error(
        "DPDK did not start with the arguments `{arguments}`: see its own message above; without reserved hugepages, \
         add `--no-huge` and `-m 512` to `forwarder.eal`"
    )]
    Start {
        /// The arguments, as they were given.
        arguments: String,
        /// The EAL's error number.
        #[source]
        cause: io::Error,
    },
    /// No worker could be launched on a core.
    #[error("no worker can be launched on lcore {lcore}")]
    Launch {
        /// The lcore's number.
        lcore: u32,
        /// DPDK's error number.
        #[source]
        cause: io::Error,
    },
    /// There is a pool of packet buffers already.
    #[error("all ports share one pool of packet buffers, and there is one already")]
    SecondPool,
    /// The packet buffers could not be had.
    #[error(
        "no memory for {mbufs} packet buffers of {bytes} bytes, {} MiB: reserve more hugepages, give DPDK more with `-m`, or \
         lower `forwarder.rx_descriptors` and `forwarder.tx_descriptors`",
        (u64::from(*mbufs) * u64::from(*bytes)) >> 20
    )]
    Mempool {
        /// How many were asked for.
        mbufs: u32,
        /// The size of each.
        bytes: u16,
        /// DPDK's error number.
        #[source]
        cause: io::Error,
    },
    /// A device does not exist, has no driver, or is in use.
    #[error("the device `{device}` can't be opened: {hint}")]
    Probe {
        /// As it was named.
        device: String,
        /// What the kernel knows of it, and what to do.
        hint: String,
        /// DPDK's error number.
        #[source]
        cause: io::Error,
    },
    /// The device was opened before in this process.
    #[error("the device `{0}` is in use already: give every port its own device name")]
    InUse(String),
    /// The operator's own arguments for DPDK keep it away from a port's device.
    #[error("the port's device `{device}` is excluded by {argument} in `forwarder.eal`: remove that there")]
    Excluded {
        /// The device.
        device: String,
        /// The argument.
        argument: &'static str,
    },
    /// The device is there but is no Ethernet port.
    #[error("the device `{device}` has no Ethernet port: {hint}")]
    NoPort {
        /// As it was named.
        device: String,
        /// What the kernel knows of it, and what to do.
        hint: String,
    },
    /// The port has fewer queues than there are workers.
    #[error(
        "the port `{device}` has at most {limit} {direction} queues, but {wanted} workers need one each: \
         use at most {limit} workers, or a device with more queues"
    )]
    Queues {
        /// The device.
        device: String,
        /// `receive` or `send`.
        direction: &'static str,
        /// The workers.
        wanted: u16,
        /// What the device offers.
        limit: u16,
    },
    /// The MTU is not one that the port can have.
    #[error("the port `{device}` can't have an MTU of {mtu} bytes: it takes {min} to {max}")]
    Mtu {
        /// The device.
        device: String,
        /// What was asked for.
        mtu: u16,
        /// The least.
        min: u16,
        /// The most.
        max: u16,
    },
    /// Some step of configuring or starting a port failed.
    #[error("the port `{device}` refused to {step}")]
    Configure {
        /// The device.
        device: String,
        /// What was attempted.
        step: &'static str,
        /// DPDK's error number.
        #[source]
        cause: io::Error,
    },
}

/// DPDK's return value: negative is an error number.
pub(crate) fn errno(status: i32) -> io::Error {
    io::Error::from_raw_os_error(status.saturating_neg())
}

/// The error number that DPDK left in this thread.
pub(crate) fn last() -> io::Error {
    // SAFETY: reads a thread-local integer, which exists in every thread.
    io::Error::from_raw_os_error(unsafe { crate::raw::shim_errno() })
}
