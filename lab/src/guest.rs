//! A routing node in a virtual machine, so that its NIC is a PCI device with an ordinary poll-mode driver.
//!
//! QEMU runs in the routing node's namespace and emulates everything, the processor included. The guest's NIC is a TAP
//! there, bridged with the host's place on the segment. Its file system is this machine's own, read only, with the lab's
//! files writable at the same place; so programs, libraries and configuration are where they are outside. `scripts/guest`
//! makes what is booted.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::error::{LabError, Result, WithPath};
use crate::fabric::mac;
use crate::namespace::Namespace;
use crate::spec::{Local, Machine, Model};

/// What the guest does with the machine's file system.
const BOOT: &str = include_str!("guest/boot.sh");
/// How long a guest may take to start, on a machine that has other work.
const BOOTED: Duration = Duration::from_secs(120);
/// How long a script in a guest may take.
const DONE: Duration = Duration::from_secs(150);
/// Where the NIC is: the first device behind the first root port.
pub const NIC: &str = "0000:01:00.0";

/// A guest that runs.
#[derive(Debug)]
pub struct Guest {
    files: PathBuf,
    serial: BufReader<UnixStream>,
    /// What has come of the line that is not whole yet.
    line: String,
    number: u32,
}

/// Where `scripts/guest` has put what is booted, beside the programs: `BATON_GUEST`, or `guest` beside their directory.
///
/// # Errors
/// [`LabError::NoGuest`] if it is not there.
pub fn directory(binaries: &Path) -> Result<PathBuf> {
    let given = std::env::var_os("BATON_GUEST").map(PathBuf::from);
    let directory = given.or_else(|| Some(binaries.parent()?.join("guest"))).unwrap_or_default();
    if directory.join("complete").exists() { Ok(directory) } else { Err(LabError::NoGuest(directory)) }
}

/// The network of the guest's kernel as an operator makes it: the local port's interface, with what kernels make by default.
pub fn network(local: Local, mtu: u16, addresses: (impl ToString, impl ToString)) -> String {
    let device = match local {
        Local::Veth => format!(
            "ip link add loc0 mtu {mtu} type veth peer name loc1 mtu {mtu}
             ip link set loc1 up"
        ),
        Local::Tap => format!(
            "ip tuntap add dev loc0 mode tap multi_queue
             ip link set loc0 mtu {mtu}"
        ),
        Local::VirtioUser => format!(
            "ip tuntap add dev loc0 mode tap multi_queue vnet_hdr
             ip link set loc0 mtu {mtu}"
        ),
    };
    let (v4, v6) = (addresses.0.to_string(), addresses.1.to_string());
    format!(
        "{device}
         ip link set loc0 up
         ip addr add {v4}/15 dev loc0
         ip addr add {v6}/32 dev loc0 nodad"
    )
}

/// Makes the routing node's end of the wire: a TAP, bridged with its place on the segment.
///
/// # Errors
/// What the first failing command says.
pub fn wire(namespace: &Namespace, machine: Machine, mtu: u16) -> Result<()> {
    let queues = if machine.tap_queues() > 1 { "multi_queue" } else { "" };
    namespace
        .sh(&format!(
            "ip link set eth0 address 02:00:00:00:01:0a
             ip link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
             ip tuntap add dev tap0 mode tap {queues}
             for l in br0 eth0 tap0; do
                 echo 1 >/proc/sys/net/ipv6/conf/$l/disable_ipv6
                 ip link set $l mtu {mtu}
             done
             for l in eth0 tap0; do ip link set $l master br0 up; done
             ip link set br0 arp off up"
        ))
        .map(drop)
}

/// The command that boots a guest. `files` are the lab's, `run` the directory of its sockets.
///
/// # Errors
/// [`LabError::File`].
pub fn command(
    namespace: &Namespace,
    directory: &Path,
    machine: Machine,
    (files, run): (&Path, &Path),
    network: &str,
) -> Result<Command> {
    fs::create_dir_all(files.join("guest")).with_path("create", files.join("guest"))?;
    let script = files.join("guest.sh");
    let bind = machine.kernel_driver();
    let text = format!(
        "guest={guest}\nfiles={files}\nrun={run}\nbind={bind}\nhugepages={HUGEPAGES}\nnetwork='{network}'\n{BOOT}",
        guest = directory.display(),
        files = files.display(),
        run = run.display(),
    );
    fs::write(&script, text).with_path("write", &script)?;
    let mut command = namespace.command(&directory.join("qemu").to_string_lossy());
    command.args(["-machine", "q35,kernel-irqchip=split", "-accel", "tcg,thread=multi", "-cpu", "max"]);
    command.args([
        "-m",
        "1400",
        "-smp",
        "3",
        "-vga",
        "none",
        "-nic",
        "none",
        "-display",
        "none",
        "-no-reboot",
    ]);
    if machine.vfio {
        command.args(["-device", "intel-iommu,intremap=on,caching-mode=on"]);
    }
    command.arg("-kernel").arg(directory.join("vmlinuz")).arg("-initrd").arg(directory.join("initrd.gz"));
    command.args([
        "-append",
        &format!("console=ttyS0 quiet panic=-1 intel_iommu=on guest={}", script.display()),
    ]);
    let share = |tag: &str, path: &Path, more: &str| {
        let path = path.display();
        let fsdev = format!("local,id={tag},path={path},security_model=none,multidevs=remap{more}");
        ["-fsdev".into(), fsdev, "-device".into(), format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}")]
    };
    command.args(share("machine", Path::new("/"), ",readonly=on")).args(share("files", files, ""));
    command.args(["-serial", "stdio"]);
    let socket = |name: &str| format!("unix:{},server=on,wait=off", run.join(name).display());
    command.args(["-serial", &socket("serial"), "-monitor", &socket("monitor")]);
    command.args(["-device", "pcie-root-port,id=r0,slot=1"]);
    let tap =
        format!("tap,id=wire,ifname=tap0,script=no,downscript=no,vhost=off,queues={}", machine.tap_queues());
    command.args(["-netdev", &tap]).args(["-device", &device(machine)]);
    Ok(command)
}

