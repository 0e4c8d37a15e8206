//! The Python programs of docs/applications.md, run in a cluster as they stand there, and the HTTP example beside them.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use lab::client::HttpConnection;
use lab::spec::DVIPA;
use lab::{Lab, Spec};

use crate::fixture::{SOON, lab, web4};

/// Debian's own Python.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// A lab with the documented programs: the router, and a target for each job on a host of its own.
fn documented() -> Lab {
    let tables = lab::spec::ipv4_only(&["ports = [80]\ndestip = \"all\"\ncontent_routed = true"]);
    let lab = lab(Spec::content_routed().vipadynamic(tables));
    let dvipa = DVIPA.0.to_string();
    let modules = module(&lab);
    let start = |stack, name, file, words: &[&str]| {
        let path = program(&lab, file);
        let words = [&["/usr/bin/env", &modules, PYTHON, &path], words].concat();
        lab.start_application(stack, name, &words).expect("Python starts");
    };
    start("rt1", "router", "router.py", &[&dvipa, "80"]);
    start("t1", "pages", "target.py", &["pages", &dvipa, "80"]);
    start("t2", "images", "target.py", &["images", &dvipa, "80"]);
    for (path, wanted) in
        [("/index.html", "pages has /index.html\n"), ("/images/1.png", "images has /images/1.png\n")]
    {
        until_answered(&lab, path, wanted);
    }
    lab
}

