use proptest::prelude::*;

use super::*;
use crate::codec::WireConnection;
use crate::transfer::TransferId;
use crate::{Connection, Epoch, Protocol};

fn about() -> About {
    let client = "198.18.0.2:40000".parse().unwrap();
    let connection = Connection::new(Protocol::Tcp, client, "198.18.9.1:80".parse().unwrap()).unwrap();
    About {
        connection: WireConnection(connection),
        transfer: TransferId { incarnation: 1, number: 1 },
        epoch: Epoch(1),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn parts_in_any_order_and_doubled_make_the_same_parcel(
        socket in 0usize..(3 << 20), application in 0usize..(3 << 20), order in any::<u64>()
    ) {
        let byte = |i: usize| (i.wrapping_mul(31) >> 3) as u8;
        let parcel = Parcel {
            socket: (0..socket).map(byte).collect(),
            application: (7..application + 7).map(byte).collect(),
        };
        let parts = parcel.parts(about()).unwrap();
        let mut places: Vec<usize> = (0..parts.len()).flat_map(|i| [i, i]).collect();
        places.sort_by_key(|i| (*i as u64 + 1).wrapping_mul(order | 1));
        let mut collector = Collector::default();
        let whole = places.iter().find_map(|i| collector.take(parts[*i].clone()).unwrap());
        prop_assert_eq!(whole, Some(parcel));
    }
}

#[test]
fn an_empty_parcel_is_one_part() {
    let parts = Parcel::default().parts(about()).unwrap();
    assert_eq!(parts.len(), 1);
    assert_eq!(Collector::default().take(parts[0].clone()), Ok(Some(Parcel::default())));
}

#[test]
fn too_much_is_refused_before_it_is_sent() {
    let parcel = Parcel { socket: vec![0; MAX_SOCKET_BYTES + 1], application: Vec::new() };
    assert!(parcel.parts(about()).is_err());
}

#[test]
fn the_largest_parcel_moves_and_a_larger_state_does_not() {
    let parcel = Parcel { socket: vec![1; MAX_SOCKET_BYTES], application: vec![2; MAX_APPLICATION_BYTES] };
    let parts = parcel.parts(about()).unwrap();
    assert_eq!(parts.len(), usize::from(MAX_PARTS));
    let take = |parts: &mut dyn Iterator<Item = Part>| {
        let mut collector = Collector::default();
        let mut taken = Ok(None);
        parts.for_each(|part| taken = collector.take(part));
        taken
    };
    assert_eq!(take(&mut parts.iter().cloned()), Ok(Some(parcel)));
    // As many bytes, and a smaller socket: one byte of state too many.
    let socket_bytes = MAX_SOCKET_BYTES as u32 - 1;
    let mut lying = parts.into_iter().map(|part| Part { socket_bytes, ..part });
    assert_eq!(take(&mut lying), Err(PartError::Contradicts(MAX_PARTS - 1)));
}

#[test]
fn impossible_and_contradicting_parts_take_no_memory() {
    let part = |index, of, socket_bytes, bytes| Part {
        about: about(),
        index,
        of,
        socket_bytes,
        bytes: vec![0; bytes],
    };
    let mut collector = Collector::default();
    for bad in [
        part(0, 0, 0, 0),
        part(1, 1, 0, 0),
        part(0, MAX_PARTS + 1, 0, PART_BYTES),
        part(0, 2, 0, 10),
        part(0, 1, 0, PART_BYTES + 1),
        part(0, 1, MAX_SOCKET_BYTES as u32 + 1, 1),
    ] {
        assert!(matches!(collector.take(bad), Err(PartError::Impossible { .. })));
    }
    assert_eq!(collector.bytes(), 0);
    assert_eq!(collector.take(part(0, 2, 5, PART_BYTES)), Ok(None));
    assert_eq!(collector.take(part(1, 3, 5, PART_BYTES)), Err(PartError::Contradicts(1)));
    assert_eq!(collector.take(part(1, 2, 6, 1)), Err(PartError::Contradicts(1)));
    assert_eq!(collector.bytes(), PART_BYTES);
    assert_eq!(Collector::default().take(part(0, 1, 9, 3)), Err(PartError::Contradicts(0)));
}
