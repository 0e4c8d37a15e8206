//! Connections that come.

use std::ffi::{CString, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::IntoRawFd;
use std::ptr::{null, null_mut, slice_from_raw_parts_mut};

use crate::application::Application;
use crate::borrow::{bytes, reference, store, text, timeout};
use crate::error::{Failure, number};
use crate::types::{self, Connection};

/// `baton_offer`
#[derive(Debug)]
pub struct Offer {
    offer: app::Offer,
    client: CString,
    dvipa: CString,
    job: CString,
    giver: Option<CString>,
}

impl Offer {
    fn new(offer: app::Offer) -> Self {
        // None of these has a 0 in it.
        let text = |text: String| CString::new(text).unwrap_or_default();
        let (client, dvipa) = (text(offer.client().to_string()), text(offer.dvipa().to_string()));
        let job = text(offer.job().to_string());
        let giver = offer.giver().map(|giver| text(giver.to_string()));
        Self { offer, client, dvipa, job, giver }
    }
}

/// See `baton.h`.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn baton_next_offer(
    application: *const Application,
    timeout_ms: c_int,
    offer: *mut *mut Offer,
) -> c_int {
    // SAFETY: the caller passes what the header says.
    number(unsafe {
        reference(application, "application").and_then(|application| {
            let offered = application.next_offer(timeout(timeout_ms))?.ok_or(Failure::Nothing)?;
            store(offer, "offer", Box::into_raw(Box::new(Offer::new(offered))))
        })
    })
}

/// See `baton.h`.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn baton_offer_client(offer: *const Offer) -> *const c_char {
    // SAFETY: the caller passes what the header says.
    unsafe { offer.as_ref() }.map_or(null(), |offer| offer.client.as_ptr())
}

/// See `baton.h`.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn baton_offer_dvipa(offer: *const Offer) -> *const c_char {
    // SAFETY: the caller passes what the header says.
    unsafe { offer.as_ref() }.map_or(null(), |offer| offer.dvipa.as_ptr())
}

/// See `baton.h`.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn baton_offer_job(offer: *const Offer) -> *const c_char {
    // SAFETY: the caller passes what the header says.
    unsafe { offer.as_ref() }.map_or(null(), |offer| offer.job.as_ptr())
}

/// See `baton.h`.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn baton_offer_giver(offer: *const Offer) -> *const c_char {
    // SAFETY: the caller passes what the header says.
    unsafe { offer.as_ref() }.and_then(|offer| offer.giver.as_ref()).map_or(null(), |giver| giver.as_ptr())
}

/// See `baton.h`.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn baton_offer_state(offer: *const Offer, state_bytes: *mut usize) -> *const c_void {
    // SAFETY: the caller passes what the header says.
    let state = unsafe { offer.as_ref() }.and_then(|offer| offer.offer.state());
    // SAFETY: as above; without a place for it the length is not told.
    let _ = unsafe { store(state_bytes, "state_bytes", state.map_or(0, <[u8]>::len)) };
    state.map_or(null(), |state| state.as_ptr().cast())
}

/// See `baton.h`.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn baton_accept(offer: *mut Offer, connection: *mut Connection) -> c_int {
    // SAFETY: the caller passes what the header says.
    number(unsafe {
        take_back(offer).and_then(|offer| {
            let room = room(connection)?;
            deliver(offer.accept()?, room);
            Ok(())
        })
    })
}

/// See `baton.h`.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn baton_reject(offer: *mut Offer, reason: *const c_char) -> c_int {
    // SAFETY: the caller passes what the header says.
    number(unsafe {
        take_back(offer).and_then(|offer| {
            let reason = if reason.is_null() { "" } else { text(reason, "reason")? };
            Ok(offer.reject(reason)?)
        })
    })
}

/// See `baton.h`.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn baton_take_connection(
    application: *const Application,
    timeout_ms: c_int,
    connection: *mut Connection,
) -> c_int {
    // SAFETY: the caller passes what the header says.
    number(unsafe {
        reference(application, "application").and_then(|application| {
            let room = room(connection)?;
            deliver(application.take_connection(timeout(timeout_ms))?.ok_or(Failure::Nothing)?, room);
            Ok(())
        })
    })
}

