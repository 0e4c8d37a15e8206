//! The kernel's table of tokens that were given out ahead (bpf/tokens.h).

use std::ops::Range;
use std::path::Path;

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use model::handoff::Token;

use super::random_token;
use crate::tokens::PLACES;

/// The table. It outlives the agent, and what is in it does not.
#[derive(Debug)]
pub struct Tokens {
    map: MapHandle,
}

impl Tokens {
    /// The table, empty.
    pub(super) fn start(pin: &Path) -> libbpf_rs::Result<Self> {
        let tokens = Self { map: MapHandle::from_pinned_path(pin.join("tokens"))? };
        tokens.void(0..PLACES)?;
        Ok(tokens)
    }

    /// A packet with one of these may make a connection from now on; what these places had is void.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn give(&self, places: Range<u32>) -> Result<Vec<Token>, Box<dyn std::error::Error>> {
        let token = |place: u32| {
            let random = random_token()?.bytes();
            // The last two bytes are the place.
            let number = u64::from_be_bytes(random) & !u64::from(PLACES - 1) | u64::from(place);
            Ok::<_, std::io::Error>(Token::new(number))
        };
        let mut tokens = Vec::with_capacity(places.len());
        for place in places.clone() {
            let token = loop {
                if let Some(token) = token(place)? {
                    break token;
                }
            };
            tokens.push(token);
        }
        let values: Vec<u8> = tokens.iter().flat_map(|token| token.bytes()).collect();
        self.write(places, &values)?;
        Ok(tokens)
    }

    /// What these places had is void.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn void(&self, places: Range<u32>) -> libbpf_rs::Result<()> {
        let values = vec![0; places.len() * size_of::<Token>()];
        self.write(places, &values)
    }

    fn write(&self, places: Range<u32>, values: &[u8]) -> libbpf_rs::Result<()> {
        let count = u32::try_from(places.len()).unwrap_or(u32::MAX);
        let keys: Vec<u8> = places.flat_map(u32::to_ne_bytes).collect();
        self.map.update_batch(&keys, values, count, MapFlags::ANY, MapFlags::ANY)
    }
}
