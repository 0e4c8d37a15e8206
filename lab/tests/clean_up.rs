//! What a lab makes is gone with its owner, however the owner ends.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use baton_lab::fabric::Fabric;
use baton_lab::registry::{self, Record};
use baton_lab::spec::{CLIENT, Spec};

fn namespaces_of(id: &str) -> Vec<String> {
    let output = Command::new("ip").args(["netns", "list"]).output().expect("ip runs");
    let all = String::from_utf8_lossy(&output.stdout).into_owned();
    all.lines().filter(|l| l.starts_with(&format!("bt-{id}-"))).map(str::to_owned).collect()
}

#[test]
#[ignore = "needs root"]
fn hosts_of_a_segment_reach_each_other_and_are_gone_after_the_drop() {
    let record = Record::open().expect("a record");
    let id = record.id().to_owned();
    let fabric = Fabric::build(&Spec::default(), &record).expect("a fabric");
    fabric.host("t1").run(&["ping", "-c1", "-W2", &CLIENT.0.to_string()]).expect("IPv4 passes");
    fabric.host("t1").run(&["ping", "-c1", "-W2", &CLIENT.1.to_string()]).expect("IPv6 passes");
    assert_eq!(namespaces_of(&id).len(), 6);
    drop(record);
    assert_eq!(namespaces_of(&id), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn two_labs_of_one_process_have_different_names() {
    let (one, other) = (Record::open().expect("a record"), Record::open().expect("a record"));
    assert_ne!(one.id(), other.id());
}

/// Not a test of its own: the victim of the one below, which runs it as another process and kills it.
#[test]
#[ignore = "run by an_owner_killed_with_sigkill_leaves_nothing_behind"]
fn victim() {
    if std::env::var_os("BATON_LAB_VICTIM").is_none() {
        return;
    }
    let record = Record::open().expect("a record");
    let fabric = Fabric::build(&Spec::default(), &record).expect("a fabric");
    let mut sleeper = fabric.host("t1").command("sleep").arg("600").spawn().expect("sleep runs");
    println!("lab {}", record.id());
    let _ = sleeper.wait();
}

#[test]
#[ignore = "needs root"]
fn an_owner_killed_with_sigkill_leaves_nothing_behind() {
    let own = std::env::current_exe().expect("this program");
    let mut victim = Command::new(own)
        .args(["victim", "--exact", "--ignored", "--nocapture"])
        .env("BATON_LAB_VICTIM", "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the victim starts");
    let output = std::io::BufReader::new(victim.stdout.take().expect("its output"));
    let id = std::io::BufRead::lines(output)
        .map_while(Result::ok)
        .find_map(|line| line.rsplit_once("lab ").map(|(_, id)| id.to_owned()))
        .expect("the victim names its lab");
    assert_eq!(namespaces_of(&id).len(), 6);
    victim.kill().expect("the victim is killed");
    victim.wait().expect("the victim ends");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !namespaces_of(&id).is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(namespaces_of(&id), Vec::<String>::new());
    assert!(!std::path::Path::new(registry::RECORDS).join(&id).exists());
}
