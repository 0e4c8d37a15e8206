//! What the numbers in CRT entries mean: kept beside a table that outlives its process, for the process that goes on with it.
//!
//! Written as messages are: fields have numbers, a new one is an `Option`, and a reader skips those that it does not know.

use minicbor::{Decode, Encode};

use crate::codec::Address;
use crate::{ClusterAddress, Dvipa, DvipaIndex, Epoch, StackIndex, StackName};

/// Which stack and which DVIPA each number is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Numbering {
    /// The routing stack that gave the numbers.
    #[n(0)]
    pub node: StackName,
    /// The highest epoch that it gave out.
    #[n(1)]
    pub epoch: Epoch,
    /// The stacks that have a number.
    #[n(2)]
    pub stacks: Vec<NumberedStack>,
    /// The DVIPAs that have one.
    #[n(3)]
    pub dvipas: Vec<NumberedDvipa>,
}

/// A stack and its number.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct NumberedStack {
    /// [`StackIndex`].
    #[n(0)]
    pub number: u16,
    /// Which stack.
    #[n(1)]
    pub name: StackName,
    /// Where packets reach it.
    #[n(2)]
    pub cluster_addresses: Vec<Address>,
}

/// A DVIPA and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct NumberedDvipa {
    /// [`DvipaIndex`].
    #[n(0)]
    pub number: u16,
    /// Which DVIPA.
    #[n(1)]
    pub address: Address,
    /// The epoch of its present or last ownership.
    #[n(2)]
    pub epoch: Epoch,
}

/// Why bytes are no numbering.
#[derive(Debug, thiserror::Error)]
pub enum NotANumbering {
    /// They can't be read.
    #[error("malformed: {0}")]
    Malformed(#[from] minicbor::decode::Error),
    /// A number is too large, or a number, a name or an address is there twice.
    #[error("contradictory: {0}")]
    Contradictory(&'static str),
}

impl Numbering {
    /// As it is kept.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Memory takes everything; what did not would be empty, which no reader takes.
        if minicbor::encode(self, &mut bytes).is_err() {
            bytes.clear();
        }
        bytes
    }

    /// Reads what [`Self::encode`] has written, of this version or another one.
    ///
    /// # Errors
    /// [`NotANumbering`].
    pub fn decode(bytes: &[u8]) -> Result<Self, NotANumbering> {
        let read: Self = minicbor::decode(bytes)?;
        let of = |found: bool, what| if found { Ok(()) } else { Err(NotANumbering::Contradictory(what)) };
        of(are_distinct(read.stacks.iter().map(|s| s.number)), "a stack's number is there twice")?;
        of(are_distinct(read.stacks.iter().map(|s| s.name.clone())), "a stack is there twice")?;
        of(are_distinct(read.dvipas.iter().map(|d| d.number)), "a DVIPA's number is there twice")?;
        of(are_distinct(read.dvipas.iter().map(NumberedDvipa::dvipa)), "a DVIPA is there twice")?;
        of(read.stacks.iter().all(|s| s.number <= StackIndex::MAX), "a stack's number is too large")?;
        of(read.dvipas.iter().all(|d| d.number <= DvipaIndex::MAX), "a DVIPA's number is too large")?;
        let is_reached = |stack: &NumberedStack| stack.cluster_address().is_some();
        of(read.stacks.iter().all(is_reached), "a stack has no cluster address, or two of a family")?;
        Ok(read)
    }
}

impl NumberedStack {
    /// Where packets reach it, if it has one address of a family at most, and any.
    pub fn cluster_address(&self) -> Option<ClusterAddress> {
        let addresses: Vec<_> = self.cluster_addresses.iter().map(|address| address.0).collect();
        ClusterAddress::from_addresses(&addresses)
    }
}

impl NumberedDvipa {
    /// Which DVIPA.
    pub fn dvipa(&self) -> Dvipa {
        Dvipa::new(self.address.0)
    }
}

fn are_distinct<T: Ord>(all: impl Iterator<Item = T>) -> bool {
    let mut all: Vec<T> = all.collect();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    all.len() == count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbering() -> Numbering {
        let address = |text: &str| Address(text.parse().unwrap());
        let stack = |number, name: &str| NumberedStack {
            number,
            name: StackName::new(name).unwrap(),
            cluster_addresses: vec![address("198.18.0.11"), address("2001:db8::11")],
        };
        let dvipa = |number, text| NumberedDvipa { number, address: address(text), epoch: Epoch(7) };
        Numbering {
            node: StackName::new("rt1").unwrap(),
            epoch: Epoch(9),
            stacks: vec![stack(0, "t1"), stack(3, "t2")],
            dvipas: vec![dvipa(0, "198.18.9.1"), dvipa(1, "2001:db8:9::1")],
        }
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let kept = numbering();
        assert_eq!(Numbering::decode(&kept.encode()).unwrap(), kept);
    }

    #[test]
    fn a_field_of_a_later_version_is_skipped() {
        let mut kept = numbering().encode();
        assert_eq!(kept[0], 0xa4, "a map of four");
        kept[0] = 0xa5;
        kept.extend([9, 0x63, b'n', b'e', b'w']);
        assert_eq!(Numbering::decode(&kept).unwrap(), numbering());
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let refused = |change: &dyn Fn(&mut Numbering)| {
            let mut kept = numbering();
            change(&mut kept);
            Numbering::decode(&kept.encode()).unwrap_err().to_string()
        };
        assert!(refused(&|kept| kept.stacks[1].number = 0).contains("number is there twice"));
        assert!(
            refused(&|kept| kept.stacks[1].name = kept.stacks[0].name.clone())
                .contains("stack is there twice")
        );
        assert!(refused(&|kept| kept.dvipas[1].number = 0).contains("number is there twice"));
        assert!(
            refused(&|kept| kept.dvipas[1].address = kept.dvipas[0].address).contains("DVIPA is there twice")
        );
        assert!(refused(&|kept| kept.stacks[0].number = StackIndex::MAX + 1).contains("too large"));
        assert!(refused(&|kept| kept.dvipas[0].number = DvipaIndex::MAX + 1).contains("too large"));
        assert!(refused(&|kept| kept.stacks[0].cluster_addresses.clear()).contains("no cluster address"));
    }

    #[test]
    fn half_of_it_is_nothing() {
        let kept = numbering().encode();
        for length in 0..kept.len() {
            assert!(Numbering::decode(&kept[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn the_largest_one_fits_beside_a_table() {
        let stack = |number| NumberedStack {
            number,
            name: StackName::new(format!("{}{number:05}", "s".repeat(58))).unwrap(),
            cluster_addresses: numbering().stacks[0].cluster_addresses.clone(),
        };
        let dvipa = |number: u16| NumberedDvipa {
            number,
            address: Address(std::net::Ipv6Addr::from_bits(u128::from(number) + (0x2001_0db8 << 96)).into()),
            epoch: Epoch(u64::MAX),
        };
        let stacks = (0..=StackIndex::MAX).map(stack).collect();
        let dvipas = (0..=DvipaIndex::MAX).map(dvipa).collect();
        let bytes = Numbering { stacks, dvipas, ..numbering() }.encode();
        assert!(bytes.len() < (2 << 20) - 24, "{} bytes", bytes.len());
    }
}
