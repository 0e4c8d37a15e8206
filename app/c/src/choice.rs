//! What the cluster chooses, and what it shows of the targets.

use std::ffi::{CStr, c_char, c_int};
use std::net::SocketAddr;

use app::{JobName, Target};

use crate::application::Application;
use crate::borrow::{reference, slice, store, text};
use crate::error::{Failure, number};
use crate::types::{self, TargetName};

/// See `baton.h`.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn baton_choose(
    application: *const Application,
    port: u16,
    client: *const c_char,
    choice: *const types::Choice,
    target: *mut TargetName,
) -> c_int {
    // SAFETY: the caller passes what the header says.
    number(unsafe {
        choose(application, port, client, choice)
            .and_then(|chosen| store(target, "target", TargetName(types::text(&chosen.to_string()))))
    })
}

/// See `baton.h`.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn baton_target_views(
    application: *const Application,
    port: u16,
    views: *mut types::TargetView,
    room: usize,
    count: *mut usize,
) -> c_int {
    // SAFETY: the caller passes what the header says.
    number(unsafe {
        reference(application, "application").and_then(|a| Ok(a.target_views(port)?)).and_then(|found| {
            for (i, view) in found.iter().take(room).enumerate() {
                store(views.wrapping_add(i), "views", types::TargetView::new(view))?;
            }
            store(count, "count", found.len())
        })
    })
}

/// # Safety
/// As [`baton_choose`].
unsafe fn choose(
    application: *const Application,
    port: u16,
    client: *const c_char,
    choice: *const types::Choice,
) -> Result<Target, Failure> {
    // SAFETY: as the caller says.
    let (application, client, jobs, besides) = unsafe {
        let application = reference(application, "application")?;
        let client: SocketAddr = text(client, "client")?.parse().map_err(Failure::argument)?;
        let (jobs, besides) = match choice.as_ref() {
            Some(choice) => among(choice)?,
            None => (Vec::new(), Vec::new()),
        };
        (application, client, jobs, besides)
    };
    Ok(application.choose(port, client, &app::Choice::of(&jobs).besides(&besides))?)
}

/// # Safety
/// `jobs` points to `job_count` texts, and `besides` to `besides_count` names.
unsafe fn among(choice: &types::Choice) -> Result<(Vec<JobName>, Vec<Target>), Failure> {
    // SAFETY: as the caller says.
    unsafe {
        let jobs = slice(choice.jobs, choice.job_count, "jobs")?;
        let jobs = jobs.iter().map(|job| JobName::new(text(*job, "job")?).map_err(Failure::argument));
        let besides = slice(choice.besides, choice.besides_count, "besides")?;
        let besides = besides.iter().map(|name| {
            let bytes = name.0.map(|c| c.to_ne_bytes()[0]);
            let name = CStr::from_bytes_until_nul(&bytes).map_err(Failure::argument)?;
            name.to_str().map_err(Failure::argument)?.parse().map_err(Failure::argument)
        });
        Ok((jobs.collect::<Result<_, _>>()?, besides.collect::<Result<_, Failure>>()?))
    }
}
