//! The ask option: *only if you have it*. A forwarder asks candidate targets about a connection that it has no entry for, by
//! sending them the connection's own packet with this option in its GUE header.
//!
//! A stack that has the connection takes the packet in and tells the routing stack (NEWCONN); any other drops it without a
//! word. It is private data of GUE, as the [handoff option](crate::handoff) is: four bytes, big-endian; `agent/bpf/ask.h` has
//! the same numbers, and a test compares them:
//!
//! | at | bytes | |
//! | --- | --- | --- |
//! | 0 | 1 | 0xb, which says whose data it is, and which option, 4 bits each |
//! | 1 | 1 | the version |
//! | 2 | 2 | 0 |

/// How long it is.
pub const BYTES: usize = 4;
/// The first byte: baton's mark, and option 2.
pub const KIND: u8 = 0xb2;
/// The second byte. A stack that does not know the version drops the packet.
pub const VERSION: u8 = 1;
/// The whole option.
pub const OPTION: [u8; BYTES] = [KIND, VERSION, 0, 0];
