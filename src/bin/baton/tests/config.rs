//! `baton config` against a running control thread.

use super::*;

const SHOP: &str = "vipadynamic.vipadistribute[address=198.18.9.1,ports=80]";

fn told(outcome: Result<String, Failure>) -> String {
    outcome.unwrap_or_else(|failure| failure.text())
}

#[test]
fn a_value_is_shown_set_and_taken_back() {
    let node = Node::start();
    assert_eq!(node.prints(&format!("config get {SHOP}.weights.t1")), "10\n");
    let all = node.prints("config get vipadynamic.vipadistribute.ports");
    assert!(
        all.contains(&format!("{SHOP}.ports = [80]\n")) && all.contains("ports=81].ports = [81]"),
        "{all}"
    );
    assert_eq!(node.prints("config get"), std::fs::read_to_string(node.files.file()).unwrap());

    let done = node.prints(&format!("config set {SHOP}.weights.t1 3"));
    assert!(done.contains("in force, configuration 2"), "{done}");
    assert!(done.contains(&format!("  {SHOP}.weights.t1: 10 -> 3\n")), "{done}");
    let history = node.prints("config history");
    let last = lines(&history, " set ");
    assert!(last[0].contains("weights.t1") && history.contains("start"), "{history}");
    assert!(node.prints("config history 1").contains("t1 = 10"));
    let done = node.prints("config rollback 1");
    assert!(done.contains("3 -> 10"), "{done}");
    assert!(node.prints("--json config history").contains("\"order\": \"rollback\""));

    let edited = std::fs::read_to_string(node.files.file()).unwrap().replace("t2 = 5", "t2 = 7");
    std::fs::write(node.files.file(), &edited).unwrap();
    let done = node.prints("config rollback 2");
    assert!(done.contains("by hand were overwritten:\n") && done.contains("weights.t2: 5 -> 7\n"), "{done}");
    assert!(done.contains("`baton config history 4` shows the file as it was"), "{done}");
    assert_eq!(node.prints("config history 4"), edited);
}

#[test]
fn what_is_wrong_is_told_with_what_to_write() {
    let node = Node::start();
    let near = told(node.baton(&format!("config set {SHOP}.wieghts.t1 3")));
    assert!(near.contains("the file would have 1 mistake, nothing changed"), "{near}");
    assert!(near.contains("did you mean `weights`?"), "{near}");
    let frozen = told(node.baton("config set cluster.heartbeat_ms 200"));
    assert!(frozen.contains("can't change while batond runs"), "{frozen}");
    let nowhere = told(node.baton("config get vipadynamic.vipadistribute[address=198.18.9.2]"));
    assert!(
        nowhere.contains("no table of") && nowhere.contains("[address=198.18.9.1,ports=80]"),
        "{nowhere}"
    );
    assert!(told(node.baton("config rollback 9")).contains("configuration 9 is not kept"));
}

#[test]
fn what_the_file_has_besides_is_told_by_key() {
    let node = Node::start();
    assert!(node.prints("config diff").contains("is in force as it is"));
    let text = std::fs::read_to_string(node.files.file()).unwrap();
    let edited = text.replace("t2 = 5", "t2 = 7").replace("web_hosts = [\"rt1.example\"]", "web_hosts = []");
    std::fs::write(node.files.file(), edited).unwrap();
    let Err(Failure::Shown(diff)) = node.baton("config diff") else { panic!("it differs") };
    assert!(diff.contains(&format!("{SHOP}.weights.t2: 5 -> 7\n")), "{diff}");
    assert!(diff.contains("admin.web_hosts: [\"rt1.example\"] -> []\n    needs a restart"), "{diff}");
    assert!(diff.contains("will refuse it: restart batond"), "{diff}");
}
