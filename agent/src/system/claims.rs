//! Connections that a routing stack has no entry for and asks about: the programs of bpf/ask.bpf.c and bpf/conntrack.bpf.c.
//! The second one takes a kernel with connection tracking for BPF; without it, connections of containers behind this host's
//! DNAT are not found again.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle, OpenObject, ProgramMut};

use super::abilities::Inability;
use super::programs::{ProgramError, bpf, pin_map};
use super::skeletons::{AskSkelBuilder, ConntrackSkelBuilder};

/// The one place in a map of programs.
const SLOT: [u8; 4] = [0; 4];

/// Lets baton_decapsulate call the programs, in place of those of a former run. `Ok(Err(_))`: there is no connection tracking.
///
/// # Errors
/// [`ProgramError`] if not even sockets can be looked up.
pub(super) fn start(pin: &Path, ask: &MapHandle) -> Result<Result<(), Inability>, ProgramError> {
    let mut storage = MaybeUninit::<OpenObject>::uninit();
    let mut open = AskSkelBuilder::default().open(&mut storage).map_err(bpf("open ask"))?;
    pin_map(&mut open.maps.counters, &pin.join("counters"))?;
    pin_map(&mut open.maps.events, &pin.join("events"))?;
    pin_map(&mut open.maps.conntrack, &pin.join("conntrack"))?;
    let skeleton = open.load().map_err(bpf("load ask"))?;
    let conntrack = MapHandle::try_from(&skeleton.maps.conntrack).map_err(bpf("keep a map"))?;
    let tracked = track(pin, &conntrack).inspect_err(|_| {
        // One of a former run would go on with that run's maps. There may be none.
        let _ = conntrack.delete(&SLOT);
    });
    put(ask, &skeleton.progs.baton_ask).map_err(bpf("have baton_ask called"))?;
    Ok(tracked)
}

fn track(pin: &Path, conntrack: &MapHandle) -> Result<(), Inability> {
    let load = || {
        let mut storage = MaybeUninit::<OpenObject>::uninit();
        let mut open = ConntrackSkelBuilder::default().open(&mut storage)?;
        open.maps.counters.set_pin_path(pin.join("counters"))?;
        open.maps.events.set_pin_path(pin.join("events"))?;
        put(conntrack, &open.load()?.progs.baton_conntrack)
    };
    load().map_err(Inability::Conntrack)
}

fn put(map: &MapHandle, program: &ProgramMut<'_>) -> libbpf_rs::Result<()> {
    map.update(&SLOT, &program.as_fd().as_raw_fd().to_ne_bytes(), MapFlags::ANY)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_programs_read_the_option_that_the_model_writes() {
        let header = include_str!("../../bpf/ask.h");
        let [kind, version, ..] = model::ask::OPTION;
        let lines = [("BYTES", format!("{}", model::ask::BYTES)), ("KIND", format!("{kind:#x}"))];
        for (name, value) in lines.into_iter().chain([("VERSION", version.to_string())]) {
            let line = format!("#define ASK_{name} {value}\n");
            assert!(header.contains(&line), "make model/src/ask.rs and agent/bpf/ask.h agree: {line}");
        }
    }
}
