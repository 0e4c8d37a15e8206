use model::StackName;
use model::quic::{Assigned, Key};
use proptest::prelude::*;

use super::*;

fn configuration(rotation: u8, key: Option<u8>) -> Configuration {
    Configuration {
        rotation,
        server_id_bytes: 2,
        nonce_bytes: 6 + rotation,
        key: key.map(|byte| Key([byte; 16])),
        length_in_first_octet: rotation.is_multiple_of(2),
        server_ids: Vec::new(),
    }
}

/// A datagram with a short header.
fn short(id: &[u8]) -> Vec<u8> {
    [&[0x40][..], id, &[0; 30]].concat()
}

#[test]
fn several_configurations_are_told_apart_by_their_rotation_bits() {
    let all = [configuration(0, None), configuration(3, Some(1)), configuration(6, Some(2))];
    let reader = Reader::new(&all).unwrap();
    let id = ServerId::new(&[7, 9]).unwrap();
    for configuration in &all {
        let algorithm = Algorithm::new(configuration).unwrap();
        let made = algorithm.connection_id(id, &vec![5; algorithm.nonce_bytes()], 0x15).unwrap();
        let rotation = configuration.rotation;
        assert_eq!(reader.read(&short(&made)), Named::Server { rotation, id });
        let mut other = made;
        other[0] = other[0] & 0x1f | 1 << 5;
        assert_eq!(reader.read(&short(&other)), Named::Unroutable);
        other[0] |= 7 << 5;
        assert_eq!(reader.read(&short(&other)), Named::Unroutable, "no configuration has these bits");
    }
    assert_eq!(reader.read(&[0xc0, 0, 0, 0, 1, 3, 7, 8, 9]), Named::Clients);
    assert_eq!(reader.read(&[]), Named::Unroutable);
}

#[test]
fn configurations_that_can_not_be_together_are_refused() {
    let twice = [configuration(2, None), configuration(2, Some(1))];
    assert_eq!(Reader::new(&twice).unwrap_err(), Mistake::RotationTwice(2));
    let [t1, t2] = ["t1", "t2"].map(|name| StackName::new(name).unwrap());
    let given = |stack: &StackName, id: &str| Assigned { stack: stack.clone(), id: id.parse().unwrap() };
    let with = |server_ids| [Configuration { server_ids, ..configuration(0, None) }];
    let (short, same) = ("07".parse().unwrap(), "0709".parse().unwrap());
    let wrong = Reader::new(&with(vec![given(&t1, "07")])).unwrap_err();
    assert_eq!(wrong, Mistake::ServerIdLength(t1.clone(), short));
    let wrong = Reader::new(&with(vec![given(&t1, "0709"), given(&t2, "0709")])).unwrap_err();
    assert_eq!(wrong, Mistake::ServerIdTwice(t1, t2, same));
}

proptest! {
    #[test]
    fn any_bytes_name_a_server_or_none_and_never_panic(
        datagram in prop::collection::vec(any::<u8>(), 0..64),
        long in any::<bool>(),
    ) {
        let all = [configuration(0, None), configuration(1, Some(1)), configuration(2, Some(2))];
        let reader = Reader::new(&all).unwrap();
        let mut datagram = datagram;
        if long && datagram.len() > 5 {
            datagram[..5].copy_from_slice(&[0xe0, 0, 0, 0, 1]);
            datagram[5] %= 22;
        }
        match reader.read(&datagram) {
            Named::Server { rotation, id } => {
                prop_assert!(rotation < 3 && id.as_bytes().len() == 2);
                prop_assert!(datagram.len() >= 9);
            }
            Named::Clients => prop_assert!(datagram[0] & 0x80 != 0),
            Named::Unroutable => {}
        }
    }
}
