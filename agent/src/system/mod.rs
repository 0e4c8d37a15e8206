//! What the kernel is asked: everything of the agent that makes system calls.
//!
//! In reading order: [`programs`] (BPF programs: loaded, attached, taken over, removed), [`maps`] (what they are told and
//! what they count), `pins` (what outlives the agent), [`freezes`] (whose packets they keep away),
//! `claims` (connections that a routing stack asks for), `injection` (connections put into listeners), [`listeners`] (which take new connections), [`conntrack`] (made known to stateful filters), [`translated`] (told of by it, for containers), [`containers`] (what they listen on), [`admissions`] (which were), [`tokens`] (for more of them),
//! [`conversations`] (what is said on connections), [`datagrams`] (which DVIPA they came to), `answers` (from there), [`pools`] (of ports that applications are given), [`abilities`], [`events`] (what they tell), [`diag`] (sock_diag: all sockets at once), [`ends`] (of sockets),
//! [`addresses`] (DVIPAs on `lo`), [`changes`] (what others change), [`order`] (other programs of the same hooks), [`rules`] (of routing, for containers as clients), `interfaces`, `sysctl`, `told` (what netlink tells by itself), [`load`] (how busy this host is), `kernel` (single calls).

pub mod abilities;
pub mod addresses;
pub mod admissions;
mod answers;
pub mod changes;
mod claims;
pub mod conntrack;
pub mod containers;
pub mod conversations;
pub mod datagrams;
pub mod diag;
pub mod ends;
pub mod events;
pub mod freezes;
mod injection;
pub mod interfaces;
mod kernel;
pub mod listeners;
pub mod load;
pub mod maps;
pub mod order;
mod pins;
pub mod pools;
pub mod programs;
pub mod rules;
mod skeletons;
mod sysctl;
pub mod tokens;
mod told;
pub mod translated;

pub use kernel::{netns_cookie, netns_cookie_of, random_token, release as kernel_release};
pub use sysctl::{allow_nonlocal_binds, forwards, prepare_interfaces, unfit_for_moves};
