//! What others change in the node's kernel while the forwarder runs: put right within a second, or named.
//!
//! A thread of its own looks whenever the kernel tells of a change of an interface or of one of its settings, and every
//! [`LOOK`], because most settings change without a word. A look reads a dozen small files, and what it costs does not depend
//! on traffic, targets or connections. It is not the control thread's, because some of the calls wait for the kernel's lock on
//! interfaces.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use control::runtime::environment::{Environment, Finding, Subject};
use ffi::interface::{self, State};
use forwarder::Mac;
use model::checksums::{self, WrongChecksums};
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::{Changed, Settings};

/// How long a change that the kernel does not tell of may last.
const LOOK: Duration = Duration::from_millis(500);
/// Changes come in bundles: how long to wait for the rest of one.
const SETTLE: Duration = Duration::from_millis(20);
/// Kernel `RTNLGRP_LINK`, `RTNLGRP_IPV4_NETCONF`, `RTNLGRP_IPV6_NETCONF`, as bits.
const GROUPS: u32 = 1 | 1 << 23 | 1 << 24;

/// What a node needs of its kernel.
#[derive(Clone, Debug)]
pub struct Needs {
    /// The kernel's end of the local port.
    pub local: String,
    /// The address that it has to have: the NIC's.
    pub mac: Mac,
    /// Interfaces that ports read.
    pub read: Vec<String>,
    /// The longest packet between the stacks.
    pub mtu: u16,
}

/// The thread that looks. It ends when this is dropped.
#[derive(Debug)]
pub struct Watch {
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    environment: Mutex<Environment>,
    /// There are IPv6 DVIPAs.
    ///
    /// Relaxed: nothing is read because of it.
    ipv6: AtomicBool,
}

impl Watch {
    /// Starts to look, at what was set at the start.
    ///
    /// # Errors
    /// The thread can't be had.
    pub fn start(needs: Needs) -> io::Result<Self> {
        let seen = Arc::new(Seen::default());
        let shared = Arc::downgrade(&seen);
        thread::Builder::new().name("kernel-watch".to_owned()).spawn(move || run(&needs, &shared))?;
        Ok(Self { seen })
    }

    /// Looks at what IPv6 needs, too, from now on.
    pub fn ipv6(&self) {
        self.seen.ipv6.store(true, Ordering::Relaxed);
    }

