//! What could leak, counted.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use lab::Lab;

/// Hosts with an agent.
const HOSTS: [&str; 4] = ["rt1", "t1", "t2", "t3"];
/// Programs that hold connections, or carry them out.
const PROGRAMS: [&str; 3] = ["batond", "baton-agent", "echo"];

/// All that a transfer makes and that must be gone after it, by where and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counts(BTreeMap<String, u64>);

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(what, count)| writeln!(f, "{what:40} {count}"))
    }
}

impl Counts {
    /// Nothing moves, and no connection is there.
    pub(crate) fn is_calm(&self) -> bool {
        self.0.iter().all(|(what, count)| *count == 0 || what.contains("descriptors"))
    }

    /// Counts now.
    pub(crate) fn of(lab: &Lab) -> Result<Self, String> {
        let mut counts = BTreeMap::new();
        for host in HOSTS {
            let agent = lab.agent(host).map_err(|e| e.to_string())?;
            // Departed ones are let go when no packet of them can live any more; what they grow to is bounded.
            for what in ["leaving", "coming", "orphans", "frozen", "admitted"] {
                let count = agent["transfers"][what].as_u64().ok_or_else(|| agent.to_string())?;
                counts.insert(format!("{host} connections {what}"), count);
            }
            let notes = lab.notes(host).map_err(|e| e.to_string())?;
            counts.insert(format!("{host} notes"), notes.len() as u64);
            // A socket in repair mode is shown as any other.
            let sockets = lab.host(host).sh("ss -Htan '( sport = :80 )' | grep -vc LISTEN || true");
            let sockets = sockets.map_err(|e| e.to_string())?;
            counts.insert(format!("{host} sockets"), sockets.trim().parse().map_err(|_| sockets)?);
            for (program, descriptors) in descriptors(lab, host) {
                *counts.entry(format!("{host} descriptors of {program}")).or_default() += descriptors;
            }
        }
        let entries =
            lab.crt(&[]).map_err(|e| e.to_string())?.iter().filter(|row| row.state != "closing").count();
        counts.insert("rt1 CRT entries".to_owned(), entries as u64);
        Ok(Self(counts))
    }
}

/// How many descriptors each of the programs has open.
fn descriptors(lab: &Lab, host: &str) -> Vec<(String, u64)> {
    pids(lab, host)
        .into_iter()
        .filter_map(|(pid, program)| {
            let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
            Some((program, open.count() as u64))
        })
        .collect()
}

/// Resident memory of `batond` and the agents, in MiB.
pub(crate) fn memory(lab: &Lab) -> BTreeMap<String, u64> {
    let of = |host: &&str| {
        let of_host = pids(lab, host).into_iter().filter(|(_, program)| program != "echo");
        let resident = of_host.filter_map(|(pid, program)| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
            Some((format!("{host} {program}"), kib >> 10))
        });
        resident.collect::<Vec<_>>()
    };
    HOSTS.iter().flat_map(of).collect()
}

fn pids(lab: &Lab, host: &str) -> Vec<(u32, String)> {
    let said = lab.host(host).run(&["ip", "netns", "pids", lab.host(host).name()]).unwrap_or_default();
    let of = |pid: u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        PROGRAMS.contains(&name.trim()).then(|| (pid, name.trim().to_owned()))
    };
    said.lines().filter_map(|line| of(line.trim().parse().ok()?)).collect()
}
