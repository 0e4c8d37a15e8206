//! The programs of docs/applications.md, run as they stand there.

#[allow(dead_code)]
mod module;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use module::Host;
use module::documented::{DVIPA, ask, finish, free_port, page, program, until};

#[test]
fn the_router_of_the_documentation_routes_by_content() {
    let host = Host::start();
    let number = free_port();
    let port = number.to_string();
    program("request.py", host.path());
    let (router, target) = (program("router.py", host.path()), program("target.py", host.path()));
    let lines = fs::read_to_string(&router).expect("written").lines().count();
    assert!(lines <= 42, "the router of the documentation has {lines} lines: it is said to have some 40");

    let _router = host.spawn(&router, &[DVIPA, &port]);
    until(number, "/", "503 Service Unavailable");
    let _pages = host.spawn(&target, &["pages", DVIPA, &port]);
    let _images = host.spawn(&target, &["images", DVIPA, &port]);
    let mut pages = until(number, "/index.html", "pages has /index.html");
    let mut images = until(number, "/images/1.png", "images has /images/1.png");
    // The connections are kept: the targets answer, and the router is out of the way.
    assert!(ask(&mut pages, "/2").contains("pages has /2"));
    assert!(ask(&mut images, "/images/2").contains("images has /images/2"));
    // Until the client wants something else.
    for path in ["/3", "/images/4", "/5"] {
        let wanted = if path.starts_with("/images/") { "images" } else { "pages" };
        for stream in [&mut pages, &mut images] {
            let answer = ask(stream, path);
            assert!(answer.ends_with(&format!("{wanted} has {path}\n")), "{answer}");
        }
    }
    // And however its request comes.
    let mut slow = TcpStream::connect((DVIPA, number)).expect("connected");
    for piece in ["GET /ima", "ges/6 HTTP/1.1\r\nHo", "st: dvipa\r\n\r"] {
        slow.write_all(piece.as_bytes()).expect("sent");
        thread::sleep(Duration::from_millis(300));
    }
    let answer = finish(&mut slow, "\n");
    assert!(answer.ends_with("images has /images/6\n"), "{answer}");
}

#[test]
fn every_refusal_is_in_the_documentation() {
    let page = page();
    for refusal in app::Refusal::ALL {
        let (number, word, blame) = (refusal.number(), refusal.name(), refusal.blame().word());
        let line = format!("| {number} | `{word}` | {blame} | {refusal} |");
        assert!(page.contains(&line), "docs/applications.md: write the line\n{line}");
    }
}
