//! Single system calls that no library has in the form needed.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libbpf_rs::{RingBuffer, libbpf_sys};
use model::handoff::Token;
use rustix::fs::statfs;
use rustix::mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags};
use tokio::io::unix::AsyncFd;
use transport::private;

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
/// Where a BPF file system belongs.
const BPF_FS: &str = "/sys/fs/bpf";

/// The running kernel's release, as uname(2) has it; empty if /proc does not tell.
pub fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// The number of this process's network namespace, as BPF programs see it (Linux 5.14).
///
/// # Errors
/// What the system says.
pub fn netns_cookie() -> io::Result<u64> {
    netns_cookie_of(UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?.as_fd())
}

/// The number of the network namespace that a socket belongs to.
///
/// # Errors
/// What the system says.
pub fn netns_cookie_of(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0u64;
    let mut bytes = size_of::<u64>() as libc::socklen_t;
    // SAFETY: `cookie` and `bytes` are valid for writes, `bytes` is the size of `cookie`, and the kernel writes no more
    // than that. The agent's tests see no event at all if the value were wrong.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut bytes,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// Has the kernel run this program on each packet for a socket, and drop what it returns 0 for.
///
/// # Errors
/// What the system says.
pub(super) fn attach_filter(socket: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel reads `len` instructions from `filter`, which are those of the slice, and writes none; it reads as many
    // bytes of `sock_fprog` as it is told, which is its size. A test of containers would see no event were it otherwise.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A token that nobody can guess and no other admission has (random(7)).
///
/// # Errors
/// What the system says.
pub fn random_token() -> io::Result<Token> {
    loop {
        let mut bits = 0u64;
        let bytes = size_of::<u64>();
        // SAFETY: `bits` is valid for writes of `bytes` bytes while the call lasts. If it stayed as it is, this would never
        // return, and no test of injection would end.
        let drawn = unsafe { libc::getrandom((&raw mut bits).cast(), bytes, 0) };
        match (usize::try_from(drawn), Token::new(bits)) {
            (Ok(drawn), Some(token)) if drawn == bytes => return Ok(token),
            (Ok(_), _) => {}
            (Err(_), _) => return Err(io::Error::last_os_error()),
        }
    }
}

/// The root of cgroup v2: the given directory, or where it is mounted, or else a mount that nobody else sees.
///
/// # Errors
/// What the system says.
pub(super) fn cgroup_root(configured: Option<&Path>) -> io::Result<OwnedFd> {
    match configured.map(Path::to_path_buf).or_else(mounted_cgroup) {
        Some(path) => Ok(File::open(path)?.into()),
        None => detached_cgroup(),
    }
}

/// Fields of a line: id, parent, device, root, mount point, options, optional fields, `-`, type, … (proc(5)).
fn mounted_cgroup() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let is_root = fields.next()? == "/";
        (is_root && kind.starts_with("cgroup2 ")).then(|| fields.next().map(PathBuf::from))?
    })
}

fn detached_cgroup() -> io::Result<OwnedFd> {
    let filesystem = mount::fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
    mount::fsconfig_create(&filesystem)?;
    Ok(mount::fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// Makes `path` a directory on a BPF file system. If there is none, one is mounted on its parent, or where it belongs.
///
/// # Errors
/// What the system says.
pub(super) fn bpf_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(path);
    if path.starts_with(BPF_FS) {
        mount_bpf_fs(Path::new(BPF_FS))?;
    } else {
        fs::create_dir_all(parent)?;
        mount_bpf_fs(parent)?;
    }
    private::directory(path)
}

fn mount_bpf_fs(path: &Path) -> io::Result<()> {
    if statfs(path)?.f_type as u64 & 0xffff_ffff == BPF_FS_MAGIC {
        return Ok(());
    }
    tracing::info!(path = %path.display(), "mounting a BPF file system");
    if is_in_a_mount_namespace_of_its_own() {
        tracing::warn!(
            path = %path.display(),
            "this process is in another mount namespace than the host: the BPF file system ends with it, and the next start \
             can't take over this one's programs; set `pin` in [bpf] to a directory on a BPF file system of the host, or start \
             the agent in the host's mount namespace (nsenter --net=/run/netns/NAME, not ip netns exec)"
        );
    }
    mount::mount("baton", path, "bpf", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None)?;
    Ok(())
}

/// Whether what is mounted here is not mounted in the namespace of the host's first process.
fn is_in_a_mount_namespace_of_its_own() -> bool {
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt"));
    matches!((of("self"), of("1")), (Ok(own), Ok(hosts)) if own != hosts)
}

/// Pins a map, link or program.
///
/// # Errors
/// What the system says.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` is a string that ends with a zero and is valid while the call lasts; the kernel reads it and writes nothing
    // (bpf(2), BPF_OBJ_PIN). The test of removed pins would find none were it otherwise.
    let result = unsafe { libbpf_sys::bpf_obj_pin(object.as_raw_fd(), path.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-result)) }
}

/// Programs of one hook that are asked for at most.
const TCX_PROGRAMS: usize = 64;

