//! The counter service of `examples/counter/`, in C, as its own Makefile builds it. The client is a socket of Python's.

use std::path::Path;
use std::process::Command;

use lab::spec::DVIPA;
use lab::{Lab, Spec};

use crate::fixture::{SOON, lab};

/// Installs the C library that cargo has put beside this test, and builds the router and the target with it.
fn build(lab: &Lab) {
    let test = std::env::current_exe().expect("this test has a path");
    let libraries = test.parent().expect("it is in a directory");
    let prefix = lab.files().join("installed");
    let make = |directory: &str, words: &[String]| {
        let output = Command::new("make")
            .arg("-C")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory))
            .args(words)
            .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"))
            .output()
            .expect("make runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let (built, to) = (format!("BUILT={}", libraries.display()), format!("PREFIX={}", prefix.display()));
    make("app/c", &["install".to_owned(), built, to]);
    let found = format!("LDFLAGS=-Wl,-rpath,{}", prefix.join("lib").display());
    make("examples/counter", &[found, format!("OUT={}", lab.files().display())]);
}

/// C3, C4, C8, C11: the count goes with the connection from one host to the other and back to the router, which asks again; the
/// client sees one connection.
#[test]
#[ignore = "needs root"]
fn a_count_goes_with_its_connection_from_host_to_host_and_back() {
    let tables = lab::spec::ipv4_only(&["ports = [7000]\ndestip = \"all\"\ncontent_routed = true"]);
    let lab = lab(Spec::content_routed().vipadynamic(tables));
    build(&lab);
    let dvipa = DVIPA.0.to_string();
    let program = |name: &str| lab.files().join(name).display().to_string();
    let (router, target) = (program("counter-router"), program("counter-target"));
    lab.start_application("rt1", "router", &[&router, &dvipa, "7000"]).expect("the router starts");
    for (job, stack) in [("a", "t1"), ("b", "t2")] {
        lab.start_application(stack, job, &[&target, job, &dvipa, "7000"]).expect("a target starts");
    }
    lab.wait_for("the router and both targets", SOON, || {
        let rows = lab.dpt().map_err(|e| e.to_string())?;
        let states: Vec<_> = rows.iter().flat_map(|r| &r.targets).map(|t| t.state.as_str()).collect();
        let ready =
            states.contains(&"listening") && states.iter().filter(|s| **s == "transfer-only").count() == 2;
        if ready { Ok(()) } else { Err(format!("{states:?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));

    let at_client = lab.capture("client", "eth0", "tcp port 7000").expect("a capture");
    // A line is said when the one before is answered. The sum of a name's letters chooses the first of the targets.
    let script = format!(
        "import socket\n\
         s = socket.create_connection(('{dvipa}', 7000), 20)\n\
         answers = s.makefile('r')\n\
         print(answers.readline(), end='')\n\
         for said in ('alice\\none', 'move b@t2\\ntwo', 'move a@t1\\nthree', 'four', 'move a@t1', 'done', 'alice\\none'):\n\
         \x20   s.sendall((said + '\\n').encode())\n\
         \x20   print(answers.readline(), end='')\n"
    );
    let said = lab.client().run(&["python3", "-c", &script]).unwrap_or_else(|e| panic!("{e}"));
    let answers: Vec<&str> = said.lines().collect();
    let [asked, one, two, three, four, refused, again, anew] = answers[..] else { panic!("{answers:?}") };
    assert_eq!([one, two, three, four, anew], ["1", "2", "3", "4", "1"]);
    assert_eq!([asked, again], ["who are you?"; 2]);
    assert!(refused.contains("on the chosen stack already"), "a move within a stack is none: {refused}");
    let lines = at_client.stop().and_then(|c| c.packets("tcp port 7000")).expect("the capture ends");
    assert_eq!(lines.iter().filter(|l| l.contains("Flags [S]")).count(), 1, "one connection: {lines:#?}");
    let moved = lab.transfers().expect("baton stats answers")["restored"];
    assert_eq!(moved, 5, "to a, b, a, the router, a");
}
