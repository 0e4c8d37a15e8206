//! What a match may ask for in which protocol, and in which form.

use model::route::{ClientProtocol, Match, Named, Pattern, Slots};

use crate::compile::MAX_TEXT;
use crate::{Mistake, Place};

/// Whether a match asks for what its protocol has.
pub(crate) fn fields(protocol: ClientProtocol, one: &Match, place: Place) -> Result<(), Mistake> {
    use ClientProtocol::{Http, Mqtt, Postgresql, Raw, Redis, Tls};
    let subject = match protocol {
        Http | Tls | Raw => "path",
        Postgresql => "database",
        Mqtt => "client_id",
        Redis => "key",
    };
    let asked: [(bool, &str, &[ClientProtocol]); 8] = [
        (one.subject.is_some(), subject, &[Http, Postgresql, Mqtt, Redis]),
        (one.method.is_some(), "method", &[Http]),
        (!one.headers.is_empty(), "headers", &[Http]),
        (!one.query_params.is_empty(), "query_params", &[Http]),
        (one.alpn.is_some(), "alpn", &[Tls]),
        (one.user.is_some(), "user", &[Postgresql, Mqtt]),
        (one.slots.is_some(), "slots", &[Redis]),
        (one.bytes.is_some(), "bytes", &[Raw]),
    ];
    if let Some((_, name, _)) = asked.iter().find(|(is, _, of)| *is && !of.contains(&protocol)) {
        let what = format!("a request of {protocol} has no `{name}`");
        return Err(Mistake::new(place, what, "remove it, or change `client_protocol`"));
    }
    if let Some(method) = one.method.as_ref().filter(|method| !is_token(method)) {
        let what = format!("`method`: \"{method}\" is not a method");
        return Err(Mistake::new(place, what, "write one such as \"GET\""));
    }
    if let Some(Named { name, .. }) = one.headers.iter().find(|header| !is_token(&header.name)) {
        let what = format!("`headers`: \"{name}\" is not the name of a header");
        return Err(Mistake::new(place, what, "write one such as \"x-version\""));
    }
    twice(&one.headers, "headers", |a, b| a.eq_ignore_ascii_case(b), place)?;
    twice(&one.query_params, "query_params", |a, b| a == b, place)?;
    if one.alpn.as_ref().is_some_and(|name| !(1..=255).contains(&name.len())) {
        let what = "`alpn` is not an application protocol of 1 to 255 bytes";
        return Err(Mistake::new(place, what, "write one such as \"h2\""));
    }
    if let Some(Slots { first, last }) =
        one.slots.filter(|slots| slots.first > slots.last || slots.last > Slots::MAX)
    {
        let what = format!("`slots`: {first} to {last} are not hash slots");
        return Err(Mistake::new(place, what, "write the first and the last of 0 to 16383"));
    }
    if one.slots.is_some() && one.subject.is_some() {
        return Err(Mistake::new(place, "`key` and `slots` both say which key", "make two matches of them"));
    }
    if one.bytes.as_ref().is_some_and(|bytes| bytes.is_empty() || bytes.len() > MAX_TEXT) {
        let what = format!("`bytes` has not 1 to {MAX_TEXT} bytes");
        return Err(Mistake::new(place, what, "write how the client's first bytes begin"));
    }
    Ok(())
}

/// Whether the subject has a form that requests can have.
pub(crate) fn subject(protocol: ClientProtocol, pattern: &Pattern, place: Place) -> Result<(), Mistake> {
    length(pattern, place)?;
    let (Pattern::Exact(text) | Pattern::Prefix(text)) = pattern else { return Ok(()) };
    if protocol != ClientProtocol::Http {
        return Ok(());
    }
    let wrong = |what: &str, fix: &str| Err(Mistake::new(place, format!("`path`: \"{text}\" {what}"), fix));
    if !text.starts_with('/') {
        return wrong("does not begin with `/`", "begin it with `/`");
    }
    if text.contains(['?', '#']) {
        return wrong(
            "is more than a path",
            "write what is before `?`; `query_params` are for what is behind it",
        );
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return wrong("has characters that no path has", "write them as %XX, as clients send them");
    }
    Ok(())
}

/// Whether a text is of a length that is compared.
pub(crate) fn length(pattern: &Pattern, place: Place) -> Result<(), Mistake> {
    let (Pattern::Exact(text) | Pattern::Prefix(text) | Pattern::RegularExpression(text)) = pattern;
    if text.len() > MAX_TEXT {
        let what = format!("a text of {} bytes is longer than {MAX_TEXT}", text.len());
        return Err(Mistake::new(place, what, "write a prefix or a regular expression that is shorter"));
    }
    Ok(())
}

fn twice(all: &[Named], key: &str, same: fn(&str, &str) -> bool, place: Place) -> Result<(), Mistake> {
    for (i, one) in all.iter().enumerate() {
        if all.iter().take(i).any(|other| same(&other.name, &one.name)) {
            let what = format!("`{key}` has {} twice", one.name);
            return Err(Mistake::new(place, what, "keep one: all that a match asks for has to hold"));
        }
    }
    Ok(())
}

/// RFC 9110 5.6.2.
fn is_token(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(good)
}
