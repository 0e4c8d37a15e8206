//! Two readers of the same requests: HAProxy and the worker choose the same backend, whatever the rules, the request and the segments that
//! it comes in.
//!
//! HAProxy goes through its rules from the first to the last, so that it is given them in the order of Gateway API's precedence, which
//! [`rules`] has a sort of its own for. Needs HAProxy (Debian: `apt install haproxy`).

mod node;
mod proxy;
mod requests;
mod rules;

use std::collections::BTreeMap;

use fastrand::Rng;
use routes::{Read, Refusal};

use node::Node;
use proxy::Proxy;
use rules::Rules;

/// Sets of rules, and requests that each is asked.
const SETS: usize = 40;
const REQUESTS: usize = 500;
/// Differences that are shown.
const SHOWN: usize = 100;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Chosen {
    /// It goes to the route of this number.
    Route(usize),
    /// No route takes it.
    None,
    /// It can't be read, or is not whole.
    Unread,
}

/// Requests of a kind: why they are one, and whether one is of it.
type Kind = (&'static str, fn(&[u8]) -> bool);

/// The differences that are intended: what the request has, and why baton decides as it does.
///
/// There is none between two routes, and none where one finds a route and the other finds none. Where a request can be read in two ways,
/// the server may read it in the other one: what baton does not read it refuses.
const INTENDED: [Kind; 9] = [
    ("a line that ends with LF alone: some servers take CR LF only (RFC 9112 2.2)", lone_line_feed),
    ("a byte in the target that is none of a URI, or a fragment (RFC 3986 3)", odd_target),
    ("no Host, or two (RFC 9112 3.2)", |request| hosts(request) != 1),
    ("a Host that is no host and port (RFC 9110 7.2)", odd_host),
    ("a target in the absolute form, with another host than the Host line", other_authority),
    ("more than one Content-Length, or one that is no number (RFC 9112 6.3)", odd_length),
    ("a method of characters that none has, or a version that is none", odd_request_line),
    ("a header of characters that none has, or one that goes on in the next line (RFC 9112 5.2)", odd_line),
    ("empty lines before the request (RFC 9112 2.2)", |request| request.starts_with(b"\n")),
];

/// And what HAProxy refuses and baton does not: baton reads no content, and leaves it to the target.
const BEYOND: [Kind; 2] = [
    ("content that has a transfer coding, or of which the client sends less than it says", odd_content),
    (
        "a target in the absolute form with an empty path (RFC 3986 3.3): `http://a?b` asks `a` for `/`",
        |request| {
            target(request)
                .strip_prefix(b"http://")
                .is_some_and(|rest| rest.iter().find(|byte| b"/?".contains(byte)) == Some(&b'?'))
        },
    ),
];

#[test]
fn haproxy_and_the_worker_choose_the_same_backend() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut rng = Rng::with_seed(seed);
    let sets: Vec<Rules> = (0..SETS).map(|_| Rules::random(&mut rng)).collect();
    let mut proxy = Proxy::start(&sets).unwrap_or_else(|e| panic!("{e}"));
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (number, rules) in sets.iter().enumerate() {
        let mut node = Node::new(&rules.set);
        for _ in 0..REQUESTS {
            let request = requests::request(&mut rng);
            let segments = requests::segments(request.len(), &mut rng);
            let theirs = proxy.ask(number, &request, &segments);
            let read = match node.routes.read(&request) {
                Read::Whole(decision) => Chosen::Route(decision.route.0.into()),
                Read::Refused(Refusal::NotFound | Refusal::Misdirected) => Chosen::None,
                Read::Refused(_) | Read::NeedsMore => Chosen::Unread,
            };
            let ours = node.ask(&request, &segments, &mut rng);
            let mut differs = |what: &str| {
                let text = String::from_utf8_lossy(&request);
                wrong.push(format!(
                    "{what}: HAProxy {theirs:?}, routes {read:?}, worker {ours:?}: {text:?} in {segments:?}, set {number}"
                ));
            };
            if ours != read {
                differs("the worker reads something else than the routes");
            }
            let why = match (&theirs, &read) {
                (theirs, read) if theirs == read => Some(format!("both: {}", word(read))),
                (_, Chosen::Unread) => {
                    INTENDED.iter().find(|(_, has)| has(&request)).map(|(why, _)| (*why).to_owned())
                }
                (Chosen::Unread, _) => {
                    BEYOND.iter().find(|(_, has)| has(&request)).map(|(why, _)| (*why).to_owned())
                }
                _ => None,
            };
            match why {
                Some(why) => *outcomes.entry(why).or_default() += 1,
                None => differs("no intended difference"),
            }
        }
    }
    println!("{outcomes:#?}");
    let shown = wrong.get(..wrong.len().min(SHOWN)).unwrap_or_default().join("\n");
    assert!(wrong.is_empty(), "seed {seed}: {} of {} differ, such as\n{shown}", wrong.len(), SETS * REQUESTS);
    let both = |word: &str| outcomes.get(&format!("both: {word}")).copied().unwrap_or(0);
    // Else they would be compared in little.
    assert!(
        both("a route") > SETS * REQUESTS / 3 && both("no route") > 0 && both("unread") > 0,
        "{outcomes:#?}"
    );
}

