//! Every call from Python, in `programs/api.py`.

#[allow(dead_code)]
mod module;

use std::path::Path;

use module::Host;

#[test]
fn every_call_works_from_python() {
    let host = Host::start();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/api.py");
    let output = host.run(&program, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
