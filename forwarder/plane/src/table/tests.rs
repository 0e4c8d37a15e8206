use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;

use forwarder::Now;
use forwarder::crt::KeyV4;
use model::codec::Address;
use model::numbering::{NumberedDvipa, NumberedStack};
use model::{Epoch, Protocol};

use super::*;

fn config() -> Config {
    let few = 1024;
    Config { connections_v4: few, connections_v6: few, flows: few, half_open: few, ..Config::default() }
}

fn name(text: &str) -> StackName {
    StackName::new(text).unwrap()
}

fn plan() -> Plan {
    let core = crate::cores::available()[0];
    Plan { control: core, workers: vec![core] }
}

/// A directory in memory, gone with the test.
fn memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

fn open(path: &Path, config: &Config, node: &str) -> Result<Table, TableError> {
    Table::open(path, config, &name(node), &plan())
}

fn numbering() -> Numbering {
    let address = |text: &str| Address(text.parse().unwrap());
    Numbering {
        node: name("rt1"),
        epoch: Epoch(7),
        stacks: vec![NumberedStack {
            number: 2,
            name: name("t1"),
            cluster_addresses: vec![address("198.18.0.11")],
        }],
        dvipas: vec![NumberedDvipa { number: 1, address: address("198.18.9.1"), epoch: Epoch(7) }],
    }
}

fn key(port: u16) -> KeyV4 {
    KeyV4::new(Ipv4Addr::new(198, 18, 0, 2), port, DvipaIndex(1), 80, Protocol::Tcp)
}

/// A table with a connection, as a process leaves it whose clock shows 5 s.
fn left(path: &Path) {
    let Table { crt, kept, lock: _lock } = open(path, &config(), "rt1").unwrap();
    assert_eq!(kept, None);
    assert!(crt.record(&numbering().encode()));
    crt.newconn(key(4000), StackIndex(2), Now { ms: 5000 }).unwrap();
    crt.keep_time(Now { ms: 5000 }, system_ms());
}

#[test]
fn the_next_process_goes_on_with_the_table_its_numbers_and_its_clock() {
    let directory = memory();
    let path = directory.path().join("new/crt");
    left(&path);
    let Table { crt, kept, .. } = open(&path, &config(), "rt1").unwrap();
    let (read, clock_ms) = kept.unwrap();
    assert_eq!(read, numbering());
    assert!((5000..65_000).contains(&clock_ms), "{clock_ms}");
    assert_eq!(crt.get(key(4000), Now { ms: clock_ms }).map(|entry| entry.owner), Some(StackIndex(2)));
}

#[test]
fn a_second_process_is_refused_while_the_first_has_the_table() {
    let directory = memory();
    let path = directory.path().join("crt");
    let first = open(&path, &config(), "rt1").unwrap();
    let refused = open(&path, &config(), "rt1").unwrap_err();
    assert!(matches!(refused, TableError::InUse { .. }), "{refused}");
    assert!(refused.to_string().contains("in use by another batond"), "{refused}");
    drop(first);
    open(&path, &config(), "rt1").unwrap();
}

#[test]
fn a_file_on_a_disk_is_refused() {
    let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let refused = open(&directory.path().join("crt"), &config(), "rt1").unwrap_err();
    assert!(matches!(refused, TableError::Disk { .. }), "{refused}");
}

#[test]
fn what_can_not_be_gone_on_with_is_named_and_an_empty_table_takes_its_place() {
    let other_sizes = Config { connections_v4: 2048, ..config() };
    let other_lives = Config { idle_udp_s: 7, ..config() };
    let writable = |path: &Path| OpenOptions::new().read(true).write(true).open(path).unwrap();
    let nothing: &dyn Fn(&Path) = &|_| ();
    let newer: &dyn Fn(&Path) = &|path| writable(path).write_all_at(&u64::MAX.to_ne_bytes(), 8).unwrap();
    // Its process ended before it wrote any down.
    let no_numbering: &dyn Fn(&Path) = &|path| {
        std::fs::remove_file(path).unwrap();
        drop(open(path, &config(), "rt1").unwrap());
    };
    for (config, node, spoil, said) in [
        (config(), "rt2", nothing, "table of rt1"),
        (other_sizes, "rt1", nothing, "other sizes"),
        (other_lives, "rt1", nothing, "other lifetimes"),
        (config(), "rt1", newer, "has layout 18446744073709551615"),
        (config(), "rt1", no_numbering, "nothing says what the numbers"),
    ] {
        let directory = memory();
        let path = directory.path().join("crt");
        left(&path);
        spoil(&path);
        let reason = kept(&writable(&path), &config, &name(node)).unwrap_err().to_string();
        assert!(reason.contains(said), "{reason}");
        let table = open(&path, &config, node).unwrap();
        assert_eq!((table.kept, table.crt.stats().v4.entries), (None, 0), "{said}");
        assert!(table.crt.newconn(key(1), StackIndex(2), Now { ms: 0 }).is_ok());
    }
}

#[test]
fn a_table_is_removed_when_nobody_has_it() {
    let directory = memory();
    let path = directory.path().join("baton/crt");
    assert!(!remove(&path).unwrap());
    let table = open(&path, &config(), "rt1").unwrap();
    assert!(matches!(remove(&path), Err(TableError::InUse { .. })));
    assert!(path.exists());
    drop(table);
    assert!(remove(&path).unwrap());
    assert!(!directory.path().join("baton").exists());
}
