//! A TCP segment to a service with routes, as far as it has to be read to follow what its client says.

use super::Context;
use super::ends::At;
use super::whose::Read;
use crate::Reason;
use crate::packet::Tcp;
use crate::transactions::options::Options;

/// A segment as far as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) at: At,
    pub(super) tcp: Tcp,
    pub(super) options: Options,
    /// Where its data begins and ends in the frame.
    pub(super) data: (usize, usize),
}

impl Seen {
    pub(super) fn read(frame: &[u8], read: &Read, cx: &Context<'_>) -> Result<Self, Reason> {
        let d = &read.datagram;
        let key = read.key.filter(|_| d.fragment.is_none()).ok_or(Reason::RequestFragmented)?;
        let segment = d.payload(frame);
        let tcp = Tcp::parse(segment)?;
        let header = segment.get(..tcp.header_bytes).ok_or(Reason::BadLength)?;
        let options = Options::read(header.get(crate::packet::transport::TCP_BYTES..).unwrap_or_default());
        let begin = d.ethernet.header_bytes.saturating_add(d.header_bytes).saturating_add(tcp.header_bytes);
        let end = d.ethernet.header_bytes.saturating_add(d.len.into());
        Ok(Self { at: key.at(cx.crt), tcp, options, data: (begin, end.max(begin)) })
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.tcp.flags & flag != 0
    }

    pub(super) fn len(self) -> usize {
        self.data.1.saturating_sub(self.data.0)
    }

    pub(super) fn echo(self) -> Option<u32> {
        self.options.timestamps.map(|(_, echo)| echo)
    }
}
