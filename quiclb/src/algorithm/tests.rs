use model::quic::Key;
use proptest::prelude::*;

use super::*;

fn bytes(hexadecimal: &str) -> Vec<u8> {
    model::quic::hexadecimal(hexadecimal).expect("hexadecimal digits")
}

fn algorithm(rotation: u8, server_id: usize, nonce: usize, key: Option<[u8; 16]>) -> Algorithm {
    Algorithm::new(&Configuration {
        rotation,
        server_id_bytes: server_id as u8,
        nonce_bytes: nonce as u8,
        key: key.map(Key),
        length_in_first_octet: true,
        server_ids: Vec::new(),
    })
    .expect("a good configuration")
}

/// A connection ID is made and read as it should be, alone and at the beginning of other bytes.
fn agrees(algorithm: &Algorithm, server_id: &[u8], nonce: &[u8], id: &[u8]) {
    let server = ServerId::new(server_id).expect("a server ID");
    assert_eq!(algorithm.connection_id(server, nonce, 0).as_deref(), Some(id));
    assert_eq!(algorithm.server_id(Destination::Servers(id)), Some(server));
    let more = [id, &[0x55; 30]].concat();
    assert_eq!(algorithm.server_id(Destination::BeginsWith(&more)), Some(server));
    for short in 0..id.len() {
        let part = &id[..short];
        assert_eq!(algorithm.server_id(Destination::BeginsWith(part)), None, "{short} bytes");
        assert_eq!(algorithm.server_id(Destination::Servers(part)), None, "{short} bytes");
    }
}

/// Appendix B.1 and B.2 of the draft: rotation bits, server ID, nonce, connection ID.
#[test]
fn connection_ids_are_those_of_the_drafts_test_vectors() {
    let key: [u8; 16] = bytes("8f95f09245765f80256934e50c66207f").try_into().expect("16 bytes");
    // The second one without a key can't be read: its first octet lacks a digit.
    agrees(&algorithm(0, 3, 4, None), &bytes("c4605e"), &bytes("4504cc4f"), &bytes("07c4605e4504cc4f"));
    let encrypted = [
        (0, "ed793a", "ee080dbf", "0720b1d07b359d3c"),
        (1, "ed793a51d49b8f5fab65", "ee080dbf48", "2fcc381bc74cb4fbad2823a3d1f8fed2"),
        (2, "ed793a51d49b8f5f", "ee080dbf48c0d1e5", "504dd2d05a7b0de9b2b9907afb5ecf8cc3"),
        (3, "ed793a51d49b8f5fab", "ee080dbf48c0d1e55d", "125779c9cc86beb3a3a4a3ca96fce4bfe0cdbc"),
    ];
    for (rotation, server_id, nonce, id) in encrypted {
        let (server_id, nonce, mut id) = (bytes(server_id), bytes(nonce), bytes(id));
        // The draft's last one has the rotation bits 0 in its first octet.
        id[0] = id[0] & LOW_BITS | rotation << 5;
        agrees(&algorithm(rotation, server_id.len(), nonce.len(), Some(key)), &server_id, &nonce, &id);
    }
}

/// Section 5.4.2.4 of the draft.
#[test]
fn the_example_of_four_passes_is_followed() {
    let key: [u8; 16] = bytes("fdf726a9893ec05c0632d3956680baf0").try_into().expect("16 bytes");
    agrees(&algorithm(0, 3, 4, Some(key)), &bytes("31441a"), &bytes("9c69c275"), &bytes("0767947d29be054a"));
}

#[test]
fn a_length_in_the_first_octet_has_to_be_right() {
    let algorithm = algorithm(0, 1, 4, None);
    let read = |id: &[u8]| {
        [Destination::Servers(id), Destination::BeginsWith(id)].map(|to| algorithm.server_id(to).is_some())
    };
    assert_eq!(read(&[5, 1, 0, 0, 0, 0]), [true, true]);
    assert_eq!(read(&[6, 1, 0, 0, 0, 0, 9]), [true, true], "one byte of the server's own");
    assert_eq!(read(&[5, 1, 0, 0, 0, 0, 9]), [false, true], "a short header goes on behind it");
    assert_eq!(read(&[4, 1, 0, 0, 0, 0]), [false, false]);
    assert_eq!(read(&[6, 1, 0, 0, 0, 0]), [false, false]);
    assert_eq!(algorithm.server_id(Destination::Clients), None);
}

#[test]
fn what_can_not_be_a_connection_id_is_refused() {
    let of = |rotation, server_id_bytes, nonce_bytes| {
        let configuration = Configuration {
            rotation,
            server_id_bytes,
            nonce_bytes,
            key: None,
            length_in_first_octet: false,
            server_ids: Vec::new(),
        };
        Algorithm::new(&configuration).err()
    };
    assert_eq!(of(7, 4, 4), Some(Mistake::Rotation(7)));
    let wrong = |server_id_bytes, nonce_bytes| Some(Mistake::Lengths { server_id_bytes, nonce_bytes });
    assert_eq!(of(0, 0, 4), wrong(0, 4));
    assert_eq!(of(0, 1, 3), wrong(1, 3));
    assert_eq!(of(0, 15, 5), wrong(15, 5));
    assert_eq!(of(0, 255, 255), wrong(255, 255));
    assert_eq!((of(6, 15, 4), of(0, 1, 18), of(0, 1, 4)), (None, None, None));
    let four = algorithm(0, 4, 4, None);
    let server = |bytes: &[u8]| ServerId::new(bytes).expect("a server ID");
    assert_eq!(four.connection_id(server(&[1; 3]), &[0; 5], 0), None);
    assert_eq!(four.connection_id(server(&[1; 4]), &[0; 5], 0), None);
}

/// Lengths of server ID and nonce, and what is in them.
fn any_id() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    (1_usize..=15).prop_flat_map(|server_id| {
        let nonce = 4..=19 - server_id;
        let of = |bytes| prop::collection::vec(any::<u8>(), bytes);
        (of(server_id..=server_id), of(nonce))
    })
}

proptest! {
    #[test]
    fn what_a_server_makes_names_it(
        (server_id, nonce) in any_id(),
        key in any::<Option<[u8; 16]>>(),
        rotation in 0..=6_u8,
    ) {
        let algorithm = algorithm(rotation, server_id.len(), nonce.len(), key);
        let server = ServerId::new(&server_id).unwrap();
        let id = algorithm.connection_id(server, &nonce, 0).unwrap();
        agrees(&algorithm, &server_id, &nonce, &id);
        prop_assert_eq!(id[0] >> 5, rotation);
        if key.is_none() {
            prop_assert_eq!(&id[1..], [server_id, nonce].concat());
        }
    }
}