fn until_answered(lab: &Lab, path: &str, wanted: &str) {
    let url = format!("http://{}{path}", DVIPA.0);
    lab.wait_for(wanted.trim(), SOON, || {
        let answer =
            lab.client().run(&["curl", "-sS", "--max-time", "5", &url]).map_err(|e| e.to_string())?;
        if answer == wanted { Ok(()) } else { Err(answer) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// C1, C2, C3, C8: some 40 lines of Python route clients to programs on other hosts that know nothing of it.
#[test]
#[ignore = "needs root"]
fn the_router_of_the_documentation_routes_in_a_cluster() {
    let lab = documented();
    for (path, wanted) in
        [("/index.html", "pages has /index.html\n"), ("/images/1.png", "images has /images/1.png\n")]
    {
        let url = format!("http://{}{path}", DVIPA.0);
        let twice = lab.client().run(&["curl", "-sS", "--max-time", "5", &url, &url]);
        assert_eq!(twice.expect("curl is answered"), wanted.repeat(2), "on the same connection");
    }
}

/// C3, C8, C11: the documented programs answer each request of a connection where it belongs, also one that comes in pieces.
#[test]
#[ignore = "needs root"]
fn each_request_of_the_documented_programs_goes_where_it_belongs() {
    each_request_goes_where_it_belongs(&documented(), ["pages", "images"]);
}

/// C3, C8, C11: the same of the HTTP example.
#[test]
#[ignore = "needs root"]
fn each_request_of_the_http_example_goes_where_it_belongs() {
    let tables = lab::spec::ipv4_only(&["ports = [80]\ndestip = \"all\"\ncontent_routed = true"]);
    let lab = lab(Spec::content_routed().vipadynamic(tables));
    let (dvipa, rules) = (DVIPA.0.to_string(), ["--", "images=path:/images/", "files"]);
    let start = |stack, name, words: &[&str]| {
        let words = [&["http"], words, &["80", &dvipa], &rules[..]].concat();
        lab.start_application(stack, name, &words).expect("the example starts");
    };
    start("rt1", "router", &["router"]);
    start("t1", "files", &["target", "files"]);
    start("t2", "images", &["target", "images"]);
    until_answered(&lab, "/1", "files@t1 has /1\n");
    until_answered(&lab, "/images/1", "images@t2 has /images/1\n");
    each_request_goes_where_it_belongs(&lab, ["files@t1", "images@t2"]);
}

/// Registers for what there is not, and says what it was told.
const MISTAKEN: &str = "
import sys, baton
kinds = {'router': baton.RoutingApplication, 'target': baton.TargetApplication}
for kind, dvipa, port in (word.split(',') for word in sys.argv[1:]):
    try:
        kinds[kind]('mistaken', dvipa, [int(port)]).close()
        print(kind, 'registered', flush=True)
    except baton.Refused as refusal:
        print(kind, refusal.reason, f'({dvipa}' in str(refusal), flush=True)
";

/// C1: an application that registers for what is not distributed, not by content, or no DVIPA is told so at once, and what is
/// missing.
#[test]
#[ignore = "needs root"]
fn a_registration_for_what_there_is_not_is_refused_at_once() {
    let services =
        ["ports = [80]\ndestip = \"all\"\ncontent_routed = true", "ports = [81]\ndestip = \"all\""];
    let lab = lab(Spec::content_routed().vipadynamic(lab::spec::ipv4_only(&services)));
    let dvipa = DVIPA.0;
    let words = ["router,80", "router,81", "target,81", "target,82", "router,82"]
        .map(|word| word.replace(',', &format!(",{dvipa},")));
    let words: Vec<&str> = words.iter().map(String::as_str).chain(["target,192.0.2.1,80"]).collect();
    let modules = module(&lab);
    let words = [&["/usr/bin/env", &modules, PYTHON, "-c", MISTAKEN], &words[..]].concat();
    lab.start_application("rt1", "mistaken", &words).expect("Python starts");
    let wanted = "router registered\nrouter not_content_routed True\ntarget registered\n\
                  target not_distributed True\nrouter not_distributed True\ntarget not_a_dvipa True\n";
    lab.wait_for("its answers", SOON, || {
        let log = fs::read_to_string(lab.files().join("mistaken.log")).map_err(|e| e.to_string())?;
        if log == wanted { Ok(()) } else { Err(log) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

fn each_request_goes_where_it_belongs(lab: &Lab, [others, images]: [&str; 2]) {
    let wanted = |path: &str| {
        let who = if path.starts_with("/images/") { images } else { others };
        format!("{who} has {path}\n")
    };
    let mut connection = HttpConnection::open(lab.client(), web4()).expect("connected");
    for path in ["/a", "/images/1", "/images/2", "/b", "/images/3"] {
        let answer = connection.get(path).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(String::from_utf8_lossy(&answer), wanted(path));
    }
    let mut stream = HttpConnection::open(lab.client(), web4()).expect("connected").into_stream();
    for path in ["/images/4", "/c", "/images/5"] {
        let (begin, rest) = path.split_at(path.len().min(4));
        for piece in [&format!("GET {begin}"), &format!("{rest} HTTP/1.1\r\nHo"), "st: dvipa\r\n\r", "\n"] {
            stream.write_all(piece.as_bytes()).expect("sent");
            sleep(Duration::from_millis(300));
        }
        let answer = until_ends_with(&mut stream, "has ", '\n');
        assert!(answer.ends_with(&wanted(path)), "{path}: {answer}");
    }
}

/// What comes until there is this text, and after it this end.
fn until_ends_with(stream: &mut std::net::TcpStream, text: &str, end: char) -> String {
    stream.set_read_timeout(Some(SOON)).expect("set");
    let mut answer = String::new();
    while !(answer.contains(text) && answer.ends_with(end)) {
        let mut piece = [0; 1000];
        let bytes = stream.read(&mut piece).unwrap_or_else(|e| panic!("{e} after {answer:?}"));
        assert!(bytes > 0, "ended after {answer:?}");
        answer += &String::from_utf8_lossy(&piece[..bytes]);
    }
    answer
}

/// The program of the page that begins with `# FILE`, as a file, beside what it imports.
pub(crate) fn program(lab: &Lab, file: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/applications.md");
    let page = fs::read_to_string(page).expect("the page");
    let [path, _] = [file, "request.py"].map(|file| {
        let begin = format!("```python\n# {file}\n");
        let text = page.split(&begin).nth(1).and_then(|rest| rest.split("```").next());
        let path = lab.files().join(file);
        fs::write(&path, text.expect("the page has the program")).expect("written");
        path
    });
    path.to_string_lossy().into_owned()
}

/// Where Python finds the package, as app/python/install puts it.
pub(crate) fn module(lab: &Lab) -> String {
    let test = std::env::current_exe().expect("this test has a path");
    let library = test.with_file_name("libbaton_python.so");
    let directory = lab.files().join("python");
    let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("app/python/install");
    let output = Command::new(install).arg(&directory).arg(&library).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}: cargo build -p baton-app-python");
    format!("PYTHONPATH={}", directory.display())
}
