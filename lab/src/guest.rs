//! Hosts in virtual machines: a routing node, so that its NIC is a PCI device with an ordinary poll-mode driver, or a target, so
//! that it has another kernel.
//!
//! QEMU runs in the host's namespace and emulates everything, the processor included. The guest's NIC is a TAP
//! there, bridged with the host's place on the segment. Its file system is this machine's own, read only, with the lab's
//! files writable at the same place; so programs, libraries and configuration are where they are outside. `scripts/guest`
//! makes what is booted.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::error::{LabError, Result, WithPath};
use crate::fabric::mac;
use crate::namespace::Namespace;
use crate::spec::{self, Local, Machine, Model, RoutingNode, Spec};

/// What the guest does with the machine's file system.
const BOOT: &str = include_str!("guest/boot.sh");
/// How long a guest may take to start, on a machine that has other work.
const BOOTED: Duration = Duration::from_secs(120);
/// How long a script in a guest may take.
const DONE: Duration = Duration::from_secs(150);
/// The kernel's driver of NICs behind an IOMMU.
const VFIO: &str = "vfio-pci";
/// All that QEMU emulates, but for the features that have the kernel copy and clear memory with single string instructions: QEMU
/// takes them byte by byte, nine times as long as it needs for words.
const PROCESSOR: &str = "max,-erms,-fsrm";
/// A NIC of the guest's kernel, whose frames leave and arrive whole: a DPDK port reads what the others send.
const WHOLE_FRAMES: &str = "virtio-net-pci,csum=off,gso=off,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ufo=off,\
     guest_ecn=off,host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off";
/// Where the NIC is: the first device behind the first root port.
pub const NIC: &str = "0000:01:00.0";

/// A guest that runs.
#[derive(Debug)]
pub struct Guest {
    /// Where its scripts are, and what they write.
    scripts: PathBuf,
    serial: BufReader<UnixStream>,
    /// What has come of the line that is not whole yet.
    line: String,
    number: u32,
}

/// What `scripts/guest` has made, beside the programs: in `BATON_GUEST`, or `guest` beside their directory.
#[derive(Debug)]
struct Made {
    /// Where QEMU is.
    directory: PathBuf,
    /// Where the kernel is.
    kernel: PathBuf,
}

impl Made {
    fn find(binaries: &Path, kernel: &str) -> Result<Self> {
        let given = std::env::var_os("BATON_GUEST").map(PathBuf::from);
        let directory = given.or_else(|| Some(binaries.parent()?.join("guest"))).unwrap_or_default();
        let kernel = directory.join(kernel);
        let missing = [&directory, &kernel].into_iter().find(|made| !made.join("complete").exists()).cloned();
        missing.map_or(Ok(Self { directory, kernel }), |missing| Err(LabError::NoGuest(missing)))
    }
}

/// Where a guest's log, scripts and sockets are, each by the host's name.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// The host that is a guest.
    pub host: &'a str,
    /// The lab's files.
    pub files: &'a Path,
    /// The directory of its sockets.
    pub run: &'a Path,
}

impl Places<'_> {
    fn scripts(self) -> PathBuf {
        self.files.join(format!("guest-{}", self.host))
    }

    fn socket(self, kind: &str) -> PathBuf {
        self.run.join(format!("{kind}-{}", self.host))
    }

    /// The kernel's messages and what the first scripts say, written by QEMU.
    pub fn log(self) -> PathBuf {
        self.scripts().with_extension("log")
    }
}

/// What is different for a routing node and a target.
struct Kind<'a> {
    /// The kernel's directory in that of `scripts/guest`, which is the newest one's itself.
    kernel: &'a str,
    memory_mb: u32,
    processors: u32,
    /// Of 2 MiB.
    hugepages: u32,
    /// The kernel's driver of the NIC, or none for its own choice.
    driver: &'static str,
    queues: u8,
    device: String,
    /// Commands that set up its network.
    network: String,
}

