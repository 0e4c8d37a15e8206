//! The cases are what `generate.py` writes, so that nobody's expectation is what our code once did.

use std::process::Command;

#[test]
fn f3_generating_the_cases_again_changes_nothing() {
    let root = env!("CARGO_MANIFEST_DIR");
    let python = || {
        let mut python = Command::new("/usr/bin/python3");
        python.env("PYTHONDONTWRITEBYTECODE", "1");
        python
    };
    let scapy = python().args(["-c", "import scapy"]).output().map(|o| o.status.success());
    if !matches!(scapy, Ok(true)) {
        println!("skipped: it needs the package python3-scapy");
        return;
    }
    let check = python().arg(format!("{root}/generate.py")).arg("--check").output().expect("Python starts");
    let said = [check.stdout, check.stderr].map(|s| String::from_utf8_lossy(&s).into_owned()).concat();
    assert!(check.status.success(), "{said}\nrun pcaps/generate.py, and look at what it changes");
}
