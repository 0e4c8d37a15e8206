//! Random requests: most as clients write them, some that differ in a byte or two, and the segments that they come in.

use std::ops::Range;

use fastrand::Rng;

use crate::rules::{choose, host, method, path, value};

/// A whole request, or what was one before it was changed.
pub(crate) fn request(rng: &mut Rng) -> Vec<u8> {
    let mut request = good(rng);
    if rng.u8(..5) == 0 {
        for _ in 0..rng.usize(1..3) {
            change(&mut request, rng);
        }
    }
    request
}

/// A request as RFC 9112 has it.
fn good(rng: &mut Rng) -> Vec<u8> {
    let (method, path) = (method(rng), path(rng));
    let mut host = host(rng);
    if rng.u8(..8) == 0 {
        host.make_ascii_uppercase();
    }
    if rng.u8(..8) == 0 {
        host.push_str(":80");
    }
    let target = match rng.u8(..12) {
        0 => format!("http://{host}{path}{}", query(rng)),
        _ => format!("{path}{}", query(rng)),
    };
    let version = if rng.u8(..10) == 0 { "HTTP/1.0" } else { "HTTP/1.1" };
    let body = if method == "POST" { "q".repeat(rng.usize(..600)) } else { String::new() };
    let mut lines = vec![line("Host", &host, rng)];
    for name in ["X-X", "x-y", "X-X"] {
        if rng.u8(..3) == 0 {
            let value = value(rng);
            lines.push(line(name, value, rng));
        }
    }
    for (name, value) in
        [("Accept", "*/*"), ("Cookie", "a=1; x-x=2"), ("X-XX", "1"), ("Empty", ""), ("Connection", "close")]
    {
        if rng.u8(..4) == 0 {
            lines.push(line(name, value, rng));
        }
    }
    if rng.u8(..10) == 0 {
        lines.push(line("Cookie", &"c".repeat(rng.usize(..3000)), rng));
    }
    if !body.is_empty() {
        lines.push(line("Content-Length", &body.len().to_string(), rng));
    }
    rng.shuffle(&mut lines);
    format!("{method} {target} {version}\r\n{}\r\n{body}", lines.concat()).into_bytes()
}

fn line(name: &str, value: &str, rng: &mut Rng) -> String {
    let name = if rng.u8(..4) == 0 { name.to_ascii_lowercase() } else { name.to_owned() };
    let space = choose(&["", " ", " ", " ", "\t", "  "], rng);
    format!("{name}:{space}{value}{}\r\n", choose(&["", "", "", " "], rng))
}

fn query(rng: &mut Rng) -> String {
    let one = |rng: &mut Rng| {
        let value = value(rng);
        let value = match rng.u8(..4) {
            0 => value.bytes().map(|byte| format!("%{byte:02x}")).collect(),
            _ => value.replace(' ', choose(&["+", "%20"], rng)),
        };
        format!("{}={value}", choose(&["qx", "qy", "qxx", "x"], rng))
    };
    let params: Vec<_> = (0..rng.usize(..3)).map(|_| one(rng)).collect();
    if params.is_empty() { String::new() } else { format!("?{}", params.join("&")) }
}

/// Changes a few bytes of the head.
fn change(request: &mut Vec<u8>, rng: &mut Rng) {
    let head = request.windows(4).position(|end| end == b"\r\n\r\n").map_or(request.len(), |end| end + 2);
    let at = rng.usize(..head.max(1)).min(request.len() - 1);
    match rng.u8(..5) {
        0 => request[at] = choose(b" \t:\r\n\0/?&=.#a\x7f\xe9", rng),
        1 => request.insert(at, choose(b" \t:\r\n\0/?&=.#a", rng)),
        2 => drop(request.remove(at)),
        // A line twice, or one of a few that servers trip over, in the place of another's beginning.
        3 => {
            let lines = [
                "Host: b\r\n",
                "Content-Length: 3\r\n",
                "X-X : 1\r\n",
                " folded\r\n",
                "Transfer-Encoding: chunked\r\n",
                "x_x: 1\r\n",
            ];
            let starts: Vec<_> = request[..head]
                .windows(2)
                .enumerate()
                .filter(|(_, end)| *end == b"\r\n")
                .map(|(at, _)| at + 2)
                .collect();
            if !starts.is_empty() {
                let start = choose(&starts, rng);
                request.splice(start..start, choose(&lines, rng).bytes());
            }
        }
        // Or the end of a line is LF alone.
        _ => {
            let ends: Vec<_> = request[..head]
                .windows(2)
                .enumerate()
                .filter(|(_, end)| *end == b"\r\n")
                .map(|(at, _)| at)
                .collect();
            if !ends.is_empty() {
                let end = choose(&ends, rng);
                request.remove(end);
            }
        }
    }
}

/// How so many bytes are cut: up to ten segments, none longer than a client's. Some begin before the former ends.
pub(crate) fn segments(length: usize, rng: &mut Rng) -> Vec<Range<usize>> {
    let cuts = if rng.bool() { 0 } else { rng.usize(..10) };
    let mut ends: Vec<_> = (0..cuts).map(|_| rng.usize(1..=length)).chain([length]).collect();
    ends.extend((1..length.div_ceil(1200)).map(|n| n * 1200));
    ends.sort_unstable();
    ends.dedup();
    let starts = [0].into_iter().chain(ends.clone());
    starts
        .zip(&ends)
        .map(
            |(start, end)| {
                if rng.u8(..6) == 0 { start.saturating_sub(rng.usize(..20))..*end } else { start..*end }
            },
        )
        .collect()
}