fn word(chosen: &Chosen) -> &'static str {
    match chosen {
        Chosen::Route(_) => "a route",
        Chosen::None => "no route",
        Chosen::Unread => "unread",
    }
}

/// The lines of a request's head, without their ends.
fn lines(request: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = request.windows(4).position(|end| end == b"\r\n\r\n").unwrap_or(request.len());
    request[..end].split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn named<'r>(request: &'r [u8], name: &'static str) -> impl Iterator<Item = &'r [u8]> {
    lines(request).skip(1).filter_map(move |line| {
        let (before, behind) = line.split_at_checked(name.len())?;
        let value = behind.strip_prefix(b":")?;
        before.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
    })
}

fn target(request: &[u8]) -> &[u8] {
    lines(request).next().unwrap_or_default().split(|byte| *byte == b' ').nth(1).unwrap_or_default()
}

fn lone_line_feed(request: &[u8]) -> bool {
    request.iter().enumerate().any(|(at, byte)| *byte == b'\n' && (at == 0 || request[at - 1] != b'\r'))
}

fn odd_target(request: &[u8]) -> bool {
    target(request).iter().any(|byte| !byte.is_ascii_graphic() || *byte == b'#')
}

fn hosts(request: &[u8]) -> usize {
    named(request, "host").count()
}

fn odd_host(request: &[u8]) -> bool {
    named(request, "host").any(|host| {
        host.iter().any(|byte| !(byte.is_ascii_alphanumeric() || b".-:".contains(byte)))
            || host.iter().filter(|byte| **byte == b':').count() > 1
            || host
                .split(|byte| *byte == b':')
                .nth(1)
                .is_some_and(|port| port.len() > 5 || !port.iter().all(u8::is_ascii_digit))
    })
}

fn other_authority(request: &[u8]) -> bool {
    let target = target(request);
    let rest = target.strip_prefix(b"http://").unwrap_or_default();
    let authority = rest.split(|byte| b"/?".contains(byte)).next().unwrap_or_default();
    !target.starts_with(b"/") && named(request, "host").any(|host| !host.eq_ignore_ascii_case(authority))
}

fn odd_length(request: &[u8]) -> bool {
    let mut all = named(request, "content-length");
    let first = all.next().is_some_and(|value| value.is_empty() || !value.iter().all(u8::is_ascii_digit));
    first || all.next().is_some()
}

fn odd_request_line(request: &[u8]) -> bool {
    let line = lines(request).next().unwrap_or_default();
    let mut parts = line.split(|byte| *byte == b' ');
    let method = parts.next().unwrap_or_default();
    let version = parts.nth(1).unwrap_or_default();
    !method.iter().all(u8::is_ascii_uppercase)
        || !matches!(version, b"HTTP/1.0" | b"HTTP/1.1")
        || parts.next().is_some()
}

fn odd_line(request: &[u8]) -> bool {
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    lines(request).skip(1).any(|line| {
        let colon = line.iter().position(|byte| *byte == b':');
        colon.is_none_or(|colon| colon == 0 || !line[..colon].iter().all(token))
            || line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t')
    })
}

fn odd_content(request: &[u8]) -> bool {
    let head = request.windows(4).position(|end| end == b"\r\n\r\n").map_or(request.len(), |end| end + 4);
    let says = named(request, "content-length")
        .next()
        .and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    says.is_some_and(|bytes: usize| bytes > request.len() - head)
        || named(request, "transfer-encoding").next().is_some()
}
