//! Whether a server that is not asked is between two answers, by what was noted of its last one. Pure.
//!
//! Only HTTP/1.x says where an answer ends (RFC 9112 6.3) and promises that the next request stands for itself (RFC 9110 3.3).
//! Of anything else it can't be seen, and of TLS it is known that no other server has the keys.

use std::cmp::Ordering;

use transfer::host::Stand;

use crate::system::conversations::{Answers, Conversation};

/// Headers of a request or an answer that are read at most.
const MOST_HEADERS: usize = 64;
/// How a body in chunks ends: the end of the last chunk, then one of length 0 (RFC 9112 7.1). Trailers are not recognised, and a
/// server that pauses where the bytes within a chunk look like this is taken for one that has ended.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// Where they stand. `received`: how many bytes the socket has taken, which counts those of the packet that has completed the
/// handshake: that one passes the listener, and is not noted.
pub(super) fn stand(of: &Conversation, received: u64) -> Stand {
    let taken = of.received_begin.map(|begin| begin.wrapping_add(received as u32));
    let is_answered = [of.received_end, taken].into_iter().flatten().all(|end| end == of.answered_end);
    match of.answers {
        Answers::Tls => Stand::Encrypted,
        Answers::Another => Stand::Another,
        Answers::None if of.received_begin.is_none() => Stand::Unseen,
        Answers::None if is_answered => Stand::Fresh,
        Answers::None => asked(of),
        Answers::Http if of.is_interleaved => Stand::Unseen,
        Answers::Http => match answer(of) {
            Stand::Between | Stand::Presumed if !is_answered => asked(of),
            stand => stand,
        },
    }
}

/// The client has said something since the last answer began.
fn asked(of: &Conversation) -> Stand {
    let said = of.received_end.map_or(0, |end| end.wrapping_sub(of.request_begin));
    match request_bytes(of) {
        Some(whole) if u64::from(said) < whole => Stand::Asking,
        _ => Stand::Asked,
    }
}

/// How long the noted request is, with its body; `None` if that can't be seen.
fn request_bytes(of: &Conversation) -> Option<u64> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(&of.request).ok()? else { return None };
    let body = match Framing::of(request.headers)? {
        Framing::Length(length) => length,
        Framing::Unsaid => 0,
        Framing::Chunked => return None,
    };
    u64::try_from(head).ok()?.checked_add(body)
}

/// How far the last answer is.
fn answer(of: &Conversation) -> Stand {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(head)) = response.parse(&of.response) else { return Stand::Unseen };
    let (Some(status), Some(framing)) = (response.code, Framing::of(response.headers)) else {
        return Stand::Unseen;
    };
    let is_head = of.request.starts_with(b"HEAD ");
    let body = match (status, framing) {
        (101, _) => return Stand::Another,
        (100..=199, _) => return Stand::Asked,
        (200..=299, _) if of.request.starts_with(b"CONNECT ") => return Stand::Another,
        (204 | 304, _) => Framing::Length(0),
        _ if is_head => Framing::Length(0),
        (_, framing) => framing,
    };
    let sent = of.sent_end.wrapping_sub(of.response_begin);
    let head = u32::try_from(head).unwrap_or(u32::MAX);
    let is_whole = match body {
        // Of a request that was not seen it is not known whether its answer has a body.
        Framing::Length(length) => match (u64::from(head).saturating_add(length), u64::from(sent)) {
            (whole, sent) if sent < whole => false,
            (whole, sent) if sent == whole => true,
            _ => return Stand::Unseen,
        },
        Framing::Chunked => sent > head && of.tail.ends_with(LAST_CHUNK),
        // It ends with the connection.
        Framing::Unsaid => return Stand::Closing,
    };
    match (is_whole, closes(response.version, response.headers) || wants_close(of)) {
        (false, _) => Stand::Answering,
        (true, true) => Stand::Closing,
        (true, false) => match asked_when_answered(of) {
            Some(Ordering::Less) => Stand::Asking,
            Some(Ordering::Equal) => Stand::Between,
            Some(Ordering::Greater) => Stand::Asked,
            None => Stand::Presumed,
        },
    }
}

