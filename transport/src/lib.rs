//! How a message reaches another stack by name.
//!
//! Sessions over QUIC, on one host over a Unix socket, with mutual TLS 1.3: both sides show a certificate of the cluster's own CA, and the DNS
//! name in it is the stack's name. Both begin with HELLO. The owner of an [`Endpoint`] hears of sessions and
//! messages as [`Event`]s and sends by name; he knows nothing of streams, certificates or retries.
//!
//! In reading order: [`endpoint`] (what others use), [`event`], [`counters`], [`identity`] (who we are and whom
//! we believe), [`renewal`] (when their files are replaced), `dial` (dial, and dial again), `session` (one peer, from the handshake to the last word),
//! `refusal` (why there is none), `socket` (what wakes an endpoint), `beside` (two stacks of one host), `talk` (readers and writers), `outbox` (what waits to be sent), `frames`
//! (messages on a QUIC stream), `tls` (what rustls and quinn are told), [`bounded`] (how many clients a socket has, of any protocol), [`pki`] (making the cluster's
//! certificates), [`join`] (how a host gets one by a token).

mod beside;
pub mod bounded;
pub mod counters;
mod dial;
pub mod endpoint;
pub mod event;
mod frames;
pub mod identity;
pub mod join;
mod outbox;
pub mod pki;
pub mod private;
mod refusal;
pub mod renewal;
mod session;
mod socket;
mod talk;
mod tls;

#[cfg(test)]
mod tests;

pub use counters::{Counters, Tally};
pub use endpoint::{BindError, Endpoint, Listen, PeerState, PeerStatus, SendError, Settings};
pub use event::{DownReason, Event, Events};
pub use identity::{Expiry, Identity, IdentityError, IdentityFiles};
pub use outbox::LANE_BYTES;
pub use renewal::Renewal;
