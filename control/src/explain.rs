//! Which route takes a request, and why: what workers do, asked by a person.

use std::net::IpAddr;

use model::route::{ClientProtocol, Match, Named, Pattern, Route};
use routes::spell::{Spoken, spell};
use routes::{Explained, Read, Routes};
use serde::{Deserialize, Serialize};

use crate::config::{Routing, VipaDistribute, VipaDynamic};

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Of which DVIPA; needed if several have routes.
    pub dvipa: Option<IpAddr>,
    /// Of which port; needed if several have routes.
    pub port: Option<u16>,
    /// The client's first bytes.
    #[serde(default)]
    pub bytes: Vec<u8>,
    /// What the client asks for, instead of the bytes: see [`routes::spell`].
    pub request: Option<String>,
    /// Header lines of it.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Application protocols that it offers.
    #[serde(default)]
    pub alpn: Vec<String>,
}

/// What becomes of a client that begins with these bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The DVIPA whose routes were asked.
    pub dvipa: String,
    /// Its ports that have these routes.
    pub ports: Vec<u16>,
    /// What their clients speak.
    pub client_protocol: ClientProtocol,
    /// The route that takes the request; null: none.
    pub route: Option<String>,
    /// Its host name that holds; null: it is for all.
    pub hostname: Option<String>,
    /// Its match that holds, in words; null: it is for every request.
    pub matching: Option<String>,
    /// Why this match comes before others, or why no route takes the request.
    pub because: String,
    /// Where the request goes, with weights; empty: to the distribution's targets.
    pub backends: Vec<(String, u16)>,
    /// What the client is told, if it is refused.
    pub answer: Option<String>,
}

/// Asks the routes of one distribution.
///
/// # Errors
/// Says which distribution has to be named.
pub fn explain(definitions: &VipaDynamic, question: &Question) -> Result<Explanation, String> {
    let (distribute, routing) = meant(definitions, question)?;
    let routes = Routes::compile(&routing.set).map_err(|mistake| mistake.to_string())?;
    let bytes = &first_bytes(routing.set.protocol, question)?;
    let Explained { read, place } = routes.explain(bytes);
    let mut told = Explanation {
        dvipa: distribute.dvipa.to_string(),
        ports: distribute.ports.clone(),
        client_protocol: routing.set.protocol,
        ..Explanation::default()
    };
    match read {
        Read::NeedsMore => told.because = "the request is not whole: the worker waits for more".to_owned(),
        Read::Refused(refusal) => {
            told.because = refusal.sentence().to_owned();
            let answer = routes.answer(refusal, bytes);
            told.answer = (!answer.is_empty()).then(|| answer.escape_ascii().to_string());
        }
        Read::Whole(decision) => {
            told.route = Some(routes.name(decision.route).to_owned());
            let backends = routes.backends(decision.route).iter();
            told.backends = backends.map(|b| (b.stack.to_string(), b.weight)).collect();
            let route = routing.set.routes.get(usize::from(decision.route.0));
            let at = |place: Option<u32>| place.map(|place| place as usize);
            let hostname = route.zip(at(place.and_then(|place| place.hostname)));
            let matching = route.zip(at(place.and_then(|place| place.matching)));
            let hostname = hostname.and_then(|(route, at)| route.hostnames.get(at));
            let matching = matching.and_then(|(route, at): (&Route, usize)| route.matches.get(at));
            told.because = because(routing.set.protocol, hostname, matching);
            told.matching = matching.map(|one| words(routing.set.protocol, one));
            told.hostname = hostname.cloned();
        }
    }
    Ok(told)
}

fn first_bytes(protocol: ClientProtocol, question: &Question) -> Result<Vec<u8>, String> {
    let Some(request) = &question.request else { return Ok(question.bytes.clone()) };
    let spoken = Spoken { request, headers: &question.headers, alpn: &question.alpn };
    spell(protocol, &spoken).ok_or_else(|| {
        format!("`{request}` is not how a request of {protocol} is written; `baton route explain --help` has the forms")
    })
}

