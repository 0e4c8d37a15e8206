//! A core for some programs alone, with their kernel work.

use std::fs;
use std::process::Command;

use core_affinity::CoreId;
use lab::Namespace;
use lab::namespace::output_of;

use super::Failure;

/// Two cores: one for those that are measured, one for all others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cores {
    pub(super) measured: usize,
    pub(super) others: usize,
}

impl Cores {
    /// The first and the last core of this machine.
    pub(super) fn find() -> Result<Self, Failure> {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        match (cores.first(), cores.last()) {
            (Some(first), Some(last)) if first != last => Ok(Self { measured: first.id, others: last.id }),
            _ => Err("there is only one core".into()),
        }
    }
}

/// Has a host's kernel handle on this core what arrives at an interface (RPS).
pub(super) fn receive_on(core: usize, host: &Namespace, interface: &str) -> Result<(), Failure> {
    let script = format!("printf %x {} >/sys/class/net/{interface}/queues/rx-0/rps_cpus", 1u64 << core);
    run(&["ip", "netns", "exec", host.name(), "sh", "-c", &script])
}

/// Has all threads of a process, and those that they start, run on this core.
pub(super) fn run_on(core: usize, pid: u32) -> Result<(), Failure> {
    run(&["taskset", "--all-tasks", "--cpu-list", "--pid", &core.to_string(), &pid.to_string()])
}

/// Has the calling thread, and those that it starts, run on this core.
pub(super) fn stay_on(core: usize) -> Result<(), Failure> {
    if core_affinity::set_for_current(CoreId { id: core }) { Ok(()) } else { Err("no such core".into()) }
}

/// Has everybody else go before the threads of a process that are called so (sched(7), `SCHED_IDLE`).
pub(super) fn give_way(pid: u32, name: &str) -> Result<(), Failure> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        if fs::read_to_string(task.path().join("comm"))?.starts_with(name) {
            run(&["chrt", "--idle", "--pid", "0", &task.file_name().to_string_lossy()])?;
        }
    }
    Ok(())
}

fn run(words: &[&str]) -> Result<(), Failure> {
    let mut command = Command::new(words.first().copied().unwrap_or("true"));
    command.args(words.iter().skip(1));
    Ok(output_of(&mut command, &words.join(" ")).map(drop)?)
}
