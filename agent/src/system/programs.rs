//! The BPF programs: loaded, attached, taken over from a former run, removed.
//!
//! What outlives the agent: the tc filters (the kernel holds their programs and maps), and in `PIN/NAME` the maps and the
//! links of the socket programs. The next run takes the maps over, so that what is accepted and what is a DVIPA never is
//! empty in between, and replaces each program by its own in one step: no packet and no event meets neither.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{
    Link, MapCore, MapHandle, OpenMapMut, OpenObject, ProgramMut, TC_EGRESS, TC_INGRESS, TcHook,
};
use model::{ClusterAddress, Dvipa};

use super::abilities::{Abilities, Inability};
use super::admissions::Admissions;
use super::conversations::Conversations;
use super::datagrams::Datagrams;
use super::freezes::Freezes;
use super::interfaces::Interface;
use super::kernel;
use super::listeners::Listeners;
use super::maps::{Maps, from_bytes};
use super::pins::{LINK, Pins};
use super::pools::Pools;
use super::skeletons::{
    ClientsSkelBuilder, ContainersSkelBuilder, ConversationsSkelBuilder, DecapsulateSkelBuilder,
    EgressSkelBuilder, SocketsSkelBuilder,
};
use super::tokens::Tokens;
use super::{answers, claims, injection};
use crate::machine::Ifindex;

/// The place of the filters among others of an interface: before most.
pub(super) const TC_PRIORITY: u32 = 10;
const TC_HANDLE: u32 = 1;

/// The largest outer header of a packet that goes to a routing stack, in bytes: IPv6 (40), UDP (8) and GUE (4).
const GUE_IN_IPV6_BYTES: u16 = 52;
/// Room that is left for encapsulation when the MSS is clamped, in bytes: the same with the handoff option, the longest that a
/// forwarder puts before a packet. A full segment of a connection that is handed over fits too.
pub const ENCAPSULATION_BYTES: u16 = GUE_IN_IPV6_BYTES + model::handoff::BYTES as u16;
const IPV4_AND_TCP_BYTES: u16 = 40;
const IPV6_AND_TCP_BYTES: u16 = 60;

/// What the programs are told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory of this stack's pins.
    pub pin: PathBuf,
    /// The root of cgroup v2, if configured.
    pub cgroup: Option<PathBuf>,
    /// Where forwarders send packets to.
    pub cluster_address: ClusterAddress,
    /// Where the packets arrive; never empty, the first leads to the routing stacks.
    pub interfaces: Vec<Interface>,
    /// The largest IP packet that the fabric carries, in bytes.
    pub fabric_mtu: u16,
    /// The sources of what this host's own programs send to DVIPAs; none if the first interface has no address for it.
    pub own_v4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub own_v6: Option<Ipv6Addr>,
    /// Marks what containers send to DVIPAs that others serve: one bit, or 0 for nothing.
    pub container_mark: u32,
    /// Whose sockets are told of.
    pub netns_cookie: u64,
    /// It is told when something listens in another network namespace.
    pub has_containers: bool,
}

impl Settings {
    /// Whether programs that were told these are right for the others too: of an interface they are told name and number, and of
    /// its addresses and MTU only what follows from them.
    pub fn tell_the_same(&self, other: &Self) -> bool {
        let places = |s: &Self| s.interfaces.iter().map(|i| (i.name.clone(), i.ifindex)).collect::<Vec<_>>();
        let told = |s: &Self| (places(s), s.fabric_mtu, s.own_v4, s.own_v6);
        told(self) == told(other)
    }
}

/// Why the programs can't be put in force.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// A file or directory.
    #[error("cannot use {what} {}: {cause}", path.display())]
    Path {
        /// For what.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// A system call of libbpf.
    #[error("cannot {what}: {cause}; the agent needs Linux 6.1 with BTF, and root")]
    Bpf {
        /// What was attempted.
        what: String,
        /// What libbpf says.
        cause: libbpf_rs::Error,
    },
}