/// Hugepages of 2 MiB in the guest.
const HUGEPAGES: u32 = 220;

fn device(machine: Machine) -> String {
    let model = machine.model.name();
    let queues = match machine.model {
        Model::VirtioNet => format!(",mq=on,vectors={}", 2 * machine.tap_queues() + 2),
        _ => String::new(),
    };
    format!("{model},id=nic,bus=r0,netdev=wire,mac={},romfile={queues}", mac(10))
}

impl Guest {
    /// Waits until the guest has started. `failed` says whether it has ended.
    ///
    /// # Errors
    /// [`LabError::Timeout`], or what `failed` says.
    pub fn wait(files: &Path, run: &Path, mut failed: impl FnMut() -> Result<()>) -> Result<Self> {
        let begun = Instant::now();
        let stream = loop {
            match UnixStream::connect(run.join("serial")) {
                Ok(stream) => break stream,
                Err(_) if begun.elapsed() < BOOTED => failed()?,
                Err(cause) => return Err(cause).with_path("connect to", run.join("serial")),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        stream.set_read_timeout(Some(Duration::from_secs(1))).with_path("set up", run.join("serial"))?;
        let mut guest =
            Self { files: files.to_owned(), serial: BufReader::new(stream), line: String::new(), number: 0 };
        while begun.elapsed() < BOOTED {
            failed()?;
            if guest.answer(Duration::from_secs(1)).is_ok() {
                return Ok(guest);
            }
        }
        let last = crate::process::tail(&files.join("guest.log"), 20);
        Err(LabError::Timeout { what: "the guest to start".into(), waited: begun.elapsed(), last })
    }

    /// Runs a shell script in the guest and returns what it wrote.
    ///
    /// # Errors
    /// [`LabError::Failed`] with everything it wrote if it ends with an error, [`LabError::Timeout`].
    pub fn sh(&mut self, script: &str) -> Result<String> {
        self.number += 1;
        let (number, directory) = (self.number, self.files.join("guest"));
        let path = directory.join(format!("{number}.sh"));
        fs::write(&path, script).with_path("write", &path)?;
        writeln!(self.serial.get_mut(), "{number}").with_path("write to", &path)?;
        let status = self.answer(DONE)?;
        let path = directory.join(format!("{number}.out"));
        let output = fs::read_to_string(&path).with_path("read", &path)?;
        if status == "0" {
            return Ok(output);
        }
        Err(LabError::Failed { command: format!("in the guest: {script}"), status, output })
    }

    /// The exit status of the script with the last number.
    fn answer(&mut self, patience: Duration) -> Result<String> {
        let begun = Instant::now();
        while begun.elapsed() < patience {
            // A line may come in pieces, with a time-out between them.
            if self.serial.read_line(&mut self.line).is_ok_and(|bytes| bytes > 0) {
                let line = std::mem::take(&mut self.line);
                if let Some((number, status)) = line.trim().split_once(' ')
                    && number == self.number.to_string()
                {
                    return Ok(status.to_owned());
                }
            }
        }
        let what = format!("the guest to do script {}", self.number);
        Err(LabError::Timeout { what, waited: begun.elapsed(), last: self.line.clone() })
    }
}

/// Takes the cable out of the guest's NIC, or puts it in.
///
/// # Errors
/// [`LabError::File`] if QEMU's monitor is not there.
pub fn set_link(run: &Path, up: bool) -> Result<()> {
    let path = run.join("monitor");
    let mut monitor = UnixStream::connect(&path).with_path("connect to", &path)?;
    let word = if up { "on" } else { "off" };
    writeln!(monitor, "set_link nic {word}").with_path("write to", &path)?;
    let mut reader = BufReader::new(monitor);
    let mut line = String::new();
    // The second prompt: it is done.
    let (mut prompts, mut byte) = (0, Vec::new());
    while prompts < 2 && reader.read_until(b')', &mut byte).with_path("read", &path)? > 0 {
        line.push_str(&String::from_utf8_lossy(&byte));
        byte.clear();
        prompts = line.matches("(qemu)").count();
    }
    Ok(())
}
