//! A body under way, of an answer or of a request: what each target does of it, and what the next one has to know.

use std::io::{self, Read};
use std::net::TcpStream;

use app::Target;

use crate::content;
use crate::request::Head;

/// FNV-1a's beginning and prime, 64 bits.
const FNV: (u64, u64) = (0xcbf2_9ce4_8422_2325, 0x0100_0000_01b3);

/// A body of which some is done: the application state of a connection that moves.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) way: Way,
    /// Bytes that are done.
    pub(crate) at: u64,
    pub(crate) total: u64,
    /// Who goes on with it, one after the other.
    pub(crate) via: Vec<Target>,
}

/// Which way it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the client.
    Down,
    /// From the client.
    Up {
        /// FNV-1a of what has come.
        sum: u64,
    },
}

impl Body {
    /// What a request is about, if its path is `/download/BYTES` or `/upload`, with `?via=JOB@STACK,…` or without.
    pub(crate) fn requested(head: &Head) -> Option<Self> {
        let (what, via) = head.path().split_once("?via=").unwrap_or((head.path(), ""));
        let (way, total) = match what.strip_prefix("/download/") {
            Some(total) => (Way::Down, total),
            None if what == "/upload" => (Way::Up { sum: FNV.0 }, head.header("content-length")?),
            None => return None,
        };
        Some(Self { way, at: 0, total: total.parse().ok()?, via: targets(via)? })
    }

    pub(crate) fn from_state(state: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(state).ok()?.split(' ');
        let way = match words.next()? {
            "down" => Way::Down,
            sum => Way::Up { sum: sum.parse().ok()? },
        };
        let mut number = || words.next()?.parse().ok();
        let (at, total) = (number()?, number()?);
        Some(Self { way, at, total, via: targets(words.next()?)? })
    }

    pub(crate) fn to_state(&self) -> String {
        let via: Vec<String> = self.via.iter().map(ToString::to_string).collect();
        let way = match self.way {
            Way::Down => "down".to_owned(),
            Way::Up { sum } => sum.to_string(),
        };
        format!("{way} {} {} {}", self.at, self.total, via.join(","))
    }

    /// Does a share of it: one of as many equal ones as targets are left.
    pub(crate) fn go_on(&mut self, client: &mut TcpStream) -> io::Result<()> {
        let shares = u64::try_from(self.via.len()).unwrap_or(u64::MAX - 1) + 1;
        let end = self.at + self.total.saturating_sub(self.at) / shares;
        match &mut self.way {
            Way::Down => content::write(client, self.at, end)?,
            Way::Up { sum } => {
                let mut piece = vec![0; 64 * 1024];
                while self.at < end {
                    let most = piece.len().min(usize::try_from(end - self.at).unwrap_or(usize::MAX));
                    let bytes = client.read(piece.get_mut(..most).unwrap_or_default())?;
                    if bytes == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    *sum = piece.iter().take(bytes).copied().fold(*sum, add);
                    self.at += bytes as u64;
                }
            }
        }
        self.at = self.at.max(end);
        Ok(())
    }
}

fn add(sum: u64, byte: u8) -> u64 {
    (sum ^ u64::from(byte)).wrapping_mul(FNV.1)
}

fn targets(list: &str) -> Option<Vec<Target>> {
    list.split(',').filter(|word| !word.is_empty()).map(|word| word.parse().ok()).collect()
}