pub(super) fn bpf(what: impl Into<String>) -> impl FnOnce(libbpf_rs::Error) -> ProgramError {
    move |cause| ProgramError::Bpf { what: what.into(), cause }
}

/// The programs in force.
#[derive(Debug)]
pub struct Programs {
    decapsulate: OwnedFd,
    egress: OwnedFd,
    loopback: OwnedFd,
    container: OwnedFd,
    /// What they share with the agent.
    pub maps: Maps,
    /// Live connections put into listeners, or why this host can't do that.
    pub injection: Result<(), Inability>,
    /// Connections of containers are found again, or why not.
    conntrack: Result<(), Inability>,
    /// UDP servers bound to the wildcard address answer from the DVIPA, or why not.
    answers: Result<(), Inability>,
    /// Ports of DVIPAs that applications do not name are unique in the cluster, or why not.
    pub pools: Result<Arc<Pools>, Inability>,
    pins: Pins,
}

impl Programs {
    /// Loads and attaches the programs, in place of those of a former run if there are any.
    ///
    /// # Errors
    /// [`ProgramError`] with what was attempted.
    pub fn start(settings: &Settings) -> Result<Self, ProgramError> {
        libbpf_rs::set_print(Some((libbpf_rs::PrintLevel::Debug, log)));
        let pin = &settings.pin;
        let at_pin = |cause| ProgramError::Path { what: "the pin directory", path: pin.clone(), cause };
        kernel::bpf_directory(pin).map_err(at_pin)?;
        let programs = Self::load(settings)?;
        programs.attach(&settings.interfaces)?;
        Ok(programs)
    }

    fn load(settings: &Settings) -> Result<Self, ProgramError> {
        let pin = |map: &mut OpenMapMut<'_>, name: &str| pin_map(map, &settings.pin.join(name));
        let owned = |program: &ProgramMut<'_>| {
            let cause =
                |cause| ProgramError::Path { what: "the program of", path: settings.pin.clone(), cause };
            program.as_fd().try_clone_to_owned().map_err(cause)
        };
        let handle = |map: &libbpf_rs::MapMut<'_>| MapHandle::try_from(map).map_err(bpf("keep a map"));

        let mut storage = MaybeUninit::<OpenObject>::uninit();
        let mut open =
            DecapsulateSkelBuilder::default().open(&mut storage).map_err(bpf("open decapsulate"))?;
        if let Some(constants) = open.maps.rodata_data.as_deref_mut() {
            let ClusterAddress { v4, v6 } = settings.cluster_address;
            constants.own_v4.word = words(v4.map(IpAddr::V4));
            constants.own_v6.word = words(v6.map(IpAddr::V6));
        }
        pin(&mut open.maps.forwarders, "forwarders")?;
        pin(&mut open.maps.dvipas, "dvipas")?;
        pin(&mut open.maps.counters, "counters")?;
        pin(&mut open.maps.flows, "flows")?;
        pin(&mut open.maps.freezes, "freezes")?;
        pin(&mut open.maps.events, "events")?;
        pin(&mut open.maps.handoff, "handoff")?;
        pin(&mut open.maps.ask, "ask")?;
        let skeleton = open.load().map_err(bpf("load decapsulate"))?;
        let decapsulate = owned(&skeleton.progs.baton_decapsulate)?;
        let forwarders = handle(&skeleton.maps.forwarders)?;
        let dvipas = handle(&skeleton.maps.dvipas)?;
        let counters = handle(&skeleton.maps.counters)?;
        let freezes = Arc::new(Freezes::new(handle(&skeleton.maps.freezes)?));
        let datagrams = Datagrams::new(handle(&skeleton.maps.flows)?);
        let handoff = handle(&skeleton.maps.handoff)?;
        let ask = handle(&skeleton.maps.ask)?;