/// See `baton.h`.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn baton_free_state(connection: *mut Connection) {
    // SAFETY: the caller passes what the header says.
    let Some(connection) = (unsafe { connection.as_mut() }) else { return };
    if !connection.state.is_null() {
        let state = slice_from_raw_parts_mut(connection.state.cast::<u8>(), connection.state_bytes);
        // SAFETY: `deliver` made it from a box of so many bytes, and it is forgotten here, so that it is freed once.
        drop(unsafe { Box::from_raw(state) });
        (connection.state, connection.state_bytes) = (null_mut(), 0);
    }
}

/// See `baton.h`.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn baton_say(
    application: *const Application,
    port: u16,
    target: *const c_char,
    client: *const c_char,
    message: *const c_void,
    count: usize,
) -> c_int {
    // SAFETY: the caller passes what the header says.
    number(unsafe {
        reference(application, "application").and_then(|application| {
            let target: app::Target = text(target, "target")?.parse().map_err(Failure::argument)?;
            let client = match client.is_null() {
                true => None,
                false => Some(text(client, "client")?.parse().map_err(Failure::argument)?),
            };
            Ok(application.say(port, &target, client, bytes(message, count, "bytes")?)?)
        })
    })
}

/// See `baton.h`.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn baton_hear(
    application: *const Application,
    timeout_ms: c_int,
    heard: *mut types::Heard,
) -> c_int {
    // SAFETY: the caller passes what the header says.
    number(unsafe {
        reference(application, "application").and_then(|application| {
            let said = application.hear(timeout(timeout_ms))?.ok_or(Failure::Nothing)?;
            let client = said.client.map(|client| client.to_string()).unwrap_or_default();
            let count = said.bytes.len();
            let told = types::Heard {
                from: types::text(&said.from.to_string()),
                client: types::text(&client),
                port: said.port,
                bytes: Box::into_raw(said.bytes.into_boxed_slice()).cast(),
                count,
            };
            store(heard, "heard", told)
        })
    })
}

/// See `baton.h`.
///
/// # Safety
/// As the crate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn baton_free_heard(heard: *mut types::Heard) {
    // SAFETY: the caller passes what the header says.
    let Some(heard) = (unsafe { heard.as_mut() }) else { return };
    if !heard.bytes.is_null() {
        let bytes = slice_from_raw_parts_mut(heard.bytes.cast::<u8>(), heard.count);
        // SAFETY: `baton_hear` made it from a box of so many bytes, and it is forgotten here, so that it is freed once.
        drop(unsafe { Box::from_raw(bytes) });
        (heard.bytes, heard.count) = (null_mut(), 0);
    }
}

/// # Safety
/// `offer` is NULL, or comes from [`baton_next_offer`] and was not answered.
unsafe fn take_back(offer: *mut Offer) -> Result<app::Offer, Failure> {
    if offer.is_null() {
        return Err(Failure::argument("offer is NULL: see baton.h"));
    }
    // SAFETY: as the caller says.
    Ok(unsafe { Box::from_raw(offer) }.offer)
}

/// # Safety
/// `connection` is NULL, or points to room for a connection for as long as `'a`.
unsafe fn room<'a>(connection: *mut Connection) -> Result<&'a mut MaybeUninit<Connection>, Failure> {
    // SAFETY: as the caller says; what is there may be uninitialised, and is not looked at.
    unsafe { connection.cast::<MaybeUninit<Connection>>().as_mut() }
        .ok_or_else(|| Failure::argument("connection is NULL: see baton.h"))
}

fn deliver(from: app::Connection, to: &mut MaybeUninit<Connection>) {
    let (state, state_bytes) = match from.state {
        None => (null_mut(), 0),
        Some(state) => {
            let state_bytes = state.len();
            (Box::into_raw(state.into_boxed_slice()).cast(), state_bytes)
        }
    };
    to.write(Connection {
        fd: from.stream.into_raw_fd(),
        client: types::text(&from.client.to_string()),
        dvipa: types::text(&from.dvipa.to_string()),
        state,
        state_bytes,
        giver: types::text(&from.giver.map(|giver| giver.to_string()).unwrap_or_default()),
    });
}
