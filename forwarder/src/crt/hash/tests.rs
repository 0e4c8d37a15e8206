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
