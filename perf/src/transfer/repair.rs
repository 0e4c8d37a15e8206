//! Transfers a second that one core makes as an agent, beside a bare loop of the same TCP_REPAIR calls.
//!
//! *The agent*: clients move their connections to and fro as fast as they can. Each transfer is made by two agents, so that
//! its price is the processor time of both: sessions, notes, maps and applications included. *The loop*: dump, discard,
//! restore and activate (`agent::repair`) of connections of the same client, in the namespace of one of these hosts. Both
//! take turns, and each counts the softirqs of the packets that it sends.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use agent::repair;
use lab::{Lab, cpu, spec};
use rustix::time::{ClockId, clock_gettime};

use super::movers::Movers;
use super::samples::median;
use super::{Failure, Size, pause};
use crate::rows::Rows;

pub(super) const ROWS: [&str; 3] =
    ["transfer_repair_rate_ratio", "moves_repair_per_s", "agent_longest_turn_ms"];

const ROUNDS: usize = 5;
/// Connections of the bare loop.
const CONNECTIONS: usize = 64;
/// Where its connections are accepted.
const PORT: u16 = 5000;

pub(super) fn measure(rows: &mut Rows, movers: &Movers, size: Size) -> Result<(), Failure> {
    let mut connections = Connections::open(&movers.lab)?;
    let (mut ours, mut bare, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    longest_turn(&movers.lab)?;
    let (rounds, each) = if size == Size::Tiny { (1, 1) } else { (ROUNDS, 20) };
    for _ in 0..rounds {
        bare.push(connections.move_all(&movers.lab, each)?.as_secs_f64());
        let before = of_agents(&movers.lab)?;
        let moved = movers.lab.client().enter(|| pause::flat_out(size.seconds(2)))?;
        ours.push((of_agents(&movers.lab)? - before).as_secs_f64() / f64::from(moved.max(1)));
        rates.push(f64::from(moved) / size.seconds(2).as_secs_f64());
    }
    let (ours, bare) = (median(ours), median(bare));
    let note = format!(
        "{:.0} transfers/s and core, the bare loop {:.0}; {:.0} µs and {:.0} µs each",
        1.0 / ours,
        1.0 / bare,
        ours * 1e6,
        bare * 1e6
    );
    let [ratio, per_second, turn] = ROWS;
    rows.add(ratio, "x", bare / ours, note);
    rows.add(per_second, "/s", median(rates), "between two agents, which share the cores with all else");
    rows.add(turn, "ms", longest_turn(&movers.lab)?, "of both agents, while their connections move");
    Ok(())
}

/// The longest turn of the agents since this was last called, in milliseconds.
fn longest_turn(lab: &Lab) -> Result<f64, Failure> {
    let of =
        |stack| Ok::<_, Failure>(lab.agent(stack)?["longest_turn_ms"].as_f64().ok_or("it does not say")?);
    Ok(of("t1")?.max(of("t2")?))
}

fn of_agents(lab: &Lab) -> Result<Duration, Failure> {
    let of = |name| Ok::<_, Failure>(cpu::of_process(lab.id_of(name).ok_or("the agent has ended")?)?);
    Ok(of("agent-t1")? + of("agent-t2")?)
}

/// The loop's connections.
struct Connections {
    servers: Vec<OwnedFd>,
    /// Kept open.
    _clients: Vec<TcpStream>,
}

impl Connections {
    fn open(lab: &Lab) -> Result<Self, Failure> {
        let at = SocketAddr::from((spec::host(spec::target(1)).0, PORT));
        let listener = lab.host("t1").enter(|| TcpListener::bind(at))?;
        let (mut clients, mut servers) = (Vec::new(), Vec::new());
        for _ in 0..CONNECTIONS {
            clients.push(lab.client().enter(|| TcpStream::connect(at))?);
            servers.push(listener.accept()?.0.into());
        }
        Ok(Self { servers, _clients: clients })
    }

    /// Takes each connection out of the kernel and puts it in again, so many times; the processor time for one.
    fn move_all(&mut self, lab: &Lab, times: u32) -> Result<Duration, Failure> {
        let servers = std::mem::take(&mut self.servers);
        let moves = times * servers.len().max(1) as u32;
        let (servers, took) = lab.host("t1").enter(|| -> Result<_, Failure> {
            let (mut servers, begun) = (servers, this_thread());
            for _ in 0..times {
                servers = servers.into_iter().map(out_and_in).collect::<Result<_, _>>()?;
            }
            Ok((servers, this_thread() - begun))
        })?;
        self.servers = servers;
        Ok(took / moves)
    }
}

fn out_and_in(socket: OwnedFd) -> Result<OwnedFd, Failure> {
    let state = repair::dump(socket.as_fd())?;
    repair::discard(socket)?;
    Ok(repair::restore(state)?.activate()?)
}

/// The processor time of this thread.
fn this_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
