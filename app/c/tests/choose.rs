//! A program in C that leaves the choice of a target to the cluster.

#[allow(dead_code)]
mod build;

use agent::control_socket::fake::FakeStack;

/// C16: what is chosen, and what it is chosen from.
#[test]
fn a_target_is_chosen_and_its_weight_and_load_are_shown() {
    let directory = tempfile::tempdir().expect("a directory");
    let installed = build::install(&directory.path().join("installed"));
    let program = directory.path().join("choose");
    installed.compile("gcc", &["-std=c99"], &build::root().join("app/c/tests/programs/choose.c"), &program);
    let stack = FakeStack::start(&directory.path().join("applications.sock")).expect("a stack");
    let output =
        build::command(&program).env("BATON_CONTROL_SOCKET", stack.path()).output().expect("it runs");
    let wanted = "one@here\ntwo@here\ntwo@here\ntwo@here\nnone\n\
                  one@here 1 1 1 7 1 250\ntwo@here 1 1 1 7 1 250\n";
    assert_eq!(build::said(&output), wanted);
}
