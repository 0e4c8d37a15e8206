//! What a match asks for beside host and path, and the order in which matches are tried that differ in nothing else.

use std::cmp::Reverse;

use crate::pattern::Compiled;
use crate::request::Request;

/// All that a match asks for and no look-up decides. All of it has to hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions {
    /// A regular expression for the subject.
    pub(crate) subject: Option<Compiled>,
    pub(crate) slots: Option<(u16, u16)>,
    pub(crate) method: Option<Box<[u8]>>,
    pub(crate) headers: Box<[(Box<str>, Compiled)]>,
    pub(crate) query_params: Box<[(Box<[u8]>, Compiled)]>,
    pub(crate) user: Option<Compiled>,
    /// The bit of an application protocol; 0: none is asked for.
    pub(crate) alpn: u64,
}

/// Smaller comes first.
pub(crate) type Rank =
    (u8, Reverse<bool>, Reverse<usize>, Reverse<usize>, (u8, Reverse<usize>), Reverse<bool>);

impl Conditions {
    /// How specific it is: a regular expression for the subject, then hash slots, then those without either; of equals with a
    /// method, then with more headers, more query parameters, the more specific user, an application protocol.
    pub(crate) fn rank(&self) -> Rank {
        let subject = match (&self.subject, self.slots) {
            (Some(_), _) => 0,
            (None, Some(_)) => 1,
            (None, None) => 2,
        };
        let user = match &self.user {
            Some(Compiled::Exact(_)) => (0, Reverse(0)),
            Some(Compiled::Prefix(start)) => (1, Reverse(start.len())),
            Some(Compiled::Regex(_)) => (2, Reverse(0)),
            None => (3, Reverse(0)),
        };
        let (headers, params) = (Reverse(self.headers.len()), Reverse(self.query_params.len()));
        (subject, Reverse(self.method.is_some()), headers, params, user, Reverse(self.alpn != 0))
    }

    /// Whether nothing is asked for.
    pub(crate) fn is_none(&self) -> bool {
        let texts = self.subject.is_none() && self.method.is_none() && self.user.is_none();
        texts
            && self.slots.is_none()
            && self.headers.is_empty()
            && self.query_params.is_empty()
            && self.alpn == 0
    }

    /// Whether all of it holds.
    pub(crate) fn hold(&self, request: &Request<'_>) -> bool {
        let of = |pattern: &Option<Compiled>, text: Option<&[u8]>| {
            pattern.as_ref().is_none_or(|pattern| text.is_some_and(|text| pattern.holds(text)))
        };
        self.method.as_ref().is_none_or(|method| **method == *request.method)
            && self
                .slots
                .is_none_or(|(first, last)| request.slot.is_some_and(|s| (first..=last).contains(&s)))
            && (self.alpn == 0 || self.alpn & request.alpn != 0)
            && of(&self.user, request.user)
            && self.headers.iter().all(|(name, value)| has_header(request, name, value))
            && self.query_params.iter().all(|(name, value)| has_param(request.query, name, value))
            && of(&self.subject, request.subject)
    }
}

/// Whether one of the header's lines has the value.
fn has_header(request: &Request<'_>, name: &str, value: &Compiled) -> bool {
    let mut lines = request.lines.split(|byte| *byte == b'\n');
    lines.any(|line| {
        let named = memchr::memchr(b':', line).and_then(|colon| line.split_at_checked(colon));
        named.is_some_and(|(found, rest)| {
            found.eq_ignore_ascii_case(name.as_bytes())
                && value.holds(trimmed(rest.get(1..).unwrap_or_default()))
        })
    })
}

/// A value without the white space around it (RFC 9112 5), and the line's end.
fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\r', rest @ ..] | [rest @ .., b' ' | b'\t' | b'\r'] = value {
        value = rest;
    }
    value
}

/// Whether the first parameter of the name has the value.
fn has_param(query: &[u8], name: &[u8], value: &Compiled) -> bool {
    let mut params = query.split(|byte| *byte == b'&').map(|param| {
        let at = param.iter().position(|byte| *byte == b'=').unwrap_or(param.len());
        param.split_at_checked(at).unwrap_or((param, &[]))
    });
    let found = params.find(|(key, _)| decoded(key).eq(name.iter().copied()));
    found.is_some_and(|(_, rest)| value.holds_of(decoded(rest.get(1..).unwrap_or_default())))
}

/// The bytes of a part of a query, as forms encode them.
fn decoded(text: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (first, behind) = rest.split_first()?;
        rest = behind;
        match first {
            b'+' => Some(b' '),
            b'%' => {
                let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
                if let (Some(high), Some(low)) = (digit(behind.first()), digit(behind.get(1))) {
                    rest = behind.get(2..).unwrap_or_default();
                    return Some((high << 4 | low) as u8);
                }
                Some(b'%')
            }
            byte => Some(*byte),
        }
    })
}
