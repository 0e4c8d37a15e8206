//! The programs of docs/applications.md, run as they stand there.

#[allow(dead_code)]
mod module;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use module::Host;

const DVIPA: &str = "127.0.0.1";
const LONG: Duration = Duration::from_secs(20);

fn page() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/applications.md");
    fs::read_to_string(page).expect("the page")
}

/// The program that begins with `# NAME`, as a file.
fn program(name: &str, directory: &Path) -> PathBuf {
    let page = page();
    let begin = format!("```python\n# {name}\n");
    let text = page.split(&begin).nth(1).and_then(|rest| rest.split("```").next());
    let path = directory.join(name);
    fs::write(&path, text.unwrap_or_else(|| panic!("docs/applications.md has no {name}"))).expect("written");
    path
}

/// One request on a connection of its own, or on one that is kept.
fn ask(stream: &mut TcpStream, path: &str) -> String {
    stream.set_read_timeout(Some(LONG)).expect("set");
    let request = format!("GET {path} HTTP/1.1\r\nHost: dvipa\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("asked");
    let mut answer = Vec::new();
    let mut byte = [0];
    // To the end of the body, which is one line, or of the head if there is none.
    while stream.read(&mut byte).expect("answered") == 1 {
        answer.push(byte[0]);
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && (head.contains("Content-Length: 0") || body.ends_with('\n'))
        {
            return text.into_owned();
        }
    }
    panic!("the connection ended after {:?}", String::from_utf8_lossy(&answer));
}

/// Asks until the answer is there; programs take a moment to start.
fn until(port: u16, path: &str, wanted: &str) -> TcpStream {
    let deadline = Instant::now() + LONG;
    loop {
        if let Ok(mut stream) = TcpStream::connect((DVIPA, port)) {
            let answer = ask(&mut stream, path);
            if answer.contains(wanted) {
                return stream;
            }
            assert!(Instant::now() < deadline, "{answer}");
        }
        assert!(Instant::now() < deadline, "nobody listens");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_router_of_the_documentation_routes_by_content() {
    let host = Host::start();
    let free = TcpListener::bind((DVIPA, 0)).expect("a port");
    let number = free.local_addr().expect("an address").port();
    let port = number.to_string();
    drop(free);
    let (router, target) = (program("router.py", host.path()), program("target.py", host.path()));
    let lines = fs::read_to_string(&router).expect("written").lines().count();
    assert!(lines <= 40, "the router of the documentation has {lines} lines: it is said to have some 40");

    let _router = host.spawn(&router, &[DVIPA, &port]);
    until(number, "/", "503 Service Unavailable");
    let _pages = host.spawn(&target, &["pages", DVIPA, &port]);
    let _images = host.spawn(&target, &["images", DVIPA, &port]);
    let mut pages = until(number, "/index.html", "pages has /index.html");
    let mut images = until(number, "/images/1.png", "images has /images/1.png");
    // The connections are kept: the targets answer, and the router is out of the way.
    assert!(ask(&mut pages, "/2").contains("pages has /2"));
    assert!(ask(&mut images, "/2").contains("images has /2"));
}

#[test]
fn every_refusal_is_in_the_documentation() {
    let page = page();
    for refusal in app::Refusal::ALL {
        let fault = format!("{:?}", refusal.fault()).to_lowercase();
        let line = format!("| {} | `{}` | {fault} | {refusal} |", refusal.number(), refusal.name());
        assert!(page.contains(&line), "docs/applications.md: write the line\n{line}");
    }
}