        let mut storage = MaybeUninit::<OpenObject>::uninit();
        let mut open = EgressSkelBuilder::default().open(&mut storage).map_err(bpf("open egress"))?;
        if let Some(constants) = open.maps.rodata_data.as_deref_mut() {
            let room = settings.fabric_mtu.saturating_sub(ENCAPSULATION_BYTES);
            constants.mss_v4 = room.saturating_sub(IPV4_AND_TCP_BYTES);
            constants.mss_v6 = room.saturating_sub(IPV6_AND_TCP_BYTES);
            constants.largest = settings.fabric_mtu.saturating_sub(GUE_IN_IPV6_BYTES);
            constants.own_v6.word = words(settings.own_v6.map(IpAddr::V6));
            constants.encapsulated_ifindex = settings.interfaces.first().map_or(0, |i| i.ifindex.0);
        }
        pin(&mut open.maps.dvipas, "dvipas")?;
        pin(&mut open.maps.counters, "counters")?;
        pin(&mut open.maps.freezes, "freezes")?;
        pin(&mut open.maps.flows, "flows")?;
        pin(&mut open.maps.begun, "begun")?;
        let skeleton = open.load().map_err(bpf("load egress"))?;
        let egress = owned(&skeleton.progs.baton_egress)?;

        let mut storage = MaybeUninit::<OpenObject>::uninit();
        let mut open = SocketsSkelBuilder::default().open(&mut storage).map_err(bpf("open sockets"))?;
        if let Some(constants) = open.maps.rodata_data.as_deref_mut() {
            constants.netns_cookie = settings.netns_cookie;
            constants.has_containers = settings.has_containers.into();
        }
        pin(&mut open.maps.dvipas, "dvipas")?;
        pin(&mut open.maps.counters, "counters")?;
        pin(&mut open.maps.events, "events")?;
        pin(&mut open.maps.admitted, "admitted")?;
        pin(&mut open.maps.tokens, "tokens")?;
        pin(&mut open.maps.taken, "taken")?;
        pin(&mut open.maps.conversations, "conversations")?;
        pin(&mut open.maps.freezes, "freezes")?;
        let skeleton = open.load().map_err(bpf("load sockets"))?;
        let events = handle(&skeleton.maps.events)?;
        let admissions = Arc::new(Admissions::start(&settings.pin)?);
        let listeners = Listeners::start(&settings.pin)?;
        let tokens = Tokens::start(&settings.pin).map_err(bpf("void tokens"))?;

        let at = settings.cgroup.clone().unwrap_or_else(|| PathBuf::from("(found)"));
        let at_cgroup = |cause| ProgramError::Path { what: "cgroup v2 at", path: at, cause };
        let cgroup = kernel::cgroup_root(settings.cgroup.as_deref()).map_err(at_cgroup)?;
        for program in
            [&skeleton.progs.baton_sockets, &skeleton.progs.baton_bound_v4, &skeleton.progs.baton_bound_v6]
        {
            link(program, &cgroup, &settings.pin)?;
        }

        let mut storage = MaybeUninit::<OpenObject>::uninit();
        let mut open =
            ConversationsSkelBuilder::default().open(&mut storage).map_err(bpf("open conversations"))?;
        pin(&mut open.maps.conversations, "conversations")?;
        let skeleton = open.load().map_err(bpf("load conversations"))?;
        let conversations = Conversations::new(handle(&skeleton.maps.conversations)?);
        for program in [&skeleton.progs.baton_server_says, &skeleton.progs.baton_client_says] {
            link(program, &cgroup, &settings.pin)?;
        }

