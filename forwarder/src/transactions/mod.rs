//! The client's side of TCP where this node answers it itself: services with routes.
//!
//! Pure: [`cookie`] (what is agreed on with a client, and how it comes back without being kept), [`options`] (of segments),
//! [`segments`] (what this node answers), [`boundary`] (where a client's next request begins). The stages that do it are
//! [`path::transact` and `path::follow`](crate::path).

pub(crate) mod boundary;
pub(crate) mod cookie;
pub(crate) mod options;
pub(crate) mod segments;

use model::connection_state::WindowScales;

/// The scale of windows that are offered to clients: what Linux offers with its usual buffers.
pub(crate) const SCALE: u8 = 7;
/// The window of answers to a SYN, not scaled: the client's first segments fit.
pub(crate) const WINDOW: u16 = 64_240;

/// What a client and this node have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// The largest segment that the client takes.
    pub(crate) mss: u16,
    /// Window scales, if the client scales windows.
    pub(crate) scales: Option<WindowScales>,
    /// Selective acknowledgments.
    pub(crate) sack: bool,
    /// Timestamps.
    pub(crate) timestamps: bool,
    /// Explicit congestion notification.
    pub(crate) ecn: bool,
}
