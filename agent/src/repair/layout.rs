//! Structures of linux/tcp.h, byte for byte.

use model::connection_state::Windows;

/// `struct tcp_repair_window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct RepairWindow {
    snd_wl1: u32,
    snd_wnd: u32,
    max_window: u32,
    rcv_wnd: u32,
    rcv_wup: u32,
}

const _: () = assert!(size_of::<RepairWindow>() == 20 && align_of::<RepairWindow>() == 4);

impl From<RepairWindow> for Windows {
    fn from(w: RepairWindow) -> Self {
        let RepairWindow { snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup } = w;
        Self { snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup }
    }
}

impl From<Windows> for RepairWindow {
    fn from(w: Windows) -> Self {
        let Windows { snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup } = w;
        Self { snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup }
    }
}

/// `struct tcp_repair_opt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct RepairOption {
    /// Kind of the TCP option.
    pub(super) code: u32,
    /// Its value; of window scales the client's, and the own in the upper half.
    pub(super) value: u32,
}

const _: () = assert!(size_of::<RepairOption>() == 8 && align_of::<RepairOption>() == 4);

/// The kinds of TCP options that are agreed on in a handshake (RFC 9293 3.1, RFC 7323, RFC 2018).
pub(super) mod option_kind {
    pub(in crate::repair) const MSS: u32 = 2;
    pub(in crate::repair) const WINDOW_SCALE: u32 = 3;
    pub(in crate::repair) const SACK_PERMITTED: u32 = 4;
    pub(in crate::repair) const TIMESTAMPS: u32 = 8;
}
