//! Host names in the one form in which they are looked up.

/// The longest host name, in bytes.
pub(crate) const MAX_HOST: usize = 253;
/// The most labels of a host name that are looked at for wildcards.
pub(crate) const MAX_LABELS: usize = 32;

/// A host name in lower case, without its final dot.
pub(crate) struct Host {
    bytes: [u8; MAX_HOST],
    len: usize,
}

/// Each byte that a host may have (RFC 3986 3.2.2: reg-name, IPv4address, IP-literal), in lower case; 0: none.
#[allow(clippy::indexing_slicing, reason = "the compiler evaluates it")]
const LOWER: [u8; 256] = {
    let mut lower = [0; 256];
    let mut letters: &[u8] =
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%!$&'()*+,;=[]:";
    while let [letter, rest @ ..] = letters {
        lower[*letter as usize] = letter.to_ascii_lowercase();
        letters = rest;
    }
    lower
};

impl Host {
    /// Takes a name. `None` if it is no name that a request can have; an empty one is, and is [`Host::get`] none.
    pub(crate) fn new(name: &[u8]) -> Option<Self> {
        let name = name.strip_suffix(b".").unwrap_or(name);
        let mut host = Self { bytes: [0; MAX_HOST], len: name.len() };
        let mut labels = 1_usize;
        let mut good = true;
        for (to, from) in host.bytes.get_mut(..name.len())?.iter_mut().zip(name) {
            let lower = LOWER.get(usize::from(*from)).copied().unwrap_or(0);
            good &= lower != 0;
            labels = labels.wrapping_add(usize::from(lower == b'.'));
            *to = lower;
        }
        (good && labels <= MAX_LABELS).then_some(host)
    }

    /// The name, if it is not empty.
    pub(crate) fn get(&self) -> Option<&[u8]> {
        self.bytes.get(..self.len).filter(|name| !name.is_empty())
    }
}

/// The host of `host[:port]`. `None` if it is neither.
pub(crate) fn without_port(authority: &[u8]) -> Option<&[u8]> {
    let colon = match authority.first() {
        Some(b'[') => {
            let end = authority.iter().position(|byte| *byte == b']')?;
            match authority.get(end.saturating_add(1)) {
                None => return Some(authority),
                Some(b':') => end.saturating_add(1),
                Some(_) => return None,
            }
        }
        _ => match authority.iter().position(|byte| *byte == b':') {
            None => return Some(authority),
            Some(colon) => colon,
        },
    };
    let (host, port) = authority.split_at_checked(colon)?;
    let digits = port.get(1..)?;
    (digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit)).then_some(host)
}
