//! The structs of the header. `tests/header.rs` compares their layout with the header's.

use std::ffi::{c_char, c_int, c_void};

/// `struct baton_registration`
#[derive(Debug)]
#[repr(C)]
pub struct Registration {
    pub(crate) role: c_int,
    pub(crate) job: *const c_char,
    pub(crate) dvipa: *const c_char,
    pub(crate) ports: *const u16,
    pub(crate) port_count: usize,
    pub(crate) hold_accepts: c_int,
    pub(crate) socket: *const c_char,
}

/// `struct baton_terms`
#[derive(Debug)]
#[repr(C)]
pub struct Terms {
    pub(crate) state: *const c_void,
    pub(crate) state_bytes: usize,
    pub(crate) unacknowledged: c_int,
    pub(crate) wait_ms: u32,
    pub(crate) given_back: *const c_void,
    pub(crate) given_back_bytes: usize,
}

/// Bytes of `struct baton_target_name`: two names of 63, `@` and the end.
pub(crate) const TARGET_BYTES: usize = 128;
/// Bytes of an address and a port in `struct baton_connection`; the longest has 47.
pub(crate) const ADDRESS_BYTES: usize = 64;

/// `struct baton_target_name`
#[derive(Debug)]
#[repr(C)]
pub struct TargetName(pub(crate) [c_char; TARGET_BYTES]);

/// `struct baton_connection`
#[derive(Debug)]
#[repr(C)]
pub struct Connection {
    pub(crate) fd: c_int,
    pub(crate) client: [c_char; ADDRESS_BYTES],
    pub(crate) dvipa: [c_char; ADDRESS_BYTES],
    pub(crate) state: *mut c_void,
    pub(crate) state_bytes: usize,
    pub(crate) giver: [c_char; TARGET_BYTES],
}

/// `struct baton_heard`
#[derive(Debug)]
#[repr(C)]
pub struct Heard {
    pub(crate) from: [c_char; TARGET_BYTES],
    pub(crate) client: [c_char; ADDRESS_BYTES],
    pub(crate) port: u16,
    pub(crate) bytes: *mut c_void,
    pub(crate) count: usize,
}

/// `struct baton_choice`
#[derive(Debug)]
#[repr(C)]
pub struct Choice {
    pub(crate) jobs: *const *const c_char,
    pub(crate) job_count: usize,
    pub(crate) besides: *const TargetName,
    pub(crate) besides_count: usize,
}

/// `struct baton_target_view`
#[derive(Debug)]
#[repr(C)]
pub struct TargetView {
    target: TargetName,
    connections: u64,
    state: c_int,
    weight_from: c_int,
    holds_accepts: c_int,
    has_load: c_int,
    weight: u16,
    cpu_permille: u16,
    accept_queue_permille: u16,
    memory_pressure_permille: u16,
}

impl TargetView {
    pub(crate) fn new(view: &app::TargetView) -> Self {
        let load = view.load.clone().unwrap_or_default();
        Self {
            target: TargetName(text(&view.target.to_string())),
            connections: view.connections,
            state: view.state.number().into(),
            weight_from: view.weight_from.number().into(),
            holds_accepts: view.holds_accepts.into(),
            has_load: view.load.is_some().into(),
            weight: view.weight,
            cpu_permille: load.cpu_permille,
            accept_queue_permille: load.accept_queue_permille,
            memory_pressure_permille: load.memory_pressure_permille,
        }
    }
}

/// A text as C has it, ended by 0 and cut to fit.
pub(crate) fn text<const N: usize>(text: &str) -> [c_char; N] {
    let mut chars = [0; N];
    for (to, from) in chars.iter_mut().take(N.saturating_sub(1)).zip(text.bytes()) {
        *to = c_char::from_ne_bytes([from]);
    }
    chars
}

const _: () = assert!(size_of::<Registration>() == 56 && align_of::<Registration>() == 8);
const _: () = assert!(size_of::<Terms>() == 40 && align_of::<Terms>() == 8);
const _: () = assert!(size_of::<Choice>() == 32 && align_of::<Choice>() == 8);
const _: () = assert!(size_of::<TargetView>() == 160 && align_of::<TargetView>() == 8);
const _: () = assert!(size_of::<Heard>() == 216 && align_of::<Heard>() == 8);
const _: () = assert!(size_of::<Connection>() == 280 && align_of::<Connection>() == 8);
