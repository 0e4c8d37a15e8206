//! What clients say first, read and matched: the first byte chooses the protocol, the rest is the client's.

use std::sync::OnceLock;

use ::routes::{ClientProtocol, Framing, Read, Refusal, Routes};
use model::route::{Match, Named, Pattern, Route, RouteSet, Slots};

/// The protocols, by the first byte.
const PROTOCOLS: [ClientProtocol; 6] = [
    ClientProtocol::Http,
    ClientProtocol::Tls,
    ClientProtocol::Postgresql,
    ClientProtocol::Mqtt,
    ClientProtocol::Redis,
    ClientProtocol::Raw,
];

/// Runs one input.
pub fn run(data: &[u8]) {
    static ROUTES: OnceLock<Vec<Routes>> = OnceLock::new();
    let all = ROUTES.get_or_init(|| {
        let set = |protocol| RouteSet { protocol, routes: routes(protocol) };
        PROTOCOLS.iter().map(|protocol| Routes::compile(&set(*protocol)).expect("good routes")).collect()
    });
    let Some((choice, bytes)) = data.split_first() else { return };
    let routes = &all[usize::from(*choice) % all.len()];
    let read = routes.read(bytes);
    assert_eq!(read, routes.read_the_long_way(bytes), "the short way is no other");
    match read {
        Read::Whole(decision) => {
            assert!(usize::from(decision.route.0) < routes.len(), "a route that there is");
            if let Framing::Ends { request_bytes } = decision.framing {
                let head = bytes.windows(4).position(|end| end == b"\r\n\r\n").expect("a head ends") + 4;
                assert!(request_bytes as usize >= head, "a request is not shorter than its head");
            }
        }
        Read::Refused(refusal) => drop(routes.answer(refusal, bytes)),
        Read::NeedsMore => {}
    }
    // Where the bytes are cut says nothing: less of them needs more, is refused as they are, or is read as they are.
    let cuts = [bytes.len() / 2, bytes.len().saturating_sub(1)];
    for cut in cuts {
        let less = routes.read(&bytes[..cut]);
        assert!(less == Read::NeedsMore || less == read || is_late(less, read), "{less:?}, then {read:?}");
    }
}

/// A head of which more is wrong may be refused for another reason than its beginning.
fn is_late(less: Read, read: Read) -> bool {
    matches!(
        (less, read),
        (Read::Refused(Refusal::BadRequest | Refusal::Version | Refusal::TooLarge), Read::Refused(_))
    )
}

/// Routes that ask for everything that the protocol has.
fn routes(protocol: ClientProtocol) -> Vec<Route> {
    let exact = |text: &str| Some(Pattern::Exact(text.into()));
    let prefix = |text: &str| Some(Pattern::Prefix(text.into()));
    let regex = |text: &str| Some(Pattern::RegularExpression(text.into()));
    let of = |subject| Match { subject, ..Match::default() };
    let named = |name: &str, value: Option<Pattern>| {
        value.map(|value| Named { name: name.into(), value }).into_iter().collect::<Vec<_>>()
    };
    let matches = match protocol {
        ClientProtocol::Http => vec![
            of(exact("/a")),
            of(prefix("/a/b")),
            of(regex("/[a-z]+/[0-9]{1,4}")),
            Match { method: Some("POST".into()), headers: named("x-a", regex("[^,]*b")), ..of(prefix("/p")) },
            Match { query_params: named("q", regex("a.*")), ..Match::default() },
        ],
        ClientProtocol::Tls => vec![Match { alpn: Some("h2".into()), ..Match::default() }],
        ClientProtocol::Postgresql | ClientProtocol::Mqtt => {
            vec![
                of(exact("a")),
                of(prefix("b")),
                of(regex("c+")),
                Match { user: regex("u.*"), ..Match::default() },
            ]
        }
        ClientProtocol::Redis => {
            let slots = Some(Slots { first: 0, last: 8191 });
            vec![of(prefix("a")), of(regex("c+")), Match { slots, ..Match::default() }]
        }
        ClientProtocol::Raw => {
            vec![
                Match { bytes: Some(b"AB".to_vec()), ..Match::default() },
                Match { bytes: Some(b"ABCD".to_vec()), ..Match::default() },
            ]
        }
    };
    let has_hosts = matches!(protocol, ClientProtocol::Http | ClientProtocol::Tls);
    let hostnames =
        ["a.example", "*.example"].iter().filter(|_| has_hosts).map(|name| (*name).to_owned()).collect();
    let rest = Route { name: "rest".into(), ..Route::default() };
    vec![Route { name: "some".into(), hostnames, matches, ..Route::default() }, rest]
}
