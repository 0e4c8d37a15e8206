//! The scripts of `pktgen/` against a fake Pktgen, which fails if one breaks, calls what Pktgen has not, or finds another
//! rate than the fake forwards.

use std::process::Command;

#[test]
fn the_pktgen_scripts_find_what_a_fake_device_forwards() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let output = Command::new("lua5.4").arg("perf/pktgen/test/run.lua").current_dir(root).output();
    let output = output.unwrap_or_else(|e| panic!("lua5.4 (Debian: apt install lua5.4): {e}"));
    let (said, problem) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{problem}");
}