/// The one distribution with routes that the question can be about.
fn meant<'d>(
    definitions: &'d VipaDynamic,
    question: &Question,
) -> Result<(&'d VipaDistribute, &'d Routing), String> {
    let with_routes = definitions.distributes.iter().filter_map(|d| Some((d, d.routing.as_ref()?)));
    let those: Vec<_> = with_routes
        .filter(|(d, _)| question.dvipa.is_none_or(|dvipa| d.dvipa.address() == dvipa))
        .filter(|(d, _)| question.port.is_none_or(|port| d.ports.contains(&port)))
        .collect();
    match &those[..] {
        [] if question.dvipa.is_none() && question.port.is_none() => {
            Err("no distribution has routes".to_owned())
        }
        [] => Err("no distribution of this DVIPA and port has routes".to_owned()),
        [one] => Ok(*one),
        several => {
            let names = several.iter().map(|(d, _)| match d.ports.first() {
                Some(port) => format!("{} port {port}", d.dvipa),
                None => d.dvipa.to_string(),
            });
            let names: Vec<String> = names.collect();
            Err(format!("several distributions have routes: say which DVIPA and port ({})", names.join(", ")))
        }
    }
}

/// The parts of a match that precedence goes by, the most important first.
fn because(protocol: ClientProtocol, hostname: Option<&String>, matching: Option<&Match>) -> String {
    let mut reasons = Vec::new();
    match hostname {
        Some(name) if name.starts_with("*.") => {
            reasons.push("no route for the exact host takes the request, and no longer wildcard".to_owned());
        }
        Some(_) => reasons.push("its host name is exact".to_owned()),
        None if matches!(protocol, ClientProtocol::Http | ClientProtocol::Tls) => {
            reasons.push("no route that names the host takes the request".to_owned());
        }
        None => {}
    }
    let subject = subject(protocol);
    let reason = match matching.and_then(|one| one.subject.as_ref()) {
        Some(Pattern::Exact(_)) => Some(format!("its {subject} is exact")),
        Some(Pattern::Prefix(_)) => {
            Some(format!("no exact {subject} and no longer prefix takes the request"))
        }
        Some(Pattern::RegularExpression(_)) => {
            Some(format!("no exact {subject} and no prefix takes the request"))
        }
        None if matching.is_some_and(|one| one.slots.is_some()) => {
            Some("no match for the key takes the request".to_owned())
        }
        None if matching.is_some_and(|one| one.bytes.is_some()) => {
            Some("no longer beginning takes the request".to_owned())
        }
        None if subject.is_empty() => None,
        None => Some(format!("no match for the {subject} takes the request")),
    };
    reasons.extend(reason);
    reasons.push("of the matches that are left it asks for the most, or comes first".to_owned());
    reasons.join("; ")
}

fn subject(protocol: ClientProtocol) -> &'static str {
    match protocol {
        ClientProtocol::Http => "path",
        ClientProtocol::Postgresql => "database",
        ClientProtocol::Mqtt => "client identifier",
        ClientProtocol::Redis => "key",
        ClientProtocol::Tls | ClientProtocol::Raw => "",
    }
}

