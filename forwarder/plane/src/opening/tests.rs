use etherparse::{NetHeaders, PacketHeaders, TcpOptionElement, TransportHeader};
use model::Protocol;
use model::handoff::{HandoffOption, TimestampUnit, Token};

use super::*;

fn handoff(echo: Option<u32>) -> Handoff {
    let option = HandoffOption {
        token: Token::new(1).unwrap(),
        start: 0xffff_fff0,
        sent: 77,
        mss: 1460,
        scales: None,
        sack: true,
        timestamps: echo.map(|_| TimestampUnit::Millisecond),
        ecn: false,
    };
    Handoff { option, acknowledgment: 77, window: 501, echo, request_waits: false }
}

/// An independent opinion on the packet, checksums included.
#[test]
fn it_is_a_bare_ack_of_the_client_that_begins_at_the_start() {
    for (client, dvipa) in
        [("198.18.0.2:40000", "198.18.9.1:80"), ("[2001:db8::2]:40000", "[2001:db8:9::1]:80")]
    {
        for echo in [None, Some(12_345)] {
            let (client, dvipa) = (client.parse().unwrap(), dvipa.parse().unwrap());
            let connection = Connection::new(Protocol::Tcp, client, dvipa).unwrap();
            let Frame { to, bytes } = frame(&connection, StackIndex(3), &handoff(echo));
            assert_eq!(to, To::Handoff(StackIndex(3)));
            let read = PacketHeaders::from_ethernet_slice(&bytes).unwrap();
            let Some(TransportHeader::Tcp(tcp)) = read.transport else { panic!("{read:?}") };
            let checksum = match read.net.unwrap() {
                NetHeaders::Ipv4(ip, _) => {
                    assert_eq!((ip.source.into(), ip.destination.into()), (client.ip(), dvipa.ip()));
                    assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                    tcp.calc_checksum_ipv4(&ip, &[]).unwrap()
                }
                NetHeaders::Ipv6(ip, _) => {
                    assert_eq!((ip.source.into(), ip.destination.into()), (client.ip(), dvipa.ip()));
                    tcp.calc_checksum_ipv6(&ip, &[]).unwrap()
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(tcp.checksum, checksum);
            assert_eq!((tcp.source_port, tcp.destination_port), (client.port(), dvipa.port()));
            let numbers = (tcp.sequence_number, tcp.acknowledgment_number, tcp.window_size);
            assert_eq!(numbers, (0xffff_fff0, 77, 501));
            assert!(tcp.ack && !tcp.syn && !tcp.fin && !tcp.rst && read.payload.slice().is_empty());
            let timestamps = tcp.options_iterator().flatten().find_map(|option| match option {
                TcpOptionElement::Timestamp(value, echo) => Some((value, echo)),
                _ => None,
            });
            assert_eq!(timestamps, echo.map(|echo| (0, echo)));
        }
    }
}
