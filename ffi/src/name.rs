//! How a device is named: in `batond.toml` as people write it, for DPDK in one way.

use std::fmt;
use std::path::Path;

/// A device with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceName {
    /// The device as DPDK calls it: `0000:01:00.0`, `net_tap0`.
    name: String,
    /// The driver's arguments; empty, or with a comma in front.
    arguments: String,
    pci: bool,
}

impl DeviceName {
    /// Reads a PCI address (`0000:01:00.0`, `01:00.0`, `pci:0000:01:00.0`) or the name of a vdev (`net_tap0`,
    /// `vdev:net_tap0`), with the driver's arguments behind a comma. Whatever is no PCI address is a vdev.
    pub fn new(text: &str) -> Self {
        let (name, arguments) = text.split_at(text.find(',').unwrap_or(text.len()));
        let address = pci_address(name.strip_prefix("pci:").unwrap_or(name));
        let pci = address.is_some();
        let virtual_device = || name.strip_prefix("vdev:").unwrap_or(name).to_owned();
        Self { name: address.unwrap_or_else(virtual_device), arguments: arguments.to_owned(), pci }
    }

    /// The device without arguments, as DPDK names its port.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It is on the PCI bus.
    pub fn is_pci(&self) -> bool {
        self.pci
    }

    /// Why DPDK may have found no port there, as far as the kernel knows.
    pub(crate) fn hint(&self) -> String {
        if !self.pci {
            return "does its driver exist, and are its arguments right?".to_owned();
        }
        let device = Path::new("/sys/bus/pci/devices").join(&self.name);
        if !device.exists() {
            return "no such device is on the PCI bus: see `lspci -D`".to_owned();
        }
        let driver = std::fs::read_link(device.join("driver")).ok();
        let driver = driver.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy());
        let bind = format!("`dpdk-devbind.py --bind=vfio-pci {}` (docs/routing-node.md)", self.name);
        match driver.as_deref() {
            None => format!("no kernel driver has it: {bind}"),
            Some(driver @ ("vfio-pci" | "uio_pci_generic" | "igb_uio")) => format!(
                "it is bound to {driver}, and DPDK has no driver for it or could not map it: see DPDK's own message above"
            ),
            Some(driver) => format!("the kernel's driver {driver} has it: {bind}"),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, self.arguments)
    }
}

/// `DDDD:BB:DD.F` in hexadecimal, the domain left out or not, as DPDK writes it (`PCI_PRI_FMT`).
fn pci_address(text: &str) -> Option<String> {
    let (rest, function) = text.rsplit_once('.')?;
    let (rest, device) = rest.rsplit_once(':')?;
    let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
    let number = |digits: &str, most: u32| {
        let good = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
        u32::from_str_radix(digits, 16).ok().filter(|n| good && *n <= most)
    };
    let (domain, bus) = (number(domain, u32::MAX)?, number(bus, 0xff)?);
    let (device, function) = (number(device, 0x1f)?, number(function, 7)?);
    Some(format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pci_device_has_one_name_in_every_usual_spelling() {
        for text in ["0000:0a:02.1", "0a:02.1", "pci:0000:0a:02.1", "0000:0A:02.1", "0:a:2.1"] {
            let name = DeviceName::new(text);
            assert_eq!((name.name(), name.is_pci()), ("0000:0a:02.1", true), "{text}");
        }
        let name = DeviceName::new("pci:0a:02.1,rx_vec=1,x=2");
        assert_eq!((name.name(), name.to_string().as_str()), ("0000:0a:02.1", "0000:0a:02.1,rx_vec=1,x=2"));
        assert_eq!(DeviceName::new("10000:01:00.0").name(), "10000:01:00.0", "a domain behind VMD");
    }

    #[test]
    fn what_is_no_pci_address_is_a_virtual_device() {
        for text in ["net_tap0", "net_af_packet0,iface=eth0.5", "0000:20:02.9", "g:0:0.1", "1.1"] {
            let name = DeviceName::new(text);
            assert!(!name.is_pci() && name.to_string() == text, "{text}");
        }
        assert_eq!(DeviceName::new("vdev:net_tap0,iface=t0").to_string(), "net_tap0,iface=t0");
    }
}