impl<'a> Kind<'a> {
    fn of(spec: &'a Spec, host: &str) -> Self {
        let (v4, v6) = spec::host(spec::number(host));
        match (spec.machine(), spec.kernels.get(host)) {
            (Some(machine), _) if host == RoutingNode::First.name() => Self {
                kernel: "",
                memory_mb: 1400,
                processors: 3,
                hugepages: 220,
                driver: machine.kernel_driver(),
                queues: machine.tap_queues(),
                device: device(machine),
                network: network(machine, spec.fabric_mtu, (v4, v6)),
            },
            (_, kernel) => Self {
                kernel: kernel.map_or("", String::as_str),
                memory_mb: 512,
                processors: 2,
                hugepages: 0,
                driver: "",
                queues: 1,
                device: WHOLE_FRAMES.into(),
                network: format!(
                    "ip link set eth0 mtu {mtu} up
                     ip addr add {v4}/15 dev eth0
                     ip addr add {v6}/32 dev eth0 nodad",
                    mtu = spec.fabric_mtu
                ),
            },
        }
    }
}

/// The network of a routing node's kernel as an operator makes it: the local port's interface, with what kernels make by
/// default.
fn network(machine: Machine, mtu: u16, (v4, v6): (Ipv4Addr, Ipv6Addr)) -> String {
    let before = if machine.tap { tap(mtu) } else { String::new() };
    let device = match machine.local {
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
    format!(
        "{before}
         {device}
         ip link set loc0 up
         ip addr add {v4}/15 dev loc0
         ip addr add {v6}/32 dev loc0 nodad"
    )
}

/// A TAP that has every frame of the NIC and gives it all of its own; the kernel takes none of them.
fn tap(mtu: u16) -> String {
    let tap = Machine::TAP;
    format!(
        "ip tuntap add dev {tap} mode tap multi_queue
         for l in eth0 {tap}; do
             echo 1 >/proc/sys/net/ipv6/conf/$l/disable_ipv6
             ip link set $l mtu {mtu} arp off promisc on up
         done
         nft \"add table netdev wire
              add chain netdev wire in {{ type filter hook ingress device eth0 priority 0; }}
              add chain netdev wire out {{ type filter hook ingress device {tap} priority 0; }}
              add rule netdev wire in fwd to {tap}
              add rule netdev wire out fwd to eth0\""
    )
}

/// Makes a guest's end of the wire: a TAP, bridged with its place on the segment.
///
/// # Errors
/// What the first failing command says.
pub fn wire(namespace: &Namespace, number: u8, queues: u8, mtu: u16) -> Result<()> {
    let queues = if queues > 1 { "multi_queue" } else { "" };
    namespace
        .sh(&format!(
            "ip link set eth0 address 02:00:00:00:01:{number:02x}
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

/// The command that boots a guest in the namespace of the host that it is. `binaries` are beside what `scripts/guest` has made.
///
/// # Errors
/// [`LabError::NoGuest`], [`LabError::File`].
pub fn command(namespace: &Namespace, binaries: &Path, spec: &Spec, places: Places<'_>) -> Result<Command> {
    let kind = Kind::of(spec, places.host);
    let Made { directory, kernel } = Made::find(binaries, kind.kernel)?;
    let scripts = places.scripts();
    fs::create_dir_all(&scripts).with_path("create", &scripts)?;
    let script = scripts.with_extension("sh");
    let text = format!(
        "guest={guest}\nkernel={kernel}\nscripts={scripts}\nrun={run}\nbind={bind}\nhugepages={hugepages}\nnetwork='{network}'\n{BOOT}",
        guest = directory.display(),
        kernel = kernel.display(),
        scripts = scripts.display(),
        run = places.run.display(),
        bind = kind.driver,
        hugepages = kind.hugepages,
        network = kind.network,
    );
    fs::write(&script, text).with_path("write", &script)?;
    let mut command = namespace.command(&directory.join("qemu").to_string_lossy());
    command.args(["-machine", "q35,kernel-irqchip=split", "-accel", "tcg,thread=multi", "-cpu", PROCESSOR]);
    command.args(["-m", &kind.memory_mb.to_string(), "-smp", &kind.processors.to_string()]);
    command.args(["-vga", "none", "-nic", "none", "-display", "none", "-no-reboot"]);
    if kind.driver == VFIO {
        command.args(["-device", "intel-iommu,intremap=on,caching-mode=on"]);
    }
    command.arg("-kernel").arg(kernel.join("vmlinuz")).arg("-initrd").arg(kernel.join("initrd.gz"));
    command.args([
        "-append",
        // Without the check whether the timer ticks, which fails where QEMU gets no processor for a moment.
        &format!("console=ttyS0 quiet panic=-1 no_timer_check intel_iommu=on guest={}", script.display()),
    ]);
    let share = |tag: &str, path: &Path, more: &str| {
        let path = path.display();
        let fsdev = format!("local,id={tag},path={path},security_model=none,multidevs=remap{more}");
        ["-fsdev".into(), fsdev, "-device".into(), format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}")]
    };
    command.args(share("machine", Path::new("/"), ",readonly=on")).args(share("files", places.files, ""));
    command.args(["-serial", "stdio"]);
    let socket = |kind: &str| format!("unix:{},server=on,wait=off", places.socket(kind).display());
    command.args(["-serial", &socket("serial"), "-monitor", &socket("monitor")]);
    command.args(["-device", "pcie-root-port,id=r0,slot=1"]);
    let tap = format!("tap,id=wire,ifname=tap0,script=no,downscript=no,vhost=off,queues={}", kind.queues);
    let nic =
        format!("{},id=nic,bus=r0,netdev=wire,mac={},romfile=", kind.device, mac(spec::number(places.host)));
    command.args(["-netdev", &tap]).args(["-device", &nic]);
    Ok(command)
}

/// The routing node's NIC, as QEMU wants it.
fn device(machine: Machine) -> String {
    let model = machine.model.name();
    match machine.model {
        Model::VirtioNet if machine.tap => WHOLE_FRAMES.to_owned(),
        Model::VirtioNet => format!("{model},mq=on,vectors={}", 2 * machine.tap_queues() + 2),
        _ => model.to_owned(),
    }
}

/// The line of a shell script that runs a command, its environment included.
pub fn line(command: &Command) -> String {
    let quoted = |text: &OsStr| format!("'{}'", text.to_string_lossy().replace('\'', r"'\''"));
    let environment = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_string_lossy(), quoted(value?))));
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(quoted);
    std::iter::once("env".to_owned()).chain(environment).chain(words).collect::<Vec<_>>().join(" ")
}

impl Guest {
    /// Waits until the guest has started. `failed` says whether it has ended.
    ///
    /// # Errors
    /// [`LabError::Timeout`], or what `failed` says.
    pub fn wait(places: Places<'_>, mut failed: impl FnMut() -> Result<()>) -> Result<Self> {
        let (begun, socket) = (Instant::now(), places.socket("serial"));
        let stream = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(_) if begun.elapsed() < BOOTED => failed()?,
                Err(cause) => return Err(cause).with_path("connect to", &socket),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        stream.set_read_timeout(Some(Duration::from_secs(1))).with_path("set up", &socket)?;
        let serial = BufReader::new(stream);
        let mut guest = Self { scripts: places.scripts(), serial, line: String::new(), number: 0 };
        while begun.elapsed() < BOOTED {
            failed()?;
            if guest.answer(Duration::from_secs(1)).is_ok() {
                return Ok(guest);
            }
        }
        let last = crate::process::tail(&places.log(), 20);
        Err(LabError::Timeout {
            what: format!("the guest {} to start", places.host),
            waited: begun.elapsed(),
            last,
        })
    }

    /// Runs a shell script in the guest and returns what it wrote.
    ///
    /// # Errors
    /// [`LabError::Failed`] with everything it wrote if it ends with an error, [`LabError::Timeout`].
    pub fn sh(&mut self, script: &str) -> Result<String> {
        self.number += 1;
        let (number, directory) = (self.number, self.scripts.clone());
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
pub fn set_link(places: Places<'_>, up: bool) -> Result<()> {
    let path = places.socket("monitor");
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
