use super::*;

#[test]
fn siphash_gives_the_authors_128_bit_vectors() {
    // vectors_sip128 of the reference code, key 00 01 … 0f, for inputs 00 01 … of 0, 8 and 16 bytes.
    let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
    let of = |words: &[u64]| siphash::<2, 4>(key, words.iter().copied());
    let hex = |bytes: [u8; 16]| {
        let (a, b) = (bytes.first_chunk::<8>().unwrap(), bytes.last_chunk::<8>().unwrap());
        [u64::from_le_bytes(*a), u64::from_le_bytes(*b)]
    };
    let empty =
        [0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93];
    assert_eq!(of(&[]), hex(empty));
    let eight =
        [0x3b, 0x62, 0xa9, 0xba, 0x62, 0x58, 0xf5, 0x61, 0x0f, 0x83, 0xe2, 0x64, 0xf3, 0x14, 0x97, 0xb4];
    assert_eq!(of(&[0x0706_0504_0302_0100]), hex(eight));
}

#[test]
fn a_place_counted_with_vectors_is_the_one_counted_without() {
    if !has_aes() {
        return;
    }
    let division = Division::new::<crate::crt::KeyV4>(1000, 1007, 77);
    let mut x = 1_u32;
    let mut next = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        x
    };
    for n in 0..10_000 {
        let hash: Hash = match n {
            0 => [0; 4],
            1 => [u32::MAX; 4],
            _ => std::array::from_fn(|_| next()),
        };
        for (service, lines) in [(0, 0..1000), (crate::crt::key::UDP, 1000..1007)] {
            let choice = division.choice(service);
            let place = choice.place(hash);
            assert_eq!(aes::placed_of(hash, choice), place, "{hash:?}");
            assert!(lines.contains(&place.first) && lines.contains(&place.second), "{place:?}");
            assert!(place.first != place.second && place.bounded < 77 && place.class < 12, "{place:?}");
        }
    }
}

#[test]
fn second_lines_are_spread_evenly_over_the_others() {
    let division = Division::new::<crate::crt::KeyV4>(8, 8, 1);
    let mut count = [[0; 8]; 8];
    for first in 0..64_u32 {
        for second in 0..448_u32 {
            let hash = [first << 26, (u64::from(second) * (1 << 32) / 448) as u32 + 1, 0, 0];
            let place = division.choice(0).place(hash);
            count[place.first as usize][place.second as usize] += 1;
        }
    }
    for (first, row) in count.iter().enumerate() {
        for (second, n) in row.iter().enumerate() {
            assert_eq!(*n, if first == second { 0 } else { 8 * 64 }, "from {first} to {second}");
        }
    }
}
