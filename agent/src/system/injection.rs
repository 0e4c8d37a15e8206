//! Live connections put into unmodified listeners: the program of bpf/handoff.bpf.c, which not every kernel can run. It is
//! loaded by itself; without it a packet with a handoff option is treated as if it had none.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle, OpenObject};

use super::abilities::{Inability, has_syncookies};
use super::skeletons::HandoffSkelBuilder;

/// The one place in the map of programs.
const SLOT: [u8; 4] = [0; 4];

/// Loads the program and lets baton_decapsulate call it, in place of that of a former run.
pub(super) fn start(pin: &Path, handoff: &MapHandle) -> Result<(), Inability> {
    load(pin, handoff).inspect_err(|_| {
        // One of a former run would go on with that run's maps. There may be none.
        let _ = handoff.delete(&SLOT);
    })
}

fn load(pin: &Path, handoff: &MapHandle) -> Result<(), Inability> {
    if !has_syncookies() {
        return Err(Inability::Syncookies);
    }
    let mut storage = MaybeUninit::<OpenObject>::uninit();
    let mut open = HandoffSkelBuilder::default().open(&mut storage)?;
    open.maps.counters.set_pin_path(pin.join("counters"))?;
    open.maps.events.set_pin_path(pin.join("events"))?;
    open.maps.admitted.set_pin_path(pin.join("admitted"))?;
    open.maps.tokens.set_pin_path(pin.join("tokens"))?;
    open.maps.taken.set_pin_path(pin.join("taken"))?;
    open.maps.freezes.set_pin_path(pin.join("freezes"))?;
    let skeleton = open.load()?;
    let program = skeleton.progs.baton_handoff.as_fd().as_raw_fd().to_ne_bytes();
    Ok(handoff.update(&SLOT, &program, MapFlags::ANY)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::handoff::{BYTES, KIND, VERSION, at, flag};

    #[test]
    fn the_programs_read_the_option_where_the_model_writes_it() {
        let header = include_str!("../../bpf/handoff.h");
        let number = |text: &str| match text.strip_prefix("0x") {
            Some(hex) => usize::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        };
        let defined: BTreeMap<_, _> = header
            .lines()
            .filter_map(|line| line.strip_prefix("#define HANDOFF_")?.split_once(' '))
            .filter_map(|(name, value)| Some((name, number(value)?)))
            .collect();
        let expected = BTreeMap::from([
            ("BYTES", BYTES),
            ("KIND", KIND.into()),
            ("VERSION", VERSION.into()),
            ("AT_FLAGS", at::FLAGS),
            ("AT_SCALES", at::SCALES),
            ("AT_MSS", at::MSS),
            ("AT_START", at::START),
            ("AT_SENT", at::SENT),
            ("AT_TOKEN", at::TOKEN),
            ("SCALES", flag::SCALES.into()),
            ("SACK", flag::SACK.into()),
            ("TIMESTAMPS", flag::TIMESTAMPS.into()),
            ("MICROSECONDS", flag::MICROSECONDS.into()),
            ("ECN", flag::ECN.into()),
        ]);
        assert_eq!(defined, expected, "make model/src/handoff.rs and agent/bpf/handoff.h agree");
    }
}
