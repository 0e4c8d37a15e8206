//! Connection IDs of QUIC, and the key that is in another file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use model::quic::{Configuration, Key};

use super::{GOOD, good, name};
use crate::config::{Config, ConfigError};

const KEY: &str = "000102030405060708090a0b0c0d0e0f\n";

fn configurations(config: &Config) -> &[Configuration] {
    let mut with = config.vipadynamic.distributes.iter().filter(|d| !d.quic.is_empty());
    &with.next().expect("one with connection IDs").quic
}

/// The good file beside a file with this key and mode.
fn load(directory: &Path, key: Option<(&str, u32)>) -> Result<Config, ConfigError> {
    let (file, key_file) = (directory.join("batond.toml"), directory.join("quic.key"));
    fs::write(&file, GOOD).unwrap();
    let _ = fs::remove_file(&key_file);
    if let Some((text, mode)) = key {
        fs::write(&key_file, text).unwrap();
        fs::set_permissions(&key_file, fs::Permissions::from_mode(mode)).unwrap();
    }
    Config::load(&file)
}

#[test]
fn connection_ids_are_made_as_the_file_says() {
    let config = good();
    let [plain, encrypted] = configurations(&config) else { panic!("two tables") };
    assert_eq!((plain.rotation, plain.server_id_bytes, plain.nonce_bytes, plain.key), (0, 4, 6, None));
    assert!(plain.server_ids.is_empty() && !plain.length_in_first_octet);
    assert_eq!((encrypted.rotation, encrypted.length_in_first_octet), (1, true));
    let ids = |stack: &str| {
        quiclb::server_ids(encrypted, &name(stack)).map(|id| id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!((ids("t1"), ids("t2")), (vec!["0a01".to_owned()], vec!["0a02".to_owned(), "0b02".to_owned()]));
}

#[test]
fn the_key_is_in_a_file_that_not_every_user_can_read() {
    let directory = tempfile::tempdir().unwrap();
    for mode in [0o600, 0o640] {
        let config = load(directory.path(), Some((KEY, mode))).unwrap_or_else(|e| panic!("{e}"));
        let key = configurations(&config)[1].key;
        assert_eq!(key, Some(Key([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])));
        assert!(!format!("{config:?}").contains("13, 14, 15"), "a key is shown");
    }
    let line = GOOD.lines().position(|line| line.starts_with("key = \"quic.key\"")).unwrap() + 1;
    let bad = [
        (None, "cannot read", "openssl rand -hex 16"),
        (Some((KEY, 0o644)), "every user of this host can read", "chmod 600"),
        (Some(("0001", 0o600)), "no key of 32 hexadecimal digits", "openssl rand -hex 16"),
        (Some(("000102030405060708090a0b0c0d0e0g", 0o600)), "no key of 32", "openssl rand -hex 16"),
    ];
    for (key, what, fix) in bad {
        let Err(ConfigError::Mistakes(mistakes)) = load(directory.path(), key) else { panic!("{what}") };
        let said: Vec<_> = mistakes.iter().collect();
        assert!(said.len() == 1 && said[0].line == line, "{mistakes}");
        assert!(said[0].what.contains(what) && said[0].fix.contains(fix), "{mistakes}");
    }
}

#[test]
fn another_hosts_file_is_read_without_its_key() {
    let directory = tempfile::tempdir().unwrap();
    load(directory.path(), None).unwrap_err();
    let config = Config::load_alone(&directory.path().join("batond.toml")).unwrap();
    assert!(configurations(&config)[1].key.is_some());
}

#[test]
fn server_ids_that_follow_from_names_have_to_differ() {
    let of = |destip: &str, bytes: u8| {
        let text = GOOD.replace(
            "destip = [\"t1\", \"t2\"]\n\n[[vipadynamic.vipadistribute.quic]]\nrotation = 0\nserver_id_bytes = 4",
            &format!("destip = {destip}\n\n[[vipadynamic.vipadistribute.quic]]\nrotation = 0\nserver_id_bytes = {bytes}"),
        );
        assert!(text != GOOD || (destip, bytes) == ("[\"t1\", \"t2\"]", 4));
        super::parse(&text).map_err(|mistakes| mistakes.to_string())
    };
    assert!(of("[\"t1\", \"t2\"]", 1).is_ok(), "their digests begin with other bytes");
    let all = of("\"all\"", 3).unwrap_err();
    assert!(all.contains("may give the same 3 bytes") && all.contains("server_id_bytes to 4"), "{all}");
    assert!(of("\"all\"", 4).is_ok());
    // Two names of which the first byte of the digest is the same.
    let names: Vec<String> = (0..300).map(|n| format!("n{n}")).collect();
    let id = |name: &String| quiclb::derived(&super::name(name), 1);
    let (one, other) = names
        .iter()
        .enumerate()
        .find_map(|(at, a)| names[at + 1..].iter().find(|b| id(a) == id(b)).map(|b| (a, b)))
        .expect("300 names have 256 digests");
    let text = GOOD.replace("server_ids = { t1 = \"0a01\", t2 = [\"0a02\", \"0b02\"] }\n", "").replace(
        "destip = [\"t1\", \"t2\"]\n\n[[vipadynamic.vipadistribute.quic]]\nrotation = 0\nserver_id_bytes = 4",
        &format!("destip = [\"{one}\", \"{other}\"]\n\n[[vipadynamic.vipadistribute.quic]]\nrotation = 0\nserver_id_bytes = 1"),
    );
    let same = super::parse(&text).unwrap_err().to_string();
    assert!(same.contains("both give the server ID"), "{same}");
}
