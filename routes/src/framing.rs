//! Where a request ends (RFC 9112 6). If any doubt is possible the connection stays with its target, whose own reading is then the only
//! one: there is no second opinion that a client could play off against it.

use crate::{Framing, Pin, Refusal};

/// What is known of a request's end while its header lines are read.
pub(crate) struct Framed {
    head_bytes: usize,
    content_bytes: Option<u64>,
    /// Of several reasons, the first.
    pin: Option<Pin>,
    meaningless_content: bool,
}

impl Framed {
    /// Of a plain head ([`crate::plain`]), whose length is not known yet.
    pub(crate) fn plain(method: &[u8]) -> Self {
        Self {
            head_bytes: 0,
            content_bytes: None,
            pin: None,
            meaningless_content: is_without_content(method),
        }
    }

    /// The head is so long.
    pub(crate) fn head_bytes(&mut self, bytes: usize) {
        self.head_bytes = bytes;
    }

    pub(crate) fn new(head: &[u8], method: &[u8], version_10: bool) -> Self {
        // Empty lines before a request belong to it for some servers, and to the request before it for others (RFC 9112 2.2).
        let empty_line = head.first().is_some_and(|byte| matches!(byte, b'\r' | b'\n'));
        let pin = match method {
            b"CONNECT" => Some(Pin::Connect),
            _ if version_10 => Some(Pin::Version10),
            _ if empty_line => Some(Pin::Doubtful),
            _ => None,
        };
        let meaningless_content = is_without_content(method);
        Self { head_bytes: head.len(), content_bytes: None, pin, meaningless_content }
    }

    /// Looks at one header line.
    ///
    /// # Errors
    /// A Content-Length that is no number, or that there is twice (RFC 9112 6.3, rule 5).
    pub(crate) fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        // By the length first: most lines are none of these.
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let bytes = number(value).ok_or(Refusal::BadRequest)?;
                if self.content_bytes.replace(bytes).is_some() {
                    return Err(Refusal::BadRequest);
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.pinned(Pin::TransferCoding),
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.pinned(Pin::Upgrade),
            6 if name.eq_ignore_ascii_case(b"expect") => self.pinned(Pin::Expectation),
            10 if name.eq_ignore_ascii_case(b"connection") => self.connection(value),
            // CGI and what descends from it take `_` for `-`.
            14 | 17 if is_with_underscores(name) => self.pinned(Pin::Doubtful),
            _ => {}
        }
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) {
        // Most clients say this and nothing else.
        if value == b"keep-alive" {
            return;
        }
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let is = |word: &str| option.eq_ignore_ascii_case(word.as_bytes());
            if is("close") {
                self.pinned(Pin::Closes);
            } else if is("upgrade") {
                self.pinned(Pin::Upgrade);
            } else if !(is("keep-alive") || is("te") || option.is_empty()) {
                // It names a header that a server may then leave out of account.
                self.pinned(Pin::Doubtful);
            }
        }
    }

    fn pinned(&mut self, pin: Pin) {
        self.pin.get_or_insert(pin);
    }

    pub(crate) fn finish(mut self) -> Framing {
        let content = self.content_bytes.unwrap_or(0);
        if content > 0 && self.meaningless_content {
            self.pinned(Pin::UnexpectedContent);
        }
        let all = u32::try_from(content.saturating_add(self.head_bytes as u64));
        match (self.pin, all) {
            (Some(pin), _) => Framing::Pinned(pin),
            (None, Ok(request_bytes)) => Framing::Ends { request_bytes },
            (None, Err(_)) => Framing::Pinned(Pin::LongContent),
        }
    }
}

/// Whether the method gives content no meaning (RFC 9110 9.3).
fn is_without_content(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"DELETE" | b"OPTIONS" | b"TRACE")
}

/// Digits and nothing else. A number that is larger than any content is the largest.
fn number(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| {
        let digit = |byte: &u8| u64::from(byte.wrapping_sub(b'0'));
        value.iter().fold(0_u64, |number, byte| number.saturating_mul(10).saturating_add(digit(byte)))
    })
}

fn is_with_underscores(name: &[u8]) -> bool {
    let same = |known: &str| {
        let letter = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        name.iter().map(letter).eq(known.bytes())
    };
    same("content-length") || same("transfer-encoding")
}
