use super::*;
use model::{Connection, Protocol};

fn connection() -> Connection {
    let (client, dvipa) = ("198.18.0.2:40000".parse().unwrap(), "198.18.9.1:80".parse().unwrap());
    Connection::new(Protocol::Tcp, client, dvipa).unwrap()
}

/// When connections that leave are given up: a while before the longest time from now.
fn soon() -> Instant {
    Instant::now() + limits::IN_DOUBT / 2
}

fn leaving_in(left: &Left) -> Vec<giving::Note> {
    left.leaving.iter().map(|(note, _)| note.clone()).collect()
}

fn coming(number: u64, way: Way) -> taking::Note {
    let transfer = TransferId { incarnation: 7, number };
    taking::Note { connection: connection(), transfer, source: "t1".parse().unwrap(), way }
}

#[test]
fn the_next_run_finds_what_was_noted_in_the_same_ledger() {
    let directory = tempfile::tempdir().unwrap();
    let (mut notes, left) = Notes::open(directory.path()).unwrap();
    assert_eq!(left, Left::default());
    let leaving = giving::Note {
        connection: connection(),
        transfer: TransferId { incarnation: 7, number: 1 },
        target: "t2".parse().unwrap(),
        ledger: Ledger(9),
        way: Way::Restore,
    };
    notes.leaves(&leaving, soon()).unwrap();
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
    assert_eq!(leaving_in(&left), std::slice::from_ref(&leaving));
    let (_, until) = left.leaving[0];
    assert!(
        until <= soon() + Duration::from_secs(1) && until + Duration::from_secs(60) > soon(),
        "the next run gives up when this one would have"
    );
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
    let leaving = giving::Note {
        connection: longest.unwrap(),
        transfer: TransferId { incarnation: u64::MAX, number: u64::MAX },
        target: "x".repeat(63).parse().unwrap(),
        ledger: Ledger(u64::MAX),
        way: Way::Inject,
    };
    notes.leaves(&leaving, soon()).unwrap();
    assert_eq!(leaving_in(&Notes::open(directory.path()).unwrap().1), [leaving]);
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

fn leaving(number: u64) -> giving::Note {
    giving::Note {
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
    notes.leaves(&leaving(1), soon()).unwrap();
    notes.leaves(&leaving(2), soon()).unwrap();
    assert_eq!(count(directory.path()).unwrap(), 1);
    let (mut again, left) = Notes::open(directory.path()).unwrap();
    assert_eq!(leaving_in(&left), [leaving(2)]);
    again.leaves(&leaving(3), soon()).unwrap();
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
            let giving::Note { connection, transfer, target, ledger, way } = leaving(number);
            let (connection, ledger) = (WireConnection(connection), Some(ledger));
            let written = Written { connection, transfer, peer: target, way, ledger, until: None };
            let rest = minicbor::to_vec(written).unwrap();
            let head = [&[Kind::Leaving as u8][..], &5u64.to_le_bytes(), &(rest.len() as u16).to_le_bytes()];
            let place = records.take().unwrap();
            records.write(place, &[&head.concat()[..], &rest].concat()).unwrap();
        }
        let (_, left) = Notes::open(directory.path()).unwrap();
        assert_eq!(leaving_in(&left), [leaving(2)]);
        assert_eq!(count(directory.path()).unwrap(), 1, "the former one is erased");
    }
}

/// Writes a note of a transfer to this host that is this far since then.
fn written_since(directory: &Path, kind: Kind, since: u64) {
    drop(Notes::open(directory).unwrap());
    let mut records = Records::open(&directory.join(NOTES), |_, _| false).unwrap();
    let rest = minicbor::to_vec(of_target(&coming(1, Way::Inject))).unwrap();
    let head = [&[kind as u8][..], &since.to_le_bytes(), &(rest.len() as u16).to_le_bytes()];
    let place = records.take().unwrap();
    records.write(place, &[&head.concat()[..], &rest].concat()).unwrap();
}

#[test]
fn what_was_barred_is_noted_for_as_long_as_a_packet_may_live_and_no_longer() {
    let long_ago = BARRED.as_secs() + 30;
    for (kind, ago, stays) in [
        (Kind::Barred, 0, 1),
        (Kind::Barred, BARRED.as_secs() - 30, 1),
        (Kind::Barred, long_ago, 0),
        (Kind::Active, long_ago, 1),
        (Kind::Admitted, long_ago, 1),
    ] {
        let directory = tempfile::tempdir().unwrap();
        written_since(directory.path(), kind, seconds() - ago);
        Notes::open(directory.path()).unwrap().0.sweep();
        assert_eq!(count(directory.path()).unwrap(), stays, "{kind:?}, {ago} s ago");
    }
}

#[test]
fn a_transfer_is_barred_only_if_it_was_admitted_and_made_only_once() {
    let directory = tempfile::tempdir().unwrap();
    let (mut notes, _) = Notes::open(directory.path()).unwrap();
    let [restored, admitted] = [coming(1, Way::Restore), coming(2, Way::Inject)];
    notes.prepares(&restored).unwrap();
    assert!(notes.bars(restored.transfer).is_err() && notes.made(restored.transfer).is_err());
    notes.admits(&admitted).unwrap();
    assert!(notes.activates(admitted.transfer).is_err());
    notes.made(admitted.transfer).unwrap();
    notes.made(admitted.transfer).unwrap();
    assert!(notes.bars(admitted.transfer).is_err(), "it is decided");
}

#[test]
fn there_are_so_many_places_and_each_is_of_one_length() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(NOTES);
    let mut records = Records::open(&path, |_, _| true).unwrap();
    let places: Vec<Place> = (0..MOST).map(|_| records.take().unwrap()).collect();
    assert!(records.take().is_err(), "no more than that");
    records.give_back(places[7]);
    assert_eq!(records.take().unwrap(), places[7]);
    let whole = [7; 256];
    for place in [places[0], places[9], places[places.len() - 1]] {
        records.write(place, &whole).unwrap();
    }
    assert!(records.write(places[1], &[7; 257]).is_err(), "the next place begins there");
    drop(records);
    // What is behind the last whole page, or beyond the last place, is no place.
    let file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.set_len(u64::from(MOST) * 256 + 4096).unwrap();
    let mut taken = 0;
    let mut shown = 0;
    Records::open(&path, |_, record| {
        (taken, shown) = (taken + u32::from(record == whole), shown + 1);
        true
    })
    .unwrap();
    assert_eq!((taken, shown), (3, MOST));
    file.set_len(3 * 4096 - 1).unwrap();
    shown = 0;
    Records::open(&path, |_, _| {
        shown += 1;
        true
    })
    .unwrap();
    assert_eq!(shown, 2 * 16);
}