/// Whether the client had sent less than a request when the answer began (its body still comes), one, or more (pipelining). `None`: the
/// request's head is longer than the note, or its body is in chunks.
fn asked_when_answered(of: &Conversation) -> Option<Ordering> {
    let said = of.answered_end.wrapping_sub(of.request_begin);
    request_bytes(of).map(|whole| u64::from(said).cmp(&whole))
}

/// Whether the client has asked for the connection to be closed after the answer.
fn wants_close(of: &Conversation) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    // Of a head that is longer than the note, what is noted counts.
    let is_read = request.parse(&of.request).is_ok() && request.version.is_some();
    let seen: Vec<_> = request.headers.iter().copied().take_while(|header| !header.name.is_empty()).collect();
    is_read && closes(request.version, &seen)
}

/// Whether the connection is closed after the message with this version and these headers (RFC 9112 9.3).
fn closes(version: Option<u8>, headers: &[httparse::Header<'_>]) -> bool {
    let has = |option: &str| {
        values(headers, "connection")
            .any(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case(option)))
    };
    has("close") || (version != Some(1) && !has("keep-alive"))
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    Unsaid,
}

impl Framing {
    /// `None`: the headers contradict each other, or are not understood.
    fn of(headers: &[httparse::Header<'_>]) -> Option<Self> {
        if let Some(coding) = values(headers, "transfer-encoding").last() {
            let last = coding.rsplit(',').next().unwrap_or_default().trim();
            return last.eq_ignore_ascii_case("chunked").then_some(Self::Chunked);
        }
        let mut lengths = values(headers, "content-length");
        let Some(first) = lengths.next() else { return Some(Self::Unsaid) };
        let is_one = lengths.all(|length| length == first);
        first.trim().parse().ok().filter(|_| is_one).map(Self::Length)
    }
}

fn values<'a>(headers: &'a [httparse::Header<'a>], name: &'a str) -> impl Iterator<Item = &'a str> {
    let named = headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    named.filter_map(|header| std::str::from_utf8(header.value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A conversation of these requests, which came before the first of these answers; the last answer is noted as far as it was
    /// sent. `then`: bytes of the client that came afterwards.
    fn said(requests: &str, answer: &str, then: u32) -> Conversation {
        let (client, server) = (u32::MAX - 20, u32::MAX - 100);
        let length = |text: &str| u32::try_from(text.len()).unwrap();
        let answered_end = client.wrapping_add(length(requests));
        let mut tail = [0; 8];
        for byte in answer.bytes() {
            tail.rotate_left(1);
            tail[7] = byte;
        }
        Conversation {
            sent_end: server.wrapping_add(length(answer)),
            received_end: Some(answered_end.wrapping_add(then)),
            answered_end,
            request_begin: client,
            response_begin: server,
            answers: if answer.is_empty() { Answers::None } else { Answers::Http },
            received_begin: Some(client),
            is_interleaved: false,
            tail,
            request: requests.bytes().take(160).collect(),
            response: answer.bytes().take(768).collect(),
        }
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    /// Where they stand when the socket has taken what is noted.
    fn stand(of: &Conversation) -> Stand {
        let taken = of.received_end.zip(of.received_begin).map_or(0, |(end, begin)| end.wrapping_sub(begin));
        super::stand(of, taken.into())
    }

    fn after(request: &str, answer: &str) -> Stand {
        stand(&said(request, answer, 0))
    }

    #[test]
    fn a_request_that_came_with_the_end_of_the_handshake_was_not_noted_and_is_owed_an_answer() {
        let fresh = said("", "", 0);
        assert_eq!(super::stand(&fresh, 0), Stand::Fresh);
        assert_eq!(super::stand(&fresh, 60), Stand::Asked);
        assert_eq!(super::stand(&fresh, (1 << 32) + 60), Stand::Asked);
    }

    #[test]
    fn an_answer_of_known_length_ends_with_its_last_byte() {
        let answer = "HTTP/1.1 200 OK\r\nServer: nginx\r\ncontent-length: 5\r\n\r\nhello";
        assert_eq!(after(GET, answer), Stand::Between);
        assert_eq!(after(GET, &answer[..answer.len() - 1]), Stand::Answering);
        assert_eq!(after(GET, &format!("{answer}!")), Stand::Unseen, "more than one answer");
        assert_eq!(after(GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"), Stand::Between);
        assert_eq!(after(GET, "HTTP/1.1 204 No Content\r\n\r\n"), Stand::Between);
    }

    #[test]
    fn an_answer_in_chunks_ends_with_an_empty_one() {
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        assert_eq!(after(GET, answer), Stand::Between);
        assert_eq!(after(GET, &answer[..answer.len() - 5]), Stand::Answering);
        let head = &answer[..answer.find("5\r\n").unwrap()];
        assert_eq!(after(GET, head), Stand::Answering);
        assert_eq!(after(GET, &format!("{head}0\r\n\r\n")), Stand::Between);
    }

    #[test]
    fn the_answer_to_head_has_no_body_and_that_to_nothing_seen_may_have_one() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(after(&GET.replace("GET", "HEAD"), head), Stand::Between);
        assert_eq!(after("", head), Stand::Answering);
    }

    #[test]
    fn a_connection_that_ends_with_its_answer_is_closing() {
        let with = |first: &str, header: &str| after(GET, &format!("{first} 200 OK\r\n{header}\r\n\r\n"));
        assert_eq!(with("HTTP/1.1", "Content-Length: 0\r\nConnection: close"), Stand::Closing);
        assert_eq!(with("HTTP/1.1", "Server: a"), Stand::Closing);
        assert_eq!(with("HTTP/1.0", "Content-Length: 0"), Stand::Closing);
        assert_eq!(with("HTTP/1.0", "Content-Length: 0\r\nConnection: Keep-Alive"), Stand::Between);
    }

    #[test]
    fn a_client_that_has_said_more_is_owed_an_answer() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(stand(&said(GET, answer, 9)), Stand::Asked);
        assert_eq!(after(&GET.repeat(2), answer), Stand::Asked, "pipelined");
        assert_eq!(after(GET, "HTTP/1.1 100 Continue\r\n\r\n"), Stand::Asked);
    }

    #[test]
    fn a_request_whose_body_is_not_whole_is_still_being_asked() {
        let head = "PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\n";
        let asking = |requests: &str| {
            let whole = said(requests, "", 0);
            stand(&Conversation { answered_end: whole.request_begin, ..whole })
        };
        assert_eq!(asking(&format!("{head}hell")), Stand::Asking);
        assert_eq!(asking(&format!("{head}hello")), Stand::Asked);
        assert_eq!(asking("GET / HT"), Stand::Asked);
    }

    #[test]
    fn an_answer_before_the_request_is_whole_leaves_the_client_asking() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let put = "PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(after(&format!("{put}hell"), answer), Stand::Asking);
        assert_eq!(after(&format!("{put}hello"), answer), Stand::Between);
    }

    #[test]
    fn a_client_that_wants_the_connection_closed_is_not_moved() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(after("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", answer), Stand::Closing);
        assert_eq!(after("GET / HTTP/1.0\r\n\r\n", answer), Stand::Closing);
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {}\r\n\r\n", "c".repeat(200));
        assert_eq!(after(&long, answer), Stand::Presumed);
    }

    #[test]
    fn a_client_that_has_pipelined_is_not_understood_any_more() {
        let of = said(GET, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0);
        assert_eq!(stand(&Conversation { is_interleaved: true, ..of }), Stand::Unseen);
    }

    #[test]
    fn what_is_not_http_is_told_apart_from_what_was_not_seen() {
        let fresh = said("", "", 0);
        assert_eq!(stand(&fresh), Stand::Fresh);
        assert_eq!(stand(&Conversation { received_begin: None, ..fresh.clone() }), Stand::Unseen);
        for (answers, expected) in [(Answers::Tls, Stand::Encrypted), (Answers::Another, Stand::Another)] {
            assert_eq!(stand(&Conversation { answers, ..fresh.clone() }), expected);
        }
        assert_eq!(
            after(GET, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"),
            Stand::Another
        );
        let cut = format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: {}\r\n\r\nhello", "x".repeat(800));
        assert_eq!(after(GET, &cut), Stand::Unseen);
        assert_eq!(
            after(GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
            Stand::Unseen
        );
    }
}
