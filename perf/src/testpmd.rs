//! DPDK's own forwarder on two net_null ports, for comparison: nanoseconds a packet, the packets of both ports counted.
//!
//! Ours is the best of short passes, which hardly ever contain an interruption. testpmd's seconds contain all of them, so
//! that on a busy machine its wall-clock rate would make us look good. Only the processor time that its forwarding thread
//! really got is counted.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Seconds of figures that are read after the first one; the best counts.
const SECONDS: usize = 6;

/// What testpmd had done at one moment.
#[derive(Clone, Copy)]
struct Moment {
    packets: u64,
    cpu_ns: u64,
}

/// Why there is no figure of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("dpdk-testpmd does not start (Debian: apt install dpdk-dev): {0}")]
    Start(io::Error),
    #[error("dpdk-testpmd ended before it had forwarded for a few seconds")]
    Ended,
}

/// Runs `dpdk-testpmd` in a forwarding mode on one core.
///
/// # Errors
/// If it is not installed, or ends.
pub(crate) fn packet_ns(mode: &str, control_core: usize, core: usize, huge: bool) -> Result<f64, Error> {
    let memory: &[&str] = if huge { &["--in-memory"] } else { &["--no-huge", "-m", "256", "--no-shconf"] };
    let mut testpmd = Command::new("dpdk-testpmd")
        .args(["-l", &format!("{control_core},{core}"), "--main-lcore", &control_core.to_string()])
        .args(["--no-pci", "--no-telemetry", "--file-prefix=baton-perf"])
        .args(memory)
        .args(["--vdev=net_null0,size=60", "--vdev=net_null1,size=60", "--"])
        .args([
            &format!("--forward-mode={mode}"),
            "--auto-start",
            "--stats-period=1",
            "--total-num-mbufs=8192",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(Error::Start)?;
    let moments = watch(&mut testpmd);
    // Its devices are virtual and its memory its own: nothing is left behind.
    let _ = testpmd.kill();
    let _ = testpmd.wait();
    let each = moments.windows(2).skip(1).filter_map(|pair| {
        let [before, after] = pair else { return None };
        let packets = after.packets.checked_sub(before.packets).filter(|n| *n > 0)?;
        Some(after.cpu_ns.checked_sub(before.cpu_ns)? as f64 / packets as f64)
    });
    each.min_by(f64::total_cmp).ok_or(Error::Ended)
}

/// Both ports' packets and the thread's processor time, once a second.
fn watch(testpmd: &mut Child) -> Vec<Moment> {
    let (mut moments, mut ports) = (Vec::new(), Vec::new());
    let Some(out) = testpmd.stdout.take() else { return moments };
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        let Some(packets) = received(&line) else { continue };
        ports.push(packets);
        if let [one, two] = ports[..] {
            ports.clear();
            let Some(cpu_ns) = worker_cpu_ns(testpmd.id()) else { return moments };
            moments.push(Moment { packets: one + two, cpu_ns });
        }
        if moments.len() > SECONDS + 1 {
            break;
        }
    }
    moments
}

/// A port's packets so far, in a line such as `  RX-packets: 275584     RX-missed: 0          RX-bytes:  0`.
fn received(line: &str) -> Option<u64> {
    line.trim().strip_prefix("RX-packets:")?.split_whitespace().next()?.parse().ok()
}

/// Processor time of DPDK's forwarding thread: the first number in its `schedstat`.
fn worker_cpu_ns(process: u32) -> Option<u64> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    threads.flatten().find_map(|thread| {
        let name = fs::read_to_string(thread.path().join("comm")).ok()?;
        let is_worker = name.contains("worker");
        let times = is_worker.then(|| fs::read_to_string(thread.path().join("schedstat")).ok())??;
        times.split_whitespace().next()?.parse().ok()
    })
}
