//! UDP servers bound to the wildcard address answer from the DVIPA: the programs of bpf/answers.bpf.c, loaded by themselves,
//! because an agent can do all the rest without them.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use libbpf_rs::OpenObject;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};

use super::abilities::Inability;
use super::programs::{ProgramError, Settings, link};
use super::skeletons::AnswersSkelBuilder;

/// Loads the programs and links them in place of those of a former run. The maps are those that were pinned before.
pub(super) fn start(settings: &Settings, cgroup: &OwnedFd) -> Result<(), Inability> {
    let mut storage = MaybeUninit::<OpenObject>::uninit();
    let mut open = AnswersSkelBuilder::default().open(&mut storage).map_err(Inability::Answers)?;
    if let Some(constants) = open.maps.rodata_data.as_deref_mut() {
        constants.netns_cookie = settings.netns_cookie;
    }
    open.maps.dvipas.set_pin_path(settings.pin.join("dvipas")).map_err(Inability::Answers)?;
    open.maps.flows.set_pin_path(settings.pin.join("flows")).map_err(Inability::Answers)?;
    let skeleton = open.load().map_err(Inability::Answers)?;
    for program in [&skeleton.progs.baton_answers_v4, &skeleton.progs.baton_answers_v6] {
        link(program, cgroup, &settings.pin).map_err(|error| match error {
            ProgramError::Bpf { cause, .. } => Inability::Answers(cause),
            ProgramError::Path { cause, .. } => Inability::Answers(cause.into()),
        })?;
    }
    Ok(())
}
