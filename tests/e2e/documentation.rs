//! The Python programs of docs/applications.md, run in a cluster as they stand there.

use std::fs;
use std::path::Path;

use lab::spec::DVIPA;
use lab::{Lab, Spec};

use crate::fixture::{SOON, lab};

/// Debian's own Python.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// C1, C2, C3, C8: some 40 lines of Python route clients to programs on other hosts that know nothing of it.
#[test]
#[ignore = "needs root"]
fn the_router_of_the_documentation_routes_in_a_cluster() {
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
        let url = format!("http://{dvipa}{path}");
        lab.wait_for(wanted.trim(), SOON, || {
            let answer =
                lab.client().run(&["curl", "-sS", "--max-time", "5", &url]).map_err(|e| e.to_string())?;
            if answer == wanted { Ok(()) } else { Err(answer) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
        let twice = lab.client().run(&["curl", "-sS", "--max-time", "5", &url, &url]);
        assert_eq!(twice.expect("curl is answered"), wanted.repeat(2), "on the same connection");
    }
}

/// The program of the page that begins with `# FILE`, as a file.
pub(crate) fn program(lab: &Lab, file: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/applications.md");
    let page = fs::read_to_string(page).expect("the page");
    let begin = format!("```python\n# {file}\n");
    let text = page.split(&begin).nth(1).and_then(|rest| rest.split("```").next());
    let path = lab.files().join(file);
    fs::write(&path, text.expect("the page has the program")).expect("written");
    path.to_string_lossy().into_owned()
}

/// Where Python finds the module, as app/python/install makes it.
pub(crate) fn module(lab: &Lab) -> String {
    let test = std::env::current_exe().expect("this test has a path");
    let library = test.with_file_name("libbaton_python.so");
    let directory = lab.files().join("python");
    fs::create_dir_all(&directory).expect("a directory");
    let copied = fs::copy(&library, directory.join("baton.abi3.so"));
    copied.unwrap_or_else(|e| panic!("{}: {e}: cargo build -p baton-app-python", library.display()));
    format!("PYTHONPATH={}", directory.display())
}
