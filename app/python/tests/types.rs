//! The types that the package says it has, read by mypy and compared with what it has.

#[allow(dead_code)]
mod module;

use std::process::Command;

use module::Host;

/// Runs a tool of Debian's mypy in the directory with the package; `None`: it is not installed.
fn checked(host: &Host, tool: &str, arguments: &[&str]) -> Option<()> {
    let mut command = Command::new(tool);
    command.args(arguments).current_dir(host.path()).env("MYPYPATH", host.path());
    let output = match command.env("PYTHONPATH", host.path()).output() {
        Ok(output) => output,
        Err(cause) => {
            eprintln!("skipped: {tool}: {cause}: install Debian's mypy (scripts/packages)");
            return None;
        }
    };
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    Some(())
}

#[test]
fn the_package_has_the_types_that_it_says() {
    let host = Host::start();
    let version = ["--python-version", "3.9", "--strict"];
    checked(&host, "/usr/bin/mypy", &[&version[..], &["-p", "baton"]].concat());
    // What is written in Python has its types in itself.
    checked(&host, "/usr/bin/stubtest", &["baton._baton"]);
}

#[test]
fn a_program_that_passes_something_else_is_told_by_its_type_checker() {
    let host = Host::start();
    let program = host.path().join("program.py");
    let right = "import baton, socket\n\
        with baton.RoutingApplication('r', '198.18.9.1', [80]) as router:\n\
        \x20   for offer in router:\n\
        \x20       router.transfer(offer.accept(), 'a@t1', state=bytearray(), unacknowledged=5)\n";
    let wrong = "        router.transfer(offer, 'a@t1', state='text')\n";
    std::fs::write(&program, right).expect("written");
    if checked(&host, "/usr/bin/mypy", &["--strict", "program.py"]).is_none() {
        return;
    }
    std::fs::write(&program, [right, wrong].concat()).expect("written");
    let output = Command::new("/usr/bin/mypy").arg("program.py").current_dir(host.path()).output();
    let said = String::from_utf8_lossy(&output.expect("it runs").stdout).into_owned();
    assert!(said.contains(r#""transfer" of "Application" has incompatible type "Offer""#), "{said}");
    assert!(said.contains(r#""state" to "transfer" of "Application" has incompatible type "str""#), "{said}");
}