        let mut storage = MaybeUninit::<OpenObject>::uninit();
        let mut open = ClientsSkelBuilder::default().open(&mut storage).map_err(bpf("open clients"))?;
        if let Some(constants) = open.maps.rodata_data.as_deref_mut() {
            constants.netns_cookie = settings.netns_cookie;
            constants.ifindex = settings.interfaces.first().map_or(0, |i| i.ifindex.0);
            constants.own_v4.word = words(settings.own_v4.map(IpAddr::V4));
            constants.own_v6.word = words(settings.own_v6.map(IpAddr::V6));
        }
        pin(&mut open.maps.dvipas, "dvipas")?;
        pin(&mut open.maps.counters, "counters")?;
        let skeleton = open.load().map_err(bpf("load clients"))?;
        let loopback = owned(&skeleton.progs.baton_loopback)?;
        for program in [
            &skeleton.progs.baton_connect_v4,
            &skeleton.progs.baton_connect_v6,
            &skeleton.progs.baton_send_v4,
            &skeleton.progs.baton_send_v6,
        ] {
            link(program, &cgroup, &settings.pin)?;
        }

        let mut storage = MaybeUninit::<OpenObject>::uninit();
        let mut open = ContainersSkelBuilder::default().open(&mut storage).map_err(bpf("open containers"))?;
        if let Some(constants) = open.maps.rodata_data.as_deref_mut() {
            constants.mark = settings.container_mark;
        }
        pin(&mut open.maps.dvipas, "dvipas")?;
        let skeleton = open.load().map_err(bpf("load containers"))?;
        let container = owned(&skeleton.progs.baton_container)?;

        let maps = Maps {
            forwarders,
            dvipas,
            counters,
            events,
            datagrams,
            freezes,
            admissions,
            conversations,
            tokens,
            listeners,
        };
        let conntrack = claims::start(&settings.pin, &ask)?;
        let injection = injection::start(&settings.pin, &handoff);
        let answers = answers::start(settings, &cgroup);
        let pools = Pools::start(settings, &cgroup).map(Arc::new);
        let at_pin =
            |cause| ProgramError::Path { what: "the pin directory", path: settings.pin.clone(), cause };
        let pins = Pins::hold(&settings.pin).map_err(at_pin)?;
        Ok(Self {
            decapsulate,
            egress,
            loopback,
            container,
            maps,
            injection,
            conntrack,
            answers,
            pools,
            pins,
        })
    }

    /// Pins again what was removed from the pin directory, and says what it was.
    ///
    /// # Errors
    /// What the system says.
    pub fn pin_again(&self) -> io::Result<Vec<String>> {
        self.pins.put_back()
    }

    /// What this host can't do, as sentences for operators that say what it takes.
    pub fn lacks(&self) -> Vec<String> {
        let Self { injection, conntrack, answers, pools, .. } = self;
        let programs = [injection.as_ref().err(), conntrack.as_ref().err(), answers.as_ref().err()];
        let programs = programs.into_iter().chain([pools.as_ref().err()]);
        let programs = programs.flatten().map(ToString::to_string);
        self.abilities().repair.err().into_iter().chain(programs).collect()
    }

    /// What this host can do with live connections.
    pub fn abilities(&self) -> Abilities {
        Abilities::new(self.injection.as_ref().copied().map_err(ToString::to_string))
    }

    /// Attaches the packet programs where they are not, and says where; an interface may have been deleted and made again.
    ///
    /// # Errors
    /// [`ProgramError`] with the interface.
    pub fn attach(&self, interfaces: &[Interface]) -> Result<Vec<String>, ProgramError> {
        let mut missing = Vec::new();
        for (name, ifindex, point, direction) in places(interfaces) {
            let program = match (ifindex, direction) {
                (LOOPBACK, _) => &self.loopback,
                (_, INGRESS) => &self.decapsulate,
                _ => &self.egress,
            };
            missing.extend(attach(program, (name, ifindex, point, direction))?);
        }
        Ok(missing)
    }

    /// The same for the program that marks what containers send, on the interfaces that lead to them.
    ///
    /// # Errors
    /// [`ProgramError`] with the interface.
    pub fn attach_to_containers(
        &self,
        interfaces: &[(String, Ifindex)],
    ) -> Result<Vec<String>, ProgramError> {
        let place = |(name, ifindex)| attach(&self.container, (name, ifindex, TC_INGRESS, INGRESS));
        let missing: Result<Vec<_>, _> =
            interfaces.iter().map(|(name, ifindex)| place((name.as_str(), ifindex.0))).collect();
        Ok(missing?.into_iter().flatten().collect())
    }
}

