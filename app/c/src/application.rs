//! Registration, targets, and what moves connections away.

use std::ffi::{c_char, c_int};
use std::net::IpAddr;
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use app::{Consent, RoutingApplication, Target, TargetApplication, Unacknowledged};

use crate::borrow::{bytes, descriptor, reference, slice, store, text};
use crate::error::{Failure, number};
use crate::types::{self, TargetName};

/// `baton_application`
#[derive(Debug)]
pub enum Application {
    /// `BATON_ROUTING`
    Routing(RoutingApplication),
    /// `BATON_TARGET`
    Target(TargetApplication),
}

impl Deref for Application {
    type Target = app::Application;
    fn deref(&self) -> &app::Application {
        match self {
            Application::Routing(application) => application,
            Application::Target(application) => application,
        }
    }
}

/// See `baton.h`.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn baton_register(
    registration: *const types::Registration,
    application: *mut *mut Application,
) -> c_int {
    // SAFETY: the caller passes what the header says; a C program that is run by the tests does.
    number(unsafe {
        register(registration, None)
            .and_then(|made| store(application, "application", Box::into_raw(Box::new(made))))
    })
}

/// See `baton.h`.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn baton_register_listener(
    registration: *const types::Registration,
    listener: c_int,
    application: *mut *mut Application,
) -> c_int {
    // SAFETY: as for `baton_register`.
    number(unsafe {
        descriptor(listener)
            .and_then(|listener| register(registration, Some(listener)))
            .and_then(|made| store(application, "application", Box::into_raw(Box::new(made))))
    })
}

/// # Safety
/// As [`baton_register`].
unsafe fn register(
    registration: *const types::Registration,
    listener: Option<BorrowedFd<'_>>,
) -> Result<Application, Failure> {
    // SAFETY: as the caller says.
    let (role, registration) = unsafe {
        let types::Registration { role, job, dvipa, ports, port_count, hold_accepts, socket } =
            reference(registration, "registration")?;
        let dvipa: IpAddr = text(*dvipa, "dvipa")?.parse().map_err(Failure::argument)?;
        let ports = slice(*ports, *port_count, "ports")?;
        let job = text(*job, "job")?;
        let made = app::Registration::new(job, dvipa, ports).map_err(Failure::argument)?;
        let made = made.hold_accepts(*hold_accepts != 0);
        (*role, if socket.is_null() { made } else { made.socket(text(*socket, "socket")?) })
    };
    let registration = match listener {
        Some(listener) => registration.listener(&listener).map_err(app::Error::from)?,
        None => registration,
    };
    match role {
        0 => Ok(Application::Routing(RoutingApplication::register(&registration)?)),
        1 => Ok(Application::Target(TargetApplication::register(&registration)?)),
        _ => Err(Failure::argument("role is neither BATON_ROUTING nor BATON_TARGET")),
    }
}

/// See `baton.h`.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn baton_unregister(application: *mut Application) {
    if !application.is_null() {
        // SAFETY: it came from `baton_register`, and the caller gives it back once.
        drop(unsafe { Box::from_raw(application) });
    }
}

/// See `baton.h`.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn baton_descriptor(application: *const Application) -> c_int {
    // SAFETY: the caller passes what the header says.
    match unsafe { reference(application, "application") } {
        Ok(application) => match application.of_this_process() {
            Ok(()) => application.descriptor().as_raw_fd(),
            Err(error) => number(Err(error.into())),
        },
        Err(failure) => number(Err(failure)),
    }
}

/// See `baton.h`.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn baton_targets(
    application: *const Application,
    port: u16,
    targets: *mut TargetName,
    room: usize,
    count: *mut usize,
) -> c_int {
    // SAFETY: the caller passes what the header says.
    number(unsafe {
        reference(application, "application").and_then(|a| Ok(a.targets(port)?)).and_then(|found| {
            for (i, target) in found.iter().take(room).enumerate() {
                store(targets.wrapping_add(i), "targets", TargetName(types::text(&target.to_string())))?;
            }
            store(count, "count", found.len())
        })
    })
}

/// See `baton.h`.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn baton_transfer(
    application: *const Application,
    fd: c_int,
    target: *const c_char,
    terms: *const types::Terms,
) -> c_int {
    // SAFETY: the caller passes what the header says.
    number(unsafe { to_target(application, fd, target, Consent::Asked, terms) })
}

/// See `baton.h`.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn baton_give_connection(
    application: *const Application,
    fd: c_int,
    target: *const c_char,
    terms: *const types::Terms,
) -> c_int {
    // SAFETY: the caller passes what the header says.
    number(unsafe { to_target(application, fd, target, Consent::Presumed, terms) })
}

/// See `baton.h`.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn baton_complete(
    application: *const Application,
    fd: c_int,
    terms: *const types::Terms,
) -> c_int {
    // SAFETY: the caller passes what the header says.
    number(unsafe { moved(application, fd, None, Consent::Asked, terms) })
}

/// # Safety
/// As [`baton_transfer`].
unsafe fn to_target(
    application: *const Application,
    fd: c_int,
    target: *const c_char,
    consent: Consent,
    terms: *const types::Terms,
) -> Result<(), Failure> {
    // SAFETY: as the caller says.
    let target: Target = unsafe { text(target, "target") }?.parse().map_err(Failure::argument)?;
    // SAFETY: as the caller says.
    unsafe { moved(application, fd, Some(&target), consent, terms) }
}

/// # Safety
/// As [`baton_transfer`].
unsafe fn moved(
    application: *const Application,
    fd: c_int,
    to: Option<&Target>,
    consent: Consent,
    terms: *const types::Terms,
) -> Result<(), Failure> {
    // SAFETY: as the caller says.
    unsafe {
        let application = reference(application, "application")?;
        let terms = terms.as_ref().map_or(Ok(app::Terms::new()), |terms| how(terms))?;
        application.move_connection(descriptor(fd)?, to, consent, &terms)?;
        // It has moved, and the header says that the descriptor is ours to close then.
        drop(OwnedFd::from_raw_fd(fd));
    }
    Ok(())
}

/// # Safety
/// `state` points to `state_bytes` bytes for as long as `'a`, and `given_back` to `given_back_bytes`.
unsafe fn how<'a>(terms: &types::Terms) -> Result<app::Terms<'a>, Failure> {
    let unacknowledged = match terms.unacknowledged {
        0 => Unacknowledged::Refuse,
        1 => app::wait(Duration::from_millis(terms.wait_ms.into())),
        2 => Unacknowledged::Carry,
        _ => return Err(Failure::argument("unacknowledged is none of enum baton_unacknowledged")),
    };
    let mut how = app::Terms::new().unacknowledged(unacknowledged);
    if !terms.state.is_null() {
        // SAFETY: as the caller says.
        how = how.state(unsafe { bytes(terms.state, terms.state_bytes, "state") }?);
    }
    if !terms.given_back.is_null() {
        // SAFETY: as the caller says.
        how = how.give_back(unsafe { bytes(terms.given_back, terms.given_back_bytes, "given_back") }?);
    }
    Ok(how)
}
