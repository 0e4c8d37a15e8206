//! `baton nic`: which kernel driver has which PCI NIC, and giving one to another, as sysfs does it.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::arguments::NicCommand;
use crate::failure::Failure;
use crate::show::Rows;

/// Where the kernel shows devices.
const SYS: &str = "/sys";
/// Drivers that leave a device to DPDK.
pub(crate) const FOR_DPDK: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];
/// The PCI class of network controllers.
const NETWORK: &str = "0x02";

/// A PCI NIC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Nic {
    /// Its PCI address.
    pub(crate) address: String,
    /// Vendor and device, as numbers.
    pub(crate) id: String,
    /// Its kernel driver.
    pub(crate) driver: Option<String>,
    /// Its NUMA node, where it has one.
    pub(crate) numa_node: Option<u32>,
    /// Its interfaces of the kernel.
    pub(crate) interfaces: Vec<String>,
}

impl Nic {
    /// Whether DPDK can have it as it is; mlx5 stays with its driver.
    pub(crate) fn is_for_dpdk(&self) -> bool {
        self.driver.as_deref().is_some_and(|driver| FOR_DPDK.contains(&driver) || driver.starts_with("mlx"))
    }
}

/// A host's sysfs, and how its files are written; what the kernel does about that is the kernel's.
struct Sys<'a> {
    root: &'a Path,
    write: &'a dyn Fn(&Path, &str) -> io::Result<()>,
}

/// Runs the command.
pub(crate) fn run(command: &NicCommand, json: bool) -> Result<String, Failure> {
    let sys = Sys { root: Path::new(SYS), write: &|path, word| fs::write(path, word) };
    match command {
        NicCommand::List => show(&list(sys.root), json),
        NicCommand::Bind { address, driver, force } => {
            sys.bind(address, driver, |interface| !*force && is_used(interface))
        }
        NicCommand::Unbind { address } => sys.unbind(address),
    }
}

fn show(nics: &[Nic], json: bool) -> Result<String, Failure> {
    if json {
        return serde_json::to_string_pretty(nics)
            .map(|t| t + "\n")
            .map_err(|e| Failure::Text(e.to_string()));
    }
    if nics.is_empty() {
        return Ok("this host has no PCI NIC\n".to_owned());
    }
    let mut rows = Rows::new(&["ADDRESS", "ID", "DRIVER", "NUMA", "INTERFACES", "DPDK"], &[3]);
    for nic in nics {
        rows.add([
            nic.address.clone(),
            nic.id.clone(),
            nic.driver.clone().unwrap_or_else(|| "-".to_owned()),
            nic.numa_node.map_or_else(|| "-".to_owned(), |node| node.to_string()),
            if nic.interfaces.is_empty() { "-".to_owned() } else { nic.interfaces.join(" ") },
            if nic.is_for_dpdk() { "yes" } else { "-" }.to_owned(),
        ]);
    }
    Ok(rows.text())
}

/// The PCI NICs of a host, by address.
pub(crate) fn list(sys: &Path) -> Vec<Nic> {
    let devices = fs::read_dir(sys.join("bus/pci/devices")).into_iter().flatten().flatten();
    let mut nics: Vec<Nic> = devices.filter_map(|device| nic(&device.path())).collect();
    nics.sort_by(|a, b| a.address.cmp(&b.address));
    nics
}

fn nic(device: &Path) -> Option<Nic> {
    let text = |file: &str| fs::read_to_string(device.join(file)).map(|text| text.trim().to_owned()).ok();
    text("class").filter(|class| class.starts_with(NETWORK))?;
    let number = |file| text(file).map(|text| text.trim_start_matches("0x").to_owned()).unwrap_or_default();
    // A virtio device has its interfaces one level further down.
    let below = fs::read_dir(device).into_iter().flatten().flatten().map(|entry| entry.path());
    let places = std::iter::once(device.join("net")).chain(below.map(|path| path.join("net")));
    let interfaces = places.flat_map(|place| fs::read_dir(place).into_iter().flatten().flatten());
    let mut interfaces: Vec<String> =
        interfaces.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    interfaces.sort();
    interfaces.dedup();
    Some(Nic {
        address: device.file_name()?.to_string_lossy().into_owned(),
        id: format!("{}:{}", number("vendor"), number("device")),
        driver: driver(device),
        numa_node: text("numa_node").and_then(|node| node.parse().ok()),
        interfaces,
    })
}

