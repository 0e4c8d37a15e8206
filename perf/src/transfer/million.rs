//! An agent whose host has a million connections: whether any of its work holds its task for long.
//!
//! The connections are made by repair mode, without clients: what an agent does for connections depends on how many sockets there are, not
//! on what passes through them. The agent's threads run before all others (SCHED_FIFO), so that its turns are as long as it makes them:
//! on two cores, they would otherwise include what the routing node and the kernel do meanwhile.

use std::io::{Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agent::repair;
use lab::spec::{self, DVIPA, Spec};
use lab::{Lab, Web};
use model::ConnectionState;

use super::{Failure, Size};
use crate::rows::Rows;

pub(super) const ROWS: [&str; 6] = [
    "agent_1m_start_ms",
    "agent_1m_known_s",
    "agent_1m_rest_ms",
    "agent_1m_drain_ms",
    "agent_1m_end_ms",
    "agent_1m_mib",
];

const PORT: u16 = 80;
/// Addresses of clients that are nowhere.
const CLIENTS: [u8; 2] = [198, 19];
/// Connections of one client's address.
const OF_A_CLIENT: u32 = 64;
/// Connections that one process holds.
const OF_A_PROCESS: u32 = 10_000;
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) fn measure(rows: &mut Rows, size: Size) -> Result<(), Failure> {
    let count = if size == Size::Tiny { 1000 } else { 1_000_000 };
    let [start, known, rest, drain, end, memory] = ROWS;
    let lab = Lab::start(spec())?;
    let crowd = Crowd::gather(&lab, count)?;
    let begun = Instant::now();
    lab.start_agent("t1")?;
    put_first(lab.id_of("agent-t1"))?;
    lab.wait_for("all connections in the CRT", PATIENCE, || {
        let there = of_t1(&lab).map_err(|e| e.to_string())?;
        if there >= u64::from(count) { Ok(()) } else { Err(format!("{there} are")) }
    })?;
    let about = format!("{count} connections");
    rows.add(known, "s", begun.elapsed().as_secs_f64(), "from the agent's start until the CRT has them all");
    rows.add(start, "ms", longest_turn(&lab)?, format!("longest turn until then; {about}"));
    std::thread::sleep(size.seconds(60));
    rows.add(rest, "ms", longest_turn(&lab)?, "in 60 s in which nothing happens");
    lab.start_web_as(&Web::wildcard("t2"))?;
    lab.wait_for_targets(PORT, &["t1", "t2"])?;
    if lab.baton(&["drain", "t1", "--move", "--for", "10"]).is_ok() {
        return Err("connections moved that nobody has ever asked anything".into());
    }
    rows.add(drain, "ms", longest_turn(&lab)?, "in 10 s in which all are to move and none may");
    rows.add(memory, "MiB", resident_mib(lab.id_of("agent-t1"))?, "resident memory of the agent");
    drop(crowd);
    lab.wait_for("no connections in the CRT", PATIENCE, || {
        let there = of_t1(&lab).map_err(|e| e.to_string())?;
        if there == 0 { Ok(()) } else { Err(format!("{there} are")) }
    })?;
    rows.add(end, "ms", longest_turn(&lab)?, "while all end, because their server has ended");
    lab.check()?;
    Ok(())
}

fn spec() -> Spec {
    let service = format!("ports = [{PORT}]\ndestip = [\"t1\", \"t2\"]");
    let spec = Spec { targets: 2, connections: 1_200_000, ..Spec::default() }.web([]);
    spec.vipadynamic(spec::ipv4_only(&[&service]))
}

/// The longest turn of the agent since this was last called, in milliseconds.
fn longest_turn(lab: &Lab) -> Result<f64, Failure> {
    Ok(lab.agent("t1")?["longest_turn_ms"].as_f64().ok_or("it does not say")?)
}

/// Has the threads of a process, and those that they start, run before all others.
fn put_first(process: Option<u32>) -> Result<(), Failure> {
    let process = process.ok_or("the agent has ended")?.to_string();
    let done = Command::new("chrt").args(["--all-tasks", "--fifo", "--pid", "1", &process]).status()?;
    done.success().then_some(()).ok_or_else(|| "its threads can't be put before others (chrt)".into())
}

