//! The table, message by message.

use model::codec::{Address, WireConnection};
use model::message::{Move, Targets, VipaListDvipa};
use model::transfer::{
    Abort, Aborted, About, Commit, Consent, Consult, Freeze, Ledger, Lost, Offer, Parcel, Reason, Refuse,
    Released, Request, Settled, ToHost, ToSource, ToTarget, TransferId, Way,
};
use model::{Connection, Protocol};

use super::*;

const PRESENT: Epoch = Epoch(7);

fn name(name: &str) -> StackName {
    name.parse().unwrap()
}

fn about(epoch: Epoch) -> About {
    let [client, dvipa] = ["198.18.0.2:4000", "198.18.9.1:80"].map(|address| address.parse().unwrap());
    let connection = WireConnection(Connection::new(Protocol::Tcp, client, dvipa).unwrap());
    About { connection, transfer: TransferId { incarnation: 1, number: 1 }, epoch }
}

/// What a DVIPA's owner says in this epoch.
fn of_an_owner(epoch: Epoch) -> Vec<ToStack> {
    let about = about(epoch);
    let (request, ledger, why) =
        (Request { incarnation: 5, number: 1 }, Ledger(9), || Reason::TimedOut.into());
    let part = Parcel { socket: vec![1], application: Vec::new() }.parts(about).unwrap().remove(0);
    let offer = Offer {
        about,
        source: name("t2"),
        way: Way::Restore,
        consent: Consent::Asked,
        ledger,
        job: None,
        application_bytes: 0,
        incarnation: 1,
        giver: None,
    };
    let to_source = [
        ToSource::Refuse(Refuse { connection: about.connection, epoch, request, why: why() }),
        ToSource::Consult(Consult { about, request }),
        ToSource::Freeze(Freeze { about, request, way: Way::Restore, ledger }),
        ToSource::Aborted(Aborted { about, why: why(), request: None }),
        ToSource::Released(Released { about }),
        ToSource::Lost(Lost { about }),
    ];
    let to_target = [
        ToTarget::Offer(offer),
        ToTarget::State(part.clone()),
        ToTarget::Part(part),
        ToTarget::Commit(Commit { about }),
        ToTarget::Abort(Abort { about, why: why() }),
        ToTarget::Settled(Settled { about }),
    ];
    let dvipa = Address("198.18.9.1".parse().unwrap());
    let (connection, target) = (about.connection, name("t2"));
    let others = [
        ToStack::Targets(Targets { dvipa, epoch, port: 80, targets: Vec::new() }),
        ToStack::Move(Move { connection, epoch, target, job: None, order: None, quiet_ms: None, next: None }),
    ];
    let transfers = to_source.map(ToHost::Source).into_iter().chain(to_target.map(ToHost::Target));
    transfers.map(ToStack::Transfer).chain(others).collect()
}

#[test]
fn only_the_owner_speaks_of_connections_to_its_dvipa_and_in_the_present_epoch() {
    let (rt1, rt2) = (name("rt1"), name("rt2"));
    let owner = (rt1.clone(), PRESENT);
    let owned = |dvipa: Dvipa| (dvipa.address().to_string() == "198.18.9.1").then_some(&owner);
    for message in of_an_owner(PRESENT) {
        assert_eq!(judge(&rt1, &message, owned), Ok(()), "{message:?}");
        assert_eq!(judge(&rt2, &message, owned), Err(Wrong::NotTheOwner), "{message:?}");
        assert_eq!(judge(&rt1, &message, |_| None), Err(Wrong::NotTheOwner), "{message:?}");
    }
    for message in of_an_owner(Epoch(6)) {
        assert_eq!(judge(&rt1, &message, owned), Err(Wrong::OtherEpoch), "{message:?}");
        assert_eq!(judge(&rt2, &message, owned), Err(Wrong::NotTheOwner), "{message:?}");
    }
    assert_eq!(judge(&rt2, &ToStack::VipaList(VipaList::default()), owned), Ok(()));
}

#[test]
fn a_list_is_cut_to_what_its_sender_may_list() {
    let entry = |address: &str| VipaListDvipa {
        address: Address(address.parse().unwrap()),
        epoch: PRESENT,
        owner: true,
        rank: 255,
        distributions: Vec::new(),
        forwards: None,
    };
    let list = || VipaList {
        dvipas: vec![entry("198.18.9.1"), entry("198.18.10.1")],
        forwarders: Vec::new(),
        ..VipaList::default()
    };
    let networks: [IpNet; 1] = ["198.18.9.0/24".parse().unwrap()];
    let mut all = list();
    assert_eq!((cut(&mut all, None), all.dvipas.len()), (Ok(()), 2));
    let mut some = list();
    assert_eq!(cut(&mut some, Some(&networks)), Err(Wrong::NotItsDvipa));
    assert_eq!(some.dvipas, [entry("198.18.9.1")]);
    assert_eq!(cut(&mut some, Some(&networks)), Ok(()));
}

#[test]
fn each_is_counted_by_name() {
    let mut refused = Refused::default();
    for _ in 0..3 {
        refused.add(&name("rt2"), "Offer", Wrong::NotTheOwner);
    }
    refused.add(&name("rt1"), "Offer", Wrong::OtherEpoch);
    let all: Vec<_> = refused.iter().collect();
    assert_eq!(all, [(&name("rt1"), Wrong::OtherEpoch, 1), (&name("rt2"), Wrong::NotTheOwner, 3)]);
}

#[test]
fn whom_a_question_was_put_to_may_refuse_it_whoever_owns_the_dvipa_by_now() {
    let about = about(Epoch(6));
    let chosen = message::Chosen {
        connection: about.connection,
        epoch: Epoch(6),
        question: message::Question(1),
        target: None,
        why: Some(Reason::NotOurs.into()),
    };
    let owner = (name("rt2"), PRESENT);
    let refusal = ToStack::Chosen(chosen.clone());
    assert_eq!(judge(&name("rt1"), &refusal, |_| Some(&owner)), Ok(()));
    let choice = ToStack::Chosen(message::Chosen { why: None, ..chosen });
    assert_eq!(judge(&name("rt1"), &choice, |_| Some(&owner)), Err(Wrong::NotTheOwner));
}