/// Attaches a program where it is not; says then that it was missing.
fn attach(
    program: &OwnedFd,
    (name, ifindex, point, direction): Place<'_>,
) -> Result<Option<String>, ProgramError> {
    let mut hook = hook(program, ifindex, point);
    let own = libbpf_rs::Program::id_from_fd(program.as_fd()).map_err(bpf("ask for a program's number"))?;
    if hook.query().is_ok_and(|attached| attached == own) {
        return Ok(None);
    }
    let attached = hook.create().and_then(|mut hook| hook.replace(true).attach());
    attached.map_err(bpf(format!("attach a program to {name}")))?;
    Ok(Some(format!("the program on {name} {direction} was not attached")))
}

/// What a run of the agent had left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// The DVIPAs that its programs knew.
    pub dvipas: Vec<Dvipa>,
    /// Where packet programs were attached.
    pub attached: Vec<String>,
    /// How many maps and links were pinned.
    pub pins: usize,
}

/// Removes everything that the programs of this pin directory left on the host, and says what it was.
///
/// # Errors
/// [`ProgramError`] with what was attempted.
pub fn remove(
    pin: &Path,
    interfaces: &[Interface],
    containers: &[(String, Ifindex)],
) -> Result<Left, ProgramError> {
    let at_pin = |cause| ProgramError::Path { what: "the pin directory", path: pin.to_path_buf(), cause };
    libbpf_rs::set_print(Some((libbpf_rs::PrintLevel::Debug, log)));
    let nothing = OwnedFd::from(fs::File::open("/dev/null").map_err(at_pin)?);
    let mut left = Left::default();
    for (name, ifindex, point, direction) in places(interfaces) {
        let mut hook = hook(&nothing, ifindex, point);
        if hook.query().is_ok() {
            hook.detach().map_err(bpf(format!("detach a program from {name}")))?;
            left.attached.push(format!("the program on {name} {direction}"));
        }
    }
    for (name, ifindex) in containers {
        let mut hook = hook(&nothing, ifindex.0, TC_INGRESS);
        // There may be another product's.
        if hook.query().is_ok_and(|id| named("baton_container").any(|own| own == id)) {
            hook.detach().map_err(bpf(format!("detach a program from {name}")))?;
            left.attached.push(format!("the program on {name} {INGRESS}"));
        }
    }
    if !pin.exists() {
        return Ok(left);
    }
    if let Ok(dvipas) = MapHandle::from_pinned_path(pin.join("dvipas")) {
        left.dvipas = dvipas.keys().filter_map(|key| from_bytes(&key)).map(Dvipa::new).collect();
    }
    for entry in fs::read_dir(pin).map_err(at_pin)? {
        fs::remove_file(entry.map_err(at_pin)?.path()).map_err(at_pin)?;
        left.pins += 1;
    }
    // Another agent's pins may be in the parent; a directory that is mounted on stays.
    let _ = fs::remove_dir(pin);
    Ok(left)
}

/// How many programs of agents this kernel has, of any agent.
pub fn loaded() -> usize {
    named("baton_").count()
}

/// The numbers of programs whose names begin so.
fn named(start: &str) -> impl Iterator<Item = u32> {
    let all = libbpf_rs::query::ProgInfoIter::default();
    all.filter(move |program| program.name.to_string_lossy().starts_with(start)).map(|program| program.id)
}

