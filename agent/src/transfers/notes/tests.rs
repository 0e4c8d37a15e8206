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

    assert_eq!(left.void, std::slice::from_ref(&prepared), "no application may keep its socket");

    again.stays_or_left(&leaving.connection);
    again.forgets(restored.transfer);
    let (_, left) = Notes::open(directory.path()).unwrap();
    assert_eq!((left.leaving.len(), left.coming.len()), (0, 2));
    assert_eq!(left.void, std::slice::from_ref(&prepared), "a run that is killed soon has not seen to it");
    again.forgets(prepared.transfer);
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

fn leaving(number: u64) -> source::Note {
    source::Note {
        connection: connection(),
        transfer: TransferId { incarnation: 7, number },
        target: "t2".parse().unwrap(),
        ledger: Ledger(9),
        way: Way::Restore,
    }
}

/// Else a restarted agent could ask about the former transfer, be told that it is over, and thaw what the later one has moved.
#[test]
fn a_connection_that_leaves_again_has_one_note() {
    let directory = tempfile::tempdir().unwrap();
    let (mut notes, _) = Notes::open(directory.path()).unwrap();
    notes.leaves(&leaving(1)).unwrap();
    notes.leaves(&leaving(2)).unwrap();
    assert_eq!(count(directory.path()).unwrap(), 1);
    let (mut again, left) = Notes::open(directory.path()).unwrap();
    assert_eq!(left.leaving, [leaving(2)]);
    again.leaves(&leaving(3)).unwrap();
    assert_eq!(count(directory.path()).unwrap(), 1);
    again.stays_or_left(&connection());
    assert_eq!(count(directory.path()).unwrap(), 0);
}

/// In whichever places they are.
#[test]
fn of_two_notes_of_a_connection_that_leaves_the_later_one_counts() {
    for order in [[1, 2], [2, 1]] {
        let directory = tempfile::tempdir().unwrap();
        drop(Notes::open(directory.path()).unwrap());
        let mut records = Records::open(&directory.path().join(NOTES), |_, _| false).unwrap();
        for number in order {
            let source::Note { connection, transfer, target, ledger, way } = leaving(number);
            let (connection, ledger) = (WireConnection(connection), Some(ledger));
            let written = Written { connection, transfer, peer: target, way, ledger };
            let rest = minicbor::to_vec(written).unwrap();
            let head = [&[Kind::Leaving as u8][..], &5u64.to_le_bytes(), &(rest.len() as u16).to_le_bytes()];
            let place = records.take().unwrap();
            records.write(place, &[&head.concat()[..], &rest].concat()).unwrap();
        }
        let (_, left) = Notes::open(directory.path()).unwrap();
        assert_eq!(left.leaving, [leaving(2)]);
        assert_eq!(count(directory.path()).unwrap(), 1, "the former one is erased");
    }
}
