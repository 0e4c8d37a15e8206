//! Clients of a service with routes: each sends a SYN, acknowledges the answer, and sends a request, as Linux and an HTTP library do.

#[cfg(feature = "dpdk")]
use forwarder::crt::KeyV4;

use crate::frames::{DVIPA, NODE_MAC, client};

/// The port of the DVIPA.
const PORT: u16 = 8000;
/// A client's first sequence number, and the TSval of all that it sends.
const FIRST: u32 = 7_000;
const STAMP: u32 = 5;

/// Where headers begin, and bytes of TCP's with the options of a SYN and of what follows.
const IP: usize = 14;
const TCP: usize = IP + 20;
const SYN_BYTES: usize = 40;
const DATA_BYTES: usize = 32;
/// MSS 1460, SACK, timestamps, a window scale of 7.
const SYN_OPTIONS: [u8; 20] = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, STAMP as u8, 0, 0, 0, 0, 1, 3, 3, 7];
const OPTIONS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, STAMP as u8, 0, 0, 0, 0];
/// Where TSecr is in a frame without a SYN, and TSval in the answer to one.
const ECHO: usize = TCP + 28;
const VALUE_OF_ANSWER: usize = TCP + 28;

/// What stands before and behind the number of a host in a request.
const REQUEST: [&str; 2] = [
    "GET /v1/items/4711?page=2 HTTP/1.1\r\nHost: h",
    ".shop.example\r\nUser-Agent: python-requests/2.32.3\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\n\
     Connection: keep-alive\r\n\r\n",
];
/// Digits of a host's number.
const DIGITS: usize = 5;

/// The host name of a route.
pub(super) fn host(number: u32) -> String {
    format!("h{number:0DIGITS$}.shop.example")
}

/// A packet of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    Syn,
    Ack,
    Request,
}

impl Says {
    #[cfg(feature = "dpdk")]
    pub(crate) const ALL: [Self; 3] = [Self::Syn, Self::Ack, Self::Request];
}

/// What a client was answered: the number that it acknowledges, and the TSval that it repeats.
#[derive(Clone, Copy, Debug, Default)]
struct Answer {
    acknowledged: [u8; 4],
    stamp: [u8; 4],
}

/// Writes the packets of clients, who are new in each round.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    /// Host names that they ask for.
    hosts: u32,
    /// The first client of the round.
    round: u32,
    answers: Vec<Answer>,
    templates: [Template; 3],
}

/// A frame without what differs between clients.
#[derive(Clone, Debug)]
struct Template {
    bytes: Vec<u8>,
    /// The sum of the IPv4 header without the client's address.
    sum: u32,
}

impl Clients {
    /// So many in a round, who ask for one of so many hosts.
    pub(crate) fn new(number: u32, hosts: u32) -> Self {
        let request = REQUEST.join(&"0".repeat(DIGITS));
        let templates = [
            Template::new(0x02, FIRST, &SYN_OPTIONS, ""),
            Template::new(0x10, FIRST + 1, &OPTIONS, ""),
            Template::new(0x18, FIRST + 1, &OPTIONS, &request),
        ];
        Self { hosts, round: 0, answers: vec![Answer::default(); number as usize], templates }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u32 {
        self.answers.len() as u32
    }

    /// Bytes of the longest packet, which has this.
    pub(crate) fn longest(&self) -> &[u8] {
        &self.templates[Says::Request as usize].bytes
    }

    /// Bytes of a packet.
    #[inline(always)]
    pub(crate) fn bytes(&self, says: Says) -> usize {
        self.templates[says as usize].bytes.len()
    }

    /// Others come.
    #[cfg(feature = "dpdk")]
    pub(crate) fn next_round(&mut self) {
        self.round = self.round.wrapping_add(self.len());
    }

    /// Writes what the round's `n`th client says over as many bytes.
    #[inline(always)]
    pub(crate) fn write(&self, says: Says, n: u32, frame: &mut [u8]) {
        let template = &self.templates[says as usize];
        frame.copy_from_slice(&template.bytes);
        let number = self.round.wrapping_add(n);
        let (address, port) = client(number);
        frame[IP + 12..IP + 16].copy_from_slice(&address.to_be_bytes());
        frame[TCP..TCP + 2].copy_from_slice(&port.to_be_bytes());
        let sum = template.sum + (address >> 16) + (address & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        frame[IP + 10..IP + 12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        if says == Says::Syn {
            return;
        }
        let answer = self.answers[n as usize];
        frame[TCP + 8..TCP + 12].copy_from_slice(&answer.acknowledged);
        frame[ECHO..ECHO + 4].copy_from_slice(&answer.stamp);
        if says == Says::Request {
            let mut host = number.wrapping_mul(0x9e37_79b1) % self.hosts;
            let begin = TCP + DATA_BYTES + REQUEST[0].len();
            for digit in frame[begin..begin + DIGITS].iter_mut().rev() {
                *digit = b'0' + (host % 10) as u8;
                host /= 10;
            }
        }
    }

    /// Takes the answer to the SYN of the round's `n`th client.
    ///
    /// # Panics
    /// If it is none.
    pub(crate) fn hear(&mut self, n: u32, frame: &[u8]) {
        let (address, port) = client(self.round.wrapping_add(n));
        let to = frame.get(IP + 16..IP + 20) == Some(&address.to_be_bytes()[..])
            && frame.get(TCP + 2..TCP + 4) == Some(&port.to_be_bytes()[..]);
        assert!(to && frame.get(TCP + 13) == Some(&0x12), "client {n} is answered: {frame:02x?}");
        let field = |at: usize| <[u8; 4]>::try_from(&frame[at..at + 4]).unwrap_or_default();
        let acknowledged = u32::from_be_bytes(field(TCP + 4)).wrapping_add(1).to_be_bytes();
        self.answers[n as usize] = Answer { acknowledged, stamp: field(VALUE_OF_ANSWER) };
    }

    /// The connection of the round's `n`th client.
    #[cfg(feature = "dpdk")]
    pub(crate) fn key(&self, n: u32) -> KeyV4 {
        let (address, port) = client(self.round.wrapping_add(n));
        KeyV4::new(address.into(), port, crate::frames::V4, PORT, model::Protocol::Tcp)
    }
}

impl Template {
    fn new(flags: u8, sequence: u32, options: &[u8], data: &str) -> Self {
        let header_bytes = TCP_BYTES + options.len();
        debug_assert!([SYN_BYTES, DATA_BYTES].contains(&header_bytes));
        let mut bytes = [&NODE_MAC[..], &[2, 0, 0, 0, 0, 2], &[0x08, 0x00]].concat();
        let total = (20 + header_bytes + data.len()) as u16;
        bytes.extend([0x45, 0]);
        bytes.extend(total.to_be_bytes());
        bytes.extend([0, 0, 0x40, 0, 64, 6, 0, 0, 0, 0, 0, 0]);
        bytes.extend(DVIPA.octets());
        bytes.extend([0, 0]);
        bytes.extend(PORT.to_be_bytes());
        bytes.extend(sequence.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend([(header_bytes as u8 / 4) << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        bytes.extend(options);
        bytes.extend(data.as_bytes());
        let words = bytes[IP..TCP].chunks_exact(2);
        let sum = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        Self { bytes, sum }
    }
}

/// Bytes of a TCP header without options.
const TCP_BYTES: usize = 20;