/// The map is taken over if a former run has left it. One of another form, left by another version of the agent, is
/// replaced by an empty one.
pub(super) fn pin_map(map: &mut OpenMapMut<'_>, path: &Path) -> Result<(), ProgramError> {
    if let Ok(left) = MapHandle::from_pinned_path(path) {
        let of_left = (left.map_type(), left.key_size(), left.value_size(), left.max_entries());
        if of_left != (map.map_type(), map.key_size(), map.value_size(), map.max_entries()) {
            tracing::warn!(path = %path.display(), "a map of a former run has another form, starting with an empty one");
            let at = |cause| ProgramError::Path { what: "the map", path: path.to_path_buf(), cause };
            fs::remove_file(path).map_err(at)?;
        }
    }
    map.set_pin_path(path).map_err(bpf(format!("pin a map at {}", path.display())))
}

const INGRESS: &str = "ingress";
const EGRESS: &str = "egress";
/// The number of `lo`, in every network namespace.
const LOOPBACK: u32 = 1;

/// Where a packet program is attached: the interface's name and number, the hook and its name.
type Place<'i> = (&'i str, u32, libbpf_rs::TcAttachPoint, &'static str);

fn places(interfaces: &[Interface]) -> Vec<Place<'_>> {
    let both = interfaces.iter().flat_map(|Interface { name, ifindex, .. }| {
        [(TC_INGRESS, INGRESS), (TC_EGRESS, EGRESS)]
            .map(|(point, way)| (name.as_str(), ifindex.0, point, way))
    });
    both.chain([("lo", LOOPBACK, TC_EGRESS, EGRESS)]).collect()
}

fn hook(program: &OwnedFd, ifindex: u32, point: libbpf_rs::TcAttachPoint) -> TcHook {
    let mut hook = TcHook::new(program.as_fd());
    hook.ifindex(ifindex.cast_signed()).attach_point(point).handle(TC_HANDLE).priority(TC_PRIORITY);
    hook
}

/// Puts the program in the place of the one that a former run has linked to the cgroup, or links it anew.
pub(super) fn link(program: &ProgramMut<'_>, cgroup: &OwnedFd, pin: &Path) -> Result<(), ProgramError> {
    link_by(program, pin, |program| program.attach_cgroup(cgroup.as_raw_fd()))
}

/// The same, wherever `attach` attaches it to.
pub(super) fn link_by(
    program: &ProgramMut<'_>,
    pin: &Path,
    attach: impl FnOnce(&ProgramMut<'_>) -> libbpf_rs::Result<Link>,
) -> Result<(), ProgramError> {
    let name = program.name().to_string_lossy().into_owned();
    let path = pin.join(format!("{name}{LINK}"));
    if path.exists() {
        let replaced = Link::open(&path).and_then(|mut link| {
            link.update_prog(program)?;
            link.disconnect();
            Ok(())
        });
        match replaced {
            Ok(()) => return Ok(()),
            Err(cause) => {
                tracing::warn!(%cause, program = name, "a former link can't be taken over, linking anew")
            }
        }
        let at = |cause| ProgramError::Path { what: "the link", path: path.clone(), cause };
        fs::remove_file(&path).map_err(at)?;
    }
    let mut link = attach(program).map_err(bpf(format!("attach {name}")))?;
    link.pin(&path).map_err(bpf(format!("pin the link of {name}")))
}

/// `struct address` of bpf/address.h; all zero for none.
fn words(address: Option<IpAddr>) -> [u32; 4] {
    let octets = match address {
        Some(IpAddr::V4(a)) => a.to_ipv6_mapped().octets(),
        Some(IpAddr::V6(a)) => a.octets(),
        None => [0; 16],
    };
    let (words, _) = octets.as_chunks::<4>();
    std::array::from_fn(|i| words.get(i).map_or(0, |word| u32::from_ne_bytes(*word)))
}

fn log(level: libbpf_rs::PrintLevel, text: String) {
    match level {
        libbpf_rs::PrintLevel::Debug => tracing::trace!("libbpf: {}", text.trim_end()),
        libbpf_rs::PrintLevel::Info | libbpf_rs::PrintLevel::Warn => {
            tracing::debug!("libbpf: {}", text.trim_end())
        }
    }
}
