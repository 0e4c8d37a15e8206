//! What a client of PostgreSQL says first (PostgreSQL 15, 55.7 "Message Formats"), and an error in its words.

use std::io::{self, Read};

/// As in the server (`MAX_STARTUP_PACKET_LENGTH`).
const MAX_BYTES: usize = 10_000;
/// A length and a code.
const LEAST_BYTES: usize = 8;

/// A first message, whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct First {
    pub(crate) bytes: Vec<u8>,
    pub(crate) wants: Wants,
}

/// What the client wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    /// Encryption, with TLS or GSSAPI: answered with one byte, then the client says what it wants besides.
    Encryption,
    /// That a statement of another connection be cancelled: names a process of one server, and its key.
    Cancel,
    /// A database.
    Database(String),
    /// A protocol that is none of version 3.
    Other,
}

impl First {
    /// Reads one message, and no byte more. `None`: the client is gone.
    pub(crate) fn read(client: &mut impl Read) -> io::Result<Option<Self>> {
        let mut bytes = vec![0; 4];
        match client.read_exact(&mut bytes) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            result => result?,
        }
        let length = bytes.first_chunk().map_or(0, |b| u32::from_be_bytes(*b));
        let length = usize::try_from(length).ok().filter(|n| (LEAST_BYTES..=MAX_BYTES).contains(n));
        let length =
            length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no start-up message"))?;
        bytes.resize(length, 0);
        client.read_exact(bytes.get_mut(4..).unwrap_or_default())?;
        let wants = wants(&bytes);
        Ok(Some(Self { bytes, wants }))
    }
}

fn wants(bytes: &[u8]) -> Wants {
    let code = bytes.get(4..8).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_be_bytes(*b));
    match (code >> 16, code & 0xffff) {
        (1234, 5679 | 5680) => Wants::Encryption,
        (1234, 5678) => Wants::Cancel,
        (3, _) => {
            database(bytes.get(LEAST_BYTES..).unwrap_or_default()).map_or(Wants::Other, Wants::Database)
        }
        _ => Wants::Other,
    }
}

/// Names and values, each ended by 0. Without a database's name it is that of the user.
fn database(parameters: &[u8]) -> Option<String> {
    let texts: Vec<&[u8]> = parameters.split(|byte| *byte == 0).collect();
    let value = |name: &[u8]| texts.chunks_exact(2).find(|pair| pair.first() == Some(&name))?.get(1).copied();
    let name = value(b"database").or_else(|| value(b"user"))?;
    Some(String::from_utf8_lossy(name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(code: [u16; 2], rest: &[u8]) -> Vec<u8> {
        let length = u32::try_from(LEAST_BYTES + rest.len()).expect("short");
        [&length.to_be_bytes()[..], &code[0].to_be_bytes(), &code[1].to_be_bytes(), rest].concat()
    }

    fn read(bytes: &[u8]) -> Wants {
        First::read(&mut &bytes[..]).expect("a message").expect("a client").wants
    }

    #[test]
    fn the_database_is_named_or_is_that_of_the_user() {
        let named = message([3, 0], b"user\0alice\0database\0north\0application_name\0psql\0\0");
        assert_eq!(read(&named), Wants::Database("north".into()));
        assert_eq!(read(&message([3, 0], b"user\0database\0\0")), Wants::Database("database".into()));
        assert_eq!(read(&message([3, 0], b"\0")), Wants::Other);
        assert_eq!(read(&message([2, 0], b"")), Wants::Other);
    }

    #[test]
    fn what_comes_before_and_beside_is_known() {
        assert_eq!(read(&message([1234, 5679], b"")), Wants::Encryption, "SSLRequest");
        assert_eq!(read(&message([1234, 5680], b"")), Wants::Encryption, "GSSENCRequest");
        assert_eq!(read(&message([1234, 5678], &[0; 8])), Wants::Cancel);
    }

    #[test]
    fn no_byte_behind_the_message_is_read() {
        let two = [message([1234, 5679], b""), message([3, 0], b"user\0a\0\0")].concat();
        let mut rest = &two[..];
        assert_eq!(First::read(&mut rest).expect("one").expect("a client").bytes.len(), 8);
        assert_eq!(read(rest), Wants::Database("a".into()));
    }

    #[test]
    fn a_length_that_no_message_has_is_refused() {
        for length in [0u32, 7, 10_001, u32::MAX] {
            assert!(First::read(&mut &length.to_be_bytes()[..]).is_err());
        }
        assert!(First::read(&mut &b""[..]).expect("no error").is_none());
    }
}
