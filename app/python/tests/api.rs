//! Every call from Python, in `programs/`.

#[allow(dead_code)]
mod module;

use std::path::Path;

use module::Host;

fn passes(program: &str) {
    let host = Host::start();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(program);
    let output = host.run(&program, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_call_works_from_python() {
    passes("api.py");
}

#[test]
fn every_call_works_in_asyncio() {
    passes("aio.py");
}
