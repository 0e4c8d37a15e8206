use super::*;
use model::{Connection, Protocol};

fn connection() -> Connection {
    let (client, dvipa) = ("198.18.0.2:40000".parse().unwrap(), "198.18.9.1:80".parse().unwrap());
    Connection::new(Protocol::Tcp, client, dvipa).unwrap()
}

fn coming(number: u64, way: Way) -> target::Note {
    let transfer = TransferId { incarnation: 7, number };
    target::Note { connection: connection(), transfer, source: "t1".parse().unwrap(), way }
}

#[test]
fn the_next_run_finds_what_was_noted_in_the_same_ledger() {
    let directory = tempfile::tempdir().unwrap();
    let (mut notes, left) = Notes::open(directory.path()).unwrap();
    assert_eq!(left, Left::default());
    let leaving = source::Note {
        connection: connection(),
        transfer: TransferId { incarnation: 7, number: 1 },
        target: "t2".parse().unwrap(),
        ledger: Ledger(9),
        way: Way::Restore,
    };
    notes.leaves(&leaving).unwrap();
    let [restored, prepared, made, barred] = [2, 3, 4, 5].map(|number| coming(number, Way::Restore));
    notes.prepares(&restored).unwrap();
    notes.activates(restored.transfer).unwrap();
    notes.activates(restored.transfer).unwrap();
    notes.prepares(&prepared).unwrap();
    notes.admits(&made).unwrap();
    notes.made(made.transfer).unwrap();
    notes.admits(&barred).unwrap();
    notes.bars(barred.transfer).unwrap();
    notes.forgets(barred.transfer);
    notes.sweep();

    let (mut again, mut left) = Notes::open(directory.path()).unwrap();
    assert_eq!(again.ledger(), notes.ledger());
    left.coming.sort_by_key(|(note, _)| note.transfer);
    assert_eq!(left.leaving, std::slice::from_ref(&leaving));
    assert_eq!(
        left.coming,
        [(restored.clone(), Standing::Active), (made, Standing::Active), (barred, Standing::Barred)]
    );

    again.stays_or_left(leaving.transfer);
    again.forgets(restored.transfer);
    let (_, left) = Notes::open(directory.path()).unwrap();
    assert_eq!((left.leaving.len(), left.coming.len()), (0, 2));
    assert_eq!(count(directory.path()).unwrap(), 2);
}

#[test]
fn places_are_used_again_and_as_many_as_are_needed_are_made() {
    let directory = tempfile::tempdir().unwrap();
    let (mut notes, _) = Notes::open(directory.path()).unwrap();
    let length = || fs::metadata(directory.path().join(NOTES)).unwrap().len();
    for _ in 0..3 {
        for number in 0..40 {
            notes.prepares(&coming(number, Way::Restore)).unwrap();
            notes.prepares(&coming(number, Way::Restore)).unwrap();
        }
        assert_eq!(length(), 3 * 4096);
        (0..40).for_each(|number| notes.forgets(coming(number, Way::Restore).transfer));
    }
    assert_eq!(count(directory.path()).unwrap(), 0);
}

#[test]
fn the_longest_note_fits() {
    let directory = tempfile::tempdir().unwrap();
    let (mut notes, _) = Notes::open(directory.path()).unwrap();
    let longest = Connection::new(
        Protocol::Tcp,
        "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap(),
        "[2001:db8:eeee:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap(),
    );
    let leaving = source::Note {
        connection: longest.unwrap(),
        transfer: TransferId { incarnation: u64::MAX, number: u64::MAX },
        target: "x".repeat(63).parse().unwrap(),
        ledger: Ledger(u64::MAX),
        way: Way::Inject,
    };
    notes.leaves(&leaving).unwrap();
    assert_eq!(Notes::open(directory.path()).unwrap().1.leaving, [leaving]);
}

#[test]
fn a_decision_without_a_preparation_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let (mut notes, _) = Notes::open(directory.path()).unwrap();
    assert!(notes.activates(coming(1, Way::Restore).transfer).is_err());
}

#[test]
fn a_ledger_of_another_start_of_the_host_is_given_up_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (mut notes, _) = Notes::open(directory.path()).unwrap();
    notes.prepares(&coming(1, Way::Restore)).unwrap();
    notes.activates(coming(1, Way::Restore).transfer).unwrap();
    fs::write(directory.path().join(LEDGER), "another\n1\n").unwrap();
    let (again, left) = Notes::open(directory.path()).unwrap();
    assert_ne!(again.ledger(), notes.ledger());
    assert_eq!(left, Left::default());
}