/// A match, as a person would say it.
fn words(protocol: ClientProtocol, one: &Match) -> String {
    let prefix = if protocol == ClientProtocol::Http { "PathPrefix" } else { "Prefix" };
    let pattern = |pattern: &Pattern| match pattern {
        Pattern::Exact(text) => format!("Exact \"{text}\""),
        Pattern::Prefix(text) => format!("{prefix} \"{text}\""),
        Pattern::RegularExpression(text) => format!("RegularExpression \"{text}\""),
    };
    let named = |kind: &str, Named { name, value }: &Named| format!("{kind} {name} {}", pattern(value));
    let mut parts = Vec::new();
    parts.extend(one.subject.as_ref().map(|text| format!("{} {}", subject(protocol), pattern(text))));
    parts.extend(one.method.as_ref().map(|method| format!("method {method}")));
    parts.extend(one.headers.iter().map(|header| named("header", header)));
    parts.extend(one.query_params.iter().map(|param| named("parameter", param)));
    parts.extend(one.alpn.as_ref().map(|name| format!("application protocol {name}")));
    parts.extend(one.user.as_ref().map(|user| format!("user {}", pattern(user))));
    parts.extend(one.slots.map(|slots| format!("hash slots {} to {}", slots.first, slots.last)));
    parts.extend(one.bytes.as_ref().map(|bytes| format!("beginning \"{}\"", bytes.escape_ascii())));
    if parts.is_empty() { "everything".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fixture::config;

    const ROUTES: &str = r#"
[[vipadynamic]]
[[vipadynamic.vipadefine]]
address = "198.18.9.1"
mask = 24
[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
ports = [80]
destip = ["t1", "t2"]
[[vipadynamic.vipadistribute.route]]
name = "pay"
hostnames = ["*.example"]
matches = [{ path = "/pay", method = "POST" }, { path = { type = "Exact", value = "/x" } }]
backends = [{ stack = "t1", weight = 3 }]
[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
ports = [6379]
destip = "all"
client_protocol = "redis"
[[vipadynamic.vipadistribute.route]]
name = "low"
matches = [{ slots = [0, 8191] }]
"#;

    fn ask(port: u16, bytes: &[u8]) -> Explanation {
        let question = Question { port: Some(port), bytes: bytes.to_vec(), ..Question::default() };
        explain(&config(ROUTES).vipadynamic, &question).expect("routes")
    }

    #[test]
    fn the_route_is_named_with_its_match_and_the_reason() {
        let told = ask(80, b"POST /pay/1 HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\n");
        assert_eq!((told.route.as_deref(), told.hostname.as_deref()), (Some("pay"), Some("*.example")));
        assert_eq!(told.matching.as_deref(), Some("path PathPrefix \"/pay\", method POST"));
        assert!(
            told.because.contains("no longer wildcard") && told.because.contains("no longer prefix"),
            "{told:?}"
        );
        assert_eq!(told.backends, [("t1".to_owned(), 3)]);
        let told = ask(6379, b"GET bar\r\n");
        assert_eq!(
            (told.route.as_deref(), told.matching.as_deref()),
            (Some("low"), Some("hash slots 0 to 8191"))
        );
    }

    #[test]
    fn a_refusal_is_shown_with_what_the_client_is_told() {
        let told = ask(80, b"GET /pay HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert!(told.answer.as_deref().is_some_and(|answer| answer.starts_with("HTTP/1.1 404")), "{told:?}");
        let told = ask(80, b"GET /pay HTTP/1.1\r\nHost: other\r\n\r\n");
        assert!(told.answer.as_deref().is_some_and(|answer| answer.starts_with("HTTP/1.1 421")), "{told:?}");
        assert!(ask(80, b"GET /pay").because.contains("waits for more"));
    }

    #[test]
    fn the_documented_routes_do_what_the_page_says() {
        let page = include_str!("../../docs/routes.md");
        let example =
            page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
        let define = "[[vipadynamic]]\n[[vipadynamic.vipadefine]]\naddress = \"198.18.9.1\"\nmask = 24\n";
        let request = Some("POST http://www.shop.example/pay/7".to_owned());
        let question = Question { request, ..Question::default() };
        let told = explain(&config(&format!("{define}{example}")).vipadynamic, &question).expect("routes");
        assert_eq!(told.route.as_deref(), Some("pay"));
        for said in [&told.because, told.matching.as_ref().expect("a match")] {
            assert!(page.contains(said.as_str()), "docs/routes.md: write {said}");
        }
    }

    #[test]
    fn of_several_distributions_one_has_to_be_named() {
        let question = |port| Question { port, ..Question::default() };
        let told = explain(&config(ROUTES).vipadynamic, &question(None)).expect_err("two have routes");
        assert!(told.contains("198.18.9.1 port 80, 198.18.9.1 port 6379"), "{told}");
        assert!(explain(&config(ROUTES).vipadynamic, &question(Some(81))).is_err());
    }
}