/// The numbers of the programs that tcx runs on an interface, in their order; none where the kernel has no tcx (before
/// Linux 6.6).
pub(super) fn tcx_programs(ifindex: u32, is_ingress: bool) -> Vec<u32> {
    let kind = if is_ingress { libbpf_sys::BPF_TCX_INGRESS } else { libbpf_sys::BPF_TCX_EGRESS };
    let (mut ids, mut count) = ([0u32; TCX_PROGRAMS], TCX_PROGRAMS as u32);
    // SAFETY: `ids` has room for `count` numbers, both are valid for writes while the call lasts, and the kernel writes no
    // more than `count` of them (bpf(2), BPF_PROG_QUERY). The attach flags may be null.
    let result = unsafe {
        libbpf_sys::bpf_prog_query(
            ifindex.cast_signed(),
            kind,
            0,
            std::ptr::null_mut(),
            ids.as_mut_ptr(),
            &raw mut count,
        )
    };
    let count = if result == 0 { count as usize } else { 0 };
    ids.into_iter().take(count).collect()
}

/// Runs a program of the type `syscall` on this context, and gives what it returns.
///
/// # Errors
/// What the system says.
pub(super) fn run(program: BorrowedFd<'_>, context: &mut [u8]) -> io::Result<u32> {
    // SAFETY: all zero is a value of this structure: no option is set.
    let mut options: libbpf_sys::bpf_test_run_opts = unsafe { std::mem::zeroed() };
    options.sz = size_of_val(&options) as libbpf_sys::size_t;
    options.ctx_in = context.as_mut_ptr().cast();
    options.ctx_size_in = u32::try_from(context.len()).unwrap_or(u32::MAX);
    // SAFETY: `options` and the context that it points to are valid for reads and writes while the call lasts, and the kernel
    // reads and writes no more than `ctx_size_in` bytes of the latter (bpf(2), BPF_PROG_RUN). The tests of admissions see no
    // state at all if the context were wrong.
    let result = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut options) };
    if result == 0 { Ok(options.retval) } else { Err(io::Error::from_raw_os_error(-result)) }
}

/// Entries of a map, and where to go on.
type Page<const KEY: usize, const VALUE: usize> = (Vec<([u8; KEY], [u8; VALUE])>, Option<u32>);

/// Reads at most so many entries of a hash map with keys and values of these sizes, from this place in it on (Linux 5.6); and says
/// where to go on, `None` at the end.
///
/// # Errors
/// What the system says.
pub(super) fn entries<const KEY: usize, const VALUE: usize>(
    map: BorrowedFd<'_>,
    from: Option<u32>,
    most: u32,
) -> io::Result<Page<KEY, VALUE>> {
    let (mut keys, mut values) = (vec![[0; KEY]; most as usize], vec![[0; VALUE]; most as usize]);
    let (mut from, mut next, mut count) = (from, 0u32, most);
    let from = from.as_mut().map_or(std::ptr::null_mut(), |from| std::ptr::from_mut(from).cast());
    // SAFETY: `keys` and `values` have room for `count` entries of the map's sizes, which the caller names as its type has them;
    // a place in a hash map is a `u32`, read from `from` unless that is null and written to `next`; all are valid while the call
    // lasts (bpf(2), BPF_MAP_LOOKUP_BATCH). Options may be null. The tests of the freeze map read what they wrote.
    let result = unsafe {
        libbpf_sys::bpf_map_lookup_batch(
            map.as_raw_fd(),
            from,
            (&raw mut next).cast(),
            keys.as_mut_ptr().cast(),
            values.as_mut_ptr().cast(),
            &raw mut count,
            std::ptr::null(),
        )
    };
    if result != 0 && result != -libc::ENOENT {
        return Err(io::Error::from_raw_os_error(-result));
    }
    let read = keys.into_iter().zip(values).take(count as usize).collect();
    Ok((read, (result == 0).then_some(next)))
}

/// `MEMBARRIER_CMD_GLOBAL` of linux/membarrier.h.
const GLOBAL: libc::c_int = 1;
/// No packet is on its way through the kernel for so long.
const THROUGH: Duration = Duration::from_secs(1);

/// Waits until every packet that is on its way through this host's kernel has been taken in or dropped: a packet goes from the tc
/// programs to its socket within one critical section of RCU (`netif_receive_skb`), and membarrier(2) waits for all of these.
/// Where the kernel does not offer that (nohz_full), a time that is long enough passes.
pub(super) fn wait_for_packets() {
    // SAFETY: the call takes numbers only, and touches no memory of this process.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
    if result != 0 {
        std::thread::sleep(THROUGH);
    }
}

/// A ring buffer whose events can be waited for.
#[derive(Debug)]
pub(super) struct Ring(pub(super) RingBuffer<'static>);

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.0.epoll_fd()
    }
}

/// Registers a ring buffer with the runtime.
///
/// # Errors
/// What the system says.
pub(super) fn register(ring: RingBuffer<'static>) -> io::Result<AsyncFd<Ring>> {
    // SAFETY: the ring buffer owns its epoll descriptor, opens it when it is made and closes it when it is dropped, and
    // gives no other one in between (libbpf `ring_buffer__epoll_fd`); the `AsyncFd` owns the ring buffer. The tests of
    // events would hang if it were another one.
    Ok(unsafe { AsyncFd::register(Ring(ring)) }?)
}
