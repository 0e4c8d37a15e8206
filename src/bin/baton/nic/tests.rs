use std::os::unix::fs::symlink;

use super::*;

const ADDRESS: &str = "0000:01:00.0";

/// A sysfs with a NIC that e1000e has, and a disk.
fn sysfs() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let pci = dir.path().join("bus/pci");
    for driver in ["e1000e", "vfio-pci", "uio_pci_generic"] {
        fs::create_dir_all(pci.join("drivers").join(driver)).unwrap();
    }
    for (address, class) in [(ADDRESS, "0x020000"), ("0000:02:00.0", "0x010802")] {
        let device = pci.join("devices").join(address);
        fs::create_dir_all(device.join("net/eth7")).unwrap();
        for (file, text) in [("class", class), ("vendor", "0x8086"), ("device", "0x10d3"), ("numa_node", "1")]
        {
            fs::write(device.join(file), format!("{text}\n")).unwrap();
        }
    }
    symlink(pci.join("drivers/e1000e"), pci.join("devices").join(ADDRESS).join("driver")).unwrap();
    dir
}

/// What a kernel does when these files are written.
fn kernel(sys: &Path) -> impl Fn(&Path, &str) -> io::Result<()> {
    let (pci, device) = (sys.join("bus/pci"), sys.join("bus/pci/devices").join(ADDRESS));
    move |path, word| {
        fs::write(path, word)?;
        let link = device.join("driver");
        let wanted = || fs::read_to_string(device.join("driver_override")).unwrap_or_default();
        let to = match path.file_name().and_then(|name| name.to_str()) {
            Some("unbind") => return fs::remove_file(&link),
            Some("bind") => path.parent().map(Path::to_path_buf),
            Some("drivers_probe") if wanted().trim().is_empty() => Some(pci.join("drivers/e1000e")),
            _ => None,
        };
        to.map_or(Ok(()), |to| symlink(to, &link))
    }
}

#[test]
fn nics_are_listed_with_driver_node_and_interfaces() {
    let dir = sysfs();
    let nics = list(dir.path());
    let nic = Nic {
        address: ADDRESS.to_owned(),
        id: "8086:10d3".to_owned(),
        driver: Some("e1000e".to_owned()),
        numa_node: Some(1),
        interfaces: vec!["eth7".to_owned()],
    };
    assert_eq!(nics, [nic]);
    assert!(!nics[0].is_for_dpdk());
    let text = show(&nics, false).unwrap();
    assert!(text.contains("0000:01:00.0  8086:10d3  e1000e"), "{text}");
}

#[test]
fn a_nic_goes_to_the_driver_and_back() {
    let dir = sysfs();
    let sys = Sys { root: dir.path(), write: &kernel(dir.path()) };
    let done = sys.bind("01:00.0", "uio_pci_generic", |_| false).unwrap();
    assert_eq!(done, "0000:01:00.0: from e1000e to uio_pci_generic\n");
    assert!(list(dir.path())[0].is_for_dpdk());
    assert!(sys.bind(ADDRESS, "uio_pci_generic", |_| false).unwrap().contains("already"));
    assert_eq!(sys.unbind(ADDRESS).unwrap(), "0000:01:00.0: from uio_pci_generic to e1000e\n");
    assert!(sys.unbind(ADDRESS).unwrap().contains("already"));
}

#[test]
fn what_would_do_harm_or_can_not_work_is_refused_with_the_way_out() {
    let dir = sysfs();
    let sys = Sys { root: dir.path(), write: &kernel(dir.path()) };
    let refusal = |outcome: Result<String, Failure>| outcome.unwrap_err().text();
    assert!(refusal(sys.bind(ADDRESS, "uio_pci_generic", |i| i == "eth7")).contains("--force"));
    assert!(refusal(sys.bind(ADDRESS, "igb_uio", |_| false)).contains("modprobe igb_uio"));
    assert!(refusal(sys.bind(ADDRESS, "vfio-pci", |_| false)).contains("IOMMU"));
    assert!(refusal(sys.bind("0000:02:00.0", "vfio-pci", |_| false)).contains("it has: 0000:01:00.0"));
    assert_eq!(list(dir.path())[0].driver.as_deref(), Some("e1000e"), "nothing was changed");
    fs::create_dir_all(dir.path().join("class/iommu/dmar0")).unwrap();
    assert!(sys.bind(ADDRESS, "vfio-pci", |_| false).is_ok());
}

#[test]
fn a_driver_that_does_not_take_it_is_named() {
    let dir = sysfs();
    let sys = Sys { root: dir.path(), write: &|path, word| fs::write(path, word) };
    let said = sys.bind(ADDRESS, "uio_pci_generic", |_| false).unwrap_err().text();
    assert!(said.contains("uio_pci_generic has not taken it"), "{said}");
}
