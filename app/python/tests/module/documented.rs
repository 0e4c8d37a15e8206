//! The programs of docs/applications.md, and a client of theirs.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// An address that every machine has.
pub(crate) const DVIPA: &str = "127.0.0.1";
/// Nothing here takes that long unless it hangs.
const LONG: Duration = Duration::from_secs(20);

/// docs/applications.md
pub(crate) fn page() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/applications.md");
    fs::read_to_string(page).expect("the page")
}

/// The program that begins with `# NAME`, as a file.
pub(crate) fn program(name: &str, directory: &Path) -> PathBuf {
    let page = page();
    let begin = format!("```python\n# {name}\n");
    let text = page.split(&begin).nth(1).and_then(|rest| rest.split("```").next());
    let path = directory.join(name);
    fs::write(&path, text.unwrap_or_else(|| panic!("docs/applications.md has no {name}"))).expect("written");
    path
}

/// One request on a connection of its own, or on one that is kept.
pub(crate) fn ask(stream: &mut TcpStream, path: &str) -> String {
    finish(stream, &format!("GET {path} HTTP/1.1\r\nHost: dvipa\r\n\r\n"))
}

/// The answer to a request that ends with this.
pub(crate) fn finish(stream: &mut TcpStream, request: &str) -> String {
    stream.set_read_timeout(Some(LONG)).expect("set");
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
pub(crate) fn until(port: u16, path: &str, wanted: &str) -> TcpStream {
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

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let free = TcpListener::bind((DVIPA, 0)).expect("a port");
    free.local_addr().expect("an address").port()
}
