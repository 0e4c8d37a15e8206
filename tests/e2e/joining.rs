//! Stacks that come later.

use lab::{Spec, Web};

use crate::fixture::{lab, web4};

/// W11: DESTIP ALL includes a stack that joins later, with no change at the routing stack.
#[test]
#[ignore = "needs root"]
fn a_stack_that_joins_later_is_a_target_of_destip_all() {
    let spec = Spec { targets: 2, ..Spec::default() }.web(["t1", "t2"].map(Web::wildcard));
    let mut lab = lab(spec);
    let newcomer = lab.join().expect("a host joins");
    lab.start_web(&newcomer).expect("nginx starts");
    lab.wait_for_targets(80, &["t1", "t2", "t3"]).expect("the newcomer is a target");
    let answers = lab::client::ask_often(lab.client(), web4(), 9);
    assert_eq!(
        answers.into_iter().collect::<Vec<_>>(),
        [("t1".into(), 3), ("t2".into(), 3), ("t3".into(), 3)]
    );
}