fn driver(device: &Path) -> Option<String> {
    let link = fs::read_link(device.join("driver")).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

/// Whether this host is reached over the interface: it has a route.
fn is_used(interface: &str) -> bool {
    let routes = ["route", "ipv6_route"]
        .map(|name| fs::read_to_string(format!("/proc/self/net/{name}")).unwrap_or_default());
    let [v4, v6] = routes;
    let first = v4.lines().any(|line| line.split_whitespace().next() == Some(interface));
    // Every interface that is up has link-local and multicast routes in IPv6.
    let global = |line: &str| !line.starts_with("fe80") && !line.starts_with("ff00");
    first || v6.lines().any(|line| global(line) && line.split_whitespace().last() == Some(interface))
}

impl Sys<'_> {
    /// The device with this address, which may lack the domain.
    fn device(&self, address: &str) -> Result<(PathBuf, Nic), Failure> {
        let nics = list(self.root);
        let found =
            nics.iter().find(|nic| nic.address == address || nic.address == format!("0000:{address}"));
        let nic = found.cloned().ok_or_else(|| {
            let known: Vec<&str> = nics.iter().map(|nic| nic.address.as_str()).collect();
            Failure::Text(format!("error: this host has no PCI NIC {address}; it has: {}", known.join(" ")))
        })?;
        Ok((self.root.join("bus/pci/devices").join(&nic.address), nic))
    }

    fn put(&self, path: &Path, word: &str) -> Result<(), Failure> {
        (self.write)(path, word).map_err(|cause| {
            Failure::Text(format!("error: cannot write `{}` to {}: {cause}", word.trim(), path.display()))
        })
    }

    /// Gives a NIC to a driver.
    fn bind(&self, address: &str, wanted: &str, is_used: impl Fn(&str) -> bool) -> Result<String, Failure> {
        let (device, nic) = self.device(address)?;
        if nic.driver.as_deref() == Some(wanted) {
            return Ok(format!("{}: {wanted} has it already\n", nic.address));
        }
        if let Some(interface) = nic.interfaces.iter().find(|interface| is_used(interface)) {
            return Err(Failure::Text(format!(
                "error: {}: this host has routes over its interface {interface}, and would lose them; --force binds it all the same",
                nic.address
            )));
        }
        let to = self.root.join("bus/pci/drivers").join(wanted);
        if !to.exists() {
            return Err(Failure::Text(format!(
                "error: the kernel has not loaded the driver {wanted}: modprobe {wanted}"
            )));
        }
        if wanted == "vfio-pci" && !has_iommu(self.root) {
            return Err(Failure::Text(format!(
                "error: vfio-pci needs an IOMMU, and this host shows none: put intel_iommu=on on the kernel's command line (AMD's is \
                 on by itself), or bind without one: modprobe uio_pci_generic && baton nic bind {} --driver uio_pci_generic",
                nic.address
            )));
        }
        // The driver takes this device and no other of its kind.
        self.put(&device.join("driver_override"), wanted)?;
        if nic.driver.is_some() {
            self.put(&device.join("driver/unbind"), &nic.address)?;
        }
        self.put(&to.join("bind"), &nic.address)?;
        arrived(&device, &nic, Some(wanted))
    }

    /// Gives a NIC back to the kernel's own driver.
    fn unbind(&self, address: &str) -> Result<String, Failure> {
        let (device, nic) = self.device(address)?;
        if let Some(driver) = nic.driver.as_deref().filter(|driver| !FOR_DPDK.contains(driver)) {
            return Ok(format!("{}: {driver} has it already\n", nic.address));
        }
        self.put(&device.join("driver_override"), "\n")?;
        if nic.driver.is_some() {
            self.put(&device.join("driver/unbind"), &nic.address)?;
        }
        self.put(&self.root.join("bus/pci/drivers_probe"), &nic.address)?;
        arrived(&device, &nic, None)
    }
}

fn has_iommu(sys: &Path) -> bool {
    let shown = fs::read_dir(sys.join("class/iommu")).is_ok_and(|mut entries| entries.next().is_some());
    let unsafe_mode = fs::read_to_string(sys.join("module/vfio/parameters/enable_unsafe_noiommu_mode"));
    shown || unsafe_mode.is_ok_and(|word| word.trim() == "Y")
}

/// Says which driver has the device now, if it is the one that was wanted, or any at all.
fn arrived(device: &Path, nic: &Nic, wanted: Option<&str>) -> Result<String, Failure> {
    let mut text = nic.address.clone();
    let now = driver(device);
    let former = nic.driver.as_deref().unwrap_or("no driver");
    match &now {
        Some(now) if wanted.is_none_or(|wanted| wanted == now) => {
            let _ = writeln!(text, ": from {former} to {now}");
            Ok(text)
        }
        _ => Err(Failure::Text(format!(
            "error: {}: {} has not taken it (`dmesg` says why); {} has it now",
            nic.address,
            wanted.unwrap_or("the kernel's driver"),
            now.as_deref().unwrap_or("no driver")
        ))),
    }
}

#[cfg(test)]
mod tests;
