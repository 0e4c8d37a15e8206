//! Why a request is refused, and what its client is told in its protocol.

use model::route::ClientProtocol;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No route takes it, and there is no default.
    NotFound,
    /// No route is for its host or server name.
    Misdirected,
    /// The route that takes it has no backend at present.
    Unavailable,
    /// It is not what the protocol says, or servers may understand it differently.
    BadRequest,
    /// It is larger than is read.
    TooLarge,
    /// Its version of the protocol is not read here.
    Version,
    /// Its client asked for encryption, and there is no route for what can't be read (PostgreSQL).
    Unreadable,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Self; 7] = [
        Self::NotFound,
        Self::Misdirected,
        Self::Unavailable,
        Self::BadRequest,
        Self::TooLarge,
        Self::Version,
        Self::Unreadable,
    ];

    /// The reason as a sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Refusal::NotFound => "No route takes the request: add one without `matches` as a default.",
            Refusal::Misdirected => "No route names the request's host: add one, or one without `hostnames`.",
            Refusal::Unavailable => {
                "The route takes the request, but none of its backends takes connections."
            }
            Refusal::BadRequest => {
                "The request does not follow its protocol, or can be understood in two ways."
            }
            Refusal::TooLarge => "The request is larger than the routing node reads.",
            Refusal::Version => "The request is of a version of its protocol that is not read here.",
            Refusal::Unreadable => {
                "The client asked for encryption or to cancel a query, and no route is without conditions."
            }
        }
    }

    /// What the client is told before the connection ends; empty: the protocol has no words for it.
    pub fn answer(self, protocol: ClientProtocol) -> &'static [u8] {
        match protocol {
            ClientProtocol::Http => self.http(),
            ClientProtocol::Tls => self.tls(),
            ClientProtocol::Postgresql => self.postgresql(),
            ClientProtocol::Mqtt => self.mqtt_3(),
            ClientProtocol::Redis => self.redis(),
            ClientProtocol::Raw => b"",
        }
    }

    fn http(self) -> &'static [u8] {
        macro_rules! status {
            ($line:literal) => {
                concat!("HTTP/1.1 ", $line, "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes()
            };
        }
        match self {
            Refusal::NotFound | Refusal::Unreadable => status!("404 Not Found"),
            Refusal::Misdirected => status!("421 Misdirected Request"),
            Refusal::Unavailable => status!("503 Service Unavailable"),
            Refusal::BadRequest => status!("400 Bad Request"),
            Refusal::TooLarge => status!("431 Request Header Fields Too Large"),
            Refusal::Version => status!("505 HTTP Version Not Supported"),
        }
    }

    /// A fatal alert (RFC 8446 6.2).
    fn tls(self) -> &'static [u8] {
        match self {
            Refusal::NotFound => b"\x15\x03\x03\x00\x02\x02\x78", // no_application_protocol
            Refusal::Misdirected => b"\x15\x03\x03\x00\x02\x02\x70", // unrecognized_name
            Refusal::Unavailable | Refusal::Unreadable => b"\x15\x03\x03\x00\x02\x02\x50", // internal_error
            Refusal::BadRequest | Refusal::TooLarge => b"\x15\x03\x03\x00\x02\x02\x32", // decode_error
            Refusal::Version => b"\x15\x03\x03\x00\x02\x02\x46",  // protocol_version
        }
    }

    /// An ErrorResponse (PostgreSQL's frontend/backend protocol, message formats).
    fn postgresql(self) -> &'static [u8] {
        match self {
            Refusal::NotFound | Refusal::Misdirected => {
                b"E\x00\x00\x00\x3aSFATAL\0VFATAL\0C3D000\0Mno route takes this connection\0\0"
            }
            Refusal::Unavailable => {
                b"E\x00\x00\x00\x40SFATAL\0VFATAL\0C57P03\0Mno server of this route is available\0\0"
            }
            Refusal::BadRequest => b"E\x00\x00\x00\x36SFATAL\0VFATAL\0C08P01\0Mthis is no startup message\0\0",
            Refusal::TooLarge => b"E\x00\x00\x00\x3bSFATAL\0VFATAL\0C54000\0Mthe startup message is too long\0\0",
            Refusal::Version => b"E\x00\x00\x00\x38SFATAL\0VFATAL\0C0A000\0Munsupported protocol version\0\0",
            Refusal::Unreadable => {
                b"E\x00\x00\x00\x53SFATAL\0VFATAL\0C0A000\0Mno route for encrypted connections: use sslmode=disable\0\0"
            }
        }
    }

    /// A CONNACK of MQTT 3.1.1 (3.2).
    fn mqtt_3(self) -> &'static [u8] {
        match self {
            Refusal::NotFound | Refusal::Misdirected | Refusal::Unreadable => b"\x20\x02\x00\x05",
            Refusal::Unavailable => b"\x20\x02\x00\x03",
            Refusal::Version => b"\x20\x02\x00\x01",
            // 3.1.4: a packet that is wrong is answered by nothing.
            Refusal::BadRequest | Refusal::TooLarge => b"",
        }
    }

    /// A CONNACK of MQTT 5 (3.2).
    pub(crate) fn mqtt_5(self) -> &'static [u8] {
        match self {
            Refusal::NotFound | Refusal::Misdirected | Refusal::Unreadable => b"\x20\x03\x00\x87\x00",
            Refusal::Unavailable => b"\x20\x03\x00\x88\x00",
            Refusal::Version => b"\x20\x03\x00\x84\x00",
            Refusal::BadRequest => b"\x20\x03\x00\x81\x00",
            Refusal::TooLarge => b"\x20\x03\x00\x95\x00",
        }
    }

    fn redis(self) -> &'static [u8] {
        match self {
            Refusal::NotFound | Refusal::Misdirected | Refusal::Unreadable => {
                b"-ERR no route takes this command\r\n"
            }
            Refusal::Unavailable => b"-ERR no server of this route is available\r\n",
            Refusal::BadRequest | Refusal::Version => b"-ERR Protocol error: this is no command\r\n",
            Refusal::TooLarge => b"-ERR Protocol error: the command is too long\r\n",
        }
    }
}
