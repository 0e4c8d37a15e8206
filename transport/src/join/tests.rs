//! Tokens and the book.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::book::{Book, BookError};
use super::token::{BadToken, Pin, Token};
use super::*;
use crate::pki::{self, Authority};
use crate::tls;

const HOUR: u32 = 3600;

fn name(text: &str) -> StackName {
    StackName::new(text).unwrap()
}

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

/// A cluster's authority, and the directories of hosts.
struct Cluster {
    dir: tempfile::TempDir,
}

impl Cluster {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        pki::init(&dir.path().join("pki")).unwrap();
        Self { dir }
    }

    fn authority(&self) -> Authority {
        Authority::open(&self.dir.path().join("pki")).unwrap()
    }

    fn book(&self) -> Book {
        Book::of(&self.dir.path().join("pki"))
    }

    fn order(&self, stack: &str) -> Token {
        self.book().order(&self.authority(), &name(stack), HOUR, false, now()).unwrap()
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn a_token_is_read_as_it_was_printed() {
    let pin = Pin::of(b"a certificate");
    let token = Token::new(name("t7"), pin, tls::provider().secure_random).unwrap();
    let text = token.to_string();
    assert!(text.starts_with("t7.") && text.len() < 100, "{text}");
    assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
    let other = Token::new(name("t7"), pin, tls::provider().secure_random).unwrap();
    assert!(token.id != other.id && token.secret != other.secret);
    assert!(!format!("{token:?}").contains(&text[40..]), "a token in a log is no token");
}

#[test]
fn a_token_that_was_changed_or_cut_off_is_damaged() {
    let text = Token::new(name("t7"), Pin::of(b"a"), tls::provider().secure_random).unwrap().to_string();
    for at in 3..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = if bytes[at] == b'B' { b'C' } else { b'B' };
        let changed = String::from_utf8(bytes).unwrap();
        let error = changed.parse::<Token>().unwrap_err();
        assert!(matches!(error, BadToken::Damaged | BadToken::Version(_)), "{changed}: {error}");
        let cut = &text[..at];
        assert_eq!(cut.parse::<Token>(), Err(BadToken::Damaged), "{cut}");
    }
    assert_eq!(text.replace("t7.", "t8.").parse::<Token>(), Err(BadToken::Damaged));
    assert_eq!("AbCd".parse::<Token>(), Err(BadToken::Form));
    assert_eq!("rt1.Ag".parse::<Token>(), Err(BadToken::Version(2)));
}

#[test]
fn the_authority_keeps_no_secret_and_nobody_else_reads_what_it_keeps() {
    let cluster = Cluster::new();
    let token = cluster.order("t7");
    let at = cluster.dir.path().join("pki/tokens");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let file = at.join(token.id.to_string());
    assert_eq!((mode(&at), mode(&file)), (0o700, 0o600));
    let kept: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&read(&file)).unwrap();
    assert_eq!(kept["secret_sha256"], token.secret.hash());
    let keys: std::collections::BTreeSet<_> = kept.keys().map(String::as_str).collect();
    assert_eq!(keys, ["ordered_unix_s", "secret_sha256", "stack", "until_unix_s"].into());
}

#[test]
fn a_token_is_good_for_its_time_once_and_for_its_name() {
    let cluster = Cluster::new();
    let (book, token, by) = (cluster.book(), cluster.order("t7"), "192.0.2.27".parse().unwrap());
    let end = now() + i64::from(HOUR);
    assert!(matches!(book.look(&token, end + 1), Err(Refusal::Expired(_))));
    assert_eq!(book.look(&token, end - 2), Ok(()));
    let stolen = Token { name: name("rt1"), ..token.clone() };
    assert_eq!(book.use_up(&stolen, by, now()), Err(Refusal::OtherName(name("t7"))));
    let guess = Token { secret: cluster.order("t8").secret, ..token.clone() };
    assert_eq!(book.use_up(&guess, by, now()), Err(Refusal::Unknown));
    assert_eq!(book.use_up(&token, by, now()), Ok(()));
    let again = book.use_up(&token, by, now()).unwrap_err();
    assert!(matches!(&again, Refusal::Used { by, .. } if by == "192.0.2.27"), "{again}");
    let guess = Token { secret: guess.secret, ..token };
    assert_eq!(book.look(&guess, now()), Err(Refusal::Unknown), "a guess learns nothing of a used one");
}

#[test]
fn of_many_that_use_a_token_at_a_time_one_does() {
    let cluster = Cluster::new();
    for round in 0..20 {
        let token = cluster.order(&format!("t{round}x"));
        let done = std::thread::scope(|scope| {
            let uses = [(); 8].map(|()| {
                let (book, token) = (cluster.book(), &token);
                scope.spawn(move || book.use_up(token, "192.0.2.1".parse().unwrap(), now()).is_ok())
            });
            uses.map(|one| one.join().unwrap()).into_iter().filter(|done| *done).count()
        });
        assert_eq!(done, 1, "round {round}");
    }
}

#[test]
fn a_revoked_token_is_unknown_and_a_new_order_revokes_the_former() {
    let cluster = Cluster::new();
    let (book, first) = (cluster.book(), cluster.order("t7"));
    let second = cluster.order("t7");
    assert_eq!(book.look(&first, now()), Err(Refusal::Unknown));
    assert_eq!(book.look(&second, now()), Ok(()));
    book.revoke(&name("t7")).unwrap();
    assert_eq!(book.look(&second, now()), Err(Refusal::Unknown));
    assert!(matches!(book.revoke(&name("t7")), Err(BookError::NotOpen(_))));
}

#[test]
fn a_stack_that_has_a_certificate_gets_a_token_only_if_that_is_meant() {
    let cluster = Cluster::new();
    let (book, authority) = (cluster.book(), cluster.authority());
    pki::issue(&cluster.dir.path().join("pki"), &name("rt1"), 30).unwrap();
    let order = |stack, again| book.order(&authority, &name(stack), HOUR, again, now());
    assert!(matches!(order("rt1", false), Err(BookError::Known(_))));
    let token = order("t7", false).unwrap();
    book.use_up(&token, "192.0.2.27".parse().unwrap(), now()).unwrap();
    assert!(matches!(order("t7", false), Err(BookError::Known(_))));
    assert!(order("t7", true).is_ok());
    for no_name in ["ca", "17"] {
        assert!(matches!(order(no_name, true), Err(BookError::Pki(_))), "{no_name}");
    }
}

#[test]
fn no_more_tokens_are_open_than_may_and_old_ones_are_forgotten() {
    let cluster = Cluster::new();
    let (book, authority, begun) = (cluster.book(), cluster.authority(), now());
    let (first, at) = (cluster.order("t0").id.to_string(), cluster.dir.path().join("pki/tokens"));
    for n in 1..1024 {
        std::fs::copy(at.join(&first), at.join(n.to_string())).unwrap();
    }
    let one_more = |at| book.order(&authority, &name("another"), HOUR, false, at).map(drop);
    assert!(matches!(one_more(begun), Err(BookError::Full)));
    one_more(begun + 9 * 24 * 3600).unwrap();
    assert_eq!(book.tokens(begun).unwrap().len(), 1);
}