/// How many connections of `t1` the CRT has.
fn of_t1(lab: &Lab) -> Result<u64, Failure> {
    let stacks = lab.baton_json(&["status"])?;
    let stacks = stacks["stacks"].as_array().ok_or("no stacks")?;
    let t1 = stacks.iter().find(|stack| stack["stack"] == "t1").ok_or("no t1")?;
    Ok(t1["connections"].as_u64().unwrap_or(0))
}

fn resident_mib(process: Option<u32>) -> Result<f64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.ok_or("the agent has ended")?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

/// Connections of `t1` that its agent does not know yet, in processes as many as it takes: one has no more than [`OF_A_PROCESS`] descriptors.
struct Crowd {
    _listener: TcpListener,
    holders: Vec<Child>,
}

impl Crowd {
    /// Opens one connection, ends the agent, and makes as many as are wanted like that one.
    fn gather(lab: &Lab, count: u32) -> Result<Self, Failure> {
        let (host, at) = (lab.host("t1"), SocketAddr::from((DVIPA.0, PORT)));
        let listener = host.enter(|| TcpListener::bind(at))?;
        lab.wait_for_targets(PORT, &["t1"])?;
        let client = lab.client().enter(|| TcpStream::connect(at))?;
        let (model, _) = listener.accept()?;
        lab.kill("agent-t1")?;
        // What is sent to clients that are nowhere goes nowhere; a FIN is sent once more, not for minutes.
        let [a, b] = CLIENTS;
        host.sh(&format!(
            "sysctl -qw net.ipv4.tcp_orphan_retries=1 && nft 'add table ip crowd' && nft 'add chain ip crowd out {{ type filter hook output priority 0; }}' \
             && nft 'add rule ip crowd out ip daddr {a}.{b}.0.0/16 drop'"
        ))?;
        let state = host.enter(|| -> Result<_, Failure> {
            let state = repair::dump(model.as_fd())?;
            repair::discard(model.into())?;
            Ok(state)
        })?;
        drop(client);
        let file = lab.files().join("crowd");
        std::fs::write(&file, state.encode())?;
        let mut crowd = Self { _listener: listener, holders: Vec::new() };
        for first in (0..count).step_by(OF_A_PROCESS as usize) {
            let last = first.saturating_add(OF_A_PROCESS).min(count);
            let mut command = host.command(&std::env::current_exe()?.to_string_lossy());
            command.arg("--hold").arg(&file).args([first.to_string(), last.to_string()]);
            crowd.holders.push(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?);
        }
        for holder in &mut crowd.holders {
            let mut ready = [0];
            let out = holder.stdout.as_mut().ok_or("it has no output")?;
            out.read_exact(&mut ready).map_err(|e| format!("not all connections were made: {e}"))?;
        }
        Ok(crowd)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for holder in &mut self.holders {
            // It ends with its input.
            drop(holder.stdin.take());
            let _ = holder.wait();
        }
    }
}

/// Makes connections of these numbers like the one in the file, says so, and keeps them until its input ends.
pub(crate) fn hold(file: &Path, numbers: Range<u32>) -> Result<(), Failure> {
    let state = ConnectionState::decode(&std::fs::read(file)?)?;
    let sockets = numbers.map(|n| {
        let mut state = state.clone();
        state.connection.client = client_of(n).into();
        Ok(repair::restore(state)?.activate()?)
    });
    let sockets: Vec<OwnedFd> = sockets.collect::<Result<_, Failure>>()?;
    std::io::stdout().write_all(b"r")?;
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop(sockets);
    Ok(())
}

/// Where the nth connection comes from.
fn client_of(n: u32) -> SocketAddrV4 {
    let [a, b] = CLIENTS;
    let [_, _, c, d] = (n / OF_A_CLIENT).to_be_bytes();
    SocketAddrV4::new([a, b, c, d].into(), 20_000 + u16::try_from(n % OF_A_CLIENT).unwrap_or(0))
}