    /// What was put right, and what stands in the way.
    pub fn environment(&self) -> Environment {
        self.seen.environment.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn run(needs: &Needs, shared: &Weak<Seen>) {
    let news = News::subscribe();
    let news = news
        .inspect_err(|error| tracing::warn!(%error, "the kernel does not tell of changes: looking for them"));
    let mut wrong_checksums = WrongChecksums::default();
    while let Some(seen) = shared.upgrade() {
        let mut look = look(&Settings::default(), needs, seen.ipv6.load(Ordering::Relaxed));
        let [snmp, snmp6] = ["snmp", "snmp6"]
            .map(|name| fs::read_to_string(format!("/proc/self/net/{name}")).unwrap_or_default());
        if wrong_checksums.are_many(&snmp, &snmp6, Instant::now()) {
            look.find(Subject::Checksum, checksums::SENTENCE.to_owned());
        }
        let mut environment = seen.environment.lock().unwrap_or_else(PoisonError::into_inner);
        look.put_right.iter().for_each(|(subject, what)| environment.put_right(*subject, what));
        environment.stands(look.findings);
        drop(environment);
        drop(seen);
        match &news {
            Ok(news) => news.wait(),
            Err(_) => thread::sleep(LOOK),
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
struct Look {
    put_right: Vec<(Subject, String)>,
    findings: BTreeSet<Finding>,
}

impl Look {
    fn find(&mut self, subject: Subject, sentence: String) {
        self.findings.insert(Finding { subject, sentence });
    }

    fn settings(&mut self, changes: Vec<Changed>) {
        for changed in changes {
            match &changed.done {
                Ok(()) => self.put_right.push((Subject::Setting, changed.to_string())),
                Err(error) => {
                    self.find(Subject::Setting, format!("{changed}: set it by hand, batond can't ({error})"));
                }
            }
        }
    }

    /// An interface that is there, as it is.
    fn state(&mut self, interface: &str, role: &str) -> Option<State> {
        let state = interface::state(interface);
        match &state {
            Ok(State { up: true, .. }) => {}
            Ok(_) => self.find(
                Subject::Interface,
                format!("{interface} ({role}) is down: `ip link set {interface} up`"),
            ),
            Err(error) => self.find(
                Subject::Interface,
                format!(
                    "{interface} ({role}) can't be used ({error}): restart batond when it is there again"
                ),
            ),
        }
        state.ok()
    }

    fn offloads(&mut self, interface: &str) {
        match interface::switch_offloads_off(interface) {
            Ok(was_on) if was_on.is_empty() => {}
            Ok(was_on) => {
                let what = format!("{} of {interface} was switched on", was_on.join(", "));
                self.put_right.push((Subject::Offload, what));
            }
            Err(error) => self.find(
                Subject::Offload,
                format!("offloads of {interface} are on and can't be switched off ({error}): `ethtool -K {interface} tx off tso off gso off gro off`"),
            ),
        }
    }

    fn address(&mut self, interface: &str, found: Mac, mac: Mac) {
        if found == mac {
            return;
        }
        let what = format!("the address of {interface} was {found} and has to be the NIC's, {mac}");
        match interface::set_address(interface, mac.0) {
            Ok(()) => self.put_right.push((Subject::Address, what)),
            Err(error) => {
                let fix = format!("`ip link set {interface} address {mac}`, batond can't ({error})");
                self.find(Subject::Address, format!("{what}: {fix}"));
            }
        }
    }

    fn mtu(&mut self, interface: &str, found: u32, mtu: u16) {
        let fix = format!("`ip link set {interface} mtu {mtu}`, or change fabric_mtu and restart batond");
        self.find(
            Subject::Mtu,
            format!(
                "the MTU of {interface} is {found} and fabric_mtu is {mtu}: longer packets are lost; {fix}"
            ),
        );
    }
}

/// Looks at everything, and puts right what it can.
fn look(settings: &Settings, needs: &Needs, ipv6: bool) -> Look {
    let mut look = Look::default();
    let Needs { local, mac, read, mtu } = needs;
    // An interface that is gone has no settings either.
    if let Some(state) = look.state(local, "the kernel's end of the local port") {
        look.settings(settings.allow_ipv4(local));
        if ipv6 {
            look.settings(settings.allow_ipv6(local));
        }
        look.offloads(local);
        look.address(local, Mac(state.mac), *mac);
        if state.mtu != u32::from(*mtu) {
            look.mtu(local, state.mtu, *mtu);
        }
    }
    for interface in read {
        if let Some(state) = look.state(interface, "which a port reads") {
            look.settings(settings.leave_alone(interface));
            look.offloads(interface);
            if state.mtu < u32::from(*mtu) {
                look.mtu(interface, state.mtu, *mtu);
            }
        }
    }
    look
}

/// What the kernel tells unasked. What it says is not read: that it says something is enough to look.
#[derive(Debug)]
struct News(OwnedFd);

impl News {
    fn subscribe() -> nix::Result<Self> {
        let (family, kind, route) = (AddressFamily::Netlink, SockType::Raw, SockProtocol::NetlinkRoute);
        let fd = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, route)?;
        socket::bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        let look = TimeVal::milliseconds(i64::try_from(LOOK.as_millis()).unwrap_or(i64::MAX));
        socket::setsockopt(&fd, sockopt::ReceiveTimeout, &look)?;
        Ok(Self(fd))
    }

    /// Returns when it is time to look: soon after news, or after [`LOOK`].
    fn wait(&self) {
        let mut message = [0; 8192];
        let mut receive = |flags| socket::recv(self.0.as_raw_fd(), &mut message, flags);
        match receive(MsgFlags::empty()) {
            Err(nix::Error::EAGAIN) => return,
            // What got lost for want of room is found by looking.
            Ok(_) | Err(nix::Error::EINTR | nix::Error::ENOBUFS) => {}
            Err(_) => thread::sleep(LOOK),
        }
        thread::sleep(SETTLE);
        while receive(MsgFlags::MSG_DONTWAIT).is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_gone_is_named_once_and_nothing_else_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings { net: directory.path().to_owned() };
        let (local, read) = ("bt-nothing0".to_owned(), vec!["bt-nothing1".to_owned()]);
        let needs = Needs { local, mac: Mac([2; 6]), read, mtu: 1500 };
        let look = look(&settings, &needs, true);
        assert!(look.put_right.is_empty(), "{look:?}");
        let names: Vec<_> =
            look.findings.iter().map(|f| (f.subject, f.sentence.contains("batond"))).collect();
        assert_eq!(names, [(Subject::Interface, true); 2], "{look:?}");
    }
}
